package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel"

	"github.com/statesvc/statesvc/api"
	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/feed"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/operators"
	"github.com/statesvc/statesvc/internal/telemetry"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// The clocks of a shutdown: in all at most 45 s, after which an orchestrator may kill. A kill at any point is safe.
const (
	startPatience   = 30 * time.Second
	requestPatience = 25 * time.Second
	decidePatience  = 10 * time.Second
	headerPatience  = 5 * time.Second
	bodyPatience    = time.Minute // imports extend it for themselves
	idlePatience    = 2 * time.Minute
	maxHeaderBytes  = 16 << 10
)

func (p *program) serve() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run one instance of a cluster",
		Long: "Run one instance of a cluster whose schemas and map `statesvc migrate up` has made. Settings come from flags, then\n" +
			"STATESVC_… variables, then the file.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd.Flags(), p.env)
			if err != nil {
				return err
			}
			if show, _ := cmd.Flags().GetBool("print-config"); show {
				return p.printConfig(cfg)
			}
			reg, err := openRegister(cmd.Context(), cfg.Register)
			if err != nil {
				return err
			}
			defer reg.Close()
			if cfg.Pprof != "" {
				profiler, err := startProfiler(cmd.Context(), cfg.Pprof)
				if err != nil {
					return err
				}
				defer profiler.close()
			}
			s, err := p.start(cmd.Context(), cfg, reg)
			if err != nil {
				return err
			}
			s.log.Info("serving", "address", s.address(), "instance", cfg.Instance)
			return s.run(cmd.Context())
		},
	}
	configFlags(cmd.Flags())
	return cmd
}

func (p *program) printConfig(cfg config) error {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(cfg.redacted(), "koanf"), nil); err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}
	text, err := k.Marshal(yaml.Parser())
	if err == nil {
		p.printf("%s", text)
	}
	return err
}

// server is a running instance with its HTTP side.
type server struct {
	cfg       config
	log       *slog.Logger
	telemetry *telemetry.Telemetry
	instance  *instance.Instance
	leases    *cache.Leases
	http      *http.Server
	listener  net.Listener
	stopping  atomic.Bool
}

// start builds everything from the register up to the listener. What it built before an error is closed again.
func (p *program) start(ctx context.Context, cfg config, reg *openedRegister) (_ *server, err error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	log, err := newLogger(cfg, p.out)
	if err != nil {
		return nil, err
	}
	s := &server{cfg: cfg, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	if s.telemetry, err = telemetry.Start(ctx, telemetry.Config{
		Instance: cfg.Instance, Version: version, OTLPEndpoint: cfg.OTLPEndpoint, SampleRatio: cfg.TraceRatio,
	}); err != nil {
		return nil, err
	}
	otel.SetTracerProvider(s.telemetry.Traces)
	if s.instance, err = s.openInstance(ctx, reg); err != nil {
		return nil, err
	}
	if err = s.listen(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func newLogger(cfg config, out io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		return nil, fmt.Errorf("log_level %q: use debug, info, warn or error", cfg.LogLevel)
	}
	return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level})), nil
}

func (s *server) openInstance(ctx context.Context, reg *openedRegister) (*instance.Instance, error) {
	metrics, err := shard.NewMetrics(s.telemetry.Metrics.Meter("statesvc/shard"))
	if err != nil {
		return nil, err
	}
	feeds, err := feed.NewMetrics(s.telemetry.Metrics.Meter("statesvc/feed"))
	if err != nil {
		return nil, err
	}
	approval, err := ledger.ParseApproval(s.cfg.AdjustApproval)
	if err != nil {
		return nil, fmt.Errorf("adjust_approval: %w", err)
	}
	cfg := instance.Config{
		Name: s.cfg.Instance, Register: reg.Register, Shards: s.cfg.shards(), Address: s.cfg.Listen,
		Lanes: s.cfg.Lanes, Queue: s.cfg.Queue, Batch: s.cfg.Batch, SweepEvery: s.cfg.SweepEvery, AuditRate: s.cfg.AuditRate,
		Now: time.Now, Log: s.log, Metrics: metrics, FeedMetrics: feeds, Tracer: s.telemetry.Traces.Tracer("statesvc/shard"),
		Meter:        s.telemetry.Metrics.Meter("statesvc/instance"),
		Approval:     approval,
		Redis:        s.cfg.RedisCache,
		CopyMemory:   int64(s.cfg.CopyMemory) << 20,
		DisplayStock: true,
		FailPoints:   failPoints(),
		NewSession:   sessions(reg, func(s *register.Session) instance.Session { return s }),
	}
	if cfg.NewSession != nil { // only a cluster with such a register has controllers, and so failovers
		cfg.ReadLease = shard.ReadLease
	}
	if s.cfg.Redis != "" {
		s.leases = cache.NewLeases(cache.Connect(s.cfg.Redis))
		cfg.LeadSweep = s.lead("sweep")
		cfg.LeadAudit = s.lead("audit")
		cfg.LeadEvents = s.lead("events")
		cfg.LeadFeed = func(ctx context.Context, work string, number int) bool { return s.lead("feed-"+work)(ctx, number) }
	}
	return instance.Open(ctx, cfg)
}

