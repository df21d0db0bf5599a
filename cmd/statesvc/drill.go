package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/bench"
	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/register"
)

// The ways to break a primary.
const (
	breakKill       = "kill"
	breakHang       = "hang"
	breakHangAgent  = "hang-agent"
	breakCut        = "cut"
	breakSwitchover = "switchover"
)

var breaks = []string{breakKill, breakHang, breakHangAgent, breakCut, breakSwitchover}

func (p *program) benchDrill() *cobra.Command {
	var o bench.DrillOptions
	var folder, how string
	var shards, instances int
	var keep bool
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Break primaries of a whole cluster under load, and compare what clients were told with what the nodes have",
		Long: "Start a cluster of its own, write to it, and break the primary of one shard after the other: kill -9 (kill), SIGSTOP (hang),\n" +
			"SIGSTOP of its agent as well (hang-agent), a network in which nothing reaches or leaves it (cut), or an ordered switchover.\n" +
			"hang-agent and cut are undone when the shard serves again. For each client the longest time between two acknowledged writes\n" +
			"counts. Afterwards every operation and every row of all nodes is compared with what clients were told. The raw history is kept.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(breaks, how) {
				return fmt.Errorf("--break %q: use one of %s", how, strings.Join(breaks, ", "))
			}
			return p.drill(cmd.Context(), folder, how, keep, shards, instances, o)
		},
	}
	cmd.Flags().StringVar(&how, "break", breakKill, "kill, hang, hang-agent, cut or switchover")
	cmd.Flags().StringVar(&folder, "data", filepath.Join("data", "drill"), "folder of the cluster, removed afterwards, and of the history")
	cmd.Flags().IntVar(&o.Kills, "kills", 50, "how often")
	cmd.Flags().IntVar(&o.Writers, "writers", 64, "clients, each with an owner of his own")
	cmd.Flags().DurationVar(&o.Pause, "pause", 100*time.Millisecond, "of a client between two writes")
	cmd.Flags().DurationVar(&o.Settle, "settle", 500*time.Millisecond, "of load before and after each break")
	cmd.Flags().BoolVar(&o.Together, "together", false, "break the primaries of all shards at the same time")
	cmd.Flags().BoolVar(&o.Strict, "strict", false, "have replicas sync each transaction, so that they fall behind")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the folder of the cluster, with its logs; it is kept after an error, too")
	cmd.Flags().IntVar(&shards, "shards", 2, "shards of the cluster")
	cmd.Flags().IntVar(&instances, "instances", 2, "instances of the cluster")
	return cmd
}

// drill ends with a line that programs can read, whatever the result is.
func (p *program) drill(ctx context.Context, folder, how string, keep bool, shards, instances int, o bench.DrillOptions) error {
	o.Folder = filepath.Join(folder, how+"-"+time.Now().UTC().Format("20060102T150405"))
	r, err := p.drillCluster(ctx, filepath.Join(folder, "cluster"), how, keep, shards, instances, o)
	if r.Kills == 0 {
		return err
	}
	p.printf("\nwrites %d\ngap of clients whose last write was decided: %s\n"+
		"clients of undecided owners went on later by: %s\nhistory in %s\n\n",
		r.Writes, r.Gaps, r.Undecided, o.Folder)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	p.printf("kills=%d gap_p50_ms=%.0f gap_p99_ms=%.0f gap_max_ms=%.0f undecided_p99_ms=%.0f lost=%d duplicated=%d contradicted=%d dirty=%d\n",
		r.Kills, ms(r.Gaps.P50), ms(r.Gaps.P99), ms(r.Gaps.Max), ms(r.Undecided.P99), r.Lost, r.Duplicated, r.Contradicts, r.Dirty)
	return err
}

// drillCluster makes a cluster, and removes it if nothing was found that has to be looked into.
func (p *program) drillCluster(ctx context.Context, home, how string, keep bool, shards, instances int, o bench.DrillOptions,
) (r bench.DrillResult, err error) {
	options := cluster.Options{Folder: home, Shards: shards, Instances: instances, Relays: how == breakCut}
	err = p.onOwnCluster(ctx, options, keep, func(state *cluster.State, reg register.Register) error {
		r, err = bench.Drill(ctx, p.out, bench.DrillTarget{
			Instances: state.URLs(), Token: state.APIKey, Register: reg, Break: breakerOf(how, state, reg),
			DSN: state.DSN, OperatorDSN: state.OperatorDSN,
		}, o)
		if err == nil && r.Lost+r.Duplicated+r.Contradicts+r.Dirty > 0 {
			err = errors.New("what clients were told is not what the nodes have")
		}
		return err
	})
	return r, err
}

// breaker breaks a primary, and returns what repairs it.
type breaker = func(ctx context.Context, number int, node string) (repair func() error, err error)

// breakerOf returns what breaks a primary in one of the breaks.
func breakerOf(how string, state *cluster.State, reg register.Register) breaker {
	return map[string]breaker{
		breakKill: func(_ context.Context, _ int, node string) (func() error, error) { return nil, state.Kill(node) },
		breakHang: func(_ context.Context, _ int, node string) (func() error, error) { return nil, state.Pause(node) },
		breakHangAgent: func(_ context.Context, _ int, node string) (func() error, error) {
			agent := cluster.AgentName(node)
			return func() error { return errors.Join(state.Resume(node), state.Resume(agent)) },
				errors.Join(state.Pause(agent), state.Pause(node))
		},
		breakCut: func(ctx context.Context, _ int, node string) (func() error, error) {
			return func() error { return state.Heal(ctx, node) }, state.Cut(ctx, node)
		},
		breakSwitchover: func(ctx context.Context, number int, _ string) (func() error, error) {
			return nil, failover.Give(ctx, reg, number, failover.Order{
				Kind: failover.OrderSwitchover, Reason: "drill", By: "drill", At: time.Now().UTC(),
			})
		},
	}[how]
}
