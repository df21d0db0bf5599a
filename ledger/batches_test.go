package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// TestBatchesChangeNothing runs one random workload three times: on rows in memory, on SQLite one operation per batch, and on
// SQLite in large batches. Replies and tables must be the same: what is loaded is enough, what is written is all, and what
// else is in a batch makes no difference.
func TestBatchesChangeNothing(t *testing.T) {
	for seed := range 4 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := &walk{desk: newDesk(t), dice: rand.New(rand.NewPCG(uint64(seed), 0)), frozen: map[string]bool{}}
			compareBatches(t, w)
		})
	}
}

// compareBatches draws a workload from w and runs it in every way.
func compareBatches(t *testing.T, w *walk) {
	t.Helper()
	steps := drawSteps(w)
	want := make([]shard.Reply, len(steps))
	for i, s := range steps {
		w.at = s.at
		want[i] = w.do(s.owner, s.body)
	}
	tables := w.tables()
	for _, size := range []int{1, 40, partly, unbroken} {
		db := newLiteDB(t, size)
		for i, got := range db.run(steps, size, want) {
			if got.Verdict != want[i].Verdict || !bytes.Equal(got.Body, want[i].Body) || fmt.Sprint(got.Err) != fmt.Sprint(want[i].Err) {
				t.Fatalf("batches of %d, step %d, %T %+v:\n got %v %s %v\nwant %v %s %v", size, i, steps[i].body, steps[i].body,
					got.Verdict, got.Body, got.Err, want[i].Verdict, want[i].Body, want[i].Err)
			}
		}
		db.compare(tables)
	}
}

// unbroken is a size of batches that look everything up at once, and need not end with an operation that is refused. Other batches do: such
// an operation runs once more behind the rest of its batch, which is another order.
const unbroken = 50

// partly is a size of batches that load of an owner's lots no more than the first one, wherever they may.
const partly = 41

// eager looks everything up in every batch.
type eager struct{ *Machine }

func (m eager) NewBatch(ops []*shard.Op, _ bool) shard.Batch { return m.Machine.NewBatch(ops, true) }

type step struct {
	at    time.Time
	owner string
	body  any
}

func drawSteps(w *walk) []step {
	steps := make([]step, 300)
	for i := range steps {
		owner, body := w.draw()
		steps[i] = step{w.at, owner, body}
	}
	return steps
}

// TestBatchesOfUnits does the same with holds of stock, and with homes and slices.
func TestBatchesOfUnits(t *testing.T) {
	for seed := range 6 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := walkOfUnits(newDesk(t), uint64(seed))
			compareBatches(t, w)
		})
	}
}

// tables are the rows in memory as the database must have them.
func (d *desk) tables() map[string][]string {
	tables := map[string][]string{}
	add := func(table, format string, args ...any) {
		tables[table] = append(tables[table], fmt.Sprintf(format, args...))
	}
	for _, o := range d.owners {
		if o.ver > 0 {
			add("owners", "%s %d %d %x %d %d %d", o.name, o.ver, o.entrySeq, o.head, o.liveHolds, o.dueAt, map[bool]int{true: 1}[o.frozen])
		}
	}
	for _, c := range d.coupons {
		add("coupons", "%s %s %s %d %s %d %d %s", c.owner.name, c.id, c.state, c.ver, hexOrNull(c.holdID), c.heldUntil, c.validFrom,
			c.terms.written())
	}
	for _, l := range d.lots {
		add("lots", "%s %s %d %d %d %d %d %d %d %d", l.owner.name, l.id, l.Available, l.Held, l.Spent, l.Expired, l.Revoked, l.ver,
			l.expiresAt, l.grace)
	}
	for _, h := range d.holds {
		if h.state == Held {
			add("holds", "%s %s %s %d %d %s", h.owner, h.id, h.orderID, h.attempt, h.expiresAt, h.writtenProgress())
			if h.progress != nil && !h.progress.PinnedAt.IsZero() {
				add("pins", "%s %s %d", h.owner, h.id, h.progress.PinnedAt.UnixMicro())
			}
		} else {
			add("decided_holds", "%s %s %s %d %s %d %s", h.owner, h.id, h.orderID, h.attempt, h.state, h.decidedAt, h.writtenProgress())
		}
	}
	for _, r := range d.refunds {
		add("refunds", "%s %s %s %s %x %d %s", r.owner.name, r.ref, r.id, r.holdID, r.hash, r.at, r.doc)
	}
	for _, a := range d.adjustments {
		notes, _ := json.Marshal(a.notes)
		add("adjustments", "%s %s %s %s %s %d %d %d %d %d %s", a.owner.name, a.id, a.ref, a.state, a.currency, a.delta, a.lotUntil,
			a.proposedAt, a.endsAt, a.decidedAt, notes)
	}
	for r, h := range d.orders {
		add("orders", "%s %s %d %s %x %s", r.owner, r.orderID, r.attempt, h.id, h.hash, h.doc)
	}
	for _, h := range d.homes {
		add("quotas", "%s %d %d %d", h.quota, h.total, h.free, h.ver)
		for _, g := range h.grants {
			if g.ver > 0 {
				add("grants", "%s %d %d %d %d %d", h.quota, g.shard, g.granted, g.outSeq, g.inSeq, g.ver)
			}
		}
	}
	for _, r := range d.slices {
		add("slices", "%s %d %d %d %d %d %d %d %d", r.quota, r.granted, r.Available, r.Held, r.Used, r.taken, r.sinceAt, r.takenAt, r.ver)
	}
	for _, t := range d.transfers {
		if !t.closed {
			add("transfers", "%s %s %s %d %d %d", t.id, t.kind, t.quota, t.shard, t.seq, t.amount)
		}
	}
	for _, h := range d.holds {
		for _, take := range h.quotas {
			if h.state == Held {
				add("hold_items", "%s %s %s %d %d", h.id, take.quota, h.owner, take.amount, h.expiresAt)
			}
		}
	}
	for _, e := range d.changed.entries {
		add("entries", "%s %d %s %d %s %s %x", e.owner.name, e.seq, e.kind, e.at, hexOrNull(e.holdID), e.doc, e.hash)
	}
	for _, rows := range tables {
		slices.Sort(rows)
	}
	return tables
}

