package pending

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/statesvc/statesvc/blacklist"
	"github.com/statesvc/statesvc/shard"
)

// The resolver's clocks.
const (
	recordPatience  = time.Second          // how long an attempt to write records may take before the shard is asked anyway
	settlePatience  = 3 * time.Second      // bound of one attempt; above the shard's lock wait
	settlePauseMin  = 5 * time.Millisecond // the first attempt mostly succeeds: the connection was lost, not the shard
	settlePauseMax  = 500 * time.Millisecond
	warnEvery       = time.Second // between lines of the log about the same operations
	adoptAfter      = time.Second // age at which a record is taken over from whoever wrote it
	adoptEvery      = time.Second
	settleBatchSize = 200 // records settled in one transaction
)

// ResolverConfig is what a resolver needs.
type ResolverConfig struct {
	Instance  string
	Blacklist *blacklist.Blacklist
	// Primary returns where a shard is written to now.
	Primary func(shard int) (*shard.DB, uint64, error)
	// Changed is closed when that may have changed.
	Changed func() <-chan struct{}
	Now     func() time.Time
	Log     *slog.Logger
}

// Resolver decides outcomes that nobody heard.
type Resolver struct {
	cfg ResolverConfig

	mu   sync.Mutex
	mine map[recordID]bool // being decided by a lane of this instance, which answers a caller; not to be adopted
}

type recordID struct {
	shard      uint16
	owner, key string
}

// NewResolver returns a resolver; Run makes it adopt the records of others.
func NewResolver(cfg ResolverConfig) *Resolver { return &Resolver{cfg: cfg, mine: map[recordID]bool{}} }

// Undecided decides a batch of this instance; it is what a lane calls ([shard.Config.Undecided]). It returns when every
// operation with a key is decided, or when ctx ends. Operations without a key are background work that is safe to repeat:
// their fate is Aborted, which the transaction's locks make true or harmless.
func (r *Resolver) Undecided(ctx context.Context, u shard.UndecidedBatch) []shard.Fate {
	records := r.records(u)
	defer r.claim(records)()
	r.cfg.Log.WarnContext(ctx, "a COMMIT got no answer; its owners are blocked until the shard has decided",
		"shard", u.Shard, "epoch", u.Epoch, "operations", len(records))
	defer r.block(records)()
	settled, err := r.settleUntilDone(ctx, u.Shard, records)
	if err != nil {
		return nil // the records stay, and with them the blocks
	}
	r.forget(ctx, records)
	return fates(u.Ops, settled)
}

func (r *Resolver) records(u shard.UndecidedBatch) []blacklist.Undecided {
	var records []blacklist.Undecided
	for _, op := range u.Ops {
		if op.Key == "" {
			continue
		}
		records = append(records, blacklist.Undecided{
			Shard: uint16(u.Shard), Owner: op.Owner, Bucket: uint16(op.Bucket), Key: op.Key,
			Fingerprint: op.Fingerprint, Epoch: u.Epoch, Instance: r.cfg.Instance, At: r.cfg.Now(),
		})
	}
	return records
}

// fates puts the settled operations, which are those with a key, beside the batch's.
func fates(ops []*shard.Op, settled []shard.Settled) []shard.Fate {
	out := make([]shard.Fate, 0, len(ops))
	for _, op := range ops {
		fate := shard.Fate{Op: op, Verdict: shard.Aborted}
		if op.Key != "" {
			fate.Verdict, fate.Body = settled[0].Verdict, settled[0].Body
			settled = settled[1:]
		}
		out = append(out, fate)
	}
	return out
}

// claim keeps Run away from records that a lane is deciding.
func (r *Resolver) claim(records []blacklist.Undecided) (done func()) {
	r.setMine(records, true)
	return func() { r.setMine(records, false) }
}

func (r *Resolver) setMine(records []blacklist.Undecided, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range records {
		k := recordID{u.Shard, u.Owner, u.Key}
		if mine {
			r.mine[k] = true
		} else {
			delete(r.mine, k)
		}
	}
}

// block stops the owners on this instance at once; the register takes longer, and may be away. The reason is shown to every
// caller who asks for such an owner, so it does not name the key of somebody else's operation.
func (r *Resolver) block(records []blacklist.Undecided) (release func()) {
	const reason = "the outcome of an earlier write is being decided"
	releases := make([]func(), 0, len(records))
	for _, u := range records {
		releases = append(releases, r.cfg.Blacklist.BlockLocal(u.Owner, blacklist.HolderUndecided, reason))
	}
	return func() {
		for _, release := range releases {
			release()
		}
	}
}

// record tells the other instances, and reports whether it could. An instance that is being stopped tells them too: they are
// the ones who will settle what it leaves.
func (r *Resolver) record(ctx context.Context, records []blacklist.Undecided) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordPatience)
	defer cancel()
	err := r.cfg.Blacklist.PutUndecided(ctx, records)
	if err != nil {
		r.cfg.Log.ErrorContext(ctx, "could not record undecided outcomes; only this instance blocks their owners", "error", err)
	}
	return err == nil
}

// forget removes the records, and with them the blocks on other instances. What cannot be removed now is found decided
// by Run a moment later.
func (r *Resolver) forget(ctx context.Context, records []blacklist.Undecided) {
	if len(records) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordPatience)
	defer cancel()
	listed, err := r.cfg.Blacklist.ListUndecided(ctx, records[0].Shard)
	if err = errors.Join(err, r.cfg.Blacklist.DeleteUndecided(ctx, r.written(records, listed))); err != nil {
		r.cfg.Log.WarnContext(ctx, "could not remove decided records; they are removed later", "error", err)
	}
}

