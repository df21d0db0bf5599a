package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Limits of borrowing, each with its reason.
const (
	maxParked     = 4096             // operations of this instance that wait for a round: as many as a lane's queue has
	maxRounds     = 64               // rounds that one operation waits for, while others take what was borrowed for it
	roundPatience = 10 * time.Second // of one round: it goes on without those who waited for it
	reclaimBatch  = 256              // owners whose expired holds are settled before a slice is asked again
	maxTurns      = 16               // of one round, while units come and go under its hands
	finishBatch   = 64               // transfers that a sweep finishes
	finishAfter   = 2 * time.Second  // age of a transfer that somebody has probably abandoned
	idleBatch     = 64               // slices that a sweep asks to give back
)

// home is the number of no shard: where units are gathered for the home itself.
const home = 0

// broker moves units between homes and slices. For each quota and each of its ends there is one round at a time, and everybody who
// has come before it began shares what it finds. Rounds have goroutines of their own, outside of all lanes.
type broker struct {
	l      *Ledger
	mu     sync.Mutex
	next   map[end]*round // that have not begun
	parked int
	closed bool
	ctx    context.Context // ends when the ledger is closed
	cancel context.CancelFunc
	rounds sync.WaitGroup
}

// end is where units are wanted: the slice of a shard, or home.
type end struct {
	quota string
	shard int
}

// round is one attempt at getting units to where they are wanted.
type round struct {
	lack
	done chan struct{}
	end  verdict // when it is done
}

// verdict is what a round has found out.
type verdict struct {
	dry     bool  // there was nothing anywhere
	unknown bool  // there is no such quota
	err     error // an end could not be asked; nothing is known
}

