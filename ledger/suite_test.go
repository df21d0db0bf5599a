package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// TestOnDatabases runs the suite on every engine. The tests of an engine share its database, with owners of their own. After
// each, the auditor's questions are asked of all owners.
func TestOnDatabases(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			for _, c := range suite {
				t.Run(c.name, func(t *testing.T) {
					c.run(t, w)
					w.audit(t)
				})
			}
			if pass, drift := auditOnce(t, w.auditor(t)); pass.Drift != 0 || pass.Owners == 0 {
				t.Errorf("after all cases the auditor finds %v", drift)
			}
		})
	}
}

var suite = []struct {
	name string
	run  func(t *testing.T, w *world)
}{
	{"Lifecycle", testLifecycle},
	{"C01FiftyConfirms", testC01},
	{"C03TenCancels", testC03},
	{"C05ReadsSeeExpiry", testC05},
	{"C06RefusedHoldLeavesNothing", testC06},
	{"C07CancelAndHoldAtOnce", testC07},
	{"C08CancelAfterConfirm", testC08},
	{"AllOrNothingAtOnce", testAllOrNothing},
	{"C17CancelsAndSweeper", testC17},
	{"Overdue", testOverdue},
	{"CountHolds", testCountHolds},
	{"ForeignHold", testForeignHold},
	{"C19AnotherBody", testC19},
	{"C20RefusalsStay", testC20},
	{"C32LotsOfOneExpiry", testC32},
	{"C40EndedWhileHeld", testC40},
	{"SameKeyAtOnce", testSameKeyAtOnce},
	{"SameReferenceAtOnce", testSameReferenceAtOnce},
	{"SameReferenceLater", testSameReferenceLater},
	{"NewOwnerAtOnce", testNewOwnerAtOnce},
	{"Tombstones", testTombstones},
	{"Operations", testOperations},
	{"AbortedKeys", testAbortedKeys},
	{"Lists", testLists},
	{"History", testHistory},
	{"Mint", testMint},
	{"Blocks", testBlocks},
	{"Lookups", testLookups},
}

func testLifecycle(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 60, time.Hour)
	a.credit(t, 100, 2*time.Hour)
	coupon := a.issue(t, fixed(30), time.Hour)
	h := a.hold(t, a.request(a.coupon(coupon), money(80)))
	if h.Hold.State != "HELD" || h.Hold.Payable.Amount != 40 || len(h.Hold.Items[1].Lots) != 2 || h.Version != 4 {
		t.Errorf("%+v", h)
	}
	a.wantMoney(t, 80, 80)
	if err := a.confirm(t.Context(), a.ref(h)); err != nil {
		t.Fatal(err)
	}
	a.wantMoney(t, 80, 0)
	wantError(t, a.cancel(t.Context(), a.ref(h)), ledger.ErrAlreadyConfirmed)
	read, err := a.l.HoldByID(t.Context(), a.ref(h).HoldID)
	if err != nil || read.State != "CONFIRMED" || read.Items[1].Lots[0] != h.Hold.Items[1].Lots[0] || read.DecidedAt.IsZero() {
		t.Errorf("%+v %v", read, err)
	}
}

func testC01(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	ref := a.ref(a.hold(t, a.request(money(100))))
	got := a.atOnce(t, 50, func(a as, _ int) error { return a.confirm(t.Context(), ref) })
	wantCounts(t, got, map[string]int{"": 1, "already-confirmed": 49})
	a.wantMoney(t, 0, 0)
	a.wantKinds(t, map[string]int{"CREDITED": 1, "CONFIRMED": 1})
}

func testC03(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	coupon := a.issue(t, fixed(30), time.Hour)
	ref := a.ref(a.hold(t, a.request(a.coupon(coupon), money(100))))
	var mu sync.Mutex
	var winner ledger.Caller
	var first ledger.Answer
	got := a.atOnce(t, 10, func(a as, _ int) error {
		caller := a.key()
		answer, err := a.l.Cancel(t.Context(), caller, ledger.Cancel{Owner: a.owner, Hold: ref})
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			winner, first = caller, answer
		}
		return err
	})
	wantCounts(t, got, map[string]int{"": 1, "already-cancelled": 9})
	a.wantMoney(t, 100, 0)
	again, err := a.l.Cancel(t.Context(), winner, ledger.Cancel{Owner: a.owner, Hold: ref})
	if err != nil || !again.Replayed || first.Replayed || string(again.Body) != string(first.Body) {
		t.Errorf("the winner's key again: %+v %v, first %+v", again, err, first)
	}
}

