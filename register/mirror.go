package register

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	renewTTL   = time.Second           // a renewal that takes longer proves too little to wait for
	afterLoss  = 5 * time.Millisecond  // between losing a watch and listing again, lest a broken register is hammered
	afterError = 20 * time.Millisecond // between attempts to list
)

// MirrorOptions say what a Mirror copies and whom it tells.
type MirrorOptions struct {
	Prefix     string
	Now        func() time.Time
	RenewEvery time.Duration // how often the copy is compared with the register, which bounds FreshAt from below

	// Changed is told every change of the copy, the first content included, one call at a time and in an order that ends
	// in the copy's content. It must be quick and must not call the Mirror. After a lost watch the changes in between may
	// be merged: a key that was put and deleted is not mentioned at all.
	Changed func([]Event)
}

// Mirror is a copy in memory of all entries below a prefix, kept current by a watch and compared with the register at
// intervals. Own writes handed to Wrote are in it at once; others' writes arrive with the watch. While the register cannot
// be reached the copy stays as it is and only gets older: FreshAt says how old, and the reader decides what that allows.
type Mirror struct {
	reg  Register
	opts MirrorOptions
	stop context.CancelFunc

	stopRenewing context.CancelFunc // of the own loop, when somebody else renews

	loops   sync.WaitGroup
	freshAt atomic.Pointer[time.Time]

	mu      sync.Mutex
	entries map[string]Entry // exactly the register at revision seen, plus own
	seen    int64
	own     map[string]int64 // revision of own writes that are newer than seen
}

// OpenMirror loads the prefix and begins to follow it. ctx bounds the loading only; Close ends the following.
func OpenMirror(ctx context.Context, reg Register, opts MirrorOptions) (*Mirror, error) {
	m := &Mirror{reg: reg, opts: opts, entries: map[string]Entry{}, own: map[string]int64{}}
	if err := m.Renew(ctx); err != nil {
		return nil, fmt.Errorf("mirror %q: %w", opts.Prefix, err)
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	m.loops.Go(func() { m.follow(following) })
	renewing, stopRenewing := context.WithCancel(following)
	m.stopRenewing = stopRenewing
	m.loops.Go(func() { m.renewLoop(renewing) })
	return m, nil
}

// Close ends the following and waits for it. The copy can still be read.
func (m *Mirror) Close() {
	m.stop()
	m.loops.Wait()
}

// Get returns the entry of key, and whether there is one.
func (m *Mirror) Get(key string) (Entry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, found := m.entries[key]
	return e, found
}

// Entries returns a copy of the content in no order.
func (m *Mirror) Entries() []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	entries := make([]Entry, 0, len(m.entries))
	for _, e := range m.entries {
		entries = append(entries, e)
	}
	return entries
}

// FreshAt returns a time at which the copy was not older than the register: the start of the last renewal that succeeded.
func (m *Mirror) FreshAt() time.Time {
	return *m.freshAt.Load()
}

// Wrote applies the operations of a transaction that the caller has just made at rev, so that he reads his own writes.
// Operations outside the prefix are ignored. The watch delivers them again, which changes nothing.
func (m *Mirror) Wrote(rev int64, ops []Op) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rev <= m.seen {
		return // the watch was quicker, and may have gone on from there
	}
	var changes []Event
	for _, op := range ops {
		if !strings.HasPrefix(op.Key, m.opts.Prefix) || m.own[op.Key] > rev {
			continue
		}
		m.own[op.Key] = rev
		changes = append(changes, Event{Entry: Entry{Key: op.Key, Value: op.Value, Rev: rev}, Deleted: op.Delete})
	}
	m.apply(changes)
}

// Renew compares the copy with the register now. The loop does it all the time; a caller who needs to know before he
// goes on does it himself.
func (m *Mirror) Renew(ctx context.Context) error {
	asked := m.opts.Now() // before the request: the answer is at least as new as this
	entries, rev, err := m.reg.List(ctx, m.opts.Prefix)
	if err != nil {
		return err
	}
	m.reconcile(entries, rev)
	m.proved(asked)
	return nil
}

// proved moves FreshAt forward only, because renewals may overtake each other.
func (m *Mirror) proved(at time.Time) {
	for {
		old := m.freshAt.Load()
		if old != nil && old.After(at) && !m.opts.Now().Before(*old) {
			return
		}
		if m.freshAt.CompareAndSwap(old, &at) {
			return
		}
	}
}

// reconcile makes the copy equal to the listed entries at rev, except for what is newer than rev.
func (m *Mirror) reconcile(listed []Entry, rev int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rev <= m.seen {
		return
	}
	gone := maps.Clone(m.entries)
	var changes []Event
	for _, e := range listed {
		if gone[e.Key].Rev != e.Rev && m.own[e.Key] <= rev {
			changes = append(changes, Event{Entry: e})
		}
		delete(gone, e.Key)
	}
	for key, e := range gone {
		if e.Rev <= rev {
			changes = append(changes, Event{Entry: Entry{Key: key, Rev: rev}, Deleted: true})
		}
	}
	m.apply(changes)
	m.advance(rev)
}

// watched applies a batch of the watch.
func (m *Mirror) watched(batch []Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var changes []Event
	for _, e := range batch {
		if e.Rev > m.seen && e.Rev > m.own[e.Key] {
			changes = append(changes, e)
		}
	}
	m.apply(changes)
	m.advance(batch[len(batch)-1].Rev)
}

// apply changes the copy and tells. The caller holds mu, which keeps the calls of Changed in order.
func (m *Mirror) apply(changes []Event) {
	if len(changes) == 0 {
		return
	}
	for _, e := range changes {
		if e.Deleted {
			delete(m.entries, e.Key)
		} else {
			m.entries[e.Key] = e.Entry
		}
	}
	m.opts.Changed(changes)
}

func (m *Mirror) advance(rev int64) {
	m.seen = max(m.seen, rev)
	maps.DeleteFunc(m.own, func(_ string, rev int64) bool { return rev <= m.seen })
}

// follow watches, and lists again after each loss, until ctx ends.
func (m *Mirror) follow(ctx context.Context) {
	for ctx.Err() == nil {
		for batch := range m.reg.Watch(ctx, m.opts.Prefix, m.position()) {
			m.watched(batch)
		}
		wait := afterLoss
		if err := m.Renew(ctx); err != nil {
			wait = afterError
		}
		_ = pause(ctx, wait)
	}
}

func (m *Mirror) position() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen
}

// renewLoop keeps FreshAt moving. An error only lets it stand still, which is what its readers look at.
func (m *Mirror) renewLoop(ctx context.Context) {
	for pause(ctx, m.opts.RenewEvery) == nil {
		limited, cancel := context.WithTimeout(ctx, renewTTL)
		_ = m.Renew(limited)
		cancel()
	}
}
