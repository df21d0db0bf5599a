package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
)

// Errors of this package. Others come from package shard.
var (
	// ErrInvalid says that a request is wrong; nothing has happened.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound says that there is no webhook with this id.
	ErrNotFound = errors.New("no such webhook")
	// ErrTooMany says that the limit of webhooks is reached; nothing has happened.
	ErrTooMany = errors.New("too many webhooks")
)

// The clocks of a feed.
const (
	lookEvery    = 100 * time.Millisecond // between looks at a shard: the most that an event waits for its number
	lookPause    = 25 * time.Millisecond  // … the least: a look under load numbers many batches at once
	lookPatience = 3 * time.Second        // for a look, and for a step of numbering
	trimEvery    = time.Hour
	warnEvery    = 10 * time.Second
)

// Config is what a feed needs. All but Lead are required.
type Config struct {
	Ledger *ledger.Ledger
	Shards func() []int
	// Bucket is one that a shard serves; reads are fenced by it.
	Bucket  func(shard int) (shard.Bucket, bool)
	Primary func(shard int) (*shard.DB, uint64, error)
	// Lead reports whether this instance is the one to give numbers on a shard. It saves work and decides nothing. Nil: always.
	Lead func(ctx context.Context, shard int) bool
	Now  func() time.Time
	Log  *slog.Logger
}

// Feed gives events their numbers, and reads them.
type Feed struct {
	cfg Config

	mu      sync.Mutex
	last    map[int]int64 // newest sequence seen, by shard
	changed chan struct{} // closed and replaced when last changes
	wakers  map[int]chan struct{}
}

// NewFeed returns a feed; Run makes it give numbers.
func NewFeed(cfg Config) *Feed {
	return &Feed{cfg: cfg, last: map[int]int64{}, changed: make(chan struct{}), wakers: map[int]chan struct{}{}}
}

// Shards lists the shards that have events.
func (f *Feed) Shards() []int { return f.cfg.Shards() }

// Bucket is one that a shard serves; false if there is none.
func (f *Feed) Bucket(number int) (shard.Bucket, bool) { return f.cfg.Bucket(number) }

// Changed is closed when there may be more events than when it was called.
func (f *Feed) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// noticed tells those who wait that a shard has come to a sequence.
func (f *Feed) noticed(number int, last int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last <= f.last[number] {
		return
	}
	f.last[number] = last
	close(f.changed)
	f.changed = make(chan struct{})
}

// Run looks after every shard until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	var shards sync.WaitGroup
	for _, number := range f.cfg.Shards() {
		shards.Go(func() { f.follow(ctx, number) })
	}
	shards.Wait()
	return nil
}

func (f *Feed) follow(ctx context.Context, number int) {
	var warned, trimmed time.Time
	for wake := f.waker(number); f.await(ctx, wake); {
		err := f.look(ctx, number)
		now := f.cfg.Now()
		if err == nil && now.Sub(trimmed) >= trimEvery {
			trimmed, err = now, f.trim(ctx, number)
		}
		if err != nil && ctx.Err() == nil && now.Sub(warned) >= warnEvery {
			warned = now
			f.cfg.Log.WarnContext(ctx, "events get no numbers now; they get them later", "shard", number, "error", err)
		}
	}
}

// await waits until it is time for the next look; false: it is time to end.
func (f *Feed) await(ctx context.Context, wake <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(lookPause):
	}
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-time.After(lookEvery - lookPause):
	}
	return true
}

// look gives numbers if there is something to number, and says so if there is something new.
func (f *Feed) look(ctx context.Context, number int) error {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	db, epoch, err := f.cfg.Primary(number)
	if err != nil {
		return err
	}
	head, err := ledger.EventHeadOf(ctx, db)
	if err != nil {
		return err
	}
	for more := head.Waiting && f.leads(ctx, number); more; {
		if head.Last, more, err = ledger.NumberEvents(ctx, db, epoch); err != nil {
			return err
		}
	}
	f.noticed(number, head.Last)
	return nil
}

func (f *Feed) leads(ctx context.Context, number int) bool {
	return f.cfg.Lead == nil || f.cfg.Lead(ctx, number)
}

func (f *Feed) trim(ctx context.Context, number int) error {
	if !f.leads(ctx, number) {
		return nil
	}
	db, epoch, err := f.cfg.Primary(number)
	if err != nil {
		return err
	}
	for more := true; more && err == nil; {
		step, cancel := context.WithTimeout(ctx, lookPatience)
		more, err = ledger.TrimEvents(step, db, epoch, f.cfg.Now().Add(-ledger.EventsKept))
		cancel()
	}
	return err
}

// OfShard reads the events of a shard after a sequence, at most limit of them.
func (f *Feed) OfShard(ctx context.Context, number int, after int64, limit int) ([]ledger.FeedEvent, error) {
	bucket, known := f.cfg.Bucket(number)
	if !known {
		return nil, fmt.Errorf("shard %d serves no bucket: %w", number, shard.ErrStaleRoute)
	}
	return f.cfg.Ledger.EventsAfter(ctx, number, bucket, after, limit)
}

// After reads the events of all shards after a position, at most limit of them and of each shard its part, and the position after
// them. Shards that do not answer are left out, unless nothing else is found.
func (f *Feed) After(ctx context.Context, p Position, limit int) (found []ledger.FeedEvent, next Position, err error) {
	numbers := f.cfg.Shards()
	each := max(1, limit/max(1, len(numbers)))
	next = maps.Clone(p)
	var failed error
	for _, number := range numbers {
		some, err := f.OfShard(ctx, number, p[number], min(each, limit-len(found)))
		if errors.Is(err, ledger.ErrTrimmed) {
			return nil, nil, err
		}
		failed = errors.Join(failed, err)
		if len(some) > 0 {
			next[number] = some[len(some)-1].Sequence
		}
		if found = append(found, some...); len(found) >= limit {
			break
		}
	}
	if len(found) == 0 && failed != nil {
		return nil, nil, failed
	}
	return found, next, nil
}

// End is the position after all events that have a number now.
func (f *Feed) End(ctx context.Context) (Position, error) {
	p := Position{}
	for _, number := range f.cfg.Shards() {
		db, _, err := f.cfg.Primary(number)
		if err != nil {
			return nil, err
		}
		head, err := ledger.EventHeadOf(ctx, db)
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w: %w", number, shard.ErrFailover, err)
		}
		p[number] = head.Last
	}
	return p, nil
}
