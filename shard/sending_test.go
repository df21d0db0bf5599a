package shard_test

import (
	"fmt"
	"testing"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
)

// Writes find their rows by key in a small table, too. A scan would wait for the rows of other owners, which other instances have
// locked, and two instances would wait for each other.
func TestWritesWaitForNoOtherRows(t *testing.T) {
	for name, erase := range map[string]bool{"update": false, "delete": true} {
		t.Run(name, func(t *testing.T) {
			db := openMariaDB(t, testdb.MariaDB(t))
			var g gate
			c := start(t, shard.Config{DB: db, Lanes: 1, FailPoints: g.at(failpoint.BeforeBegin)})
			var ops []*shard.Op
			for _, owner := range []string{"a", "busy", "other"} { // three rows: at so few the optimizer scans
				want(t, submit(t, c, op(owner, "k0", 1)), shard.Done, "1")
				o := op(owner, name+owner, 1)
				o.Body = add{n: 1, erase: erase}
				ops = append(ops, o)
			}
			conn, err := db.SQL().Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			other := &live{conn}
			other.exec(t, "BEGIN")
			other.exec(t, "SELECT * FROM counters WHERE owner='other' AND bucket=? FOR UPDATE", int(shard.BucketOf("other")))
			waits := status(t, db, "Innodb_row_lock_waits")
			replies := oneBatch(t, c, &g, ops[:2]...)
			for range 2 {
				want(t, <-replies, shard.Done, "2")
			}
			if waited := status(t, db, "Innodb_row_lock_waits") - waits; waited > 0 {
				t.Errorf("the batch has waited %d times for a row that it does not write", waited)
			}
			other.exec(t, "ROLLBACK")
		})
	}
}

// Where the server has no room for another prepared statement, the list is sent as text.
func TestNoRoomForPreparedStatements(t *testing.T) {
	server := testdb.Start(t, mariadb.Options{})
	for _, room := range []int{0, 1, 3} {
		server.Exec(t, fmt.Sprint("SET GLOBAL max_prepared_stmt_count=", room))
		db := openMariaDB(t, server)
		var g gate
		c := start(t, shard.Config{DB: db, Lanes: 1, FailPoints: g.at(failpoint.BeforeBegin)})
		for round := range 2 {
			var ops []*shard.Op
			for i := range 90 {
				ops = append(ops, op(fmt.Sprint("o", i), fmt.Sprint("k", round), 1))
			}
			replies := oneBatch(t, c, &g, ops...)
			for range ops {
				if r := <-replies; r.Verdict != shard.Done {
					t.Fatalf("room for %d statements: %v", room, r.Err)
				}
			}
		}
		if got := total(t, db); got != 180 {
			t.Errorf("the counters hold %d, want 180", got)
		}
	}
}
