package ledger_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
)

// TestQuotas runs on every engine, with three shards.
func TestQuotas(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			f := newFleet(t, e, 3)
			for _, c := range quotaSuite {
				t.Run(c.name, func(t *testing.T) { c.run(t, f) })
			}
		})
	}
}

var quotaSuite = []struct {
	name string
	run  func(t *testing.T, f *fleet)
}{
	{"Lifecycle", testQuotaLifecycle},
	{"SoldOutExactly", testSoldOutExactly},
	{"SummedUp", testSummedUp},
	{"ExpiredHoldsAreReclaimed", testReclaim},
	{"ShardsAreDown", testShardsAreDown},
	{"DeathAtEveryStep", testDeathAtEveryStep},
	{"Totals", testTotals},
	{"Budget", testBudget},
	{"IdleSlices", testIdleSlices},
	{"LowStock", testLowStock},
	{"Parts", testPartsOfUnits},
	{"Rest", testRestOfUnits},
	{"Late", testLateUnits},
	{"LateBorrows", testLateBorrows},
	{"LateInVain", testLateInVain},
	{"Replaced", testReplacedUnits},
	{"Extended", testExtendedUnits},
	{"Revoked", testRevokedUnits},
	{"Refunded", testRefundedUnits},
	{"Dry", testDryUnits},
	{"Frozen", testFrozenUnits},
	{"Listed", testListedQuotas},
	{"Everything", testEverything},
}

func stockOnly(a as, items ...ledger.Item) ledger.Hold {
	h := a.request(items...)
	h.Lines = nil
	return h
}

func testQuotaLifecycle(t *testing.T, f *fleet) {
	sku := f.stock(t, 1, 10)
	quota := ledger.StockID(sku, "x")
	near, far := f.on(1), f.on(2)
	h := near.hold(t, stockOnly(near, pieces(sku, 1), pieces(sku, 2)))
	if len(h.Hold.Items) != 2 || h.Hold.Items[1].SKU != sku || h.Hold.Items[1].Location != "x" || h.Hold.Items[1].Quantity != 2 {
		t.Errorf("%+v", h.Hold)
	}
	g := far.hold(t, stockOnly(far, pieces(sku, 4)))
	if b := f.count(t, quota); b.held != 7 || b.transit != 0 {
		t.Errorf("%+v", b)
	}
	if err := near.confirm(t.Context(), near.ref(h)); err != nil {
		t.Fatal(err)
	}
	if err := far.cancel(t.Context(), far.ref(g)); err != nil {
		t.Fatal(err)
	}
	read, err := f.ledgers[0].Quota(t.Context(), quota)
	if err != nil || read.Total != 10 || read.Available != 7 || read.Used != 3 || read.Held != 0 {
		t.Errorf("%+v %v", read, err)
	}
	if b := f.count(t, quota); b.used != 3 || b.held != 0 {
		t.Errorf("%+v", b)
	}
	near.hold(t, stockOnly(near, pieces(sku, 7))) // what the other slice has comes over
	_, err = far.l.Hold(t.Context(), far.key(), stockOnly(far, pieces(sku, 1)))
	wantError(t, err, ledger.ErrSoldOut)
	f.count(t, quota)
	_, err = far.l.Hold(t.Context(), far.key(), stockOnly(far, pieces(f.sku(2), 1)))
	wantError(t, err, ledger.ErrNotFound)
}

