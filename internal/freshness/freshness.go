// Package freshness judges reads of state data by what had been acknowledged before they began. It asks nobody and has no clock: whoever
// writes and reads tells it what happened when, by one monotonic clock.
package freshness

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/state"
)

// EventualWithin is the time within which an eventual read is expected to see a write. That is no promise; how often it comes true is
// counted.
const EventualWithin = time.Second

// Modes are all modes of reads, in the order of reports.
var Modes = [...]cache.Mode{cache.Strong, cache.AtLeast, cache.Bounded, cache.Eventual}

// History is what is known of the acknowledged writes of one document.
type History struct {
	mu   sync.Mutex
	acks []ack // instants and versions rise
}

type ack struct {
	version state.Version
	at      time.Time
}

// remembered is for how long a History can say what was the newest version.
const remembered = 2 * time.Minute

// Acknowledge notes that a version was acknowledged by an instant. Calls may come in any order.
func (h *History) Acknowledge(v state.Version, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.after(at)
	if i > 0 && h.acks[i-1].version.Compare(v) >= 0 {
		return // something newer had been acknowledged
	}
	newer := i
	for newer < len(h.acks) && h.acks[newer].version.Compare(v) <= 0 {
		newer++
	}
	h.acks = slices.Replace(h.acks, i, newer, ack{v, at})
	if old := h.after(h.acks[len(h.acks)-1].at.Add(-remembered)); old > 1 {
		h.acks = slices.Delete(h.acks, 0, old-1)
	}
}

// after is the place of the first acknowledgement after an instant.
func (h *History) after(at time.Time) int {
	i, _ := slices.BinarySearchFunc(h.acks, at, func(a ack, at time.Time) int {
		if a.at.After(at) {
			return 1
		}
		return -1
	})
	return i
}

// Newest is the newest version that was acknowledged by an instant; zero if there was none.
func (h *History) Newest(by time.Time) state.Version {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := h.after(by); i > 0 {
		return h.acks[i-1].version
	}
	return state.Version{}
}

// Oldest is the oldest version that a read may return which began at an instant. For an eventual read it is the one that is expected.
func (h *History) Oldest(ask cache.Ask, beganAt time.Time) state.Version {
	switch ask.Mode {
	case cache.AtLeast:
		return ask.Version
	case cache.Bounded:
		return h.Newest(beganAt.Add(-cache.Bound))
	case cache.Eventual:
		return h.Newest(beganAt.Add(-EventualWithin))
	case cache.Strong:
	}
	return h.Newest(beganAt)
}

// Count is how many reads were judged, and how many were older than their mode allows or, if they were eventual, than expected.
type Count struct{ Checked, Older int64 }

// Nines says how rare older reads are: 3 for one in a thousand. If there were none it says what the number of reads proves, and no more.
func (c Count) Nines() float64 {
	if c.Checked == 0 {
		return 0
	}
	return math.Log10(float64(c.Checked) / float64(max(c.Older, 1)))
}

// Tally counts by mode. It is safe for concurrent use; the zero Tally is ready.
type Tally struct {
	mu     sync.Mutex
	counts [len(Modes)]Count
}

// Judge counts a read and reports whether it was not too old.
func (t *Tally) Judge(mode cache.Mode, got, oldest state.Version) bool {
	fresh := got.Compare(oldest) >= 0
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.counts[mode]
	c.Checked++
	if !fresh {
		c.Older++
	}
	return fresh
}

// Of returns what was counted of a mode.
func (t *Tally) Of(mode cache.Mode) Count {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[mode]
}

// Checked is the number of all reads.
func (t *Tally) Checked() (sum int64) {
	for _, mode := range Modes {
		sum += t.Of(mode).Checked
	}
	return sum
}

// Violations is the number of reads that have broken a promise; eventual reads have none.
func (t *Tally) Violations() (sum int64) {
	for _, mode := range Modes {
		if mode != cache.Eventual {
			sum += t.Of(mode).Older
		}
	}
	return sum
}
