package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/shard"
)

// bootstrapConfig names the databases of a new cluster. It has passwords, so nobody else should be able to read the file.
type bootstrapConfig struct {
	Register string           `koanf:"register"` // etcd://host:port,host:port,host:port/prefix
	Database databaseConfig   `koanf:"database"` // as the agents have it
	Shards   []bootstrapShard `koanf:"shards"`
}

type bootstrapShard struct {
	Name  string          `koanf:"name"`
	Nodes []bootstrapNode `koanf:"nodes"` // the first one becomes the primary
}

type bootstrapNode struct {
	Name    string `koanf:"name"`
	Address string `koanf:"address"` // host:port, as its agent has it
}

const bootstrapPatience = 5 * time.Minute

func (p *program) bootstrap() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "bootstrap --config FILE",
		Short: "Make a cluster of shards of three: schemas, replication, records, shard map",
		Long: "Make a cluster of databases that their agents have just started and that are empty: on each shard the first node becomes the\n" +
			"primary and the others follow it, then schemas, buckets, secrets and the shard map are written. Run it once, when etcd and all\n" +
			"agents run and before controllers and instances do. It may be run again after an error: what is there stays.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadBootstrapConfig(path)
			if err != nil {
				return err
			}
			return p.makeCluster(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "YAML `FILE`: register, database, shards; deploy/bootstrap.yaml is one")
	_ = cmd.MarkFlagRequired("config")
	return cmd
}

func loadBootstrapConfig(path string) (cfg bootstrapConfig, err error) {
	cfg.Database.Schema = failover.DefaultSchema
	if err := readStrictly(path, &cfg, cfg); err != nil {
		return cfg, err
	}
	switch {
	case !strings.HasPrefix(cfg.Register, etcdScheme):
		return cfg, fmt.Errorf("%s: register %q is no etcd://host:port,host:port,host:port/prefix", path, cfg.Register)
	case cfg.Database.Password == "" || cfg.Database.ReplPassword == "" || cfg.Database.MigratePassword == "":
		return cfg, fmt.Errorf("%s: database.password, repl_password and migrate_password are needed", path)
	case len(cfg.Shards) == 0:
		return cfg, fmt.Errorf("%s: it names no shards", path)
	}
	for _, s := range cfg.Shards {
		if len(s.Nodes) < 2 {
			return cfg, fmt.Errorf("%s: shard %q has %d nodes; without a replica nothing would be acknowledged", path, s.Name, len(s.Nodes))
		}
	}
	return cfg, nil
}

func (p *program) makeCluster(ctx context.Context, cfg bootstrapConfig) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootstrapPatience, errors.New("a database does not answer; do all agents run?"))
	defer cancel()
	reg, err := connectRegister(ctx, cfg.Register)
	if err != nil {
		return err
	}
	defer reg.Close()
	names := make([]string, len(cfg.Shards))
	for i, s := range cfg.Shards {
		names[i] = s.Name
	}
	uniform, err := shard.NewUniformMap(names)
	if err != nil {
		return err
	}
	for i, s := range cfg.Shards {
		p.printf("shard %d %s: primary %s, buckets %d to %d …\n", i+1, s.Name, s.Nodes[0].Name, uniform.Runs[i].From, uniform.Runs[i].To)
		nodes := make([]failover.BootstrapNode, len(s.Nodes))
		for j, n := range s.Nodes {
			nodes[j] = failover.BootstrapNode{
				Name: n.Name, Address: n.Address, Password: cfg.Database.Password, ReplPassword: cfg.Database.ReplPassword,
			}
		}
		dsn := fmt.Sprintf("%s:%s@tcp(%s)/%s", cluster.MigrateUser, cfg.Database.MigratePassword, s.Nodes[0].Address, cfg.Database.Schema)
		if err := cluster.MakeShard(ctx, reg, i+1, uniform.Runs[i], nodes, dsn); err != nil {
			return explain(err)
		}
	}
	if err := instance.Publish(ctx, reg, uniform); err != nil {
		return err
	}
	p.printf("done; next:\n  statesvc keys create --register %[1]s --name admin --scopes read,issue,admin\n"+
		"  statesvc controller --config controller.yaml   (three of them)\n  statesvc serve --config instance.yaml\n", cfg.Register)
	return nil
}
