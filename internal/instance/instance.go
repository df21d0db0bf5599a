package instance

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/blacklist"
	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/events"
	"github.com/statesvc/statesvc/feed"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/pending"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
	"github.com/statesvc/statesvc/shard/id"
	"github.com/statesvc/statesvc/state"
	"github.com/statesvc/statesvc/stock"
)

// How often the routes are compared with the register: so often that nobody acts on very old ones, and, where reads depend on it, that
// two renewals may fail before a lease is over.
const (
	routesRenew = 200 * time.Millisecond
	leaseRenew  = 60 * time.Millisecond
)

// Config is what an instance needs. Zero limits take their defaults.
type Config struct {
	Name     string // unique among the instances of the cluster
	Register register.Register
	Shards   []Shard
	Address  string // where others reach the instance; for people
	Lanes    int
	Queue    int
	Batch    int
	// ReadLease is shard.ReadLease where shards can fail over, and zero where they cannot. See shard.StoreConfig.
	ReadLease time.Duration
	// NewSession opens a session on the register. Nil: the register has none, so controllers do not hear of the instance.
	NewSession func(ctx context.Context) (Session, error)
	SweepEvery time.Duration // zero: no sweeper; expiry is exact without it
	// Redis is that of the cache role, as cache.ParseServer reads it; empty: state data are served from memory and from the primaries.
	Redis string
	// CopyMemory is how many bytes of copies of state data are kept in memory; zero: cache.DefaultL1Bytes, negative: none.
	CopyMemory int64
	// DisplayStock keeps documents that show stock; see package stock.
	DisplayStock bool
	// CachePoints stop readers and writers of state data in tests.
	CachePoints cache.Points
	// LeadSweep reports whether this instance sweeps a shard now; nil: always. See pending.SweeperConfig.
	LeadSweep func(ctx context.Context, shard int) bool
	Approval  ledger.Approval // which adjustments of money need a second API key
	AuditRate int             // rows per second that the auditor reads; zero: no auditor
	// LeadAudit is LeadSweep for the auditor.
	LeadAudit func(ctx context.Context, shard int) bool
	// LeadEvents is LeadSweep for the numbering of events.
	LeadEvents func(ctx context.Context, shard int) bool
	// LeadFeed is LeadSweep for the change feeds, each of which is for some work.
	LeadFeed    func(ctx context.Context, work string, shard int) bool
	Now         func() time.Time
	Log         *slog.Logger
	Metrics     *shard.Metrics
	FeedMetrics *feed.Metrics // nil: none
	Tracer      trace.Tracer  // nil: no spans
	Meter       metric.Meter  // of what is measured when somebody asks; nil: nothing
	FailPoints  failpoint.Points
}

// source is whose time the batches of this instance write down where shards can fail over. It is a checksum because a name may be
// longer than the column, and two instances with one name would be no harm.
func (c *Config) source() string {
	if c.ReadLease == 0 {
		return ""
	}
	sum := sha256.Sum256([]byte(c.Name))
	return "instance-" + hex.EncodeToString(sum[:8])
}

// Instance is a running instance without its HTTP side.
type Instance struct {
	Register  register.Register
	Routes    *shard.Routes
	Blacklist *blacklist.Blacklist
	Keys      *access.Keys
	Codec     *id.Codec
	CursorKey []byte
	Store     *shard.Store
	Ledger    *ledger.Ledger
	Kinds     *state.Kinds
	State     *cache.Cache
	Resolver  *pending.Resolver
	Auditor   *ledger.Auditor
	Feed      *events.Feed
	Webhooks  *events.Webhooks
	Display   *stock.Display // nil: there is none

	cfg       Config
	stop      context.CancelFunc
	loops     *errgroup.Group
	stopFeed  context.CancelFunc
	feeding   *errgroup.Group       // what needs the store to end well
	shown     []metric.Registration // of feeds and copies
	announcer *announcer            // nil: there are no sessions

	readiness readiness
	gauges    *gauges // nil: nobody measures
}

