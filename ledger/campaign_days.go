package ledger

import "time"

// dayOf is the day of an instant in a zone, as yyyymmdd.
func dayOf(at time.Time, zone *time.Location) int64 {
	year, month, day := at.In(zone).Date()
	return int64(year)*10_000 + int64(month)*100 + int64(day)
}

// startOfDay is the first instant of a day in a zone. A day may begin late, because clocks go forwards at midnight; it may have midnight
// twice, because they go back to it; and a zone may leave a day out, which then begins with the one after it. time.Date promises
// nothing for such times.
func startOfDay(year int, month time.Month, day int, zone *time.Location) time.Time {
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC) // also brings day 32 into the next month
	wanted := dayOf(midnight, time.UTC)
	// No zone is further from UTC than 15 hours, so the day begins in this span. Within it, the first instant that has the wanted day
	// or a later one is at a local midnight or where an offset changes.
	at, end := midnight.Add(-15*time.Hour), midnight.Add(15*time.Hour)
	for at.Before(end) {
		_, offset := at.In(zone).Zone()
		_, change := at.In(zone).ZoneBounds()
		if dayOf(at, zone) >= wanted {
			return at.UTC()
		}
		next := midnight.Add(-time.Duration(offset) * time.Second)
		if next.After(at) && (change.IsZero() || next.Before(change)) {
			return next
		}
		if change.IsZero() {
			break
		}
		at = change
	}
	return end
}
