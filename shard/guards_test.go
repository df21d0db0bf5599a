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

// Each test of this file notices when one protection is switched off; internal/mutants does that.

// C22: a key is decided once and for all epochs. The committer of a later epoch replays what an earlier one has recorded.
func TestC22ReplayUnderALaterEpoch(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		want(t, submit(t, start(t, shard.Config{DB: db, Epoch: 1}), op("a", "k1", 5)), shard.Done, "5")
		exec(t, db, "UPDATE fence SET epoch=2 WHERE id=1")
		again := submit(t, start(t, shard.Config{DB: db, Epoch: 2}), op("a", "k1", 5))
		want(t, again, shard.Done, "5")
		if !again.Replayed {
			t.Error("the repeat under a later epoch is not marked as replayed")
		}
	})
}

// A seal burns a key that holds the tombstone of an undecided attempt: that attempt did not happen, and none may any more.
func TestC50SealOfAnAbortedKey(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		c := start(t, shard.Config{DB: db})
		lost := op("a", "lost", 7)
		settle(t, db, unsettled(lost))
		seal := &shard.Op{
			Owner: "a", Bucket: shard.BucketOf("a"), Key: "lost", Kind: "seal", Fingerprint: []byte("seal"), Body: shard.SealOp{},
		}
		want(t, submit(t, c, seal), shard.Sealed, "")
		want(t, submit(t, c, seal), shard.Sealed, "")
		var reused *shard.KeyReusedError
		if r := submit(t, c, lost); !errors.As(r.Err, &reused) || !reused.Sealed {
			t.Errorf("a sealed key was used: %v %q %v", r.Verdict, r.Body, r.Err)
		}
		if got := settle(t, db, unsettled(lost)); got[0].Verdict != shard.Sealed {
			t.Errorf("the resolver finds %v, not the seal", got[0].Verdict)
		}
	})
}

// Two requests came under one key, and their batch became undecided. What the key's owner has done is his; only the other one
// did not happen.
func TestSettleTellsTwoRequestsOfOneKeyApart(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		first, second := op("a", "k1", 5), op("a", "k1", 6)
		want(t, submit(t, start(t, shard.Config{DB: db}), first), shard.Done, "5")
		got := settle(t, db, unsettled(first), unsettled(second))
		if got[0].Verdict != shard.Done || string(got[0].Body) != "5" || got[1].Verdict != shard.Aborted {
			t.Errorf("settled %+v", got)
		}
	})
}

func unsettled(o *shard.Op) shard.Unsettled {
	return shard.Unsettled{Owner: o.Owner, Bucket: o.Bucket, Key: o.Key, Fingerprint: o.Fingerprint}
}

func settle(t *testing.T, db *shard.DB, us ...shard.Unsettled) []shard.Settled {
	t.Helper()
	settled, err := db.Settle(t.Context(), 1, us)
	if err != nil {
		t.Fatal(err)
	}
	return settled
}

// live is a transaction of a lost connection: it has written the row of its operation and may still commit.
type live struct {
	conn *sql.Conn
}

func lostTransaction(t *testing.T, db *shard.DB, key, reply string) *live {
	t.Helper()
	conn, err := db.SQL().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := &live{conn}
	t.Cleanup(func() { _ = conn.Close() })
	l.exec(t, "BEGIN")
	l.exec(t, "INSERT INTO operations (bucket, owner, op_key, fingerprint, verdict, epoch, decided_at, reply) "+
		"VALUES (?,'a',?,'add 5','DONE',1,0,?)", int(shard.BucketOf("a")), key, []byte(reply))
	return l
}

func (l *live) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := l.conn.ExecContext(context.WithoutCancel(t.Context()), statement, args...); err != nil {
		t.Fatal(err)
	}
}

// The transaction whose answer was lost is still alive on the server. Settle waits for it and says what it did: a bare SELECT
// would not see it, would say ABORTED, and would be wrong a moment later.
func TestSettleWaitsForALiveTransaction(t *testing.T) {
	for _, end := range []struct {
		statement string
		want      shard.Verdict
	}{{"COMMIT", shard.Done}, {"ROLLBACK", shard.Aborted}} {
		t.Run(end.statement, func(t *testing.T) {
			db := openMariaDB(t, testdb.MariaDB(t))
			lost := lostTransaction(t, db, "k1", "5")
			verdict := make(chan shard.Verdict, 1)
			go func() {
				settled, err := db.Settle(t.Context(), 1, []shard.Unsettled{unsettled(op("a", "k1", 5))})
				if err != nil {
					t.Error(err)
					settled = []shard.Settled{{}}
				}
				verdict <- settled[0].Verdict
			}()
			select {
			case v := <-verdict:
				t.Fatalf("settled as %v while the transaction is alive", v)
			case <-time.After(200 * time.Millisecond):
			}
			lost.exec(t, end.statement)
			if v := <-verdict; v != end.want {
				t.Errorf("settled as %v, want %v", v, end.want)
			}
		})
	}
}

