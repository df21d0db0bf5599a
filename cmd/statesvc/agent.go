package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/register"
)

// agentConfig is the configuration of one agent. It has passwords, so nobody else should be able to read the file.
type agentConfig struct {
	Node          string         `koanf:"node"`           // its name in the record of the shard
	Shard         int            `koanf:"shard"`          // number of the shard
	Zone          string         `koanf:"zone"`           // what fails together
	Address       string         `koanf:"address"`        // host:port at which others reach the database
	Listen        string         `koanf:"listen"`         // host:port of the database itself; empty: address
	ServerID      uint32         `koanf:"server_id"`      // unique in the shard
	Nodes         []string       `koanf:"nodes"`          // all nodes of the shard: whose accounts are made
	Folder        string         `koanf:"folder"`         // of data, socket and log
	FreeFloor     uint64         `koanf:"free_floor"`     // bytes of disk space without which the database is not started
	BackupAddress string         `koanf:"backup_address"` // host:port for agents that fetch copies; empty: no rebuild
	BackupListen  string         `koanf:"backup_listen"`  // empty: backup_address
	KeepOld       time.Duration  `koanf:"keep_old"`       // of data that a rebuild has replaced, after the new ones came in sync
	Register      string         `koanf:"register"`       // etcd://host:port,host:port,host:port/prefix
	Settings      []string       `koanf:"settings"`       // of mariadbd, "name=value", besides those that a failover needs
	LogLevel      string         `koanf:"log_level"`
	Database      databaseConfig `koanf:"database"`
}

// databaseConfig are the accounts of a database, the same on all nodes of a cluster.
type databaseConfig struct {
	Schema          string `koanf:"schema"`
	AppPassword     string `koanf:"app_password"`     // of instances
	Password        string `koanf:"password"`         // of controllers and agents
	ReplPassword    string `koanf:"repl_password"`    // of replicas
	FeedPassword    string `koanf:"feed_password"`    // of change feeds; empty: no such account is made
	MigratePassword string `koanf:"migrate_password"` // of statesvc_migrate; empty: no such account is made
}

// freeFloorDefault leaves room for an orderly stop of a database that fills its disk.
const freeFloorDefault = 64 << 20

// keepOldDefault is time enough for a person to look at what a node had that nobody else has.
const keepOldDefault = 24 * time.Hour

func defaultAgent() agentConfig {
	return agentConfig{
		FreeFloor: freeFloorDefault, KeepOld: keepOldDefault, LogLevel: "info", Database: databaseConfig{Schema: failover.DefaultSchema},
	}
}

func (p *program) agent() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "agent --config FILE",
		Short: "Supervise the database of one host: start it in the role that the register allows, kill it, report its end",
		Long: "Supervise the database of one host, as the only one who does. It starts mariadbd in the role that the record of the shard\n" +
			"allows, always read-only, kills it when its epoch is over, and reports its end. The database dies with its agent. Told to\n" +
			"stop, the agent shuts a replica down and kills a primary: a shutdown would answer commits that nobody has acknowledged.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := defaultAgent()
			if err := readStrictly(path, &cfg, defaultAgent()); err != nil {
				return err
			}
			return p.runAgent(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "YAML `FILE`; docs/operations.md has the settings")
	_ = cmd.MarkFlagRequired("config")
	return cmd
}

// readStrictly reads a YAML file over the defaults. Names that do not exist are errors.
func readStrictly(path string, into, defaults any) error {
	known := koanf.New(".")
	if err := known.Load(structs.Provider(defaults, "koanf"), nil); err != nil {
		return fmt.Errorf("defaults: %w", err)
	}
	k := koanf.New(".")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return fmt.Errorf("read the configuration %s: %w", path, err)
	}
	var errs []error
	for _, name := range k.Keys() {
		if !known.Exists(name) {
			errs = append(errs, fmt.Errorf("%s: there is no setting %q", path, name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := k.Unmarshal("", into); err != nil {
		return fmt.Errorf("read the configuration %s: %w", path, err)
	}
	return nil
}

func (p *program) runAgent(ctx context.Context, cfg agentConfig) error {
	log, err := newLogger(config{LogLevel: cfg.LogLevel}, p.out)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(cfg.Register, etcdScheme) {
		return fmt.Errorf("an agent needs a register that has sessions: %s is no etcd://host:port,host:port,host:port/prefix", cfg.Register)
	}
	cfg.Listen, cfg.BackupListen = cmp.Or(cfg.Listen, cfg.Address), cmp.Or(cfg.BackupListen, cfg.BackupAddress)
	needed, err := cfg.needed()
	if err != nil {
		return err
	}
	reg, err := awaitRegister(ctx, cfg.Register)
	if err != nil {
		return err
	}
	defer reg.Close()
	agent, err := failover.NewAgent(failover.AgentConfig{
		Node: cfg.Node, Shard: cfg.Shard, Zone: cfg.Zone, Address: cfg.Address, Folder: cfg.Folder, FreeFloor: cfg.FreeFloor,
		BackupListen: cfg.BackupListen, BackupAddress: cfg.BackupAddress, KeepOld: cfg.KeepOld,
		Settings: append(slices.Clone(cfg.Settings), needed...), Script: cfg.script(), DSN: cfg.dsn(failover.HAUser, cfg.Database.Password),
		Verify:   failover.Verify(needed, cfg.dsn(failover.AppUser, cfg.Database.AppPassword)),
		Register: reg, OpenSession: sessions(reg, func(s *register.Session) failover.Session { return s }),
		Now: time.Now, Random: rand.Reader, Log: log.With("node", cfg.Node),
	})
	if err != nil {
		return err
	}
	return agent.Run(ctx)
}

// awaitRegister tries until the register answers: after a power failure nobody knows who is up first.
func awaitRegister(ctx context.Context, where string) (*openedRegister, error) {
	if _, err := parseEtcd(where); err != nil {
		return nil, err
	}
	for {
		reg, err := connectRegister(ctx, where)
		if err == nil {
			return reg, nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

// needed are the settings of mariadbd that a failover relies on. They come after those of the configuration, and so win.
func (c *agentConfig) needed() ([]string, error) {
	host, portText, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("address of the database: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("address of the database: port %q is no number", portText)
	}
	if c.ServerID == 0 {
		return nil, errors.New("server_id: each node of a shard needs one of its own, above 0")
	}
	list := failover.Settings(failover.NodeSettings{ServerID: c.ServerID, Domain: uint32(c.Shard), Port: port})
	return append(list, "bind_address="+host), nil
}

// script makes schema and accounts on a new server.
func (c *agentConfig) script() string {
	d := c.Database
	replicas := map[string]string{}
	for _, node := range c.Nodes {
		replicas[node] = d.ReplPassword
	}
	script := "CREATE DATABASE IF NOT EXISTS `" + d.Schema + "` CHARACTER SET utf8mb4;\n" + failover.InitialSQL(failover.Accounts{
		Schema: d.Schema, AppPassword: d.AppPassword, HAPassword: d.Password, FeedPassword: d.FeedPassword, Replicas: replicas,
	})
	if d.MigratePassword != "" {
		script += "CREATE OR REPLACE USER statesvc_migrate@'%' IDENTIFIED BY '" + d.MigratePassword + "';\n" +
			"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX ON `" + d.Schema + "`.* TO statesvc_migrate@'%';\n"
	}
	return script
}

// dsn reaches the agent's own database.
func (c *agentConfig) dsn(user, password string) string {
	d := mysql.NewConfig()
	d.User, d.Passwd, d.Net, d.Addr = user, password, "tcp", c.Listen
	return d.FormatDSN()
}
