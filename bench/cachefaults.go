package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/internal/freshness"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/redisd"
	"github.com/statesvc/statesvc/internal/relay"
	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/state"
)

// CacheFaultsOptions say how long and how hard.
type CacheFaultsOptions struct {
	Duration time.Duration
	Seed     uint64   // of faults and of what the load asks for; the interleaving is the machine's
	Reads    int      // per second, at most
	Writes   int      // per second, at most
	Faults   []string // exactly these, one after the other, each as name or name=duration; none: random ones until the end
}

// CacheFaultsResult is what was seen.
type CacheFaultsResult struct {
	Tally      *freshness.Tally
	Writes     int64 // acknowledged
	Unanswered int64 // reads and writes that had no answer while something was broken
	Faults     int
}

var (
	// errTooOld says that a read has broken the promise of its mode.
	errTooOld = errors.New("a read was older than its mode allows")
	// errContradiction says that one version of a document was seen with two contents.
	errContradiction = errors.New("a version has two contents")
	errNotWhole      = errors.New("the service does not get whole again by itself")
)

// CacheFaults reads and writes state data in this process, through instances that share a real MariaDB and a real Redis, breaks what
// they stand on, and judges every read by what was acknowledged before it began. All of that is one process, so one monotonic clock
// orders it.
func CacheFaults(ctx context.Context, out io.Writer, o CacheFaultsOptions) (result CacheFaultsResult, err error) {
	r := &faultRig{out: out, options: o, dice: rand.New(rand.NewPCG(o.Seed, 0)), began: time.Now()}
	defer func() { err = errors.Join(err, r.close(context.WithoutCancel(ctx))) }()
	if err := r.start(ctx); err != nil {
		return result, err
	}
	r.load = newFaultLoad(r.instances[:], o)
	if err := r.load.create(ctx); err != nil {
		return result, err
	}
	faults, err := r.run(ctx)
	if err == nil {
		err = r.recovered(ctx)
	}
	l := r.load
	say(out, "%s", l.lateness())
	return CacheFaultsResult{&l.tally, l.writes.Load(), l.unanswered.Load(), faults}, errors.Join(err, l.verdict())
}

// The instances. The first reaches Redis through the relay, so that it can be cut off; the last keeps no copies in memory, so that each
// of its reads goes to Redis.
const (
	faultInstances = 3
	cutInstance    = 0
	bareInstance   = faultInstances - 1
	faultKind      = "product"
)

// faultRig is what the load runs on.
type faultRig struct {
	out     io.Writer
	options CacheFaultsOptions
	dice    *rand.Rand // seeded
	began   time.Time
	load    *faultLoad
	slow    atomic.Bool // readers and writers are held at points

	folder    *scratch.Folder
	maria     *mariadb.Server
	redis     *redisd.Server
	client    *redis.Client // of our own
	port      *scratch.Port // of the relay
	relay     *relay.Relay
	reg       *register.File
	instances [faultInstances]*instance.Instance
}

// cutName is what the relay calls the connections of the instance that can be cut off.
const cutName = "redis"

func (r *faultRig) start(ctx context.Context) (err error) {
	if r.folder, err = scratch.NewFolder("cachefaults"); err != nil {
		return err
	}
	if r.maria, err = mariadb.Start(ctx, mariadb.Options{}); err != nil {
		return err
	}
	if r.redis, err = redisd.Start(ctx); err != nil {
		return err
	}
	r.client = redis.NewClient(&redis.Options{Addr: r.redis.Addr()})
	if err := r.startRelay(); err != nil {
		return err
	}
	cluster, err := newMariaCluster(ctx, filepath.Join(r.folder.Path, "service"), r.maria)
	if err != nil {
		return err
	}
	if r.reg, err = register.OpenFile(cluster.registerPath()); err != nil {
		return err
	}
	for i := range r.instances {
		if r.instances[i], err = r.open(ctx, i, cluster.shards); err != nil {
			return err
		}
	}
	_, err = r.instances[0].Kinds.Declare(ctx, faultKind, state.Spec{})
	return err
}

func (r *faultRig) startRelay() (err error) {
	if r.port, err = scratch.NewPort(); err != nil {
		return err
	}
	r.relay, err = relay.New(relay.Config{Nodes: []relay.Node{
		{Name: cutName, Register: []relay.Link{{Listen: r.port.Addr(), Server: r.redis.Addr()}}},
	}})
	return err
}

