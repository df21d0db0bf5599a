package shard_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/netfault"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
)

// settleDirectly is the resolver of these tests: it asks a connection that does not go through the proxy. The real one,
// with its records and blocks, is in package pending.
func settleDirectly(t *testing.T, direct *shard.DB, count *atomic.Int64) func(context.Context, shard.UndecidedBatch) []shard.Fate {
	return func(ctx context.Context, u shard.UndecidedBatch) []shard.Fate {
		var us []shard.Unsettled
		for _, o := range u.Ops {
			us = append(us, shard.Unsettled{Owner: o.Owner, Bucket: o.Bucket, Key: o.Key, Fingerprint: o.Fingerprint})
		}
		settled, err := direct.Settle(ctx, u.Epoch, us)
		for i := 0; err != nil && i < 50; i++ {
			time.Sleep(20 * time.Millisecond)
			settled, err = direct.Settle(ctx, u.Epoch, us)
		}
		if err != nil {
			t.Errorf("settle: %v", err)
			return nil
		}
		fates := make([]shard.Fate, len(settled))
		for i, s := range settled {
			fates[i] = shard.Fate{Op: u.Ops[i], Verdict: s.Verdict, Body: s.Body}
		}
		count.Add(1)
		return fates
	}
}

// cutter is a committer whose only way to the server is a proxy.
type cutter struct {
	*shard.Committer
	proxy     *netfault.Proxy
	direct    *shard.DB
	undecided atomic.Int64
	armed     atomic.Value // func(point string)
}

