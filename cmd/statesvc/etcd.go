package main

import (
	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/internal/etcd"
)

// etcd is one member of the register's cluster. It is hidden: the one-machine cluster calls it, and production runs etcd as
// etcd is released.
func (p *program) etcd() *cobra.Command {
	var o etcd.Options
	cmd := &cobra.Command{
		Use:    "etcd",
		Short:  "Run one etcd member until a signal; for trying a cluster on one machine",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return etcd.Run(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Name, "name", "", "name of the member, unique in the cluster")
	flags.StringVar(&o.DataDir, "data-dir", "", "folder of the member's data")
	flags.StringVar(&o.ClientURL, "client-url", "", "URL for the instances and controllers")
	flags.StringVar(&o.PeerURL, "peer-url", "", "URL for the other members")
	flags.StringVar(&o.InitialCluster, "initial-cluster", "", "name=peer URL of all members, with commas")
	flags.StringVar(&o.Log, "log", "", "file of the log; standard error if empty")
	flags.StringVar(&o.LogLevel, "log-level", "", "of the log; warn if empty")
	for _, name := range []string{"name", "data-dir", "client-url", "peer-url", "initial-cluster"} {
		_ = cmd.MarkFlagRequired(name) // it fails for a flag that is not there, and these are
	}
	return cmd
}
