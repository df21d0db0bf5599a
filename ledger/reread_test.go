package ledger_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// A read that is under way when its primary is given up is made again on the next one, and shows what a single one would.
// On MariaDB its connection is cut under its hands; on SQLite it ends, and is not believed.
func TestReadsBeginAnew(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { readsBeginAnew(t, newWorld(t, e)) })
	}
}

func readsBeginAnew(t *testing.T, w *world) {
	t.Helper()
	a := w.fresh()
	lot := a.credit(t, 10, time.Hour)
	coupon := a.issue(t, ledger.Discount{Kind: ledger.Fixed, Amount: 1, Currency: "CNY"}, time.Hour)
	l, turn := w.turning(t)
	for name, read := range map[string]func() (any, error){
		"coupon":  func() (any, error) { return l.Coupon(t.Context(), a.coupon(coupon).CouponID) },
		"coupons": func() (any, error) { return l.Coupons(t.Context(), a.owner, ledger.CouponFilter{}) },
		"lot":     func() (any, error) { return l.Lot(t.Context(), must(a.codec.Parse(id.Lot, lot.Lot.LotID))) },
		"lots":    func() (any, error) { return l.Lots(t.Context(), a.owner, ledger.LotFilter{}) },
		"owner":   func() (any, error) { return l.Owner(t.Context(), a.owner) },
		"entries": func() (any, error) { return l.Entries(t.Context(), a.owner, ledger.EntryFilter{}) },
		"history": func() (any, error) { return l.VerifyHistory(t.Context(), a.owner) },
	} {
		once, err := read()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		turn.Store(true)
		twice, err := read()
		if turn.Load() || err != nil || cmp.Diff(once, twice) != "" {
			t.Errorf("%s, read again: %v\n%s", name, err, cmp.Diff(once, twice))
		}
	}
}

// turningNode makes ids that no other instance of a world makes.
const turningNode = 99

// turning is a ledger whose shard gets another primary while somebody reads, whenever the flag is set: the store looks at its
// clock when it has read something.
func (w *world) turning(t *testing.T) (*ledger.Ledger, *atomic.Bool) {
	t.Helper()
	reg := must(register.OpenFile(filepath.Join(t.TempDir(), "register")))
	t.Cleanup(func() { _ = reg.Close() })
	nodes := map[string]shard.Node{"n0": {Address: "a"}, "n1": {Address: "b"}}
	record := shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "n0", Nodes: nodes}
	shards := must(shard.NewUniformMap([]string{"one"}))
	must(register.Put(t.Context(), reg, shard.MapKey, must(shards.Encode())))
	must(register.Put(t.Context(), reg, shard.RecordKey(1), must(record.Encode())))
	routes := must(shard.OpenRoutes(t.Context(), reg, shard.RoutesOptions{
		Now: time.Now, RenewEvery: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	}))
	t.Cleanup(routes.Close)
	var turn atomic.Bool
	other := map[string]string{"n0": "n1", "n1": "n0"}
	cfg := w.instance(t, routes, w.open, turningNode, nil, func(store *shard.StoreConfig) {
		store.ReadLease = shard.ReadLease
		store.Committer.Now = func() time.Time {
			if !turn.CompareAndSwap(true, false) {
				return time.Now()
			}
			record.Primary = other[record.Primary]
			must(register.Put(context.WithoutCancel(t.Context()), reg, shard.RecordKey(1), must(record.Encode())))
			for route, _ := routes.Shard(1); route.Node != record.Primary; route, _ = routes.Shard(1) {
				time.Sleep(time.Millisecond)
			}
			return time.Now()
		}
	})
	return ledger.New(cfg), &turn
}