// A tombstone is the reason why the lost transaction cannot commit any more, however late its writes arrive.
func TestTombstoneStopsALateTransaction(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		if got := settle(t, db, unsettled(op("a", "k1", 5))); got[0].Verdict != shard.Aborted {
			t.Fatalf("settled %+v", got)
		}
		_, err := db.SQL().ExecContext(t.Context(), "INSERT INTO operations (bucket, owner, op_key, fingerprint, verdict, epoch, "+
			"decided_at, reply) VALUES (?,'a','k1','add 5','DONE',1,0,'')", int(shard.BucketOf("a")))
		if err == nil {
			t.Error("the late transaction wrote its operation beside the tombstone")
		}
	})
}

// A bucket that is taken away waits for the batches that have read its row: its new owner must not miss their writes.
func TestBucketLeavesAfterItsBatches(t *testing.T) {
	db := openMariaDB(t, testdb.MariaDB(t))
	loaded, gate := make(chan struct{}, 1), make(chan struct{})
	c := start(t, shard.Config{DB: db, FailPoints: func(name string) {
		if name == failpoint.AfterLoad {
			select {
			case loaded <- struct{}{}:
				<-gate
			default: // a later batch
			}
		}
	}})
	reply := make(chan shard.Reply, 1)
	go func() { reply <- submit(t, c, op("a", "k1", 5)) }()
	<-loaded
	frozen := make(chan error, 1)
	go func() {
		_, err := db.SQL().ExecContext(t.Context(), "UPDATE bucket_owner SET state='FROZEN' WHERE bucket=?", int(shard.BucketOf("a")))
		frozen <- err
	}()
	select {
	case err := <-frozen:
		t.Errorf("the bucket was frozen under a running batch (%v)", err)
		close(gate)
	case <-time.After(200 * time.Millisecond):
		close(gate)
		if err := <-frozen; err != nil {
			t.Error(err)
		}
	}
	want(t, <-reply, shard.Done, "5")
	if r := submit(t, c, op("a", "k2", 5)); !errors.Is(r.Err, shard.ErrStaleRoute) {
		t.Errorf("a frozen bucket was written to: %v %v", r.Verdict, r.Err)
	}
}

// An epoch that is raised waits for the batches that have read the old one, whether they list many owners or one.
func TestEpochRisesAfterItsBatches(t *testing.T) {
	for _, owners := range []int{1, 40} {
		t.Run(fmt.Sprint(owners), func(t *testing.T) {
			db := openMariaDB(t, testdb.MariaDB(t))
			var g gate
			var loads atomic.Int64
			loaded, hold := make(chan struct{}), make(chan struct{})
			c := start(t, shard.Config{DB: db, Lanes: 1, FailPoints: func(name string) {
				g.at(failpoint.BeforeBegin)(name)
				if name == failpoint.AfterLoad && loads.Add(1) == 2 { // after that of the batch that kept the lane busy
					close(loaded)
					<-hold
				}
			}})
			ops := make([]*shard.Op, owners)
			for i := range ops {
				ops[i] = op(fmt.Sprint("o", i), "k", 1)
			}
			replies := oneBatch(t, c, &g, ops...)
			<-loaded
			raised := make(chan error, 1)
			go func() { raised <- patiently(t, begin(t, db), "UPDATE fence SET epoch=epoch+1") }()
			select {
			case err := <-raised:
				t.Errorf("the epoch rose under a running batch (%v)", err)
				close(hold)
			case <-time.After(200 * time.Millisecond):
				close(hold)
				if err := <-raised; err != nil {
					t.Error(err)
				}
			}
			for range ops {
				want(t, <-replies, shard.Done, "1")
			}
			if r := submit(t, c, op("o0", "k2", 1)); !errors.Is(r.Err, shard.ErrStaleRoute) {
				t.Errorf("written under an old epoch: %v %v", r.Verdict, r.Err)
			}
		})
	}
}

