package ledger

import (
	"context"
	"errors"
	"fmt"
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
	short   bool  // nothing was moved, for there is too little
	most    int64 // if so: what there is elsewhere, all of it
	unknown bool  // there is no such quota
	err     error // an end could not be asked; nothing is known
}

// dry reports whether there is too little for a wish, everywhere.
func (v verdict) dry(wish lack) bool { return v.short && v.most < wish.need }

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
	if r.need == 0 || wish.need > 0 && wish.least < r.least {
		r.least = wish.least
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

// turn gets units to an end, or finds that there are too few to help anybody there. It moves nothing in vain: while the last units are
// fought for, they would travel for ever. What there is was seen as it was at one time if the home was the same before and after, for
// all units that travel pass through it. Units that become free on a slice after it was asked may be missed.
func (b *broker) turn(ctx context.Context, at end, wish *lack) verdict {
	if wish.due {
		if n, err := b.reclaim(ctx, at); err != nil || n > 0 {
			return verdict{err: err}
		}
	}
	var seen *survey
	for range maxTurns {
		told, err := b.borrow(ctx, at, wish)
		switch {
		case err != nil:
			return verdict{err: err}
		case told.unknown:
			return verdict{unknown: true}
		case told.transfer.seq != 0:
			return verdict{err: b.finish(ctx, &told.transfer)}
		case wish.need == 0:
			return verdict{} // nobody waits: slices are not asked
		case seen != nil && seen.ver == told.ver && len(told.others) == 0 && seen.elsewhere(at) < wish.least:
			return verdict{short: true, most: seen.elsewhere(at)}
		}
		if seen, err = b.survey(ctx, at, &told); err != nil {
			return verdict{err: err}
		}
		if seen.elsewhere(at) < wish.least {
			continue
		}
		if err := b.gather(ctx, at, seen, wish.need); err != nil {
			return verdict{err: err}
		}
		if at.shard == home {
			return verdict{}
		}
	}
	return verdict{err: fmt.Errorf("%w: the units of %s come and go", ErrQuotaUnavailable, at.quota)}
}

// survey is what there was of a quota: at home, and on the slices when they were asked.
type survey struct {
	ver       int64
	free      int64
	shards    []int
	available []int64 // by the index of shards
}

// elsewhere is what could come to an end. What it has itself is not counted: only what it lacks is asked for.
func (s *survey) elsewhere(at end) int64 {
	sum := int64(0)
	if at.shard != home {
		sum = s.free
	}
	for i, number := range s.shards {
		if number != at.shard {
			sum += s.available[i]
		}
	}
	return sum
}

// survey asks every slice what it has, after what is under way has arrived and expired holds are settled.
func (b *broker) survey(ctx context.Context, at end, told *lent) (*survey, error) {
	for i := range told.others {
		if err := b.finish(ctx, &told.others[i]); err != nil {
			return nil, err
		}
	}
	s := &survey{ver: told.ver, free: told.free, shards: told.shards}
	for _, number := range told.shards {
		from := end{at.quota, number}
		answer, err := b.giveBack(ctx, from, 0)
		for n := 0; err == nil && answer.due && number != at.shard; n++ {
			if n == maxTurns {
				return nil, fmt.Errorf("%w: the holds on %s do not end", ErrQuotaUnavailable, at.quota)
			}
			if _, err = b.reclaim(ctx, from); err == nil {
				answer, err = b.giveBack(ctx, from, 0)
			}
		}
		if err != nil {
			return nil, err
		}
		s.available = append(s.available, answer.available)
	}
	return s, nil
}

// gather brings home what other slices have, until with what is free it is as much as is needed.
func (b *broker) gather(ctx context.Context, at end, seen *survey, need int64) error {
	if at.shard != home {
		need -= seen.free
	}
	for i, number := range seen.shards {
		if need <= 0 {
			break
		}
		if number == at.shard || seen.available[i] == 0 {
			continue
		}
		answer, err := b.giveBack(ctx, end{at.quota, number}, need)
		if err != nil {
			return err
		}
		need -= answer.transfer.amount
	}
	return nil
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

// giveBack brings home units of a slice, at most so many, and what was under way already. It tells what the slice has said.
func (b *broker) giveBack(ctx context.Context, from end, amount int64) (givenBack, error) {
	told, err := b.askBack(ctx, from, amount)
	if err == nil && told.transfer.seq != 0 {
		err = b.finish(ctx, &told.transfer)
	}
	return told, err
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

// finish lands a transfer and closes it. Each step may have been done before, by whomever. That it is in is enough: if it cannot be
// closed now, whoever meets it next will do so.
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
	_ = b.submit(ctx, source)
	return nil
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
func (l *Ledger) withUnits(ctx context.Context, at int, try func() (Answer, error), note func(wish lack, found verdict)) (Answer, error) {
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
			note(lacking, found)
		}
	}
	return Answer{}, quotaUnavailable("a quota", errors.New("others were always faster"))
}

// quotaUnavailable refuses for now what a quota might have after all.
func quotaUnavailable(quota string, cause error) error {
	r := refusal(ErrQuotaUnavailable, "", "whether there is more of "+quota+" elsewhere is not known")
	return fmt.Errorf("%w: %v", r, cause) //nolint:errorlint // the code is that of the quota, whatever the cause has for one
}

// noted adds to the sides of a hold what a round has found.
func (q *quotaSide) noted(wish lack, found verdict) {
	switch {
	case found.dry(wish):
		q.dry = append(q.dry, wish.quota)
	case found.unknown:
		q.unknown = append(q.unknown, wish.quota)
	}
}
