package ledger

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// zones have what is hard about days: clocks that change at midnight, back to it, by half an hour, in the middle of a year, and a day
// that was left out.
var zones = []string{
	"UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "Asia/Beirut", "Africa/Cairo", "Asia/Tehran",
	"Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "Asia/Kathmandu", "America/St_Johns", "Asia/Gaza", "Asia/Shanghai",
}

func zoneOf(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// slowStart looks at every minute. Offsets of these zones have been whole minutes since 1972.
func slowStart(year int, month time.Month, day int, zone *time.Location) time.Time {
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	wanted := dayOf(midnight, time.UTC)
	at := midnight.Add(-15 * time.Hour)
	for dayOf(at, zone) < wanted {
		at = at.Add(time.Minute)
	}
	return at
}

func TestStartOfDay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(zones).Draw(t, "zone")
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		// Near a change of the clock half of the time.
		at := time.Date(rapid.IntRange(1975, 2040).Draw(t, "year"), 1, 1, 0, 0, 0, 0, time.UTC).
			AddDate(0, 0, rapid.IntRange(0, 364).Draw(t, "day"))
		if _, change := at.In(zone).ZoneBounds(); rapid.Bool().Draw(t, "at a change") && !change.IsZero() {
			at = change.AddDate(0, 0, rapid.IntRange(-1, 1).Draw(t, "beside"))
		}
		year, month, day := at.In(zone).Date()
		got, want := startOfDay(year, month, day, zone), slowStart(year, month, day, zone)
		if !got.Equal(want) {
			t.Fatalf("%d-%d-%d in %s starts at %s, want %s", year, month, day, name, got, want)
		}
	})
}

func TestStartOfHardDays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		zone, day, want string
	}{
		{"Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00Z"},
		{"Europe/Berlin", "2026-03-30", "2026-03-29T22:00:00Z"},     // after a day of 23 hours
		{"America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"}, // midnight does not exist; the day begins at 01:00
		{"America/Havana", "2026-11-01", "2026-11-01T04:00:00Z"},    // midnight comes twice; the first one counts
		{"Asia/Beirut", "2026-03-29", "2026-03-28T22:00:00Z"},
		{"Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z"}, // there is no such day
	} {
		day, err := time.Parse(time.DateOnly, c.day)
		if err != nil {
			t.Fatal(err)
		}
		year, month, number := day.Date()
		if got := startOfDay(year, month, number, zoneOf(t, c.zone)).Format(time.RFC3339); got != c.want {
			t.Errorf("%s in %s starts at %s, want %s", c.day, c.zone, got, c.want)
		}
	}
}
