package shard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/statesvc/statesvc/shard/failpoint"
)

// lane owns a queue and a connection, and runs one batch after the other.
type lane struct {
	*Committer
	number  int
	queue   *queue
	conn    *sql.Conn // nil until used, and after it broke
	ready   prepared  // of conn
	warned  time.Time // when the log last heard that the shard takes no writes
	tick    string    // SQL that writes the batch's time down; empty: nobody needs it
	caution int       // batches that look up their keys at once
	packet  *Packet   // reused; a lane has one packet under way

	batch context.Context // of the span of the batch under way; nil: not traced
}

func newLane(c *Committer, number int) *lane {
	l := &lane{Committer: c, number: number, queue: newQueue(c.cfg.Queue), packet: newPacket(c.cfg.DB.Dialect)}
	if c.cfg.Source != "" {
		l.tick = c.cfg.DB.Dialect.tick(c.cfg.Source + "/" + strconv.Itoa(number))
	}
	return l
}

func (l *lane) run() {
	defer l.dropConn()
	var calls []*call
	for {
		if calls = l.queue.take(calls, l.cfg.Batch); calls == nil {
			return
		}
		if live := l.rehearse(l.alive(calls)); len(live) > 0 {
			l.decide(live, l.wary())
		}
		if l.slow.Load() {
			l.rest()
		}
	}
}

// rest lets more operations gather.
func (l *lane) rest() {
	select {
	case <-time.After(slowPause):
	case <-l.ctx.Done():
	}
}

// wary says whether the next batch should look up its keys at once: repeats come in crowds, after a failover above all, and each
// batch with one of them would run twice.
func (l *lane) wary() bool {
	l.caution = max(l.caution-1, 0)
	return l.caution > 0
}

// alive takes the calls that are still wanted. A call past its deadline is dropped here, before it has any effect, and
// never later.
func (l *lane) alive(calls []*call) []*call {
	now := l.cfg.Now()
	live := calls[:0]
	for _, c := range calls {
		switch {
		case !c.take():
		case l.ctx.Err() != nil:
			c.answer(Reply{Err: ErrClosed})
		case l.abandoned.Load():
			c.answer(Reply{Err: errAbandoned})
		case !c.deadline.IsZero() && now.After(c.deadline):
			c.answer(Reply{Err: fmt.Errorf("taken after its deadline: %w", ErrOverloaded)})
		default:
			l.cfg.Metrics.waited(now.Sub(c.queuedAt))
			live = append(live, c)
		}
	}
	return live
}

// decide runs calls as one transaction until each has its answer. Trouble that other instances cause is met by running the
// batch again, trouble of our own by splitting it until the guilty operation is alone. For collided see Machine.NewBatch.
func (l *lane) decide(calls []*call, collided bool) {
	var last error
	duplicates := 0
	for range maxBatchRetries {
		if l.abandoned.Load() {
			l.refuse(calls, errAbandoned)
			return
		}
		t, err := l.traced(calls, collided)
		if err == nil {
			if again := l.answer(t); len(again) > 0 {
				l.decide(again, true)
			}
			return
		}
		if errors.Is(err, errUndecided) {
			l.warn("a COMMIT got no answer", err)
			l.suspect(err)
			l.undecided(t)
			return
		}
		f := classify(err)
		l.cfg.Metrics.retried(l.cfg.Shard, f)
		switch {
		case isRetryable(f):
			if f == faultDuplicate {
				collided, l.caution = true, cautious
				duplicates++
			}
			last = err
			continue
		case f == faultBug || f == faultLarge:
			l.split(calls, collided, err)
			return
		case f == faultStale:
			l.refuse(calls, fmt.Errorf("%w: %w", ErrStaleRoute, err))
			return
		}
		l.lost(calls, err)
		return
	}
	l.exhausted(calls, collided, last, duplicates)
}

// lost ends a batch that did not reach the server, or lost it before COMMIT was sent.
func (l *lane) lost(calls []*call, err error) {
	if l.abandoned.Load() {
		l.refuse(calls, errAbandoned)
		return
	}
	l.warn("the shard takes no writes", err)
	l.suspect(err)
	l.refuse(calls, fmt.Errorf("%w: %w", errUnreachable, err))
}

// warn tells the log why callers are turned away, once in a while: a dead shard fails many batches a second.
func (l *lane) warn(what string, err error) {
	if now := l.cfg.Now(); now.Sub(l.warned) >= warnEvery {
		l.warned = now
		l.cfg.Log.Warn("a batch did not commit", "what", what, "shard", l.cfg.Shard, "lane", l.number, "error", err)
	}
}

