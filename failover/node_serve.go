package failover

import (
	"context"
	"database/sql"
	"fmt"
)

// Account locks stay on this node, and one statement takes one account.
func allowSQL(node string) string {
	return "ALTER USER " + account(ReplicaUser(node)) + " ACCOUNT UNLOCK"
}

func lockOutSQL(node string) string {
	return "ALTER USER " + account(ReplicaUser(node)) + " ACCOUNT LOCK"
}

// sendersSQL finds the threads that send to a replica; idleSQL the sessions of instances that do nothing.
const (
	sendersSQL = "SELECT id FROM information_schema.processlist WHERE command='Binlog Dump' AND user=?"
	idleSQL    = "SELECT id FROM information_schema.processlist WHERE command='Sleep' AND user=?"
)

// Allow lets a replica receive from this node. From then on it may acknowledge, so the record must name it first.
func (n *Node) Allow(ctx context.Context, epoch uint64, replica string) error {
	return n.act(ctx, epoch, "allow "+replica+" at", func(ctx context.Context, conn *sql.Conn) error {
		return run(ctx, conn, allowSQL(replica))
	})
}

// Refuse locks a replica out and disconnects it. What it has received it may still acknowledge for a moment, so its being gone
// proves nothing about the past. Commits that wait for the last acker go on waiting.
func (n *Node) Refuse(ctx context.Context, epoch uint64, replica string) error {
	return n.act(ctx, epoch, "refuse "+replica+" at", func(ctx context.Context, conn *sql.Conn) error {
		return refuse(ctx, conn, replica)
	})
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

// Relax lets a replica apply without syncing. A crash of its process costs nothing; after one of its host it is made anew.
func (n *Node) Relax(ctx context.Context, epoch uint64) error {
	return n.act(ctx, epoch, "relax", func(ctx context.Context, conn *sql.Conn) error { return run(ctx, conn, relaxSQL) })
}

// Strict is the inverse of Relax.
func (n *Node) Strict(ctx context.Context, epoch uint64) error {
	return n.act(ctx, epoch, "strict", func(ctx context.Context, conn *sql.Conn) error { return run(ctx, conn, strictSQL) })
}

// readOnlySQL waits behind commits that wait for acknowledgements, for ever unless told otherwise.
const readOnlySQL = "SET STATEMENT max_statement_time=1 FOR SET GLOBAL read_only=1"

// ReadOnly keeps clients from writing, before a planned switchover. After an error the shard still takes writes.
func (n *Node) ReadOnly(ctx context.Context, epoch uint64) error {
	return n.act(ctx, epoch, "read_only", func(ctx context.Context, conn *sql.Conn) error { return run(ctx, conn, readOnlySQL) })
}

// DisconnectIdle ends the idle sessions of instances, so that a former primary has none. It is refused with ErrWaiting while
// commits wait for acknowledgements, and while the server takes writes: an idle session could begin to wait before it is killed.
func (n *Node) DisconnectIdle(ctx context.Context, epoch uint64) error {
	return n.act(ctx, epoch, "disconnect clients of", func(ctx context.Context, conn *sql.Conn) error {
		status, err := n.ask(ctx, conn)
		if err == nil {
			err = status.settled()
		}
		if err != nil {
			return err
		}
		ids, err := sessions(ctx, conn, idleSQL, AppUser)
		if err != nil {
			return fmt.Errorf("find idle sessions: %w", err)
		}
		return killAll(ctx, conn, ids)
	})
}
