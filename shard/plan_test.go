package shard

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/migrations"
)

// SQLite must find the rows of a batch by key, in short lists and in long ones. It would read whole tables for a bare list of row
// values, or search a long list for each row of a table.
func TestSQLiteFindsRowsByKey(t *testing.T) {
	db, err := OpenSQLite(filepath.Join(t.TempDir(), "shard.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := migrations.Up(t.Context(), db.SQL(), db.Dialect.String()); err != nil {
		t.Fatal(err)
	}
	for _, rows := range []int{1, 2, 20, 256, 1000} {
		p := newPacket(SQLite)
		owner := func(v Values) Values { return v.Row().Bucket(1).ASCII("a") }
		list(rows, p.Select(Lookup{Columns: "*", From: "owners", Keys: "bucket, owner"}, nil), func(v Values) { owner(v) })
		list(rows, p.Select(Lookup{Columns: "*", From: "coupons", Keys: "bucket, owner, coupon_id"}, nil), func(v Values) {
			owner(v).Binary([]byte("id"))
		})
		list(rows, p.Update("owners", "bucket, owner", "ver"), func(v Values) { owner(v).Int(2) })
		list(rows, p.Update("lots", "bucket, owner, lot_id", "available, held, ver"), func(v Values) {
			owner(v).Binary([]byte("id")).Int(1).Int(0).Int(2)
		})
		list(rows, p.Delete("holds", "bucket, hold_id"), func(v Values) { v.Row().Bucket(1).Binary([]byte("id")) })
		for i := range p.stmts {
			st := &p.stmts[i]
			text := string(SQLite.appendShape(nil, &st.shape, p.listing(st, 0)))
			plan := explain(t, db, text)
			if !slices.ContainsFunc(plan, byKey) || slices.ContainsFunc(plan, byScan) {
				t.Errorf("%d rows: %.200s … is answered by %q", rows, text, plan)
			}
		}
	}
}

func list(rows int, v Values, row func(Values)) {
	for range rows {
		row(v)
	}
}

func byKey(step string) bool {
	return strings.HasPrefix(step, "SEARCH ") && strings.Contains(step, "(bucket=? AND ")
}

func byScan(step string) bool {
	return strings.HasPrefix(step, "SCAN ") && step != "SCAN v" && !strings.HasSuffix(step, "CONSTANT ROWS") &&
		!strings.HasSuffix(step, "CONSTANT ROW") || strings.Contains(step, "AUTOMATIC")
}

func explain(t *testing.T, db *DB, text string) (plan []string) {
	t.Helper()
	rows, err := db.SQL().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
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
	return plan
}