func hexOrNull(i id.ID) string {
	if i == (id.ID{}) {
		return ""
	}
	return i.String()
}

// tableSQL selects what tables shows.
var tableSQL = map[string]string{
	"owners": "SELECT owner||' '||ver||' '||entry_seq||' '||lower(hex(head))||' '||live_holds||' '||due_at||' '||frozen FROM owners",
	"coupons": "SELECT owner||' '||lower(hex(coupon_id))||' '||state||' '||ver||' '||" +
		"coalesce(lower(hex(nullif(hold_id,zeroblob(16)))),'')||' '||held_until||' '||valid_from||' '||" +
		"coalesce(CAST(terms AS TEXT),'') FROM coupons",
	"lots": "SELECT owner||' '||lower(hex(lot_id))||' '||available||' '||held||' '||spent||' '||expired||' '||revoked||' '||ver||' '||" +
		"expires_at||' '||coalesce(refund_grace,0) FROM lots",
	"holds": "SELECT owner||' '||lower(hex(hold_id))||' '||order_id||' '||attempt||' '||expires_at||' '||" +
		"coalesce(CAST(progress AS TEXT),'') FROM holds",
	"pins": "SELECT owner||' '||lower(hex(hold_id))||' '||pinned_at FROM pins",
	"refunds": "SELECT owner||' '||refund_ref||' '||lower(hex(refund_id))||' '||lower(hex(hold_id))||' '||" +
		"lower(hex(request_hash))||' '||refunded_at||' '||CAST(doc AS TEXT) FROM refunds",
	"adjustments": "SELECT owner||' '||lower(hex(adjustment_id))||' '||adjustment_ref||' '||state||' '||currency||' '||delta||' '||" +
		"lot_until||' '||proposed_at||' '||ends_at||' '||decided_at||' '||CAST(notes AS TEXT) FROM adjustments",
	"decided_holds": "SELECT owner||' '||lower(hex(hold_id))||' '||coalesce(order_id,'')||' '||coalesce(attempt,0)||' '||" +
		"state||' '||decided_at||' '||coalesce(CAST(progress AS TEXT),'') FROM decided_holds",
	"orders": "SELECT owner||' '||order_id||' '||attempt||' '||lower(hex(hold_id))||' '||lower(hex(request_hash))||' '||" +
		"CAST(doc AS TEXT) FROM orders",
	"entries": "SELECT owner||' '||seq||' '||kind||' '||at||' '||coalesce(lower(hex(hold_id)),'')||' '||" +
		"CAST(doc AS TEXT)||' '||lower(hex(hash)) FROM entries",
	"quotas": "SELECT quota||' '||total||' '||free||' '||ver FROM quotas",
	"grants": "SELECT quota||' '||shard||' '||granted||' '||out_seq||' '||in_seq||' '||ver FROM grants",
	"slices": "SELECT quota||' '||granted||' '||available||' '||held||' '||used||' '||taken||' '||since_at||' '||taken_at||' '||ver " +
		"FROM slices",
	"transfers":  "SELECT lower(hex(transfer_id))||' '||kind||' '||quota||' '||shard||' '||seq||' '||amount FROM transfers",
	"hold_items": "SELECT lower(hex(hold_id))||' '||quota||' '||owner||' '||amount||' '||expires_at FROM hold_items",
}

