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
		"SELECT * FROM owners WHERE (bucket, owner) IN (SELECT * FROM (VALUES (1,'a'),(2,'b')))",
		"SELECT * FROM coupons WHERE (bucket, owner, coupon_id) IN (SELECT * FROM (VALUES (1,'a',x'00'),(2,'b',x'01')))",
		"SELECT * FROM lots WHERE (bucket, owner, live, currency) IN (SELECT * FROM (VALUES (1,'a',1,'CNY'),(2,'b',1,'CNY')))",
		"SELECT * FROM operations WHERE (bucket, owner, op_key) IN (SELECT * FROM (VALUES (1,'a','k'),(2,'b','k')))",
		"DELETE FROM holds WHERE (bucket, hold_id) IN (SELECT * FROM (VALUES (1,x'00'),(2,x'01')))",
		"UPDATE owners SET ver=v.column3 FROM (VALUES (1,'a',2),(2,'b',3)) v WHERE owners.bucket=v.column1 AND owners.owner=v.column2",
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
			searched = searched || strings.HasPrefix(step, "SEARCH ") && strings.Contains(step, "(bucket=?")
		}
		if !searched {
			t.Errorf("%s\nis answered by %q", statement, plan)
		}
	}
}
