package ledger_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
)

// follower reads events as a consumer does: on and on from where it was.
type follower struct {
	w    *world
	seen []ledger.FeedEvent
}

// read takes what there is, in pages of limit, and fails the test at any gap in the sequences.
func (f *follower) read(t testing.TB, limit int) {
	t.Helper()
	for {
		page, err := f.w.ledgers[0].EventsAfter(t.Context(), 1, 0, int64(len(f.seen)), limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if e.Sequence != int64(len(f.seen))+1 || e.EventID != fmt.Sprintf("1-%d", e.Sequence) {
				t.Fatalf("after %d events comes number %d, %s", len(f.seen), e.Sequence, e.EventID)
			}
			f.seen = append(f.seen, e)
		}
		if len(page) < limit {
			return
		}
	}
}

// number gives numbers to all events that have none.
func (w *world) number(t testing.TB) {
	t.Helper()
	for more := true; more; {
		var err error
		if _, more, err = ledger.NumberEvents(t.Context(), w.writesOf(t), 1); err != nil {
			t.Error(err)
		}
	}
}

// writesOf is the database as the first instance writes to it.
func (w *world) writesOf(t testing.TB) *shard.DB {
	t.Helper()
	db, _, err := w.configs[0].Store.(*shard.Store).Primary(1)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// complete fails the test unless the follower has seen every entry of the shard once, those of each owner in their order.
func (f *follower) complete(t testing.TB) {
	t.Helper()
	last := map[string]int64{}
	for _, e := range f.seen {
		if e.Entry != last[e.Owner]+1 {
			t.Fatalf("after entry %d of %s comes entry %d", last[e.Owner], e.Owner, e.Entry)
		}
		last[e.Owner] = e.Entry
	}
	owners := 0
	f.w.each(t, "SELECT owner, MAX(seq) FROM entries GROUP BY owner", func(row []any) {
		owners++
		if got := fmt.Sprint(last[row[0].(string)]); got != row[1] {
			t.Errorf("%s has %s entries, and %s of them were events", row[0], row[1], got)
		}
	})
	if owners != len(last) {
		t.Errorf("%d owners have entries, events are of %d", owners, len(last))
	}
}

// holdOpen keeps the key of a coming operation locked, so that its batch writes its row of the outbox and then waits before COMMIT.
// release lets it go on.
func (w *world) holdOpen(t testing.TB, owner, key string) (release func()) {
	t.Helper()
	conn := must(w.db.SQL().Conn(t.Context()))
	must(conn.ExecContext(t.Context(), "BEGIN"))
	must(conn.ExecContext(t.Context(), "INSERT INTO operations (bucket, owner, op_key, fingerprint, verdict, epoch, decided_at, reply) "+
		"VALUES (?,?,?,'','DONE',1,1,'')", int(shard.BucketOf(owner)), owner, key))
	return sync.OnceFunc(func() {
		must(conn.ExecContext(context.WithoutCancel(t.Context()), "ROLLBACK"))
		_ = conn.Close()
	})
}

// waitForID waits until the outbox has given away an id beyond one, committed or not.
func (w *world) waitForID(t testing.TB, above int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var next int64
		must(0, w.db.SQL().QueryRowContext(t.Context(), "SELECT AUTO_INCREMENT FROM information_schema.TABLES "+
			"WHERE TABLE_SCHEMA=DATABASE() AND TABLE_NAME='outbox'").Scan(&next))
		if next > above+1 {
			return
		}
	}
	t.Fatal("the batch has not written its row")
}

// A batch takes its row of the outbox first and commits last. The reader has passed everything that committed meanwhile, and still sees
// it.
func TestLateCommitIsNotSkipped(t *testing.T) {
	w := newWorld(t, engines[0])
	f := &follower{w: w}
	early, late := as{w, w.ledgers[1], w.owner()}, as{w, w.ledgers[2], w.owner()}
	early.credit(t, 1, time.Hour)
	key := w.key()
	release := w.holdOpen(t, late.owner, key.Key)
	defer release()
	done := make(chan error, 1)
	go func() {
		_, err := late.l.CreditLot(t.Context(), key, ledger.CreditLot{
			Owner: late.owner, IssueRef: "late", Source: "test", Amount: cny(7), ExpiresAt: time.Now().Add(time.Hour),
		})
		done <- err
	}()
	w.waitForID(t, 1)
	early.credit(t, 2, time.Hour)
	w.number(t)
	f.read(t, 1)
	if n := len(f.seen); n != 2 || f.seen[1].Owner != early.owner {
		t.Fatalf("while the commit is held open: %+v", f.seen)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	early.credit(t, 3, time.Hour)
	w.number(t)
	f.read(t, 2)
	f.complete(t)
	if f.seen[2].Owner != late.owner || f.seen[3].Owner != early.owner {
		t.Errorf("%+v", f.seen)
	}
	var ids []string // the premise: by the order of ids the late one would have been skipped
	w.each(t, "SELECT id FROM outbox ORDER BY first", func(row []any) { ids = append(ids, row[0].(string)) })
	if slices.IsSorted(ids) {
		t.Errorf("the batches committed in the order of their ids %v: nothing was shown", ids)
	}
}

// Writers on all instances, some held open before COMMIT at random, several that give numbers, and a reader beside them: it sees every
// entry, once, those of an owner in order.
func TestEventsAreComplete(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
			defer stop()
			var working sync.WaitGroup
			for i := range 9 {
				working.Go(func() { w.busy(ctx, t, i) })
			}
			for range 2 {
				working.Go(func() {
					for ctx.Err() == nil {
						if head := must(ledger.EventHeadOf(t.Context(), w.db)); head.Waiting {
							w.number(t)
						}
						time.Sleep(time.Millisecond) // SQLite has one writer at a time
					}
				})
			}
			f := &follower{w: w}
			for ctx.Err() == nil {
				f.read(t, 1+len(f.seen)%7)
			}
			during := len(f.seen)
			working.Wait()
			w.number(t)
			f.read(t, ledger.MaxEvents)
			f.complete(t)
			if during == 0 {
				t.Error("nothing was read while the writers worked")
			}
			t.Logf("%d events, %d of them while the writers worked", len(f.seen), during)
		})
	}
}

