package shard_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
)

// counters is the smallest domain there can be: one number per owner, never below zero.
type counters struct{}

// add is its only operation. A poisoned one ignores the rule and so violates the CHECK of the table. The others believe in a
// row that is not there: one updates it, one deletes it.
type add struct {
	n      int64
	poison bool
	ghost  bool
	erase  bool
	reply  int // bytes that the reply is padded to
}

type counterRow struct {
	n     int64
	found bool
	dirty bool
	erase bool
}

type counterBatch struct {
	ops  []*shard.Op
	rows map[string]*counterRow
}

func (counters) NewBatch(ops []*shard.Op, _ bool) shard.Batch {
	return &counterBatch{ops: ops, rows: map[string]*counterRow{}}
}

func (b *counterBatch) Load(p *shard.Packet, round int) {
	if round > 0 {
		return
	}
	v := p.SelectForUpdate(shard.Lookup{
		Columns: "owner, n", From: "counters", Index: "PRIMARY", Keys: "bucket, owner",
	}, func(r *shard.Row) error {
		b.rows[r.Str()] = &counterRow{n: r.Int(), found: true}
		return nil
	})
	for _, op := range slices.SortedFunc(slices.Values(b.ops), byOwner) {
		v.Row().Bucket(op.Bucket).ASCII(op.Owner)
	}
}

func byOwner(a, b *shard.Op) int {
	return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Owner, b.Owner))
}

func (b *counterBatch) Apply(i int, _ time.Time) shard.Reply {
	op := b.ops[i]
	a := op.Body.(add)
	row := b.rows[op.Owner]
	if row == nil {
		row = &counterRow{}
		b.rows[op.Owner] = row
	}
	if row.n+a.n < 0 && !a.poison {
		return shard.Reply{Verdict: shard.Refused, Body: []byte("insufficient")}
	}
	row.n += a.n
	row.dirty, row.erase = true, a.erase
	row.found = row.found || a.ghost || a.erase
	return shard.Reply{Verdict: shard.Done, Body: fmt.Appendf(nil, "%*d", a.reply, row.n)}
}

func (b *counterBatch) Write(p *shard.Packet) {
	b.each(func(r *counterRow) bool { return r.dirty && !r.found },
		func() shard.Values { return p.Insert("counters", "bucket, owner, n") },
		func(v shard.Values, r *counterRow) { v.Int(r.n) })
	b.each(func(r *counterRow) bool { return r.erase },
		func() shard.Values { return p.Delete("counters", "bucket, owner") },
		func(shard.Values, *counterRow) {})
	b.each(func(r *counterRow) bool { return r.dirty && r.found && !r.erase },
		func() shard.Values { return p.Update("counters", "bucket, owner", "n") },
		func(v shard.Values, r *counterRow) { v.Int(r.n) })
}

// each lists the rows that match in a statement of their own, if there are any.
func (b *counterBatch) each(match func(*counterRow) bool, open func() shard.Values, rest func(shard.Values, *counterRow)) {
	var v shard.Values
	begun := false
	for owner, row := range b.rows {
		if !match(row) {
			continue
		}
		if !begun {
			v, begun = open(), true
		}
		rest(v.Row().Bucket(shard.BucketOf(owner)).ASCII(owner), row)
	}
}

const countersTable = `CREATE TABLE counters (bucket INTEGER NOT NULL, owner VARCHAR(64) %s NOT NULL,
	n BIGINT NOT NULL CHECK (n >= 0), PRIMARY KEY (bucket, owner))`

// engines runs a test on both databases.
func engines(t *testing.T, f func(t *testing.T, db *shard.DB)) {
	t.Run("mariadb", func(t *testing.T) { f(t, openMariaDB(t, testdb.MariaDB(t))) })
	t.Run("sqlite", func(t *testing.T) {
		db, err := shard.OpenSQLite(filepath.Join(t.TempDir(), "shard.db"), time.Now)
		f(t, prepare(t, db, err))
	})
}

