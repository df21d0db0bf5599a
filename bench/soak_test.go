package bench

import (
	"errors"
	"testing"
)

const mb = 1 << 20

func TestSoakWindows(t *testing.T) {
	t.Parallel()
	samples := make([]SoakSample, 20)
	for i := range samples {
		samples[i] = SoakSample{RSS: int64(i), Heap: 1, Goroutines: int64(100 - i)}
	}
	samples[5].RSS, samples[18].Goroutines = 1000, 1000 // a median does not mind one
	early, late := soakWindows(samples)
	if want := (SoakSample{RSS: 7, Heap: 1, Goroutines: 95}); early != want {
		t.Errorf("early %+v, want %+v", early, want)
	}
	if want := (SoakSample{RSS: 18, Heap: 1, Goroutines: 84}); late != want {
		t.Errorf("late %+v, want %+v", late, want)
	}
}

func TestFlat(t *testing.T) {
	t.Parallel()
	early := SoakSample{RSS: 50 * mb, Heap: 5 * mb, Goroutines: 80}
	tests := map[string]struct {
		late  SoakSample
		grows bool
	}{
		"the same":                   {early, false},
		"less":                       {SoakSample{}, false},
		"within the limits":          {SoakSample{RSS: 62 * mb, Heap: 9 * mb, Goroutines: 112}, false},
		"memory leaks":               {SoakSample{RSS: 65 * mb, Heap: 5 * mb, Goroutines: 80}, true},
		"100 bytes leak per request": {SoakSample{RSS: 50 * mb, Heap: 5*mb + 150_000*100, Goroutines: 80}, true},
		"goroutines leak":            {SoakSample{RSS: 50 * mb, Heap: 5 * mb, Goroutines: 80 + 150}, true},
	}
	for name, test := range tests {
		if err := flat(early, test.late); errors.Is(err, errGrows) != test.grows {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNumberAfter(t *testing.T) {
	t.Parallel()
	if n, err := numberAfter("goroutine profile: total 48\n1 @", "total "); n != 48 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	for _, text := range []string{"", "total", "total x", "other 48"} {
		if n, err := numberAfter(text, "total "); err == nil {
			t.Errorf("%q: got %d, want an error", text, n)
		}
	}
}
