package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/cache"
)

// TestCacheUnderFaults breaks what state data stand on, and no read is older than its mode allows. `make cache-faults` does it for longer.
func TestCacheUnderFaults(t *testing.T) {
	var out strings.Builder
	r, err := CacheFaults(t.Context(), &out, CacheFaultsOptions{
		Duration: 6 * time.Second, Seed: 1, Reads: 3000, Writes: 100, Faults: []string{"cut=2800ms", "redis-flush", "redis-kill=500ms"},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, mode := range []cache.Mode{cache.Strong, cache.AtLeast, cache.Bounded, cache.Eventual} {
		if r.Tally.Of(mode).Checked == 0 {
			t.Errorf("no read that is %s was answered", mode)
		}
	}
	if r.Writes == 0 || r.Faults == 0 {
		t.Errorf("%d writes, %d faults", r.Writes, r.Faults)
	}
	t.Logf("%d reads, %d writes, %d unanswered\n%s", r.Tally.Checked(), r.Writes, r.Unanswered, &out)
}
