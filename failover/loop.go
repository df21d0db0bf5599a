package failover

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/statesvc/statesvc/shard"
)

const (
	tick       = 10 * time.Millisecond // how often rules that depend on the time alone are looked at
	retryAfter = 20 * time.Millisecond // between attempts of an action that fails
	refusedGap = 20 * time.Millisecond // after a refused connection the node is asked again sooner
)

// loop takes care of one shard.
type loop struct {
	*Controller
	number int

	mu    sync.Mutex
	nodes map[string]*Node
	seen  map[string]Seen

	// The rest belongs to the goroutine of run.
	run    Run
	busy   map[string]bool
	failed map[string]time.Time
	done   chan outcome
	probed chan struct{}
}

// outcome is how an action ended.
type outcome struct {
	action Action
	began  time.Time
	err    error
	fact   func(*Run) // what is known now; nil after an error
}

func newLoop(c *Controller, number int) *loop {
	return &loop{
		Controller: c, number: number, nodes: map[string]*Node{}, seen: map[string]Seen{},
		busy: map[string]bool{}, failed: map[string]time.Time{}, done: make(chan outcome), probed: make(chan struct{}, 1),
	}
}

// keep runs until ctx ends: it starts what Next says, and hears how it ended.
func (l *loop) keep(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer l.closeNodes()
	defer work.Wait()
	defer stop()
	work.Go(func() { l.beat(ctx) })
	watched := map[string]bool{}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		changed := l.changes()
		if s, rev, ok := l.state(); ok {
			for name, node := range s.Record.Nodes {
				if !watched[name] {
					watched[name] = true
					work.Go(func() { l.probe(ctx, name, node.Address) })
				}
			}
			for _, a := range Next(s) {
				l.start(ctx, &work, a, s, rev)
			}
		}
		select {
		case o := <-l.done:
			l.finish(o)
		case <-changed:
		case <-l.probed:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// state gathers what Next looks at. It is false while the record cannot be read.
func (l *loop) state() (s State, rev int64, ok bool) {
	r, rev, err := l.record(l.number)
	if err != nil {
		return State{}, 0, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s = State{
		Record: r, Run: l.run.clone(), Seen: make(map[string]Seen, len(l.seen)), Dead: l.dead(l.number),
		Holding: l.holding(l.number, r.Epoch), Order: l.order(l.number), Now: l.cfg.Now(),
	}
	for name, seen := range l.seen {
		s.Seen[name] = seen
	}
	return s, rev, true
}

// start begins an action unless it is under way, has just failed, or would write the record beside another one.
func (l *loop) start(ctx context.Context, work *sync.WaitGroup, a Action, s State, rev int64) {
	key := a.key()
	if a.writesRecord() {
		key = "record"
	}
	if l.busy[key] || s.Now.Sub(l.failed[a.key()]) < retryAfter {
		return
	}
	l.busy[key] = true
	work.Go(func() {
		began := l.cfg.Now()
		fact, err := l.do(ctx, a, s, rev)
		select {
		case l.done <- outcome{a, began, err, fact}:
		case <-ctx.Done():
		}
	})
}

// finish takes what an action found into the run. A fact of another run is of no use any more.
func (l *loop) finish(o outcome) {
	if o.action.writesRecord() {
		delete(l.busy, "record")
	} else {
		delete(l.busy, o.action.key())
	}
	now := l.cfg.Now()
	l.run.Journal.add(o, now)
	if o.err != nil {
		l.failed[o.action.key()] = now
		l.cfg.Log.Warn("a step of a failover failed; it is tried again", "shard", l.number, "step", o.action.Kind, "node", o.action.Node,
			"error", o.err)
		return
	}
	if o.fact != nil {
		o.fact(&l.run)
	}
	l.cfg.Log.Info("failover step", "shard", l.number, "step", o.action.Kind, "node", o.action.Node, "why", o.action.Why,
		"took_ms", float64(now.Sub(o.began).Microseconds())/1000)
}

// probe asks a node again and again until ctx ends.
func (l *loop) probe(ctx context.Context, name, address string) {
	node := l.node(name, address)
	for {
		began := l.cfg.Now()
		asked, cancel := context.WithTimeout(ctx, probeTimeout)
		status, err := node.Probe(asked)
		cancel()
		if ctx.Err() != nil {
			return
		}
		refused := errors.Is(err, syscall.ECONNREFUSED)
		l.note(name, began, status, err, refused)
		pause := probeEvery - l.cfg.Now().Sub(began)
		if refused {
			pause = refusedGap
		}
		select {
		case <-time.After(max(pause, time.Millisecond)):
		case <-ctx.Done():
			return
		}
	}
}

// note takes an answer, or its absence, into what is seen.
func (l *loop) note(name string, began time.Time, status Status, err error, refused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, seen := l.cfg.Now(), l.seen[name]
	switch {
	case err == nil:
		received := seen.ReceivedAt
		if status.ReceivedMark != seen.ReceivedMark {
			received = now
		}
		seen = Seen{Status: status, AnsweredAt: now, ReceivedAt: received}
	default:
		if seen.Misses++; seen.FailingAt.IsZero() {
			seen.FailingAt = began
		}
		if refused {
			seen.Refused++
		}
	}
	l.seen[name] = seen
	select {
	case l.probed <- struct{}{}:
	default:
	}
}

// beat commits a row on the primary again and again while it serves, so that the replicas always have something to receive,
// and so that the time of the shard is known when the primary is gone.
func (l *loop) beat(ctx context.Context) {
	for {
		if r, _, err := l.record(l.number); err == nil && r.Phase == shard.PhaseServing {
			beating, cancel := context.WithTimeout(ctx, time.Second)
			_ = l.node(r.Primary, r.Nodes[r.Primary].Address).Beat(beating, "controller") // its absence is what matters
			cancel()
		}
		select {
		case <-time.After(beatEvery):
		case <-ctx.Done():
			return
		}
	}
}

func (l *loop) node(name, address string) *Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes[name] == nil {
		l.nodes[name] = l.cfg.Open(l.number, name, address)
	}
	return l.nodes[name]
}

func (l *loop) closeNodes() {
	for _, node := range l.nodes {
		_ = node.Close() // what it was doing has ended
	}
}