func testC05(t *testing.T, w *world) {
	a := w.fresh()
	lot := a.credit(t, 100, time.Hour).Lot
	coupon := a.issue(t, fixed(30), time.Hour)
	short := a.issue(t, fixed(30), 90*time.Second)
	h := a.hold(t, a.request(a.coupon(coupon), a.coupon(short), money(90)))
	w.advance(t, 100*time.Second)

	a.wantMoney(t, 100, 0)
	read, err := a.l.Lot(t.Context(), must(w.codec.Parse(id.Lot, lot.LotID)))
	if err != nil || read.Available != 100 || read.Held != 0 {
		t.Errorf("%+v %v", read, err)
	}
	a.wantCoupon(t, coupon, "AVAILABLE")
	a.wantCoupon(t, short, "EXPIRED")
	for state, n := range map[string]int{"": 2, "AVAILABLE": 1, "HELD": 0, "USED": 0, "EXPIRED": 1, "REVOKED": 0} {
		page, err := a.l.Coupons(t.Context(), a.owner, ledger.CouponFilter{State: state})
		if err != nil || len(page.Items) != n {
			t.Errorf("coupons %q: %+v %v, want %d", state, page, err, n)
		}
	}
	if body, err := a.l.HoldByID(t.Context(), a.ref(h).HoldID); err != nil || body.State != "EXPIRED" {
		t.Errorf("%+v %v", body, err)
	}
	if holds, err := a.l.Holds(t.Context(), a.owner, ""); err != nil || len(holds) != 0 {
		t.Errorf("live holds: %+v %v", holds, err)
	}
	if body, err := a.l.Owner(t.Context(), a.owner); err != nil || body.LiveHolds != 0 || body.Coupons != 1 || body.Version != 4 {
		t.Errorf("%+v %v", body, err)
	}
	a.hold(t, a.request(a.coupon(coupon), money(100)))
	wantError(t, a.confirm(t.Context(), a.ref(h)), ledger.ErrHoldExpired)
	a.wantKinds(t, map[string]int{"CREDITED": 1, "ISSUED": 2, "EXPIRED": 1})
}

func testC06(t *testing.T, w *world) {
	a := w.fresh()
	ids := must(a.l.MintIDs(t.Context(), a.owner, id.Hold, 1))
	request := a.request(money(100))
	request.HoldID = must(w.codec.Parse(id.Hold, ids[0]))
	ref := ledger.HoldRef{HoldID: request.HoldID}
	_, err := a.l.Hold(t.Context(), a.key(), request)
	wantError(t, err, ledger.ErrInsufficient)
	wantError(t, a.confirm(t.Context(), ref), ledger.ErrNotFound)
	a.credit(t, 100, time.Hour)
	wantError(t, a.confirm(t.Context(), ref), ledger.ErrNotFound)
	_, err = a.l.HoldByID(t.Context(), request.HoldID)
	wantError(t, err, ledger.ErrNotFound)
	a.wantMoney(t, 100, 0)
}

// testC07 lets a cancel and its hold race, by id and by order, in many rounds at once.
func testC07(t *testing.T, w *world) {
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	var all sync.WaitGroup
	for i := range rounds {
		all.Go(func() {
			a := w.fresh()
			a.credit(t, 100, time.Hour)
			request := a.request(money(100))
			ref := ledger.HoldRef{OrderID: request.OrderID, Attempt: 1}
			if i%2 == 0 {
				request.HoldID = must(w.codec.Parse(id.Hold, must(a.l.MintIDs(t.Context(), a.owner, id.Hold, 1))[0]))
				ref = ledger.HoldRef{HoldID: request.HoldID}
			}
			got := a.atOnce(t, 2, func(a as, i int) error {
				if i == 0 {
					return a.cancel(t.Context(), ref)
				}
				_, err := a.l.Hold(t.Context(), a.key(), request)
				return err
			})
			if got[""] != 2 && (got[""] != 1 || got["already-cancelled"] != 1) {
				t.Errorf("cancel and hold at once: %v", got)
			}
			a.wantMoney(t, 100, 0)
		})
	}
	all.Wait()
}

