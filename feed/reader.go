package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/statesvc/statesvc/shard"
)

// reader is one pair of connections to one primary under one epoch. What it has read and not released ends with it.
type reader struct {
	*Tailer
	route     shard.Route
	marker    *marker
	stream    *stream
	assembler *assembler
	window    *window
	reached   bool // the consumer has got something

	marking   sync.WaitGroup
	marks     chan markerResult // of the marker under way
	isMarking bool              // a marker is under way
	markedAt  time.Time         // when the last one began

	told time.Time // CompleteAt of the last release
}

type markerResult struct {
	proof
	err error
}

// start finds out where the consumer stands, has it start anew if it must, and opens the stream there.
func (r *reader) start(ctx context.Context, at *mysql.Config, gap Reason) error {
	from, err := r.cfg.Consumer.Position(ctx)
	if err != nil {
		return fmt.Errorf("ask the consumer for its position: %w", err)
	}
	here, first, err := r.here(ctx)
	if err != nil {
		return err
	}
	if from == "" {
		gap = ReasonNew
	}
	if gap != "" {
		if err := r.reset(ctx, Gap{Reason: gap, After: from, Position: here}); err != nil {
			return err
		}
		from = here
	}
	if from != r.Status().Position { // it has lost something, so what was complete for it is so no more
		r.set(func(s *Status) { s.CompleteAt = time.Time{} })
	}
	if r.window, err = newWindow(r.cfg.windowBytes, from); err != nil {
		return err
	}
	r.window.prove(first)
	r.marks, r.markedAt = make(chan markerResult, 1), first.begunAt
	r.stream, err = openStream(ctx, at, r.cfg, from, r.assembler.wants)
	if err != nil {
		return err
	}
	r.set(func(s *Status) { s.Epoch, s.Err = r.route.Epoch, nil })
	r.cfg.Log.InfoContext(ctx, "the feed reads", "shard", r.cfg.Shard, "node", r.route.Node, "epoch", r.route.Epoch, "from", string(from))
	return nil
}

// here is that of the marker, given up when the shard gets another route: the acknowledgement may never come.
func (r *reader) here(ctx context.Context) (at Position, first proof, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		at, first, err = r.marker.here(ctx)
		cancel(nil)
	}()
	for ctx.Err() == nil {
		changed := r.cfg.Routes.Changed()
		if r.moved() {
			cancel(errMoved)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	<-done
	if cause := context.Cause(ctx); errors.Is(cause, errMoved) && err != nil {
		err = cause
	}
	return at, first, err
}

func (r *reader) reset(ctx context.Context, g Gap) error {
	g.Shard, g.Epoch = r.cfg.Shard, r.route.Epoch
	r.cfg.Log.InfoContext(ctx, "the consumer of a feed starts anew", "shard", g.Shard, "reason", string(g.Reason), "after", string(g.After))
	r.cfg.Metrics.reset(g)
	if err := r.cfg.Consumer.Reset(ctx, g); err != nil {
		return fmt.Errorf("start the consumer anew: %w", err)
	}
	r.reached = true
	return nil
}

// moved says whether the shard has another route than the reader's, or none.
func (r *reader) moved() bool {
	now, err := r.cfg.Routes.Shard(r.cfg.Shard)
	return err != nil || now != r.route
}

// run reads and hands over until something ends it.
func (r *reader) run(ctx context.Context) error {
	lead := time.NewTicker(leadEvery)
	defer lead.Stop()
	for {
		changed := r.cfg.Routes.Changed()
		if r.moved() {
			return errMoved
		}
		events := r.stream.events
		if r.window.full() {
			events = nil // the primary waits for us
		}
		var soon <-chan time.Time
		if pause, wanted := r.nextMarker(); wanted {
			soon = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-soon:
			r.beginMarker(ctx)
		case <-lead.C:
			if !r.leads(ctx) {
				return errResign
			}
		case made := <-r.marks:
			r.isMarking = false
			if made.err != nil {
				return made.err
			}
			r.window.prove(made.proof)
		case e := <-events:
			p, err := r.assembler.add(e)
			if err != nil {
				return err
			}
			if p != nil {
				r.window.add(p)
			}
			if len(events) > 0 && r.window.bytes < releaseBytes {
				continue
			}
		case err := <-r.stream.broken:
			return fmt.Errorf("read the binary log: %w", err)
		}
		if err := r.handOver(ctx); err != nil {
			return err
		}
	}
}

// nextMarker says when the next marker is due, if none is under way: soon if there are changes that nobody can have before it.
func (r *reader) nextMarker() (time.Duration, bool) {
	pause := markEvery
	if r.window.waits() || r.window.full() {
		pause = markPause
	}
	return r.markedAt.Add(pause).Sub(r.cfg.Now()), !r.isMarking
}

func (r *reader) beginMarker(ctx context.Context) {
	r.isMarking, r.markedAt = true, r.cfg.Now()
	r.marking.Go(func() {
		made, err := r.marker.commit(ctx)
		r.marks <- markerResult{made, err}
	})
}

// handOver gives the consumer what survives, and what is news about how far that goes.
func (r *reader) handOver(ctx context.Context) error {
	list, moved := r.window.release()
	completeAt := r.window.completeAt
	if len(list) == 0 && (!moved || completeAt.Equal(r.told)) {
		return nil
	}
	release := Release{
		Shard: r.cfg.Shard, Epoch: r.route.Epoch, Transactions: list, Position: r.window.position(), CompleteAt: r.completeAt(completeAt),
	}
	if err := r.cfg.Consumer.Take(ctx, release); err != nil {
		return fmt.Errorf("hand over %d transactions: %w", len(list), err)
	}
	r.reached, r.told = true, completeAt
	r.warn(list)
	r.cfg.Metrics.released(release)
	r.set(func(s *Status) {
		s.Position, s.CompleteAt, s.Behind = release.Position, release.CompleteAt, r.window.behind()
	})
	return nil
}

// completeAt is what was said before, if that is later: the window of a new connection does not know yet.
func (r *reader) completeAt(of time.Time) time.Time {
	if before := r.Status().CompleteAt; before.After(of) {
		return before
	}
	return of
}

// warn raises the alarms about what was handed over, which therefore has happened.
func (r *reader) warn(list []Transaction) {
	for _, t := range list {
		for _, c := range t.Changes {
			if c.Unversioned {
				r.alarm(Alarm{Kind: AlarmUnversioned, GTID: t.GTID, Table: c.Table, What: r.assembler.tables[c.Table].broken(c)})
			}
		}
	}
}
