package feed

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/netfault"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/shard"
)

// writers add rows to the log side by side, each one after the other, in transactions of one to four rows. stop returns how many rows
// each of them was told to be committed. The number of the first one is given.
func (r *rig) writers(db *sql.DB, count, first int) (stop func() []int) {
	ctx, cancel := context.WithCancel(r.Context())
	acked := make([]int, count)
	var all sync.WaitGroup
	for w := range count {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for ctx.Err() == nil {
				n := 1 + random.IntN(4)
				if insert(ctx, db, first+w, acked[w]+1, n) != nil {
					return // whether it was committed is not known, so nothing may follow it
				}
				acked[w] += n
			}
		})
	}
	return func() []int {
		cancel()
		all.Wait()
		return acked
	}
}

// insert adds rows in one transaction. It is not cut short by the end of ctx.
func insert(ctx context.Context, db *sql.DB, writer, from, n int) error {
	ctx = context.WithoutCancel(ctx)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for i := range n {
		if _, err := tx.ExecContext(ctx, "INSERT INTO log VALUES (?,?,'')", writer, from+i); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// complete fails unless the consumer has every acknowledged row, each writer's in its order and without a gap. A row more per writer's
// last transaction is possible: its answer may have been lost.
func (r *rig) complete(m *memory, acked []int) {
	r.Helper()
	r.eventually(fmt.Sprintf("all of %v have come", acked), func() bool {
		rows := map[int64]int64{}
		for _, row := range m.rows() {
			if row[1] != rows[row[0]]+1 {
				r.Fatalf("writer %d: row %d after %d", row[0], row[1], rows[row[0]])
			}
			rows[row[0]] = row[1]
		}
		for w, n := range acked {
			if rows[int64(w)] < int64(n) {
				return false
			}
		}
		return true
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := 1; i < len(m.order); i++ {
		if m.order[i].Seq <= m.order[i-1].Seq {
			r.Fatalf("transaction %s after %s", m.order[i], m.order[i-1])
		}
	}
	r.Logf("%d transactions, %d repeats, %d releases, %d resets", len(m.order), m.repeats, len(m.releases), len(m.gaps))
}

// Tailers are ended at random moments while many write, before, while and after the consumer takes something, which now and then fails
// or loses its last position.
func TestEveryRowInOrder(t *testing.T) {
	t.Parallel()
	server := testdb.MariaDB(t)
	r := newRig(t, server)
	m := newMemory()
	random := rand.New(rand.NewPCG(7, 7))
	tailer, stop := r.tail(r.config(m))
	r.started(tailer)
	done := r.writers(r.db, 6, 0)
	for round := range 12 {
		time.Sleep(time.Duration(random.IntN(120)) * time.Millisecond)
		if round%3 == 1 {
			m.mu.Lock()
			m.fail = errConsumer
			m.mu.Unlock()
			time.Sleep(20 * time.Millisecond)
		}
		seen := len(m.rows())
		r.eventually("something has come", func() bool { return len(m.rows()) > seen })
		stop()
		if round%4 == 3 {
			m.mu.Lock()
			m.position = m.releases[0].Position // an old one, as of a store that was restored
			m.mu.Unlock()
		}
		_, stop = r.tail(r.config(m))
	}
	acked := done()
	r.complete(m, acked)
	if m.resets() != 1 {
		t.Errorf("the consumer started anew for %v", m.reasons())
	}
	if m.repeats == 0 {
		t.Error("nothing was repeated, so nothing was interrupted")
	}
}

// Two tailers of one consumer, as for a moment after a lease was lost, are no harm.
func TestTwoTailers(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.MariaDB(t))
	m := newMemory()
	one, _ := r.tail(r.config(m))
	r.started(one)
	two, _ := r.tail(r.config(m))
	r.started(two)
	done := r.writers(r.db, 4, 0)
	time.Sleep(300 * time.Millisecond)
	r.complete(m, done())
	if m.resets() != 1 {
		t.Errorf("the consumer started anew for %v", m.reasons())
	}
}

// The connection is cut at bytes that nobody has chosen, and is silent for longer than a server may be.
func TestCutConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.MariaDB(t))
	proxy := netfault.New(t, r.server.Addr())
	r.route(2, "SERVING", proxy.Addr())
	r.exec("UPDATE fence SET epoch=2")
	m := newMemory()
	tailer, _ := r.tail(r.config(m))
	r.started(tailer)
	done := r.writers(r.db, 4, 0)
	for i := range 6 {
		proxy.CutAfter(netfault.ToClient, 3000+i*7777)
		time.Sleep(100 * time.Millisecond)
		proxy.Heal()
		time.Sleep(50 * time.Millisecond)
	}
	r.started(tailer)
	proxy.Swallow(netfault.ToClient)
	r.eventually("silence is noticed", func() bool { return tailer.Status().Epoch == 0 })
	proxy.Heal()
	r.complete(m, done())
	if m.resets() != 1 {
		t.Errorf("the consumer started anew for %v", m.reasons())
	}
}

// A server that is stopped keeps its connections, and answers later what it was sent. The feed ends at once even then.
func TestPausedServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.Start(t, mariadb.Options{}))
	m := newMemory()
	tailer, stop := r.tail(r.config(m))
	r.started(tailer)
	r.write(0, 1)
	r.eventually("the row has come", func() bool { return m.has(0, 1) })
	complete := tailer.Status().CompleteAt

	r.server.Pause(t)
	r.eventually("the pause is noticed", func() bool { return tailer.Status().Epoch == 0 })
	if at := tailer.Status().CompleteAt; time.Since(at) < silenceMax/2 || at.Before(complete) {
		t.Errorf("a server that was stopped is said to be complete at %v", at)
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > 2*silenceMax {
		t.Errorf("a tailer of a stopped server took %v to end", took)
	}
	r.server.Resume(t)
	r.write(0, 2)
	_, _ = r.tail(r.config(m))
	r.complete(m, []int{2})
}

