package ledger

import "time"

// The rules of how many units travel. All of them are guesses that cost a transfer when they are wrong, and never a unit.
const (
	// foresight is how much demand a slice borrows for: longer than a transfer takes on a busy day, and so short that what is
	// stranded on a shard whose demand ends is little.
	foresight = time.Second
	// lowWater is how much demand must be covered before a slice borrows ahead of need.
	lowWater = 250 * time.Millisecond
	// holdsAhead is for how many holds like the last one a slice borrows at least: what sells slowly would else be borrowed for each hold.
	// It is never more than a share of what is free; see lend.
	holdsAhead = 128
	// leastSpan bounds the demand that a moment of measuring can show.
	leastSpan = 10 * time.Millisecond
	// longestSpan is how long demand is measured before the older half is forgotten, so that it shows what is, and not what was.
	longestSpan = 4 * time.Second
	// idleAfter is how long nobody takes from a slice before it gives units back.
	idleAfter = time.Minute
)

// demand is how much is taken from a slice, in units since an instant.
type demand struct {
	taken   int64
	sinceAt int64
}

// add counts units taken at now.
func (d *demand) add(units, now int64) {
	d.fade(now)
	d.taken = min(d.taken+units, MaxAmount)
}

// fade keeps the average of what is old, with less weight.
func (d *demand) fade(now int64) {
	const kept = longestSpan / 2
	if span := now - d.sinceAt; span > longestSpan.Microseconds() {
		d.taken = mulDiv(d.taken, kept.Microseconds(), span)
		d.sinceAt = now - kept.Microseconds()
	}
}

// within is how many units are likely to be taken in the time that comes.
func (d *demand) within(length time.Duration, now int64) int64 {
	span := max(now-d.sinceAt, leastSpan.Microseconds())
	return min(mulDiv(d.taken, length.Microseconds(), span), MaxAmount)
}

// ahead is how many units holdsAhead holds of so many take.
func ahead(need int64) int64 { return min(need, MaxAmount/holdsAhead) * holdsAhead }

// wanted is how many units a slice should have after a hold of so many.
func (r *sliceRow) wanted(need, now int64) int64 { return max(r.within(foresight, now), ahead(need)) }

// low says whether a slice should borrow before it must: because of its demand, or because another hold like the last one would find too
// little.
func (r *sliceRow) low(need, now int64) bool { return r.Available < max(r.within(lowWater, now), need) }

// lend is how many units a home gives to a slice that needs and wants so many: what it needs, and of the rest no more than a share, so
// that the last units are spread over all shards and few have to travel twice. free must not be 0.
func lend(free, need, want int64, shards int) int64 {
	share := (free + 2*int64(shards) - 1) / (2 * int64(shards))
	return min(free, max(need, min(want, share)))
}