func newCutter(t *testing.T) *cutter {
	server := testdb.MariaDB(t)
	c := &cutter{proxy: netfault.New(t, server.Addr())}
	schema := server.Schema(t)
	direct, err := shard.OpenMariaDB(server.DSN(schema), time.Now)
	c.direct = prepare(t, direct, err)
	db, err := shard.OpenMariaDB("app@tcp("+c.proxy.Addr()+")/"+schema, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	c.armed.Store(func(string) {})
	c.Committer = start(t, shard.Config{
		DB: db, Lanes: 1, Undecided: settleDirectly(t, c.direct, &c.undecided),
		FailPoints: func(name string) { c.armed.Load().(func(string))(name) },
	})
	return c
}

// The connection is cut after n bytes, for many n, in both directions, from the packet of COMMIT on. Whatever the cut hit,
// every operation has one answer, and the counter is the sum of the answers.
func TestConnectionCutAroundCommit(t *testing.T) {
	c := newCutter(t)
	var sum int64
	for _, d := range []netfault.Direction{netfault.ToServer, netfault.ToClient} {
		for n := 0; n < 700; n += 23 {
			c.armed.Store(func(name string) {
				if name == failpoint.BeforeCommit {
					c.proxy.CutAfter(d, n)
					c.armed.Store(func(string) {})
				}
			})
			heal := time.AfterFunc(30*time.Millisecond, c.proxy.Heal)
			o := op("a", fmt.Sprintf("%s-%d", d, n), 1)
			r := submit(t, c.Committer, o)
			heal.Stop()
			c.proxy.Heal()
			sum++
			if r.Err != nil { // an attempt that had no effect: the key runs now, once
				r = submit(t, c.Committer, o)
			}
			want(t, r, shard.Done, fmt.Sprint(sum))
			want(t, submit(t, c.Committer, o), shard.Done, fmt.Sprint(sum))
		}
	}
	if c.undecided.Load() == 0 {
		t.Error("no cut made an outcome undecided; the test cuts in the wrong place")
	}
	t.Logf("%d cuts were undecided", c.undecided.Load())
}

// The answer to a packet with COMMIT is lost. The COMMIT mostly took place, and then the caller gets the recorded reply and the
// operation is not run again; sometimes the server heard first that nobody listens any more.
func TestAnswerOfCommitLost(t *testing.T) {
	c := newCutter(t)
	want(t, submit(t, c.Committer, op("a", "k0", 1)), shard.Done, "1")
	for i := range 3 {
		c.armed.Store(func(name string) {
			if name == failpoint.BeforeCommit {
				c.proxy.Reset(netfault.ToClient)
				c.armed.Store(func(string) {})
			}
		})
		o := op("a", fmt.Sprint("k", i+1), 1)
		r := submit(t, c.Committer, o)
		c.proxy.Heal()
		for ; errors.Is(r.Err, shard.ErrFailover); r = submit(t, c.Committer, o) { // it was undone, and the proxy is not healed yet
			time.Sleep(time.Millisecond)
		}
		want(t, r, shard.Done, fmt.Sprint(i+2))
	}
	if c.undecided.Load() != 3 {
		t.Errorf("%d undecided outcomes, want 3", c.undecided.Load())
	}
}

// An undecided batch had an operation of a bucket that the shard does not serve. It has written nothing, so its caller hears that the
// route was stale, and the rest can be settled; nobody could ever settle it, too.
func TestUndecidedBatchWithAForeignBucket(t *testing.T) {
	c := newCutter(t)
	exec(t, c.direct, fmt.Sprintf("UPDATE bucket_owner SET state='GONE' WHERE bucket=%d", shard.BucketOf("moved")))
	var g gate
	var commits atomic.Int64
	c.armed.Store(func(name string) {
		g.at(failpoint.BeforeBegin)(name)
		if name == failpoint.BeforeCommit && commits.Add(1) == 2 {
			c.proxy.Reset(netfault.ToClient)
			time.AfterFunc(30*time.Millisecond, c.proxy.Heal)
		}
	})
	busy := func(key string) *shard.Op { return op("busy", key, 0) }
	replies := inOneBatch(t, c.Committer, &g, busy, []*shard.Op{op("a", "k1", 5), op("moved", "k1", 5)})
	if !errors.Is(replies[1].Err, shard.ErrStaleRoute) {
		t.Errorf("the foreign bucket: %v %v", replies[1].Verdict, replies[1].Err)
	}
	for r := replies[0]; ; r = submit(t, c.Committer, op("a", "k1", 5)) {
		if !errors.Is(r.Err, shard.ErrFailover) { // it was undone, and the proxy is not healed yet
			want(t, r, shard.Done, "5")
			break
		}
		time.Sleep(time.Millisecond)
	}
	if c.undecided.Load() != 1 {
		t.Errorf("%d undecided outcomes", c.undecided.Load())
	}
}

// A large batch writes in several round trips. The connection is cut in the first of them, before COMMIT was sent: nothing has
// happened, the callers hear so, and nobody has to find it out.
func TestConnectionCutBeforeCommit(t *testing.T) {
	c := newCutter(t)
	var g gate
	busy := func(key string) *shard.Op { return op("busy", key, 0) }
	ops := make([]*shard.Op, 60)
	for i := range ops {
		ops[i] = op(fmt.Sprint("o", i), "k", 1)
	}
	for _, d := range []netfault.Direction{netfault.ToServer, netfault.ToClient} {
		for _, n := range []int{0, 100, 1000} {
			var commits atomic.Int64
			c.armed.Store(func(name string) {
				g.at(failpoint.BeforeBegin)(name)
				if name == failpoint.BeforeCommit && commits.Add(1) == 2 { // not that of the batch that keeps the lane busy
					c.proxy.CutAfter(d, n)
				}
			})
			for _, r := range inOneBatch(t, c.Committer, &g, busy, ops) {
				if !errors.Is(r.Err, shard.ErrFailover) {
					t.Fatalf("%s cut after %d bytes: %v %v", d, n, r.Verdict, r.Err)
				}
			}
			c.proxy.Heal()
			if got := total(t, c.direct); got != 0 || c.undecided.Load() != 0 {
				t.Errorf("%s cut after %d bytes: the counters hold %d, %d batches were undecided", d, n, got, c.undecided.Load())
			}
		}
	}
	for _, r := range inOneBatch(t, c.Committer, &g, busy, ops) {
		want(t, r, shard.Done, "1")
	}
}

// Nothing reaches the server any more and nothing says so: the caller hears within its deadline, and later the key tells.
func TestDeadlineWhileTheNetworkIsSilent(t *testing.T) {
	c := newCutter(t)
	want(t, submit(t, c.Committer, op("a", "k0", 1)), shard.Done, "1")
	c.armed.Store(func(name string) {
		if name == failpoint.BeforeCommit {
			c.proxy.Swallow(netfault.ToServer)
			c.armed.Store(func(string) {})
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if r := c.Submit(ctx, op("a", "k1", 1)); !errors.Is(r.Err, shard.ErrOutcomeUnknown) {
		t.Errorf("reply %+v, want outcome unknown", r)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the caller waited %v past a deadline of 300ms", took)
	}
	c.proxy.Heal()
	want(t, submit(t, c.Committer, op("a", "k1", 1)), shard.Done, "2")
}

// The server is killed and comes back while many callers work. Every acknowledged operation is there, none twice.
func TestServerKilledUnderLoad(t *testing.T) {
	server := testdb.Start(t, mariadb.Options{})
	db := openMariaDB(t, server)
	var undecided atomic.Int64
	c := start(t, shard.Config{DB: db, Undecided: settleDirectly(t, db, &undecided)})
	stop := make(chan struct{})
	var acknowledged, unknown sync.Map
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("k-%d-%d", i, j)
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				r := c.Submit(ctx, op(fmt.Sprintf("o%d", i%8), key, 1))
				cancel()
				switch {
				case r.Err == nil:
					acknowledged.Store(key, i%8)
				case errors.Is(r.Err, shard.ErrOutcomeUnknown):
					unknown.Store(key, i%8)
				default:
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	for range 2 {
		time.Sleep(300 * time.Millisecond)
		server.Kill(t)
		time.Sleep(100 * time.Millisecond)
		server.Restart(t)
	}
	time.Sleep(500 * time.Millisecond)
	close(stop)
	wg.Wait()

	stored := map[string]bool{}
	rows, err := db.SQL().QueryContext(t.Context(), "SELECT op_key FROM operations WHERE verdict='DONE'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			t.Fatal(err)
		}
		stored[key] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	n := 0
	acknowledged.Range(func(key, _ any) bool {
		n++
		if !stored[key.(string)] {
			t.Errorf("acknowledged operation %v is lost", key)
		}
		return true
	})
	var sum int
	if err := db.SQL().QueryRowContext(t.Context(), "SELECT COALESCE(SUM(n),0) FROM counters").Scan(&sum); err != nil {
		t.Fatal(err)
	}
	if sum != len(stored) || n == 0 {
		t.Errorf("counters hold %d, %d operations are recorded as done, %d acknowledged", sum, len(stored), n)
	}
	t.Logf("%d acknowledged, %d recorded, %d batches undecided", n, len(stored), undecided.Load())
}
