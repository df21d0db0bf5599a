package linear

import (
	"math"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"
)

// TestModelFindsFaults shows that the check can fail: each history has one reply that no order explains.
func TestModelFindsFaults(t *testing.T) {
	t.Parallel()
	good := []porcupine.Operation{
		{Input: Action{Kind: Credit, Key: "k1", Amount: 10}, Call: 0, Output: Outcome{Version: 1, Available: 10, Balance: true}, Return: 1},
		{Input: Action{Kind: Hold, Key: "k2", Order: "o", Amount: 7}, Call: 2, Output: Outcome{Unknown: true}, Return: math.MaxInt64},
		{Input: Action{Kind: Confirm, Key: "k3", Order: "o"}, Call: 4, Output: Outcome{Version: 3, Available: 3, Balance: true}, Return: 5},
		{Input: Action{Kind: Confirm, Key: "k3", Order: "o"}, Call: 6, Output: Outcome{Version: 3, Available: 3, Balance: true}, Return: 7},
		{Input: Action{Kind: Hold, Key: "k4", Order: "p", Amount: 4}, Call: 8, Output: Outcome{Code: "insufficient"}, Return: 9},
	}
	if !porcupine.CheckOperations(Model, good) {
		t.Error("a right history is refused")
	}
	for name, wrong := range map[string]struct {
		i      int
		output Outcome
	}{
		"an acknowledged write is missing":  {0, Outcome{Version: 2, Available: 10, Balance: true}},
		"a hold was made twice":             {2, Outcome{Version: 4, Available: 3, Balance: true}},
		"a replay is not the first reply":   {3, Outcome{Code: "already-confirmed"}},
		"money that was not there was held": {4, Outcome{Version: 4, Available: -1, Held: 4, Balance: true}},
	} {
		bad := slices.Clone(good)
		bad[wrong.i].Output = wrong.output
		if porcupine.CheckOperations(Model, bad) {
			t.Errorf("not found: %s", name)
		}
	}
}
