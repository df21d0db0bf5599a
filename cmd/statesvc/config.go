package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/ledger"
)

// config is the configuration of one instance. Flags go before STATESVC_… variables, these before the file, the file
// before the defaults. Names that do not exist are errors.
type config struct {
	Instance string        `koanf:"instance"` // unique in the cluster
	Listen   string        `koanf:"listen"`
	Register string        `koanf:"register"` // file shared by all instances on this machine, or etcd://…
	Shards   []shardConfig `koanf:"shards"`
	Redis    string        `koanf:"redis"` // host:port of the coordination role; empty: work without
	// of the cache role: host:port, or sentinel://host:port,host:port,host:port/name; empty: memory and primaries serve state data
	RedisCache string `koanf:"redis_cache"`
	CopyMemory int    `koanf:"copy_memory"` // MiB of copies of state data; 0: the default; negative: none
	Lanes      int    `koanf:"lanes"`       // per shard; 0: the default of the engine
	Queue      int    `koanf:"queue"`       // operations waiting per lane
	Batch      int    `koanf:"batch"`       // most operations in one transaction

	AdjustApproval string `koanf:"adjust_approval"` // none, all, or CUR=amount,…; see ledger.ParseApproval

	SweepEvery   time.Duration `koanf:"sweep_every"`   // pause between sweeps of expired holds; 0: no sweeper
	AuditRate    int           `koanf:"audit_rate"`    // rows per second that the auditor reads; 0: no auditor
	DrainDelay   time.Duration `koanf:"drain_delay"`   // between "not ready" and the end of listening at shutdown
	LogLevel     string        `koanf:"log_level"`     // debug, info, warn, error
	LogOwners    bool          `koanf:"log_owners"`    // owners in clear, not hashed
	LogRequests  bool          `koanf:"log_requests"`  // a line per request; refused ones are always logged
	OTLPEndpoint string        `koanf:"otlp_endpoint"` // URL of a trace collector; empty: no traces
	TraceRatio   float64       `koanf:"trace_ratio"`   // share of requests that are traced
	Pprof        string        `koanf:"pprof"`         // address of this machine for profiles; empty: none
}

// external is the failover of a shard that another tool fails over.
const external = "external"

type shardConfig struct {
	Name string `koanf:"name"`
	DSN  string `koanf:"dsn"`  // MariaDB: user:password@tcp(host:port)/schema
	File string `koanf:"file"` // SQLite, for trying
	Feed string `koanf:"feed"` // MariaDB: a DSN of the account that reads the binary log; empty: the shard has no change feed

	Failover string `koanf:"failover"` // external: another tool fails the shard over; empty: the controllers do, if there are any
}

func defaults() config {
	host, err := os.Hostname()
	if err != nil {
		host = "instance"
	}
	return config{
		Instance:   fmt.Sprintf("%s-%d", host, os.Getpid()),
		Listen:     "127.0.0.1:8080",
		Register:   filepath.Join("data", "register"),
		SweepEvery: 5 * time.Second,

		AdjustApproval: ledger.Approval{}.String(),
		AuditRate:      2000,
		DrainDelay:     5 * time.Second,
		LogLevel:       "info",
		TraceRatio:     0.01,
	}
}