// A consumer that is slow makes the primary wait for it, and gets a transaction that fits nowhere in parts.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.MariaDB(t))
	m := newMemory()
	cfg := r.config(m)
	cfg.windowBytes = 256 << 10
	const rows, size = 200, 20 << 10 // 4 MiB
	var most int
	m.entered = func(release Release) {
		bytes := 0
		for _, one := range release.Transactions {
			for _, c := range one.Changes {
				if pad, ok := c.After.Value("pad"); ok {
					bytes += len(pad.([]byte))
				}
			}
		}
		most = max(most, bytes) // one call at a time
	}
	tailer, stop := r.tail(cfg)
	r.started(tailer)
	tx, err := r.db.BeginTx(t.Context(), nil)
	r.must(err)
	for i := range rows {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO log VALUES (7,?,REPEAT('x',?))", i+1, size)
		r.must(err)
	}
	r.must(tx.Commit())
	r.write(0, 1)
	r.eventually("what comes after it is there", func() bool { return m.has(0, 1) })
	stop()
	if most > cfg.windowBytes+2*size {
		t.Errorf("a release has %d bytes, and may have %d", most, cfg.windowBytes)
	}
	if len(m.parts) != 1 {
		t.Fatalf("%d transactions came in parts", len(m.parts))
	}
	for gtid, p := range m.parts {
		if p.parts < rows*size/cfg.windowBytes || p.changes != rows {
			t.Errorf("%s came in %d parts with %d changes", gtid, p.parts, p.changes)
		}
	}
}

// What a release calls complete is complete: at that instant nobody had been told of a commit that is not in it or an earlier one.
func TestComplete(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.MariaDB(t))
	m := newMemory()
	var mu sync.Mutex
	type ack struct {
		row [2]int64
		at  time.Time
	}
	var acks []ack // in the order of their times
	var releases, late int
	m.after = func(release Release) { // whatever was acknowledged before CompleteAt must have been taken by now
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for n < len(acks) && acks[n].at.Before(release.CompleteAt) {
			if row := acks[n].row; m.newest[row[0]] < row[1] {
				late++
			}
			n++
		}
		releases, acks = releases+1, acks[n:]
	}
	tailer, _ := r.tail(r.config(m))
	r.started(tailer)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	total := 0
	for w := range 6 {
		all.Go(func() {
			for seq := 1; ctx.Err() == nil; seq++ {
				if err := insert(ctx, r.db, w, seq, 1); err != nil {
					t.Error(err)
				}
				mu.Lock()
				acks = append(acks, ack{[2]int64{int64(w), int64(seq)}, time.Now()})
				total++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	r.eventually("all is complete", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(acks) == 0
	})
	mu.Lock()
	defer mu.Unlock()
	if late > 0 || releases < 5 || total < 50 {
		t.Errorf("%d of %d rows were missing when it was said that all are there; %d releases", late, total, releases)
	}
}

// A primary whose shard is at another epoch than the route has nothing to say, whatever it commits.
func TestStaleEpoch(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.MariaDB(t))
	m := newMemory()
	tailer, _ := r.tail(r.config(m))
	r.started(tailer)
	r.exec("UPDATE fence SET epoch=2")
	r.eventually("it has stopped", func() bool { return errors.Is(tailer.Status().Err, errStale) })
	r.write(1, 1)
	time.Sleep(2 * markEvery)
	if m.has(1, 1) {
		t.Error("a row was released under an epoch that is over")
	}
	r.route(2, shard.PhaseServing, r.server.Addr())
	r.complete(m, []int{0, 1})
}