func newBroker(l *Ledger) *broker {
	b := &broker{l: l, next: map[end]*round{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// close stops the rounds under way where they are, and waits for them. What they leave, any instance can finish.
func (b *broker) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	b.rounds.Wait()
}

// join adds a wish to the next round at an end, and starts it if none is under way.
func (b *broker) join(at end, wish lack) (*round, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.parked >= maxParked {
		return nil, shard.ErrOverloaded
	}
	r, running := b.next[at]
	if r == nil {
		r = &round{lack: lack{quota: at.quota}, done: make(chan struct{})}
		b.next[at] = r
	}
	r.need = min(r.need+wish.need, MaxAmount)
	r.want = max(r.want, wish.want)
	r.due = r.due || wish.due
	if !running {
		b.rounds.Go(func() { b.run(at) })
	}
	return r, nil
}

// run makes rounds at an end for as long as there are wishes. While it runs, next has the end, with nil if nobody wants one.
func (b *broker) run(at end) {
	for {
		b.mu.Lock()
		r := b.next[at]
		if r == nil {
			delete(b.next, at)
			b.mu.Unlock()
			return
		}
		b.next[at] = nil
		b.mu.Unlock()
		ctx, cancel := context.WithTimeout(b.ctx, roundPatience)
		r.end = b.turn(ctx, at, &r.lack)
		cancel()
		close(r.done)
	}
}

// ahead wishes for units that nobody waits for.
func (b *broker) ahead(at end, wish lack) {
	_, _ = b.join(at, wish) // who cannot wish will have to wait
}

// wait is join for an operation that cannot go on without.
func (b *broker) wait(ctx context.Context, at end, wish lack) verdict {
	r, err := b.join(at, wish)
	if err != nil {
		return verdict{err: err}
	}
	b.park(1)
	defer b.park(-1)
	select {
	case <-r.done:
		return r.end
	case <-ctx.Done():
		return verdict{err: fmt.Errorf("%w: waited for %s until the deadline", shard.ErrOverloaded, at.quota)}
	}
}

func (b *broker) park(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parked += n
}

// turn gets units to an end, or finds that there are none.
func (b *broker) turn(ctx context.Context, at end, wish *lack) verdict {
	if wish.due {
		if n, err := b.reclaim(ctx, at); err != nil || n > 0 {
			return verdict{err: err}
		}
	}
	var seen *lent // the home when it was dry and every slice was asked
	for range maxTurns {
		told, err := b.borrow(ctx, at, wish)
		switch {
		case err != nil:
			return verdict{err: err}
		case told.unknown:
			return verdict{unknown: true}
		case told.transfer.seq != 0:
			return verdict{err: b.finish(ctx, &told.transfer)}
		case seen != nil && seen.ver == told.ver && len(told.others) == 0:
			return verdict{dry: true}
		}
		moved, err := b.gather(ctx, at, &told, wish.need)
		if err != nil {
			return verdict{err: err}
		}
		if moved && at.shard == home {
			return verdict{}
		}
		seen = nil
		if !moved {
			seen = &told
		}
	}
	return verdict{err: fmt.Errorf("%w: the units of %s come and go", ErrQuotaUnavailable, at.quota)}
}

// borrow asks the home for units. A round for the home itself only asks whether it is dry.
func (b *broker) borrow(ctx context.Context, at end, wish *lack) (lent, error) {
	op := &borrowOp{lack: *wish, shard: at.shard, shards: max(len(b.l.cfg.Store.Shards()), 1)}
	op.quota = at.quota
	if err := b.l.mint(&op.id, id.Transfer, at.quota); err != nil {
		return lent{}, err
	}
	if err := b.submit(ctx, &shard.Op{Owner: at.quota, Bucket: shard.BucketOf(at.quota), Kind: kindBorrow, Body: op}); err != nil {
		return lent{}, err
	}
	return op.told, nil
}

// gather brings home what slices can spare, until it is as much as is needed, and finishes what is under way. It reports whether
// anything has moved.
func (b *broker) gather(ctx context.Context, at end, told *lent, need int64) (moved bool, err error) {
	for i := range told.others {
		if err := b.finish(ctx, &told.others[i]); err != nil {
			return moved, err
		}
		moved = true
	}
	for got := int64(0); len(told.shards) > 0 && got < need; told.shards = told.shards[1:] {
		amount := need - got
		if told.shards[0] == at.shard {
			amount = 0 // what it has it needs itself; but something may be on its way home
		}
		n, err := b.giveBack(ctx, end{at.quota, told.shards[0]}, amount)
		if err != nil {
			return moved, err
		}
		got += n
		moved = moved || n > 0
	}
	return moved, nil
}

// giveBack brings home units of a slice, at most so many, after expired holds on it were settled, and says how many.
func (b *broker) giveBack(ctx context.Context, from end, amount int64) (int64, error) {
	for range maxTurns {
		told, err := b.askBack(ctx, from, amount)
		switch {
		case err != nil:
			return 0, err
		case told.transfer.seq != 0:
			return told.transfer.amount, b.finish(ctx, &told.transfer)
		case !told.due || amount == 0:
			return 0, nil
		}
		if _, err := b.reclaim(ctx, from); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%w: the holds on %s do not end", ErrQuotaUnavailable, from.quota)
}

func (b *broker) askBack(ctx context.Context, from end, amount int64) (givenBack, error) {
	door, err := b.door(from.shard)
	if err != nil {
		return givenBack{}, err
	}
	op := &giveBackOp{quota: from.quota, shard: from.shard, amount: amount}
	if op.id, err = b.l.cfg.Minter.Mint(id.Transfer, uint16(door), uint16(from.shard)); err != nil {
		return givenBack{}, err
	}
	if err := b.submit(ctx, &shard.Op{Owner: slicesOwner, Bucket: door, Kind: kindGiveBack, Body: op}); err != nil {
		return givenBack{}, err
	}
	return op.told, nil
}

// finish lands a transfer and closes it. Each step may have been done before, by whomever.
func (b *broker) finish(ctx context.Context, t *transfer) error {
	land := &shard.Op{Owner: t.quota, Bucket: shard.BucketOf(t.quota), Kind: kindLand, Body: &landOp{*t}}
	if t.kind == transferGrant {
		door, err := b.door(t.shard)
		if err != nil {
			return err
		}
		land.Owner, land.Bucket = slicesOwner, door
	}
	if err := b.submit(ctx, land); err != nil {
		return err
	}
	source := &shard.Op{Owner: t.quota, Bucket: t.bucket, Kind: kindClose, Body: &closeOp{*t}}
	if t.kind == transferReturn {
		source.Owner = slicesOwner
	}
	return b.submit(ctx, source)
}

// door is a bucket by which operations on the slices of a shard reach it.
func (b *broker) door(number int) (shard.Bucket, error) {
	bucket, ok := b.l.cfg.Store.BucketOn(number)
	if !ok {
		return 0, fmt.Errorf("%w: shard %d has no bucket", shard.ErrFailover, number)
	}
	return bucket, nil
}

// submit runs an operation that is safe to repeat, again if nobody knows what became of it. After an error a lane may still work on
// it, so what it tells must not be read.
func (b *broker) submit(ctx context.Context, op *shard.Op) error {
	for {
		if err := b.l.cfg.Blocks(op.Owner, op.Bucket); err != nil {
			return err
		}
		r := b.l.cfg.Store.Submit(ctx, op)
		switch {
		case r.Err == nil || errors.Is(r.Err, errUnchanged):
			return nil
		case !errors.Is(r.Err, shard.ErrOutcomeUnknown) || ctx.Err() != nil:
			return fmt.Errorf("%s: %w", op.Kind, r.Err)
		}
	}
}

// expiredSQL reads an index in the order of its keys. It takes no locks.
const expiredSQL = "SELECT DISTINCT owner FROM hold_items WHERE quota = ? AND expires_at <= ? LIMIT ?"

// reclaim settles expired holds on a slice, as their owners' next operations would, and says of how many owners.
func (b *broker) reclaim(ctx context.Context, at end) (int, error) {
	door, err := b.door(at.shard)
	if err != nil {
		return 0, err
	}
	var owners []string
	err = b.l.cfg.Store.Read(ctx, door, func(tx *gorm.DB, now time.Time) error {
		owners = nil
		return tx.Raw(expiredSQL, at.quota, now.UnixMicro(), reclaimBatch).Scan(&owners).Error
	})
	if err != nil {
		return 0, fmt.Errorf("list expired holds on %s: %w", at.quota, err)
	}
	results := make(chan error, len(owners))
	for _, owner := range owners {
		go func() { results <- b.l.ExpireDue(ctx, owner) }()
	}
	for range owners {
		err = errors.Join(err, <-results)
	}
	return len(owners), err
}

// overdueSQL lists transfers that nobody has finished; it takes no locks.
const (
	transfersSQL = "SELECT bucket, transfer_id, kind, quota, shard, seq, amount, currency, created_at FROM transfers " +
		"WHERE created_at <= ? ORDER BY created_at LIMIT ?"
	idleSQL = "SELECT quota FROM slices WHERE taken_at <= ? AND available > 0 ORDER BY taken_at LIMIT ?"
)

// TendQuotas finishes the transfers from a shard that somebody has left, and sends home what its idle slices have. It is for a
// sweeper. Borrowing does without, but units that nobody asks for would stay in transit.
func (l *Ledger) TendQuotas(ctx context.Context, number int) error {
	door, err := l.broker.door(number)
	if err != nil {
		return err
	}
	left, idle, err := l.unfinished(ctx, door)
	if err != nil {
		return fmt.Errorf("list transfers: %w", err)
	}
	for i := range left {
		err = errors.Join(err, l.broker.finish(ctx, &left[i]))
	}
	for _, quota := range idle {
		_, failed := l.broker.giveBack(ctx, end{quota, number}, MaxAmount)
		err = errors.Join(err, failed)
	}
	if err != nil {
		return fmt.Errorf("tend the quotas of shard %d: %w", number, err)
	}
	return nil
}

func (l *Ledger) unfinished(ctx context.Context, door shard.Bucket) (left []transfer, idle []string, err error) {
	err = l.cfg.Store.Read(ctx, door, func(tx *gorm.DB, now time.Time) error {
		left, idle = nil, nil
		var records []transferRecord
		if err := tx.Raw(transfersSQL, now.Add(-finishAfter).UnixMicro(), finishBatch).Scan(&records).Error; err != nil {
			return err
		}
		for i := range records {
			left = append(left, records[i].transfer())
		}
		return tx.Raw(idleSQL, now.Add(-idleAfter).UnixMicro(), idleBatch).Scan(&idle).Error
	})
	return left, idle, err
}

// withUnits runs an operation that may need units from elsewhere. try is called until it ends otherwise than in a shortage; what a
// round has found out for it is told to note.
func (l *Ledger) withUnits(ctx context.Context, at int, try func() (Answer, error), note func(quota string, found verdict)) (Answer, error) {
	for range maxRounds {
		answer, err := try()
		short, ok := errors.AsType[*shortage](err)
		if !ok {
			return answer, err
		}
		for _, lacking := range short.lacks {
			found := l.broker.wait(ctx, end{lacking.quota, at}, lacking)
			if found.err != nil {
				return Answer{}, quotaUnavailable(lacking.quota, found.err)
			}
			note(lacking.quota, found)
		}
	}
	return Answer{}, quotaUnavailable("it", errors.New("others were always faster"))
}

// quotaUnavailable refuses for now what a quota might have after all.
func quotaUnavailable(quota string, cause error) error {
	r := refusal(ErrQuotaUnavailable, "", "whether there is more of "+quota+" elsewhere is not known")
	return fmt.Errorf("%w: %v", r, cause) //nolint:errorlint // the code is that of the quota, whatever the cause has for one
}

// noted adds to the sides of a hold what a round has found.
func (q *quotaSide) noted(quota string, found verdict) {
	switch {
	case found.dry && !slices.Contains(q.dry, quota):
		q.dry = append(q.dry, quota)
	case found.unknown && !slices.Contains(q.unknown, quota):
		q.unknown = append(q.unknown, quota)
	}
}
