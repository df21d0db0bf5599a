package failover

import (
	"context"
	"database/sql"
	"fmt"
)

// idleSQL finds the sessions of instances that do nothing.
const idleSQL = "SELECT id FROM information_schema.processlist WHERE command='Sleep' AND user=?"

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