// configFlags declares the flags that override the file.
func configFlags(f *pflag.FlagSet) {
	d := defaults()
	configFlag(f)
	f.String("instance", "", "name of this instance, unique in the cluster (default: host and process id)")
	f.String("listen", d.Listen, "address of the HTTP listener")
	registerFlag(f)
	f.String("redis", "", "host:port of Redis, for leases on background work; without it instances sweep side by side")
	f.String("redis_cache", "", "another Redis, host:port or sentinel://host:port,host:port/name, for copies of state data; "+
		"without it primaries and memory answer")
	f.Int("copy_memory", 0, "MiB of memory for copies of state data (default 64); -1: none, Redis and primaries answer all reads")
	f.Int("lanes", 0, "lanes per shard (default: 2 on MariaDB, 1 on SQLite)")
	f.Int("queue", 0, "operations that may wait per lane (default 4096)")
	f.Int("batch", 0, "most operations in one transaction (default 256)")
	f.String("adjust_approval", d.AdjustApproval, "which changes of owners' money by hand need a second API key: none, all, "+
		"or those of more than so many minor units, such as EUR=5000,JPY=600000, and all in other currencies")
	f.Duration("sweep_every", d.SweepEvery, "pause between sweeps of expired holds; 0: none, expiry stays exact")
	f.Int("audit_rate", d.AuditRate, "rows per second that the auditor of the ledger reads; 0: no auditor")
	f.Duration("drain_delay", d.DrainDelay, "time between not ready and the end of listening at shutdown")
	f.String("log_level", d.LogLevel, "debug, info, warn or error")
	f.Bool("log_owners", false, "write owners to the log in clear, not hashed")
	f.Bool("log_requests", false, "log every request, not only refused ones")
	f.String("otlp_endpoint", "", "URL of an OTLP trace collector, e.g. http://127.0.0.1:4318")
	f.Float64("trace_ratio", d.TraceRatio, "share of requests that are traced")
	f.String("pprof", "", "address of this machine, such as 127.0.0.1:6060, that serves profiles to whoever asks; empty: none")
	f.Bool("print-config", false, "print the resulting configuration, without passwords, and exit")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "print-config" {
			return "print-config"
		}
		return pflag.NormalizedName(strings.ReplaceAll(name, "-", "_"))
	})
}

func configFlag(f *pflag.FlagSet) {
	f.String("config", "", "YAML `FILE`; every setting below may stand in it, and shards: [{name, dsn}]")
}

func registerFlag(f *pflag.FlagSet) {
	f.String("register", defaults().Register, "file of the register on this machine, or etcd://host:port,host:port,host:port/prefix")
}

const envPrefix = "STATESVC_"

// loadConfig merges defaults, file, environment and flags, for a program that needs the shards.
func loadConfig(flags *pflag.FlagSet, environ []string) (config, error) {
	c, err := readConfig(flags, environ)
	if err != nil {
		return c, err
	}
	return c, c.validate()
}

// readConfig is loadConfig for a program that may do without shards. Flags that are no settings are the program's own.
func readConfig(flags *pflag.FlagSet, environ []string) (c config, err error) {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(defaults(), "koanf"), nil); err != nil {
		return c, fmt.Errorf("defaults: %w", err)
	}
	known := map[string]bool{}
	for _, key := range k.Keys() {
		known[key] = true
	}
	known["shards"] = true
	if path, _ := flags.GetString("config"); path != "" {
		if err := loadFile(k, path, known); err != nil {
			return c, err
		}
	}
	if err := loadEnvironment(k, environ, known); err != nil {
		return c, err
	}
	if err := k.Load(posflag.ProviderWithFlag(flags, ".", k, func(f *pflag.Flag) (string, any) {
		if !f.Changed || !known[f.Name] {
			return "", nil
		}
		return f.Name, posflag.FlagVal(flags, f)
	}), nil); err != nil {
		return c, fmt.Errorf("read the flags: %w", err)
	}
	if err := k.Unmarshal("", &c); err != nil {
		return c, fmt.Errorf("read the configuration: %w", err)
	}
	return c, nil
}

