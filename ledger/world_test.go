package ledger_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
	"github.com/statesvc/statesvc/shard/id"
)

// world is a shard on a real database, and instances of the ledger that share it. Its clock only goes forwards: advance raises
// the shard's floor, below which no batch decides.
type world struct {
	db      *shard.DB
	open    func() (*shard.DB, error)
	codec   *id.Codec
	ledgers []*ledger.Ledger
	configs []ledger.Config
	numbers atomic.Int64 // of owners and keys
	started int          // instances
	start   func(t testing.TB, points failpoint.Points) ledger.Config
}

const idKey = "statesvc-test-key-0123456789abcd"

// engine is a database that the suite runs on.
type engine struct {
	name      string
	instances int // SQLite is for one process
	open      func(t testing.TB) func() (*shard.DB, error)
}

var engines = []engine{
	{"mariadb", 3, func(t testing.TB) func() (*shard.DB, error) {
		t.Helper()
		server := testdb.MariaDB(t)
		dsn := server.DSN(server.Schema(t))
		return func() (*shard.DB, error) { return shard.OpenMariaDB(dsn, time.Now) }
	}},
	{"sqlite", 1, func(t testing.TB) func() (*shard.DB, error) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "shard.db")
		return func() (*shard.DB, error) { return shard.OpenSQLite(path, time.Now) }
	}},
}

func newWorld(t testing.TB, e engine) *world {
	t.Helper()
	open := e.open(t)
	db := must(open())
	t.Cleanup(func() { _ = db.Close() })
	must(migrations.Up(t.Context(), db.SQL(), db.Dialect.String()))
	if err := db.TakeBuckets(t.Context(), 0, shard.Buckets-1); err != nil {
		t.Fatal(err)
	}
	w := &world{db: db, open: open, codec: must(id.NewCodec(map[uint8][]byte{1: []byte(idKey)}, 1))}
	routes := newRoutes(t)
	w.start = func(t testing.TB, points failpoint.Points) ledger.Config {
		t.Helper()
		w.started++
		return w.instance(t, routes, open, uint16(w.started), points)
	}
	for range e.instances {
		cfg := w.start(t, nil)
		w.configs = append(w.configs, cfg)
		w.ledgers = append(w.ledgers, ledger.New(cfg))
	}
	return w
}

func newRoutes(t testing.TB) *shard.Routes {
	t.Helper()
	reg := must(register.OpenFile(filepath.Join(t.TempDir(), "register")))
	t.Cleanup(func() { _ = reg.Close() })
	shards := must(shard.NewUniformMap([]string{"one"}))
	record := shard.Record{
		Epoch: 1, Phase: shard.PhaseServing, Primary: "n1", Nodes: map[string]shard.Node{"n1": {Address: "here"}},
	}
	must(register.Put(t.Context(), reg, shard.MapKey, must(shards.Encode())))
	must(register.Put(t.Context(), reg, shard.RecordKey(1), must(record.Encode())))
	routes := must(shard.OpenRoutes(t.Context(), reg, shard.RoutesOptions{
		Now: time.Now, RenewEvery: time.Hour, Log: slog.New(slog.DiscardHandler),
	}))
	t.Cleanup(routes.Close)
	return routes
}

// instance is what makes a ledger with a store, lanes and an id node of its own.
func (w *world) instance(t testing.TB, routes *shard.Routes, open func() (*shard.DB, error), node uint16,
	points failpoint.Points, more ...func(*shard.StoreConfig),
) ledger.Config {
	t.Helper()
	cfg := shard.StoreConfig{
		Routes: routes,
		Open:   func(shard.Route) (*shard.DB, error) { return open() },
		Committer: shard.Config{
			Machine: ledger.NewMachine(w.codec), Now: time.Now, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), FailPoints: points,
			Undecided: func(context.Context, shard.UndecidedBatch) []shard.Fate {
				t.Error("an outcome was not known, though nothing was cut")
				return nil
			},
		},
	}
	for _, change := range more {
		change(&cfg)
	}
	store := shard.NewStore(cfg)
	t.Cleanup(func() {
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	minter := id.NewMinter(w.codec, time.Now)
	minter.Use(id.Grant{Node: node, Mark: time.Now().Add(time.Hour)})
	return ledger.Config{Store: store, Codec: w.codec, Minter: minter, Now: time.Now}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err.Error())
	}
	return v
}

// owner returns a name that no test has used.
func (w *world) owner() string { return fmt.Sprintf("owner-%d", w.numbers.Add(1)) }

// key returns a caller with a key of its own.
func (w *world) key() ledger.Caller {
	return ledger.Caller{Key: fmt.Sprintf("key-%d", w.numbers.Add(1)), Client: "test"}
}

// now is the shard's time.
func (w *world) now(t testing.TB) time.Time {
	t.Helper()
	var floor int64
	if err := w.db.SQL().QueryRowContext(t.Context(), "SELECT floor_at FROM fence").Scan(&floor); err != nil {
		t.Fatal(err)
	}
	return time.UnixMicro(max(floor, time.Now().UnixMicro())).UTC()
}

