package cache

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/statesvc/statesvc/state"
)

// entry is a copy of a document in memory. It is never changed.
type entry struct {
	document state.Document
	seen     state.Version // the era of the bucket when it was seen, and the document's number
	freshAt  time.Time     // an instant at which it was the newest content
	moved    uint64        // what l1.moved was before it was read
}

// l1 has copies in this process.
type l1 struct {
	entries *otter.Cache[state.Key, *entry]
	seed    maphash.Seed
	moves   [4096]atomic.Uint64 // moved by every write and push of a document that falls there
}

// entryOverhead is about what an entry takes besides names and body.
const entryOverhead = 256

func newL1(bytes uint64) (*l1, error) {
	entries, err := otter.New(&otter.Options[state.Key, *entry]{
		MaximumWeight:   bytes,
		InitialCapacity: int(bytes / 1024),
		Weigher: func(k state.Key, e *entry) uint32 {
			return uint32(len(k.Kind) + len(k.ID) + len(e.document.Body) + entryOverhead)
		},
	})
	if err != nil {
		return nil, err
	}
	return &l1{entries: entries, seed: maphash.MakeSeed()}, nil
}

func (l *l1) get(k state.Key) *entry {
	e, _ := l.entries.GetIfPresent(k)
	return e
}

// put takes an entry unless what is there is newer, or something newer was heard of since it was read: that may have found nothing here.
// Of two that are as new, the one is kept that was the newest content later.
func (l *l1) put(e *entry) {
	l.entries.Compute(e.document.Key, func(old *entry, found bool) (*entry, otter.ComputeOp) {
		if found && !e.supersedes(old) || l.moved(e.document.Key) != e.moved {
			return old, otter.CancelOp
		}
		return e, otter.WriteOp
	})
}

func (e *entry) supersedes(old *entry) bool {
	c := e.seen.Compare(old.seen)
	return c > 0 || c == 0 && e.freshAt.After(old.freshAt)
}

// outdated drops what is older than v. If there was something and e is not nil, e takes its place.
func (l *l1) outdated(k state.Key, v state.Version, e *entry) {
	l.move(k)
	l.entries.ComputeIfPresent(k, func(old *entry) (*entry, otter.ComputeOp) {
		switch {
		case old.seen.Compare(v) >= 0 && old.seen.Number >= v.Number: // a larger number in an earlier era was written by hand
			return old, otter.CancelOp
		case e == nil:
			return nil, otter.InvalidateOp
		}
		return e, otter.WriteOp
	})
}

func (l *l1) stripe(k state.Key) *atomic.Uint64 {
	return &l.moves[maphash.Comparable(l.seed, k)%uint64(len(l.moves))]
}

// move tells readers that begin later not to join a flight that is under way.
func (l *l1) move(k state.Key) { l.stripe(k).Add(1) }

func (l *l1) moved(k state.Key) uint64 { return l.stripe(k).Load() }
