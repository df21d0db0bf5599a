package failover

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"
)

// session is the connection on which a controller acts on a node. It holds the server's lock, which is how a successor finds and kills
// it, and writes nothing to the binary log unless it says so.
type session struct {
	conn    *sql.Conn
	epoch   uint64
	holder  string
	startID string // of the process at the other end; empty before it was fenced

	life context.Context // ends when the session is taken away from what it is doing
	end  context.CancelFunc
}

const (
	evictWaitSeconds = 1                     // for a killed session to end; it ends with its statement
	killPatience     = 30 * time.Millisecond // for a killed receiver to notice
	killPoll         = 5 * time.Millisecond  // between looks at whether it has ended
)

// The statements of a claim. The promise is read before the lock is taken, so that a controller of an older epoch evicts nobody; it is
// given after the lock, so that from then on nothing of an older epoch can act. Each locks one row that nobody else uses.
const (
	promiseSQL = "SELECT epoch, holder FROM statesvc_local.promise WHERE server_id=@@server_id"
	lockSQL    = "SELECT COALESCE(GET_LOCK(?,?),0)"
	lockedSQL  = "SELECT COALESCE(IS_USED_LOCK(?),0), CONNECTION_ID()"

	prepareSQL = "SET SESSION sql_log_bin=0; INSERT IGNORE INTO statesvc_local.promise (server_id, epoch, holder) VALUES (@@server_id,0,'')"
	giveSQL    = "UPDATE statesvc_local.promise SET epoch=?, holder=? WHERE server_id=@@server_id AND (epoch<? OR epoch=? AND holder<=?)"
)

// Claim opens the session of an epoch, takes it away from whoever has it, and makes the node promise that it will have nothing to
// do with older epochs. holder says which leadership acts in the epoch; of two in the same epoch the later one, by the order of text, takes
// over, and the earlier one gets ErrPromised.
func (n *Node) Claim(ctx context.Context, epoch uint64, holder string) error {
	return n.failed("claim", n.claim(ctx, epoch, holder))
}

func (n *Node) claim(ctx context.Context, epoch uint64, holder string) error {
	n.interrupt()
	if err := n.take(ctx); err != nil {
		return err
	}
	defer n.give()
	if n.held != nil && n.held.epoch == epoch && n.held.holder == holder && hasLock(ctx, n.held.conn) {
		return nil
	}
	n.drop()
	conn, err := n.pool.Conn(ctx)
	if err != nil {
		return err
	}
	if err := claim(ctx, conn, epoch, holder); err != nil {
		conn.Close()
		return err
	}
	n.hold(&session{conn: conn, epoch: epoch, holder: holder})
	return nil
}

func claim(ctx context.Context, conn *sql.Conn, epoch uint64, holder string) error {
	if err := refuseOld(ctx, conn, epoch, holder); err != nil {
		return err
	}
	if err := takeLock(ctx, conn, sessionLock); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, prepareSQL); err != nil {
		return fmt.Errorf("prepare the promise: %w", err)
	}
	result, err := conn.ExecContext(ctx, giveSQL, epoch, holder, epoch, epoch, holder)
	if err != nil {
		return fmt.Errorf("promise: %w", err)
	}
	if given, err := result.RowsAffected(); err != nil {
		return err
	} else if given == 1 {
		return shutOut(ctx, conn)
	}
	if err := refuseOld(ctx, conn, epoch, holder); err != nil {
		return err
	}
	return fmt.Errorf("the promise was neither given nor refused: %w", errAnswer)
}

// refuseOld returns a *PromisedError if the node belongs to somebody else.
func refuseOld(ctx context.Context, conn *sql.Conn, epoch uint64, holder string) error {
	sets, err := readSets(ctx, conn, promiseSQL)
	if err != nil {
		return fmt.Errorf("read the promise: %w", err)
	}
	row := first(sets, 0)
	if row == nil {
		return nil // nothing was ever promised
	}
	promised, err := strconv.ParseUint(row["epoch"], 10, 64)
	if err != nil {
		return fmt.Errorf("read the promise: %w", err)
	}
	if promised > epoch || promised == epoch && row["holder"] > holder {
		return &PromisedError{promised, row["holder"]}
	}
	return nil
}

