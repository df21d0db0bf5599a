package shard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"
)

// drainPatience bounds how long a committer of an old epoch may take to end.
const drainPatience = 10 * time.Second

// StoreConfig is what a Store needs.
type StoreConfig struct {
	Routes *Routes
	// Open connects to a node that the register names as the primary of a shard. It must not wait for the node.
	Open func(shard int, node string) (*DB, error)
	// Committer is the template for the committers of all shards; Shard, Epoch and DB are filled in.
	Committer Config
}

// Store writes and reads wherever a bucket lives. It keeps one committer per shard, of the newest epoch that it has
// heard of.
type Store struct {
	cfg StoreConfig

	mu        sync.Mutex
	primaries map[int]*primary
	retired   sync.WaitGroup
	closed    bool
}

// primary is the node of a shard that takes writes in an epoch.
type primary struct {
	epoch     uint64
	node      string
	db        *DB
	committer *Committer
}

// NewStore returns a store. It connects to a shard when the first operation needs it.
func NewStore(cfg StoreConfig) *Store { return &Store{cfg: cfg, primaries: map[int]*primary{}} }

// Submit runs op on the shard of its bucket; see [Committer.Submit]. A stale route waits for a newer one and tries once
// more; after that the reply is ErrFailover.
func (s *Store) Submit(ctx context.Context, op *Op) Reply {
	r, route := s.submit(ctx, op)
	if !errors.Is(r.Err, ErrStaleRoute) {
		return r
	}
	_ = s.cfg.Routes.WaitNewer(ctx, route) // if there is none, the second attempt says so
	if r, _ = s.submit(ctx, op); errors.Is(r.Err, ErrStaleRoute) {
		return Reply{Err: fmt.Errorf("%w: %w", ErrFailover, r.Err)}
	}
	return r
}

func (s *Store) submit(ctx context.Context, op *Op) (Reply, Route) {
	p, route, err := s.primary(op.Bucket)
	if err != nil {
		return Reply{Err: err}, route
	}
	return p.committer.Submit(ctx, op), route
}

// Read runs f over one consistent snapshot of the shard of bucket b, at the shard's time. It checks epoch and ownership in
// that snapshot. The snapshot is the primary's, but is not fenced against a primary that was cut off and does not know it.
func (s *Store) Read(ctx context.Context, b Bucket, f func(tx *gorm.DB, at time.Time) error) error {
	route, err := s.read(ctx, b, f)
	if !errors.Is(err, ErrStaleRoute) {
		return err
	}
	_ = s.cfg.Routes.WaitNewer(ctx, route) // as in Submit
	if _, err = s.read(ctx, b, f); errors.Is(err, ErrStaleRoute) {
		return fmt.Errorf("%w: %w", ErrFailover, err)
	}
	return err
}

func (s *Store) read(ctx context.Context, b Bucket, f func(tx *gorm.DB, at time.Time) error) (Route, error) {
	p, route, err := s.primary(b)
	if err != nil {
		return route, err
	}
	ctx, span := p.committer.observer.snapshot(ctx)
	err = p.db.read(ctx, p.epoch, b, f)
	endSnapshot(span, err)
	return route, err
}

// Placement is the number of the shard on which new documents of bucket b are born.
func (s *Store) Placement(b Bucket) uint16 {
	shard, _ := s.cfg.Routes.Lookup(b) // without a map nothing can be written, so no document will carry the 0
	return uint16(shard)
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
	return p.db, p.epoch, nil
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

// adopt returns the primary of a route, and replaces the one it had if the route is newer. Epochs only rise.
func (s *Store) adopt(r Route) (*primary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.primaries[r.Shard]
	switch {
	case now != nil && now.epoch == r.Epoch && now.node == r.Node:
		return now, nil // also while it is closed: what is undecided must still be settled
	case s.closed:
		return nil, ErrClosed
	case now != nil && now.epoch > r.Epoch:
		return nil, fmt.Errorf("the route has epoch %d, shard %d was seen at %d: %w", r.Epoch, r.Shard, now.epoch, ErrStaleRoute)
	}
	db, err := s.cfg.Open(r.Shard, r.Node)
	if err != nil {
		return nil, fmt.Errorf("%w: connect to the primary of shard %d: %w", ErrFailover, r.Shard, err)
	}
	cfg := s.cfg.Committer
	cfg.Shard, cfg.Epoch, cfg.DB = r.Shard, r.Epoch, db
	next := &primary{epoch: r.Epoch, node: r.Node, db: db, committer: NewCommitter(cfg)}
	db.observer = next.committer.observer
	s.primaries[r.Shard] = next
	if now != nil {
		s.retired.Go(func() { _ = now.close(context.Background()) })
	}
	return next, nil
}

func (p *primary) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	return errors.Join(p.committer.Close(ctx), p.db.Close())
}

// Close refuses new operations, decides those that were accepted, and closes the pools.
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
	s.retired.Wait()
	return all
}

// fenceRow is what a read checks in its own snapshot.
type fenceRow struct {
	Epoch   uint64
	FloorAt int64
	Clock   int64
	Serving int64
}

// read opens a snapshot, checks the fences in it, and runs f over it.
func (db *DB) read(ctx context.Context, epoch uint64, b Bucket, f func(tx *gorm.DB, at time.Time) error) error {
	options := &sql.TxOptions{ReadOnly: db.Dialect.multi}
	if db.Dialect.multi {
		options.Isolation = sql.LevelRepeatableRead // one snapshot for all queries; on SQLite every transaction is one
	}
	var inner error
	err := db.orm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
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
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: read: %w", ErrOverloaded, err)
	case inner == nil || brokenConnection(inner):
		return fmt.Errorf("%w: read: %w", ErrFailover, err)
	}
	return err
}
