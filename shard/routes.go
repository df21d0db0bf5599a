package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/statesvc/statesvc/register"
)

// staleWait is how long a request waits for a newer route: most failovers and cut-overs are shorter, and a client that was
// kept longer would rather have been told to try again.
const staleWait = 800 * time.Millisecond

// Route says where a bucket is written. It is a hint: the epoch that it carries is checked by the transaction that it leads
// to. Routes are compared with ==.
type Route struct {
	Bucket  Bucket
	Shard   int
	EraBase int64
	Epoch   uint64
	Phase   Phase
	Node    string // the primary
	Address string
	Planned bool // while fencing: the primary lives, and may answer what it was sent
}

// Era returns the era of the bucket. It never falls, neither by a failover nor by a move, so a cache entry of an earlier
// era can be told from a current one.
func (r Route) Era() int64 {
	return r.EraBase + int64(r.Epoch)
}

// ofShard is the route of the shard as a whole, as Routes.Shard returns it.
func (r Route) ofShard() Route {
	r.Bucket, r.EraBase = 0, 0
	return r
}

// Routes holds the map and the shards' records in memory and follows the register. What it answers may be a little old, and
// is as old as FreshAt says when the register cannot be reached. It never goes back: a map with a lower version or a
// record with a lower epoch than it has seen is not taken, and a value that it cannot read leaves the last good one.
type Routes struct {
	log     *slog.Logger
	mirrors []*register.Mirror

	mu   sync.Mutex // held while a view is replaced
	view atomic.Pointer[view]
}

// view is one state of what Routes knows. It is never changed.
type view struct {
	shards  *Map // nil until there is one
	records map[int]Record
	next    chan struct{} // closed when another view has taken this one's place
}

// RoutesOptions are what Routes needs besides the register.
type RoutesOptions struct {
	Now        func() time.Time
	RenewEvery time.Duration // how often the copy is compared with the register; bounds FreshAt
	Log        *slog.Logger
}

// OpenRoutes loads the map and the records and begins to follow them. ctx bounds the loading only; Close ends the
// following. A register without a map is no error, since a cluster may be made later: until then there are no routes.
func OpenRoutes(ctx context.Context, reg register.Register, opts RoutesOptions) (*Routes, error) {
	r := newRoutes(opts.Log)
	for prefix, changed := range map[string]func([]register.Event){MapKey: r.mapChanged, RecordPrefix: r.recordsChanged} {
		mirror, err := register.OpenMirror(ctx, reg, register.MirrorOptions{
			Prefix: prefix, Now: opts.Now, RenewEvery: opts.RenewEvery, Changed: changed,
		})
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("follow the routes: %w", err)
		}
		r.mirrors = append(r.mirrors, mirror)
	}
	return r, nil
}

func newRoutes(log *slog.Logger) *Routes {
	r := &Routes{log: log}
	r.view.Store(&view{records: map[int]Record{}, next: make(chan struct{})})
	return r
}

// Close ends the following. The last routes can still be asked.
func (r *Routes) Close() {
	for _, mirror := range r.mirrors {
		mirror.Close()
	}
}

// Mirrors are what the routes have in memory, for whoever renews them together with others.
func (r *Routes) Mirrors() []*register.Mirror { return r.mirrors }

// FreshAt returns a time at which the routes were not older than the register.
func (r *Routes) FreshAt() time.Time {
	oldest := r.mirrors[0].FreshAt()
	for _, mirror := range r.mirrors[1:] {
		if at := mirror.FreshAt(); at.Before(oldest) {
			oldest = at
		}
	}
	return oldest
}

// Route returns where bucket, which must be below Buckets, is written. It does not wait: while the shard does not serve, or
// no map or record is known, it fails with ErrStaleRoute, and the route that comes with the error is what WaitNewer wants.
func (r *Routes) Route(bucket Bucket) (Route, error) { return r.view.Load().route(bucket) }

// Shard returns the route of a shard as a whole, without bucket and era, and fails like Route.
func (r *Routes) Shard(number int) (Route, error) {
	route := Route{Shard: number}
	err := r.view.Load().fill(&route)
	return route, err
}

// WaitNewer waits until the bucket of stale has another route, on a shard that serves. It is for a request that met
// ErrStaleRoute: wait, then take the route anew and retry. If the routes have changed since stale was taken it
// returns at once. It fails with ErrFailover after 800 ms or when ctx ends; nothing has happened then.
func (r *Routes) WaitNewer(ctx context.Context, stale Route) error {
	ctx, cancel := context.WithTimeout(ctx, staleWait)
	defer cancel()
	for {
		current := r.view.Load()
		if route, err := current.route(stale.Bucket); err == nil && route != stale {
			return nil
		}
		select {
		case <-current.next:
		case <-ctx.Done():
			return fmt.Errorf("wait for a newer route of bucket %d: %w", stale.Bucket, ErrFailover)
		}
	}
}

