package failover

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// The door of a primary is who may receive from it. It is opened and shut on a connection of its own, because the session may be waiting
// for an acknowledgement that only comes when somebody is let in. The connection has a lock of its own, and acts for the epoch and the
// holder of the session: whoever claims the node first promises and then takes the lock away, so that whoever gets it later sees
// the promise, and who had it before has ended.
const (
	sessionLock = "statesvc_ha"
	doorLock    = "statesvc_door"

	releaseSQL = "DO RELEASE_LOCK(?)"
)

// Account locks stay on this node, and one statement takes one account.
func allowSQL(node string) string {
	return "ALTER USER " + account(ReplicaUser(node)) + " ACCOUNT UNLOCK"
}

func lockOutSQL(node string) string {
	return "ALTER USER " + account(ReplicaUser(node)) + " ACCOUNT LOCK"
}

// sendersSQL finds the threads that send to a replica.
const sendersSQL = "SELECT id FROM information_schema.processlist WHERE command='Binlog Dump' AND user=?"

// Allow lets a replica receive from this node. From then on it may acknowledge, so the record must name it first.
func (n *Node) Allow(ctx context.Context, epoch uint64, replica string) error {
	return n.atDoor(ctx, epoch, "allow "+replica+" at", func(conn *sql.Conn) error { return run(ctx, conn, allowSQL(replica)) })
}

// Refuse locks a replica out and disconnects it. What it has received it may still acknowledge for a moment, so its being gone
// proves nothing about the past. Commits that wait for the last acker go on waiting.
func (n *Node) Refuse(ctx context.Context, epoch uint64, replica string) error {
	return n.atDoor(ctx, epoch, "refuse "+replica+" at", func(conn *sql.Conn) error { return refuse(ctx, conn, replica) })
}

func refuse(ctx context.Context, conn *sql.Conn, replica string) error {
	if err := run(ctx, conn, lockOutSQL(replica)); err != nil {
		return err
	}
	ids, err := sessions(ctx, conn, sendersSQL, ReplicaUser(replica))
	if err != nil {
		return fmt.Errorf("find the connection of the replica: %w", err)
	}
	return killAll(ctx, conn, ids)
}

// atDoor runs f for the epoch of the session, which may be busy meanwhile. A step that a broken connection has left behind ends before
// the next one begins.
func (n *Node) atDoor(ctx context.Context, epoch uint64, step string, f func(*sql.Conn) error) error {
	n.mu.Lock()
	s := n.claimed
	n.mu.Unlock()
	if s == nil || s.epoch != epoch {
		return n.failed(step, ErrNotFenced)
	}
	return n.failed(step, n.door.use(ctx, func(conn *sql.Conn) error {
		if err := refuseOld(ctx, conn, epoch, s.holder); err != nil { // whoever is too late disturbs nobody
			return err
		}
		if err := takeLock(ctx, conn, doorLock); err != nil {
			return err
		}
		err := refuseOld(ctx, conn, epoch, s.holder)
		if err == nil {
			err = run(ctx, conn, binlogSQL+"0")
		}
		if err == nil {
			err = f(conn)
		}
		_, released := conn.ExecContext(ctx, releaseSQL, doorLock)
		return errors.Join(err, released)
	}))
}

// shutOut ends what others are doing at the door, after the node has promised itself to us.
func shutOut(ctx context.Context, conn *sql.Conn) error {
	if err := takeLock(ctx, conn, doorLock); err != nil {
		return fmt.Errorf("the door: %w", err)
	}
	if _, err := conn.ExecContext(ctx, releaseSQL, doorLock); err != nil {
		return fmt.Errorf("leave the door: %w", err)
	}
	return nil
}
