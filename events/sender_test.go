package events

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/client"
	"github.com/statesvc/statesvc/ledger"
)

// receiver takes messages, and checks that their events follow each other.
type receiver struct {
	t      *testing.T
	server *httptest.Server
	hook   Webhook
	now    func() time.Time

	mu       sync.Mutex
	status   int              // of the answers; 0: 200
	before   func()           // called with each message before it is taken
	seen     map[string]int   // how often, by event_id
	order    []int64          // sequences in the order in which they were taken first
	messages int              // that were taken
	attempts int              // also those that were not
	open     int              // that are being received
	overlaps int              // messages that came while another one did
	ids      map[string][]int // sizes of the messages by webhook-id
}

func newReceiver(r *rig) *receiver {
	in := &receiver{t: r.t, seen: map[string]int{}, now: r.clock, ids: map[string][]int{}}
	in.server = httptest.NewServer(http.HandlerFunc(in.receive))
	r.t.Cleanup(in.server.Close)
	in.hook = must(r.hooks.Create(r.t.Context(), in.server.URL, "test", Position{}))
	return in
}

func (in *receiver) receive(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	in.mu.Lock()
	if in.open++; in.open > 1 {
		in.overlaps++
	}
	in.attempts++
	status, before := in.status, in.before
	in.mu.Unlock()
	if before != nil {
		before()
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.open--
	message, err := client.ReadWebhook(in.hook.Secret, request.Header, body, in.now())
	if err != nil {
		in.t.Errorf("%v: %s", err, body)
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	in.messages++
	for _, e := range message.Events {
		if in.seen[e.EventID]++; in.seen[e.EventID] == 1 {
			in.order = append(in.order, e.Sequence)
		}
	}
}

// complete fails the test unless events 1 to n were taken, in order.
func (in *receiver) complete(n int) {
	in.t.Helper()
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, sequence := range in.order {
		if sequence != int64(i)+1 {
			in.t.Fatalf("event %d came where %d should", sequence, i+1)
		}
	}
	if len(in.order) != n {
		in.t.Errorf("%d events were taken, %d decided", len(in.order), n)
	}
}

func (in *receiver) set(status int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.status = status
}

// Two instances: one sends, everything comes once and in order, and the other one takes over when the first stops.
func TestSendersShareAWebhook(t *testing.T) {
	onEngines(t, func(t *testing.T, r *rig) {
		in := newReceiver(r)
		stops := make([]context.CancelFunc, 2)
		done := make(chan error, 2)
		for i, name := range []string{"a", "b"} {
			ctx, stop := context.WithCancel(t.Context())
			stops[i] = stop
			go func() { done <- r.sender(name, i).Run(ctx) }()
		}
		for i := range 2 {
			r.decide(150)
			in.until(t, (i+1)*150)
			in.complete((i + 1) * 150)
			if i == 0 {
				in.onceEach(t)
			}
			holder := r.feeds[0].Deliveries(t.Context(), in.hook)[0].Holder
			stops[slices.Index([]string{"a", "b"}, holder)]() // its lease is given back
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// onceEach fails the test if anything came twice, or beside something else. While nobody stops and nothing fails, nothing does.
func (in *receiver) onceEach(t *testing.T) {
	t.Helper()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.overlaps > 0 || in.attempts != in.messages {
		t.Errorf("%d messages overlapped; %d of %d were taken", in.overlaps, in.messages, in.attempts)
	}
	for event, times := range in.seen {
		if times != 1 {
			t.Errorf("event %s came %d times", event, times)
		}
	}
}

// until waits until n events were taken.
func (in *receiver) until(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		in.mu.Lock()
		taken := len(in.order)
		in.mu.Unlock()
		if taken >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d events were taken", taken, n)
		}
	}
}

// An instance that dies while it sends loses nothing: when its lease is over, another one sends from where it was.
func TestSenderDies(t *testing.T) {
	onEngines(t, func(t *testing.T, r *rig) {
		in := newReceiver(r)
		r.decide(5)
		dead, heir := r.delivery("dead", 0, in.hook), r.delivery("heir", 1, in.hook)
		in.set(http.StatusServiceUnavailable)
		dead.mustStep(t) // it holds the lease, and has failed once
		in.set(0)
		if wait := heir.mustStep(t); wait != claimEvery || len(in.order) != 0 {
			t.Fatalf("the heir does not wait for the lease: %s, %v", wait, in.order)
		}
		r.advance(leaseTTL + time.Second)
		heir.mustStep(t)
		in.complete(5)
	})
}

// An instance that is paused while it sends comes back when another one has gone on. What it writes down then changes nothing.
func TestPausedSenderMovesNothing(t *testing.T) {
	onEngines(t, func(t *testing.T, r *rig) {
		in := newReceiver(r)
		r.decide(3)
		paused, heir := r.delivery("paused", 0, in.hook), r.delivery("heir", 1, in.hook)
		in.before = sync.OnceFunc(func() {
			r.advance(leaseTTL + time.Second)
			in.mu.Lock()
			in.before = nil
			in.mu.Unlock()
			heir.mustStep(t) // 1 to 3, again
			r.decide(4)
			heir.mustStep(t) // 4 to 7
		})
		paused.mustStep(t) // 1 to 3
		in.complete(7)
		if d := r.feeds[0].Deliveries(t.Context(), in.hook)[0]; d.Position != 7 || d.Holder != "heir" || d.Waiting != 0 {
			t.Errorf("%+v", d)
		}
		if paused.mustStep(t) != claimEvery {
			t.Error("the paused one goes on sending")
		}
	})
}

// A receiver that fails is asked less and less often, for 72 hours. Then nothing is sent until a replay, and nothing is lost.
func TestRetriesThenParked(t *testing.T) {
	onEngines(t, func(t *testing.T, r *rig) {
		in := newReceiver(r)
		r.decide(3)
		d := r.delivery("a", 0, in.hook)
		in.set(http.StatusInternalServerError)
		began := r.clock()
		var pauses []time.Duration
		for d.row.ParkedAt == 0 {
			d.mustStep(t)
			if d.row.ParkedAt == 0 {
				if attempts := in.attempts; d.mustStep(t) == 0 || in.attempts != attempts {
					t.Fatal("it does not wait")
				}
				pauses = append(pauses, instant(d.row.NextAt).Sub(r.clock()))
				r.advance(pauses[len(pauses)-1])
			}
		}
		want := []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600}
		for i := range want {
			if pauses[i] != time.Duration(want[i])*time.Second {
				t.Errorf("pause %d is %s", i, pauses[i])
			}
		}
		if after := r.clock().Sub(began); after < parkAfter || after > parkAfter+backoffMax {
			t.Errorf("parked after %s", after)
		}
		state := r.feeds[0].Deliveries(t.Context(), in.hook)[0]
		if state.ParkedAt.IsZero() || state.LastError != "it was not taken: 500 Internal Server Error" || state.Waiting != 3 {
			t.Errorf("%+v", state)
		}
		attempts := in.attempts
		in.set(0)
		r.decide(2)
		r.advance(24 * time.Hour)
		d.mustStep(t)
		if in.attempts != attempts {
			t.Error("something is sent to a parked webhook")
		}
		if err := r.feeds[0].Replay(t.Context(), in.hook, Position{}); err != nil {
			t.Fatal(err)
		}
		d.mustStep(t)
		in.complete(5)
	})
}

// A replay sends again what was taken, also while something is on its way; and after a success nothing of a failure is left.
func TestReplay(t *testing.T) {
	onEngines(t, func(t *testing.T, r *rig) {
		in := newReceiver(r)
		r.decide(3)
		d := r.delivery("a", 0, in.hook)
		in.set(http.StatusBadGateway)
		d.mustStep(t)
		in.set(0)
		r.advance(time.Second)
		d.mustStep(t)
		if s := r.feeds[0].Deliveries(t.Context(), in.hook)[0]; s.Failures != 0 || !s.FailingSince.IsZero() || !s.NextAt.IsZero() {
			t.Errorf("%+v", s)
		}
		r.decide(1)
		in.before = sync.OnceFunc(func() {
			if err := r.feeds[0].Replay(t.Context(), in.hook, Position{1: 1}); err != nil {
				t.Error(err)
			}
		})
		d.mustStep(t) // 4, and its outcome is not written down
		d.mustStep(t) // 2, 3 and 4
		in.complete(4)
		if in.seen["1-1"] != 1 || in.seen["1-2"] != 2 || in.seen["1-4"] != 2 || d.row.Position != 4 {
			t.Errorf("%v, at %d", in.seen, d.row.Position)
		}
		r.decide(1)
		in.before = sync.OnceFunc(func() { // to where it is: what is on its way does not count
			if err := r.feeds[0].Replay(t.Context(), in.hook, Position{1: 4}); err != nil {
				t.Error(err)
			}
		})
		d.mustStep(t)
		d.mustStep(t)
		if in.seen["1-5"] != 2 {
			t.Errorf("%v: a replay was lost", in.seen)
		}
	})
}

// Events that are not kept any more park a delivery at once: going on would pass over them in silence.
func TestTrimmedIsParked(t *testing.T) {
	onEngines(t, func(t *testing.T, r *rig) {
		in := newReceiver(r)
		d := r.delivery("a", 0, in.hook)
		r.decide(3)
		d.mustStep(t)
		r.decide(3)
		db, epoch, err := r.stores[0].Primary(1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.TrimEvents(t.Context(), db, epoch, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		d.mustStep(t)
		if s := r.feeds[0].Deliveries(t.Context(), in.hook)[0]; s.ParkedAt.IsZero() || s.LastError != ledger.ErrTrimmed.Error() {
			t.Errorf("%+v", s)
		}
		in.complete(3)
	})
}
