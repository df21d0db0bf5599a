package ledger_test

import (
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
)

// TestOnDatabases runs the suite on every engine. The tests of an engine share its database, with owners of their own.
func TestOnDatabases(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			for _, c := range suite {
				t.Run(c.name, func(t *testing.T) { c.run(t, w) })
			}
		})
	}
}

var suite = []struct {
	name string
	run  func(t *testing.T, w *world)
}{
	{"Lifecycle", testLifecycle},
}

func testLifecycle(t *testing.T, w *world) {
	a := w.fresh()
	a.credit(t, 60, time.Hour, "")
	a.credit(t, 100, 2*time.Hour, "")
	coupon := a.issue(t, fixed(30), time.Hour)
	h := a.hold(t, a.request(a.coupon(coupon), money(80)))
	if h.Hold.State != "HELD" || h.Hold.Payable.Amount != 40 || len(h.Hold.Items[1].Lots) != 2 {
		t.Errorf("%+v", h)
	}
	a.wantMoney(t, 80, 80)
	if err := a.confirm(t.Context(), a.ref(h)); err != nil {
		t.Fatal(err)
	}
	a.wantMoney(t, 80, 0)
	wantError(t, a.cancel(t.Context(), a.ref(h)), ledger.ErrAlreadyConfirmed)
	a.intact(t)
}
