package shard

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ReadLease is how long the register's word that a shard serves in an epoch allows reads of that epoch to be answered, where the
// shard can fail over. Whoever lets another primary serve must wait for as long, unless all instances have said that they are
// closed to the old one. Renewals are about three times as frequent.
const ReadLease = 200 * time.Millisecond

// A reader whose lease is over waits a moment for the next renewal, which is mostly under way.
const (
	leasePatience = 100 * time.Millisecond
	leaseStep     = 5 * time.Millisecond
)

// certify returns nil if what was read by route before this call may be shown. A primary that was cut off and does not know it
// answers reads with what it has, so after the answer is there it must be certain that no newer primary had begun to serve: the
// routes were compared with the register less than a lease ago, and said that this one serves. Asking before the read would prove
// nothing about its end. Where the process can be suspended between this answer and the use of it, it proves as little.
//
// It fails with ErrStaleRoute if the route has changed, and with ErrFailover if the register is silent.
func (s *Store) certify(ctx context.Context, route Route) error {
	if s.cfg.ReadLease == 0 {
		return nil
	}
	for waited := time.Duration(0); ; waited += leaseStep {
		valid, err := s.leased(route)
		if valid || err != nil {
			return err
		}
		if waited >= leasePatience {
			return fmt.Errorf("the register was not heard for longer than a read may be trusted: %w", ErrFailover)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: wait for the register: %w", ErrOverloaded, ctx.Err())
		case <-time.After(leaseStep):
		}
	}
}

// leased reports whether the lease of a route is valid. What it looks at, it looks at in this order: the routes are at least as
// new as the time at which they were fresh, and the clock is read last.
func (s *Store) leased(route Route) (bool, error) {
	freshAt := s.cfg.Routes.FreshAt()
	current, err := s.cfg.Routes.Shard(route.Shard)
	if err != nil {
		return false, err
	}
	if current != route.ofShard() {
		return false, fmt.Errorf("shard %d went from epoch %d to %d during a read: %w", route.Shard, route.Epoch, current.Epoch, ErrStaleRoute)
	}
	return s.cfg.Committer.Now().Sub(freshAt) < s.cfg.ReadLease, nil
}

// isRefusal reports that a reply is what the rules say of the rows as they were read, without any trace in the shard: no COMMIT
// proves that the primary was one.
func (r Reply) isRefusal() bool {
	if r.Err == nil {
		return false
	}
	for _, ours := range []error{ErrOverloaded, ErrStaleRoute, ErrFailover, ErrOutcomeUnknown, ErrInternal} {
		if errors.Is(r.Err, ours) {
			return false
		}
	}
	return true
}
