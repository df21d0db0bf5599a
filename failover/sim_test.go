package failover

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
)

var (
	simSeed   = flag.Uint64("sim.seed", 0, "replay this seed of the simulator, with its trace")
	simRounds = flag.Uint64("sim.rounds", 500, "seeds of the simulator")
	simFirst  = flag.Uint64("sim.first", 1, "the first seed")
)

// sim is one shard in a world of its own: three nodes with agents, a register, controllers of which one leads, and instances. Everything
// happens at a virtual time and in an order that the seed alone decides. After every event the invariants hold, and when the faults
// have ended the shard is whole again within healWithin.
type sim struct {
	rng    *rand.Rand
	disks  *rand.Rand // of its own, so that a seed without a lost disk plays as it always did
	now    time.Time
	events events
	order  int

	nodes     []*simNode
	cut       map[string]bool   // pairs that do not hear each other
	record    Record            // in the register
	heard     map[string]string // of the record
	dirty     bool              // something has changed that the invariants speak of
	rev       int
	dead      map[string]bool
	closed    map[string]uint64 // by instance: it has let go of the epochs before
	leader    *simController
	term      uint64
	instances []*simInstance

	calm     bool // no faults any more
	deadly   int  // percent of actions at which a controller dies
	faults   int  // percent of messages that go wrong, at most
	lag      int  // milliseconds that a replica takes at most for what it receives and applies at a time
	stopped  bool // no writes any more
	ids      int
	runs     int
	writes   []tx            // acknowledged
	admitted uint64          // the newest epoch in which a write was acknowledged
	kept     bool            // the trace is kept
	said     map[string]Host // by agents
	lines    []string
}

const (
	faultsFor  = 3 * time.Second
	healWithin = 90 * time.Second // virtual: a rebuild that has failed in the faults waits before it is tried again
)

type event struct {
	at    time.Time
	order int
	do    func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (s *sim) after(d time.Duration, f func()) {
	s.order++
	heap.Push(&s.events, event{s.now.Add(d), s.order, f})
}

func (s *sim) chance(percent int) bool { return s.rng.IntN(100) < percent }

// faulty is a chance that ends with the faults.
func (s *sim) faulty() bool { return !s.calm && s.chance(s.faults) }

func (s *sim) between(low, high int) time.Duration {
	return time.Duration(low)*time.Millisecond + time.Duration(s.rng.IntN(1000*(high-low)+1))*time.Microsecond
}

// latency of a message: short, or seldom very long.
func (s *sim) latency() time.Duration {
	if s.faulty() {
		return s.between(20, 1200)
	}
	return s.between(0, 5)
}

func (s *sim) trace(format string, args ...any) {
	if s.kept {
		s.lines = append(s.lines, fmt.Sprintf("%8.3fs  ", s.now.Sub(simStart).Seconds())+fmt.Sprintf(format, args...))
	}
}

// simBroken is an invariant that does not hold.
type simBroken string

func (s *sim) fail(format string, args ...any) {
	s.trace(format, args...)
	panic(simBroken(fmt.Sprintf(format, args...)))
}

var simStart = time.Unix(1_000_000, 0)

func newSim(seed uint64, kept bool) *sim {
	s := &sim{
		rng: rand.New(rand.NewPCG(seed, 1)), disks: rand.New(rand.NewPCG(seed, 2)), now: simStart, kept: kept,
		cut: map[string]bool{}, dead: map[string]bool{}, closed: map[string]uint64{}, said: map[string]Host{},
	}
	s.faults, s.deadly = []int{0, 2, 5, 20}[s.rng.IntN(4)], s.rng.IntN(4)
	s.lag = []int{3, 10, 60, 200}[s.rng.IntN(4)]
	r := Record{InSync: map[string]string{}}
	r.Record = shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "a", Nodes: map[string]shard.Node{}}
	for i, name := range []string{"a", "b", "c"} {
		n := &simNode{name: name, id: uint32(i + 1), up: true, readOnly: i > 0, allowed: map[string]bool{"a": true, "b": true, "c": true}}
		n.begin()
		s.ids++
		n.log, n.engine = []tx{{id: 1, server: 1, epoch: 1, fence: true}}, 1
		s.nodes = append(s.nodes, n)
		r.Nodes[name] = shard.Node{Address: name}
		if i > 0 {
			r.InSync[name] = n.startID()
			s.follow(n, s.nodes[0])
		}
	}
	s.nodes[0].awaits = true
	r.PrimaryStart = s.nodes[0].startID()
	s.record, s.heard, s.rev = r, r.heard(), 1
	for i := range 2 {
		in := &simInstance{sim: s, name: fmt.Sprint("i", i), view: r.Record}
		s.instances = append(s.instances, in)
		in.renew()
		in.work()
	}
	s.lead()
	s.beat()
	return s
}

