package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/bench"
	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/register"
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
	o := cluster.Options{Folder: home, Shards: clusterShards, Instances: clusterServers}
	err = p.onOwnCluster(ctx, o, false, func(state *cluster.State, reg register.Register) error {
		target := bench.DrillTarget{Instances: state.URLs(), Token: state.APIKey, Register: reg}
		r, err = bench.Calm(ctx, p.out, target, writers, duration)
		return err
	})
	return r, err
}
