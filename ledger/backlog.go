package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// How far CountHolds counts: in tens of milliseconds. Beyond that the shard's time is worth more than the number.
const (
	pendingMax = 100_000
	overdueMax = 10_000
)

// These queries read indexes and take no locks. Overdue holds are found by way of their owners, because holds have no index
// by time alone.
const (
	pendingHoldsSQL = `SELECT COUNT(*) FROM (SELECT 1 FROM holds LIMIT ?) h`
	overdueHoldsSQL = `SELECT COUNT(*) FROM (SELECT 1 FROM (SELECT bucket, owner FROM owners WHERE due_at > 0 AND due_at <= ?
ORDER BY due_at LIMIT ?) o JOIN holds h ON h.bucket = o.bucket AND h.owner = o.owner WHERE h.expires_at <= ? LIMIT ?) h`
)

// CountHolds counts the pending holds of a shard, at most 100 000, and those among them whose time was over at now, at most
// 10 000.
func CountHolds(ctx context.Context, db *shard.DB, now time.Time) (pending, overdue int64, err error) {
	if err := db.SQL().QueryRowContext(ctx, pendingHoldsSQL, pendingMax).Scan(&pending); err != nil {
		return 0, 0, fmt.Errorf("count pending holds: %w", err)
	}
	at := now.UnixMicro()
	if err := db.SQL().QueryRowContext(ctx, overdueHoldsSQL, at, overdueMax, at, overdueMax).Scan(&overdue); err != nil {
		return 0, 0, fmt.Errorf("count overdue holds: %w", err)
	}
	return pending, overdue, nil
}