// Open starts an instance. ctx bounds the start; Close ends what it started.
func Open(ctx context.Context, cfg Config) (*Instance, error) {
	in := &Instance{Register: cfg.Register, cfg: cfg}
	if err := in.start(ctx); err != nil {
		return nil, errors.Join(err, in.Close(context.WithoutCancel(ctx)))
	}
	return in, nil
}

func (in *Instance) start(ctx context.Context) (err error) {
	if err := in.readSecrets(ctx); err != nil {
		return err
	}
	if err := in.openRoutes(ctx); err != nil {
		return err
	}
	if in.Blacklist, err = blacklist.Open(ctx, in.Register, in.cfg.Now); err != nil {
		return err
	}
	if in.Keys, err = access.Open(ctx, in.Register, in.cfg.Now, rand.Reader); err != nil {
		return err
	}
	minter := id.NewMinter(in.Codec, in.cfg.Now)
	lease := id.NewLease(id.NewRegisterStore(in.Register), minter, in.cfg.Name, in.cfg.Log)
	if err := lease.Start(ctx); err != nil {
		return fmt.Errorf("lease a node for ids: %w", err)
	}
	in.openStore()
	in.Ledger = ledger.New(ledger.Config{
		Store: in.Store, Codec: in.Codec, Minter: minter, Now: in.cfg.Now,
		Blocks: in.blocks, Undecided: in.undecided, Approval: in.cfg.Approval,
	})
	if err := in.openState(ctx); err != nil {
		return err
	}
	in.Auditor = in.auditor()
	in.openFeed()
	if in.cfg.Meter != nil {
		if in.gauges, err = newGauges(in, in.cfg.Meter); err != nil {
			return fmt.Errorf("make gauges: %w", err)
		}
		copies, err := in.showCopies(in.cfg.Meter)
		if err != nil {
			return fmt.Errorf("make counters of copies: %w", err)
		}
		in.shown = append(in.shown, copies)
	}
	in.runLoops(ctx, lease)
	return in.runFeed(ctx)
}

func (in *Instance) openRoutes(ctx context.Context) (err error) {
	renewEvery := routesRenew
	if in.cfg.ReadLease > 0 {
		renewEvery = leaseRenew
	}
	in.Routes, err = shard.OpenRoutes(ctx, in.Register, shard.RoutesOptions{Now: in.cfg.Now, RenewEvery: renewEvery, Log: in.cfg.Log})
	return err
}

func (in *Instance) readSecrets(ctx context.Context) error {
	idKey, err := secret(ctx, in.Register, idKeyKey)
	if err != nil {
		return err
	}
	if in.CursorKey, err = secret(ctx, in.Register, cursorKeyKey); err != nil {
		return err
	}
	in.Codec, err = id.NewCodec(map[uint8][]byte{1: idKey}, 1)
	return err
}

func (in *Instance) openStore() {
	in.Resolver = pending.NewResolver(pending.ResolverConfig{
		Instance: in.cfg.Name, Blacklist: in.Blacklist, Now: in.cfg.Now, Log: in.cfg.Log,
		Primary: func(number int) (*shard.DB, uint64, error) { return in.Store.Primary(number) },
		Changed: in.Routes.Changed,
	})
	cfg := shard.StoreConfig{
		Routes: in.Routes, Open: in.openNode, ReadLease: in.cfg.ReadLease,
		Committer: shard.Config{
			Machine: shard.Compose(ledger.NewMachine(in.Codec), state.Machine{}), Lanes: in.cfg.Lanes, Queue: in.cfg.Queue, Batch: in.cfg.Batch,
			Undecided: in.Resolver.Undecided, Now: in.cfg.Now, Log: in.cfg.Log, Metrics: in.cfg.Metrics,
			Tracer: in.cfg.Tracer, Source: in.cfg.source(), FailPoints: in.cfg.FailPoints,
		},
	}
	if in.cfg.NewSession != nil {
		in.announcer = newAnnouncer(&in.cfg)
		cfg.Closed, cfg.Committer.Suspect = in.announcer.isClosed, in.announcer.suspect
	}
	in.Store = shard.NewStore(cfg)
}