func openMariaDB(t *testing.T, server *testdb.Server) *shard.DB {
	t.Helper()
	db, err := shard.OpenMariaDB(server.DSN(server.Schema(t)), time.Now)
	return prepare(t, db, err)
}

func prepare(t *testing.T, db *shard.DB, err error) *shard.DB {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := migrations.Up(t.Context(), db.SQL(), db.Dialect.String()); err != nil {
		t.Fatal(err)
	}
	if err := db.TakeBuckets(t.Context(), 0, shard.Buckets-1); err != nil {
		t.Fatal(err)
	}
	collation := ""
	if db.Dialect == shard.MariaDB {
		collation = "CHARACTER SET ascii COLLATE ascii_bin"
	}
	if _, err := db.SQL().ExecContext(t.Context(), fmt.Sprintf(countersTable, collation)); err != nil {
		t.Fatal(err)
	}
	return db
}

func start(t *testing.T, cfg shard.Config) *shard.Committer {
	t.Helper()
	cfg.Now = time.Now
	if cfg.Machine == nil {
		cfg.Machine = counters{}
	}
	if cfg.Epoch == 0 {
		cfg.Epoch = 1
	}
	c := shard.NewCommitter(cfg)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

func op(owner, key string, n int64) *shard.Op {
	return &shard.Op{
		Owner: owner, Bucket: shard.BucketOf(owner), Key: key, Kind: "add",
		Fingerprint: fmt.Appendf(nil, "add %d", n), Body: add{n: n},
	}
}

func submit(t *testing.T, c *shard.Committer, o *shard.Op) shard.Reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return c.Submit(ctx, o)
}

func want(t *testing.T, r shard.Reply, verdict shard.Verdict, body string) {
	t.Helper()
	if r.Err != nil || r.Verdict != verdict || string(r.Body) != body {
		t.Fatalf("reply %v %q %v, want %v %q", r.Verdict, r.Body, r.Err, verdict, body)
	}
}

func TestOperationsAreDecidedOnceAndReplayed(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		c := start(t, shard.Config{DB: db})
		want(t, submit(t, c, op("a", "k1", 5)), shard.Done, "5")
		want(t, submit(t, c, op("a", "k2", -7)), shard.Refused, "insufficient")
		want(t, submit(t, c, op("a", "k3", 10)), shard.Done, "15")

		again := submit(t, c, op("a", "k2", -7)) // C20: a refusal is final, also when it would succeed now
		want(t, again, shard.Refused, "insufficient")
		if !again.Replayed {
			t.Error("the repeat is not marked as replayed")
		}
		want(t, submit(t, c, op("a", "k1", 5)), shard.Done, "5")
		var reused *shard.KeyReusedError
		if r := submit(t, c, op("a", "k1", 6)); !errors.As(r.Err, &reused) {
			t.Errorf("another body under the same key: %v", r.Err)
		}
		seal := &shard.Op{Owner: "a", Bucket: shard.BucketOf("a"), Key: "k9", Kind: "seal", Body: shard.SealOp{}}
		want(t, submit(t, c, seal), shard.Sealed, "")
		if r := submit(t, c, op("a", "k9", 1)); !errors.As(r.Err, &reused) || !reused.Sealed {
			t.Errorf("a sealed key was used: %v", r.Err)
		}
	})
}

func TestManyCallersAreBatchedAndNoneIsLost(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		c := start(t, shard.Config{DB: db})
		const callers, each = 64, 20
		var failed atomic.Int64
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for j := range each {
					o := op(fmt.Sprintf("owner-%d", j%4), fmt.Sprintf("k-%d-%d", i, j), 1)
					if r := submit(t, c, o); r.Err != nil {
						failed.Add(1)
						t.Error(r.Err)
					}
				}
			})
		}
		wg.Wait()
		var sum int64
		if err := db.SQL().QueryRowContext(t.Context(), "SELECT SUM(n) FROM counters").Scan(&sum); err != nil {
			t.Fatal(err)
		}
		if sum+failed.Load() != callers*each {
			t.Errorf("sum %d, failed %d, want %d in all", sum, failed.Load(), callers*each)
		}
	})
}

