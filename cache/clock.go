package cache

import (
	"sync/atomic"
	"time"
)

// sample is a reading of a Redis server's clock: between sentAt and heardAt of our own clock it was redis.
type sample struct {
	run     string // run_id of the server
	redis   int64  // ms
	sentAt  time.Time
	heardAt time.Time
}

// sampleTTL is how long a sample is used: two clocks drift apart by less than a millisecond in it.
const sampleTTL = 10 * time.Second

// stampAt is a time of the Redis server's clock that is not later than our instant at, which is after the sample. It is 0 if none is known.
func (s *sample) stampAt(at time.Time) int64 {
	if s == nil || at.Sub(s.heardAt) > sampleTTL {
		return 0
	}
	return s.redis + at.Sub(s.heardAt).Milliseconds() - 1
}

// instantOf is an instant of our clock that is not later than the time stamp of the Redis server's clock.
func (s *sample) instantOf(stamp int64) time.Time {
	return s.sentAt.Add(time.Duration(stamp-s.redis) * time.Millisecond)
}

// clock follows the clock of the Redis server in use.
type clock struct {
	last     atomic.Pointer[sample]
	suspects atomic.Int64 // no entry is believed by its stamp before the server's clock has passed this; ms
}

// backwards is how far the server's clock may fall behind ours between two samples before it counts as set back.
const backwards = 50 * time.Millisecond

// take compares a new sample with the last one. If the server's clock was set back, entries from before look younger than they are: until
// it has passed the latest time that it can have stamped them with, and they have aged, stamps prove nothing.
func (c *clock) take(next *sample) {
	old := c.last.Load()
	if old != nil && old.run == next.run {
		latest := old.redis + next.heardAt.Sub(old.sentAt).Milliseconds()
		least := old.redis + next.sentAt.Sub(old.heardAt).Milliseconds() - backwards.Milliseconds()
		if next.redis < least {
			c.suspects.Store(max(c.suspects.Load(), latest+Bound.Milliseconds()))
		}
	}
	c.last.Store(next)
}

// believes reports whether stamps prove anything at this time of the server's clock.
func (c *clock) believes() bool {
	s := c.last.Load()
	return s != nil && s.redis >= c.suspects.Load()
}
