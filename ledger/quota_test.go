package ledger_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/statesvc/statesvc/ledger"
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
	h = near.hold(t, stockOnly(near, pieces(sku, 7))) // what the other slice has comes over
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
