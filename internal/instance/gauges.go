package instance

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/statesvc/statesvc/ledger"
)

// The clocks of the counting of holds.
const (
	countEvery    = 10 * time.Second // at most; however many scrape
	countPatience = time.Second      // for all shards side by side; one that is down has no count
)

// gauges show what there is to do, and how old the instance's knowledge is. They are asked when somebody scrapes, and never wait
// for a shard.
type gauges struct {
	in *Instance

	depth, pending, overdue, undecided metric.Int64ObservableGauge
	drift                              metric.Int64ObservableGauge
	age                                metric.Float64ObservableGauge

	registration metric.Registration // of observe

	wanted chan struct{} // a scrape has come since the holds were counted
	mu     sync.Mutex
	counts map[int]holdCount // by shard; of those that answered
}

type holdCount struct {
	pending, overdue int64
	drift            map[string]int64 // contradictions that the auditor knows, by check; those without any are not in it
}

func newGauges(in *Instance, m metric.Meter) (*gauges, error) {
	var errs [7]error
	g := &gauges{in: in, wanted: make(chan struct{}, 1)}
	g.depth, errs[0] = m.Int64ObservableGauge("statesvc.queue.depth", metric.WithDescription("Operations that wait for a batch."))
	g.pending, errs[1] = m.Int64ObservableGauge("statesvc.pending.holds",
		metric.WithDescription("Holds that are not decided, as counted after the last scrape; not beyond 100000."))
	g.overdue, errs[2] = m.Int64ObservableGauge("statesvc.overdue.holds",
		metric.WithDescription("Pending holds whose time is over, as counted after the last scrape; not beyond 10000."))
	g.undecided, errs[3] = m.Int64ObservableGauge("statesvc.undecided.owners",
		metric.WithDescription("Owners who are blocked until the shard has said what became of a COMMIT."))
	g.age, errs[4] = m.Float64ObservableGauge("statesvc.view.age", metric.WithUnit("s"),
		metric.WithDescription("Time since a copy of a part of the register was known to be current."))
	g.drift, errs[5] = m.Int64ObservableGauge("statesvc.ledger.drift",
		metric.WithDescription("Contradictions between tables that the auditor has found, as read after the last scrape; must be 0."))
	g.registration, errs[6] = m.RegisterCallback(g.observe, g.depth, g.pending, g.overdue, g.undecided, g.age, g.drift)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return g, nil
}

// observe is called by every scrape.
func (g *gauges) observe(_ context.Context, o metric.Observer) error {
	for number, lanes := range g.in.Store.Depth() {
		for lane, n := range lanes {
			o.ObserveInt64(g.depth, int64(n), metric.WithAttributes(attribute.Int("shard", number), attribute.Int("lane", lane)))
		}
	}
	for number, c := range g.counted() {
		of := metric.WithAttributes(attribute.Int("shard", number))
		o.ObserveInt64(g.pending, c.pending, of)
		o.ObserveInt64(g.overdue, c.overdue, of)
		for _, check := range ledger.Checks {
			o.ObserveInt64(g.drift, c.drift[check], of, metric.WithAttributes(attribute.String("check", check)))
		}
	}
	o.ObserveInt64(g.undecided, int64(g.in.Blacklist.UndecidedOwners()))
	now := g.in.cfg.Now()
	for view, age := range map[string]time.Duration{
		"routes": now.Sub(g.in.Routes.FreshAt()), "blacklist": g.in.Blacklist.Age(now), "keys": g.in.Keys.Age(now),
	} {
		o.ObserveFloat64(g.age, age.Seconds(), metric.WithAttributes(attribute.String("view", view)))
	}
	return nil
}

// counted returns the last count, and asks for a newer one.
func (g *gauges) counted() map[int]holdCount {
	select {
	case g.wanted <- struct{}{}:
	default:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.counts)
}

// run counts holds for those who scrape.
func (g *gauges) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.wanted:
		}
		g.count(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(countEvery):
		}
	}
}

// count asks all shards side by side. One that does not answer has no count, since an old one would look like news.
func (g *gauges) count(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, countPatience)
	defer cancel()
	counts := map[int]holdCount{}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, number := range g.in.ShardNumbers() {
		asked.Go(func() {
			c, err := g.ofShard(ctx, number)
			if err != nil {
				return // whoever writes there says so
			}
			mu.Lock()
			defer mu.Unlock()
			counts[number] = c
		})
	}
	asked.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts = counts
}

func (g *gauges) ofShard(ctx context.Context, number int) (c holdCount, err error) {
	db, _, err := g.in.Store.Primary(number)
	if err != nil {
		return c, err
	}
	if c.pending, c.overdue, err = ledger.CountHolds(ctx, db, g.in.cfg.Now()); err != nil {
		return c, err
	}
	report, err := g.in.Auditor.Report(ctx, number)
	c.drift = report.KnownBy()
	return c, err
}