func (r *faultRig) open(ctx context.Context, i int, shards []instance.Shard) (*instance.Instance, error) {
	cfg := instance.Config{
		Name: fmt.Sprintf("instance-%d", i), Register: r.reg, Shards: shards, Redis: r.redis.Addr(), CachePoints: r.hold,
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	switch i {
	case cutInstance:
		cfg.Redis = r.port.Addr()
	case bareInstance:
		cfg.CopyMemory = -1
	}
	return instance.Open(ctx, cfg)
}

// hold makes some readers and writers wait between two steps of theirs, up to longer than a lease is.
func (r *faultRig) hold(string) {
	if !r.slow.Load() || rand.IntN(20) > 0 {
		return
	}
	time.Sleep(time.Duration(rand.Int64N(int64(2500 * time.Millisecond))))
}

// run loads and breaks until the time is over. Whatever was broken is whole afterwards.
func (r *faultRig) run(ctx context.Context) (faults int, err error) {
	end := time.Now().Add(r.options.Duration)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.load.run(ctx, end) })
	group.Go(func() (err error) {
		faults, err = r.breakUntil(ctx, end)
		return err
	})
	return faults, group.Wait()
}

// wholePatience is how long the service may take to be whole again. It takes a second or two; the machine may be busy.
const wholePatience = time.Minute

// recovered waits until all instances answer strong reads of all documents with what was acknowledged last, and hear Redis.
func (r *faultRig) recovered(ctx context.Context) error {
	patience, cancel := context.WithTimeout(ctx, wholePatience)
	defer cancel()
	for {
		err := r.load.readAll(patience)
		for i, in := range r.instances {
			if err == nil && !in.State.HearsRedis() {
				err = fmt.Errorf("instance %d does not hear Redis", i)
			}
		}
		if err == nil || errors.Is(err, errTooOld) {
			return err
		}
		if patience.Err() != nil {
			return fmt.Errorf("%w: %w", errNotWhole, err)
		}
		sleepUntil(patience, time.Now().Add(50*time.Millisecond))
	}
}

func (r *faultRig) close(ctx context.Context) error {
	var errs []error
	for _, in := range r.instances {
		if in != nil {
			errs = append(errs, in.Close(ctx))
		}
	}
	if r.reg != nil {
		errs = append(errs, r.reg.Close())
	}
	if r.relay != nil {
		r.relay.Close()
	}
	if r.port != nil {
		errs = append(errs, r.port.Close())
	}
	if r.client != nil {
		errs = append(errs, r.client.Close())
	}
	if r.redis != nil {
		errs = append(errs, r.redis.Stop())
	}
	if r.maria != nil {
		errs = append(errs, r.maria.Stop())
	}
	if r.folder != nil {
		errs = append(errs, r.folder.Remove())
	}
	return errors.Join(errs...)
}

// cacheFault is a way to break something. It makes it whole again before it returns, also if ctx ends.
type cacheFault struct {
	name string
	do   func(r *faultRig, ctx context.Context, d time.Duration) error
	most time.Duration // how long it lasts, at least a tenth of that
}

var cacheFaults = []cacheFault{
	{"redis-kill", (*faultRig).killRedis, 3 * time.Second},
	{"redis-pause", (*faultRig).pauseRedis, 5 * time.Second},
	{"redis-flush", (*faultRig).flushRedis, 0},
	{"redis-evict", (*faultRig).evict, 2 * time.Second},
	{"cut", (*faultRig).cut, 5 * time.Second},
	{"slow", (*faultRig).slowDown, 5 * time.Second},
	{"mariadb-restart", (*faultRig).restartMaria, time.Second},
	{"mariadb-pause", (*faultRig).pauseMaria, 2 * time.Second},
}

// CacheFaultNames lists all faults.
func CacheFaultNames() []string {
	names := make([]string, len(cacheFaults))
	for i, f := range cacheFaults {
		names[i] = f.name
	}
	return names
}

// errNoFault says that there is no fault of that name.
var errNoFault = errors.New("there is no such fault")

// planned is a fault and how long it lasts.
type planned struct {
	*cacheFault
	d time.Duration
}

