package events

import (
	"context"

	"github.com/statesvc/statesvc/feed"
)

// Tables are those whose changes wake a Feed.
var Tables = []feed.Table{{Name: "outbox"}}

// Follower returns a consumer of a shard's change feed that has the numbering look at once when there is something to number. It carries
// no event and keeps nothing: what it misses, the next look finds.
func (f *Feed) Follower(number int) feed.Consumer { return &follower{wake: f.waker(number)} }

type follower struct {
	wake     chan struct{}
	position feed.Position
}

// Position implements feed.Consumer.
func (w *follower) Position(context.Context) (feed.Position, error) { return w.position, nil }

// Take implements feed.Consumer. A row that only gets its number has been looked at.
func (w *follower) Take(_ context.Context, r feed.Release) error {
	w.position = r.Position
	for _, t := range r.Transactions {
		for _, c := range t.Changes {
			if !c.Before.Exists() {
				w.ring()
				return nil
			}
		}
	}
	return nil
}

// Reset implements feed.Consumer.
func (w *follower) Reset(_ context.Context, g feed.Gap) error {
	w.position = g.Position
	w.ring()
	return nil
}

func (w *follower) ring() {
	select {
	case w.wake <- struct{}{}:
	default: // somebody has rung
	}
}

// waker is what wakes who looks after a shard.
func (f *Feed) waker(number int) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wakers[number] == nil {
		f.wakers[number] = make(chan struct{}, 1)
	}
	return f.wakers[number]
}
