package cluster

import (
	"context"
	"database/sql"
	"fmt"
)

// tables are those of the ledger; every node of a shard must have the same rows in them.
var tables = []string{
	"operations", "owners", "coupons", "lots", "holds", "decided_holds", "orders", "entries", "bucket_owner", "fence",
}

// Checksums are of the ledger's tables as a database has them. Two nodes with the same ones have the same rows.
func Checksums(ctx context.Context, db *sql.DB) (map[string]string, error) {
	sums := map[string]string{}
	for _, table := range tables {
		var name string
		var sum sql.NullString
		if err := db.QueryRowContext(ctx, "CHECKSUM TABLE "+table).Scan(&name, &sum); err != nil {
			return nil, fmt.Errorf("checksum of %s: %w", table, err)
		}
		sums[table] = sum.String
	}
	return sums, nil
}