// openState opens the state data, and the copies that they are read from.
func (in *Instance) openState(ctx context.Context) (err error) {
	if in.Kinds, err = state.OpenKinds(ctx, in.Register, in.cfg.Now); err != nil {
		return err
	}
	documents := state.New(state.Config{Store: in.Store, Kinds: in.Kinds, Blocks: in.blocks})
	in.State, err = cache.New(cache.Config{
		Documents: documents, Locate: in.locate, Shards: in.ShardNumbers, Now: in.cfg.Now,
		Random: mathrand.Float64, NewToken: rand.Text, //nolint:forbidigo // chance spreads refreshes; nothing depends on it
		Redis: in.cfg.Redis, L1Bytes: uint64(max(in.cfg.CopyMemory, 0)), NoL1: in.cfg.CopyMemory < 0, Points: in.cfg.CachePoints,
	})
	return err
}

// locate is what the routes know of a bucket. While its shard does not serve, no era is asked for: nothing is written meanwhile, and what
// was believed a moment ago may be believed until it is too old.
func (in *Instance) locate(b shard.Bucket) cache.Place {
	route, err := in.Routes.Route(b)
	if err != nil {
		return cache.Place{Shard: route.Shard}
	}
	return cache.Place{Shard: route.Shard, Epoch: route.Epoch, Era: route.Era()}
}

// openNode connects to a node as the configuration says of its shard, at the address that the register has unless it is the only one.
func (in *Instance) openNode(route shard.Route) (*shard.DB, error) {
	m, ok := in.Routes.Map()
	if !ok {
		return nil, errors.New("there is no shard map")
	}
	name := ""
	for _, s := range m.Shards {
		if s.Number == route.Shard {
			name = s.Name
		}
	}
	for _, s := range in.cfg.Shards {
		if s.Name != name {
			continue
		}
		if record, ok := in.Routes.Record(route.Shard); ok && isOnly(record, name) {
			return s.Open(in.cfg.Now)
		}
		return s.openAt(route.Address, in.cfg.Now)
	}
	return nil, fmt.Errorf("the register has shard %d %q, which the configuration does not know", route.Shard, name)
}

func (in *Instance) runLoops(ctx context.Context, lease *id.Lease) {
	ctx, in.stop = context.WithCancel(context.WithoutCancel(ctx))
	in.loops, ctx = errgroup.WithContext(ctx)
	in.loops.Go(func() error { return lease.Run(ctx) })
	in.loops.Go(func() error { return in.Resolver.Run(ctx) })
	if in.gauges != nil {
		in.loops.Go(func() error { return in.gauges.run(ctx) })
	}
	if in.cfg.ReadLease > 0 {
		mirrors := slices.Concat(in.Routes.Mirrors(), in.Blacklist.Mirrors())
		in.loops.Go(func() error {
			register.RenewTogether(ctx, in.Register, leaseRenew, mirrors...)
			return nil
		})
	}
	if in.announcer != nil {
		in.loops.Go(func() error { return in.announcer.run(ctx) })
	}
	if in.cfg.SweepEvery > 0 {
		in.loops.Go(func() error { return in.sweeper().Run(ctx) })
	}
	if in.cfg.AuditRate > 0 {
		in.loops.Go(func() error { return in.Auditor.Run(ctx) })
	}
}

func (in *Instance) sweeper() *pending.Sweeper {
	return pending.NewSweeper(pending.SweeperConfig{
		Shards: in.ShardNumbers, Every: in.cfg.SweepEvery, Lead: in.cfg.LeadSweep, Log: in.cfg.Log,
		Due: func(ctx context.Context, number, limit int) ([]string, error) {
			db, _, err := in.Store.Primary(number)
			if err != nil {
				return nil, err
			}
			return ledger.Overdue(ctx, db, in.cfg.Now(), limit)
		},
		Expire: in.Ledger.ExpireDue, Tend: in.Ledger.Tend,
	})
}

func (in *Instance) auditor() *ledger.Auditor {
	return ledger.NewAuditor(ledger.AuditorConfig{
		Ledger: in.Ledger, Register: in.Register, Shards: in.ShardNumbers, Rate: in.cfg.AuditRate, Lead: in.cfg.LeadAudit,
		Primary: in.primary, Now: in.cfg.Now, Log: in.cfg.Log,
	})
}

