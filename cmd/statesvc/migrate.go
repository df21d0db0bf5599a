package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/register"
)

func (p *program) migrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Make or update the schemas of the shards, and the cluster in the register",
	}
	up := &cobra.Command{
		Use:   "up",
		Short: "Apply missing migrations to every shard; the first time also make secrets, shard map and records",
		Long: "Apply missing migrations to every shard. The first time this also gives each shard its buckets and writes secrets,\n" +
			"records and the shard map to the register. It may be run again at any time, and while instances serve.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, reg, err := p.openRegister(cmd)
			if err != nil {
				return err
			}
			defer reg.Close()
			err = instance.Bootstrap(cmd.Context(), reg, cfg.shards(), time.Now, func(s string) { p.printf("%s\n", s) })
			if err == nil {
				p.printf("done; next: `statesvc keys create --name admin --scopes admin`, then `statesvc serve`\n")
			}
			return err
		},
	}
	status := &cobra.Command{
		Use:   "status",
		Short: "List the migrations of every shard and whether they were applied",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return p.migrationStatus(cmd) },
	}
	configFlags(up.Flags())
	configFlags(status.Flags())
	cmd.AddCommand(up, status)
	return cmd
}

// openRegister loads the configuration and opens the register that it names, making its folder the first time.
func (p *program) openRegister(cmd *cobra.Command) (config, *register.File, error) {
	cfg, err := loadConfig(cmd.Flags(), p.env)
	if err != nil {
		return cfg, nil, err
	}
	reg, err := openRegisterFile(cfg.Register)
	return cfg, reg, err
}

func openRegisterFile(path string) (*register.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of the register: %w", err)
	}
	reg, err := register.OpenFile(path)
	if err != nil {
		return nil, fmt.Errorf("open the register %s: %w", path, err)
	}
	return reg, nil
}

func (p *program) migrationStatus(cmd *cobra.Command) error {
	cfg, err := loadConfig(cmd.Flags(), p.env)
	if err != nil {
		return err
	}
	for _, s := range cfg.shards() {
		db, err := s.Open(time.Now)
		if err != nil {
			return fmt.Errorf("shard %s: %w", s.Name, err)
		}
		steps, err := migrations.Status(cmd.Context(), db.SQL(), db.Dialect.String())
		_ = db.Close()
		if err != nil {
			return fmt.Errorf("shard %s: %w", s.Name, err)
		}
		for _, step := range steps {
			state := "missing"
			if step.Applied {
				state = "applied"
			}
			p.printf("%-12s %-8s %s\n", s.Name, state, step.Name)
		}
	}
	return nil
}
