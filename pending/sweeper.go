package pending

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

const (
	// sweepBatch is how many owners a sweep settles at a time; the next ones follow at once if there are more.
	sweepBatch = 512
	// sweepPatience bounds the time for a batch. A lane waits for as long as its shard does not say what became of a COMMIT,
	// and the other shards have to be swept meanwhile.
	sweepPatience = 5 * time.Second
)

// SweeperConfig is what a sweeper needs.
type SweeperConfig struct {
	Shards func() []int
	Every  time.Duration // pause between sweeps of a shard that had nothing more to do

	// Due lists owners of a shard who have expired holds, at most limit of them, the longest overdue first.
	Due func(ctx context.Context, shard, limit int) (owners []string, err error)
	// Expire settles the expired holds of an owner.
	Expire func(ctx context.Context, owner string) error
	// Tend finishes transfers of units from a shard that somebody has left half-way. Nil: there are none.
	Tend func(ctx context.Context, shard int) error
	// Lead reports whether this instance is the one to sweep a shard now. It saves work and decides nothing: a sweep by two
	// is harmless. Nil: always.
	Lead func(ctx context.Context, shard int) bool

	Log *slog.Logger
}

// Sweeper settles expired holds and finishes transfers in the background.
type Sweeper struct{ cfg SweeperConfig }

// NewSweeper returns a sweeper; Run starts it.
func NewSweeper(cfg SweeperConfig) *Sweeper { return &Sweeper{cfg: cfg} }

// Run sweeps every shard in turn until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.cfg.Every):
		}
		for _, shard := range s.cfg.Shards() {
			if err := s.sweep(ctx, shard); err != nil && ctx.Err() == nil {
				s.cfg.Log.WarnContext(ctx, "could not sweep expired holds; they stay expired for every reader", "shard", shard, "error", err)
			}
			if err := s.tend(ctx, shard); err != nil && ctx.Err() == nil {
				s.cfg.Log.WarnContext(ctx, "could not finish transfers; their units stay in transit", "shard", shard, "error", err)
			}
		}
	}
}

// sweep goes on while each batch has other owners than the one before. The same ones come again if they are blocked, or if the
// clock of the shard is behind ours: then it is time to wait.
func (s *Sweeper) sweep(ctx context.Context, shard int) error {
	if s.cfg.Lead != nil && !s.cfg.Lead(ctx, shard) {
		return nil
	}
	var before []string
	for {
		owners, err := s.batch(ctx, shard)
		if len(owners) < sweepBatch || slices.Equal(owners, before) {
			return err
		}
		before = owners
	}
}

// tend finishes what is in transit.
func (s *Sweeper) tend(ctx context.Context, shard int) error {
	if s.cfg.Tend == nil || s.cfg.Lead != nil && !s.cfg.Lead(ctx, shard) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	return s.cfg.Tend(ctx, shard)
}

// batch returns the owners whom it tried to settle.
func (s *Sweeper) batch(ctx context.Context, shard int) (owners []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	if owners, err = s.cfg.Due(ctx, shard, sweepBatch); err != nil {
		return nil, fmt.Errorf("list overdue holds: %w", err)
	}
	return owners, s.expire(ctx, owners)
}

// expire settles the owners side by side, so that a lane can batch them.
func (s *Sweeper) expire(ctx context.Context, owners []string) error {
	results := make(chan error, len(owners))
	for _, owner := range owners {
		go func() { results <- s.cfg.Expire(ctx, owner) }()
	}
	var first error
	for range owners {
		if err := <-results; err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		return fmt.Errorf("settle expired holds: %w", first)
	}
	return nil
}
