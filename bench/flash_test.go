package bench

import (
	"io"
	"testing"

	"github.com/statesvc/statesvc/internal/testdb"
)

// newFleet starts the servers of a benchmark for a test.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	testdb.NeedMariaDB(t)
	f, err := startFleet(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return f
}

// The short form of `bench flash`: what it asserts, and not what it measures.
func TestFlash(t *testing.T) {
	f := newFleet(t)
	t.Run("a sale grants every unit and none twice", func(t *testing.T) {
		const units = 300
		if err := f.stock(t.Context(), hotSKU, units); err != nil {
			t.Fatal(err)
		}
		s, err := f.sell(t.Context(), 64, units)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.checkSale(t.Context(), units, s.granted); err != nil {
			t.Error(err)
		}
		if s.refused < 64 {
			t.Errorf("%d refusals of 64 callers, who ask until they are refused", s.refused)
		}
	})
	t.Run("a budget is not overdrawn and strands nothing", func(t *testing.T) {
		if err := f.drainBudget(t.Context(), io.Discard, 200_000); err != nil {
			t.Error(err)
		}
	})
	t.Run("a hold is one commit", func(t *testing.T) {
		if err := f.sellPairs(t.Context()); err != nil {
			t.Fatal(err)
		}
		const holds, rounds = 20, 10
		for range rounds {
			used, err := f.costOf(t.Context(), holds)
			if err != nil {
				t.Fatal(err)
			}
			if used.durable < holds {
				t.Fatalf("%d holds one after the other have %d commits", holds, used.durable)
			}
			if used.transfers > 0 {
				continue // slices have borrowed ahead: what they have now is enough for the next round
			}
			if used.durable != holds {
				t.Errorf("%d holds of a coupon, money and two SKUs have %d commits", holds, used.durable)
			}
			return
		}
		t.Errorf("in each of %d rounds of %d holds units had to travel", rounds, holds)
	})
}
