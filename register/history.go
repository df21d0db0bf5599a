package register

import (
	"sort"
	"strings"
)

// A history holds what slow watchers have not seen yet. Who falls further behind is told to list again.
const (
	historyEventsMax = 16384
	historyBytesMax  = 16 << 20
)

// history is the latest changes in order of revision. Every change with a revision above from is in it.
type history struct {
	events []Event
	bytes  int
	from   int64
}

// add appends the changes of one transaction and forgets the oldest transactions beyond the limits.
func (h *history) add(events []Event) {
	for _, e := range events {
		h.bytes += len(e.Key) + len(e.Value)
	}
	h.events = append(h.events, events...)
	for len(h.events) > historyEventsMax || h.bytes > historyBytesMax && len(h.events) > 0 {
		h.forgetOldest()
	}
}

// forgetOldest drops one whole transaction, because half of one must never be delivered.
func (h *history) forgetOldest() {
	h.from = h.events[0].Rev
	for len(h.events) > 0 && h.events[0].Rev == h.from {
		h.bytes -= len(h.events[0].Key) + len(h.events[0].Value)
		h.events[0] = Event{} // let go of the value
		h.events = h.events[1:]
	}
}

// reset forgets everything: the register jumped to rev without the changes in between.
func (h *history) reset(rev int64) {
	*h = history{from: rev}
}

// since returns the changes below prefix after the revision; lost says that some of them are forgotten.
func (h *history) since(prefix string, after int64) (events []Event, lost bool) {
	if after < h.from {
		return nil, true
	}
	first := sort.Search(len(h.events), func(i int) bool { return h.events[i].Rev > after })
	for _, e := range h.events[first:] {
		if strings.HasPrefix(e.Key, prefix) {
			events = append(events, e)
		}
	}
	return events, false
}
