package api

import (
	"testing"
	"time"
)

// C48: a day is as long as it is in its time zone, and each day begins where the one before ended.
func TestC48Borders(t *testing.T) {
	t.Parallel()
	berlin, err := timeZone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) time.Time {
		t.Helper()
		instant, err := border("from", text, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return instant
	}
	for _, day := range []struct {
		from, to string
		hours    float64
	}{
		{"2026-03-28", "2026-03-29", 24},
		{"2026-03-29", "2026-03-30", 23},
		{"2026-10-25", "2026-10-26", 25},
		{"2026-03-29T01:59:59", "2026-03-29T03:00:00", 1. / 3600},
		{"2026-07-01T00:00:00+02:00", "2026-07-02", 24},
	} {
		if hours := at(day.to).Sub(at(day.from)).Hours(); hours != day.hours {
			t.Errorf("from %s to %s are %v hours, want %v", day.from, day.to, hours, day.hours)
		}
	}
	if got := at("2026-03-29"); !got.Equal(time.Date(2026, 3, 28, 23, 0, 0, 0, time.UTC)) {
		t.Errorf("the day begins at %s", got.UTC())
	}
	for _, wrong := range []string{"2026-02-30", "now", "2026-3-1", "2026-03-29 00:00:00"} {
		if at, err := border("from", wrong, berlin); err == nil {
			t.Errorf("%s is %s", wrong, at)
		}
	}
	for _, wrong := range []string{"Local", "Berlin", "../etc/passwd", "Europe/"} {
		if zone, err := timeZone(wrong); err == nil {
			t.Errorf("%q is %s", wrong, zone)
		}
	}
}
