package stock_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/state"
	"github.com/statesvc/statesvc/stock"
)

// rig is an instance with two shards that shows stock.
type rig struct {
	*instance.Instance
	t *testing.T
}

func newRig(t *testing.T) *rig {
	t.Helper()
	folder := t.TempDir()
	reg, err := register.OpenFile(filepath.Join(folder, "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	shards := []instance.Shard{
		{Name: "s1", File: filepath.Join(folder, "s1.db")}, {Name: "s2", File: filepath.Join(folder, "s2.db")},
	}
	if err := instance.Bootstrap(t.Context(), reg, shards, time.Now, func(string) {}); err != nil {
		t.Fatal(err)
	}
	in, err := instance.Open(t.Context(), instance.Config{
		Name: "test", Register: reg, Shards: shards, Now: time.Now, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), DisplayStock: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return &rig{in, t}
}

// shows waits until the document says this.
func (r *rig) shows(want stock.Body) {
	r.t.Helper()
	k := state.Key{Kind: stock.Kind, ID: want.SKU + "@" + want.Location}
	var got stock.Body
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		read, err := r.State.Read(r.t.Context(), k, cache.Ask{})
		if err == nil && read.Document.Exists() && json.Unmarshal(read.Document.Body, &got) == nil && got == want {
			return
		}
	}
	r.t.Fatalf("the document says %+v, want %+v", got, want)
}

func (r *rig) must(_ ledger.Answer, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// Owners on both shards take from one stock; the document shows the sum, and what becomes of it.
func TestDocumentFollowsTheQuota(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	quota := ledger.StockID("cup", "here")
	r.must(r.Ledger.SetQuota(t.Context(), ledger.Caller{Key: "set"}, ledger.SetQuota{Quota: quota, Total: 100, Reason: "test"}))
	r.shows(stock.Body{SKU: "cup", Location: "here", Available: 100, Hint: true})
	for i := range 8 {
		r.must(r.Ledger.Hold(t.Context(), ledger.Caller{Key: "hold"}, ledger.Hold{
			Owner: fmt.Sprintf("user-%d", i), OrderID: "o", Attempt: 1,
			Items: []ledger.Item{{Kind: ledger.StockItem, SKU: "cup", Location: "here", Quantity: 2}},
		}))
	}
	r.shows(stock.Body{SKU: "cup", Location: "here", Available: 84, Held: 16, Hint: true})
	r.must(r.Ledger.Confirm(t.Context(), ledger.Caller{Key: "confirm"}, ledger.Confirm{
		Owner: "user-1", Hold: ledger.HoldRef{OrderID: "o", Attempt: 1},
	}))
	r.must(r.Ledger.Cancel(t.Context(), ledger.Caller{Key: "cancel"}, ledger.Cancel{
		Owner: "user-2", Hold: ledger.HoldRef{OrderID: "o", Attempt: 1},
	}))
	r.shows(stock.Body{SKU: "cup", Location: "here", Available: 86, Held: 12, Sold: 2, Hint: true})
}

// A document that somebody else has written over is put right by the next change.
func TestDocumentIsWrittenOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	quota := ledger.StockID("cup", "here")
	r.must(r.Ledger.SetQuota(t.Context(), ledger.Caller{Key: "set"}, ledger.SetQuota{Quota: quota, Total: 10, Reason: "test"}))
	r.shows(stock.Body{SKU: "cup", Location: "here", Available: 10, Hint: true})
	if _, err := r.State.Put(t.Context(), state.Request{
		Key: state.Key{Kind: stock.Kind, ID: "cup@here"}, When: state.Precondition{Exists: true}, Idempotency: "k",
	}, []byte(`{"available":"many"}`)); err != nil {
		t.Fatal(err)
	}
	r.must(r.Ledger.SetQuota(t.Context(), ledger.Caller{Key: "again"}, ledger.SetQuota{Quota: quota, Total: 9, Reason: "test"}))
	r.shows(stock.Body{SKU: "cup", Location: "here", Available: 9, Hint: true})
}
