package ledger_test

import (
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
)

// testCountHolds: of an owner with a hold for 10 s and one for 100 s, both are pending, and one is overdue after 20 s, until they
// are decided. Other tests have left holds too.
func testCountHolds(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	at := w.now(t).Add(20 * time.Second)
	pending, overdue, err := ledger.CountHolds(t.Context(), w.db, at)
	if err != nil {
		t.Fatal(err)
	}
	want := func(morePending, moreOverdue int64) {
		t.Helper()
		p, o, err := ledger.CountHolds(t.Context(), w.db, at)
		if p != pending+morePending || o != overdue+moreOverdue || err != nil {
			t.Errorf("%d pending holds and %d overdue, want %d and %d; %v", p, o, pending+morePending, overdue+moreOverdue, err)
		}
	}
	short, long := a.request(money(10)), a.request(money(20))
	short.TTL, long.TTL = 10*time.Second, 100*time.Second
	first, second := a.hold(t, short), a.hold(t, long)
	want(2, 1)
	if err := a.confirm(t.Context(), a.ref(second)); err != nil {
		t.Fatal(err)
	}
	want(1, 1)
	if err := a.cancel(t.Context(), a.ref(first)); err != nil {
		t.Fatal(err)
	}
	want(0, 0)
}
