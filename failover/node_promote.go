package failover

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// drainWait is how long one Drain waits if its ctx has no deadline; drainMargin is what it leaves of a deadline to the answer.
const (
	drainWait   = 500 * time.Millisecond
	drainMargin = 20 * time.Millisecond
)

// drainSQL waits in the server until the appliers have committed the position. 0: they have; -1: not in time; NULL: an error.
const drainSQL = "SELECT MASTER_GTID_WAIT(?,?)"

// Drain waits until the node has applied everything up to p. Anything but success is ErrNotDrained or a broken connection, and then
// the node must not be promoted, because what is missing is in its relay log only.
func (n *Node) Drain(ctx context.Context, p GTID) error {
	wait := drainWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(deadline.Sub(n.cfg.Now())-drainMargin, 0)
	}
	return n.failed("drain", n.drain.use(ctx, func(conn *sql.Conn) error {
		if err := n.drained(ctx, conn, p); err == nil {
			return nil // a former primary has written p itself, and did not receive it
		}
		var result sql.NullInt64
		if err := conn.QueryRowContext(ctx, drainSQL, p.String(), wait.Seconds()).Scan(&result); err != nil {
			return err
		}
		if !result.Valid || result.Int64 != 0 {
			return fmt.Errorf("wait for %s: result %v: %w", p, result, ErrNotDrained)
		}
		return nil
	}))
}

// positionSQL reads what is in the engine, as a replica or of the node's own, and what was received besides.
const positionSQL = "SELECT @@global.gtid_current_pos AS applied; SHOW ALL SLAVES STATUS"

// drained returns ErrNotDrained unless the node has applied p and all that it has received itself.
func (n *Node) drained(ctx context.Context, conn *sql.Conn, p GTID) error {
	sets, err := readSets(ctx, conn, positionSQL)
	if err != nil {
		return fmt.Errorf("read the position: %w", err)
	}
	var parse parser
	applied := parse.gtid(first(sets, 0)["applied"], n.cfg.Domain)
	received := parse.gtid(first(sets, 1)["Gtid_IO_Pos"], n.cfg.Domain)
	if parse.err != nil {
		return parse.err
	}
	for _, must := range []GTID{p, received} {
		if applied.Compare(must) < 0 || applied.diverged(must) {
			return fmt.Errorf("applied %s of %s: %w", applied, must, ErrNotDrained)
		}
	}
	return nil
}

// PromoteOptions are what a candidate becomes.
type PromoteOptions struct {
	Applied       GTID     // that it must have applied: the position by which it was elected
	LockReplicas  []string // nodes that may not receive from it, such as the old primary
	AllowReplicas []string // nodes that may: its sibling
}

// The statements of a promotion. None of them is replicated: the session writes no binary log. The settings make the candidate as
// durable as a primary is before its first commit, which then syncs all that was applied before.
const (
	stopSQL   = "STOP SLAVE"
	forgetSQL = "RESET SLAVE ALL"
	strictSQL = "SET GLOBAL sync_binlog=1, innodb_flush_log_at_trx_commit=1"
	relaxSQL  = "SET GLOBAL sync_binlog=0, innodb_flush_log_at_trx_commit=2"
	wakeSQL   = "SET GLOBAL rpl_semi_sync_slave_enabled=0, rpl_semi_sync_master_enabled=1"
)

// Promote makes a drained node a primary that waits for acknowledgements and is still read-only. It is refused with ErrNotFenced if the
// node receives, and with ErrNotDrained, before anything is changed, and asks again when the appliers have stopped: RESET throws the
// relay log away.
func (n *Node) Promote(ctx context.Context, epoch uint64, o PromoteOptions) error {
	return n.act(ctx, epoch, "promote", func(ctx context.Context, conn *sql.Conn) error {
		if err := n.mayPromote(ctx, conn, o.Applied); err != nil {
			return err
		}
		if err := run(ctx, conn, stopSQL); err != nil {
			return err
		}
		if err := n.drained(ctx, conn, o.Applied); err != nil {
			return err
		}
		if err := run(ctx, conn, forgetSQL, strictSQL); err != nil {
			return err
		}
		for _, node := range o.LockReplicas {
			if err := refuse(ctx, conn, node); err != nil {
				return err
			}
		}
		for _, node := range o.AllowReplicas {
			if err := run(ctx, conn, allowSQL(node)); err != nil {
				return err
			}
		}
		return run(ctx, conn, wakeSQL)
	})
}

func (n *Node) mayPromote(ctx context.Context, conn *sql.Conn, p GTID) error {
	if ids, err := sessions(ctx, conn, receiversSQL); err != nil || len(ids) > 0 {
		return errors.Join(errReceives, err)
	}
	return n.drained(ctx, conn, p)
}

// errReceives means that the session was claimed, but the node was not fenced.
var errReceives = fmt.Errorf("the node still receives: %w", ErrNotFenced)

