package failover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"syscall"
	"time"

	"github.com/statesvc/statesvc/shard"
)

const (
	tick       = 10 * time.Millisecond // how often rules that depend on the time alone are looked at
	retryAfter = 20 * time.Millisecond // between attempts of an action that fails
	refusedGap = 20 * time.Millisecond // after a refused connection the node is asked again sooner
	warnEvery  = time.Second           // between lines about the same step: one that cannot succeed is tried for hours
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
	runCtx context.Context // of the actions of this run: they end with it
	endRun context.CancelFunc
	busy   map[string]bool
	failed map[string]time.Time
	warned map[string]time.Time // when the log last heard of it
	done   chan outcome
	probed chan struct{}
}

// outcome is how an action ended.
type outcome struct {
	action Action
	run    string   // id of the run that it belongs to
	nodes  []string // what was changed
	began  time.Time
	err    error
	fact   func(*Run) // what is known now; nil after an error
}

func newLoop(c *Controller, number int) *loop {
	return &loop{
		Controller: c, number: number, nodes: map[string]*Node{}, seen: map[string]Seen{},
		run:  newRun("", time.Time{}),
		busy: map[string]bool{}, failed: map[string]time.Time{}, warned: map[string]time.Time{},
		done: make(chan outcome), probed: make(chan struct{}, 1),
	}
}

// keep runs until ctx ends: it starts what Next says, and hears how it ended.
func (l *loop) keep(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer l.closeNodes()
	defer work.Wait()
	defer stop()
	l.runCtx, l.endRun = context.WithCancel(ctx)
	defer func() { l.endRun() }()
	work.Go(func() { l.beat(ctx) })
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		changed := l.changes()
		if s, rev, ok := l.state(); ok && !s.Record.External {
			added, err := l.open(&s.Record)
			if err != nil {
				l.cfg.Log.ErrorContext(ctx, "the record names a node that cannot be used", "shard", l.number, "error", err)
				return
			}
			for _, name := range added {
				work.Go(func() { l.probe(ctx, name) })
			}
			for _, a := range Next(s) {
				l.start(&work, a, s, rev)
			}
		}
		select {
		case o := <-l.done:
			l.finish(ctx, o)
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
	l.run.forget(&r)
	l.mu.Lock()
	defer l.mu.Unlock()
	s = State{
		Record: r, Run: l.run.clone(), Seen: make(map[string]Seen, len(l.seen)), Dead: l.dead(l.number),
		Holding: l.holding(l.number, r.Epoch), Order: l.order(l.number), Hosts: l.hosts(&r),
		Suspected: l.suspected(l.number, r.Epoch), Now: l.cfg.Now(),
	}
	maps.Copy(s.Seen, l.seen)
	return s, rev, true
}

// start begins an action unless it is under way, has just failed, or would write the record beside another one.
func (l *loop) start(work *sync.WaitGroup, a Action, s State, rev int64) {
	if l.busy[a.key()] || s.Now.Sub(l.failed[a.key()]) < retryAfter {
		return
	}
	l.busy[a.key()] = true
	a.begun(&l.run)
	ctx := l.runCtx
	work.Go(func() {
		o := outcome{action: a, run: s.Run.ID, began: l.cfg.Now()}
		o.fact, o.err = l.do(ctx, a, s, rev)
		o.nodes = a.touches(&s.Record, o.err == nil)
		select {
		case l.done <- o:
		case <-ctx.Done(): // nobody waits for it any more
		}
	})
}

// finish takes what an action found into the run. What belongs to another run is of no use any more: that a node was fenced in an
// epoch that is over says nothing about this one.
func (l *loop) finish(ctx context.Context, o outcome) {
	now := l.cfg.Now()
	l.change(o.nodes, now, o.err == nil)
	if o.run != l.run.ID {
		return
	}
	delete(l.busy, o.action.key())
	l.run.Journal.add(o, now)
	if o.err != nil {
		l.failed[o.action.key()] = now
		if now.Sub(l.warned[o.action.key()]) >= warnEvery {
			l.warned[o.action.key()] = now
			l.cfg.Log.WarnContext(ctx, "a step of a failover failed; it is tried again", "shard", l.number, "step", o.action.Kind,
				"node", o.action.Node, "error", o.err)
		}
		return
	}
	if o.fact != nil {
		o.fact(&l.run)
	}
	if l.run.ID != o.run {
		l.endRun() // what the old run has under way would only stand in the way
		l.runCtx, l.endRun = context.WithCancel(ctx)
		clear(l.busy)
		clear(l.failed)
	}
	l.cfg.Log.InfoContext(ctx, "failover step", "shard", l.number, "step", o.action.Kind, "node", o.action.Node, "why", o.action.Why,
		"took_ms", float64(now.Sub(o.began).Microseconds())/1000)
}

// change forgets what was seen of nodes before an action on them ended. It may have failed half-way.
func (l *loop) change(nodes []string, now time.Time, succeeded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range nodes {
		l.seen[name] = l.seen[name].changed(now, succeeded)
	}
}

// probe asks a node again and again until ctx ends.
func (l *loop) probe(ctx context.Context, name string) {
	node := l.node(name)
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
		pause := l.probeEvery() - l.cfg.Now().Sub(began)
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

// probeEvery is how often nodes are asked: seldom while all is well, for each answer costs the node something.
func (l *loop) probeEvery() time.Duration {
	r, _, err := l.record(l.number)
	if err != nil || r.Phase != shard.PhaseServing {
		return probeEvery
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if seen := l.seen[r.Primary]; seen.Misses > 0 || l.suspected(l.number, r.Epoch) {
		return probeEvery
	}
	return calmEvery
}

// note takes an answer, or its absence, into what is seen.
func (l *loop) note(name string, began time.Time, status Status, err error, refused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[name] = l.seen[name].noted(probed{began: began, now: l.cfg.Now(), status: status, err: err, refused: refused})
	select {
	case l.probed <- struct{}{}:
	default:
	}
}

// beat commits a row on the primary again and again while it serves, so that the replicas always have something to receive,
// and so that the time of the shard is known when the primary is gone.
func (l *loop) beat(ctx context.Context) {
	for {
		if r, _, err := l.record(l.number); err == nil && r.Phase == shard.PhaseServing && !r.External {
			beating, cancel := context.WithTimeout(ctx, time.Second)
			if node := l.node(r.Primary); node != nil {
				_ = node.Beat(beating, "controller") // its absence is what matters
			}
			cancel()
		}
		select {
		case <-time.After(beatEvery):
		case <-ctx.Done():
			return
		}
	}
}

// node is a database of the shard; open has seen to it that it is there.
func (l *loop) node(name string) *Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes[name]
}

// open makes the nodes of a record known, and returns the new ones.
func (l *loop) open(r *Record) (added []string, err error) {
	for _, name := range r.names() {
		if l.node(name) != nil {
			continue
		}
		node, err := l.cfg.Open(l.number, name, r.Nodes[name].Address)
		if err != nil {
			return added, fmt.Errorf("node %s: %w", name, err)
		}
		l.mu.Lock()
		l.nodes[name] = node
		l.mu.Unlock()
		added = append(added, name)
	}
	return added, nil
}

func (l *loop) closeNodes() {
	for _, node := range l.nodes {
		node.Close()
	}
}
