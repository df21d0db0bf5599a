package register

import (
	"context"
	"time"
)

// Watch implements Register. A watcher costs one goroutine and no queue: it reads the common history at its own pace.
// Changes by this handle are there when Txn returns; those of other handles within the poll interval.
func (f *File) Watch(ctx context.Context, prefix string, afterRev int64) <-chan []Event {
	batches := make(chan []Event)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		close(batches)
		return batches
	}
	f.watchers++
	f.loops.Go(func() {
		defer close(batches)
		f.deliver(ctx, prefix, afterRev, batches)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.watchers--
	})
	return batches
}

// deliver sends batches until the watch ends or a change is lost.
func (f *File) deliver(ctx context.Context, prefix string, after int64, batches chan<- []Event) {
	if !f.reached(ctx, after) {
		return // a revision of another register, or of this one before it was restored
	}
	for {
		f.mu.RLock()
		events, lost := f.history.since(prefix, after)
		after = max(after, f.rev)
		changed := f.changed
		f.mu.RUnlock()
		if lost {
			return
		}
		out := batches
		if len(events) == 0 {
			out = nil // nothing to send: wait for a change
		} else {
			changed = nil
		}
		select {
		case out <- events:
		case <-changed:
		case <-ctx.Done():
			return
		case <-f.ctx.Done():
			return
		}
	}
}

// reached tells whether the register has come to rev, which another handle may know before this one.
func (f *File) reached(ctx context.Context, rev int64) bool {
	_ = f.refresh(ctx) // an error means that the answer is about what is known
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.rev >= rev
}

// poll looks for changes of other handles while anybody watches. An error here is not reported: the state stays as it is,
// the next Get, List or Txn returns the error, and the next tick tries again.
func (f *File) poll() {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-f.ctx.Done():
			return
		}
		if f.watched() {
			_ = f.refresh(f.ctx)
		}
	}
}

func (f *File) watched() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.watchers > 0
}