func TestPoisonedOperationFailsAlone(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		c := start(t, shard.Config{DB: db})
		var wg sync.WaitGroup
		var done, guilty atomic.Int64
		for i := range 100 {
			wg.Go(func() {
				o := op(fmt.Sprintf("o%d", i), "k", 1)
				if i == 42 {
					o.Body = add{n: -1, poison: true}
				}
				switch r := submit(t, c, o); {
				case r.Verdict == shard.Done:
					done.Add(1)
				case errors.Is(r.Err, shard.ErrInternal):
					guilty.Add(1)
				default:
					t.Error(r.Err)
				}
			})
		}
		wg.Wait()
		if done.Load() != 99 || guilty.Load() != 1 {
			t.Errorf("%d done, %d guilty", done.Load(), guilty.Load())
		}
	})
}

func TestStaleEpochAndForeignBucketChangeNothing(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		old := start(t, shard.Config{DB: db, Epoch: 1})
		want(t, submit(t, old, op("a", "k1", 5)), shard.Done, "5")
		exec(t, db, "UPDATE bucket_owner SET state='GONE' WHERE bucket=?", int(shard.BucketOf("b")))
		if r := submit(t, old, op("b", "k1", 5)); !errors.Is(r.Err, shard.ErrStaleRoute) {
			t.Errorf("bucket that moved away: %v", r.Err)
		}
		exec(t, db, "UPDATE fence SET epoch=2 WHERE id=1")
		if r := submit(t, old, op("a", "k2", 5)); !errors.Is(r.Err, shard.ErrStaleRoute) {
			t.Errorf("old epoch: %v", r.Err)
		}
		want(t, submit(t, start(t, shard.Config{DB: db, Epoch: 2}), op("a", "k2", 1)), shard.Done, "6")
	})
}

// An operation whose bucket has moved away is refused also in a batch of others, which are done.
func TestForeignBucketInABatch(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		var g gate
		c := start(t, shard.Config{DB: db, Lanes: 1, FailPoints: g.at(failpoint.BeforeBegin)})
		exec(t, db, "UPDATE bucket_owner SET state='GONE' WHERE bucket=?", int(shard.BucketOf("b")))
		replies := oneBatch(t, c, &g, op("a", "k1", 5), op("b", "k1", 5))
		done, refused := <-replies, <-replies
		if done.Err != nil {
			done, refused = refused, done
		}
		want(t, done, shard.Done, "5")
		if !errors.Is(refused.Err, shard.ErrStaleRoute) {
			t.Errorf("bucket that moved away: %v %v", refused.Verdict, refused.Err)
		}
		if got := total(t, db); got != 5 {
			t.Errorf("the counters hold %d, want 5", got)
		}
	})
}

// Two committers are two instances: their batches race for the same rows, and for rows that do not exist yet.
func TestTwoInstancesShareOwners(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		instances := []*shard.Committer{start(t, shard.Config{DB: db}), start(t, shard.Config{DB: db})}
		const callers, each = 32, 20
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for j := range each {
					o := op(fmt.Sprintf("owner-%d", j), fmt.Sprintf("k-%d", i), 1)
					if r := submit(t, instances[i%2], o); r.Err != nil {
						t.Error(r.Err)
					}
				}
			})
		}
		wg.Wait()
		rows, err := db.SQL().QueryContext(t.Context(), "SELECT owner, n FROM counters")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var owner string
			var n int64
			if err := rows.Scan(&owner, &n); err != nil {
				t.Fatal(err)
			}
			if n != callers {
				t.Errorf("%s has %d, want %d", owner, n, callers)
			}
		}
		if err := rows.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestSettleDecidesForGood(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		c := start(t, shard.Config{DB: db})
		want(t, submit(t, c, op("a", "done", 5)), shard.Done, "5")
		lost := op("a", "lost", 7)
		settled, err := db.Settle(t.Context(), 1, []shard.Unsettled{
			{Owner: "a", Bucket: shard.BucketOf("a"), Key: "done", Fingerprint: []byte("add 5")},
			{Owner: "a", Bucket: shard.BucketOf("a"), Key: "lost", Fingerprint: lost.Fingerprint},
		})
		if err != nil {
			t.Fatal(err)
		}
		if settled[0].Verdict != shard.Done || string(settled[0].Body) != "5" || settled[1].Verdict != shard.Aborted {
			t.Errorf("settled %+v", settled)
		}
		var reused *shard.KeyReusedError
		if r := submit(t, c, op("a", "lost", 8)); !errors.As(r.Err, &reused) {
			t.Errorf("an aborted key was taken by another request: %v %v", r.Verdict, r.Err)
		}
		want(t, submit(t, c, lost), shard.Done, "12") // the same request takes its tombstone over
		want(t, submit(t, c, op("a", "lost", 7)), shard.Done, "12")
	})
}

