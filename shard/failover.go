package shard

import (
	"context"
	"fmt"
	"time"
)

// candidate is a database that is about to become the primary of a shard, with connections made beforehand.
type candidate struct {
	route Route
	db    *DB
}

// follow acts on what the register says of the shards as soon as it says it.
func (s *Store) follow(ctx context.Context) {
	for {
		changed := s.cfg.Routes.Changed()
		for number := range s.cfg.Routes.view.Load().records {
			s.obey(number)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// obey gives up a primary that the register no longer names, gets ready for the one that it is about to name, and says so when
// nothing can be sent under an earlier epoch any more. What adopt opens afterwards is of this epoch or a newer one.
func (s *Store) obey(number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	route, err := s.cfg.Routes.Shard(number)
	if p := s.primaries[number]; p != nil && (err != nil || p.route != route) {
		if route.Planned {
			s.retire(p, route.Epoch)
			return
		}
		s.abandon(p)
	}
	if p := s.primaries[number]; p != nil {
		s.pace(number, p.committer)
	}
	if c := s.warmed[number]; c != nil && !c.becomes(route) {
		s.discard(c)
	}
	if route.Phase == PhasePromoting && !s.closed {
		s.prepare(route)
	}
	if s.retiring[number] == 0 {
		s.report(number, route.Epoch)
	}
}

// pace tells a committer how far the shard's replicas are.
func (s *Store) pace(number int, c *Committer) {
	record, ok := s.cfg.Routes.Record(number)
	c.Slow(ok && !record.Slow.IsZero())
}

// report says that nothing of an epoch before this one can be begun or sent any more. The caller holds mu.
func (s *Store) report(number int, epoch uint64) {
	if s.reported[number] >= epoch {
		return
	}
	s.reported[number] = epoch
	if s.cfg.Closed != nil {
		s.cfg.Closed(number, epoch)
	}
}

// retirePatience is how long batches under way may take to get their answers from a primary that is replaced by plan.
const retirePatience = 150 * time.Millisecond

// retire lets go of a primary that lives: a goroutine waits for the answers that are still to come, and only then says that the epoch
// is closed. The caller holds mu.
func (s *Store) retire(p *primary, epoch uint64) {
	number := p.route.Shard
	delete(s.primaries, number)
	s.retiring[number]++
	s.ending.Go(func() {
		p.committer.Retire(s.ctx, retirePatience)
		s.mu.Lock()
		if s.retiring[number]--; s.retiring[number] == 0 {
			newest, _ := s.cfg.Routes.Shard(number) // the switchover may have been given up meanwhile, for another epoch
			s.report(number, max(epoch, newest.Epoch))
		}
		s.mu.Unlock()
		_ = p.committer.Close(s.ctx)
		_ = p.db.Close()
	})
}

// abandon stops a primary at once; a goroutine waits for what is undecided there. The caller holds mu.
func (s *Store) abandon(p *primary) {
	delete(s.primaries, p.route.Shard)
	p.committer.Abandon()
	s.ending.Go(func() {
		_ = p.committer.Close(s.ctx) // its error is that s.ctx has ended, which whoever ended it knows
		_ = p.db.Close()
	})
}

// prepare connects to a candidate, so that its first batch will not have to. The caller holds mu.
func (s *Store) prepare(route Route) {
	if s.warmed[route.Shard] != nil {
		return
	}
	db, err := s.cfg.Open(route)
	if err != nil {
		return // adopt meets the error again, and has somebody to tell
	}
	s.warmed[route.Shard] = &candidate{route: route, db: db}
	users := max(s.cfg.Committer.Lanes, db.Dialect.lanes) + 1 // the lanes and the resolver
	s.ending.Go(func() { db.warm(s.ctx, users) })
}

// becomes reports whether route still names the candidate, or names it as the primary by now.
func (c *candidate) becomes(route Route) bool {
	route.Phase = c.route.Phase
	return route == c.route
}

// discard forgets a candidate. The caller holds mu.
func (s *Store) discard(c *candidate) {
	delete(s.warmed, c.route.Shard)
	c.db.Cut()
	_ = c.db.Close()
}

func (s *Store) discardCandidates() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.warmed {
		s.discard(c)
	}
}

// adopt returns the primary of a route, and connects to it if it is new. It asks the routes again, because the one at hand may
// have been taken before obey gave its primary up, which must not come back.
func (s *Store) adopt(r Route) (*primary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	route, err := s.cfg.Routes.Shard(r.Shard)
	if err != nil {
		return nil, err
	}
	if route != r.ofShard() {
		return nil, fmt.Errorf("shard %d went from epoch %d to %d: %w", r.Shard, r.Epoch, route.Epoch, ErrStaleRoute)
	}
	now := s.primaries[r.Shard]
	if now != nil && now.route == route {
		return now, nil // also while the store is closed: what is undecided must still be settled
	}
	if s.closed {
		return nil, ErrClosed
	}
	if now != nil {
		s.abandon(now)
	}
	db, err := s.connect(route)
	if err != nil {
		return nil, fmt.Errorf("%w: connect to the primary of shard %d: %w", ErrFailover, r.Shard, err)
	}
	cfg := s.cfg.Committer
	cfg.Shard, cfg.Epoch, cfg.DB = r.Shard, r.Epoch, db
	next := &primary{route: route, db: db, committer: NewCommitter(cfg)}
	s.pace(route.Shard, next.committer)
	db.observer = next.committer.observer
	s.primaries[r.Shard] = next
	return next, nil
}

// connect takes over the candidate that has become the primary, if there is one. The caller holds mu.
func (s *Store) connect(route Route) (*DB, error) {
	c := s.warmed[route.Shard]
	if c == nil {
		return s.cfg.Open(route)
	}
	if !c.becomes(route) {
		s.discard(c)
		return s.cfg.Open(route)
	}
	delete(s.warmed, route.Shard)
	return c.db, nil
}
