package instance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// The clocks of readiness.
const (
	readyPatience = time.Second            // for all shards side by side; one that answers later is of no use to callers
	readyEvery    = 250 * time.Millisecond // everybody may ask /readyz; the shards are not asked more often than this
	viewPatience  = 2 * time.Second        // age of the routes at which they are no news any more; as that of the blacklist
)

// readiness is the newest answer of Ready.
type readiness struct {
	mu     sync.Mutex
	at     time.Time
	shards []shard.Condition
	err    error
}

// Ready returns nil if the instance can serve: what it knows of the register is fresh, and at least one shard takes writes. An
// instance whose other shards are down is ready, because their owners would fare no better anywhere else. The conditions are
// those of all shards of the map.
func (in *Instance) Ready(ctx context.Context) ([]shard.Condition, error) {
	r := &in.readiness
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := in.cfg.Now().Sub(r.at); age < 0 || age >= readyEvery {
		r.shards = in.conditions(ctx)
		r.err = in.missing(r.shards)
		r.at = in.cfg.Now()
	}
	return r.shards, r.err
}

// conditions asks all shards side by side. Whoever hangs up meanwhile must not spoil the answer for the others.
func (in *Instance) conditions(ctx context.Context) []shard.Condition {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyPatience)
	defer cancel()
	m, ok := in.Routes.Map()
	if !ok {
		return nil
	}
	conditions := make([]shard.Condition, len(m.Shards))
	var asked sync.WaitGroup
	for i, s := range m.Shards {
		asked.Go(func() {
			conditions[i] = shard.Condition{Shard: s.Number, Name: s.Name, Err: in.Store.Writable(ctx, s.Number)}
		})
	}
	asked.Wait()
	return conditions
}

// missing says why the instance cannot serve, or nil.
func (in *Instance) missing(shards []shard.Condition) error {
	if len(shards) == 0 {
		return errors.New("no shard map")
	}
	now := in.cfg.Now()
	if err := in.Blacklist.Err(now); err != nil {
		return err
	}
	if age := now.Sub(in.Routes.FreshAt()); age > viewPatience {
		return fmt.Errorf("the routes were not compared with the register for %s", age)
	}
	var errs []error
	for _, s := range shards {
		if s.Err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("shard %d: %w", s.Shard, s.Err))
	}
	return errors.Join(errs...)
}
