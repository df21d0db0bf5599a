package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
	"github.com/statesvc/statesvc/shard/id"
)

// fleet is several shards on real databases, and instances of the ledger that share them.
type fleet struct {
	world // of the first shard; its ledgers are the instances
	dbs   []*shard.DB
	reg   *register.File
	route *shard.Routes
	opens []func() (*shard.DB, error)
}

func newFleet(t testing.TB, e engine, shards int) *fleet {
	t.Helper()
	f := &fleet{world: world{codec: must(id.NewCodec(map[uint8][]byte{1: []byte(idKey)}, 1))}}
	names := make([]string, shards)
	for i := range names {
		names[i] = fmt.Sprint("s", i+1)
		open := e.open(t)
		db := must(open())
		t.Cleanup(func() { _ = db.Close() })
		must(migrations.Up(t.Context(), db.SQL(), db.Dialect.String()))
		f.dbs, f.opens = append(f.dbs, db), append(f.opens, open)
	}
	f.db = f.dbs[0]
	f.reg = must(register.OpenFile(filepath.Join(t.TempDir(), "register")))
	t.Cleanup(func() { _ = f.reg.Close() })
	m := must(shard.NewUniformMap(names))
	for _, run := range m.Runs {
		if err := f.dbs[run.Shard-1].TakeBuckets(t.Context(), run.From, run.To); err != nil {
			t.Fatal(err)
		}
	}
	must(register.Put(t.Context(), f.reg, shard.MapKey, must(m.Encode())))
	for i := range names {
		f.serve(t, i+1, 1, shard.PhaseServing)
	}
	f.route = must(shard.OpenRoutes(t.Context(), f.reg, shard.RoutesOptions{
		Now: time.Now, RenewEvery: time.Hour, Log: slog.New(slog.DiscardHandler),
	}))
	t.Cleanup(f.route.Close)
	for range e.instances {
		f.ledgers = append(f.ledgers, f.instance(t, nil))
	}
	return f
}

// serve writes the record of a shard.
func (f *fleet) serve(t testing.TB, number int, epoch uint64, phase shard.Phase) {
	t.Helper()
	record := shard.Record{Epoch: epoch, Phase: phase, Primary: "n1", Nodes: map[string]shard.Node{"n1": {Address: "here"}}}
	must(register.Put(t.Context(), f.reg, shard.RecordKey(number), must(record.Encode())))
	for f.route != nil { // the instances hear of it a moment later
		changed := f.route.Changed()
		if heard, _ := f.route.Record(number); heard.Epoch == epoch && heard.Phase == phase {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("the routes do not change")
		}
	}
}

// instance opens one more instance.
func (f *fleet) instance(t testing.TB, points failpoint.Points) *ledger.Ledger {
	t.Helper()
	return f.over(t, points, func(s ledger.Store) ledger.Store { return s })
}

// over opens an instance whose ledger sees its store through another.
func (f *fleet) over(t testing.TB, points failpoint.Points, wrap func(ledger.Store) ledger.Store) *ledger.Ledger {
	t.Helper()
	f.started++
	open := func(r shard.Route) (*shard.DB, error) { return f.opens[r.Shard-1]() }
	cfg := f.world.instance(t, f.route, nil, uint16(f.started), points, func(cfg *shard.StoreConfig) { cfg.Open = open })
	cfg.Store = wrap(cfg.Store)
	l := ledger.New(cfg)
	t.Cleanup(l.Close)
	return l
}

// on returns a new owner who lives on a shard.
func (f *fleet) on(number int) as {
	for {
		owner := f.owner()
		if n, _ := f.route.Lookup(shard.BucketOf(owner)); n == number {
			return as{&f.world, f.ledgers[int(f.numbers.Load())%len(f.ledgers)], owner}
		}
	}
}

// sku returns a name that no test has used, at home on a shard.
func (f *fleet) sku(number int) string {
	for {
		sku := fmt.Sprintf("sku-%d", f.numbers.Add(1))
		if n, _ := f.route.Lookup(shard.BucketOf(ledger.StockID(sku, "x"))); n == number {
			return sku
		}
	}
}

// stock returns a new SKU of which there are so many.
func (f *fleet) stock(t testing.TB, number int, total int64) string {
	t.Helper()
	sku := f.sku(number)
	must(f.ledgers[0].SetQuota(t.Context(), f.key(), ledger.SetQuota{Quota: ledger.StockID(sku, "x"), Total: total}))
	return sku
}

func pieces(sku string, quantity int64) ledger.Item {
	return ledger.Item{Kind: ledger.StockItem, SKU: sku, Location: "x", Quantity: quantity}
}

