package stock

import "testing"

// Below twenty every change is shown, above it a twentieth.
func TestMoved(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to int64
		want     bool
	}{
		{0, 0, false},
		{0, 1, true},
		{19, 18, true},
		{20, 19, true},
		{19, 20, true},
		{20, 21, true},
		{1000, 999, false},
		{1000, 951, false},
		{1000, 950, true},
		{1000, 1049, false},
		{1000, 1050, true},
		{1000, 19, true},
	} {
		if got := moved(c.from, c.to); got != c.want {
			t.Errorf("from %d to %d: %t", c.from, c.to, got)
		}
	}
}
