package main

import (
	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/internal/relay"
)

// relay stands before all databases of a one-machine cluster. It is hidden: nothing else needs it.
func (p *program) relay() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:    "relay --config FILE",
		Short:  "Forward the connections of a one-machine cluster until a signal, so that nodes can be cut off",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var cfg relay.Config
			if err := readStrictly(path, &cfg, relay.Config{Nodes: []relay.Node{}}); err != nil {
				return err
			}
			return relay.Run(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "JSON or YAML `FILE`, as `cluster up` writes it")
	_ = cmd.MarkFlagRequired("config")
	return cmd
}