// Lookup returns the shard of a bucket, whether it serves or not; it is false while there is no map.
func (r *Routes) Lookup(bucket Bucket) (number int, ok bool) {
	current := r.view.Load()
	if current.shards == nil {
		return 0, false
	}
	number, _ = current.shards.Lookup(bucket)
	return number, true
}

// Map returns the map, or false while there is none. It must not be changed.
func (r *Routes) Map() (*Map, bool) {
	current := r.view.Load()
	return current.shards, current.shards != nil
}

// Record returns the record of a shard, or false if there is none. It must not be changed.
func (r *Routes) Record(shard int) (Record, bool) {
	record, ok := r.view.Load().records[shard]
	return record, ok
}

// Changed returns a channel that is closed when the map or a record changes. Take it before looking at the routes, or a
// change between the two is missed.
func (r *Routes) Changed() <-chan struct{} { return r.view.Load().next }

func (v *view) route(bucket Bucket) (Route, error) {
	route := Route{Bucket: bucket}
	if v.shards == nil {
		return route, fmt.Errorf("route bucket %d: there is no shard map: %w", bucket, ErrStaleRoute)
	}
	route.Shard, route.EraBase = v.shards.Lookup(bucket)
	err := v.fill(&route)
	return route, err
}

// fill adds what the shard's record says.
func (v *view) fill(route *Route) error {
	record, ok := v.records[route.Shard]
	if !ok {
		return fmt.Errorf("route to shard %d: it has no record: %w", route.Shard, ErrStaleRoute)
	}
	route.Epoch, route.Phase, route.Node = record.Epoch, record.Phase, record.Primary
	route.Address, route.Planned = record.Nodes[record.Primary].Address, record.Planned
	if record.Phase != PhaseServing {
		return fmt.Errorf("route to shard %d: epoch %d is %s: %w", route.Shard, record.Epoch, record.Phase, ErrStaleRoute)
	}
	return nil
}

// mapChanged takes a new map. A deleted map stays in memory: it says where data is, and deleting it moves none.
func (r *Routes) mapChanged(events []register.Event) {
	r.replace(func(next *view) error {
		var errs []error
		for _, e := range events {
			if e.Key == MapKey && !e.Deleted {
				errs = append(errs, next.takeMap(e.Value))
			}
		}
		return errors.Join(errs...)
	})
}

func (v *view) takeMap(text []byte) error {
	m, err := DecodeMap(text)
	if err != nil {
		return err
	}
	if v.shards != nil && m.Version < v.shards.Version {
		return fmt.Errorf("shard map: version %d after %d", m.Version, v.shards.Version)
	}
	v.shards = &m
	return nil
}

// recordsChanged takes new records. A deleted one is forgotten: its shard is gone, and the map no longer names it.
func (r *Routes) recordsChanged(events []register.Event) {
	r.replace(func(next *view) error {
		next.records = maps.Clone(next.records)
		var errs []error
		for _, e := range events {
			errs = append(errs, next.takeRecord(e))
		}
		return errors.Join(errs...)
	})
}

func (v *view) takeRecord(e register.Event) error {
	number, err := strconv.Atoi(strings.TrimPrefix(e.Key, RecordPrefix))
	if err != nil || RecordKey(number) != e.Key {
		return fmt.Errorf("shard record: %s is no shard's key", e.Key)
	}
	if e.Deleted {
		delete(v.records, number)
		return nil
	}
	record, err := DecodeRecord(e.Value)
	if err != nil {
		return fmt.Errorf("%s: %w", e.Key, err)
	}
	if known := v.records[number].Epoch; record.Epoch < known {
		return fmt.Errorf("%s: epoch %d after %d", e.Key, record.Epoch, known)
	}
	v.records[number] = record
	return nil
}

// replace publishes what change makes of a copy of the view. What change could use is published even if it returns an
// error, which is logged here, because nobody waits for it.
func (r *Routes) replace(change func(*view) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.view.Load()
	next := &view{shards: old.shards, records: old.records, next: make(chan struct{})}
	if err := change(next); err != nil {
		r.log.Error("the register holds routes that cannot be used; the last good ones stay", "error", err)
	}
	r.view.Store(next)
	close(old.next)
}