func (in *Instance) openFeed() {
	in.Webhooks = events.NewWebhooks(in.Register, in.cfg.Now, rand.Reader)
	in.Feed = events.NewFeed(events.Config{
		Ledger: in.Ledger, Shards: in.ShardNumbers, Bucket: in.bucketOf, Primary: in.Store.Primary, Lead: in.cfg.LeadEvents,
		Now: in.cfg.Now, Log: in.cfg.Log,
	})
}

// bucketOf is a bucket that a shard serves.
func (in *Instance) bucketOf(number int) (shard.Bucket, bool) {
	m, ok := in.Routes.Map()
	if !ok {
		return 0, false
	}
	for _, run := range m.Runs {
		if run.Shard == number {
			return run.From, true
		}
	}
	return 0, false
}

// runFeed gives events their numbers and sends them to webhooks, and feeds who lives by the changes of shards.
func (in *Instance) runFeed(ctx context.Context) error {
	ctx, in.stopFeed = context.WithCancel(context.WithoutCancel(ctx))
	in.feeding, ctx = errgroup.WithContext(ctx)
	in.feeding.Go(func() error { return in.Feed.Run(ctx) })
	sender := events.NewSender(events.SenderConfig{
		Feed: in.Feed, Register: in.Register, Instance: in.cfg.Name, Now: in.cfg.Now, Log: in.cfg.Log,
	})
	in.feeding.Go(func() error { return sender.Run(ctx) })
	if in.cfg.DisplayStock {
		in.Display = stock.NewDisplay(stock.Config{
			Ledger: in.Ledger, State: in.State, Kinds: in.Kinds, Stocks: in.stocks, Now: in.cfg.Now, Log: in.cfg.Log,
		})
		in.feeding.Go(func() error { return in.Display.Run(ctx) })
	}
	return in.runFeeds(ctx)
}

// primary is where a shard is written to now.
func (in *Instance) primary(number int) (*shard.DB, error) {
	db, _, err := in.Store.Primary(number)
	return db, err
}

// ShardNumbers lists the shards of the map.
func (in *Instance) ShardNumbers() []int {
	m, ok := in.Routes.Map()
	if !ok {
		return nil
	}
	numbers := make([]int, len(m.Shards))
	for i, s := range m.Shards {
		numbers[i] = s.Number
	}
	return numbers
}

// blocks is what the ledger asks before it queues an operation.
func (in *Instance) blocks(owner string, b shard.Bucket) error {
	route, err := in.Routes.Route(b)
	if err != nil {
		return nil //nolint:nilerr // a shard without a route is no block; Submit waits for a route and says what is wrong
	}
	return in.Blacklist.Check(blacklist.Target{
		Owner: owner, Bucket: uint16(b), Shard: uint16(route.Shard), Node: route.Node,
	}, in.cfg.Now())
}

// undecided reports whether a key's outcome is being decided, for the operations endpoint.
func (in *Instance) undecided(owner, key string) bool {
	bucket := shard.BucketOf(owner)
	return in.Blacklist.IsUndecided(in.Store.Placement(bucket), uint16(bucket), owner, key)
}

// Close decides what was accepted, then stops everything in reverse order. The register stays open: it is the caller's.
func (in *Instance) Close(ctx context.Context) error {
	var errs []error
	if in.gauges != nil {
		errs = append(errs, in.gauges.registration.Unregister())
	}
	for _, shown := range in.shown {
		errs = append(errs, shown.Unregister())
	}
	if in.stopFeed != nil {
		in.stopFeed()
		errs = append(errs, in.feeding.Wait())
	}
	if in.Ledger != nil {
		in.Ledger.Close()
	}
	if in.State != nil {
		errs = append(errs, in.State.Close())
	}
	if in.Store != nil {
		errs = append(errs, in.Store.Close(ctx))
	}
	if in.stop != nil {
		in.stop()
		errs = append(errs, in.loops.Wait())
	}
	if in.Kinds != nil {
		in.Kinds.Close()
	}
	if in.Keys != nil {
		in.Keys.Close()
	}
	if in.Blacklist != nil {
		in.Blacklist.Close()
	}
	if in.Routes != nil {
		in.Routes.Close()
	}
	return errors.Join(errs...)
}