// FollowOptions say whom a replica follows, and how.
type FollowOptions struct {
	Address  string // host:port of the primary, the port for clients
	SemiSync bool   // it acknowledges; the record must name it as a possible acker first
	Demote   bool   // it was a primary: what it has written itself counts as applied, and it waits for no acknowledgements any more
	Relax    bool   // it need not sync: its host's crash then costs its data
	Wait     bool   // it is started later, by Start
	Discard  bool   // what it has received and not applied may go: the primary has it, and is not the only one
}

// followSQL is for nodes whose appliers and receiver have both stopped. Heartbeats are what tells an idle primary from a dead one.
const followSQL = `CHANGE MASTER TO MASTER_HOST=%s, MASTER_PORT=%s, MASTER_USER=%s, MASTER_PASSWORD=%s, MASTER_USE_GTID=slave_pos,
  MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=0.1`

// Follow points a node at a primary and starts it, unless it is to wait. Starting purges the relay log, so a node that has not applied
// it is refused with ErrNotDrained unless Discard is set; a primary is refused with ErrWaiting while it takes writes or some wait for
// acknowledgements, because it would answer them as acknowledged. Whether the other primary takes the node shows in Probe afterwards:
// IOErrno 1236 means that the node has what the primary has not, and must be made anew.
//
// Strict GTIDs and acknowledging come before the start: without both, a former primary skips events that it once wrote itself.
func (n *Node) Follow(ctx context.Context, epoch uint64, o FollowOptions) error {
	change, err := n.follow(&o)
	if err != nil {
		return n.failed("follow", err)
	}
	return n.act(ctx, epoch, "follow", func(ctx context.Context, conn *sql.Conn) error {
		if err := n.mayFollow(ctx, conn); err != nil {
			return err
		}
		err := n.drained(ctx, conn, GTID{})
		if o.Discard && errors.Is(err, ErrNotDrained) {
			err = nil
		}
		if err != nil {
			return err
		}
		if err := run(ctx, conn, stopSQL, followSettings(&o), change); err != nil || o.Wait {
			return err
		}
		return run(ctx, conn, startSQL)
	})
}

const startSQL = "START SLAVE"

// Renew starts the appliers of a node that was fenced and has stopped for nothing. The server begins a new relay log then, so it is for
// nodes that have nothing that others might lack: those outside of the set.
func (n *Node) Renew(ctx context.Context, epoch uint64) error {
	return n.act(ctx, epoch, "renew", func(ctx context.Context, conn *sql.Conn) error { return run(ctx, conn, startAppliersSQL) })
}

// Start starts a node that Follow has told to wait. A process after that one, which acknowledges nothing, is refused with ErrNotFenced.
func (n *Node) Start(ctx context.Context, epoch uint64, startID string) error {
	return n.act(ctx, epoch, "start", func(ctx context.Context, conn *sql.Conn) error {
		if n.held.startID != startID {
			return fmt.Errorf("it was fenced as %q, not %q: %w", n.held.startID, startID, ErrNotFenced)
		}
		return run(ctx, conn, startSQL)
	})
}

func (n *Node) mayFollow(ctx context.Context, conn *sql.Conn) error {
	status, err := n.ask(ctx, conn)
	if err != nil {
		return err
	}
	if status.SemiSync.PrimaryEnabled {
		err = status.settled()
	}
	if err != nil {
		return err
	}
	receivers, err := sessions(ctx, conn, receiversSQL)
	if err != nil {
		return err
	}
	return stopReceiving(ctx, conn, receivers)
}

// settled returns ErrWaiting unless nobody waits for an acknowledgement and nobody can begin to.
func (s *Status) settled() error {
	if s.SemiSync.WaitSessions > 0 || !s.ReadOnly {
		return fmt.Errorf("%d wait, read-only %t: %w", s.SemiSync.WaitSessions, s.ReadOnly, ErrWaiting)
	}
	return nil
}

func (n *Node) follow(o *FollowOptions) (string, error) {
	host, port, err := net.SplitHostPort(o.Address)
	if err != nil {
		return "", fmt.Errorf("address of the primary: %w", err)
	}
	change := fmt.Sprintf(followSQL, quoteText(host), port, quoteText(ReplicaUser(n.cfg.Name)), quoteText(n.cfg.ReplPassword))
	if o.Demote {
		change += ", MASTER_DEMOTE_TO_SLAVE=1"
	}
	return change, nil
}

func followSettings(o *FollowOptions) string {
	list := []string{"SET GLOBAL gtid_strict_mode=1", "rpl_semi_sync_master_enabled=0", "rpl_semi_sync_slave_enabled=0"}
	if o.SemiSync {
		list[2] = "rpl_semi_sync_slave_enabled=1"
	}
	if o.Relax {
		list = append(list, "sync_binlog=0", "innodb_flush_log_at_trx_commit=2")
	}
	return strings.Join(list, ", ")
}

// run executes statements one by one.
func run(ctx context.Context, conn *sql.Conn, statements ...string) error {
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			word, _, _ := strings.Cut(statement, " MASTER_") // the rest has a password
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	return nil
}