// testSoldOutExactly has many callers on all instances take single units until there are no more.
func testSoldOutExactly(t *testing.T, f *fleet) {
	const total, callers = 200, 24
	sku := f.stock(t, 2, total)
	var granted, refused atomic.Int64
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for refused.Load() < 3*callers {
				a := f.on(i%3 + 1)
				_, err := a.l.Hold(t.Context(), a.key(), stockOnly(a, pieces(sku, 1)))
				switch {
				case err == nil:
					granted.Add(1)
				case errors.Is(err, ledger.ErrSoldOut):
					refused.Add(1)
				case !errors.Is(err, ledger.ErrQuotaUnavailable):
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if b := f.count(t, ledger.StockID(sku, "x")); granted.Load() != total || b.held != total {
		t.Errorf("granted %d of %d: %+v", granted.Load(), total, b)
	}
}

// R16: several lines of one SKU are one amount.
func testSummedUp(t *testing.T, f *fleet) {
	sku := f.stock(t, 1, 5)
	a := f.on(1)
	_, err := a.l.Hold(t.Context(), a.key(), stockOnly(a, pieces(sku, 3), pieces(sku, 3)))
	wantError(t, err, ledger.ErrSoldOut)
	refused, _ := errors.AsType[*ledger.Refusal](err)
	if *refused.Asked != 6 || refused.Pointer != "/items/0" {
		t.Errorf("%+v", refused)
	}
	a.hold(t, stockOnly(a, pieces(sku, 3), pieces(sku, 2)))
	if b := f.count(t, ledger.StockID(sku, "x")); b.held != 5 {
		t.Errorf("%+v", b)
	}
}

// Units of holds that have expired are free for whoever asks first, though nobody has settled them, on his shard and on others.
func testReclaim(t *testing.T, f *fleet) {
	sku := f.stock(t, 1, 6)
	for number := 1; number <= 3; number++ {
		a := f.on(number)
		a.hold(t, stockOnly(a, pieces(sku, 2)))
	}
	late := f.on(2)
	request := stockOnly(late, pieces(sku, 6))
	f.later(t, time.Hour)
	read, err := f.ledgers[0].Quota(t.Context(), ledger.StockID(sku, "x"))
	if err != nil || read.Available != 6 || read.Held != 0 {
		t.Errorf("before anybody has settled: %+v %v", read, err)
	}
	late.hold(t, request)
	if b := f.count(t, ledger.StockID(sku, "x")); b.held != 6 || b.available != 0 {
		t.Errorf("%+v", b)
	}
}

// R21: what a shard has that is down is not sold out. The same key succeeds when it is back.
func testShardsAreDown(t *testing.T, f *fleet) {
	sku := f.stock(t, 1, 10)
	first := f.on(3)
	first.hold(t, stockOnly(first, pieces(sku, 4))) // and what it was lent for more
	f.count(t, ledger.StockID(sku, "x"))
	f.later(t, 3*time.Second)
	f.tend(t, f.ledgers[0])
	a := f.on(2)
	request, key := stockOnly(a, pieces(sku, 7)), a.key()
	for _, down := range []int{1, 3} {
		f.serve(t, down, 1, shard.PhaseFencing)
		_, err := a.l.Hold(t.Context(), key, request)
		wantError(t, err, ledger.ErrQuotaUnavailable)
		f.serve(t, down, 1, shard.PhaseServing)
	}
	_, err := a.l.Hold(t.Context(), key, request)
	wantError(t, err, ledger.ErrSoldOut)
	request.Items = []ledger.Item{pieces(sku, 6)}
	a.hold(t, request)
	f.count(t, ledger.StockID(sku, "x"))
}

// testDeathAtEveryStep has a process die at the n-th step of the transfers that one hold needs, n = 1, 2, 3 …, before the step and after
// it. Units are never lost or doubled; another process's sweeper finishes, and then everything can be had.
func testDeathAtEveryStep(t *testing.T, f *fleet) {
	for _, after := range []bool{false, true} {
		for steps := 1; ; steps++ {
			sku := f.stock(t, 1, 10)
			quota := ledger.StockID(sku, "x")
			for number := 2; number <= 3; number++ { // units on every shard
				a := f.on(number)
				h := a.hold(t, stockOnly(a, pieces(sku, 5)))
				if err := a.cancel(t.Context(), a.ref(h)); err != nil {
					t.Fatal(err)
				}
			}
			f.count(t, quota)
			var store *dying
			l := f.over(t, nil, func(s ledger.Store) ledger.Store {
				store = &dying{Store: s, steps: steps, after: after}
				return store
			})
			a := f.on(2)
			_, err := l.Hold(t.Context(), a.key(), stockOnly(a, pieces(sku, 10)))
			l.Close()
			f.count(t, quota)
			if !store.dead && err == nil {
				if steps < 6 {
					t.Errorf("a hold of everything took %d steps", steps)
				}
				break
			}
			f.later(t, 3*time.Second)
			f.tend(t, f.ledgers[0])
			if b := f.count(t, quota); b.transit != 0 || f.sum(t, "SELECT COUNT(*) FROM transfers WHERE quota=?", quota) != 0 {
				t.Errorf("death at step %d, after it %v: %+v", steps, after, b)
			}
			if err != nil {
				a = f.on(3)
				a.hold(t, stockOnly(a, pieces(sku, 10)))
			}
			if b := f.count(t, quota); b.held != 10 {
				t.Errorf("death at step %d, after it %v: %+v", steps, after, b)
			}
		}
	}
}

// testTotals changes how many there are while some are sold.
func testTotals(t *testing.T, f *fleet) {
	sku := f.stock(t, 1, 10)
	quota := ledger.StockID(sku, "x")
	a := f.on(2)
	a.hold(t, stockOnly(a, pieces(sku, 4)))
	set := func(total int64) error {
		return second(f.ledgers[0].SetQuota(t.Context(), f.key(), ledger.SetQuota{Quota: quota, Total: total}))
	}
	adjust := func(delta int64) error {
		return second(f.ledgers[0].AdjustQuota(t.Context(), f.key(), ledger.AdjustQuota{Quota: quota, Delta: delta, Reason: "counted"}))
	}
	wantError(t, set(3), ledger.ErrInsufficient)
	wantError(t, adjust(-7), ledger.ErrInsufficient)
	for _, err := range []error{adjust(-1), adjust(+5), set(4), set(7)} {
		if err != nil {
			t.Error(err)
		}
	}
	if b := f.count(t, quota); b.total != 7 || b.held != 4 {
		t.Errorf("%+v", b)
	}
	const none = "budget:none"
	wantError(t, second(f.ledgers[0].AdjustQuota(t.Context(), f.key(), ledger.AdjustQuota{Quota: none, Delta: 1})), ledger.ErrNotFound)
	wantError(t, second(f.ledgers[0].SetQuota(t.Context(), f.key(), ledger.SetQuota{Quota: "stock:one", Total: 1})), ledger.ErrInvalid)
	wantError(t, second(f.ledgers[0].Quota(t.Context(), none)), ledger.ErrNotFound)
	key := f.key()
	first := must(f.ledgers[0].AdjustQuota(t.Context(), key, ledger.AdjustQuota{Quota: quota, Delta: 1}))
	again := must(f.ledgers[0].AdjustQuota(t.Context(), key, ledger.AdjustQuota{Quota: quota, Delta: 1}))
	if !again.Replayed || string(again.Body) != string(first.Body) {
		t.Errorf("%s, then %s", first.Body, again.Body)
	}
	wantReused(t, second(f.ledgers[0].AdjustQuota(t.Context(), key, ledger.AdjustQuota{Quota: quota, Delta: 2})), "delta")
	if verified := must(f.ledgers[0].VerifyHistory(t.Context(), quota)); !verified.Intact || verified.Entries < 6 {
		t.Errorf("%+v", verified)
	}
}

// testBudget spends a budget in mixed amounts: never more than there is, and what is left is less than the smallest refused.
func testBudget(t *testing.T, f *fleet) {
	const total = 10_000
	campaign := f.sku(3)
	quota := ledger.BudgetID(campaign)
	must(f.ledgers[0].SetQuota(t.Context(), f.key(), ledger.SetQuota{Quota: quota, Total: total, Currency: "CNY"}))
	spend := func(amount int64, currency string) error {
		a := f.on(int(amount)%3 + 1)
		item := ledger.Item{Kind: ledger.BudgetItem, CampaignID: campaign, Amount: ledger.Money{Amount: amount, Currency: currency}}
		return second(a.l.Hold(t.Context(), a.key(), stockOnly(a, item)))
	}
	var mu sync.Mutex
	smallest, granted := int64(total), int64(0)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range int64(12) {
				amount := (int64(i)*12+n)*37%250 + 1
				err := spend(amount, "CNY")
				mu.Lock()
				switch {
				case err == nil:
					granted += amount
				case errors.Is(err, ledger.ErrSoldOut):
					smallest = min(smallest, amount)
				default:
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if b := f.count(t, quota); b.held != granted || granted > total || total-granted >= smallest {
		t.Errorf("granted %d, refused %d: %+v", granted, smallest, b)
	}
	wantError(t, spend(1, "EUR"), ledger.ErrCurrencyMismatch)
	err := second(f.ledgers[0].SetQuota(t.Context(), f.key(), ledger.SetQuota{Quota: quota, Total: 1, Currency: "EUR"}))
	wantError(t, err, ledger.ErrCurrencyMismatch)
}

// testIdleSlices: what nobody takes goes home.
func testIdleSlices(t *testing.T, f *fleet) {
	sku := f.stock(t, 1, 100)
	a := f.on(2)
	h := a.hold(t, stockOnly(a, pieces(sku, 60)))
	if err := a.cancel(t.Context(), a.ref(h)); err != nil {
		t.Fatal(err)
	}
	f.tend(t, f.ledgers[0])
	if b := f.count(t, ledger.StockID(sku, "x")); b.available < 60 {
		t.Errorf("at once: %+v", b)
	}
	f.later(t, 2*time.Minute)
	f.tend(t, f.ledgers[0])
	if b := f.count(t, ledger.StockID(sku, "x")); b.free != 100 {
		t.Errorf("after two minutes: %+v", b)
	}
}

// testEverything has many callers do everything at once to few SKUs, while time jumps. The books are right at the end.
func testEverything(t *testing.T, f *fleet) {
	skus := []string{f.stock(t, 1, 40), f.stock(t, 2, 15), f.stock(t, 3, 5)}
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for range 15 {
				f.step(t, random, skus)
			}
		})
	}
	all.Wait()
	f.later(t, time.Hour)
	f.tend(t, f.ledgers[0])
	for _, sku := range skus {
		if b := f.count(t, ledger.StockID(sku, "x")); b.transit != 0 {
			t.Errorf("%s: %+v", sku, b)
		}
	}
}

// step is one thing that a caller may do.
func (f *fleet) step(t *testing.T, random *rand.Rand, skus []string) {
	a := f.on(random.IntN(3) + 1)
	sku, other := skus[random.IntN(len(skus))], skus[random.IntN(len(skus))]
	switch random.IntN(10) {
	case 0:
		f.later(t, 30*time.Second)
	case 1:
		err := second(a.l.AdjustQuota(t.Context(), a.key(), ledger.AdjustQuota{
			Quota: ledger.StockID(sku, "x"), Delta: random.Int64N(7) - 3 | 1,
		}))
		allowed(t, err, ledger.ErrInsufficient)
	case 2:
		for number := range f.dbs {
			allowed(t, a.l.TendQuotas(t.Context(), number+1))
		}
	default:
		answer, err := a.l.Hold(t.Context(), a.key(), stockOnly(a, pieces(sku, random.Int64N(4)+1), pieces(other, 1)))
		if allowed(t, err, ledger.ErrSoldOut); err != nil || random.IntN(4) == 0 {
			return
		}
		f.end(t, a, random, decode[ledger.HoldReply](t, answer, nil))
	}
}

// end is what a caller may do with a hold.
func (f *fleet) end(t *testing.T, a as, random *rand.Rand, h ledger.HoldReply) {
	ref := a.ref(h)
	late := []error{ledger.ErrHoldExpired, ledger.ErrLateUnfulfillable}
	switch random.IntN(6) {
	case 0:
		allowed(t, a.cancel(t.Context(), ref), ledger.ErrHoldExpired)
	case 1:
		first := parts(a, ref, random.IntN(2) == 0, ledger.PartRequest{Quantity: 1})
		allowed(t, second(a.l.Confirm(t.Context(), a.key(), first)), late...)
	case 2:
		request := stockOnly(a, pieces(h.Hold.Items[0].SKU, random.Int64N(6)+1))
		request.OrderID, request.Attempt = h.Hold.OrderID, 2
		err := second(a.l.Replace(t.Context(), a.key(), ledger.Replace{Old: ref, New: request}))
		allowed(t, err, append(late, ledger.ErrSoldOut)...)
	case 3:
		longer := ledger.Extend{Owner: a.owner, Hold: ref, TTL: 2 * time.Minute}
		allowed(t, second(a.l.Extend(t.Context(), a.key(), longer)), late...)
	case 4:
		f.later(t, time.Minute)
		allowed(t, second(a.l.Confirm(t.Context(), a.key(), ledger.Confirm{Owner: a.owner, Hold: ref, AllowLate: true})), late...)
	default:
		allowed(t, a.confirm(t.Context(), ref), ledger.ErrHoldExpired)
	}
}

// allowed complains of errors that are none of those, and not quota-unavailable.
func allowed(t *testing.T, err error, these ...error) {
	t.Helper()
	for _, one := range append(these, nil, ledger.ErrQuotaUnavailable) {
		if errors.Is(err, one) {
			return
		}
	}
	t.Error(err)
}

// testLowStock has the free units of a quota become few, more again, and few again: each time its history says so once.
func testLowStock(t *testing.T, f *fleet) {
	ctx, l, sku := t.Context(), f.ledgers[0], f.sku(1)
	quota := ledger.StockID(sku, "x")
	set := func(total, lowAt int64) {
		t.Helper()
		must(l.SetQuota(ctx, f.key(), ledger.SetQuota{Quota: quota, Total: total, LowAt: lowAt}))
	}
	said := func(want ...int64) {
		t.Helper()
		var got []int64
		for _, e := range must(l.Entries(ctx, quota, ledger.EntryFilter{Limit: ledger.MaxPage})).Items {
			if e.Kind == "QUOTA_LOW" {
				got = append(got, e.Changes[0].Quantity)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("low at %v, want %v", got, want)
		}
	}
	set(10, 4)
	if read := must(l.Quota(ctx, quota)); read.LowAt != 4 {
		t.Errorf("%+v", read)
	}
	must(l.AdjustQuota(ctx, f.key(), ledger.AdjustQuota{Quota: quota, Delta: -5}))
	said()
	must(l.AdjustQuota(ctx, f.key(), ledger.AdjustQuota{Quota: quota, Delta: -1}))
	must(l.AdjustQuota(ctx, f.key(), ledger.AdjustQuota{Quota: quota, Delta: -1}))
	said(4)
	set(10, 4)
	near := f.on(1)
	near.hold(t, stockOnly(near, pieces(sku, 7)))
	said(4, 3)
	set(20, 0)
	must(l.AdjustQuota(ctx, f.key(), ledger.AdjustQuota{Quota: quota, Delta: -13}))
	said(4, 3)
	_, err := l.SetQuota(ctx, f.key(), ledger.SetQuota{Quota: quota, Total: 1, LowAt: -1})
	wantError(t, err, ledger.ErrInvalid)
}
