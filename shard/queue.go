package shard

import (
	"sync"
	"sync/atomic"
	"time"
)

// The states of a call. It leaves queued exactly once: a batch takes it, or its caller withdraws it.
const (
	callQueued int32 = iota
	callTaken
	callWithdrawn
)

// call is an operation on its way through a lane, and the place where its caller waits.
type call struct {
	op       *Op
	deadline time.Time // zero: none
	queuedAt time.Time
	state    atomic.Int32
	reply    chan Reply // capacity 1, so that a lane never waits for a caller
	attempts int        // how often an undecided outcome ended as aborted
}

func (c *call) take() bool { return c.state.CompareAndSwap(callQueued, callTaken) }

// withdraw reports whether the operation was stopped before any batch took it: it has no effect.
func (c *call) withdraw() bool { return c.state.CompareAndSwap(callQueued, callWithdrawn) }

func (c *call) answer(r Reply) {
	select {
	case c.reply <- r:
	default: // answered before; can only be a later, weaker answer
	}
}

// queue is the bounded waiting room of one lane. No client may fill more than half of it, so that a flood from one leaves
// room for the others.
type queue struct {
	mu      sync.Mutex
	ready   *sync.Cond
	calls   []*call
	clients map[string]int
	limit   int
	closed  error // why nothing is taken any more
}

func newQueue(limit int) *queue {
	q := &queue{limit: limit, clients: map[string]int{}}
	q.ready = sync.NewCond(&q.mu)
	return q
}

// put queues a call or says at once why not.
func (q *queue) put(c *call) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return q.closed
	}
	if len(q.calls) >= q.limit || q.clients[c.op.Client] >= (q.limit+1)/2 {
		return ErrOverloaded
	}
	q.calls = append(q.calls, c)
	q.clients[c.op.Client]++
	q.ready.Signal()
	return nil
}

// take waits for work and returns all of it, up to max calls. It returns nil when the queue is closed and empty.
func (q *queue) take(into []*call, most int) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.calls) == 0 {
		if q.closed != nil {
			return nil
		}
		q.ready.Wait()
	}
	n := min(most, len(q.calls))
	into = append(into[:0], q.calls[:n]...)
	for _, c := range into {
		q.forget(c.op.Client)
	}
	rest := copy(q.calls, q.calls[n:])
	clear(q.calls[rest:])
	q.calls = q.calls[:rest]
	return into
}

func (q *queue) forget(client string) {
	if q.clients[client]--; q.clients[client] == 0 {
		delete(q.clients, client)
	}
}

func (q *queue) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.calls)
}

// close lets the waiting calls be taken and refuses new ones.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed == nil {
		q.closed = ErrClosed
	}
	q.ready.Broadcast()
}

// abandon refuses new calls as having come by a stale route, and returns those that wait.
func (q *queue) abandon() []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := q.calls
	q.calls, q.closed = nil, errAbandoned
	clear(q.clients)
	q.ready.Broadcast()
	return waiting
}
