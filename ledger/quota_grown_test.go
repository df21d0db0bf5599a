package ledger_test

import (
	"errors"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// wantBooks compares where the units of a quota are that are held, used, or neither.
func (f *fleet) wantBooks(t *testing.T, quota string, held, used, rest int64) {
	t.Helper()
	if b := f.count(t, quota); b.held != held || b.used != used || b.free+b.available+b.transit != rest {
		t.Errorf("%+v, want %d held, %d used, %d that can be had", b, held, used, rest)
	}
}

func (f *fleet) budget(t *testing.T, total int64) ledger.Item {
	t.Helper()
	it := ledger.Item{Kind: ledger.BudgetItem, CampaignID: f.sku(3), Amount: cny(1)}
	must(f.ledgers[0].SetQuota(t.Context(), f.key(), ledger.SetQuota{
		Quota: ledger.BudgetID(it.CampaignID), Total: total, Currency: "CNY",
	}))
	return it
}

func parts(a as, ref ledger.HoldRef, final bool, parts ...ledger.PartRequest) ledger.Confirm {
	return ledger.Confirm{Owner: a.owner, Hold: ref, Items: parts, Final: final}
}

// R17: a part uses some of the units, the rest stays held until it is confirmed, or is given back.
func testPartsOfUnits(t *testing.T, f *fleet) {
	sku, a := f.stock(t, 1, 10), f.on(2)
	quota, budget := ledger.StockID(sku, "x"), f.budget(t, 100)
	budget.Amount.Amount = 60
	ref := a.ref(a.hold(t, stockOnly(a, pieces(sku, 2), budget, pieces(sku, 5))))
	confirm := func(r ledger.Confirm) ledger.HoldReply {
		t.Helper()
		answer, err := a.l.Confirm(t.Context(), a.key(), r)
		return decode[ledger.HoldReply](t, answer, err)
	}
	confirm(parts(a, ref, false, ledger.PartRequest{Item: 2, Quantity: 3}, ledger.PartRequest{Item: 1, Amount: cny(20)}))
	f.wantBooks(t, quota, 4, 3, 3)
	f.wantBooks(t, ledger.BudgetID(budget.CampaignID), 40, 20, 40)
	confirm(parts(a, ref, false, ledger.PartRequest{Item: 0, All: true}, ledger.PartRequest{Item: 2, All: true}))
	f.wantBooks(t, quota, 0, 7, 3)
	for request, want := range map[ledger.PartRequest]error{
		{Item: 2, Quantity: 1}:                                      ledger.ErrInsufficient,
		{Item: 1, Amount: cny(41)}:                                  ledger.ErrInsufficient,
		{Item: 1, Amount: ledger.Money{Amount: 1, Currency: "USD"}}: ledger.ErrCurrencyMismatch,
		{Item: 1, Quantity: 1}:                                      ledger.ErrInvalid,
		{Item: 0, Amount: cny(1)}:                                   ledger.ErrInvalid,
		{Item: 0, Quantity: 1, All: true}:                           ledger.ErrInvalid,
		{Item: 0, Quantity: -1}:                                     ledger.ErrInvalid,
	} {
		wantError(t, second(a.l.Confirm(t.Context(), a.key(), parts(a, ref, false, request))), want)
	}
	last := confirm(parts(a, ref, true, ledger.PartRequest{Item: 1, Amount: cny(10)}))
	if last.Hold.State != "CONFIRMED" || last.Hold.Rest != "RELEASED" {
		t.Errorf("%+v", last.Hold)
	}
	f.wantBooks(t, ledger.BudgetID(budget.CampaignID), 0, 30, 70)
	a.intact(t)
}

// What was not confirmed of a part comes back when the hold expires, is cancelled, or is confirmed after all.
func testRestOfUnits(t *testing.T, f *fleet) {
	for name, end := range map[string]func(a as, ref ledger.HoldRef) error{
		"expires":   func(a as, _ ledger.HoldRef) error { f.later(t, time.Hour); return a.l.ExpireDue(t.Context(), a.owner) },
		"cancelled": func(a as, ref ledger.HoldRef) error { return a.cancel(t.Context(), ref) },
		"confirmed": func(a as, ref ledger.HoldRef) error { return a.confirm(t.Context(), ref) },
	} {
		sku, a := f.stock(t, 1, 10), f.on(3)
		ref := a.ref(a.hold(t, stockOnly(a, pieces(sku, 6))))
		if err := second(a.l.Confirm(t.Context(), a.key(), parts(a, ref, false, ledger.PartRequest{Quantity: 2}))); err != nil {
			t.Fatal(err)
		}
		if err := end(a, ref); err != nil {
			t.Fatal(name, err)
		}
		used := map[string]int64{"expires": 2, "cancelled": 2, "confirmed": 6}[name]
		f.wantBooks(t, ledger.StockID(sku, "x"), 0, used, 10-used)
	}
}

// R13: a late confirm takes the units again if they are still there. If not, it says so, and takes nothing of the others.
func testLateUnits(t *testing.T, f *fleet) {
	sku, a, other := f.stock(t, 1, 4), f.on(2), f.on(2)
	quota, budget := ledger.StockID(sku, "x"), f.budget(t, 10)
	ref := a.ref(a.hold(t, stockOnly(a, pieces(sku, 1), budget, pieces(sku, 2))))
	late := ledger.Confirm{Owner: a.owner, Hold: ref, AllowLate: true}
	f.later(t, time.Hour)
	taken := other.hold(t, stockOnly(other, pieces(sku, 2)))
	_, err := a.l.Confirm(t.Context(), a.key(), late)
	wantError(t, err, ledger.ErrLateUnfulfillable)
	refused, _ := errors.AsType[*ledger.Refusal](err)
	if len(refused.Gone) != 1 || refused.Gone[0].QuotaID != quota || refused.Gone[0].Asked != 3 {
		t.Errorf("%+v", refused.Gone)
	}
	f.wantBooks(t, quota, 2, 0, 2)
	f.wantBooks(t, ledger.BudgetID(budget.CampaignID), 0, 0, 10)
	if err := other.cancel(t.Context(), other.ref(taken)); err != nil {
		t.Fatal(err)
	}
	answer, err := a.l.Confirm(t.Context(), a.key(), late)
	if reply := decode[ledger.HoldReply](t, answer, err); !reply.Hold.Late || reply.Hold.State != "CONFIRMED" {
		t.Errorf("%+v", reply.Hold)
	}
	f.wantBooks(t, quota, 0, 3, 1)
	f.wantBooks(t, ledger.BudgetID(budget.CampaignID), 0, 1, 9)
	a.intact(t)
}

// R13: units that have gone to other shards meanwhile are borrowed. While a shard cannot be asked, that is not known, and nothing is
// recorded; what others hold or have used is gone.
func testLateBorrows(t *testing.T, f *fleet) {
	sku, a, other := f.stock(t, 1, 4), f.on(2), f.on(3)
	quota := ledger.StockID(sku, "x")
	ref := a.ref(a.hold(t, stockOnly(a, pieces(sku, 3))))
	f.later(t, time.Hour)
	taken := other.hold(t, stockOnly(other, pieces(sku, 4)))
	late, key := ledger.Confirm{Owner: a.owner, Hold: ref, AllowLate: true}, a.key()
	_, err := a.l.Confirm(t.Context(), a.key(), late)
	wantError(t, err, ledger.ErrLateUnfulfillable)
	if gone := refusalOf(err).Gone; len(gone) != 1 || gone[0] != (ledger.GoneAsset{QuotaID: quota, Asked: 3}) {
		t.Errorf("%+v", gone)
	}
	f.wantBooks(t, quota, 4, 0, 0)
	if err := other.cancel(t.Context(), other.ref(taken)); err != nil {
		t.Fatal(err)
	}
	f.serve(t, 3, 1, shard.PhaseFencing)
	_, err = a.l.Confirm(t.Context(), key, late)
	wantError(t, err, ledger.ErrQuotaUnavailable)
	f.serve(t, 3, 1, shard.PhaseServing)
	dry := ledger.Caller{Key: key.Key, DryRun: true}
	for _, c := range []ledger.Caller{dry, key, key} {
		answer, err := a.l.Confirm(t.Context(), c, late)
		if reply := decode[ledger.HoldReply](t, answer, err); !reply.Hold.Late || reply.Hold.State != "CONFIRMED" {
			t.Errorf("%+v", reply.Hold)
		}
	}
	f.wantBooks(t, quota, 0, 3, 1)
	a.intact(t)
}

// A late confirm that would lack a coupon does not move units in vain.
func testLateInVain(t *testing.T, f *fleet) {
	sku, a, other := f.stock(t, 1, 4), f.on(2), f.on(3)
	coupon := a.issue(t, fixed(10), 24*time.Hour)
	ref := a.ref(a.hold(t, a.request(a.coupon(coupon), pieces(sku, 3))))
	f.later(t, time.Hour)
	if h := other.hold(t, stockOnly(other, pieces(sku, 4))); other.cancel(t.Context(), other.ref(h)) != nil {
		t.Fatal("not cancelled")
	}
	a.hold(t, a.request(a.coupon(coupon)))
	_, err := a.l.Confirm(t.Context(), a.key(), ledger.Confirm{Owner: a.owner, Hold: ref, AllowLate: true})
	wantError(t, err, ledger.ErrLateUnfulfillable)
	if gone := refusalOf(err).Gone; len(gone) != 1 || gone[0].CouponID != coupon.CouponID {
		t.Errorf("%+v", gone)
	}
	if n := f.sum(t, "SELECT COALESCE(SUM(available),0) FROM slices WHERE quota=? AND shard=2", ledger.StockID(sku, "x")); n != 0 {
		t.Errorf("%d units were borrowed in vain", n)
	}
}

// R14: what the old hold has is free for the new one, and what is missing is borrowed. If there is too little, the old one stays.
func testReplacedUnits(t *testing.T, f *fleet) {
	sku, a := f.stock(t, 1, 10), f.on(2)
	quota := ledger.StockID(sku, "x")
	request := stockOnly(a, pieces(sku, 6))
	ref := a.ref(a.hold(t, request))
	replace := func(attempt int, quantity int64) (ledger.Answer, error) {
		next := request
		next.Attempt, next.Items = attempt, []ledger.Item{pieces(sku, quantity)}
		return a.l.Replace(t.Context(), a.key(), ledger.Replace{Old: ref, New: next})
	}
	wantError(t, second(replace(2, 11)), ledger.ErrSoldOut)
	f.wantBooks(t, quota, 6, 0, 4)
	if state := a.holdOf(t, ref).State; state != "HELD" {
		t.Error(state)
	}
	answer, err := replace(3, 10)
	next := a.ref(decode[ledger.HoldReply](t, answer, err))
	f.wantBooks(t, quota, 10, 0, 0)
	if err := a.confirm(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	f.wantBooks(t, quota, 0, 10, 0)
}

// R12: units of a hold that lives longer are not reclaimed when it would have expired.
func testExtendedUnits(t *testing.T, f *fleet) {
	sku, a, other := f.stock(t, 1, 5), f.on(2), f.on(3)
	ref := a.ref(a.hold(t, stockOnly(a, pieces(sku, 5))))
	if err := second(a.l.Extend(t.Context(), a.key(), ledger.Extend{Owner: a.owner, Hold: ref, TTL: 2 * time.Hour})); err != nil {
		t.Fatal(err)
	}
	if err := second(a.l.Pin(t.Context(), a.key(), ledger.Pin{Owner: a.owner, Hold: ref, TTL: 3 * time.Hour})); err != nil {
		t.Fatal(err)
	}
	f.later(t, time.Hour)
	read, err := f.ledgers[0].Quota(t.Context(), ledger.StockID(sku, "x"))
	if err != nil || read.Held != 5 || read.Available != 0 {
		t.Errorf("%+v %v", read, err)
	}
	wantError(t, second(other.l.Hold(t.Context(), other.key(), stockOnly(other, pieces(sku, 1)))), ledger.ErrSoldOut)
	f.later(t, 4*time.Hour)
	other.hold(t, stockOnly(other, pieces(sku, 5)))
	f.wantBooks(t, ledger.StockID(sku, "x"), 5, 0, 0)
}

// R31: a hold that is cancelled because its money or coupon is taken away gives back its units.
func testRevokedUnits(t *testing.T, f *fleet) {
	sku, a := f.stock(t, 1, 10), f.on(2)
	lot := a.credit(t, 100, 1000*time.Hour).Lot
	coupon := a.coupon(a.issue(t, ledger.Discount{Kind: ledger.Fixed, Currency: "CNY", Amount: 5}, 1000*time.Hour))
	a.hold(t, stockOnly(a, money(40), pieces(sku, 3)))
	a.hold(t, a.request(coupon, pieces(sku, 2)))
	f.wantBooks(t, ledger.StockID(sku, "x"), 5, 0, 5)
	revoke := ledger.Revoke{Owner: a.owner, Lot: must(f.codec.Parse(id.Lot, lot.LotID)), IncludeHeld: true, Reason: "a test"}
	if err := second(a.l.Revoke(t.Context(), a.key(), revoke)); err != nil {
		t.Fatal(err)
	}
	f.wantBooks(t, ledger.StockID(sku, "x"), 2, 0, 8)
	revoke = ledger.Revoke{Owner: a.owner, Coupon: coupon.CouponID, IncludeHeld: true, Reason: "a test"}
	if err := second(a.l.Revoke(t.Context(), a.key(), revoke)); err != nil {
		t.Fatal(err)
	}
	f.wantBooks(t, ledger.StockID(sku, "x"), 0, 0, 10)
	a.intact(t)
}

// A refund gives back money and coupons. Units stay used: a refund that names them is refused.
func testRefundedUnits(t *testing.T, f *fleet) {
	sku, a := f.stock(t, 1, 10), f.on(2)
	a.credit(t, 100, 1000*time.Hour)
	ref := a.ref(a.hold(t, stockOnly(a, money(100), pieces(sku, 3))))
	if err := a.confirm(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	named := ledger.Refund{Owner: a.owner, Hold: ref, RefundRef: "r1", Items: []ledger.PartRequest{{Item: 1, Quantity: 1}}}
	wantError(t, second(a.l.Refund(t.Context(), a.key(), named)), ledger.ErrInsufficient)
	answer, err := a.refund(t.Context(), ref, "r2", 0)
	if reply := decode[ledger.RefundReply](t, answer, err); !reply.Refund.Whole || reply.Refund.Amount.Amount != 100 {
		t.Errorf("%+v", reply.Refund)
	}
	a.wantMoney(t, 100, 0)
	f.wantBooks(t, ledger.StockID(sku, "x"), 0, 3, 7)
	only := a.ref(a.hold(t, stockOnly(a, pieces(sku, 1))))
	if err := a.confirm(t.Context(), only); err != nil {
		t.Fatal(err)
	}
	wantError(t, second(a.refund(t.Context(), only, "r3", 0)), ledger.ErrInsufficient)
}

// A dry run takes no units, and is told of too few like any other.
func testDryUnits(t *testing.T, f *fleet) {
	sku, a := f.stock(t, 1, 5), f.on(2)
	dry := ledger.Caller{Key: "same", DryRun: true}
	for range 2 {
		if err := second(a.l.Hold(t.Context(), dry, stockOnly(a, pieces(sku, 5)))); err != nil {
			t.Fatal(err)
		}
		wantError(t, second(a.l.Hold(t.Context(), dry, stockOnly(a, pieces(sku, 6)))), ledger.ErrSoldOut)
		f.wantBooks(t, ledger.StockID(sku, "x"), 0, 0, 5)
	}
	ref := a.ref(a.hold(t, stockOnly(a, pieces(sku, 5))))
	part := parts(a, ref, true, ledger.PartRequest{Quantity: 2})
	if err := second(a.l.Confirm(t.Context(), dry, part)); err != nil {
		t.Fatal(err)
	}
	f.wantBooks(t, ledger.StockID(sku, "x"), 5, 0, 0)
}

// R31: a frozen owner takes no units, but those that he holds can still be used.
func testFrozenUnits(t *testing.T, f *fleet) {
	sku, a := f.stock(t, 1, 5), f.on(1)
	ref := a.ref(a.hold(t, stockOnly(a, pieces(sku, 2))))
	if err := second(a.l.Freeze(t.Context(), a.key(), ledger.Freeze{Owner: a.owner, Frozen: true, Reason: "a test"})); err != nil {
		t.Fatal(err)
	}
	wantError(t, second(a.l.Hold(t.Context(), a.key(), stockOnly(a, pieces(sku, 1)))), ledger.ErrFrozen)
	if err := a.confirm(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	f.wantBooks(t, ledger.StockID(sku, "x"), 0, 2, 3)
}
