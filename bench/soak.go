package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/register"
)

const (
	soakEvery   = 10 * time.Second // between samples, of which a short run has at least soakSamples
	soakSamples = 20
	soakSettle  = time.Minute // for the last holds to expire and be swept; they live three seconds
)

// What a service may grow by between the second and the last fifth of a run. The samples are medians, taken after a forced
// collection, so garbage that waits is not in them. What remains are sizes of pools and buffers, and requests that are on
// their way at that instant. In ten minutes at the usual rate some 150 000 requests lie between the two: a leak of 100 bytes
// or of a thousandth of a goroutine per request is beyond these limits.
const (
	rssGrowth       = 0.10 // of the early figure, and …
	rssRoom         = 8 << 20
	heapGrowth      = 0.10
	heapRoom        = 4 << 20
	goroutineGrowth = 2 * soakWorkers // each connection has one goroutine, and one more while its handler runs
)

// SoakOptions say how long and how hard.
type SoakOptions struct {
	Program  string // our own executable
	Duration time.Duration
	Rate     int // requests per second
}

// SoakResult is what `bench soak` ends with.
type SoakResult struct {
	Early, Late SoakSample
	Requests    int64
}

// SoakSample is the state of the service at one time.
type SoakSample struct {
	RSS, Heap  int64 // bytes
	Goroutines int64
	Pending    int64 // holds that are not decided
}

// Soak runs the service on MariaDB under a mixed load, and says whether it grows and whether its books balance.
func Soak(ctx context.Context, out io.Writer, o SoakOptions) (result SoakResult, err error) {
	r := &soakRig{out: out, options: o}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.start(ctx); err != nil {
		return result, err
	}
	samples, err := r.run(ctx)
	if err != nil {
		return result, err
	}
	result.Requests = r.load.requests.Load()
	result.Early, result.Late = soakWindows(samples)
	say(out, "the load has ended; waiting for the last holds to expire\n")
	if err := r.settle(ctx); err != nil {
		return result, err
	}
	settled, err := r.sample(ctx)
	if err != nil {
		return result, err
	}
	say(out, "early    %v\nlate     %v\nsettled  %v\n", result.Early, result.Late, settled)
	return result, errors.Join(flat(result.Early, result.Late), r.verify(ctx))
}

func (s SoakSample) String() string {
	const mb = 1 << 20
	return fmt.Sprintf("rss %6.1f MB   heap %6.1f MB   goroutines %4d   pending holds %5d", float64(s.RSS)/mb, float64(s.Heap)/mb,
		s.Goroutines, s.Pending)
}

// soakRig is the service with its database, and the load.
type soakRig struct {
	out     io.Writer
	options SoakOptions
	folder  *scratch.Folder
	maria   *mariadb.Server
	cluster *cluster
	service *child
	pprof   *scratch.Port
	load    *soakLoad
}

func (r *soakRig) start(ctx context.Context) (err error) {
	if r.folder, err = scratch.NewFolder("soak"); err != nil {
		return err
	}
	if r.maria, err = startMaria(ctx); err != nil {
		return err
	}
	if r.cluster, err = newMariaCluster(ctx, filepath.Join(r.folder.Path, "service"), r.maria); err != nil {
		return err
	}
	token, err := r.cluster.newToken(ctx)
	if err != nil {
		return err
	}
	config, err := r.cluster.writeConfig()
	if err != nil {
		return err
	}
	if r.pprof, err = scratch.NewPort(); err != nil {
		return err
	}
	r.service, err = startChild(ctx, r.options.Program, r.folder.Path, "serve", func(address string) []string {
		return []string{"serve", "--config", config, "--listen", address, "--pprof", r.profiles()}
	}, nil)
	if err != nil {
		return err
	}
	r.load = newSoakLoad(r.service.address(), token, r.options.Rate)
	return r.load.credit(ctx)
}

func (r *soakRig) profiles() string { return "127.0.0.1:" + strconv.Itoa(r.pprof.Number) }

// seeding is an instance that only prepares a cluster.
func (c *cluster) seeding(reg register.Register) instance.Config {
	return instance.Config{Name: "seed", Register: reg, Shards: c.shards, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

// newToken makes a key before there is an instance.
func (c *cluster) newToken(ctx context.Context) (token string, err error) {
	err = c.withRegister(func(reg register.Register) error {
		in, err := instance.Open(ctx, c.seeding(reg))
		if err != nil {
			return err
		}
		token, err = createKey(ctx, in.Keys)
		return errors.Join(err, in.Close(context.WithoutCancel(ctx)))
	})
	return token, err
}

// run loads the service for the whole time, and takes samples meanwhile.
func (r *soakRig) run(ctx context.Context) (samples []SoakSample, err error) {
	begin := time.Now()
	end := begin.Add(r.options.Duration)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.load.run(ctx, end) })
	group.Go(func() (err error) {
		samples, err = r.observe(ctx, begin, end)
		return err
	})
	return samples, group.Wait()
}

func (r *soakRig) observe(ctx context.Context, begin, end time.Time) (samples []SoakSample, err error) {
	every := min(soakEvery, r.options.Duration/soakSamples)
	before := r.load.requests.Load()
	for at := begin.Add(every); !at.After(end); at = at.Add(every) {
		sleepUntil(ctx, at)
		s, err := r.sample(ctx)
		if err != nil {
			return nil, err
		}
		samples = append(samples, s)
		requests := r.load.requests.Load()
		say(r.out, "%6.0f s  %v   %5.0f requests/s\n", at.Sub(begin).Seconds(), s, float64(requests-before)/every.Seconds())
		before = requests
	}
	return samples, nil
}