// exhausted ends a batch that lost every race. A duplicate key that comes again and again is no race, so the batch is
// split to find it, and then it is a bug: whoever is told to try again would occupy the lane as long the next time. A single
// operation that lost other races is handed back.
func (l *lane) exhausted(calls []*call, collided bool, last error, duplicates int) {
	if len(calls) > 1 || duplicates == maxBatchRetries {
		l.split(calls, collided, last)
		return
	}
	l.refuse(calls, fmt.Errorf("%w: lost %d races for its rows: %w", ErrOverloaded, maxBatchRetries, last))
}

// split runs the halves of a batch that violated a constraint as transactions of their own.
func (l *lane) split(calls []*call, collided bool, err error) {
	if len(calls) > 1 {
		half := len(calls) / 2
		l.decide(calls[:half], collided)
		l.decide(calls[half:], collided)
		return
	}
	op := calls[0].op
	l.cfg.Log.Error("an operation violates an invariant and was rolled back; this is a bug",
		"shard", l.cfg.Shard, "kind", op.Kind, "bucket", op.Bucket, "error", err)
	l.cfg.Metrics.poisoned(l.cfg.Shard)
	l.refuse(calls, fmt.Errorf("%w: %w", ErrInternal, err))
}

func (l *lane) refuse(calls []*call, err error) {
	for _, c := range calls {
		c.answer(Reply{Err: err})
	}
}

// answer returns the calls that were not decided, because the domain has to look up more for them.
func (l *lane) answer(t *transaction) (again []*call) {
	for i, c := range t.calls {
		if !t.collided && errors.Is(t.replies[i].Err, ErrLookUp) {
			again = append(again, c)
			continue
		}
		c.answer(t.replies[i])
	}
	return again
}

// transact runs one attempt. Its error is errUndecided if and only if COMMIT may have been executed; any other error
// means that the transaction left no trace. With errUndecided it also returns the transaction.
func (l *lane) transact(calls []*call, collided bool) (t *transaction, err error) {
	start := l.cfg.Now()
	defer l.cfg.DB.takeTurn()()
	l.cfg.FailPoints.Hit(failpoint.BeforeBegin)
	t = newTransaction(l.cfg.DB.Dialect, l.cfg.DB.clock(), l.tick, l.cfg.Epoch, calls, l.cfg.Machine, collided)
	if err := l.loadWithRetry(t); err != nil {
		l.rollback(err)
		return nil, fmt.Errorf("load a batch of %d: %w", len(calls), err)
	}
	loaded := l.cfg.Now()
	if t.fence != l.cfg.Epoch {
		l.rollback(nil)
		return nil, fmt.Errorf("the shard is at epoch %d (0: none of the buckets is its own), the route at %d: %w",
			t.fence, l.cfg.Epoch, errStaleEpoch)
	}
	t.decide()
	l.cfg.FailPoints.Hit(failpoint.AfterLoad)
	decided := l.cfg.Now()
	if err := l.commit(t); err != nil {
		return t, err
	}
	l.cfg.FailPoints.Hit(failpoint.AfterCommit)
	l.cfg.Metrics.batch(l.ctx, l.cfg.Shard, t, start, loaded, decided, l.cfg.Now())
	return t, nil
}

// loadWithRetry runs round trip 1, once more on a new connection if the kept one turns out to be dead: nothing was
// written yet, so nothing can happen twice.
func (l *lane) loadWithRetry(t *transaction) error {
	fresh := l.conn == nil
	err := l.loadRounds(t)
	if err == nil || fresh || !connectionGone(err) {
		return err
	}
	l.dropConn()
	*t = *newTransaction(t.d, t.clock, t.tick, t.epoch, t.calls, l.cfg.Machine, t.collided)
	return l.loadRounds(t)
}

func (l *lane) loadRounds(t *transaction) error {
	ctx, cancel := context.WithTimeout(l.ctx, defaultRoundTrip)
	defer cancel()
	l.packet.reset()
	t.load(l.packet)
	for round := 1; ; round++ {
		trip := l.begin(tripLoad, round)
		err := l.raw(ctx, func(c driver.Conn) error { return l.packet.send(ctx, c, l.ready) })
		if l.end(trip, err); err != nil {
			return err
		}
		l.packet.reset()
		if t.domain.Load(l.packet, round); l.packet.Empty() {
			return nil
		}
	}
}

