package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/failover"
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
		Use:   "up --config FILE",
		Short: "Apply missing migrations to every shard; the first time also make secrets, shard map and records",
		Long: "Apply missing migrations to every shard. The first time this also gives each shard its buckets and writes secrets,\n" +
			"records and the shard map to the register. It may be run again at any time, and while instances serve; what is there\n" +
			"stays. The schemas must exist; docs/operations.md has the statements that make them, and the grants.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.migrateUp(cmd) },
	}
	status := &cobra.Command{
		Use:   "status --config FILE",
		Short: "List the migrations of every shard and whether they were applied",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return p.migrationStatus(cmd) },
	}
	configFlags(up.Flags())
	configFlags(status.Flags())
	cmd.AddCommand(up, status)
	return cmd
}

func (p *program) migrateUp(cmd *cobra.Command) error {
	cfg, err := loadConfig(cmd.Flags(), p.env)
	if err != nil {
		return err
	}
	if show, _ := cmd.Flags().GetBool("print-config"); show {
		return p.printConfig(cfg)
	}
	reg, err := connectRegister(cmd.Context(), cfg.Register)
	if err != nil {
		return err
	}
	defer reg.Close()
	err = instance.Bootstrap(cmd.Context(), reg, cfg.shards(), time.Now, func(s string) { p.printf("%s\n", s) })
	if err != nil {
		return explain(err)
	}
	if err := p.markExternal(cmd.Context(), reg, cfg); err != nil {
		return err
	}
	var options strings.Builder
	for _, name := range []string{"config", "register"} {
		if f := cmd.Flags().Lookup(name); f.Changed {
			fmt.Fprintf(&options, " --%s %s", name, f.Value)
		}
	}
	p.printf("done; next, unless you have been here before:\n"+
		"  statesvc keys create%[1]s --name checkout --scopes read,hold\n"+
		"  statesvc keys create%[1]s --name admin --scopes read,issue,admin\n"+
		"  statesvc serve%[1]s\n", options.String())
	return nil
}

// markExternal writes down which shards another tool fails over. What was written stays, also when the configuration says so no more.
func (p *program) markExternal(ctx context.Context, reg register.Register, cfg config) error {
	for i, s := range cfg.Shards {
		if s.Failover != external {
			continue
		}
		number := i + 1 // shards are numbered in their order
		if err := failover.MarkExternal(ctx, reg, number); err != nil {
			return err
		}
		p.printf("shard %d %s: failed over by another tool, which fences it and announces its primaries\n", number, s.Name)
	}
	return nil
}

// advices say what to do about the errors of a database that a new user meets, by their numbers.
var advices = map[uint16]string{
	1044: "the user may not use this schema; docs/operations.md has the grants",
	1045: "the user or the password is wrong, or the user may not come from this address",
	1049: "make the schema first: CREATE DATABASE … CHARACTER SET utf8mb4",
	1142: "the user lacks a right; docs/operations.md has the grants",
	1290: "the server is read-only; name the primary",
}

// explain adds what to do to an error of a database.
func explain(err error) error {
	if wrong, ok := errors.AsType[*mysql.MySQLError](err); ok && advices[wrong.Number] != "" {
		return fmt.Errorf("%w; %s", err, advices[wrong.Number])
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("%w; is the server running, and is the address right?", err)
	}
	return err
}

func (p *program) migrationStatus(cmd *cobra.Command) error {
	cfg, err := loadConfig(cmd.Flags(), p.env)
	if err != nil {
		return err
	}
	if show, _ := cmd.Flags().GetBool("print-config"); show {
		return p.printConfig(cfg)
	}
	for _, s := range cfg.shards() {
		db, err := s.Open(time.Now)
		if err != nil {
			return fmt.Errorf("shard %s: %w", s.Name, err)
		}
		steps, err := migrations.Status(cmd.Context(), db.SQL(), db.Dialect.String())
		_ = db.Close()
		if err != nil {
			return explain(fmt.Errorf("shard %s: %w", s.Name, err))
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