func testC08(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	request := a.request(money(100))
	h := a.hold(t, request)
	if err := a.confirm(t.Context(), ledger.HoldRef{OrderID: request.OrderID, Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	err := a.cancel(t.Context(), a.ref(h))
	wantError(t, err, ledger.ErrAlreadyConfirmed)
	if refusal, ok := errors.AsType[*ledger.Refusal](err); !ok || refusal.HoldID != h.Hold.HoldID {
		t.Errorf("%+v", refusal)
	}
	a.wantMoney(t, 0, 0)
}

// testAllOrNothing lets holds of one coupon race: who does not get it gets nothing.
func testAllOrNothing(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	item := a.coupon(a.issue(t, fixed(30), time.Hour))
	got := a.atOnce(t, 20, func(a as, _ int) error {
		_, err := a.l.Hold(t.Context(), a.key(), a.request(item, money(5)))
		return err
	})
	wantCounts(t, got, map[string]int{"": 1, "held-by-other": 19})
	a.wantMoney(t, 95, 5)
}

// testC17 lets cancels, a confirm that is too late and the sweeper meet at the instant of expiry.
func testC17(t *testing.T, w *world) {
	for range 10 {
		a := w.fresh()
		a.credit(t, 100, time.Hour)
		ref := a.ref(a.hold(t, a.request(money(100))))
		w.advance(t, time.Minute)
		got := a.atOnce(t, 12, func(a as, i int) error {
			switch i % 3 {
			case 0:
				return a.l.ExpireDue(t.Context(), a.owner)
			case 1:
				return a.cancel(t.Context(), ref)
			}
			return a.confirm(t.Context(), ref)
		})
		wantCounts(t, got, map[string]int{"": 4, "hold-expired": 8})
		a.wantMoney(t, 100, 0)
		a.wantKinds(t, map[string]int{"CREDITED": 1, "EXPIRED": 1})
	}
}

// testOverdue: an owner is due as long as he may have expired holds. A cancel leaves due_at too early, and the next settlement
// corrects it.
func testOverdue(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	due := func() bool {
		t.Helper()
		owners, err := ledger.Overdue(t.Context(), w.db, w.now(t), 1000)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(owners, a.owner)
	}
	settle := func() {
		t.Helper()
		if err := a.l.ExpireDue(t.Context(), a.owner); err != nil {
			t.Fatal(err)
		}
	}
	short, long := a.request(money(10)), a.request(money(20))
	short.TTL, long.TTL = 10*time.Second, 100*time.Second
	cancelled := a.hold(t, short)
	a.hold(t, long)
	if err := a.cancel(t.Context(), a.ref(cancelled)); err != nil {
		t.Fatal(err)
	}
	w.advance(t, 20*time.Second)
	before := must(a.l.Owner(t.Context(), a.owner)).Version
	if !due() {
		t.Error("not due, though the cancelled hold would have expired")
	}
	settle()
	if due() || must(a.l.Owner(t.Context(), a.owner)).Version != before {
		t.Error("due after the settlement, or something was changed by it")
	}
	w.advance(t, 100*time.Second)
	if !due() {
		t.Error("not due, though a hold has expired")
	}
	settle()
	a.wantKinds(t, map[string]int{"CREDITED": 1, "CANCELLED": 1, "EXPIRED": 1})
	if due() {
		t.Error("due without a live hold")
	}
}

// testForeignHold: an id in the right bucket still belongs to one owner only.
func testForeignHold(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	ref := a.ref(a.hold(t, a.request(money(100))))
	b := a
	for i := 0; b.owner == a.owner; i++ {
		if name := fmt.Sprintf("%s-%d", a.owner, i); shard.BucketOf(name) == shard.BucketOf(a.owner) {
			b.owner = name
		}
	}
	wantError(t, b.confirm(t.Context(), ref), ledger.ErrNotFound)
	wantError(t, b.cancel(t.Context(), ref), ledger.ErrNotFound)
	request := b.request(money(1))
	request.HoldID = ref.HoldID
	wantError(t, second(b.l.Hold(t.Context(), b.key(), request)), ledger.ErrNotFound)
	if err := a.confirm(t.Context(), ref); err != nil {
		t.Error(err)
	}
	wantError(t, b.cancel(t.Context(), ref), ledger.ErrNotFound)
}

func testC19(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	caller, request := a.key(), a.request(money(10))
	must(a.l.Hold(t.Context(), caller, request))
	request.Items[0].Amount.Amount, request.Attempt = 11, 2
	_, err := a.l.Hold(t.Context(), caller, request)
	wantReused(t, err, "attempt", "items")
	_, err = a.l.Confirm(t.Context(), caller, ledger.Confirm{Owner: a.owner, Hold: ledger.HoldRef{OrderID: "o", Attempt: 1}})
	wantReused(t, err, "operation")
	request.Attempt = 1
	_, err = a.l.Hold(t.Context(), a.key(), request) // the same order with another body, under a fresh key
	wantReused(t, err, "order_id", "attempt")
	a.wantMoney(t, 90, 10)
}

func testC20(t *testing.T, w *world) {
	a := w.fresh()
	first, second, request := a.key(), a.key(), a.request(money(100))
	for i := range 3 {
		answer, err := a.l.Hold(t.Context(), first, request)
		wantError(t, err, ledger.ErrInsufficient)
		refusal, ok := errors.AsType[*ledger.Refusal](err)
		if !ok || *refusal.Asked != 100 || *refusal.Have != 0 || answer.Replayed != (i > 0) {
			t.Errorf("attempt %d: %+v %+v", i, answer, refusal)
		}
		if i == 1 {
			a.credit(t, 100, time.Hour)
		}
	}
	if _, err := a.l.Hold(t.Context(), second, request); err != nil {
		t.Error(err)
	}
}

// testC32: lots of one expiry are taken by id, whoever has credited them and in whatever order they came, every time. What comes back
// is in the same lots, with their expiry; once that has passed, it is expired there. (There are no refunds yet: a cancel gives back.)
func testC32(t *testing.T, w *world) {
	const lots, each = 6, 10
	a := w.fresh()
	end := a.now(t).Add(time.Minute)
	a.atOnce(t, lots, func(a as, i int) error {
		return second(a.l.CreditLot(t.Context(), a.key(), ledger.CreditLot{
			Owner: a.owner, IssueRef: fmt.Sprint(i), Source: "spring", Amount: cny(each), ExpiresAt: end,
		}))
	})
	var want []ledger.LotShare
	for _, lot := range must(a.l.Lots(t.Context(), a.owner, ledger.LotFilter{})).Items {
		want = append(want, ledger.LotShare{LotID: lot.LotID, Amount: each})
	}
	slices.SortFunc(want, func(a, b ledger.LotShare) int { return strings.Compare(a.LotID, b.LotID) })
	want = want[:lots-1]
	want[lots-2].Amount = each / 2
	request := func() ledger.Hold {
		h := a.request(money(each*(lots-2) + each/2))
		h.TTL = time.Hour
		return h
	}
	for range 3 {
		h := a.hold(t, request())
		if got := h.Hold.Items[0].Lots; !slices.Equal(got, want) {
			t.Errorf("taken from %v, want %v", got, want)
		}
		if err := a.cancel(t.Context(), a.ref(h)); err != nil {
			t.Fatal(err)
		}
		a.wantLots(t, end, func(l ledger.Lot) bool { return l.Available == each && l.Held == 0 && l.Expired == 0 })
	}
	h := a.hold(t, request())
	w.advance(t, 2*time.Minute)
	if err := a.cancel(t.Context(), a.ref(h)); err != nil {
		t.Fatal(err)
	}
	a.wantLots(t, end, func(l ledger.Lot) bool { return l.Available == 0 && l.Held == 0 && l.Expired == each })
}

// wantLots checks every lot of the owner.
func (a as) wantLots(t testing.TB, end time.Time, right func(l ledger.Lot) bool) {
	t.Helper()
	for _, lot := range must(a.l.Lots(t.Context(), a.owner, ledger.LotFilter{})).Items {
		if !right(lot) || !lot.ExpiresAt.Equal(end) {
			t.Errorf("%+v", lot)
		}
	}
}

func testC40(t *testing.T, w *world) {
	for _, confirm := range []bool{true, false} {
		a := w.fresh()
		lot := a.credit(t, 100, 10*time.Second).Lot
		coupon := a.issue(t, fixed(30), 10*time.Second)
		ref := a.ref(a.hold(t, a.request(a.coupon(coupon), money(60))))
		w.advance(t, 20*time.Second)
		a.wantMoney(t, 0, 60)
		wantState, wantExpired := "USED", int64(40)
		end := a.confirm
		if !confirm {
			wantState, wantExpired, end = "EXPIRED", 100, a.cancel
		}
		if err := end(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		a.wantCoupon(t, coupon, wantState)
		if read := must(a.l.Lot(t.Context(), must(w.codec.Parse(id.Lot, lot.LotID)))); read.Expired != wantExpired {
			t.Errorf("%+v", read)
		}
		a.wantMoney(t, 0, 0)
	}
}

// testSameKeyAtOnce sends one request many times at once through all instances: it happens once, and all get its reply.
func testSameKeyAtOnce(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	caller, request := a.key(), a.request(money(10))
	var mu sync.Mutex
	bodies := map[string]int{}
	replayed := 0
	got := a.atOnce(t, 30, func(a as, _ int) error {
		answer, err := a.l.Hold(t.Context(), caller, request)
		mu.Lock()
		defer mu.Unlock()
		bodies[string(answer.Body)]++
		if answer.Replayed {
			replayed++
		}
		if !answer.Created {
			t.Error("a replay of the reply that made the hold does not say so")
		}
		return err
	})
	wantCounts(t, got, map[string]int{"": 30})
	if len(bodies) != 1 || replayed != 29 {
		t.Errorf("%d replies, %d replayed", len(bodies), replayed)
	}
	a.wantMoney(t, 90, 10)
}

// testSameReferenceAtOnce does the same with a key of its own for each request (R1).
func testSameReferenceAtOnce(t *testing.T, w *world) {
	a := w.fresh()
	credit := ledger.CreditLot{
		Owner: a.owner, IssueRef: "once", Source: "spring", Amount: cny(100), ExpiresAt: w.now(t).Add(time.Hour),
	}
	issue := ledger.IssueCoupon{
		Owner: a.owner, CampaignID: "spring", IssueRef: "once", Discount: fixed(5), ExpiresAt: w.now(t).Add(time.Hour),
	}
	request := a.request(money(10))
	for _, c := range []struct {
		name string
		call func(a as) (ledger.Answer, error)
	}{
		{"credit", func(a as) (ledger.Answer, error) { return a.l.CreditLot(t.Context(), a.key(), credit) }},
		{"issue", func(a as) (ledger.Answer, error) { return a.l.IssueCoupon(t.Context(), a.key(), issue) }},
		{"hold", func(a as) (ledger.Answer, error) { return a.l.Hold(t.Context(), a.key(), request) }},
	} {
		var mu sync.Mutex
		created := 0
		got := a.atOnce(t, 20, func(a as, _ int) error {
			answer, err := c.call(a)
			mu.Lock()
			defer mu.Unlock()
			if answer.Created {
				created++
			}
			return err
		})
		wantCounts(t, got, map[string]int{"": 20})
		if created != 1 {
			t.Errorf("%s: %d were made", c.name, created)
		}
	}
	a.wantMoney(t, 90, 10)
	answer, err := a.l.Hold(t.Context(), a.key(), a.request(money(91)))
	wantError(t, err, ledger.ErrInsufficient)
	if answer.Created {
		t.Error("a refused hold was made")
	}
}

// testSameReferenceLater repeats a hold that has taken everything under other keys: the answer is the hold, not that there is
// nothing left.
func testSameReferenceLater(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	request := a.request(money(100))
	first := a.hold(t, request)
	for _, state := range []string{"HELD", "CONFIRMED"} {
		again := a.hold(t, request)
		if again.Hold.HoldID != first.Hold.HoldID || !again.AlreadyExists || again.Hold.State != state {
			t.Errorf("%+v, want %s, which is %s", again, first.Hold.HoldID, state)
		}
		if state == "HELD" {
			if err := a.confirm(t.Context(), a.ref(first)); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.wantMoney(t, 0, 0)
}

// testNewOwnerAtOnce lets the first writes of owners race, who have no row to lock yet.
func testNewOwnerAtOnce(t *testing.T, w *world) {
	for range 10 {
		a := w.fresh()
		got := a.atOnce(t, 9, func(a as, i int) error {
			_, err := a.l.CreditLot(t.Context(), a.key(), ledger.CreditLot{
				Owner: a.owner, IssueRef: fmt.Sprint(i), Source: "spring", Amount: cny(10), ExpiresAt: time.Now().Add(24 * time.Hour),
			})
			return err
		})
		wantCounts(t, got, map[string]int{"": 9})
		a.wantMoney(t, 90, 0)
		if body := must(a.l.Owner(t.Context(), a.owner)); body.Version != 9 {
			t.Errorf("%+v", body)
		}
	}
}

func testTombstones(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	request := a.request(money(100))
	answer, err := a.l.Cancel(t.Context(), a.key(), ledger.Cancel{
		Owner: a.owner, Hold: ledger.HoldRef{OrderID: request.OrderID, Attempt: 1},
	})
	tombstone := decode[ledger.HoldReply](t, answer, err)
	if !tombstone.Hold.Tombstone || tombstone.Hold.State != "CANCELLED" || tombstone.Hold.OrderID != request.OrderID {
		t.Errorf("%+v", tombstone)
	}
	_, err = a.l.Hold(t.Context(), a.key(), request)
	wantError(t, err, ledger.ErrAlreadyCancelled)
	request.Items[0].Amount.Amount = 150 // what the hold asks for does not matter any more
	_, err = a.l.Hold(t.Context(), a.key(), request)
	wantError(t, err, ledger.ErrAlreadyCancelled)
	read, err := a.l.HoldByID(t.Context(), a.ref(tombstone).HoldID)
	if err != nil || !read.Tombstone || len(read.Items) != 0 {
		t.Errorf("%+v %v", read, err)
	}
	holds, err := a.l.Holds(t.Context(), a.owner, request.OrderID)
	if err != nil || len(holds) != 1 || !holds[0].Tombstone {
		t.Errorf("%+v %v", holds, err)
	}
}

func testOperations(t *testing.T, w *world) {
	a := w.fresh()
	want := func(key, status string) ledger.OperationBody {
		t.Helper()
		body, err := a.l.Operation(t.Context(), a.owner, key)
		if err != nil || body.Status != status || body.Key != key {
			t.Errorf("%+v %v, want %s", body, err, status)
		}
		return body
	}
	done, refused, sealed := a.key(), a.key(), a.key()
	want(done.Key, "NOT_SEEN")
	answer := must(a.l.CreditLot(t.Context(), done, ledger.CreditLot{
		Owner: a.owner, IssueRef: "r", Source: "s", Amount: cny(1), ExpiresAt: w.now(t).Add(time.Hour),
	}))
	if got := fmt.Sprintf("%s", want(done.Key, "DONE").Reply); got != string(answer.Body) {
		t.Errorf("reply %s, want %s", got, answer.Body)
	}
	_, err := a.l.Hold(t.Context(), refused, a.request(money(100)))
	wantError(t, err, ledger.ErrInsufficient)
	want(refused.Key, "REFUSED")

	for range 2 {
		body, err := a.l.Seal(t.Context(), sealed, a.owner)
		if err != nil || body.Status != "SEALED" {
			t.Errorf("%+v %v", body, err)
		}
	}
	want(sealed.Key, "SEALED")
	_, err = a.l.Hold(t.Context(), sealed, a.request(money(1)))
	if reused, ok := errors.AsType[*ledger.KeyReused](err); !ok || !reused.Sealed {
		t.Errorf("under a sealed key: %v", err)
	}
	body, err := a.l.Seal(t.Context(), done, a.owner)
	if err != nil || body.Status != "DONE" || fmt.Sprintf("%s", body.Reply) != string(answer.Body) {
		t.Errorf("%+v %v", body, err)
	}
}

// testAbortedKeys: a key whose outcome was unknown and turned out not to have happened may be used by the same request, or be
// sealed, but not by another request.
func testAbortedKeys(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	abort := func(c ledger.Caller) {
		t.Helper()
		statement := "UPDATE operations SET verdict='ABORTED', reply=x'' WHERE owner=? AND op_key='" + c.Key + "'"
		a.exec(t, statement)
	}
	again, other, sealed := a.key(), a.key(), a.key()
	request := a.request(money(120))
	for _, c := range []ledger.Caller{again, other, sealed} {
		wantError(t, second(a.l.Hold(t.Context(), c, request)), ledger.ErrInsufficient)
		abort(c)
	}
	if body := must(a.l.Operation(t.Context(), a.owner, again.Key)); body.Status != "ABORTED" {
		t.Errorf("%+v", body)
	}
	if body := must(a.l.Seal(t.Context(), sealed, a.owner)); body.Status != "SEALED" {
		t.Errorf("%+v", body)
	}
	a.credit(t, 100, time.Hour)
	answer, err := a.l.Hold(t.Context(), again, request)
	if err != nil || answer.Replayed || !answer.Created {
		t.Errorf("%+v %v", answer, err)
	}
	repeat, err := a.l.Hold(t.Context(), again, request)
	if err != nil || !repeat.Replayed || string(repeat.Body) != string(answer.Body) {
		t.Errorf("%+v %v, want %s", repeat, err, answer.Body)
	}
	request.Lines = nil
	wantReused(t, second(a.l.Hold(t.Context(), other, request)), "lines")
	a.wantMoney(t, 80, 120)
}

func testLists(t *testing.T, w *world) {
	a := w.fresh()
	var lots, coupons []string
	for i := range 7 {
		lots = append(lots, a.credit(t, int64(i+1), time.Hour).Lot.LotID)
		coupons = append(coupons, a.issue(t, fixed(1), time.Hour).CouponID)
	}
	var gotLots, gotCoupons []string
	after := id.ID{}
	for pages := 1; ; pages++ {
		page := must(a.l.Lots(t.Context(), a.owner, ledger.LotFilter{After: after, Limit: 3}))
		for _, lot := range page.Items {
			gotLots = append(gotLots, lot.LotID)
		}
		if after = page.Next; after == (id.ID{}) {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	for more := true; more; more = after != (id.ID{}) {
		page := must(a.l.Coupons(t.Context(), a.owner, ledger.CouponFilter{CampaignID: "spring", After: after, Limit: 7}))
		for _, c := range page.Items {
			gotCoupons = append(gotCoupons, c.CouponID)
		}
		after = page.Next
	}
	if !slices.Equal(gotLots, lots) || !slices.Equal(gotCoupons, coupons) {
		t.Errorf("lots %v, want %v; coupons %v, want %v", gotLots, lots, gotCoupons, coupons)
	}
	a.ref(a.hold(t, a.request(money(28))))
	if err := a.confirm(t.Context(), a.ref(a.hold(t, a.request(a.coupon(ledger.Coupon{CouponID: coupons[0]}))))); err != nil {
		t.Fatal(err)
	}
	for state, n := range map[string]int{ledger.LotLive: 7, ledger.LotEnded: 0} {
		if page := must(a.l.Lots(t.Context(), a.owner, ledger.LotFilter{State: state, Currency: "CNY"})); len(page.Items) != n {
			t.Errorf("%s: %+v", state, page)
		}
	}
	holds := must(a.l.Holds(t.Context(), a.owner, ""))
	if len(holds) != 1 || holds[0].State != "HELD" {
		t.Errorf("%+v", holds)
	}
	for _, err := range []error{
		second(a.l.Lots(t.Context(), a.owner, ledger.LotFilter{State: "live"})),
		second(a.l.Lots(t.Context(), a.owner, ledger.LotFilter{Limit: ledger.MaxPage + 1})),
		second(a.l.Coupons(t.Context(), a.owner, ledger.CouponFilter{State: "' OR 1=1"})),
		second(a.l.Owner(t.Context(), "no owner")),
		second(a.l.Entries(t.Context(), a.owner, ledger.EntryFilter{Limit: -1})),
	} {
		wantError(t, err, ledger.ErrInvalid)
	}
	unknown := must(w.codec.Parse(id.Hold, must(a.l.MintIDs(t.Context(), a.owner, id.Hold, 1))[0]))
	wantError(t, second(a.l.Coupon(t.Context(), unknown)), ledger.ErrNotFound)
	wantError(t, second(a.l.Lot(t.Context(), unknown)), ledger.ErrNotFound)
	if body, err := a.l.Owner(t.Context(), w.owner()); err != nil || body.Version != 0 || body.Balances == nil {
		t.Errorf("an owner nobody has heard of: %+v %v", body, err)
	}
}

func second[T any](_ T, err error) error { return err }

func testHistory(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	w.advance(t, time.Second)
	h := a.hold(t, a.request(money(60)))
	if err := a.cancel(t.Context(), a.ref(h)); err != nil {
		t.Fatal(err)
	}
	page := must(a.l.Entries(t.Context(), a.owner, ledger.EntryFilter{Limit: 1}))
	if len(page.Items) != 1 || page.Items[0].Kind != "CREDITED" || page.Next != 1 {
		t.Fatalf("%+v", page)
	}
	page = must(a.l.Entries(t.Context(), a.owner, ledger.EntryFilter{After: page.Next}))
	if len(page.Items) != 1 || page.Next != 0 || page.Items[0].HoldID != h.Hold.HoldID || page.Items[0].Seq != 2 {
		t.Fatalf("%+v", page)
	}
	change := page.Items[0].Changes[0]
	if change.Before.Held != 60 || change.After.Held != 0 || change.After.Available != 100 {
		t.Errorf("%+v %+v", change.Before, change.After)
	}
	at := page.Items[0].At
	for _, c := range []struct {
		f ledger.EntryFilter
		n int
	}{
		{ledger.EntryFilter{From: at}, 1}, // C48: [from, to)
		{ledger.EntryFilter{To: at}, 1},
		{ledger.EntryFilter{From: at, To: at.Add(time.Microsecond)}, 1},
		{ledger.EntryFilter{Hold: a.ref(h).HoldID}, 1},
		{ledger.EntryFilter{From: at.Add(time.Microsecond)}, 0},
	} {
		if page := must(a.l.Entries(t.Context(), a.owner, c.f)); len(page.Items) != c.n {
			t.Errorf("%+v: %+v", c.f, page)
		}
	}
	testTampering(t, a)
}

// testTampering changes the history in every way that the columns allow: each must be noticed, and where it happened.
func testTampering(t *testing.T, a as) {
	bytes := "BLOB"
	if a.db.Dialect == shard.MariaDB {
		bytes = "BINARY"
	}
	for _, c := range []struct {
		change, back string
		brokenAt     int64
	}{
		{"UPDATE entries SET at=at+1 WHERE owner=? AND seq=1", "UPDATE entries SET at=at-1 WHERE owner=? AND seq=1", 1},
		{"UPDATE entries SET kind='ISSUED' WHERE owner=? AND seq=1", "UPDATE entries SET kind='CREDITED' WHERE owner=? AND seq=1", 1},
		{
			"UPDATE entries SET doc=CAST(REPLACE(doc, '60', '61') AS " + bytes + ") WHERE owner=? AND seq=2",
			"UPDATE entries SET doc=CAST(REPLACE(doc, '61', '60') AS " + bytes + ") WHERE owner=? AND seq=2", 2,
		},
		{"UPDATE owners SET entry_seq=3 WHERE owner=?", "UPDATE owners SET entry_seq=2 WHERE owner=?", 3},
		{"UPDATE entries SET seq=3 WHERE owner=? AND seq=2", "UPDATE entries SET seq=2 WHERE owner=? AND seq=3", 2},
		{"DELETE FROM entries WHERE owner=? AND seq=2", "", 2},
		{"DELETE FROM entries WHERE owner=?", "", 1},
	} {
		a.exec(t, c.change)
		v, err := a.l.VerifyHistory(t.Context(), a.owner)
		if err != nil || v.Intact || v.BrokenAt != c.brokenAt {
			t.Errorf("%s: %+v %v", c.change, v, err)
		}
		if c.back != "" {
			a.exec(t, c.back)
			a.intact(t)
		}
	}
	a.exec(t, "DELETE FROM owners WHERE owner=?") // out of the audit
	a.exec(t, "DELETE FROM lots WHERE owner=?")
	a.exec(t, "DELETE FROM decided_holds WHERE owner=?")
}

func testMint(t *testing.T, w *world) {
	a := w.fresh()
	ids := must(a.l.MintIDs(t.Context(), a.owner, id.Hold, 10))
	if len(ids) != 10 || !slices.IsSorted(ids) {
		t.Errorf("%v", ids)
	}
	for _, text := range ids {
		minted := must(w.codec.Parse(id.Hold, text))
		if minted.Bucket() != uint16(shard.BucketOf(a.owner)) || minted.Placement() != 1 {
			t.Errorf("%s: bucket %d, placement %d", text, minted.Bucket(), minted.Placement())
		}
	}
	foreign := w.fresh() // an id in another bucket cannot be a hold of this owner
	request := foreign.request(money(1))
	request.HoldID = must(w.codec.Parse(id.Hold, ids[0]))
	_, err := foreign.l.Hold(t.Context(), foreign.key(), request)
	wantError(t, err, ledger.ErrNotFound)
	wantError(t, foreign.cancel(t.Context(), ledger.HoldRef{HoldID: request.HoldID}), ledger.ErrNotFound)
	wantError(t, second(a.l.MintIDs(t.Context(), a.owner, id.Lot, 1)), ledger.ErrInvalid)
}

// testBlocks: a blocked owner writes nothing, and reads on (I6).
func testBlocks(t *testing.T, w *world) {
	blocked := errors.New("blocked")
	a := w.fresh()
	cfg := w.configs[0]
	cfg.Blocks = func(owner string, b shard.Bucket) error {
		if owner == a.owner && b == shard.BucketOf(owner) {
			return blocked
		}
		return nil
	}
	cfg.Undecided = func(owner, key string) bool { return owner == a.owner && key == "k" }
	a.l = ledger.New(cfg)
	wantError(t, second(a.l.Hold(t.Context(), a.key(), a.request(money(1)))), blocked)
	wantError(t, second(a.l.Seal(t.Context(), a.key(), a.owner)), blocked)
	wantError(t, a.confirm(t.Context(), ledger.HoldRef{OrderID: "o", Attempt: 1}), blocked)
	wantError(t, a.l.ExpireDue(t.Context(), a.owner), blocked)
	if body := must(a.l.Operation(t.Context(), a.owner, "k")); body.Status != "IN_PROGRESS" {
		t.Errorf("%+v", body)
	}
	b := w.fresh()
	b.l = a.l
	b.credit(t, 1, time.Hour)
}

func wantReused(t testing.TB, err error, fields ...string) {
	t.Helper()
	reused, ok := errors.AsType[*ledger.KeyReused](err)
	if !ok || !slices.Equal(reused.Fields, fields) {
		t.Errorf("%v, want a key that was used with other %v", err, fields)
	}
}

func wantCounts(t testing.TB, got, want map[string]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func (a as) wantKinds(t testing.TB, want map[string]int) {
	t.Helper()
	wantCounts(t, a.kinds(t), want)
	a.intact(t)
}

func (a as) wantCoupon(t testing.TB, c ledger.Coupon, state string) {
	t.Helper()
	read, err := a.l.Coupon(t.Context(), must(a.codec.Parse(id.Coupon, c.CouponID)))
	if err != nil || read.State != state || (read.HoldID != "") != (state == "HELD" || state == "USED") {
		t.Errorf("%+v %v, want %s", read, err, state)
	}
}

func (a as) exec(t testing.TB, statement string) {
	t.Helper()
	if _, err := a.db.SQL().ExecContext(context.Background(), statement, a.owner); err != nil {
		t.Fatal(err)
	}
}

// testLookups counts the rows that the database reads for operations on owners of one bucket: every query must go straight to
// its keys. A query that walks through the bucket would read hundreds.
func testLookups(t *testing.T, w *world) {
	if w.db.Dialect != shard.MariaDB {
		t.Skip("SQLite does not count what it reads")
	}
	const owners, each, mostRows = 40, 4, 60
	bucket := shard.BucketOf("crowd-0")
	var requests []ledger.Hold
	for i := 0; len(requests) < owners*each; i++ {
		a := as{w, w.ledgers[0], fmt.Sprintf("crowd-%d", i)}
		if shard.BucketOf(a.owner) != bucket {
			continue
		}
		a.credit(t, 1000, time.Hour)
		for range each {
			requests = append(requests, a.request(a.coupon(a.issue(t, fixed(5), time.Hour)), money(10)))
		}
	}
	ctx := t.Context()
	order := func(r ledger.Hold) ledger.HoldRef { return ledger.HoldRef{OrderID: r.OrderID, Attempt: 1} }
	for _, c := range []struct {
		name string
		op   func(a as, r ledger.Hold) error
	}{
		{"hold", func(a as, r ledger.Hold) error { return second(a.l.Hold(ctx, a.key(), r)) }},
		{"hold again", func(a as, r ledger.Hold) error { return second(a.l.Hold(ctx, a.key(), r)) }},
		{"list", func(a as, r ledger.Hold) error { return second(a.l.Holds(ctx, r.Owner, r.OrderID)) }},
		{"confirm by order", func(a as, r ledger.Hold) error { return a.confirm(ctx, order(r)) }},
		{"list again", func(a as, r ledger.Hold) error { return second(a.l.Holds(ctx, r.Owner, r.OrderID)) }},
		{"sum up", func(a as, _ ledger.Hold) error { return second(a.l.Owner(ctx, a.owner)) }},
	} {
		before := w.rowsRead(t)
		for i, r := range requests {
			if err := c.op(as{w, w.ledgers[0], r.Owner}, r); err != nil {
				t.Fatalf("%s %d: %v", c.name, i, err)
			}
		}
		if rows := (w.rowsRead(t) - before) / len(requests); rows > mostRows {
			t.Errorf("%s reads %d rows", c.name, rows)
		} else {
			t.Logf("%s reads %d rows", c.name, rows)
		}
	}
}

// rowsRead counts the rows that the server has read, by key or one after the other.
func (w *world) rowsRead(t testing.TB) (n int) {
	t.Helper()
	err := w.db.SQL().QueryRowContext(t.Context(), "SELECT CAST(SUM(variable_value) AS SIGNED) FROM information_schema.global_status "+
		"WHERE variable_name IN ('Handler_read_key', 'Handler_read_next', 'Handler_read_prev', 'Handler_read_rnd_next')").Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