func TestQueueIsBoundedAndFair(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		gate := make(chan struct{})
		c := start(t, shard.Config{DB: db, Lanes: 1, Queue: 4, FailPoints: func(name string) {
			if name == "before-begin" {
				<-gate
			}
		}})
		results := make(chan shard.Reply, 16)
		send := func(client, key string) {
			o := op("a", key, 1)
			o.Client = client
			go func() { results <- submit(t, c, o) }()
		}
		depth := func(n int) {
			for c.Depth()[0] != n {
				time.Sleep(time.Millisecond)
			}
		}
		send("x", "first")
		time.Sleep(20 * time.Millisecond) // the lane takes it and stops at the gate
		depth(0)
		send("x", "k1")
		send("x", "k2")
		depth(2)
		flood := op("a", "k3", 1)
		flood.Client = "x"
		if r := submit(t, c, flood); !errors.Is(r.Err, shard.ErrOverloaded) {
			t.Errorf("one client filled more than half of the queue: %v", r.Err)
		}
		send("y", "k4")
		depth(3)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel) // no deadline, so only the withdrawal can stop it
		late := op("a", "k5", 1)
		late.Client = "z"
		if r := c.Submit(ctx, late); !errors.Is(r.Err, shard.ErrOverloaded) || errors.Is(r.Err, shard.ErrOutcomeUnknown) {
			t.Errorf("a call that no batch took: %v", r.Err)
		}
		close(gate)
		for range 4 {
			if r := <-results; r.Err != nil {
				t.Error(r.Err)
			}
		}
		want(t, submit(t, c, op("a", "k6", 0)), shard.Done, "4") // the withdrawn call had no effect
	})
}

func TestPacketTextCannotBecomeSQL(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		c := start(t, shard.Config{DB: db})
		evil := strings.Join([]string{`x'); DROP TABLE counters; --`, `\`, "\x00", `"`, "é", "\n"}, " ")
		o := op("a", "k1", 1)
		o.Fingerprint = []byte(strings.Repeat(evil, 3))
		want(t, submit(t, c, o), shard.Done, "1")
		want(t, submit(t, c, o), shard.Done, "1")
	})
}

func exec(t *testing.T, db *shard.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.SQL().ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatal(err)
	}
}

// A batch whose writes would not fit into a packet is split; nobody hears of it.
func TestLargeBatchesAreSplit(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		c := start(t, shard.Config{DB: db, Lanes: 1})
		const owners = 90 // together more than a packet may have
		large := bytes.Repeat([]byte("x"), 200)
		var wg sync.WaitGroup
		for i := range owners {
			wg.Go(func() {
				o := op(fmt.Sprintf("o%d", i), "k", 1)
				o.Fingerprint = large
				o.Body = add{n: 1, reply: 100_000}
				if r := c.Submit(t.Context(), o); r.Verdict != shard.Done {
					t.Errorf("%v %v", r.Verdict, r.Err)
				}
			})
		}
		wg.Wait()
		var n int
		if err := db.SQL().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM counters WHERE n=1").Scan(&n); err != nil || n != owners {
			t.Errorf("%d owners counted, %v", n, err)
		}
	})
}
