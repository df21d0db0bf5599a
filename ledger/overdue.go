package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// overdueSQL reads an index in the order of its keys. It takes no locks.
const overdueSQL = `SELECT owner FROM owners WHERE due_at > 0 AND due_at <= ? ORDER BY due_at LIMIT ?`

// Overdue lists owners of a shard who may have holds that expired before now, the longest overdue first. It is for the
// sweeper: whoever is missing is settled by his next operation.
func Overdue(ctx context.Context, db *shard.DB, now time.Time, limit int) ([]string, error) {
	rows, err := db.SQL().QueryContext(ctx, overdueSQL, now.UnixMicro(), limit)
	if err != nil {
		return nil, fmt.Errorf("list owners with overdue holds: %w", err)
	}
	defer rows.Close()
	var owners []string
	for rows.Next() {
		var owner string
		if err := rows.Scan(&owner); err != nil {
			return nil, fmt.Errorf("list owners with overdue holds: %w", err)
		}
		owners = append(owners, owner)
	}
	return owners, rows.Err()
}