// takeLock kills the session that has the lock. It cannot act any more when the lock is ours: a server gives up the locks of a session
// after its last statement. If that was the first commit of an epoch, which waited for an acknowledgement, the commit stays without
// one; nobody but controllers has seen that server since it was promoted, and the next epoch asks it what it has.
func takeLock(ctx context.Context, conn *sql.Conn, name string) error {
	var got int
	if err := conn.QueryRowContext(ctx, lockSQL, name, 0).Scan(&got); err != nil || got == 1 {
		return err
	}
	var holder, self int64
	if err := conn.QueryRowContext(ctx, lockedSQL, name).Scan(&holder, &self); err != nil {
		return fmt.Errorf("find the session that has the lock: %w", err)
	}
	if holder != 0 {
		if err := kill(ctx, conn, holder); err != nil {
			return err
		}
	}
	if err := conn.QueryRowContext(ctx, lockSQL, name, evictWaitSeconds).Scan(&got); err != nil {
		return fmt.Errorf("take the lock: %w", err)
	}
	if got != 1 {
		return fmt.Errorf("the session that was killed still has the lock: %w", ErrWaiting)
	}
	return nil
}

// kill ends a session or a thread of replication; one that is not there any more is fine.
func kill(ctx context.Context, conn *sql.Conn, id int64) error {
	_, err := conn.ExecContext(ctx, "KILL CONNECTION ?", id)
	if err != nil && !isNumber(err, errUnknownThread) {
		return fmt.Errorf("kill session %d: %w", id, err)
	}
	return nil
}

func hasLock(ctx context.Context, conn *sql.Conn) bool {
	var holder, self int64
	err := conn.QueryRowContext(ctx, lockedSQL, sessionLock).Scan(&holder, &self)
	return err == nil && holder == self
}

