package failover

import (
	"context"
	"database/sql"
	"fmt"
)

// The statements that make a node the primary of an epoch. Each locks the row of fence, which no client can reach on a server that is
// read-only. A schema that was just made has epoch 1 and no primary. Nothing is decided at an earlier time than any heartbeat.
const (
	fenceSQL = `UPDATE {schema}.fence SET epoch=?, primary_id=?,
  floor_at=GREATEST(floor_at,(SELECT COALESCE(MAX(at)+1,0) FROM {schema}.clock)) WHERE id=1 AND (epoch<? OR epoch=? AND primary_id=0)`
	proofSQL = `INSERT INTO {schema}.clock (source, at) VALUES (?, CAST(UNIX_TIMESTAMP(SYSDATE(6))*1000000 AS SIGNED))
  ON DUPLICATE KEY UPDATE at=GREATEST(at+1, VALUES(at))`
	binlogSQL = "SET SESSION sql_log_bin="
)

// establishSource is the row of clock by which a fence that was committed earlier is proved to be acknowledged.
const establishSource = "establish"

// Establish commits the first transaction of the epoch: the fence row. nil means that a replica has acknowledged it, and with it all
// before it. It is not enough that the commit succeeds: the server must wait for acknowledgements before and after, must have
// counted one, and must not have counted a commit that went on without.
//
// If ctx ends first the answer is ErrUnacknowledged, and the session goes on waiting; the next Establish of the epoch waits for the
// same commit. There is no way to give up but to leave the session: Claim or Fence of any epoch kills it. The fence row is then visible
// without an acknowledgement, on a server that takes no clients; the next Establish proves by another commit that there is one.
func (n *Node) Establish(ctx context.Context, epoch uint64, primaryID uint32) error {
	err := n.establish.run(ctx, &n.work, epoch, func() error {
		return n.act(n.life, epoch, "establish", func(ctx context.Context, conn *sql.Conn) error {
			return n.commitFence(ctx, conn, epoch, primaryID)
		})
	})
	return err
}

func (n *Node) commitFence(ctx context.Context, conn *sql.Conn, epoch uint64, primaryID uint32) error {
	before, err := n.ask(ctx, conn)
	if err == nil {
		err = before.acknowledges(primaryID)
	}
	if err != nil {
		return err
	}
	if err := n.logged(ctx, conn, func() error { return n.raiseFence(ctx, conn, epoch, primaryID) }); err != nil {
		return err
	}
	after, err := n.ask(ctx, conn)
	if err == nil {
		err = after.acknowledges(primaryID)
	}
	if err != nil {
		return err
	}
	return acknowledged(&before, &after, epoch)
}

// acknowledges says whether the node waits for acknowledgements as a primary must.
func (s *Status) acknowledges(serverID uint32) error {
	switch {
	case s.ServerID != serverID:
		return fmt.Errorf("server %d answers, not %d: %w", s.ServerID, serverID, ErrNotEstablished)
	case !s.SemiSync.PrimaryEnabled || !s.SemiSync.PrimaryOn || s.SemiSync.WaitPoint != "AFTER_SYNC":
		return fmt.Errorf("it does not wait for acknowledgements: %w", ErrNotEstablished)
	}
	return nil
}

func acknowledged(before, after *Status, epoch uint64) error {
	switch {
	case after.Epoch != epoch || after.PrimaryID != after.ServerID:
		return fmt.Errorf("the fence is of epoch %d, server %d: %w", after.Epoch, after.PrimaryID, ErrNotEstablished)
	case after.SemiSync.YesTx <= before.SemiSync.YesTx:
		return fmt.Errorf("no acknowledgement was counted: %w", ErrNotEstablished)
	case after.SemiSync.NoTx != before.SemiSync.NoTx:
		return fmt.Errorf("commits went on without an acknowledgement: %w", ErrNotEstablished)
	}
	return nil
}

// raiseFence writes the fence row or, if that was done, something else that has to be acknowledged.
func (n *Node) raiseFence(ctx context.Context, conn *sql.Conn, epoch uint64, primaryID uint32) error {
	result, err := conn.ExecContext(ctx, n.inSchema(fenceSQL), epoch, primaryID, epoch, epoch)
	if err != nil {
		return fmt.Errorf("write the fence: %w", err)
	}
	if raised, err := result.RowsAffected(); err != nil || raised == 1 {
		return err
	}
	if _, err := conn.ExecContext(ctx, n.inSchema(proofSQL), establishSource); err != nil {
		return fmt.Errorf("prove the fence: %w", err)
	}
	return nil
}

// logged runs f with the binary log on. Should it stay on by an error, the session is broken and goes.
func (n *Node) logged(ctx context.Context, conn *sql.Conn, f func() error) error {
	if err := run(ctx, conn, binlogSQL+"1"); err != nil {
		return err
	}
	if err := f(); err != nil {
		_ = run(ctx, conn, binlogSQL+"0") // the error that matters is f's; a session that cannot do this is broken
		return err
	}
	return run(ctx, conn, binlogSQL+"0")
}

// Open lets clients write. It is refused unless the fence row names this epoch and this node, the server waits for acknowledgements,
// and the node's promise is still that of the session.
func (n *Node) Open(ctx context.Context, epoch uint64) error {
	return n.act(ctx, epoch, "open", func(ctx context.Context, conn *sql.Conn) error {
		status, err := n.ask(ctx, conn)
		if err == nil {
			err = status.acknowledges(status.ServerID)
		}
		if err != nil {
			return err
		}
		if status.Epoch != epoch || status.PrimaryID != status.ServerID {
			return fmt.Errorf("the fence is of epoch %d, server %d: %w", status.Epoch, status.PrimaryID, ErrNotEstablished)
		}
		if err := refuseOld(ctx, conn, epoch, n.held.holder); err != nil {
			return err
		}
		return run(ctx, conn, "SET GLOBAL read_only=0")
	})
}
