package bench

import (
	"context"
	crand "crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
)

const (
	tortureShards = 2
	cutMax        = 40_000 // bytes: somewhere in the next few batches
	tortureOutage = 1500 * time.Millisecond
)

// tortureServers is two processes of the service, and a MariaDB server for each of two shards.
type tortureServers struct {
	program   string
	folder    *scratch.Folder
	servers   []*mariadb.Server
	wires     [][]*wire // by instance and shard
	cluster   *cluster  // reaches the shards without the wires
	configs   []string  // by instance
	instances []*child
	starts    int
	load      *tortureLoad
}

func (s *tortureServers) start(ctx context.Context, load *tortureLoad) (err error) {
	s.load = load
	if s.folder, err = scratch.NewFolder("torture"); err != nil {
		return err
	}
	s.cluster = &cluster{folder: filepath.Join(s.folder.Path, "service")}
	for i := range tortureShards {
		server, err := mariadb.Start(ctx, mariadb.Options{})
		if err != nil {
			return err
		}
		s.servers = append(s.servers, server)
		name := fmt.Sprint("s", i+1)
		if _, err := server.Admin().ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
			return fmt.Errorf("make the schema of %s: %w", name, err)
		}
		s.cluster.shards = append(s.cluster.shards, instance.Shard{Name: name, DSN: server.DSN(name)})
	}
	if err := s.cluster.bootstrap(ctx); err != nil {
		return err
	}
	if load.token, err = s.newToken(ctx); err != nil {
		return err
	}
	s.instances = make([]*child, tortureInstances)
	for i := range s.instances {
		if err := s.wireUp(i); err != nil {
			return err
		}
		if err := s.startInstance(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (s *tortureServers) newToken(ctx context.Context) (token string, err error) {
	err = s.cluster.withRegister(func(reg register.Register) error {
		keys, err := access.Open(ctx, reg, time.Now, crand.Reader)
		if err != nil {
			return err
		}
		defer keys.Close()
		_, token, err = keys.Create(ctx, access.Spec{
			Name: "torture", Scopes: access.ScopeRead | access.ScopeHold | access.ScopeIssue | access.ScopeAdmin,
			Rate: access.Rate{PerSecond: benchRate, Burst: benchRate},
		})
		return err
	})
	return token, err
}

// wireUp puts a wire between an instance and each shard, and writes the configuration of the instance.
func (s *tortureServers) wireUp(i int) error {
	var text strings.Builder
	fmt.Fprintf(&text, "instance: i%d\nregister: %q\nsweep_every: 500ms\ndrain_delay: 0s\nlog_level: warn\nshards:\n",
		i+1, s.cluster.registerPath())
	var wires []*wire
	for n, server := range s.servers {
		w, err := newWire(server.Addr())
		if err != nil {
			return err
		}
		wires = append(wires, w)
		fmt.Fprintf(&text, "  - {name: s%[1]d, dsn: \"app@tcp(%[2]s)/s%[1]d\"}\n", n+1, w.address())
	}
	s.wires = append(s.wires, wires)
	path := filepath.Join(s.cluster.folder, fmt.Sprintf("i%d.yaml", i+1))
	s.configs = append(s.configs, path)
	return os.WriteFile(path, []byte(text.String()), 0o600)
}

func (s *tortureServers) startInstance(ctx context.Context, i int) (err error) {
	s.starts++
	c, err := startChild(ctx, s.program, s.folder.Path, fmt.Sprintf("i%d-%d", i+1, s.starts), func(address string) []string {
		return []string{"serve", "--config", s.configs[i], "--listen", address}
	}, nil)
	if err != nil {
		return err
	}
	s.instances[i] = c
	s.load.address[i].Store("http://" + c.address())
	return nil
}

func (s *tortureServers) faults() []tortureFault {
	return []tortureFault{
		{"connections are cut", s.cut},
		{"connections are cut within a batch", s.cutWithin},
		{"a database is killed", s.databaseKilled},
		{"a database is paused", s.databasePaused},
		{"a process is killed", s.processKilled},
		{"a process is paused", s.processPaused},
		{"a database and a process are killed", s.bothKilled},
	}
}

// anyWire is between some process and some shard.
func (s *tortureServers) anyWire(dice *rand.Rand) *wire {
	return s.wires[dice.IntN(tortureInstances)][dice.IntN(tortureShards)]
}

func outage(dice *rand.Rand) time.Duration {
	return time.Duration(dice.Int64N(int64(tortureOutage)))
}

func (s *tortureServers) cut(ctx context.Context, dice *rand.Rand) error {
	for range 1 + dice.IntN(5) {
		s.anyWire(dice).cut()
		sleepUntil(ctx, time.Now().Add(outage(dice)/5))
	}
	return nil
}

func (s *tortureServers) cutWithin(ctx context.Context, dice *rand.Rand) error {
	for range 1 + dice.IntN(5) {
		s.anyWire(dice).cutAfter(dice.Int64N(cutMax))
		sleepUntil(ctx, time.Now().Add(outage(dice)/3))
	}
	return nil
}

func (s *tortureServers) databaseKilled(ctx context.Context, dice *rand.Rand) error {
	server := s.servers[dice.IntN(tortureShards)]
	if err := server.Kill(); err != nil {
		return err
	}
	sleepUntil(ctx, time.Now().Add(outage(dice)))
	return server.Restart(ctx)
}

func (s *tortureServers) databasePaused(ctx context.Context, dice *rand.Rand) error {
	server := s.servers[dice.IntN(tortureShards)]
	if err := server.Pause(); err != nil {
		return err
	}
	sleepUntil(ctx, time.Now().Add(2*outage(dice)))
	return server.Resume()
}

func (s *tortureServers) processKilled(ctx context.Context, dice *rand.Rand) error {
	i := dice.IntN(tortureInstances)
	if err := s.killInstance(i); err != nil {
		return err
	}
	sleepUntil(ctx, time.Now().Add(outage(dice)))
	return s.startInstance(ctx, i)
}

func (s *tortureServers) processPaused(ctx context.Context, dice *rand.Rand) error {
	process := s.instances[dice.IntN(tortureInstances)].process
	if err := process.Pause(); err != nil {
		return err
	}
	sleepUntil(ctx, time.Now().Add(2*outage(dice)))
	return process.Resume()
}

func (s *tortureServers) bothKilled(ctx context.Context, dice *rand.Rand) error {
	i := dice.IntN(tortureInstances)
	if err := s.killInstance(i); err != nil {
		return err
	}
	if err := s.databaseKilled(ctx, dice); err != nil {
		return err
	}
	return s.startInstance(ctx, i)
}

// killInstance ends a process at once, and gives its port back.
func (s *tortureServers) killInstance(i int) error {
	c := s.instances[i]
	s.instances[i] = nil
	if err := c.process.Kill(); err != nil {
		return err
	}
	return c.port.Close()
}

// whole has nothing to wait for: faults end when what they broke has started again.
func (s *tortureServers) whole(context.Context) error { return nil }

func (s *tortureServers) books(_ context.Context, f func(db *sql.DB, schema string) error) error {
	for i, server := range s.servers {
		if err := f(server.Admin(), fmt.Sprint("s", i+1)); err != nil {
			return err
		}
	}
	return nil
}

func (s *tortureServers) audit(ctx context.Context, each func(ledger.Drift)) (pass ledger.AuditPass, err error) {
	err = s.cluster.withRegister(func(reg register.Register) (err error) {
		pass, err = instance.Audit(ctx, instance.Config{
			Name: "audit", Register: reg, Shards: s.cluster.shards, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		}, 0, each)
		return err
	})
	return pass, err
}

func (s *tortureServers) logs() ([]string, error) {
	logs, err := filepath.Glob(filepath.Join(s.folder.Path, "i*-*.log"))
	slices.Sort(logs)
	return logs, err
}

func (s *tortureServers) close() error {
	var errs []error
	for _, c := range s.instances {
		errs = append(errs, c.stop())
	}
	for _, wires := range s.wires {
		for _, w := range wires {
			errs = append(errs, w.close())
		}
	}
	for _, server := range s.servers {
		errs = append(errs, server.Stop())
	}
	if s.folder != nil {
		errs = append(errs, s.folder.Remove())
	}
	return errors.Join(errs...)
}