// liteDB is a shard on SQLite whose clock is the test's.
type liteDB struct {
	*testing.T
	db        *shard.DB
	eager     bool
	committer *shard.Committer

	at      time.Time
	gated   atomic.Bool
	entered chan struct{} // a batch is about to begin …
	release chan struct{} // … and now it may
}

func newLiteDB(t *testing.T, size int) *liteDB {
	t.Helper()
	l := &liteDB{T: t, eager: size == unbroken, entered: make(chan struct{}), release: make(chan struct{})}
	db, err := shard.OpenSQLite(filepath.Join(t.TempDir(), "shard.db"), func() time.Time {
		if l.gated.Load() {
			l.entered <- struct{}{} // the lane asks for the time when it begins a batch
			<-l.release
		}
		return l.at
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Up(t.Context(), db.SQL(), db.Dialect.String()); err != nil {
		t.Fatal(err)
	}
	if err := db.TakeBuckets(t.Context(), 0, shard.Buckets-1); err != nil {
		t.Fatal(err)
	}
	l.db = db
	var machine shard.Machine = NewMachine(testCodec())
	switch size {
	case partly:
		machine = &Machine{testCodec(), newCrowds(1)}
	case unbroken:
		machine = eager{NewMachine(testCodec())}
	}
	l.committer = shard.NewCommitter(shard.Config{
		Shard: 1, Epoch: 1, DB: db, Machine: machine, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	t.Cleanup(func() {
		if err := l.committer.Close(context.Background()); err != nil {
			t.Error(err)
		}
		_ = db.Close()
	})
	return l
}

// run submits the steps in batches of at most size, each batch at one time.
func (l *liteDB) run(steps []step, size int, want []shard.Reply) []shard.Reply {
	replies := make([]shard.Reply, 0, len(steps))
	for start := 0; start < len(steps); {
		end := start + 1
		for end < len(steps) && end-start < size && steps[end].at.Equal(steps[start].at) && (l.eager || want[end-1].Verdict == shard.Done) {
			end++
		}
		replies = append(replies, l.batch(steps[start:end], start)...)
		start = end
	}
	return replies
}

// batch holds the lane up with an operation of its own until all steps wait behind it, in their order.
func (l *liteDB) batch(steps []step, first int) []shard.Reply {
	l.at = steps[0].at
	l.gated.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { l.committer.Submit(l.Context(), liteOp("somebody", "", expireOp{})) })
	<-l.entered
	replies := make([]shard.Reply, len(steps))
	for i, s := range steps {
		key := fmt.Sprintf("key-%d", first+i)
		switch s.body.(type) {
		case expireOp, *borrowOp, *giveBackOp, *landOp, *closeOp:
			key = "" // in the background
		}
		if l.eager {
			key = ""
		}
		wg.Go(func() { replies[i] = l.committer.Submit(l.Context(), liteOp(s.owner, key, s.body)) })
		l.waitFor(i + 1)
	}
	l.gated.Store(false)
	l.release <- struct{}{}
	wg.Wait()
	return replies
}

// waitFor waits until the lane has taken its operation and n others wait.
func (l *liteDB) waitFor(n int) {
	deadline := time.Now().Add(10 * time.Second)
	for l.committer.Depth()[0] != n {
		if time.Now().After(deadline) {
			l.Fatalf("%d operations wait, not %d", l.committer.Depth()[0], n)
		}
		time.Sleep(20 * time.Microsecond)
	}
}

func liteOp(owner, key string, body any) *shard.Op {
	return &shard.Op{Owner: owner, Bucket: shard.BucketOf(owner), Key: key, Fingerprint: []byte{1}, Kind: "test", Body: body}
}

// texts are the rows of a query with one column.
func (l *liteDB) texts(query string) (all []string) {
	l.Helper()
	rows, err := l.db.SQL().QueryContext(l.Context(), query)
	if err != nil {
		l.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			l.Fatal(err)
		}
		all = append(all, text)
	}
	if err := rows.Err(); err != nil {
		l.Fatal(err)
	}
	return all
}

func (l *liteDB) compare(want map[string][]string) {
	l.Helper()
	for table, query := range tableSQL {
		got := l.texts(query)
		slices.Sort(got)
		if !slices.Equal(got, want[table]) {
			l.Errorf("%s:\n got %s\nwant %s", table, strings.Join(got, "\n"), strings.Join(want[table], "\n"))
		}
	}
}
