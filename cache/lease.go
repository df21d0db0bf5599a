package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

// leaseTTL is how long a dead holder keeps others from its work.
const leaseTTL = 10 * time.Second

// Leases hands out leases on named background work. They save work and protect nothing: two holders at once are possible
// and must be harmless.
type Leases struct {
	locks *redsync.Redsync

	mu   sync.Mutex
	held map[string]*redsync.Mutex
}

// NewLeases returns leases kept in a Redis of the coordination role (noeviction).
func NewLeases(client *redis.Client) *Leases {
	return &Leases{locks: redsync.New(goredis.NewPool(client)), held: map[string]*redsync.Mutex{}}
}

// Lead reports whether this instance holds the lease on work now, taking or extending it. Without Redis everybody leads:
// the work is then done more than once, but it is done.
func (l *Leases) Lead(ctx context.Context, work string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m, ok := l.held[work]; ok {
		if extended, err := m.ExtendContext(ctx); extended && err == nil {
			return true
		}
		delete(l.held, work)
	}
	m := l.locks.NewMutex("lease:"+work, redsync.WithExpiry(leaseTTL), redsync.WithTries(1))
	err := m.TryLockContext(ctx)
	if err == nil {
		l.held[work] = m
		return true
	}
	_, taken := errors.AsType[*redsync.ErrTaken](err)
	return !taken
}

// Release gives all leases back, so that others need not wait for their end.
func (l *Leases) Release(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for work, m := range l.held {
		delete(l.held, work)
		if _, err := m.UnlockContext(ctx); err != nil {
			return fmt.Errorf("release the lease on %s: %w", work, err)
		}
	}
	return nil
}
