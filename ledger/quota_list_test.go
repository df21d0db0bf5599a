package ledger_test

import (
	"slices"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
)

// listQuotas goes through the quotas with a prefix, two by two.
func (f *fleet) listQuotas(t testing.TB, prefix string) (all []ledger.QuotaBody) {
	t.Helper()
	filter := ledger.QuotaFilter{Prefix: prefix, Limit: 2}
	for {
		page, next, err := f.ledgers[0].Quotas(t.Context(), filter)
		if err != nil || len(page) > 2 {
			t.Fatal(len(page), err)
		}
		if all = append(all, page...); next == "" {
			return all
		}
		filter.After = next
	}
}

// testListedQuotas: the list has what reading each quota alone shows, of homes and slices on all shards; expired holds are given back.
func testListedQuotas(t *testing.T, f *fleet) {
	near, far := f.on(1), f.on(2)
	var want []string
	for n := range 5 {
		sku := f.stock(t, 1+n%2, 10)
		want = append(want, ledger.StockID(sku, "x"))
		near.hold(t, stockOnly(near, pieces(sku, 1)))
		sold := far.hold(t, stockOnly(far, pieces(sku, 2)))
		if err := far.confirm(t.Context(), far.ref(sold)); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			f.wantListed(t, want[0], 1, 2)
		}
	}
	slices.Sort(want)
	f.advance(t, 2*time.Minute)
	var got []string
	for _, q := range f.listQuotas(t, "stock:") {
		if slices.Contains(want, q.QuotaID) {
			got = append(got, q.QuotaID)
			alone := must(f.ledgers[0].Quota(t.Context(), q.QuotaID))
			if q.Total != 10 || q.Held != 0 || q.Used != 2 || q.Available != 8 || q.Available != alone.Available || len(q.Slices) < 2 {
				t.Errorf("%+v, alone %+v", q, alone)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	if found := f.listQuotas(t, want[2]); len(found) != 1 || found[0].QuotaID != want[2] {
		t.Errorf("%+v", found)
	}
	if found := f.listQuotas(t, "budget:nobody-"); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

func (f *fleet) wantListed(t testing.TB, quota string, held, used int64) {
	t.Helper()
	found := f.listQuotas(t, quota)
	if len(found) != 1 || found[0].Held != held || found[0].Used != used {
		t.Errorf("%+v, want %d held and %d used", found, held, used)
	}
}
