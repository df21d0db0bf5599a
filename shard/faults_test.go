package shard_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
)

// trigger makes the writes of one kind to one table fail, as a full tablespace, a broken page or a bug of the server would.
type trigger struct{ table, event string }

// triggers are all kinds of writes that a batch of the counters makes.
var triggers = []trigger{
	{"counters", "INSERT"}, {"operations", "INSERT"}, {"counters", "UPDATE"}, {"operations", "UPDATE"},
}

func (g trigger) set(t *testing.T, db *shard.DB) (drop func()) {
	t.Helper()
	action := "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT='injected'"
	if db.Dialect == shard.SQLite {
		action = "SELECT RAISE(ABORT, 'injected')"
	}
	exec(t, db, fmt.Sprintf("CREATE TRIGGER fault BEFORE %s ON %s FOR EACH ROW BEGIN %s; END", g.event, g.table, action))
	return func() { exec(t, db, "DROP TRIGGER fault") }
}

// One statement after the other fails. Meanwhile nothing is half done, and afterwards the same key gets one answer.
func TestEveryWriteFailsOnce(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		var undecided atomic.Int64
		c := start(t, shard.Config{DB: db, Lanes: 1, Undecided: settleDirectly(t, db, &undecided)})
		sum := int64(0)
		for i, g := range triggers {
			t.Run(g.table+" "+g.event, func(t *testing.T) {
				o := op("a", fmt.Sprint("k", i), 1)
				if g.event == "UPDATE" && g.table == "operations" {
					settle(t, db, unsettled(o)) // so that the operation has a tombstone to take over
				}
				drop := g.set(t, db)
				early := make(chan shard.Reply, 1)
				go func() { early <- submit(t, c, o) }()
				// Where the resolver's own write fails too, the lane waits for it, and so does the caller.
				var r shard.Reply
				select {
				case r = <-early:
					drop()
				case <-time.After(300 * time.Millisecond):
					drop()
					r = <-early
				}
				if got := total(t, db); r.Err != nil && got != sum {
					t.Errorf("the operation failed with %v, but the counters went from %d to %d", r.Err, sum, got)
				}
				sum++
				want(t, submit(t, c, o), shard.Done, fmt.Sprint(sum))
				want(t, submit(t, c, o), shard.Done, fmt.Sprint(sum))
				if got := total(t, db); got != sum {
					t.Errorf("the counters hold %d, want %d", got, sum)
				}
			})
		}
	})
}

func total(t *testing.T, db *shard.DB) (sum int64) {
	t.Helper()
	if err := db.SQL().QueryRowContext(t.Context(), "SELECT COALESCE(SUM(n),0) FROM counters").Scan(&sum); err != nil {
		t.Fatal(err)
	}
	return sum
}

// Somebody else has the owner's row for longer than a lock wait. The batch tries again and is done when he is.
func TestLockWaitIsARace(t *testing.T) {
	db := openMariaDB(t, testdb.MariaDB(t))
	c := start(t, shard.Config{DB: db})
	want(t, submit(t, c, op("a", "k0", 1)), shard.Done, "1")
	tx := begin(t, db)
	if _, err := tx.ExecContext(t.Context(), "UPDATE counters SET n=n+10 WHERE owner='a'"); err != nil {
		t.Fatal(err)
	}
	release := time.AfterFunc(1500*time.Millisecond, func() { // more than innodb_lock_wait_timeout, less than all attempts
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
	})
	defer release.Stop()
	want(t, submit(t, c, op("a", "k1", 1)), shard.Done, "12")
}

// A duplicate key that comes again and again is no race but a bug. Its operation fails alone, and nobody tells it to try again.
func TestDuplicateForEverIsABug(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		exec(t, db, "CREATE UNIQUE INDEX unlucky ON counters (n)")
		exec(t, db, "INSERT INTO counters (bucket, owner, n) VALUES (1,'lucky',13)")
		var g gate
		c := start(t, shard.Config{DB: db, Lanes: 1, FailPoints: g.at(failpoint.BeforeBegin)})
		replies := oneBatch(t, c, &g, op("a", "k1", 1), op("b", "k1", 13), op("c", "k1", 3))
		done := 0
		for range 3 {
			switch r := <-replies; {
			case r.Verdict == shard.Done:
				done++
			case !errors.Is(r.Err, shard.ErrInternal):
				t.Error(r.Err)
			}
		}
		if got := total(t, db); done != 2 || got != 17 {
			t.Errorf("%d done, the counters hold %d", done, got)
		}
	})
}