// beat is the leader's row on the primary, and what replicas hear besides; and it watches over controllers, as the register does.
func (s *sim) beat() {
	if s.leader.gone || s.now.Before(s.leader.awake.Add(-200*time.Millisecond)) {
		s.after(s.between(50, 1000), func() { s.lead() })
		s.after(1100*time.Millisecond, s.beat)
		return
	}
	if s.record.Phase == shard.PhaseServing && !s.cut["controller "+s.record.Primary] {
		s.write(s.node(s.record.Primary), s.record.Epoch)
	}
	s.after(beatEvery, s.beat)
}

// pushed tells agents, the leader and the instances that the record has changed.
func (s *sim) pushed() {
	r, rev, c := s.record.Clone(), s.rev, s.leader
	for _, n := range s.nodes {
		if r.BootOf(n.name) == BootRebuild {
			s.fromAgent(n, func() {
				if s.record.BootOf(n.name) == BootRebuild {
					s.crash(n)
				}
			})
		}
		if r.Phase == shard.PhaseFencing && r.Primary == n.name {
			id := r.PrimaryStart
			s.fromAgent(n, func() {
				if n.startID() == id && n.up {
					s.crash(n)
				}
			})
		}
	}
	c.later(s.latency(), func() {
		if c.rev < rev && !s.cut["controller register"] {
			c.rec, c.rev = r, rev
		}
	})
	for _, in := range s.instances {
		if !s.cut[in.name+" register"] {
			s.after(s.latency(), func() { in.hear(r.Record) })
		}
	}
}

// fromAgent happens soon, or when the agent and the register hear each other again.
func (s *sim) fromAgent(n *simNode, f func()) {
	s.after(s.latency(), func() {
		if s.cut[n.name+" register"] {
			s.after(50*time.Millisecond, func() { s.fromAgent(n, f) })
			return
		}
		f()
	})
}

// holding are the instances that have not let go.
func (s *sim) holding(epoch uint64) []string {
	var names []string
	for _, in := range s.instances {
		if s.closed[in.name] < epoch {
			names = append(names, in.name)
		}
	}
	return names
}

// simInstance writes and reads at the primary that it knows of.
type simInstance struct {
	*sim
	name  string
	view  shard.Record
	lease time.Time // strong reads of view.Epoch may be released before
	awake time.Time
}

// hear takes a newer record, and lets go of the older epoch.
func (in *simInstance) hear(r shard.Record) {
	if in.now.Before(in.awake) {
		in.after(in.awake.Sub(in.now), func() { in.hear(r) })
		return
	}
	if r.Epoch < in.view.Epoch || r.Epoch == in.view.Epoch && in.view.Phase == shard.PhaseServing {
		return
	}
	if r.Epoch > in.view.Epoch {
		in.lease = time.Time{}
		in.closed[in.name] = max(in.closed[in.name], r.Epoch)
	}
	in.view = r
}

// renew reads the register; the lease begins when the question was sent.
func (in *simInstance) renew() {
	sent := in.now
	if in.now.After(in.awake) && !in.cut[in.name+" register"] {
		in.after(in.between(0, 10), func() {
			r := in.record.Clone()
			in.after(in.between(0, 10), func() {
				if in.now.Before(in.awake) {
					return
				}
				in.hear(r.Record)
				if in.view.Epoch == r.Epoch && r.Phase == shard.PhaseServing {
					in.lease = sent.Add(readLease)
				}
			})
		})
	}
	in.after(60*time.Millisecond, in.renew)
}

// work sends a write, which may arrive late, and releases a read.
func (in *simInstance) work() {
	if in.view.Phase == shard.PhaseServing && in.now.After(in.awake) {
		epoch, n := in.view.Epoch, in.node(in.view.Primary)
		in.after(in.latency(), func() { in.write(n, epoch) })
		if in.now.Before(in.lease) && in.admitted > epoch {
			in.fail("H6: %s releases a read of epoch %d, %d has admitted a write", in.name, epoch, in.admitted)
		}
	}
	in.after(in.between(10, 40), in.work)
}

// fault does one bad thing and plans the next.
func (s *sim) fault() {
	if s.calm {
		return
	}
	n, m := s.nodes[s.rng.IntN(3)], s.nodes[s.rng.IntN(3)]
	if s.chance(50) {
		n = s.node(s.record.Primary)
	}
	switch s.rng.IntN(18) {
	case 0, 1, 2:
		s.crash(n)
	case 3:
		if s.chance(30) {
			for _, n := range s.nodes {
				s.crash(n)
			}
		}
	case 4, 5:
		if n.up {
			s.trace("%s is paused", n.startID())
			n.paused = true
			s.after(s.between(50, 2500), func() { n.paused = false })
		}
	case 6:
		s.separate("controller " + n.name)
	case 7:
		s.separate(n.name + " register")
	case 8, 9:
		if n != m {
			s.separate(pair(n.name, m.name))
		}
	case 10:
		s.separate("controller register")
	case 11:
		s.trace("controller %d dies", s.leader.term)
		s.leader.gone = true
	case 12:
		s.leader.awake = s.now.Add(s.between(100, 3000))
		s.trace("controller %d sleeps", s.leader.term)
	case 13:
		s.instances[0].awake = s.now.Add(s.between(50, 1500))
	case 16, 17:
		s.stall(n)
		s.stall(m)
	case 14, 15: // an instance hears nothing of the failover that begins, and trusts its lease
		s.separate("i1 register")
		s.crash(s.node(s.record.Primary))
	}
	s.after(s.between(0, 1200), s.fault)
}