// sum adds up a number that a query finds on each shard.
func (f *fleet) sum(t testing.TB, query string, args ...any) (sum int64) {
	t.Helper()
	for _, db := range f.dbs {
		var n int64
		if err := db.SQL().QueryRowContext(context.Background(), query, args...).Scan(&n); err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// books is where the units of a quota are.
type books struct{ total, free, available, held, used, transit int64 }

// count reads the books of a quota and checks them. Its queries are not one snapshot, and units may be borrowed ahead of need in the
// background, so it looks again for a while before it complains.
func (f *fleet) count(t testing.TB, quota string) (b books) {
	t.Helper()
	var wrong string
	for range 200 {
		if b, wrong = f.look(t, quota); wrong == "" {
			return b
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s: %+v: %s", quota, b, wrong)
	return b
}

func (f *fleet) look(t testing.TB, quota string) (b books, wrong string) {
	t.Helper()
	one := func(column, table string) int64 {
		return f.sum(t, "SELECT COALESCE(SUM("+column+"),0) FROM "+table+" WHERE quota=?", quota)
	}
	b = books{
		total: one("total", "quotas"), free: one("free", "quotas"), available: one("available", "slices"),
		held: one("held", "slices"), used: one("used", "slices"), transit: f.transit(t, quota),
	}
	if sum := b.free + b.available + b.held + b.used + b.transit; sum != b.total {
		return b, fmt.Sprintf("they sum up to %d", sum)
	}
	if granted := one("granted", "grants"); granted != b.total-b.free {
		return b, fmt.Sprintf("the home has granted %d", granted)
	}
	if items := one("amount", "hold_items"); items != b.held {
		return b, fmt.Sprintf("the pending holds have %d", items)
	}
	return b, ""
}

// transit sums up the transfers that are out and not in.
func (f *fleet) transit(t testing.TB, quota string) (sum int64) {
	t.Helper()
	inSlice, inHome := map[int64]int64{}, map[int64]int64{}
	for _, db := range f.dbs {
		for query, in := range map[string]map[int64]int64{
			"SELECT shard, in_seq FROM slices WHERE quota=?": inSlice, "SELECT shard, in_seq FROM grants WHERE quota=?": inHome,
		} {
			rows := must(db.SQL().QueryContext(context.Background(), query, quota))
			for rows.Next() {
				var number, seq int64
				if err := rows.Scan(&number, &seq); err != nil {
					t.Fatal(err)
				}
				in[number] = seq
			}
			_ = rows.Close()
		}
	}
	for _, db := range f.dbs {
		rows := must(db.SQL().QueryContext(context.Background(), "SELECT kind, shard, seq, amount FROM transfers WHERE quota=?", quota))
		for rows.Next() {
			var kind string
			var number, seq, amount int64
			if err := rows.Scan(&kind, &number, &seq, &amount); err != nil {
				t.Fatal(err)
			}
			if kind == "GRANT" && seq > inSlice[number] || kind == "RETURN" && seq > inHome[number] {
				sum += amount
			}
		}
		_ = rows.Close()
	}
	return sum
}

// later moves the time of all shards forward. A busy file of SQLite may be locked for longer than a connection waits.
func (f *fleet) later(t testing.TB, d time.Duration) {
	t.Helper()
	floor := f.now(t).Add(d).UnixMicro()
	for _, db := range f.dbs {
		var err error
		for range 20 {
			if _, err = db.SQL().ExecContext(context.Background(), "UPDATE fence SET floor_at=?", floor); err == nil {
				break
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// tend does what a sweeper does, on all shards.
func (f *fleet) tend(t testing.TB, l *ledger.Ledger) {
	t.Helper()
	for number := range f.dbs {
		if err := l.TendQuotas(context.Background(), number+1); err != nil {
			t.Error(err)
		}
	}
}

// errDied is what a process says that has died: nothing.
var errDied = errors.New("the process has died")

// dying is a store whose process dies at one step of a transfer: before the step is sent, or after it is done and before anybody hears
// of it. What comes later is not done either.
type dying struct {
	ledger.Store
	mu    sync.Mutex
	steps int  // left
	after bool // the last of them is done
	dead  bool
}

func (d *dying) Submit(ctx context.Context, op *shard.Op) shard.Reply {
	switch op.Kind {
	case "borrow", "give-back", "land", "close":
	default:
		return d.Store.Submit(ctx, op)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return shard.Reply{Err: errDied}
	}
	if d.steps--; d.steps > 0 {
		return d.Store.Submit(ctx, op)
	}
	d.dead = true
	if d.after {
		d.Store.Submit(ctx, op)
	}
	return shard.Reply{Err: errDied}
}
