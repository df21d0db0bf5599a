package shard

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// rollbackPatience bounds the end of a transaction whose caller does not wait any more.
const rollbackPatience = time.Second

// Transact runs f in a transaction of its own under an epoch, at READ COMMITTED: each query of f sees what was committed before it.
// The fence row is locked against changes first, as by a batch, so nothing is written under an old epoch. It is for the work beside
// batches; nothing that belongs to an owner is written by it.
//
// It fails with ErrStaleRoute under another epoch. After an error at the end the transaction may have been committed: f must be one
// that can be run again.
func (db *DB) Transact(ctx context.Context, epoch uint64, f func(tx *sql.Conn) error) error {
	conn, err := db.writes.Conn(ctx)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	defer conn.Close()
	defer db.takeTurn()()
	if _, err := conn.ExecContext(ctx, db.Dialect.begin); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	if err := db.underEpoch(ctx, conn, epoch, f); err != nil {
		rollback(ctx, conn)
		return err
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		rollback(ctx, conn)
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (db *DB) underEpoch(ctx context.Context, conn *sql.Conn, epoch uint64, f func(tx *sql.Conn) error) error {
	var fence uint64
	query := "SELECT epoch FROM fence WHERE id=1" + db.Dialect.shareLock
	if err := conn.QueryRowContext(ctx, query).Scan(&fence); err != nil {
		return fmt.Errorf("read the fence: %w", err)
	}
	if fence != epoch {
		return fmt.Errorf("the shard is at epoch %d, the writer at %d: %w", fence, epoch, ErrStaleRoute)
	}
	return f(conn)
}

// rollback ends a transaction. A connection on which that fails is dead, and with it the transaction.
func rollback(ctx context.Context, conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackPatience)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil && !notInTransaction(err) {
		discard(conn)
	}
}