// advance moves the shard's time forward.
func (w *world) advance(t testing.TB, d time.Duration) {
	t.Helper()
	floor := w.now(t).Add(d).UnixMicro()
	if _, err := w.db.SQL().ExecContext(t.Context(), "UPDATE fence SET floor_at=?", floor); err != nil {
		t.Fatal(err)
	}
}

// as is an owner's view of one instance, for tests that do not care which.
type as struct {
	*world
	l     *ledger.Ledger
	owner string
}

func (w *world) fresh() as { return as{w, w.ledgers[0], w.owner()} }

func (a as) credit(t testing.TB, amount int64, ttl time.Duration) ledger.LotReply {
	t.Helper()
	answer, err := a.l.CreditLot(t.Context(), a.key(), ledger.CreditLot{
		Owner: a.owner, IssueRef: a.key().Key, Source: "spring", Amount: cny(amount), ExpiresAt: a.now(t).Add(ttl),
	})
	return decode[ledger.LotReply](t, answer, err)
}

func (a as) issue(t testing.TB, d ledger.Discount, ttl time.Duration) ledger.Coupon {
	t.Helper()
	answer, err := a.l.IssueCoupon(t.Context(), a.key(), ledger.IssueCoupon{
		Owner: a.owner, CampaignID: "spring", IssueRef: a.key().Key, Discount: d, ExpiresAt: a.now(t).Add(ttl),
	})
	return decode[ledger.CouponReply](t, answer, err).Coupon
}

func (a as) coupon(c ledger.Coupon) ledger.Item {
	return ledger.Item{Kind: ledger.CouponItem, CouponID: must(a.codec.Parse(id.Coupon, c.CouponID))}
}

// request is a hold of items for an order that costs 100 and 50.
func (a as) request(items ...ledger.Item) ledger.Hold {
	return ledger.Hold{
		Owner: a.owner, OrderID: a.key().Key, Attempt: 1, TTL: time.Minute, Items: items,
		Lines: []ledger.Line{{LineID: "l1", Amount: cny(100)}, {LineID: "l2", Amount: cny(50)}},
	}
}

func (a as) hold(t testing.TB, h ledger.Hold) ledger.HoldReply {
	t.Helper()
	answer, err := a.l.Hold(t.Context(), a.key(), h)
	return decode[ledger.HoldReply](t, answer, err)
}

func (a as) ref(h ledger.HoldReply) ledger.HoldRef {
	return ledger.HoldRef{HoldID: must(a.codec.Parse(id.Hold, h.Hold.HoldID))}
}

func (a as) confirm(ctx context.Context, ref ledger.HoldRef) error {
	_, err := a.l.Confirm(ctx, a.key(), ledger.Confirm{Owner: a.owner, Hold: ref})
	return err
}

func (a as) cancel(ctx context.Context, ref ledger.HoldRef) error {
	_, err := a.l.Cancel(ctx, a.key(), ledger.Cancel{Owner: a.owner, Hold: ref})
	return err
}

// money is what a read shows of the owner's CNY.
func (a as) money(t testing.TB) (available, held int64) {
	t.Helper()
	body, err := a.l.Owner(t.Context(), a.owner)
	if err != nil {
		t.Fatal(err)
	}
	if len(body.Balances) == 0 {
		return 0, 0
	}
	return body.Balances[0].Available, body.Balances[0].Held
}

func (a as) wantMoney(t testing.TB, available, held int64) {
	t.Helper()
	if gotAvailable, gotHeld := a.money(t); gotAvailable != available || gotHeld != held {
		t.Errorf("%d available and %d held, want %d and %d", gotAvailable, gotHeld, available, held)
	}
}

// kinds counts the owner's entries by kind.
func (a as) kinds(t testing.TB) map[string]int {
	t.Helper()
	page, err := a.l.Entries(t.Context(), a.owner, ledger.EntryFilter{Limit: ledger.MaxPage})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, e := range page.Items {
		kinds[e.Kind]++
	}
	return kinds
}

// intact fails the test if the owner's hash chain is broken.
func (a as) intact(t testing.TB) {
	t.Helper()
	v, err := a.l.VerifyHistory(t.Context(), a.owner)
	if err != nil || !v.Intact {
		t.Errorf("history of %s: %+v, %v", a.owner, v, err)
	}
}

func cny(amount int64) ledger.Money { return ledger.Money{Amount: amount, Currency: "CNY"} }

func money(amount int64) ledger.Item { return ledger.Item{Kind: ledger.MoneyItem, Amount: cny(amount)} }

func fixed(amount int64) ledger.Discount {
	return ledger.Discount{Kind: ledger.Fixed, Currency: "CNY", Amount: amount}
}

func decode[T any](t testing.TB, a ledger.Answer, err error) (body T) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(a.Body, &body); err != nil {
		t.Fatal(err)
	}
	return body
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

// tally counts how calls ended that were made at once.
type tally struct {
	mu    sync.Mutex
	count map[string]int
}

