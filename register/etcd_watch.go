package register

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Reasons for the end of a watch; they are logged, because a closed channel cannot say them.
var (
	errUnknownRevision = errors.New("the revision to begin after has not been reached")
	errWatchLost       = errors.New("the watch was lost")
	errSlowWatcher     = errors.New("the watcher is too slow")
)

// Watch implements Register. A member that has lost its leader ends the watch instead of letting it go stale in silence; a
// member that is merely paused does not, until its connection is given up.
func (e *Etcd) Watch(ctx context.Context, prefix string, afterRev int64) <-chan []Event {
	batches := make(chan []Event)
	err := e.start(func() {
		defer close(batches)
		err := e.deliver(ctx, prefix, afterRev, batches)
		if ctx.Err() == nil && e.ctx.Err() == nil {
			e.log.WarnContext(ctx, "watch ended", "prefix", prefix, "reason", err.Error())
		}
	})
	if err != nil {
		close(batches)
	}
	return batches
}

// deliver sends batches until the watch ends, and says why it did.
func (e *Etcd) deliver(ctx context.Context, prefix string, after int64, batches chan<- []Event) error {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	reached, err := e.revision(ctx)
	if err != nil {
		return err
	}
	if reached < after {
		return errUnknownRevision // etcd would wait for it in silence
	}
	watch := e.client.Watch(clientv3.WithRequireLeader(ctx), e.prefix+prefix, clientv3.WithPrefix(), clientv3.WithRev(after+1))
	var waiting backlog
	for {
		out := batches
		if len(waiting.batches) == 0 {
			out = nil // nothing to send
		}
		select {
		case resp, open := <-watch:
			if err := errOf(resp, open); err != nil {
				return err
			}
			if err := waiting.add(e.events(resp.Events)); err != nil {
				return err
			}
		case out <- waiting.first():
			waiting.sent()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func errOf(resp clientv3.WatchResponse, open bool) error {
	if err := resp.Err(); err != nil {
		return err
	}
	if !open {
		return errWatchLost
	}
	return nil
}

// events translates one answer of a watch. Without fragments, which we did not ask for, it holds whole revisions.
func (e *Etcd) events(list []*clientv3.Event) []Event {
	events := make([]Event, len(list))
	for i, event := range list {
		events[i] = Event{Entry: e.entry(event.Kv), Deleted: event.Type == clientv3.EventTypeDelete}
	}
	return events
}

// backlog is what has arrived and was not taken yet. It is limited here because the client queues without end.
type backlog struct {
	batches [][]Event
	events  int
	bytes   int
}

func (b *backlog) add(batch []Event) error {
	if len(batch) == 0 {
		return nil // a notice of progress; it proves nothing
	}
	b.batches = append(b.batches, batch)
	b.count(batch, 1)
	if b.events > historyEventsMax || b.bytes > historyBytesMax {
		return fmt.Errorf("%w: %d events, %d bytes wait", errSlowWatcher, b.events, b.bytes)
	}
	return nil
}

// first is the batch to send next, nil if there is none.
func (b *backlog) first() []Event {
	if len(b.batches) == 0 {
		return nil
	}
	return b.batches[0]
}

func (b *backlog) sent() {
	b.count(b.batches[0], -1)
	b.batches = b.batches[1:]
}

func (b *backlog) count(batch []Event, sign int) {
	b.events += sign * len(batch)
	for _, e := range batch {
		b.bytes += sign * (len(e.Key) + len(e.Value))
	}
}
