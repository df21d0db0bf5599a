package shard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
)

// Limits of a store.
const (
	drainPatience = 10 * time.Second // for what the lanes have accepted when the store is closed
	maxHeld       = 2 * defaultQueue // calls that wait for a newer route: more would not fit into the queues of a shard then
)

// StoreConfig is what a Store needs.
type StoreConfig struct {
	Routes *Routes
	// Open connects to the node of a route. It must not wait for the node.
	Open func(Route) (*DB, error)
	// Committer is the template for the committers of all shards; Shard, Epoch and DB are filled in.
	Committer Config
	// ReadLease is for shards that can fail over: no read is answered later than this after the register was last heard, and
	// what met a dead primary waits for another one. Zero: they cannot, the register's word holds until it is changed.
	ReadLease time.Duration
	// Closed is told each epoch of a shard once nothing of an earlier one can be begun or sent here any more, in rising order.
	// It must be quick; nil: nobody wants to know.
	Closed func(shard int, epoch uint64)
}

// Store writes and reads wherever a bucket lives. It keeps one committer per shard, of the epoch and node that the routes name,
// and stops it as soon as they name others; see failover.go.
type Store struct {
	cfg StoreConfig

	mu        sync.Mutex
	primaries map[int]*primary
	warmed    map[int]*candidate
	reported  map[int]uint64 // the newest epoch of which Closed was told
	retiring  map[int]int    // primaries that are given time to answer
	closed    bool

	held   atomic.Int64
	ctx    context.Context // ends when a close gives up waiting
	cancel context.CancelFunc
	unlook context.CancelFunc // ends the following of the routes
	looks  sync.WaitGroup     // the following
	ending sync.WaitGroup     // primaries that were given up, and candidates
}

// primary is the node of a shard that takes writes in an epoch.
type primary struct {
	route     Route // of the shard as a whole
	db        *DB
	committer *Committer
}

// NewStore returns a store. It connects to a shard when the first operation needs it, and follows the routes until it is closed.
func NewStore(cfg StoreConfig) *Store {
	s := &Store{cfg: cfg, primaries: map[int]*primary{}, warmed: map[int]*candidate{}, reported: map[int]uint64{}, retiring: map[int]int{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	looking, unlook := context.WithCancel(s.ctx)
	s.unlook = unlook
	s.looks.Go(func() { s.follow(looking) })
	return s
}

// Submit runs op on the shard of its bucket; see [Committer.Submit]. While its route is stale it waits for a newer one, for 800 ms
// and not beyond its deadline; after that the reply is ErrFailover. So does a primary that cannot be reached, where there can be
// another one.
func (s *Store) Submit(ctx context.Context, op *Op) Reply {
	var r Reply
	r.Err = s.follows(ctx, func() (Route, error) {
		var route Route
		r, route = s.submit(ctx, op)
		return route, r.Err
	})
	return r
}

// follows tries again whenever there is a newer route than the one that failed, and once more when there is none in time. A try that
// fails in such a way has had no effect.
func (s *Store) follows(ctx context.Context, try func() (Route, error)) error {
	route, err := try()
	if !s.waits(err) {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, staleWait)
	defer cancel()
	for last := false; s.waits(err) && !last; {
		last = s.hold(waiting, route) != nil
		route, err = try()
	}
	if errors.Is(err, ErrStaleRoute) {
		return fmt.Errorf("%w: %w", ErrFailover, err)
	}
	return err
}

func (s *Store) submit(ctx context.Context, op *Op) (Reply, Route) {
	p, route, err := s.primary(op.Bucket)
	if err != nil {
		return Reply{Err: err}, route
	}
	r := p.committer.Submit(ctx, op)
	if r.isRefusal() {
		if err := s.certify(ctx, route); err != nil {
			return Reply{Err: err}, route
		}
	}
	return r, route
}

// waits reports whether another primary may do what this one could not, and that nothing has happened yet.
func (s *Store) waits(err error) bool {
	return errors.Is(err, ErrStaleRoute) || s.cfg.ReadLease > 0 && errors.Is(err, errUnreachable)
}

// hold waits for a newer route, unless too many do.
func (s *Store) hold(ctx context.Context, stale Route) error {
	defer s.held.Add(-1)
	if s.held.Add(1) > maxHeld {
		return ErrFailover
	}
	return s.cfg.Routes.WaitNewer(ctx, stale)
}

// Read runs f over one consistent snapshot of the shard of bucket b, at the shard's time. It checks epoch and ownership in
// that snapshot, and afterwards, where the shard can fail over, that no other primary had begun to serve; see certify. f may run
// several times and must begin anew each time; what it has read is void if Read fails.
func (s *Store) Read(ctx context.Context, b Bucket, f func(tx *gorm.DB, at time.Time) error) error {
	return s.follows(ctx, func() (Route, error) { return s.read(ctx, b, f) })
}

func (s *Store) read(ctx context.Context, b Bucket, f func(tx *gorm.DB, at time.Time) error) (Route, error) {
	p, route, err := s.primary(b)
	if err != nil {
		return route, err
	}
	traced, span := p.committer.observer.snapshot(ctx)
	inner, err := p.db.read(traced, route.Epoch, b, f)
	switch {
	case err == nil:
		err = s.certify(ctx, route)
	case p.committer.abandoned.Load() && errors.Is(err, errUnreachable):
		err = fmt.Errorf("%w: %w", errAbandoned, err)
	case errors.Is(err, errUnreachable):
		p.committer.suspect(err)
	}
	endSnapshot(span, err)
	if err == nil {
		err = inner
	}
	return route, err
}

// Placement is the number of the shard on which new documents of bucket b are born.
func (s *Store) Placement(b Bucket) uint16 {
	shard, _ := s.cfg.Routes.Lookup(b) // without a map nothing can be written, so no document will carry the 0
	return uint16(shard)
}

// Shards lists the numbers of the shards in the map; none while there is no map.
func (s *Store) Shards() []int {
	m, ok := s.cfg.Routes.Map()
	if !ok {
		return nil
	}
	numbers := make([]int, len(m.Shards))
	for i := range m.Shards {
		numbers[i] = m.Shards[i].Number
	}
	return numbers
}

// BucketOn returns the first bucket that a shard serves by the map: a way to what belongs to the shard itself. It is false for a
// shard without buckets.
func (s *Store) BucketOn(shard int) (Bucket, bool) {
	m, ok := s.cfg.Routes.Map()
	if !ok {
		return 0, false
	}
	for i := range m.Runs {
		if m.Runs[i].Shard == shard {
			return m.Runs[i].From, true
		}
	}
	return 0, false
}

// Primary returns the database and the epoch under which a shard is written to now.
func (s *Store) Primary(shard int) (*DB, uint64, error) {
	route, err := s.cfg.Routes.Shard(shard)
	if err != nil {
		return nil, 0, err
	}
	p, err := s.adopt(route)
	if err != nil {
		return nil, 0, err
	}
	return p.db, p.route.Epoch, nil
}

// Depth is the number of waiting operations per lane, by shard.
func (s *Store) Depth() map[int][]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	depth := make(map[int][]int, len(s.primaries))
	for n, p := range s.primaries {
		depth[n] = p.committer.Depth()
	}
	return depth
}

func (s *Store) primary(b Bucket) (*primary, Route, error) {
	route, err := s.cfg.Routes.Route(b)
	if err != nil {
		return nil, route, err
	}
	p, err := s.adopt(route)
	return p, route, err
}

func (p *primary) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	return errors.Join(p.committer.Close(ctx), p.db.Close())
}

