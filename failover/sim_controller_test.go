package failover

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// simController does what loop does, on the virtual clock: the same Next, changes of the record, facts and keys.
type simController struct {
	*sim
	term   uint64
	awake  time.Time // asleep until then; what it had begun goes on when it wakes up
	gone   bool
	rec    Record // as its mirror has it
	rev    int
	seen   map[string]Seen
	run    Run
	busy   map[string]bool
	failed map[string]time.Time
	stale  int // outcomes that arrive with an older number are of actions that were cancelled
}

var errTimeout = errors.New("no answer")

// lead makes a controller that has just won the election.
func (s *sim) lead() {
	s.term++
	c := &simController{
		sim: s, term: s.term, rec: s.record.Clone(), rev: s.rev, seen: map[string]Seen{}, run: newRun("", time.Time{}),
		busy: map[string]bool{}, failed: map[string]time.Time{},
	}
	s.leader = c
	s.trace("controller %d leads", c.term)
	for _, n := range s.nodes {
		c.later(s.between(0, 50), func() { c.probe(n) })
	}
	c.tick()
}

// later is after, for what the controller itself does: not while it sleeps, and never again after its death.
func (c *simController) later(d time.Duration, f func()) {
	c.after(d, func() {
		switch {
		case c.gone:
		case c.now.Before(c.awake):
			c.later(c.awake.Sub(c.now), f)
		default:
			f()
		}
	})
}

func (c *simController) tick() {
	c.step()
	c.later(20*time.Millisecond, c.tick)
}

func (c *simController) state() State {
	c.run.forget(&c.rec)
	s := State{
		Record: c.rec.Clone(), Run: c.run.clone(), Seen: map[string]Seen{}, Dead: map[string]bool{}, Holding: c.holding(c.rec.Epoch), Now: c.now,
		Hosts: maps.Clone(c.hosts()),
	}
	maps.Copy(s.Seen, c.seen)
	for id := range c.dead {
		s.Dead[id] = true
	}
	return s
}

func (c *simController) step() {
	s := c.state()
	for _, a := range Next(s) {
		if !c.busy[a.key()] && c.now.Sub(c.failed[a.key()]) >= retryAfter {
			c.begin(a, s, c.rev)
		}
	}
}

// begin runs an action and hears how it ended, unless its run has ended before.
func (c *simController) begin(a Action, s State, rev int) {
	c.busy[a.key()] = true
	a.begun(&c.run)
	number, run := c.stale, s.Run.ID
	c.trace("controller %d epoch %d: %s %s %s %s", c.term, s.Record.Epoch, a.Kind, a.Node, a.GTID, a.Why)
	ended := func(fact func(*Run), err error) {
		for _, name := range a.touches(&s.Record, err == nil) {
			c.seen[name] = c.seen[name].changed(c.now, err == nil)
		}
		if run != c.run.ID || number != c.stale {
			return
		}
		delete(c.busy, a.key())
		if err != nil {
			c.trace("controller %d: %s %s failed: %v", c.term, a.Kind, a.Node, err)
			c.failed[a.key()] = c.now
			return
		}
		if fact != nil {
			fact(&c.run)
		}
		if c.run.ID != run {
			c.stale++
			clear(c.busy)
			clear(c.failed)
		}
		c.step()
	}
	if c.chance(c.deadly) {
		c.trace("controller %d dies at %s", c.term, a.Kind)
		c.gone = true
		return
	}
	if a.writesRecord() {
		c.writeRecord(a, s, rev, ended)
		return
	}
	var found result
	found.link = s.Record.link(a.Node)
	c.script(c.patience(a), c.steps(a, &s, &found), func(err error) {
		if err == nil || a.Kind != Drain && a.Kind != Promote && a.Kind != Establish && a.Kind != Open {
			ended(a.fact(found), err)
			return
		}
		again := c.speak(c.node(a.Node), &s.Record, s.startOf(a.Node), nil)
		c.script(fencePatience, []simStep{again}, func(error) { ended(nil, err) })
	})
}

func (c *simController) patience(a Action) time.Duration {
	switch a.Kind {
	case Drain:
		return drainPatience
	case Refuse:
		return refusePatience
	case Fence:
		return fencePatience
	case Establish:
		return ackPatience
	default:
		return promotePatience
	}
}

