package main

import (
	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/bench"
)

func (p *program) bench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure on this machine what docs/performance.md states; MariaDB must be installed",
	}
	var seconds int
	committer := &cobra.Command{
		Use:   "committer",
		Short: "Compare the committer with the same holds written one by one, on one MariaDB shard",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ratios, err := bench.Committer(cmd.Context(), p.out, seconds)
			if err != nil {
				return err
			}
			p.printf("\ncommitter_ratio=%.2f hot_ratio=%.2f idle_ratio=%.2f\n", ratios.Committer, ratios.Hot, ratios.Idle)
			return nil
		},
	}
	committer.Flags().IntVar(&seconds, "seconds", 10, "length of each run")
	cmd.AddCommand(committer)
	return cmd
}
