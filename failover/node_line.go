package failover

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"

	"github.com/go-sql-driver/mysql"
)

// line is a connection that is kept open, for one user at a time. It is opened again when it is broken, so only steps that need
// nothing of their session use it.
type line struct {
	pool *sql.DB
	turn chan struct{} // whoever has sent to it may use conn
	conn *sql.Conn
}

func newLine(pool *sql.DB) *line { return &line{pool: pool, turn: make(chan struct{}, 1)} }

// use runs f on the connection. If a connection of an earlier use turns out to be broken, f runs again on a new one: a server that was
// restarted answers, and one that is gone refuses, which says more than a connection that has ended.
func (l *line) use(ctx context.Context, f func(*sql.Conn) error) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	old := l.conn != nil
	err := l.try(ctx, f)
	if old && l.conn == nil && ctx.Err() == nil {
		err = l.try(ctx, f)
	}
	return err
}

func (l *line) try(ctx context.Context, f func(*sql.Conn) error) error {
	if l.conn == nil {
		conn, err := l.pool.Conn(ctx)
		if err != nil {
			return err
		}
		l.conn = conn
	}
	err := f(l.conn)
	if broken(err) {
		l.conn.Close()
		l.conn = nil
	}
	return err
}

func (l *line) close() {
	l.turn <- struct{}{}
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
	<-l.turn
}

// broken says whether a connection is of no use after an error: all are but those that the server has sent, and among those the
// ones with which it says goodbye.
func broken(err error) bool {
	if err == nil || errors.Is(err, sql.ErrNoRows) {
		return false
	}
	refusal, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return !refused(err)
	}
	return refusal.Number == errServerShutdown || refusal.Number == errConnectionKilled
}

// refused reports the errors of this package: the server answered, and we did not like it.
func refused(err error) bool {
	for _, own := range []error{ErrPromised, ErrNotDrained, ErrNotEstablished, ErrWaiting, errReceives, errAnswer} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// Numbers of the server's errors.
const (
	errUnknownDatabase  = 1049
	errServerShutdown   = 1053
	errUnknownThread    = 1094
	errUnknownTable     = 1146
	errConnectionKilled = 1927
)

func isNumber(err error, numbers ...uint16) bool {
	refusal, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && slices.Contains(numbers, refusal.Number)
}

// waiter runs something that may wait for an acknowledgement for as long as there is none. Callers come and go: one that leaves
// does not stop it, and the next one waits for the same.
type waiter struct {
	mu      sync.Mutex
	running *attempt
}

type attempt struct {
	epoch uint64
	done  chan struct{}
	err   error // when done is closed
}

// run returns f's error, or ErrUnacknowledged if ctx ends first. Attempts of two epochs never share a result.
func (w *waiter) run(ctx context.Context, work *sync.WaitGroup, epoch uint64, f func() error) error {
	a := w.join(work, epoch, f)
	select {
	case <-a.done:
	case <-ctx.Done():
		return errors.Join(ErrUnacknowledged, ctx.Err())
	}
	if a.epoch != epoch {
		return ErrNotFenced
	}
	return a.err
}

func (w *waiter) join(work *sync.WaitGroup, epoch uint64, f func() error) *attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running != nil {
		return w.running
	}
	a := &attempt{epoch: epoch, done: make(chan struct{})}
	w.running = a
	work.Go(func() {
		a.err = f()
		w.mu.Lock()
		w.running = nil
		w.mu.Unlock()
		close(a.done)
	})
	return a
}