// commit is round trip 2. After the first byte of the packet with COMMIT may have left, only an answer of the server tells whether
// the transaction took place, so every error that is not such an answer makes the batch undecided.
func (l *lane) commit(t *transaction) error {
	l.packet.reset()
	if !t.write(l.packet) {
		l.rollback(nil)
		return nil
	}
	l.packet.commit()
	if l.packet.bytes > maxPacketBytes {
		l.rollback(nil)
		return fmt.Errorf("a batch of %d writes %d bytes: %w", len(t.calls), l.packet.bytes, errTooLarge)
	}
	l.cfg.FailPoints.Hit(failpoint.BeforeCommit)
	l.sending.Add(1)
	defer l.sending.Add(-1)
	if l.abandoned.Load() {
		l.rollback(nil)
		return errAbandoned
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), defaultCommitWait)
	defer cancel()
	trip := l.begin(tripWrite, 0)
	err := l.raw(ctx, func(c driver.Conn) error { return l.packet.send(ctx, c, l.ready) })
	if l.end(trip, err); err == nil {
		return nil
	}
	l.rollback(err)
	if !l.packet.commitsSent || errors.Is(err, driver.ErrBadConn) || classify(err) != faultLost {
		return fmt.Errorf("write a batch of %d: %w", len(t.calls), err)
	}
	return fmt.Errorf("write a batch of %d: %w: %w", len(t.calls), errUndecided, err)
}

// undecided hands what the batch has decided to the resolver and answers with what it found. The lane stays closed meanwhile:
// its owners must not be written to, and a shard in trouble gets no more sessions that wait. Operations that wrote nothing are run
// again afterwards, because what they were refused for may not have happened; one that the shard does not serve is answered at
// once, for it could never be settled.
func (l *lane) undecided(t *transaction) {
	var ops []*Op
	var again []*call
	byOp := make(map[*Op]*call, len(t.calls))
	for i, c := range t.calls {
		switch err := t.replies[i].Err; {
		case err == nil:
			ops = append(ops, c.op)
			byOp[c.op] = c
		case errors.Is(err, ErrStaleRoute):
			c.answer(t.replies[i])
		default:
			again = append(again, c)
		}
	}
	l.cfg.Metrics.undecided(l.cfg.Shard, len(ops))
	fates := l.cfg.Undecided(l.ctx, UndecidedBatch{Shard: l.cfg.Shard, Epoch: l.cfg.Epoch, Ops: ops})
	for _, f := range fates {
		c := byOp[f.Op]
		delete(byOp, f.Op)
		if f.Verdict != Aborted {
			c.answer(Reply{Verdict: f.Verdict, Body: f.Body})
			continue
		}
		if c.attempts++; c.attempts < maxAttempts && (c.deadline.IsZero() || l.cfg.Now().Before(c.deadline)) {
			again = append(again, c)
			continue
		}
		c.answer(Reply{Err: fmt.Errorf("the attempt was undone: %w", ErrFailover)})
	}
	for _, c := range byOp {
		c.answer(Reply{Err: ErrOutcomeUnknown})
	}
	if len(again) > 0 {
		l.decide(again, true)
	}
}

// raw runs f on the lane's connection.
func (l *lane) raw(ctx context.Context, f func(driver.Conn) error) error {
	if l.conn == nil {
		conn, err := l.cfg.DB.writes.Conn(ctx)
		if err != nil {
			return fmt.Errorf("connect to shard %d: %w", l.cfg.Shard, err)
		}
		l.conn, l.ready = conn, prepared{}
	}
	return l.conn.Raw(func(c any) error { return f(c.(driver.Conn)) })
}

// rollback leaves the connection without a transaction, or leaves no connection.
func (l *lane) rollback(cause error) {
	if l.conn == nil {
		return
	}
	if cause != nil && connectionGone(cause) {
		l.dropConn()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), time.Second)
	defer cancel()
	trip := l.begin(tripRollback, 0)
	_, err := l.conn.ExecContext(ctx, "ROLLBACK")
	if notInTransaction(err) {
		err = nil
	}
	if l.end(trip, err); err != nil {
		l.dropConn()
	}
}

// dropConn closes the connection itself and does not give it back to the pool.
func (l *lane) dropConn() {
	if l.conn == nil {
		return
	}
	discard(l.conn)
	_ = l.conn.Close()
	l.conn = nil
}

// discard keeps a connection from going back to its pool.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // how database/sql is told so
}