// writeRecord is a compare-and-set with the guard of the leader. Its outcome may stay unknown.
func (c *simController) writeRecord(a Action, s State, rev int, ended func(func(*Run), error)) {
	c.runs++
	r, err := s.change(a, fmt.Sprint("run", c.runs))
	if err != nil {
		c.fail("%v", err)
	}
	if c.cut["controller register"] {
		c.later(300*time.Millisecond, func() { ended(nil, errTimeout) })
		return
	}
	unknown := c.faulty() && c.chance(30)
	c.after(c.latency(), func() { // the request is under way, whatever becomes of who sent it
		err := c.cas(c, rev, s.Record, r)
		now := c.now
		c.later(c.between(0, 3), func() {
			c.rec, c.rev = c.record.Clone(), c.sim.rev
			switch {
			case c.leader != c:
				c.trace("controller %d is deposed", c.term)
				c.gone = true
			case err != nil || unknown:
				ended(nil, errors.Join(err, errTimeout))
			case a.Kind == Decide:
				ended(func(run *Run) { *run = newRun(r.Run, now) }, nil)
			default:
				ended(nil, nil)
			}
		})
	})
}

// cas is what the register does.
func (s *sim) cas(c *simController, rev int, before, r Record) error {
	if s.leader != c || s.rev != rev {
		return errors.New("conflict")
	}
	if r.Epoch < s.record.Epoch {
		s.fail("the epoch goes back to %d", r.Epoch)
	}
	if before.Phase == shard.PhaseFencing && r.Phase == shard.PhasePromoting {
		s.checkChosen(&before, &r)
	}
	s.checkRebuilds(&r)
	s.rev++
	s.record, s.heard, s.dirty = r.Clone(), r.heard(), true
	s.trace("record %d: epoch %d %s primary %s (%s) in sync %v joining %v floor %s boot %v", s.rev, r.Epoch, r.Phase, r.Primary,
		r.PrimaryStart, r.InSync, r.Joining, r.Floor, r.Boot)
	s.pushed()
	return nil
}

// simStep is a statement on a node. It says whether it has to be tried again.
type simStep struct {
	node *simNode
	do   func() (again bool, err error)
}

// script runs statements one after the other. One that was sent happens even if nobody waits for it any more: late, if the
// node is paused, and not, if the connection is lost.
func (c *simController) script(patience time.Duration, steps []simStep, done func(error)) {
	limit, over := c.now.Add(patience), false
	end := func(err error) {
		if !over {
			over = true
			done(err)
		}
	}
	c.later(patience, func() { end(errTimeout) })
	var next func(i int)
	next = func(i int) {
		if over || i == len(steps) {
			end(nil)
			return
		}
		c.send(steps[i], limit, func(err error) {
			if err != nil {
				end(err)
				return
			}
			next(i + 1)
		})
	}
	next(0)
}

func (c *simController) send(st simStep, limit time.Time, done func(error)) {
	n, life := st.node, st.node.lives
	lost := c.faulty() && c.chance(30)
	answered := func(err error) { c.later(c.between(0, 4), func() { done(err) }) }
	var arrive func()
	arrive = func() {
		switch {
		case c.cut["controller "+n.name]:
			c.later(c.between(50, 400), func() { done(errTimeout) })
		case !n.up || n.lives != life:
			answered(errSession)
		case n.paused:
			c.after(20*time.Millisecond, arrive)
		default:
			again, err := st.do()
			switch {
			case again && c.now.Before(limit):
				c.after(5*time.Millisecond, arrive)
			case again:
				answered(errTimeout)
			case lost:
				answered(errTimeout)
			default:
				answered(err)
			}
		}
	}
	c.after(c.latency(), arrive)
}

// on is a statement that needs the session.
func (c *simController) on(n *simNode, r *Record, do func() (bool, error)) simStep {
	mine := promise{r.Epoch, c.term, c}
	return simStep{n, func() (bool, error) {
		if n.session != mine {
			return false, errSession
		}
		if n.promise != mine {
			c.fail("H8: %s obeys %v after it has promised %v", n.startID(), mine.epoch, n.promise.epoch)
		}
		return do()
	}}
}

func (c *simController) speak(n *simNode, r *Record, startID string, found *Fenced) simStep {
	return simStep{n, func() (bool, error) {
		if err := c.fence(n, promise{r.Epoch, c.term, c}); err != nil {
			return false, err
		}
		if found != nil {
			*found = n.fenced()
		} else if n.startID() != startID {
			return false, errors.New("another process")
		}
		return false, nil
	}}
}

