package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/bench"
	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/register"
)

func (p *program) benchTorture() *cobra.Command {
	var o bench.TortureOptions
	var minutes float64
	var clustered bool
	var folder string
	cmd := &cobra.Command{
		Use:   "torture",
		Short: "Make random operations of all kinds while databases and processes die; audit in between, and compare at the end",
		Long: "Start two processes of the service and two MariaDB servers, and make random operations of all kinds: coupons, money, stock,\n" +
			"budgets, holds and all that may become of them, refunds, packets, campaigns. Meanwhile connections are cut, and databases and\n" +
			"processes killed and paused; after each fault everything is audited. At the end, when everything has settled, every key must\n" +
			"have the answer that its callers were told, and the books must be what the answers make. The same --seed makes the same\n" +
			"calls and faults.\n\n" +
			"With --cluster, the service is a cluster with failover, and its primaries and instances break.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o.Duration = time.Duration(minutes * float64(time.Minute))
			if o.Program, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			p.printf("seed %d\n", o.Seed)
			torture := bench.Torture
			if clustered {
				torture = func(ctx context.Context, _ io.Writer, o bench.TortureOptions) (bench.TortureResult, error) {
					return p.tortureCluster(ctx, folder, o)
				}
			}
			r, err := torture(cmd.Context(), p.out, o)
			p.printf("operations=%d faults=%d audits=%d drift=%d\n", r.Operations, r.Faults, r.Audits, r.Drift)
			if err != nil {
				return errors.Join(fmt.Errorf("seed %d", o.Seed), err)
			}
			return nil
		},
	}
	cmd.Flags().Float64Var(&minutes, "minutes", 10, "how long things break")
	cmd.Flags().Uint64Var(&o.Seed, "seed", uint64(time.Now().UnixNano()), "of calls and faults; the default is another one each time")
	cmd.Flags().BoolVar(&clustered, "cluster", false, "torture a whole cluster, whose shards fail over")
	cmd.Flags().StringVar(&folder, "data", filepath.Join("data", "torture"), "folder of the cluster, removed afterwards; kept after an error")
	return cmd
}

// tortureCluster makes a cluster, and removes it if no promise was broken.
func (p *program) tortureCluster(ctx context.Context, folder string, o bench.TortureOptions) (r bench.TortureResult, err error) {
	options := cluster.Options{Folder: folder, Shards: 2, Instances: 2}
	err = p.onOwnCluster(ctx, options, false, func(state *cluster.State, reg register.Register) error {
		r, err = bench.TortureCluster(ctx, p.out, p.tortureTarget(state, reg, o.Program), o)
		return err
	})
	return r, err
}

func (p *program) tortureTarget(state *cluster.State, reg register.Register, program string) bench.TortureTarget {
	target := bench.TortureTarget{Instances: state.URLs(), Token: state.APIKey, Register: reg, DSN: state.DSN}
	var instances []string
	for _, process := range state.Processes {
		switch {
		case process.Kind == cluster.KindInstance:
			instances, target.Logs = append(instances, process.Name), append(target.Logs, state.Log(process))
		case process.Kind == cluster.KindAgent && process.Shard > len(target.Shards):
			target.Shards = append(target.Shards, instance.Shard{Name: fmt.Sprint("s", process.Shard), DSN: state.DSN(process.Node)})
		}
	}
	target.Restart = func(i int, outage time.Duration) error {
		if err := errors.Join(state.Kill(instances[i]), state.AwaitEnd(instances[i], instanceEnd)); err != nil {
			return err
		}
		time.Sleep(outage)
		return state.Start(instances[i], program, p.env)
	}
	for _, how := range []string{breakKill, breakHang, breakSwitchover} {
		target.Breaks = append(target.Breaks, bench.PrimaryBreak{Name: how, Break: breakerOf(how, state, reg)})
	}
	return target
}

// instanceEnd is how long a killed instance may take to be gone.
const instanceEnd = 10 * time.Second
