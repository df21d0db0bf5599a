package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/bench"
	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/register"
)

func (p *program) benchMachinery() *cobra.Command {
	var o bench.MachineryOptions
	var folder string
	cmd := &cobra.Command{
		Use:   "machinery",
		Short: "Compare the throughput of a whole cluster with that of its databases and plain instances",
		Long: "Start a cluster of two shards, and beside it instances with a register in a file on the same databases. Load both in turns;\n" +
			"while the plain ones are loaded, etcd, the controllers and the other instances are paused.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ratio, err := p.machinery(cmd.Context(), folder, o)
			if err != nil {
				return err
			}
			p.printf("\nmachinery_ratio=%.2f\n", ratio)
			return nil
		},
	}
	cmd.Flags().StringVar(&folder, "data", filepath.Join("data", "machinery"), "folder of the cluster, removed afterwards")
	cmd.Flags().IntVar(&o.Rounds, "rounds", 3, "of both, in turns")
	cmd.Flags().IntVar(&o.Seconds, "seconds", 8, "length of each run")
	cmd.Flags().IntVar(&o.Writers, "writers", 256, "clients that write without a pause")
	return cmd
}

func (p *program) machinery(ctx context.Context, folder string, o bench.MachineryOptions) (ratio float64, err error) {
	program, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	options := cluster.Options{Folder: filepath.Join(folder, "cluster"), Shards: clusterShards, Instances: clusterServers}
	err = p.onOwnCluster(ctx, options, false, func(state *cluster.State, _ register.Register) error {
		t := bench.MachineryTarget{
			Program: program, Folder: filepath.Join(folder, "plain"), Processes: state.PIDs(),
			With:  bench.DrillTarget{Instances: state.URLs(), Token: state.APIKey},
			Sleep: func(context.Context) error { return state.SleepMachinery() },
			Wake:  func(ctx context.Context) error { return state.WakeMachinery(ctx) },
		}
		defer os.RemoveAll(t.Folder) //nolint:errcheck // logs that are left tell more than an error would
		for number := 1; number <= state.Shards; number++ {
			node := fmt.Sprintf("s%dn1", number)
			t.Shards = append(t.Shards, instance.Shard{Name: fmt.Sprintf("s%d", number), DSN: state.MigrateDSN(node)})
			t.App = append(t.App, instance.Shard{Name: fmt.Sprintf("s%d", number), DSN: state.DSN(node)})
		}
		ratio, err = bench.Machinery(ctx, p.out, t, o)
		return err
	})
	return ratio, err
}
