package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/statesvc/statesvc/ledger"
)

// grownSuite is what may become of holds beside being held and decided in one go, on every database.
var grownSuite = []struct {
	name string
	test func(t *testing.T, w *world)
}{
	{"C02", testC02},
	{"C11", testC11},
	{"C12", testC12},
	{"C18", testC18},
	{"C24", testC24},
	{"PartsMeetTheOthers", testPartsMeetTheOthers},
	{"PartsExpire", testPartsExpire},
	{"ReplacesAtOnce", testReplacesAtOnce},
	{"DryRuns", testDryRuns},
	{"RefundGrace", testRefundGrace},
	{"ReturnGrace", testReturnGrace},
	{"OverCapture", testOverCapture},
	{"GrownLookups", testGrownLookups},
	{"Adjusts", testAdjusts},
	{"SecondKey", testSecondKey},
	{"DecidedAtOnce", testDecidedAtOnce},
	{"ProposalsOutlive", testProposalsOutlive},
	{"ProposalsInPages", testProposalsInPages},
	{"TwoKeysInTheSchema", testTwoKeysInTheSchema},
	{"WrongAdjustments", testWrongAdjustments},
	{"ProposalsEnd", testProposalsEnd}, // the last one: it moves the time by a week
}

func TestGrownHolds(t *testing.T) {
	t.Parallel()
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			for _, c := range grownSuite {
				t.Run(c.name, func(t *testing.T) {
					c.test(t, w)
					w.audit(t)
				})
			}
		})
	}
}

func (a as) part(ctx context.Context, ref ledger.HoldRef, amount int64) error {
	return second(a.l.Confirm(ctx, a.key(), ledger.Confirm{Owner: a.owner, Hold: ref, Amount: cny(amount)}))
}

func (a as) refund(ctx context.Context, ref ledger.HoldRef, name string, amount int64) (ledger.Answer, error) {
	r := ledger.Refund{Owner: a.owner, Hold: ref, RefundRef: name, Amount: cny(amount)}
	if amount == 0 {
		r.All, r.Amount = true, ledger.Money{}
	}
	return a.l.Refund(ctx, a.key(), r)
}