func loadFile(k *koanf.Koanf, path string, known map[string]bool) error {
	of := koanf.New(".")
	if err := of.Load(file.Provider(path), yaml.Parser()); err != nil {
		return fmt.Errorf("read the configuration %s: %w", path, err)
	}
	var errs []error
	for name := range of.Raw() {
		if !known[name] {
			errs = append(errs, fmt.Errorf("%s: there is no setting %q; `statesvc serve --help` lists them", path, name))
		}
	}
	for i, s := range of.Slices("shards") {
		for _, name := range s.Keys() {
			if !slices.Contains([]string{"name", "dsn", "file", "feed", "failover"}, name) {
				errs = append(errs, fmt.Errorf("%s: shard %d has %q; a shard has a name, a dsn or a file, and may have feed and failover",
					path, i+1, name))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return k.Merge(of)
}

func loadEnvironment(k *koanf.Koanf, environ []string, known map[string]bool) error {
	var errs []error
	err := k.Load(env.Provider(".", env.Opt{
		Prefix: envPrefix, EnvironFunc: func() []string { return environ },
		TransformFunc: func(variable, value string) (string, any) {
			name := strings.ToLower(strings.TrimPrefix(variable, envPrefix))
			switch {
			case name == "address" || name == "key": // not of an instance but of who calls one: see mint
				return "", nil
			case name == "shards":
				errs = append(errs, fmt.Errorf("%s: shards are a list; write them into a file and pass it with --config", variable))
			case !known[name]:
				errs = append(errs, fmt.Errorf("%s: there is no setting %q; `statesvc serve --help` lists them "+
					"(Kubernetes makes such variables for a service called statesvc, unless enableServiceLinks is false)", variable, name))
			}
			return name, value
		},
	}), nil)
	if err != nil {
		return fmt.Errorf("read the environment: %w", err)
	}
	return errors.Join(errs...)
}

func (c *config) validate() error {
	var errs []error
	named := map[string]bool{}
	for i, s := range c.Shards {
		switch {
		case s.Name == "":
			errs = append(errs, fmt.Errorf("shard %d needs a name; the register knows it by that", i+1))
		case named[s.Name]:
			errs = append(errs, fmt.Errorf("two shards are called %q", s.Name))
		}
		named[s.Name] = true
		if (s.DSN == "") == (s.File == "") {
			errs = append(errs, fmt.Errorf("shard %d (%q) needs a dsn or a file, and not both", i+1, s.Name))
		}
		if s.Failover != "" && (s.Failover != external || s.DSN == "") {
			errs = append(errs, fmt.Errorf("shard %d (%q): failover is %s, with a dsn, or left out", i+1, s.Name, external))
		}
		if s.Feed != "" && s.DSN == "" {
			errs = append(errs, fmt.Errorf("shard %d (%q): feed is for a shard with a dsn", i+1, s.Name))
		}
	}
	if c.RedisCache != "" {
		if _, err := cache.ParseServer(c.RedisCache); err != nil {
			errs = append(errs, fmt.Errorf("redis_cache: %w", err))
		}
	}
	if strings.Contains(c.Redis, "://") {
		errs = append(errs, fmt.Errorf("redis: %q is not host:port; sentinels are for redis_cache, leases need none", c.Redis))
	}
	if c.Redis != "" && c.Redis == c.RedisCache {
		errs = append(errs, fmt.Errorf("redis and redis_cache are both %s; they need servers of their own, "+
			"because one evicts what it has no room for and the other must not", c.Redis))
	}
	if _, err := ledger.ParseApproval(c.AdjustApproval); err != nil {
		errs = append(errs, fmt.Errorf("adjust_approval: %w", err))
	}
	if c.AuditRate < 0 {
		errs = append(errs, fmt.Errorf("audit_rate: %d is less than 0", c.AuditRate))
	}
	if len(c.Shards) == 0 {
		errs = append(errs, errors.New("no shards are configured; write\n\n"+
			"  shards:\n    - {name: s1, dsn: \"user:password@tcp(host:3306)/schema\"}\n\n"+
			"into a file and pass it with --config FILE; or try `statesvc dev`, which needs none"))
	}
	return errors.Join(errs...)
}

func (c *config) shards() []instance.Shard {
	shards := make([]instance.Shard, len(c.Shards))
	for i, s := range c.Shards {
		shards[i] = instance.Shard{Name: s.Name, DSN: s.DSN, File: s.File, Feed: s.Feed}
	}
	return shards
}

// redacted is the configuration without what must not be shown.
func (c *config) redacted() config {
	shards := make([]shardConfig, len(c.Shards))
	for i, s := range c.Shards {
		s.DSN, s.Feed = redactDSN(s.DSN), redactDSN(s.Feed)
		shards[i] = s
	}
	shown := *c
	shown.Shards = shards
	if u, err := url.Parse(c.OTLPEndpoint); err != nil {
		shown.OTLPEndpoint = "***"
	} else {
		shown.OTLPEndpoint = u.Redacted()
	}
	return shown
}

// redactDSN hides the password of user:password@tcp(host:port)/schema, and all of what looks otherwise.
func redactDSN(dsn string) string {
	at := strings.LastIndexByte(dsn, '@')
	switch {
	case dsn == "":
		return ""
	case at < 0:
		return "***"
	}
	user, _, _ := strings.Cut(dsn[:at], ":")
	where, _, more := strings.Cut(dsn[at:], "?")
	if more {
		where += "?***"
	}
	return user + ":***" + where
}