// Close refuses new operations, decides those that were accepted, and closes the pools. Operations of an epoch that ended are
// waited for as well; if ctx ends first, what is undecided is left to its records.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	open := slices.Collect(maps.Values(s.primaries))
	s.mu.Unlock()
	errs := make(chan error, len(open))
	for _, p := range open {
		go func() { errs <- p.close(ctx) }()
	}
	var all error
	for range open {
		all = errors.Join(all, <-errs)
	}
	s.unlook()
	s.looks.Wait()
	s.discardCandidates()
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	defer s.cancel()
	defer context.AfterFunc(ctx, s.cancel)()
	s.ending.Wait()
	return all
}

// fenceRow is what a read checks in its own snapshot.
type fenceRow struct {
	Epoch   uint64
	FloorAt int64
	Clock   int64
	Serving int64
}

// read opens a snapshot, checks the fences in it, and runs f over it. inner is what f found or not, if the snapshot is not to
// blame for it; err is what was.
func (db *DB) read(ctx context.Context, epoch uint64, b Bucket, f func(tx *gorm.DB, at time.Time) error) (inner, err error) {
	options := &sql.TxOptions{ReadOnly: db.Dialect.multi}
	if db.Dialect.multi {
		options.Isolation = sql.LevelRepeatableRead // one snapshot for all queries; on SQLite every transaction is one
	}
	err = db.orm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var fence fenceRow
		query := "SELECT epoch, floor_at, " + db.clock() + " AS clock, " +
			"(SELECT COUNT(*) FROM bucket_owner WHERE bucket=? AND state='SERVING') AS serving FROM fence WHERE id=1"
		if err := tx.Raw(query, int(b)).Scan(&fence).Error; err != nil {
			return err
		}
		if fence.Epoch != epoch || fence.Serving == 0 {
			return fmt.Errorf("the shard is at epoch %d, the route at %d: %w", fence.Epoch, epoch, ErrStaleRoute)
		}
		inner = f(tx, time.UnixMicro(max(fence.FloorAt, fence.Clock)).UTC())
		return inner
	}, options)
	switch {
	case err == nil || errors.Is(err, ErrStaleRoute):
		return nil, err
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: read: %w", ErrOverloaded, err)
	case inner == nil || brokenConnection(inner):
		return nil, fmt.Errorf("%w: read: %w", errUnreachable, err)
	}
	return err, nil
}
