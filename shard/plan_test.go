package shard_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// SQLite must find the rows of a batch by key. It would read whole tables for a bare list of row values.
func TestSQLiteFindsRowsByKey(t *testing.T) {
	db, err := shard.OpenSQLite(filepath.Join(t.TempDir(), "shard.db"), time.Now)
	db = prepare(t, db, err)
	for _, statement := range []string{
		"WITH v(c1,c2) AS (VALUES (1,'a'),(2,'b')) SELECT * FROM v CROSS JOIN owners ON bucket=v.c1 AND owner=v.c2",
		"WITH v(c1,c2,c3) AS (VALUES (1,'a',x'00'),(2,'b',x'01')) SELECT * FROM v CROSS JOIN coupons ON bucket=v.c1 AND owner=v.c2 " +
			"AND coupon_id=v.c3",
		"WITH v(c1,c2,c3) AS (VALUES (1,'a',2),(2,'b',3)) UPDATE owners SET ver=v.c3 FROM v WHERE owners.bucket=v.c1 AND owners.owner=v.c2",
		"DELETE FROM holds WHERE (bucket, hold_id) IN (WITH v(c1,c2) AS (VALUES (1,x'00'),(2,x'01')) SELECT * FROM v)",
	} {
		rows, err := db.SQL().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+statement)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, step)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		searched := false
		for _, step := range plan {
			searched = searched || strings.HasPrefix(step, "SEARCH ") && strings.Contains(step, "(bucket=? AND ")
		}
		if !searched {
			t.Errorf("%s\nis answered by %q", statement, plan)
		}
	}
}