// sample forces a collection first. It asks the profiler and not /metrics, which may show numbers of a while ago.
func (r *soakRig) sample(ctx context.Context) (s SoakSample, err error) {
	heap, err := get(ctx, "http://"+r.profiles()+"/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return s, err
	}
	goroutines, err := get(ctx, "http://"+r.profiles()+"/debug/pprof/goroutine?debug=1")
	if err != nil {
		return s, err
	}
	if s.Heap, err = numberAfter(heap, "# HeapAlloc = "); err != nil {
		return s, err
	}
	if s.Goroutines, err = numberAfter(goroutines, "goroutine profile: total "); err != nil {
		return s, err
	}
	if s.RSS, err = residentSize(r.service.process.PID()); err != nil {
		return s, err
	}
	s.Pending, err = r.pending(ctx)
	return s, err
}

func (r *soakRig) pending(ctx context.Context) (count int64, err error) {
	err = r.maria.Admin().QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM s1.holds) + (SELECT COUNT(*) FROM s2.holds)").Scan(&count)
	return count, err
}

// numberAfter reads the number that follows a mark.
func numberAfter(text, mark string) (int64, error) {
	_, rest, found := strings.Cut(text, mark)
	digits := strings.IndexFunc(rest+"\n", func(c rune) bool { return c < '0' || c > '9' })
	if !found || digits == 0 {
		return 0, fmt.Errorf("%w: no number after %q", errReply, mark)
	}
	return strconv.ParseInt(rest[:digits], 10, 64)
}

// settle waits until no hold is live.
func (r *soakRig) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, soakSettle)
	defer cancel()
	for {
		count, err := r.pending(ctx)
		if err != nil {
			return fmt.Errorf("wait for the end of all holds: %w", err)
		}
		if count == 0 {
			return nil
		}
		sleepUntil(ctx, time.Now().Add(200*time.Millisecond))
	}
}

// soakWindows returns the medians of the second and of the last fifth.
func soakWindows(samples []SoakSample) (early, late SoakSample) {
	fifth := max(1, len(samples)/5)
	return soakMedian(samples[fifth : 2*fifth]), soakMedian(samples[len(samples)-fifth:])
}

func soakMedian(samples []SoakSample) SoakSample {
	of := func(value func(SoakSample) int64) int64 {
		values := make([]int64, len(samples))
		for i, s := range samples {
			values[i] = value(s)
		}
		slices.SortFunc(values, cmp.Compare[int64])
		return values[len(values)/2]
	}
	return SoakSample{
		RSS: of(func(s SoakSample) int64 { return s.RSS }), Heap: of(func(s SoakSample) int64 { return s.Heap }),
		Goroutines: of(func(s SoakSample) int64 { return s.Goroutines }), Pending: of(func(s SoakSample) int64 { return s.Pending }),
	}
}

var errGrows = errors.New("the service grows")

// flat compares the windows.
func flat(early, late SoakSample) error {
	var errs []error
	limit := func(name string, early, late, limit int64) {
		if late > limit {
			errs = append(errs, fmt.Errorf("%w: %s %d early, %d late, at most %d allowed", errGrows, name, early, late, limit))
		}
	}
	limit("rss", early.RSS, late.RSS, int64(float64(early.RSS)*(1+rssGrowth))+rssRoom)
	limit("heap", early.Heap, late.Heap, int64(float64(early.Heap)*(1+heapGrowth))+heapRoom)
	limit("goroutines", early.Goroutines, late.Goroutines, early.Goroutines+goroutineGrowth)
	return errors.Join(errs...)
}

// verify stops the service and compares the database with what the load was told.
func (r *soakRig) verify(ctx context.Context) error {
	err := r.service.stop()
	r.service = nil
	if err != nil {
		return err
	}
	s, err := r.cluster.sum(ctx)
	if err != nil {
		return err
	}
	t := &r.load.told
	expired := t.held.Load() - t.confirmed.Load() - t.cancelled.Load()
	say(r.out, "books    %d coupons issued, %d holds: %d confirmed, %d cancelled, %d expired; %d replays were answered alike\n",
		t.issued.Load(), t.held.Load(), s.confirmed, s.cancelled, s.expired, t.replayed.Load())
	return s.check(
		expectation{"coupons issued", s.available + s.held + s.used, t.issued.Load()},
		expectation{"money issued", s.issued, soakOwners * soakMoney},
		expectation{"confirmed holds", s.confirmed, t.confirmed.Load()},
		expectation{"cancelled holds", s.cancelled, t.cancelled.Load()},
		expectation{"expired holds", s.expired, expired},
		expectation{"live holds", s.live, 0},
		expectation{"used coupons", s.used, t.confirmed.Load()},
		expectation{"money spent", s.spent, t.confirmed.Load() * pairMoney},
		expectation{"held coupons", s.held, 0},
		expectation{"money held", s.moneyHeld, 0},
	)
}

func (r *soakRig) close() error {
	var errs []error
	if r.load != nil {
		r.load.transport.CloseIdleConnections()
	}
	errs = append(errs, r.service.stop())
	if r.pprof != nil {
		errs = append(errs, r.pprof.Close())
	}
	if r.maria != nil {
		errs = append(errs, r.maria.Stop())
	}
	if r.folder != nil {
		errs = append(errs, r.folder.Remove())
	}
	return errors.Join(errs...)
}
