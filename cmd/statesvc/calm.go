package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/bench"
	"github.com/statesvc/statesvc/internal/cluster"
)

func (p *program) benchCalm() *cobra.Command {
	var folder string
	var minutes, writers int
	cmd := &cobra.Command{
		Use:   "calm",
		Short: "Load a whole cluster in which nothing is broken; fail if anything fails over",
		Long: "Start a cluster of its own and write to it without a pause, so that clients, service, databases, etcd and controllers fight\n" +
			"for the processors. Nothing is broken, so every failover is a false one.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := p.calm(cmd.Context(), folder, writers, time.Duration(minutes)*time.Minute)
			if r.Writes > 0 {
				p.printf("\nfalse_failovers=%d writes=%d failed=%d per_second=%.0f p50_ms=%d p99_ms=%d max_ms=%d\n", r.Failovers, r.Writes, r.Failed,
					float64(r.Writes)/r.Elapsed.Seconds(), r.Latency.P50.Milliseconds(), r.Latency.P99.Milliseconds(), r.Latency.Max.Milliseconds())
			}
			if err == nil && r.Failovers+r.Failed > 0 {
				err = fmt.Errorf("%d false failovers, %d writes failed", r.Failovers, r.Failed)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&folder, "data", filepath.Join("data", "calm"), "folder of the cluster, removed afterwards")
	cmd.Flags().IntVar(&minutes, "minutes", 30, "how long")
	cmd.Flags().IntVar(&writers, "writers", 64, "clients that write without a pause, each with an owner of his own")
	return cmd
}

func (p *program) calm(ctx context.Context, home string, writers int, duration time.Duration) (r bench.CalmResult, err error) {
	program, err := os.Executable()
	if err != nil {
		return r, err
	}
	state, err := cluster.Up(ctx, cluster.Options{
		Folder: home, Shards: clusterShards, Instances: clusterServers, Program: program, Env: p.env, Controllers: true,
		Say: p.clusterSay(time.Now()),
	})
	defer func() { err = errors.Join(err, cluster.Down(home, err == nil, p.clusterSay(time.Now()))) }()
	if err != nil {
		return r, err
	}
	reg, err := state.OpenRegister(ctx, drillRegisterPatience)
	if err != nil {
		return r, err
	}
	defer reg.Close() //nolint:errcheck // nothing is lost
	return bench.Calm(ctx, p.out, bench.DrillTarget{Instances: state.URLs(), Token: state.APIKey, Register: reg}, writers, duration)
}