func (s *sim) separate(pair string) {
	s.trace("cut: %s", pair)
	s.cut[pair] = true
	for _, n := range s.nodes {
		if pair == "controller "+n.name && s.chance(50) {
			n.session = promise{}
		}
	}
	s.after(s.between(20, 2500), func() { delete(s.cut, pair) })
}

// heal ends all faults.
func (s *sim) heal() {
	s.trace("the faults have ended")
	s.calm, s.deadly, s.lag = true, 0, 5
	clear(s.cut)
	for _, n := range s.nodes {
		n.paused = false
	}
}

// whole says what is missing.
func (s *sim) whole() string {
	r := &s.record
	p := s.node(r.Primary)
	switch {
	case r.Phase != shard.PhaseServing:
		return fmt.Sprintf("the shard does not serve: epoch %d %s %s", r.Epoch, r.Phase, r.Stuck)
	case r.Suspended != "":
		return "suspended: " + r.Suspended
	case !p.up || p.readOnly || p.startID() != r.PrimaryStart:
		return "the primary is not open"
	case len(r.InSync) != 2 || len(r.Joining) != 0:
		return fmt.Sprintf("in sync: %v, joining: %v", r.InSync, r.Joining)
	case len(s.writes) == 0 || s.writes[len(s.writes)-1].epoch != r.Epoch:
		return "nothing was written in the epoch"
	}
	for name, id := range r.InSync {
		if n := s.node(name); n.startID() != id || n.source != p || n.dump == 0 || !n.acks {
			return name + " does not follow"
		}
	}
	return ""
}

// equal says which logs differ when nothing is written any more.
func (s *sim) equal() string {
	p := s.node(s.record.Primary)
	for _, n := range s.nodes {
		if !slices.Equal(n.log, p.log) || len(n.log) != n.engine {
			return fmt.Sprintf("%s has %s (%d), the primary has %s", n.name, place(n.log), n.engine, place(p.log))
		}
	}
	return ""
}

func (s *sim) until(end time.Time, done func() bool) bool {
	for len(s.events) > 0 && s.events[0].at.Before(end) {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
		if s.dirty {
			s.dirty = false
			s.checkOpen()
			s.checkHeld()
		}
		if done() {
			return true
		}
	}
	s.now = end
	return done()
}

// play is one seed from beginning to end. It returns what is wrong.
func (s *sim) play() (wrong string) {
	defer func() {
		if r := recover(); r != nil {
			b, ok := r.(simBroken)
			if !ok {
				panic(r)
			}
			wrong = string(b)
		}
	}()
	never := func() bool { return false }
	s.after(s.between(50, 400), s.fault)
	s.mayWipe()
	s.until(s.now.Add(faultsFor), never)
	s.heal()
	if !s.until(s.now.Add(healWithin), func() bool { return s.whole() == "" }) {
		return "not whole after the faults have ended: " + s.whole()
	}
	s.stopped = true
	if !s.until(s.now.Add(healWithin), func() bool { return s.equal() == "" }) { // a controller may have to come first
		return s.equal()
	}
	s.checkPromoted(s.node(s.record.Primary))
	return ""
}

// TestSimulator plays many seeds. A failure prints the line that replays it.
func TestSimulator(t *testing.T) {
	if *simSeed != 0 {
		s := newSim(*simSeed, true)
		wrong := s.play()
		t.Log("\n" + strings.Join(s.lines, "\n"))
		if wrong != "" {
			t.Fatal(wrong)
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // many small worlds that end soon
	last := *simFirst + *simRounds
	var players sync.WaitGroup
	var played atomic.Uint64
	for first := range uint64(2) {
		players.Go(func() {
			for seed := *simFirst + first; !t.Failed(); seed += 2 {
				if seed >= last {
					return
				}
				played.Add(1)
				playOne(t, seed)
			}
		})
	}
	players.Wait()
	t.Logf("%d seeds", played.Load())
}

func playOne(t *testing.T, seed uint64) {
	wrong := newSim(seed, false).play()
	if wrong == "" {
		return
	}
	s := newSim(seed, true)
	s.play()
	t.Errorf("%s\nreplay: go test ./failover -run TestSimulator -sim.seed=%d -v\n%s", wrong, seed,
		strings.Join(s.lines[max(0, len(s.lines)-60):], "\n"))
}
