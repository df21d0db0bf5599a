package shard

import (
	"context"
	"fmt"
	"strings"
)

// bootstrapRows is how many bucket_owner rows one statement writes.
const bootstrapRows = 2048

// TakeBuckets makes the shard serve the buckets from first to last, inclusive, unless it knows them already. It is
// called when a cluster is made, before the map is published; later only moves change these rows.
func (db *DB) TakeBuckets(ctx context.Context, first, last Bucket) error {
	for start := int(first); start <= int(last); start += bootstrapRows {
		end := min(start+bootstrapRows-1, int(last))
		if err := db.takeBuckets(ctx, start, end); err != nil {
			return fmt.Errorf("take buckets %d to %d: %w", start, end, err)
		}
	}
	return nil
}

func (db *DB) takeBuckets(ctx context.Context, start, end int) error {
	var b strings.Builder
	b.WriteString("INSERT INTO bucket_owner (bucket, state) VALUES ")
	for i := start; i <= end; i++ {
		if i > start {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "(%d,'SERVING')", i)
	}
	b.WriteString(db.Dialect.keepRow)
	_, err := db.writes.ExecContext(ctx, b.String())
	return err
}

// Epoch reads the epoch that the shard itself holds.
func (db *DB) Epoch(ctx context.Context) (epoch uint64, err error) {
	if err := db.reads.QueryRowContext(ctx, "SELECT epoch FROM fence WHERE id=1").Scan(&epoch); err != nil {
		return 0, fmt.Errorf("read the shard's epoch: %w", err)
	}
	return epoch, nil
}
