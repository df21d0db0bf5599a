package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/events"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
)

// The limits of streams.
const (
	streamHeartbeat = 15 * time.Second // below the idle timeouts of common proxies
	streamPause     = time.Second      // after an error, and the most that a reader waits for news it was not told of
	streamPage      = 100              // events that are read at once
	streamsMax      = 1000             // open on an instance; each costs a goroutine and, when there is news, a read
	streamPatience  = 5 * time.Second  // for a read
)

// afterEnd is the position that means: what comes from now on.
const afterEnd = "now"

// position reads a position in the events; pointer is where the request has it.
func (s *server) position(ctx context.Context, pointer, text string) (events.Position, error) {
	if text == afterEnd {
		return s.cfg.Feed.End(ctx)
	}
	p, err := events.ParsePosition(text)
	if err != nil {
		return nil, invalid(pointer, "is no position in the events")
	}
	return p, nil
}

// ListEvents answers GET /v1/events.
func (s *server) ListEvents(ctx context.Context, r gen.ListEventsRequestObject) (gen.ListEventsResponseObject, error) {
	limit, err := pageLimit(r.Params.Limit)
	if err != nil {
		return nil, err
	}
	after, err := s.position(ctx, "after", r.Params.After)
	if err != nil {
		return nil, err
	}
	found, next, err := s.cfg.Feed.After(ctx, after, limit)
	if found == nil {
		found = []ledger.FeedEvent{}
	}
	return shown(http.StatusOK, eventList{found, next.String()}, err)
}

type eventList struct {
	Events   []ledger.FeedEvent `json:"events"`
	Position string             `json:"position"`
}

// StreamEvents answers GET /v1/events/stream. What is wrong with the request, or with the position, is said before the stream begins.
func (s *server) StreamEvents(ctx context.Context, r gen.StreamEventsRequestObject) (gen.StreamEventsResponseObject, error) {
	pointer, text := "Last-Event-ID", r.Params.LastEventID
	if text == "" {
		pointer, text = "after", r.Params.After
	}
	after, err := s.position(ctx, pointer, text)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.cfg.Feed.After(ctx, after, 1); err != nil {
		return nil, err
	}
	return &stream{s: s, ctx: ctx, at: after}, nil
}

// stream is an open stream of events. Each message has as its id the position after it, so a reader who comes again says himself where
// to go on, and nothing is kept for him.
type stream struct {
	s       *server
	ctx     context.Context //nolint:containedctx // it is the reply of one request, and ends with it
	at      events.Position
	quietAt time.Time // since when nothing was written
}

// VisitStreamEventsResponse writes events until the reader is gone or the instance stops. Then the reader comes again, to this instance
// or another one.
func (t *stream) VisitStreamEventsResponse(w http.ResponseWriter) error {
	s := t.s
	defer s.streams.Add(-1)
	if s.streams.Add(1) > streamsMax {
		return fmt.Errorf("%w: too many streams are open", shard.ErrOverloaded)
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // a proxy must not wait for more
	w.WriteHeader(http.StatusOK)
	err := t.write(w, "retry: 1000\n\n")
	for err == nil && t.ctx.Err() == nil && !s.isEnding() {
		changed := s.cfg.Feed.Changed()
		var some int
		if some, err = t.next(w); err == nil && some < streamPage {
			t.wait(changed)
		}
	}
	return nil // whoever reads is gone, or comes again
}

// next writes the events that follow. A shard that cannot be read is tried again; a position that is not kept any more ends the stream,
// and the reader hears why when he comes again.
func (t *stream) next(w http.ResponseWriter) (n int, err error) {
	ctx, cancel := context.WithTimeout(t.ctx, streamPatience)
	defer cancel()
	found, _, err := t.s.cfg.Feed.After(ctx, t.at, streamPage)
	if problem, known := problemOf(err); err != nil && (known == nil || !problem.retryable) {
		return 0, err
	}
	for i := range found {
		t.at[found[i].Shard] = found[i].Sequence
		if err := t.writeEvent(w, &found[i]); err != nil {
			return 0, err
		}
	}
	if now := t.s.cfg.Now(); len(found) == 0 && now.Sub(t.quietAt) >= t.s.cfg.Heartbeat {
		return 0, t.write(w, ": heartbeat\n\n")
	}
	return len(found), nil
}

func (t *stream) writeEvent(w http.ResponseWriter, e *ledger.FeedEvent) error {
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", e.EventID, err)
	}
	return t.write(w, fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", t.at, e.Type, text))
}

// write sends a message at once, and gives a slow reader as long as a heartbeat.
func (t *stream) write(w http.ResponseWriter, message string) error {
	connection := http.NewResponseController(w)
	_ = connection.SetWriteDeadline(t.s.cfg.Now().Add(t.s.cfg.Heartbeat))
	if _, err := io.WriteString(w, message); err != nil {
		return err
	}
	t.quietAt = t.s.cfg.Now()
	return connection.Flush()
}

// wait returns when there may be news, or it is time for a heartbeat.
func (t *stream) wait(changed <-chan struct{}) {
	select {
	case <-t.ctx.Done():
	case <-t.s.cfg.Ending:
	case <-changed:
	case <-time.After(min(streamPause, t.s.cfg.Heartbeat)):
	}
}

func (s *server) isEnding() bool {
	select {
	case <-s.cfg.Ending:
		return true
	default:
		return false
	}
}