// parseFault reads name or name=duration.
func parseFault(text string) (p planned, err error) {
	name, duration, given := strings.Cut(text, "=")
	for i := range cacheFaults {
		if cacheFaults[i].name == name {
			p = planned{&cacheFaults[i], cacheFaults[i].most}
		}
	}
	if p.cacheFault == nil {
		return p, fmt.Errorf("%w: %s", errNoFault, name)
	}
	if given {
		p.d, err = time.ParseDuration(duration)
	}
	return p, err
}

// draw makes a plan of its own: one fault, and in a third of all cases another one at the same time.
func (r *faultRig) draw() []planned {
	var plan []planned
	for range 1 + max(0, r.dice.IntN(3)-1) {
		f := &cacheFaults[r.dice.IntN(len(cacheFaults))]
		if len(plan) == 0 || f.apart(plan[0].cacheFault) {
			plan = append(plan, planned{f, f.most/10 + time.Duration(r.dice.Int64N(int64(max(f.most-f.most/10, 1))))})
		}
	}
	return plan
}

// breakUntil plays faults with short pauses between them.
func (r *faultRig) breakUntil(ctx context.Context, end time.Time) (count int, err error) {
	given := r.options.Faults
	for time.Now().Before(end) && ctx.Err() == nil && (len(r.options.Faults) == 0 || len(given) > 0) {
		plan := r.draw()
		if len(given) > 0 {
			one, err := parseFault(given[0])
			if err != nil {
				return count, err
			}
			given, plan = given[1:], []planned{one}
		}
		if err := r.play(ctx, plan); err != nil {
			return count, err
		}
		count += len(plan)
		sleepUntil(ctx, time.Now().Add(time.Duration(r.dice.Int64N(int64(2*time.Second)))))
	}
	return count, nil
}

// play breaks what is planned, all at once, and returns when it is whole again.
func (r *faultRig) play(ctx context.Context, plan []planned) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range plan {
		say(r.out, "%7.1f s  %-15s %4d ms  %v\n", time.Since(r.began).Seconds(), p.name, p.d.Milliseconds(), r.load)
		group.Go(func() error {
			if err := p.do(r, ctx, p.d); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// apart reports whether two faults are of different servers, so that they do not undo each other.
func (f *cacheFault) apart(other *cacheFault) bool { return f.name[:3] != other.name[:3] }

// lasting does one thing, and after a while the other.
func lasting(ctx context.Context, d time.Duration, do, undo func() error) error {
	if err := do(); err != nil {
		return err
	}
	sleepUntil(ctx, time.Now().Add(d))
	return undo()
}

func (r *faultRig) killRedis(ctx context.Context, d time.Duration) error {
	return lasting(ctx, d, r.redis.Kill, func() error { return r.redis.Restart(context.WithoutCancel(ctx)) })
}

func (r *faultRig) pauseRedis(ctx context.Context, d time.Duration) error {
	return lasting(ctx, d, r.redis.Pause, r.redis.Resume)
}

func (r *faultRig) restartMaria(ctx context.Context, d time.Duration) error {
	return lasting(ctx, d, r.maria.Kill, func() error { return r.maria.Restart(context.WithoutCancel(ctx)) })
}

func (r *faultRig) pauseMaria(ctx context.Context, d time.Duration) error {
	return lasting(ctx, d, r.maria.Pause, r.maria.Resume)
}

func (r *faultRig) cut(ctx context.Context, d time.Duration) error {
	return lasting(ctx, d, func() error { return r.relay.Cut(cutName) }, func() error { return r.relay.Heal(cutName) })
}

func (r *faultRig) slowDown(ctx context.Context, d time.Duration) error {
	return lasting(ctx, d, func() error { r.slow.Store(true); return nil }, func() error { r.slow.Store(false); return nil })
}

// flushRedis makes Redis forget everything, the scripts too.
func (r *faultRig) flushRedis(ctx context.Context, _ time.Duration) error {
	return errors.Join(r.client.FlushAll(ctx).Err(), r.client.ScriptFlush(ctx).Err())
}

// evict makes Redis forget one document after the other, as it does when it is full.
func (r *faultRig) evict(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		key := r.load.documents[rand.IntN(len(r.load.documents))].key
		if err := r.client.Del(ctx, "s:"+key.String()).Err(); err != nil && ctx.Err() == nil {
			return err
		}
		sleepUntil(ctx, time.Now().Add(5*time.Millisecond))
	}
	return nil
}