// act runs a step on the session of the epoch. A session that breaks meanwhile is gone: what it held is not held any more.
func (n *Node) act(ctx context.Context, epoch uint64, step string, f func(context.Context, *sql.Conn) error) error {
	if err := n.take(ctx); err != nil {
		return n.failed(step, err)
	}
	defer n.give()
	s := n.held
	if s == nil || s.epoch != epoch {
		return n.failed(step, ErrNotFenced)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	err := f(ctx, s.conn)
	if broken(err) {
		n.drop()
		err = fmt.Errorf("%w: %w", ErrNotFenced, err)
	}
	return n.failed(step, err)
}

// take and give guard the session.
func (n *Node) take(ctx context.Context) error {
	select {
	case n.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *Node) give() { <-n.turn }

// hold and drop are called by whoever has the turn.
func (n *Node) hold(s *session) {
	s.life, s.end = context.WithCancel(n.life)
	n.held = s
	n.mu.Lock()
	n.abandon, n.claimed = s.end, s
	n.mu.Unlock()
}

func (n *Node) drop() {
	if n.held == nil {
		return
	}
	n.mu.Lock()
	n.claimed = nil
	n.mu.Unlock()
	n.held.end()
	n.held.conn.Close()
	n.held = nil
}

// interrupt takes the session away from what it is doing, such as waiting for an acknowledgement; it is lost then. An idle session
// is left alone.
func (n *Node) interrupt() {
	select {
	case n.turn <- struct{}{}: // it is idle
		n.give()
	default:
		n.mu.Lock()
		n.abandon()
		n.mu.Unlock()
	}
}

// Release gives the session back; the promise stays.
func (n *Node) Release(ctx context.Context) error {
	return n.failed("release", n.release(ctx))
}

func (n *Node) release(ctx context.Context) error {
	n.interrupt()
	if err := n.take(ctx); err != nil {
		return err
	}
	defer n.give()
	n.drop()
	return nil
}

// Fenced is what a node is when it has stopped receiving. Received does not grow any more, and nothing beyond it was ever
// acknowledged by this node; after a restart it is zero, and Executed is all there is.
type Fenced struct {
	StartID  string
	ServerID uint32
	ReadOnly bool

	Received, Applied, Executed GTID

	IOStopped  bool
	SQLRunning bool
	IOErrno    int
	SQLErrno   int
	SQLError   string
}

// Fence claims the node and stops it from receiving, and thereby from acknowledging, while it goes on applying what it has, or begins
// to again if it had stopped for nothing. When all possible ackers have been fenced, the old primary can acknowledge nothing: dead, hung or
// merely out of sight.
func (n *Node) Fence(ctx context.Context, epoch uint64, holder string) (Fenced, error) {
	if err := n.claim(ctx, epoch, holder); err != nil {
		return Fenced{}, n.failed("fence", err)
	}
	var fenced Fenced
	err := n.act(ctx, epoch, "fence", func(ctx context.Context, conn *sql.Conn) error {
		receivers, err := sessions(ctx, conn, receiversSQL) // first, as appliers that begin look like receivers
		if err != nil {
			return err
		}
		if err := n.applyAgain(ctx, conn); err != nil {
			return err
		}
		if err := stopReceiving(ctx, conn, receivers); err != nil {
			return err
		}
		var status Status
		status, err = n.ask(ctx, conn)
		fenced = fencedOf(&status)
		n.held.startID = status.StartID
		if err == nil && !fenced.IOStopped {
			err = fmt.Errorf("it still receives (%s): %w", status.IORunning, errAnswer)
		}
		return err
	})
	return fenced, err
}

// applyAgain starts appliers that have stopped for nothing, unless the receiver has stopped as well: the server begins a new relay
// log then, and what is in the old one may be all that is left of something acknowledged.
func (n *Node) applyAgain(ctx context.Context, conn *sql.Conn) error {
	sets, err := readSets(ctx, conn, replicaSQL)
	if err != nil {
		return fmt.Errorf("read how far it is: %w", err)
	}
	var p parser
	var status Status
	status.replica(&p, first(sets, 0), n.cfg.Domain)
	if p.err != nil || !status.stalled() || !status.receives() {
		return p.err
	}
	return run(ctx, conn, startAppliersSQL)
}

const (
	replicaSQL       = "SHOW ALL SLAVES STATUS"
	startAppliersSQL = "START SLAVE SQL_THREAD"
)

func fencedOf(s *Status) Fenced {
	return Fenced{
		StartID: s.StartID, ServerID: s.ServerID, ReadOnly: s.ReadOnly,
		Received: s.Received, Applied: s.Applied, Executed: s.Executed,
		IOStopped:  s.IORunning == ioStopped || s.IORunning == "", // a node that follows nobody has nothing to stop
		SQLRunning: s.SQLRunning, IOErrno: s.IOErrno, SQLErrno: s.SQLErrno, SQLError: s.SQLError,
	}
}

// receiversSQL finds the threads that receive, and acknowledge: also those that are still introducing themselves to the primary, and
// those that were killed and have not ended yet. An applier that begins looks nearly the same for some moments; one in a hundred of those
// is found as well.
const receiversSQL = `SELECT id FROM information_schema.processlist
  WHERE user='system user' AND command IN ('Slave_IO','Connect','Killed')
  AND NOT (command='Connect' AND state IN ('Waiting for the next event in relay log','Opening tables','System lock'))`

// stopReceiving kills the receiver before it stops it. STOP alone lets it call the primary to say goodbye, and if the primary hangs that
// takes a second; a receiver that was introducing itself when the primary began to hang took 23 s once. After a KILL, and a moment
// in which it is noticed, STOP takes milliseconds in either state. Only one that waits for the greeting of a new connection
// cannot be hurried: that takes the second. The ids are those of the receivers.
func stopReceiving(ctx context.Context, conn *sql.Conn, ids []int64) error {
	err := killAll(ctx, conn, ids)
	if err == nil && len(ids) > 0 {
		err = awaitNone(ctx, conn)
	}
	if err != nil {
		return fmt.Errorf("kill the receiver: %w", err)
	}
	if _, err := conn.ExecContext(ctx, "STOP SLAVE IO_THREAD"); err != nil {
		return fmt.Errorf("stop receiving: %w", err)
	}
	return nil
}

// awaitNone gives killed receivers a moment. Those of a dead primary end in it; those of a hung one do not, and need not.
func awaitNone(ctx context.Context, conn *sql.Conn) error {
	poll := time.NewTicker(killPoll)
	defer poll.Stop()
	for range killPatience / killPoll {
		if left, err := sessions(ctx, conn, receiversSQL); err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// sessions returns the ids that a query of the processlist finds.
func sessions(ctx context.Context, conn *sql.Conn, query string, args ...any) ([]int64, error) {
	rows, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func killAll(ctx context.Context, conn *sql.Conn, ids []int64) error {
	for _, id := range ids {
		if err := kill(ctx, conn, id); err != nil {
			return err
		}
	}
	return nil
}