// steps are those of act.go.
func (c *simController) steps(a Action, s *State, found *result) []simStep {
	r, n := &s.Record, c.node(a.Node)
	if a.Kind == Promote || a.Kind == Point {
		ahead := s.ahead()
		r, found.link = &ahead, ahead.link(a.Node)
	}
	primary := c.node(r.Primary)
	allow := c.on(primary, r, func() (bool, error) { primary.allowed[a.Node] = true; return false, nil })
	switch a.Kind {
	case Fence:
		return []simStep{c.speak(n, r, "", &found.fenced)}
	case Drain:
		return []simStep{c.on(n, r, func() (bool, error) { return uint64(len(n.log)) < a.GTID.Seq, nil })}
	case Promote:
		return []simStep{c.on(n, r, func() (bool, error) { return false, c.promote(n, a.GTID, r) })}
	case Establish:
		return []simStep{c.establish(n, r)}
	case Open:
		return []simStep{c.on(n, r, func() (bool, error) { n.readOnly, c.dirty = false, true; return false, nil })}
	case Point:
		var fenced Fenced
		return []simStep{
			c.speak(n, r, r.heard()[a.Node], nil),
			c.on(n, r, func() (bool, error) { fenced = n.fenced(); return false, nil }),
			c.on(n, r, func() (bool, error) { return uint64(len(n.log)) < fenced.Received.Seq, nil }),
			c.on(n, r, func() (bool, error) { c.sim.point(n, primary); return false, nil }),
		}
	case Follow:
		_, joining := r.Joining[a.Node]
		if !joining && s.Run.Pointed[a.Node] == r.link(a.Node) && n.session == (promise{r.Epoch, c.term, c}) {
			return []simStep{c.on(n, r, func() (bool, error) {
				if n.startID() != r.heard()[a.Node] {
					return false, errSession
				}
				c.sim.begin(n)
				return false, nil
			})}
		}
		if !joining {
			return c.point(a.Node, r)
		}
		mine, speak := promise{r.Epoch, c.term, c}, c.speak(primary, r, r.PrimaryStart, nil)
		again := simStep{primary, func() (bool, error) {
			if primary.session == mine {
				return false, nil
			}
			return speak.do()
		}}
		return append([]simStep{again, allow}, c.point(a.Node, r)...)
	case Attach:
		return append([]simStep{c.speak(primary, r, r.PrimaryStart, nil), allow}, c.point(a.Node, r)...)
	case Renew:
		return []simStep{c.speak(n, r, s.Seen[a.Node].StartID, nil), c.on(n, r, func() (bool, error) { c.applyAgain(n); return false, nil })}
	case Refuse:
		return []simStep{c.speak(primary, r, r.PrimaryStart, nil), c.on(primary, r, func() (bool, error) {
			primary.allowed[a.Node] = false
			c.kick(primary, a.Node)
			found.position = place(primary.log)
			return false, nil
		})}
	default:
		c.fail("no such action: %s", a.Kind)
	}
	return nil
}

func (c *simController) point(name string, r *Record) []simStep {
	n, src := c.node(name), c.node(r.Primary)
	var fenced Fenced
	return []simStep{
		c.speak(n, r, r.heard()[name], nil),
		c.on(n, r, func() (bool, error) { fenced = n.fenced(); return false, nil }),
		c.on(n, r, func() (bool, error) {
			return r.Phase == shard.PhaseServing && uint64(len(n.log)) < fenced.Received.Seq, nil
		}),
		c.on(n, r, func() (bool, error) { c.follow(n, src); return false, nil }),
	}
}

// establish commits the fence row once and waits until it is visible, that is acknowledged. A row that a killed session has left
// visible proves nothing, so another is written then, as the real one does with its count of acknowledgements.
func (c *simController) establish(n *simNode, r *Record) simStep {
	began, proved := false, false
	return c.on(n, r, func() (bool, error) {
		if !began {
			began = true
			c.checkPromoted(n)
			t := tx{server: n.id, epoch: r.Epoch, fence: true}
			c.ids++
			t.id = c.ids
			c.commit(n, t, func() { proved = true })
		}
		return !proved, nil
	})
}

// probe asks a node every 50 ms; refused connections are repeated sooner.
func (c *simController) probe(n *simNode) {
	began := c.now
	again := func(d time.Duration, p probed) {
		c.later(d, func() {
			p.began, p.now = began, c.now
			c.seen[n.name] = c.seen[n.name].noted(p)
			c.step()
			pause := probeEvery - c.now.Sub(began)
			if p.refused {
				pause = refusedGap
			}
			c.later(max(pause, time.Millisecond), func() { c.probe(n) })
		})
	}
	c.later(c.between(0, 3), func() {
		switch {
		case c.cut["controller "+n.name] || n.paused:
			again(probeTimeout, probed{err: errTimeout})
		case !n.up:
			again(c.between(0, 3), probed{err: errTimeout, refused: true})
		default:
			again(c.between(0, 3), probed{status: n.status()})
		}
	})
}
