package freshness_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/internal/freshness"
	"github.com/statesvc/statesvc/state"
)

var start = time.Now()

func after(d time.Duration) time.Time { return start.Add(d) }

func version(n int) state.Version { return state.Version{Era: 1, Number: int64(n)} }

func TestOldest(t *testing.T) {
	t.Parallel()
	var h freshness.History
	h.Acknowledge(version(1), after(0))
	h.Acknowledge(version(2), after(10*time.Second))
	began := after(10 * time.Second)
	for name, test := range map[string]struct {
		ask  cache.Ask
		at   time.Time
		want int
	}{
		"strong, before the write":     {cache.Ask{Mode: cache.Strong}, began.Add(-1), 1},
		"strong, after the write":      {cache.Ask{Mode: cache.Strong}, began, 2},
		"bounded, soon":                {cache.Ask{}, began.Add(cache.Bound - 1), 1},
		"bounded, after the bound":     {cache.Ask{}, began.Add(cache.Bound), 2},
		"eventual, soon":               {cache.Ask{Mode: cache.Eventual}, began.Add(freshness.EventualWithin - 1), 1},
		"eventual, after its time":     {cache.Ask{Mode: cache.Eventual}, began.Add(freshness.EventualWithin), 2},
		"with a token, whenever it is": {cache.Ask{Mode: cache.AtLeast, Version: version(7)}, began, 7},
		"before everything":            {cache.Ask{Mode: cache.Strong}, after(-1), 0},
	} {
		want := version(test.want)
		if test.want == 0 {
			want = state.Version{}
		}
		if got := h.Oldest(test.ask, test.at); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// In whatever order acknowledgements are told, the newest by an instant is the greatest of those that were made by then.
func TestNewestIsTheGreatest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var h freshness.History
		type told struct{ version, at int }
		var all []told
		for range rapid.IntRange(1, 30).Draw(t, "acknowledgements") {
			one := told{rapid.IntRange(1, 20).Draw(t, "version"), rapid.IntRange(0, 20).Draw(t, "at")}
			all = append(all, one)
			h.Acknowledge(version(one.version), after(time.Duration(one.at)))
		}
		for at := -1; at <= 21; at++ {
			var want state.Version
			for _, one := range all {
				if v := version(one.version); one.at <= at && v.Compare(want) > 0 {
					want = v
				}
			}
			if got := h.Newest(after(time.Duration(at))); got != want {
				t.Fatalf("at %d: %s, want %s", at, got, want)
			}
		}
	})
}

func TestTally(t *testing.T) {
	t.Parallel()
	var tally freshness.Tally
	for range 999 {
		tally.Judge(cache.Eventual, version(2), version(2))
	}
	if tally.Judge(cache.Eventual, version(1), version(2)) || !tally.Judge(cache.Strong, version(3), version(2)) {
		t.Error("older is not told from newer")
	}
	tally.Judge(cache.Bounded, version(1), version(2))
	if n := tally.Of(cache.Eventual).Nines(); math.Abs(n-3) > 1e-9 {
		t.Errorf("one of a thousand are %v nines", n)
	}
	if n := (freshness.Count{Checked: 100}).Nines(); math.Abs(n-2) > 1e-9 {
		t.Errorf("none of a hundred proves %v nines", n)
	}
	if tally.Checked() != 1002 || tally.Violations() != 1 {
		t.Errorf("%d checked, %d violations", tally.Checked(), tally.Violations())
	}
}
