package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/internal/cluster"
)

const (
	clearScreen    = "\x1b[H\x1b[2J"
	clusterUpTTL   = 3 * time.Minute // of a start, the installation of the database server included
	clusterShards  = 2
	clusterServers = 2
)

// cluster is a whole cluster on this machine.
func (p *program) cluster() *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Run a whole cluster on this machine: etcd, Redis, databases with their agents, controllers, instances",
		Long: "Run a whole cluster on this machine, on the loopback interface: three members of etcd, three databases with their agents\n" +
			"for each shard, three caches (Redis) with sentinels, a Redis for coordination, controllers and instances. It is for\n" +
			"trying and for tests: what should fail apart is on one machine here.\n" +
			"Everything is in --data: addresses and passwords (cluster.json), configurations, logs and databases. Linux only.",
	}
	cmd.PersistentFlags().StringVar(&folder, "data", filepath.Join("data", "cluster"), "folder of the cluster")
	cmd.AddCommand(p.clusterUp(&folder), p.clusterStatus(&folder), p.clusterDown(&folder))
	for _, one := range []struct {
		name, short string
		act         func(*cluster.State, string) error
	}{
		{"kill", "Kill a process (SIGKILL); its agent starts a database again, `cluster up` all else", (*cluster.State).Kill},
		{"pause", "Pause a process (SIGSTOP): its connections stay open, and nothing answers", (*cluster.State).Pause},
		{"resume", "Resume a paused process (SIGCONT)", (*cluster.State).Resume},
	} {
		cmd.AddCommand(&cobra.Command{
			Use: one.name + " NAME", Short: one.short, Args: cobra.ExactArgs(1),
			Long: one.short + ".\n\nNAME is as `cluster status` shows it: s1n1 (a database), agent-s1n1, controller-1, etcd-1, instance-1,\n" +
				"cache-1, sentinel-1, coordination.",
			RunE: func(_ *cobra.Command, args []string) error {
				state, err := cluster.Load(folder)
				if err != nil {
					return err
				}
				return one.act(state, args[0])
			},
		})
	}
	cmd.AddCommand(
		clusterCut(&folder, "cut", "Cut a node off from all others: no data, no resets, nothing", (*cluster.State).Cut),
		clusterCut(&folder, "heal", "Undo `cut`: what was held back passes", (*cluster.State).Heal),
	)
	return cmd
}

func clusterCut(folder *string, name, short string, act func(*cluster.State, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use: name + " NODE", Short: short, Args: cobra.ExactArgs(1),
		Long: short + ".\n\nNODE is a database, such as s1n1; it is cut together with its agent. The cluster must have been made by\n" +
			"`cluster up --relays`.",
		RunE: func(cmd *cobra.Command, args []string) error {
			state, err := cluster.Load(*folder)
			if err != nil {
				return err
			}
			return act(state, cmd.Context(), args[0])
		},
	}
}

func (p *program) clusterUp(folder *string) *cobra.Command {
	o := cluster.Options{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make a cluster, or start what does not run of the one that is there",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx, cancel := context.WithTimeout(cmd.Context(), clusterUpTTL)
			defer cancel()
			o.Folder, o.Env = *folder, slices.DeleteFunc(slices.Clone(p.env), func(v string) bool { // they would override what is planned
				return strings.HasPrefix(v, envPrefix)
			})
			if o.Program, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			o.Controllers = slices.ContainsFunc(cmd.Root().Commands(), func(c *cobra.Command) bool { return c.Name() == "controller" })
			o.Say = p.clusterSay(time.Now())
			state, err := cluster.Up(ctx, o)
			if err != nil {
				return err
			}
			p.clusterWelcome(state)
			return nil
		},
	}
	cmd.Flags().IntVar(&o.Shards, "shards", clusterShards, "shards of a new cluster, each three databases")
	cmd.Flags().IntVar(&o.Instances, "instances", clusterServers, "instances of a new cluster")
	cmd.Flags().BoolVar(&o.Relays, "relays", false, "put a relay before the databases of a new cluster, for `cut` and `heal`")
	cmd.Flags().BoolVar(&o.Install, "install", false, "install the MariaDB and Redis servers with apt if they are missing")
	return cmd
}

// clusterSay prints progress with the time since the beginning.
func (p *program) clusterSay(began time.Time) func(string, ...any) {
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		p.printf("%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
}

func (p *program) clusterWelcome(s *cluster.State) {
	p.printf("\n")
	base := ""
	for _, one := range s.Processes {
		switch one.Kind {
		case cluster.KindAgent:
			p.printf("%-14s %s  (database %s of shard %d)\n", one.Name, one.Address, one.Node, one.Shard)
		case cluster.KindInstance:
			p.printf("%-14s http://%s\n", one.Name, one.Address)
			base = "http://" + one.Address
		default:
			p.printf("%-14s %s\n", one.Name, one.Address)
		}
	}
	p.printf("%-14s %s\n\ntry:\n"+
		"  curl -H 'Authorization: Bearer %s' -H 'Idempotency-Key: first' -H 'Content-Type: application/json' \\\n"+
		"    -d '{\"source\":\"welcome\",\"issue_ref\":\"r1\",\"amount\":{\"amount\":1000,\"currency\":\"CNY\"},\"expires_at\":\"%s\"}' \\\n"+
		"    %s/v1/owners/user-1/lots\n"+
		"  statesvc cluster status --watch\n  statesvc cluster kill s1n1\n  statesvc cluster down\n",
		"register", s.Register(), s.APIKey, demoEnd().Format(time.RFC3339), base)
}

func (p *program) clusterStatus(folder *string) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show shards, databases, Redis, controllers, instances and the register",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for {
				state, err := cluster.Load(*folder)
				if err != nil {
					return err
				}
				var text bytes.Buffer
				if watch {
					text.WriteString(clearScreen)
				}
				if err := state.Look(cmd.Context()).Write(&text); err != nil {
					return err
				}
				p.printf("%s", text.String())
				if !watch {
					return nil
				}
				select {
				case <-time.After(time.Second):
				case <-cmd.Context().Done():
					return nil
				}
			}
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every second")
	return cmd
}

func (p *program) clusterDown(folder *string) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop everything that `cluster up` has started; data stay unless --purge",
		Args:  cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			return cluster.Down(*folder, purge, p.clusterSay(time.Now()))
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the folder with all data")
	return cmd
}