func begin(t *testing.T, db *shard.DB) *sql.Tx {
	t.Helper()
	tx, err := db.SQL().BeginTx(context.WithoutCancel(t.Context()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

// A stranger takes rows in the order opposite to ours, so that he and a batch wait for each other. The server ends the batch or
// him; every operation is done once.
func TestDeadlockIsARace(t *testing.T) {
	db := openMariaDB(t, testdb.MariaDB(t))
	var g gate
	c := start(t, shard.Config{DB: db, Lanes: 1, FailPoints: g.at(failpoint.BeforeBegin)})
	first, last := "a", "b"
	if shard.BucketOf(first) > shard.BucketOf(last) {
		first, last = last, first
	}
	for _, owner := range []string{first, last} {
		want(t, submit(t, c, op(owner, "k", 0)), shard.Done, "0")
	}
	before, survived := deadlocks(t, db), 0
	for round := range 4 {
		tx := begin(t, db)
		touch(t, tx, last)
		if round%2 == 0 {
			gainWeight(t, tx, round)
		}
		replies := oneBatch(t, c, &g, op(first, fmt.Sprint("k", round), 1), op(last, fmt.Sprint("k", round), 1))
		awaitLockWait(t, db)
		_, err := tx.ExecContext(t.Context(), updateCounter, int(shard.BucketOf(first)), first)
		switch {
		case err != nil:
			_ = tx.Rollback()
		case tx.Commit() == nil:
			survived++
		}
		for range 2 {
			want(t, <-replies, shard.Done, fmt.Sprint(round+1))
		}
	}
	if n := deadlocks(t, db) - before; n != 4 {
		t.Errorf("%d deadlocks, want 4; the test locks in the wrong order", n)
	}
	if survived != 2 {
		t.Errorf("the stranger survived %d deadlocks, want 2 of 4", survived)
	}
}

const updateCounter = "UPDATE counters SET n=n WHERE bucket=? AND owner=?"

func touch(t *testing.T, tx *sql.Tx, owner string) {
	t.Helper()
	if _, err := tx.ExecContext(t.Context(), updateCounter, int(shard.BucketOf(owner)), owner); err != nil {
		t.Fatal(err)
	}
}

// gainWeight writes many rows: the server ends whoever has written less.
func gainWeight(t *testing.T, tx *sql.Tx, round int) {
	t.Helper()
	for i := range 50 {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO counters (bucket, owner, n) VALUES (?,?,0)", round, fmt.Sprint("w", i))
		if err != nil {
			t.Fatal(err)
		}
	}
}

// gate stops a lane at a fail point while it is shut.
type gate struct{ shut atomic.Pointer[shutGate] }

type shutGate struct{ arrived, open chan struct{} }

func (g *gate) at(point string) failpoint.Points {
	return func(name string) {
		if shut := g.shut.Load(); shut != nil && name == point {
			shut.arrived <- struct{}{}
			<-shut.open
		}
	}
}

// oneBatch submits operations so that they share a batch: another one keeps the lane busy until all of them wait.
func oneBatch(t *testing.T, c *shard.Committer, g *gate, ops ...*shard.Op) <-chan shard.Reply {
	t.Helper()
	shut := &shutGate{make(chan struct{}), make(chan struct{})}
	g.shut.Store(shut)
	go submit(t, c, op("busy", ops[0].Key, 0))
	<-shut.arrived
	g.shut.Store(nil)
	replies := make(chan shard.Reply, len(ops))
	for i, o := range ops {
		go func() { replies <- submit(t, c, o) }()
		for c.Depth()[0] <= i {
			time.Sleep(time.Millisecond)
		}
	}
	close(shut.open)
	return replies
}

// deadlocks is how many the server has met.
func deadlocks(t *testing.T, db *shard.DB) int64 { return status(t, db, "Innodb_deadlocks") }

func status(t *testing.T, db *shard.DB, name string) (n int64) {
	t.Helper()
	if err := db.SQL().QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&name, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// awaitLockWait returns when some transaction waits for a row.
func awaitLockWait(t *testing.T, db *shard.DB) {
	t.Helper()
	for status(t, db, "Innodb_row_lock_current_waits") == 0 {
		time.Sleep(time.Millisecond)
	}
}
