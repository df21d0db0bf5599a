package shard_test

import (
	"context"
	"database/sql/driver"
	"path/filepath"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// A statement whose context ends is not stopped half-way, nor passed over. The driver of SQLite does both; when it passed over
// the COMMIT of Settle, the answer was wrong and the connection kept the lock of the file, so that every batch waited for
// busy_timeout.
func TestSQLiteStatementsRunToTheirEnd(t *testing.T) {
	db, err := shard.OpenSQLite(filepath.Join(t.TempDir(), "shard.db"), time.Now)
	db = prepare(t, db, err)
	conn, err := db.SQL().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	const long = `INSERT INTO counters WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM numbers WHERE n<200000)
		SELECT n, 'a', n FROM numbers`
	err = conn.Raw(func(c any) error {
		_, err := c.(driver.ExecerContext).ExecContext(ctx, long, nil)
		return err
	})
	if err != nil || ctx.Err() == nil {
		t.Fatalf("the statement ended with %v, its context with %v", err, ctx.Err())
	}
	var rows int
	if err := db.SQL().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM counters").Scan(&rows); err != nil || rows != 200_000 {
		t.Errorf("%d rows, %v", rows, err)
	}
}
