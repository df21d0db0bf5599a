package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/register"
)

// controllerConfig is the configuration file of a controller.
type controllerConfig struct {
	Name     string             `koanf:"name"`   // unique among the controllers
	Listen   string             `koanf:"listen"` // host:port; the other controllers look here whether this one is alive
	LogLevel string             `koanf:"log_level"`
	Register registerConfig     `koanf:"register"`
	Database failover.Databases `koanf:"database"`
}

type registerConfig struct {
	Endpoints []string `koanf:"endpoints"` // of etcd
	Prefix    string   `koanf:"prefix"`
}

func (p *program) controller() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "controller --config FILE",
		Short: "Run one of the controllers that fail shards over",
		Long: "Run one of the controllers of a cluster. One of them leads: it watches every shard, and when a primary is gone it\n" +
			"fences it, promotes the replica that has everything, and brings the old primary back. Run three, away from the databases.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadControllerConfig(path)
			if err != nil {
				return err
			}
			return p.runController(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "YAML `FILE`: name, listen, register: {endpoints, prefix},\n"+
		"database: {user, password, repl_password, schema}")
	_ = cmd.MarkFlagRequired("config")
	return cmd
}

// controllerNameMax bounds names: a node keeps the name beside the term of the leadership that it has promised itself to.
const controllerNameMax = 40

func loadControllerConfig(path string) (cfg controllerConfig, err error) {
	cfg = controllerConfig{LogLevel: "info", Database: failover.Databases{User: failover.HAUser, Schema: failover.DefaultSchema}}
	if err := readStrictly(path, &cfg, cfg); err != nil {
		return cfg, err
	}
	switch {
	case cfg.Name == "" || cfg.Listen == "":
		return cfg, fmt.Errorf("%s: name and listen are needed", path)
	case len(cfg.Name) > controllerNameMax:
		return cfg, fmt.Errorf("%s: name has %d characters, at most %d", path, len(cfg.Name), controllerNameMax)
	case len(cfg.Register.Endpoints) == 0 || cfg.Register.Prefix == "":
		return cfg, fmt.Errorf("%s: register.endpoints and register.prefix are needed", path)
	}
	if err := cfg.Database.Check(); err != nil {
		return cfg, fmt.Errorf("%s: %w", path, err)
	}
	return cfg, nil
}

func (p *program) runController(ctx context.Context, cfg controllerConfig) error {
	log, err := newLogger(config{LogLevel: cfg.LogLevel}, p.out)
	if err != nil {
		return err
	}
	reg, err := register.OpenEtcd(ctx, register.EtcdConfig{
		Endpoints: cfg.Register.Endpoints, Prefix: cfg.Register.Prefix, DialTimeout: registerPatience, Log: log,
	})
	if err != nil {
		return err
	}
	defer reg.Close() //nolint:errcheck // nothing is lost
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	candidate := &failover.Candidate{
		Etcd: reg, Address: listener.Addr().String(),
		Config: failover.ControllerConfig{
			Name: cfg.Name, Now: time.Now, Log: log,
			Open: func(number int, name, address string) (*failover.Node, error) {
				return failover.NewNode(failover.NodeConfig{
					Name: name, Address: address, Domain: uint32(number), Schema: cfg.Database.Schema, Now: time.Now,
					User: cfg.Database.User, Password: cfg.Database.Password, ReplPassword: cfg.Database.ReplicaPassword,
				})
			},
		},
	}
	log.InfoContext(ctx, "controller is waiting to lead", "controller", cfg.Name, "address", candidate.Address)
	server := &http.Server{Handler: controllerPages(cfg.Name, candidate), ReadHeaderTimeout: headerPatience}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return candidate.Run(ctx) })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return group.Wait()
}

// controllerPages says that the controller is alive, and whether it leads.
func controllerPages(name string, candidate *failover.Candidate) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"controller": name, "leads": candidate.Leads()})
	})
	return mux
}