// spent returns a hold of 100 that is confirmed.
func (a as) spent(t testing.TB) ledger.HoldRef {
	t.Helper()
	a.credit(t, 100, time.Hour)
	ref := a.ref(a.hold(t, a.request(money(100))))
	if err := a.confirm(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	return ref
}

func (a as) holdOf(t testing.TB, ref ledger.HoldRef) ledger.HoldBody {
	t.Helper()
	body, err := a.l.HoldByID(t.Context(), ref.HoldID)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func testC02(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	ref := a.ref(a.hold(t, a.request(money(100))))
	got := a.atOnce(t, 2, func(a as, _ int) error { return a.part(t.Context(), ref, 60) })
	wantCounts(t, got, map[string]int{"": 1, "insufficient": 1})
	a.wantMoney(t, 0, 40)
	if h := a.holdOf(t, ref); h.State != "HELD" || h.Parts[0].Confirmed != 60 {
		t.Errorf("%+v", h)
	}
	a.wantKinds(t, map[string]int{"CREDITED": 1, "PART_CONFIRMED": 1})
	a.intact(t)
}

// C11: with all assets free, and with one taken. Of many late confirms at once one makes the hold.
func testC11(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	coupon := a.issue(t, fixed(30), time.Hour)
	ref := a.ref(a.hold(t, a.request(a.coupon(coupon), money(100))))
	w.advance(t, 2*time.Minute)
	wantError(t, a.confirm(t.Context(), ref), ledger.ErrHoldExpired)
	late := ledger.Confirm{Owner: a.owner, Hold: ref, AllowLate: true}
	got := a.atOnce(t, 5, func(a as, _ int) error { return second(a.l.Confirm(t.Context(), a.key(), late)) })
	wantCounts(t, got, map[string]int{"": 1, "superseded": 4})
	a.wantMoney(t, 0, 0)
	if h := a.holdOf(t, ref); h.State != "EXPIRED" || h.SupersededBy == "" {
		t.Errorf("%+v", h)
	}

	b := w.fresh()
	b.credit(t, 100, time.Hour)
	taken := b.issue(t, fixed(30), time.Hour)
	ref = b.ref(b.hold(t, b.request(b.coupon(taken), money(100))))
	w.advance(t, 2*time.Minute)
	b.hold(t, b.request(b.coupon(taken)))
	_, err := b.l.Confirm(t.Context(), b.key(), ledger.Confirm{Owner: b.owner, Hold: ref, AllowLate: true})
	wantError(t, err, ledger.ErrLateUnfulfillable)
	refusal, _ := errors.AsType[*ledger.Refusal](err)
	if refusal == nil || len(refusal.Gone) != 1 || refusal.Gone[0].CouponID != taken.CouponID {
		t.Errorf("%+v", err)
	}
	b.wantMoney(t, 100, 0)
}

// C12: a late "paid" notice for an order that was confirmed and refunded moves nothing.
func testC12(t *testing.T, w *world) {
	a := w.fresh()
	ref := a.spent(t)
	must(a.refund(t.Context(), ref, "all", 0))
	for _, allow := range []bool{false, true} {
		_, err := a.l.Confirm(t.Context(), a.key(), ledger.Confirm{Owner: a.owner, Hold: ref, AllowLate: allow})
		wantError(t, err, ledger.ErrAlreadyConfirmed)
	}
	a.wantMoney(t, 100, 0)
}

// C18: a refund five times with one key, then with another, then of the refund.
func testC18(t *testing.T, w *world) {
	a := w.fresh()
	ref := a.spent(t)
	key := a.key()
	request := ledger.Refund{Owner: a.owner, Hold: ref, RefundRef: "one", Amount: cny(60)}
	replays := 0
	var made ledger.RefundReply
	for range 5 {
		answer, err := a.l.Refund(t.Context(), key, request)
		made = decode[ledger.RefundReply](t, answer, err)
		if answer.Replayed {
			replays++
		}
	}
	if replays != 4 {
		t.Errorf("%d replays", replays)
	}
	_, err := a.refund(t.Context(), ref, "two", 60)
	wantError(t, err, ledger.ErrInsufficient)
	same := decode[ledger.RefundReply](t, must(a.refund(t.Context(), ref, "one", 60)), nil)
	if !same.AlreadyExists || same.Refund.RefundID != made.Refund.RefundID {
		t.Errorf("%+v", same)
	}
	_, err = a.refund(t.Context(), ref, "one", 59)
	wantError(t, err, ledger.ErrKeyReused)
	a.wantMoney(t, 60, 0)
	a.wantKinds(t, map[string]int{"CREDITED": 1, "CONFIRMED": 1, "REFUNDED": 1})
}

func testC24(t *testing.T, w *world) {
	a := w.fresh()
	ref := a.spent(t)
	got := a.atOnce(t, 20, func(a as, i int) error { return second(a.refund(t.Context(), ref, fmt.Sprint("r", i), 0)) })
	wantCounts(t, got, map[string]int{"": 1, "insufficient": 19})
	a.wantMoney(t, 100, 0)
	b := w.fresh()
	ref = b.spent(t)
	got = b.atOnce(t, 20, func(b as, _ int) error { return second(b.refund(t.Context(), ref, "same", 0)) })
	wantCounts(t, got, map[string]int{"": 20}) // one reference: the first makes it, the others find it
	b.wantMoney(t, 100, 0)
	b.wantKinds(t, map[string]int{"CREDITED": 1, "CONFIRMED": 1, "REFUNDED": 1})
}

// Parts, refunds, extensions, pins, replacements and cancels of one hold at once: whatever comes first, the money adds up, which the
// audit says, and the chain is whole.
func testPartsMeetTheOthers(t *testing.T, w *world) {
	for range 10 {
		a := w.fresh()
		a.credit(t, 100, time.Hour)
		a.credit(t, 50, 2*time.Hour)
		coupon := a.issue(t, fixed(30), time.Hour)
		request := a.request(a.coupon(coupon), money(120))
		ref := a.ref(a.hold(t, request))
		next := request
		next.Attempt, next.Items = 2, []ledger.Item{a.coupon(coupon), money(10)}
		got := a.atOnce(t, 24, func(a as, i int) error {
			ctx := t.Context()
			switch i % 8 {
			case 0, 1:
				return a.part(ctx, ref, 35)
			case 2, 3:
				return second(a.refund(ctx, ref, fmt.Sprint("r", i), 20))
			case 4:
				return second(a.l.Extend(ctx, a.key(), ledger.Extend{Owner: a.owner, Hold: ref, TTL: time.Hour}))
			case 5:
				return second(a.l.Pin(ctx, a.key(), ledger.Pin{Owner: a.owner, Hold: ref, TTL: time.Hour}))
			case 6:
				return second(a.l.Replace(ctx, a.key(), ledger.Replace{Old: ref, New: next}))
			default:
				if i < 16 {
					return nil
				}
				return a.cancel(ctx, ref)
			}
		})
		for code := range got {
			if !slices.Contains([]string{"", "insufficient", "already-confirmed", "already-cancelled", "superseded"}, code) {
				t.Errorf("%s: %v", code, got)
			}
		}
		a.intact(t)
		if h := a.holdOf(t, ref); h.State == "HELD" {
			t.Errorf("%+v", h)
		}
	}
}

// A hold of which a part was confirmed and that expires gives back the rest, whether or not anybody has settled it (C05).
func testPartsExpire(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, 24*time.Hour)
	ref := a.ref(a.hold(t, a.request(money(100))))
	if err := a.part(t.Context(), ref, 30); err != nil {
		t.Fatal(err)
	}
	w.advance(t, 2*time.Minute)
	a.wantMoney(t, 70, 0)
	if h := a.holdOf(t, ref); h.State != "CONFIRMED" || h.Rest != "EXPIRED" {
		t.Errorf("%+v", h)
	}
	if err := a.l.ExpireDue(t.Context(), a.owner); err != nil {
		t.Fatal(err)
	}
	a.wantMoney(t, 70, 0)
	if h := a.holdOf(t, ref); h.State != "CONFIRMED" || h.Rest != "EXPIRED" || h.DecidedAt.IsZero() {
		t.Errorf("%+v", h)
	}
	wantError(t, a.part(t.Context(), ref, 1), ledger.ErrAlreadyConfirmed)
	wantError(t, second(a.refund(t.Context(), ref, "r", 31)), ledger.ErrInsufficient)
	must(a.refund(t.Context(), ref, "r2", 0))
	a.wantMoney(t, 100, 0)
	a.intact(t)
}

// Of many replacements at once one takes the old hold's place, and what it does not take is free.
func testReplacesAtOnce(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	request := a.request(money(100))
	ref := a.ref(a.hold(t, request))
	got := a.atOnce(t, 8, func(a as, i int) error {
		next := request
		next.Attempt, next.Items = 2+i, []ledger.Item{money(90)}
		return second(a.l.Replace(t.Context(), a.key(), ledger.Replace{Old: ref, New: next}))
	})
	wantCounts(t, got, map[string]int{"": 1, "superseded": 7})
	a.wantMoney(t, 10, 90)
}

// A dry run answers what the operation would, among operations that are no dry runs, and leaves nothing.
func testDryRuns(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	ref := a.ref(a.hold(t, a.request(money(40))))
	before := a.holdOf(t, ref)
	dry := func() ledger.Caller { return ledger.Caller{Key: "same", DryRun: true} }
	got := a.atOnce(t, 30, func(a as, i int) error {
		switch i % 3 {
		case 0:
			return second(a.l.Hold(t.Context(), dry(), a.request(money(61))))
		case 1:
			return second(a.l.Confirm(t.Context(), dry(), ledger.Confirm{Owner: a.owner, Hold: ref}))
		default:
			return second(a.l.CreditLot(t.Context(), a.key(), ledger.CreditLot{
				Owner: a.owner, IssueRef: a.key().Key, Source: "s", Amount: ledger.Money{Amount: 1, Currency: "USD"},
				ExpiresAt: a.now(t).Add(time.Hour),
			}))
		}
	})
	wantCounts(t, got, map[string]int{"": 20, "insufficient": 10})
	if after := a.holdOf(t, ref); after.State != before.State {
		t.Errorf("%+v", after)
	}
	a.wantMoney(t, 60, 40)
	if status := must(a.l.Operation(t.Context(), a.owner, "same")).Status; status != "NOT_SEEN" {
		t.Error(status)
	}
}

// Refunded money of a lot that has ended lives for the lot's grace; without one it comes back as expired (C32).
func testRefundGrace(t *testing.T, w *world) {
	for grace, available := range map[time.Duration]int64{0: 0, time.Hour: 40} {
		a := w.fresh()
		reference := ledger.CreditLot{
			Owner: a.owner, IssueRef: "gift", Source: "s", Amount: cny(100), ExpiresAt: a.now(t).Add(10 * time.Minute), RefundGrace: grace,
		}
		must(a.l.CreditLot(t.Context(), a.key(), reference))
		ref := a.ref(a.hold(t, a.request(money(40))))
		if err := a.confirm(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		w.advance(t, 20*time.Minute)
		must(a.refund(t.Context(), ref, "r", 0))
		a.wantMoney(t, available, 0)
		again := decode[ledger.LotReply](t, must(a.l.CreditLot(t.Context(), a.key(), reference)), nil)
		if !again.AlreadyExists || again.Lot.Spent != 0 || again.Lot.Expired != 100-available {
			t.Errorf("%+v", again)
		}
		a.intact(t)
	}
}

// A coupon that ends in a hold has its grace from the end of the hold on, whether or not anybody has settled that, and no second one.
func testReturnGrace(t *testing.T, w *world) {
	a := w.fresh()
	issue := func(ref string, grace time.Duration) ledger.Coupon {
		return decode[ledger.CouponReply](t, must(a.l.IssueCoupon(t.Context(), a.key(), ledger.IssueCoupon{
			Owner: a.owner, CampaignID: "spring", IssueRef: ref, Discount: fixed(1), ExpiresAt: a.now(t).Add(30 * time.Second),
			Terms: ledger.Terms{Priority: 1 - int(grace/time.Hour), ReturnGraceMs: grace.Milliseconds()},
		})), nil).Coupon
	}
	coupons := []ledger.Coupon{issue("none", 0), issue("hour", time.Hour), issue("two", 2*time.Hour)}
	h := a.hold(t, a.request(a.coupon(coupons[0]), a.coupon(coupons[1]), a.coupon(coupons[2])))
	w.advance(t, 2*time.Minute)
	shown := func() (shown []ledger.Coupon) {
		for _, c := range coupons {
			shown = append(shown, must(a.l.Coupon(t.Context(), a.coupon(c).CouponID)))
		}
		return shown
	}
	before := shown()
	if err := a.l.ExpireDue(t.Context(), a.owner); err != nil {
		t.Fatal(err)
	}
	for i, after := range shown() {
		want := "AVAILABLE"
		ends := h.Hold.ExpiresAt.Add(time.Duration(i) * time.Hour)
		if i == 0 {
			want, ends = "EXPIRED", coupons[0].ExpiresAt
		}
		if after.State != want || !after.ExpiresAt.Equal(ends) || after.ReturnGraceMs != 0 || cmp.Diff(after, before[i]) != "" {
			t.Errorf("%+v, before it was settled %+v; want %s until %s", after, before[i], want, ends)
		}
	}
	h = a.hold(t, a.request(a.coupon(coupons[1])))
	w.advance(t, 2*time.Hour)
	if again := shown()[1]; again.State != "EXPIRED" {
		t.Errorf("a second grace: %+v", again)
	}
	wantError(t, a.confirm(t.Context(), a.ref(h)), ledger.ErrHoldExpired)
	a.intact(t)
}

// Of many confirms at once that want more than is held, those that find enough are decided; what went beyond the hold can be refunded, and
// nothing is taken twice.
func testOverCapture(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 60, time.Hour)
	a.credit(t, 70, 2*time.Hour)
	request := a.request(money(50))
	request.OverCapture = 80
	ref := a.ref(a.hold(t, request))
	got := a.atOnce(t, 6, func(a as, _ int) error { return a.part(t.Context(), ref, 65) })
	wantCounts(t, got, map[string]int{"": 1, "already-confirmed": 5})
	a.wantMoney(t, 65, 0)

	request = a.request(money(50), a.coupon(a.issue(t, fixed(10), time.Hour)))
	request.OverCapture = 80
	next := a.ref(a.hold(t, request))
	got = a.atOnce(t, 6, func(a as, _ int) error { return a.part(t.Context(), next, 30) })
	wantCounts(t, got, map[string]int{"": 2, "insufficient": 4})
	key, last := a.key(), ledger.Confirm{Owner: a.owner, Hold: next, Amount: cny(5), Final: true}
	first := must(a.l.Confirm(t.Context(), key, last))
	if again := must(a.l.Confirm(t.Context(), key, last)); !again.Replayed || string(again.Body) != string(first.Body) {
		t.Errorf("the key again: %+v", again)
	}
	a.wantMoney(t, 0, 0)
	if h := a.holdOf(t, next); h.State != "CONFIRMED" || h.OverCaptured.Confirmed != 15 || h.OverCaptureLimit.Amount != 80 {
		t.Errorf("%+v", h)
	}
	got = a.atOnce(t, 10, func(a as, i int) error { return second(a.refund(t.Context(), next, fmt.Sprint("r", i), 10)) })
	wantCounts(t, got, map[string]int{"": 6, "insufficient": 4})
	must(a.refund(t.Context(), next, "rest", 0))
	must(a.refund(t.Context(), ref, "all", 0))
	a.wantMoney(t, 130, 0)
	if h := a.holdOf(t, next); h.OverCaptured.Refunded != 15 {
		t.Errorf("%+v", h.OverCaptured)
	}
	a.intact(t)

	b := w.fresh()
	b.credit(t, 10, time.Hour)
	b.credit(t, 10, 2*time.Hour) // of which the hold has nothing, and after it there is nothing left
	request = b.request(money(10))
	request.OverCapture = 10
	ref = b.ref(b.hold(t, request))
	if err := b.part(t.Context(), ref, 20); err != nil {
		t.Fatal(err)
	}
	must(b.refund(t.Context(), ref, "all", 0))
	b.wantMoney(t, 20, 0)
}

// testGrownLookups is testLookups for what grown holds read.
func testGrownLookups(t *testing.T, w *world) {
	if w.db.Dialect.String() != "mariadb" {
		return // only MariaDB counts what it reads
	}
	const owners, mostRows = 40, 60
	var crowd []as
	var refs []ledger.HoldRef
	for range owners {
		a := w.fresh()
		a.credit(t, 1000, time.Hour)
		for range 4 {
			a.hold(t, a.request(money(10)))
		}
		crowd = append(crowd, a)
		refs = append(refs, a.ref(a.hold(t, a.request(a.coupon(a.issue(t, fixed(5), time.Hour)), money(100)))))
	}
	ctx := t.Context()
	for _, c := range []struct {
		name string
		op   func(a as, ref ledger.HoldRef) error
	}{
		{"extend", func(a as, r ledger.HoldRef) error {
			return second(a.l.Extend(ctx, a.key(), ledger.Extend{Owner: a.owner, Hold: r, TTL: time.Hour}))
		}},
		{"confirm a part", func(a as, r ledger.HoldRef) error { return a.part(ctx, r, 60) }},
		{"confirm the rest", func(a as, r ledger.HoldRef) error { return a.confirm(ctx, r) }},
		{"refund a part", func(a as, r ledger.HoldRef) error { return second(a.refund(ctx, r, "part", 30)) }},
		{"refund the rest", func(a as, r ledger.HoldRef) error { return second(a.refund(ctx, r, "rest", 0)) }},
	} {
		before := w.rowsRead(t)
		for i, a := range crowd {
			if err := c.op(a, refs[i]); err != nil {
				t.Fatalf("%s %d: %v", c.name, i, err)
			}
		}
		if rows := (w.rowsRead(t) - before) / owners; rows > mostRows {
			t.Errorf("%s reads %d rows", c.name, rows)
		} else {
			t.Logf("%s reads %d rows", c.name, rows)
		}
	}
}