// lead reports whether this instance does some background work on a shard.
func (s *server) lead(work string) func(ctx context.Context, shard int) bool {
	return func(ctx context.Context, number int) bool {
		return s.leases.Lead(ctx, fmt.Sprintf("%s-%d", work, number))
	}
}

func (s *server) listen(ctx context.Context) error {
	ending := make(chan struct{})
	handler, err := api.New(api.Config{
		Ledger: s.instance.Ledger, State: s.instance.State, Kinds: s.instance.Kinds,
		Blacklist: s.instance.Blacklist, Keys: s.instance.Keys, Codec: s.instance.Codec,
		CursorKey: s.instance.CursorKey, Resolver: s.instance.Resolver, Routes: s.instance.Routes,
		Auditor: s.instance.Auditor, Feed: s.instance.Feed, Webhooks: s.instance.Webhooks, Ending: ending,
		Ready: s.ready, Depth: s.instance.Store.Depth,
		Failovers: operators.New(operators.Config{Register: s.instance.Register, DSN: s.dsn, Now: time.Now}),
		Metrics:   s.telemetry.Handler, Meter: s.telemetry.Metrics.Meter("statesvc/api"), Tracer: s.telemetry.Traces.Tracer("statesvc/api"),
		Log: s.log, LogOwners: s.cfg.LogOwners, LogRequests: s.cfg.LogRequests, Now: time.Now,
	})
	if err != nil {
		return err
	}
	s.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w; is another instance running? choose another address with --listen", err)
	}
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: headerPatience, ReadTimeout: bodyPatience, IdleTimeout: idlePatience, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	s.http.RegisterOnShutdown(func() { close(ending) }) // streams would last as long as their readers like
	return nil
}

// dsn is how instances log in to a shard; "" for one that this instance does not know, or that is a file.
func (s *server) dsn(number int) string {
	m, _ := s.instance.Routes.Map()
	for _, mapped := range m.Shards {
		for _, configured := range s.cfg.Shards {
			if mapped.Number == number && mapped.Name == configured.Name {
				return configured.DSN
			}
		}
	}
	return ""
}

// ready says which shards take writes, and why the instance takes no requests, or nil.
func (s *server) ready(ctx context.Context) ([]shard.Condition, error) {
	if s.stopping.Load() {
		return nil, errStopping
	}
	return s.instance.Ready(ctx)
}

var errStopping = errors.New("the instance is stopping")

func (s *server) address() string { return "http://" + s.listener.Addr().String() }

// run serves until ctx ends, then stops in reverse order: not ready, no new requests, lanes decide what they accepted.
func (s *server) run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case err := <-failed:
		return errors.Join(fmt.Errorf("serve: %w", err), s.close(context.WithoutCancel(ctx)))
	case <-ctx.Done():
	}
	s.log.InfoContext(ctx, "stopping")
	s.stopping.Store(true)
	time.Sleep(s.cfg.DrainDelay)
	return s.close(context.WithoutCancel(ctx))
}

func (s *server) close(ctx context.Context) error {
	var errs []error
	if s.http != nil {
		errs = append(errs, within(ctx, requestPatience, s.http.Shutdown))
	}
	if s.instance != nil {
		errs = append(errs, within(ctx, decidePatience, s.instance.Close))
	}
	if s.leases != nil {
		_ = within(ctx, time.Second, s.leases.Release) // they end by themselves
	}
	if s.telemetry != nil {
		_ = within(ctx, time.Second, s.telemetry.Close) // a collector that is away must not make a clean stop fail
	}
	return errors.Join(errs...)
}

func within(ctx context.Context, patience time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f(ctx)
}