// written returns those of the listed records that the given ones became in the register. A record of the same operation
// that somebody else has written, or a later attempt of ours, is not decided by what we have heard.
func (r *Resolver) written(records, listed []blacklist.Undecided) []blacklist.Undecided {
	at := make(map[recordID]time.Time, len(records))
	for _, u := range records {
		at[recordID{u.Shard, u.Owner, u.Key}] = u.At
	}
	return slices.DeleteFunc(listed, func(u blacklist.Undecided) bool {
		ours, found := at[recordID{u.Shard, u.Owner, u.Key}]
		return !found || u.Instance != r.cfg.Instance || !u.At.Equal(ours)
	})
}

// settleUntilDone asks the shard until it answers. Before that it tells the other instances, and goes on trying for as long as
// it has to ask. A shard that fails over is asked again as soon as the routes say so. Without the register the shard is asked all the
// same: only if this instance dies before the answer is the outcome left to the clients' retries.
func (r *Resolver) settleUntilDone(ctx context.Context, number int, records []blacklist.Undecided) ([]shard.Settled, error) {
	recorded, warned := false, time.Time{}
	for pause := settlePauseMin; ; pause = min(2*pause, settlePauseMax) {
		changed := r.cfg.Changed()
		recorded = recorded || r.record(ctx, records)
		settled, err := r.settle(ctx, number, records)
		if err == nil {
			return settled, nil
		}
		if now := r.cfg.Now(); now.Sub(warned) >= warnEvery {
			warned = now
			r.cfg.Log.WarnContext(ctx, "the shard does not say yet what became of operations",
				"shard", number, "operations", len(records), "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("settle %d operations: %w", len(records), ctx.Err())
		case <-changed:
			pause = settlePauseMin / 2 // the next one is the first again
		case <-time.After(pause):
		}
	}
}

// settle asks the shard's primary of today, under the epoch of today: after a failover that is the new one, which has what
// the old one acknowledged and will never get the rest.
func (r *Resolver) settle(ctx context.Context, number int, records []blacklist.Undecided) ([]shard.Settled, error) {
	if len(records) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	db, epoch, err := r.cfg.Primary(number)
	if err != nil {
		return nil, err
	}
	us := make([]shard.Unsettled, len(records))
	for i, u := range records {
		us[i] = shard.Unsettled{Owner: u.Owner, Bucket: shard.Bucket(u.Bucket), Key: u.Key, Fingerprint: u.Fingerprint}
	}
	return db.Settle(ctx, epoch, us)
}

// Run decides records that have been there for longer than a moment: their instance died, or could not remove them.
func (r *Resolver) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(adoptEvery):
		}
		if _, err := r.adopt(ctx, blacklist.AllShards, adoptAfter); err != nil && ctx.Err() == nil {
			r.cfg.Log.WarnContext(ctx, "could not decide the undecided outcomes of others", "error", err)
		}
	}
}

// Resolve decides the records of a shard now, whatever their age, and returns how many were decided. It never decides
// by hand: the shard says what happened.
func (r *Resolver) Resolve(ctx context.Context, number uint16) (int, error) {
	return r.adopt(ctx, number, 0)
}

// adopt decides records that are at least as old as age. Neither a shard that does not answer nor a record that cannot be read
// keeps the owners of the others blocked.
func (r *Resolver) adopt(ctx context.Context, number uint16, age time.Duration) (int, error) {
	listed, err := r.cfg.Blacklist.ListUndecided(ctx, number)
	byShard := map[uint16][]blacklist.Undecided{}
	for _, u := range r.others(listed) {
		if r.isOld(u, age) {
			byShard[u.Shard] = append(byShard[u.Shard], u)
		}
	}
	type result struct {
		decided int
		err     error
	}
	results := make(chan result, len(byShard))
	for number, records := range byShard {
		go func() {
			decided, err := r.decide(ctx, int(number), records)
			results <- result{decided, err}
		}()
	}
	decided := 0
	for range byShard {
		one := <-results
		decided, err = decided+one.decided, errors.Join(err, one.err)
	}
	return decided, err
}

// isOld reports whether a record may be taken over from whoever wrote it. One from the future is old as well: the clock of its
// writer is wrong, and its owner must not stay blocked until that time comes.
func (r *Resolver) isOld(u blacklist.Undecided, age time.Duration) bool {
	return r.cfg.Now().Sub(u.At).Abs() >= age
}

// decide settles the records of a shard and removes them, until the shard does not answer. It returns how many it has removed.
func (r *Resolver) decide(ctx context.Context, number int, records []blacklist.Undecided) (decided int, err error) {
	for some := range slices.Chunk(records, settleBatchSize) {
		if _, err := r.settle(ctx, number, some); err != nil {
			return decided, fmt.Errorf("settle %d operations of shard %d: %w", len(some), number, err)
		}
		if err := r.cfg.Blacklist.DeleteUndecided(ctx, some); err != nil {
			return decided, fmt.Errorf("remove %d decided records of shard %d: %w", len(some), number, err)
		}
		decided += len(some)
	}
	return decided, nil
}

func (r *Resolver) others(listed []blacklist.Undecided) []blacklist.Undecided {
	r.mu.Lock()
	defer r.mu.Unlock()
	var others []blacklist.Undecided
	for _, u := range listed {
		if !r.mine[recordID{u.Shard, u.Owner, u.Key}] {
			others = append(others, u)
		}
	}
	return others
}