// busy writes as one owner until ctx ends. On MariaDB every few operations one is held open.
func (w *world) busy(ctx context.Context, t *testing.T, i int) {
	a := as{w, w.ledgers[i%len(w.ledgers)], w.owner()}
	for n := 0; ctx.Err() == nil; n++ {
		key := w.key()
		if n%5 == i%5 && w.db.Dialect == shard.MariaDB {
			release := w.holdOpen(t, a.owner, key.Key)
			time.AfterFunc(time.Duration(10+n%40)*time.Millisecond, release)
		}
		_, err := a.l.CreditLot(t.Context(), key, ledger.CreditLot{
			Owner: a.owner, IssueRef: key.Key, Source: "test", Amount: cny(7), ExpiresAt: time.Now().Add(time.Hour),
		})
		if err != nil && !errors.Is(err, shard.ErrOverloaded) {
			t.Errorf("credit: %v", err)
		}
	}
}

// A batch with entries of many owners, and several of one, becomes as many events; what decides nothing becomes none.
func TestEventsOfABatch(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			a := w.audited(t) // two holds that are decided; a third is not
			a.atOnce(t, 60, func(as, int) error {
				b := w.fresh()
				b.credit(t, 10, time.Hour)
				return nil
			})
			w.number(t)
			f := &follower{w: w}
			f.read(t, 13)
			f.complete(t)
			if len(f.seen) != 6+60 {
				t.Errorf("%d events", len(f.seen))
			}
			confirmed := f.seen[slices.IndexFunc(f.seen, func(e ledger.FeedEvent) bool { return e.Type == "CONFIRMED" })]
			page, err := a.l.Entries(t.Context(), a.owner, ledger.EntryFilter{})
			if err != nil {
				t.Fatal(err)
			}
			entry := page.Items[confirmed.Entry-1]
			if confirmed.HoldID != entry.HoldID || !confirmed.At.Equal(entry.At) || len(confirmed.Changes) != 2 || confirmed.Shard != 1 {
				t.Errorf("the event %+v of the entry %+v", confirmed, entry)
			}
		})
	}
}

// Old events are removed from the front only, and whoever asks for them hears that they are gone.
func TestTrimEvents(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			a := w.fresh()
			for range 5 {
				a.credit(t, 1, time.Hour)
				w.number(t)
			}
			must(w.db.SQL().ExecContext(t.Context(), "UPDATE outbox SET at=at-? WHERE first IN (1,2,3,5)", int64(time.Hour/time.Microsecond)))
			if more, err := ledger.TrimEvents(t.Context(), w.db, 1, time.Now().Add(-time.Minute)); more || err != nil {
				t.Fatal(more, err)
			}
			head := must(ledger.EventHeadOf(t.Context(), w.db))
			if head != (ledger.EventHead{Last: 5, Trimmed: 3}) {
				t.Errorf("%+v", head)
			}
			for after, want := range map[int64][]int64{0: {4, 5}, 3: {4, 5}, 4: {5}, 5: nil, 6: nil} {
				var got []int64
				for _, e := range must(a.l.EventsAfter(t.Context(), 1, 0, after, 10)) {
					got = append(got, e.Sequence)
				}
				if !slices.Equal(got, want) {
					t.Errorf("after %d: %v, want %v", after, got, want)
				}
			}
			_, err := a.l.EventsAfter(t.Context(), 1, 0, 2, 10)
			wantError(t, err, ledger.ErrTrimmed)
		})
	}
}

// Nobody gives numbers under an old epoch.
func TestNumbersAreFenced(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			w.fresh().credit(t, 1, time.Hour)
			_, _, err := ledger.NumberEvents(t.Context(), w.db, 2)
			wantError(t, err, shard.ErrStaleRoute)
			if head := must(ledger.EventHeadOf(t.Context(), w.db)); head != (ledger.EventHead{Waiting: true}) {
				t.Errorf("%+v", head)
			}
			boom := errors.New("boom")
			wantError(t, w.db.Transact(t.Context(), 1, func(tx *sql.Conn) error {
				must(tx.ExecContext(t.Context(), "UPDATE outbox_head SET last=9"))
				return boom
			}), boom)
			if head := must(ledger.EventHeadOf(t.Context(), w.db)); head.Last != 0 {
				t.Errorf("a transaction that failed left %+v", head)
			}
		})
	}
}