// patiently executes a statement that may wait for a row for longer than a batch would, and commits.
func patiently(t *testing.T, tx *sql.Tx, statement string) error {
	t.Helper()
	for _, s := range []string{"SET innodb_lock_wait_timeout=20", statement} {
		if _, err := tx.ExecContext(t.Context(), s); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// A batch that comes while the epoch rises waits, and then sees the new one. So does the resolver.
func TestBatchWaitsForTheEpoch(t *testing.T) {
	for name, write := range map[string]func(t *testing.T, db *shard.DB) error{
		"batch": func(t *testing.T, db *shard.DB) error {
			t.Helper()
			return submit(t, start(t, shard.Config{DB: db}), op("a", "k1", 1)).Err
		},
		"settle": func(t *testing.T, db *shard.DB) error {
			t.Helper()
			_, err := db.Settle(t.Context(), 1, []shard.Unsettled{unsettled(op("a", "k1", 1))})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := openMariaDB(t, testdb.MariaDB(t))
			tx := begin(t, db)
			if _, err := tx.ExecContext(t.Context(), "UPDATE fence SET epoch=2"); err != nil {
				t.Fatal(err)
			}
			result := make(chan error, 1)
			go func() { result <- write(t, db) }()
			select {
			case err := <-result:
				t.Fatalf("the epoch that is about to end was good enough: %v", err)
			case <-time.After(200 * time.Millisecond):
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := <-result; !errors.Is(err, shard.ErrStaleRoute) {
				t.Errorf("under an old epoch: %v", err)
			}
		})
	}
}

// A write touches fewer rows than apply intended. No constraint would notice; the count does, before COMMIT.
func TestWrongRowCountIsABug(t *testing.T) {
	bodies := map[string]add{"update": {n: 1, ghost: true}, "delete": {n: 1, erase: true}}
	engines(t, func(t *testing.T, db *shard.DB) {
		var g gate
		c := start(t, shard.Config{DB: db, Lanes: 1, FailPoints: g.at(failpoint.BeforeBegin)})
		want(t, submit(t, c, op("a", "k0", 1)), shard.Done, "1")
		for name, body := range bodies {
			guilty := op("nobody", name, 1)
			guilty.Body = body
			innocent := op("a", name, 0)
			replies := oneBatch(t, c, &g, guilty, innocent)
			for range 2 {
				if r := <-replies; r.Verdict != shard.Done && !errors.Is(r.Err, shard.ErrInternal) {
					t.Errorf("%s: %v %v", name, r.Verdict, r.Err)
				}
			}
			if r := submit(t, c, guilty); !errors.Is(r.Err, shard.ErrInternal) {
				t.Errorf("%s of a row that is not there: %v %v", name, r.Verdict, r.Err)
			}
			if again := submit(t, c, innocent); again.Verdict != shard.Done || !again.Replayed {
				t.Errorf("%s: the innocent operation was not done: %+v", name, again)
			}
		}
		if got := total(t, db); got != 1 {
			t.Errorf("the counters hold %d, want 1", got)
		}
	})
}

// The resolver is fenced as batches are: a tombstone must not be written under an old epoch, nor to a bucket that lives elsewhere.
func TestSettleIsFenced(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		lost := []shard.Unsettled{unsettled(op("a", "lost", 7))}
		exec(t, db, "UPDATE bucket_owner SET state='GONE' WHERE bucket=?", int(shard.BucketOf("a")))
		if got, err := db.Settle(t.Context(), 1, lost); !errors.Is(err, shard.ErrStaleRoute) {
			t.Errorf("a bucket that moved away was settled: %+v %v", got, err)
		}
		lost = append(lost, unsettled(op("b", "lost", 7))) // and b's bucket is here
		if got, err := db.Settle(t.Context(), 1, lost); !errors.Is(err, shard.ErrStaleRoute) {
			t.Errorf("one of two buckets had moved away, and both were settled: %+v %v", got, err)
		}
		exec(t, db, "UPDATE bucket_owner SET state='SERVING' WHERE bucket=?", int(shard.BucketOf("a")))
		exec(t, db, "UPDATE fence SET epoch=2 WHERE id=1")
		if got, err := db.Settle(t.Context(), 1, lost); !errors.Is(err, shard.ErrStaleRoute) {
			t.Errorf("settled under an old epoch: %+v %v", got, err)
		}
		if got, err := db.Settle(t.Context(), 2, lost); err != nil || got[0].Verdict != shard.Aborted {
			t.Errorf("settled %+v %v", got, err)
		}
	})
}