// atOnce makes n calls at once, spread over the instances, and counts them by code; "" is done.
func (a as) atOnce(t testing.TB, n int, call func(a as, i int) error) map[string]int {
	t.Helper()
	result := tally{count: map[string]int{}}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			err := call(as{a.world, a.ledgers[i%len(a.ledgers)], a.owner}, i)
			result.mu.Lock()
			defer result.mu.Unlock()
			result.count[code(err)]++
		})
	}
	wg.Wait()
	return result.count
}

func code(err error) string {
	if err == nil {
		return ""
	}
	if refusal, ok := errors.AsType[*ledger.Refusal](err); ok {
		return refusal.Code
	}
	return err.Error()
}

// audits are questions that have no answer while every invariant holds.
var audits = map[string]string{
	"I2: money that does not sum up": "SELECT lot_id FROM lots WHERE issued<>available+held+spent+expired+revoked",
	"a live hold without its order": "SELECT hold_id FROM holds h WHERE NOT EXISTS " +
		"(SELECT 1 FROM orders o WHERE o.bucket=h.bucket AND o.hold_id=h.hold_id)",
	"I3: a hold live and decided": "SELECT h.hold_id FROM holds h JOIN decided_holds d ON d.bucket=h.bucket AND d.hold_id=h.hold_id",
	"a held coupon without a hold": "SELECT coupon_id FROM coupons c WHERE state='HELD' AND NOT EXISTS " +
		"(SELECT 1 FROM holds h WHERE h.bucket=c.bucket AND h.hold_id=c.hold_id AND h.expires_at=c.held_until)",
	"a used coupon without a confirmed hold": "SELECT coupon_id FROM coupons c WHERE state='USED' AND NOT EXISTS " +
		"(SELECT 1 FROM decided_holds d WHERE d.bucket=c.bucket AND d.hold_id=c.hold_id AND d.state='CONFIRMED') AND NOT EXISTS " +
		"(SELECT 1 FROM holds h WHERE h.bucket=c.bucket AND h.hold_id=c.hold_id AND h.progress IS NOT NULL)",
	"a pin without a hold": "SELECT hold_id FROM pins p WHERE NOT EXISTS " +
		"(SELECT 1 FROM holds h WHERE h.bucket=p.bucket AND h.hold_id=p.hold_id)",
	"live holds counted wrongly": "SELECT owner FROM owners o WHERE live_holds<>" +
		"(SELECT COUNT(*) FROM holds h WHERE h.bucket=o.bucket AND h.owner=o.owner)",
	"an expiry that nobody would see": "SELECT owner FROM owners o WHERE EXISTS (SELECT 1 FROM holds h WHERE h.bucket=o.bucket " +
		"AND h.owner=o.owner AND (o.due_at=0 OR h.expires_at<o.due_at))",
	"a gap in a history": "SELECT owner FROM owners o WHERE entry_seq<>(SELECT COUNT(*) FROM entries e WHERE e.bucket=o.bucket " +
		"AND e.owner=o.owner)",
	"an owner's row in another bucket": "SELECT owner FROM owners WHERE bucket<>(SELECT MIN(bucket) FROM orders o WHERE o.owner=owners.owner)",
}

// audit fails the test if the tables break an invariant.
func (w *world) audit(t testing.TB) {
	t.Helper()
	for wrong, question := range audits {
		w.each(t, question, func(row []any) { t.Errorf("%s: %s", wrong, row) })
	}
	if _, drift := auditOnce(t, w.auditor(t)); len(drift) > 0 {
		t.Errorf("the auditor has found %+v", drift)
	}
	held := map[string]int64{}
	const live = "SELECT o.doc, COALESCE(h.progress, '{}') FROM holds h JOIN orders o ON o.bucket=h.bucket AND o.hold_id=h.hold_id"
	w.each(t, live, func(row []any) {
		var hold ledger.HoldBody
		if err := json.Unmarshal(fmt.Append(nil, row[0]), &hold); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(fmt.Append(nil, row[1]), &hold.Progress); err != nil {
			t.Fatal(err)
		}
		for item, it := range hold.Items {
			for n, share := range it.Lots {
				held[share.LotID] += share.Amount
				if len(hold.Parts) > 0 {
					held[share.LotID] -= hold.Parts[item].Lots[n].Confirmed
				}
			}
		}
	})
	w.each(t, "SELECT lower(hex(lot_id)), held FROM lots", func(row []any) {
		var lot id.ID
		must(hex.Decode(lot[:], fmt.Append(nil, row[0])))
		if want := fmt.Sprint(held[w.codec.Text(id.Lot, lot)]); want != fmt.Sprint(row[1]) {
			t.Errorf("lot %s has %s held, its live holds %s", lot, row[1], want)
		}
	})
}

// each calls f for every row of a query, with its columns as texts.
func (w *world) each(t testing.TB, query string, f func(row []any)) {
	t.Helper()
	rows, err := w.db.SQL().QueryContext(context.Background(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns := must(rows.Columns())
	for rows.Next() {
		texts, row := make([]string, len(columns)), make([]any, len(columns))
		for i := range row {
			row[i] = &texts[i]
		}
		if err := rows.Scan(row...); err != nil {
			t.Fatal(err)
		}
		for i := range row {
			row[i] = texts[i]
		}
		f(row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}
