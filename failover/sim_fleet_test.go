package failover

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// tx is a transaction of the simulated shard. Its place in a log is its sequence number.
type tx struct {
	id     int // unique
	server uint32
	epoch  uint64 // in which it was made; of a fence row the one that it establishes
	fence  bool
}

// simNode is a database with semi-synchronous replication as MariaDB has it (AFTER_SYNC): what is in the log is not visible and not
// acknowledged before it is in the engine.
type simNode struct {
	name  string
	id    uint32
	lives int
	start string // its start id

	// On disk.
	log     []tx // the binary log
	engine  int  // how many of them are committed
	unfit   bool // its data are gone
	rebuilt HostRebuild
	promise promise
	allowed map[string]bool // replicas whose accounts are not locked

	// In memory.
	up, paused       bool
	readOnly, awaits bool
	session          promise // who may act
	waiting          []simWait
	source           *simNode // whom it follows
	io, sql, acks    bool
	dump             int // counts connections to the source; 0: there is none
	dumps            int
	relay            []tx // received and not applied
	stalled          bool // the appliers have stopped for a lock
	diverged         bool // the source has refused it: 1236
	marks            int  // counts what was received, heartbeats too
	shipping         bool
}

type promise struct {
	epoch, term uint64
	by          *simController
}

func (p promise) less(q promise) bool {
	return p.epoch < q.epoch || p.epoch == q.epoch && p.term < q.term
}

// simWait is a commit that waits for its acknowledgement.
type simWait struct {
	place int // in the log, from 1
	done  func()
	fence bool
}

func (n *simNode) startID() string { return n.start }

func (n *simNode) begin() { n.lives, n.start = n.lives+1, fmt.Sprintf("%s#%d", n.name, n.lives+1) }

func (n *simNode) has() []tx {
	if len(n.relay) == 0 {
		return n.log
	}
	return append(slices.Clip(n.log), n.relay...)
}

// lasts is the end of what it has.
func (n *simNode) lasts() GTID {
	if len(n.relay) > 0 {
		return GTID{1, n.relay[len(n.relay)-1].server, uint64(len(n.log) + len(n.relay))}
	}
	return place(n.log)
}

// epoch is what its fence row says: every transaction is made in the epoch of the row before it.
func (n *simNode) epoch() uint64 {
	if n.engine == 0 {
		return 0
	}
	return n.log[n.engine-1].epoch
}

func place(log []tx) GTID {
	if len(log) == 0 {
		return GTID{}
	}
	return GTID{1, log[len(log)-1].server, uint64(len(log))}
}

// prefix looks at the end alone: a transaction is made once, so two logs that have it at the same place have the same before it.
func prefix(a, b []tx) bool { return len(a) == 0 || len(a) <= len(b) && a[len(a)-1] == b[len(a)-1] }

func (n *simNode) status() Status {
	st := Status{
		StartID: n.startID(), ServerID: n.id, ReadOnly: n.readOnly, Executed: place(n.log), Applied: place(n.log), IORunning: "No",
		SQLRunning: n.sql, ReceivedMark: strconv.Itoa(n.marks),
		SemiSync: SemiSync{
			PrimaryEnabled: n.awaits, PrimaryOn: n.awaits, ReplicaOn: n.acks, TimeoutMS: waitTimeoutMinMS, WaitPoint: waitPoint,
		},
	}
	if n.source != nil {
		st.SourceAddr = n.source.name
		st.Received = n.lasts()
	}
	if n.stalled {
		st.SQLErrno = passing[0]
	}
	switch {
	case n.diverged:
		st.IOErrno, st.IOError = errDiverged, "diverged"
	case n.io && n.dump != 0:
		st.IORunning = ioRunning
	case n.io:
		st.IORunning = "Connecting"
	}
	return st
}

func (n *simNode) fenced() Fenced {
	st := n.status()
	return Fenced{
		StartID: st.StartID, ServerID: n.id, Received: st.Received, Applied: st.Applied, Executed: st.Executed, IOStopped: !n.io,
		SQLRunning: n.sql, IOErrno: st.IOErrno, SQLErrno: st.SQLErrno, ReadOnly: n.readOnly,
	}
}

// stopIO closes the connection: what is on its way is lost.
func (n *simNode) stopIO() { n.io, n.dump = false, 0 }

// crash is kill -9.
func (s *sim) crash(n *simNode) {
	if !n.up {
		return
	}
	s.trace("%s is killed", n.startID())
	s.dirty = true
	n.up, n.paused, n.waiting, n.session = false, false, nil, promise{}
	n.stopIO()
	for _, f := range s.nodes {
		if f.source == n {
			f.dump = 0
		}
	}
	id := n.startID()
	if s.chance(85) || s.oneLost() { // else the host has gone with its agent, and nobody says so
		s.fromAgent(n, func() { s.dead[id] = true })
	}
	s.after(s.between(20, 150), func() { s.reboot(n) })
}

// reboot starts a node when the register allows it. It is asked, not remembered; what it said may be old when the process runs.
func (s *sim) reboot(n *simNode) {
	if n.up {
		return
	}
	if s.cut[n.name+" register"] {
		s.after(50*time.Millisecond, func() { s.reboot(n) })
		return
	}
	role := s.record.BootOf(n.name)
	switch {
	case role == BootRebuild:
		s.copyData(n)
		return
	case role == BootNone || n.unfit:
		s.after(50*time.Millisecond, func() { s.reboot(n) })
		return
	}
	s.after(s.between(20, 300), func() { s.boot(n, role) })
}

// boot recovers a database. A replica truncates what the engine has not committed; a primary commits it. What was received and
// not applied is lost with the first START SLAVE, and Gtid_IO_Pos at once.
func (s *sim) boot(n *simNode, role Boot) {
	if n.up {
		return
	}
	n.begin()
	s.dirty = true
	n.up, n.readOnly, n.awaits, n.acks, n.sql, n.diverged, n.stalled = true, true, false, false, false, false, false
	n.relay, n.source = nil, nil
	if role == BootPrimary {
		n.engine = len(n.log)
	} else {
		n.log = n.log[:n.engine]
	}
	s.trace("%s starts as %s at %s", n.startID(), role, place(n.log))
}

// pull moves one transaction from a source to a replica, and one from the relay log into the engine. It keeps itself going.
func (s *sim) pull(f *simNode) {
	if f.shipping {
		return
	}
	f.shipping = true
	s.after(s.between(1, s.lag), func() {
		f.shipping = false
		if !f.up || !f.sql && !f.io {
			return
		}
		if !f.paused {
			s.connect(f)
			s.ship(f)
			s.applyOne(f)
		}
		s.pull(f)
	})
}

func (s *sim) reachable(f, src *simNode) bool {
	return src.up && !src.paused && f.up && !f.paused && !s.cut[pair(f.name, src.name)]
}

// connect is what an IO thread does when it has lost its source.
func (s *sim) connect(f *simNode) {
	src := f.source
	if f.dump != 0 && !s.reachable(f, src) && (!src.up || s.chance(5)) {
		f.dump = 0
	}
	if !f.io || f.dump != 0 || !s.reachable(f, src) || !src.allowed[f.name] || !s.chance(50) {
		return
	}
	if !prefix(f.has(), src.log) {
		s.trace("%s has diverged from %s", f.startID(), src.startID())
		f.io, f.diverged = false, true
		return
	}
	f.dumps++
	f.dump = f.dumps
}

// ship brings what follows; the acknowledgement is of the receipt. It may arrive long after the receiver was fenced.
func (s *sim) ship(f *simNode) {
	src := f.source
	if !f.io || f.dump == 0 || !s.reachable(f, src) {
		return
	}
	f.marks++
	for range 3 {
		next := len(f.log) + len(f.relay)
		if next >= len(src.log) {
			break
		}
		f.relay = append(f.relay, src.log[next])
	}
	if f.acks {
		s.checkAcker(f, src)
		got, life := len(f.log)+len(f.relay), src.lives
		s.after(s.between(0, 3), func() { s.ack(src, life, got, f.name) })
	}
}

func (s *sim) ack(src *simNode, life, got int, from string) {
	switch {
	case !src.up || src.lives != life || !src.awaits || s.cut[pair(from, src.name)]:
	case src.paused:
		s.after(20*time.Millisecond, func() { s.ack(src, life, got, from) })
	default:
		s.release(src, got)
	}
}

// release commits in the engine what was acknowledged, and then answers.
func (s *sim) release(n *simNode, got int) {
	waiting := n.waiting
	n.waiting = nil
	for _, w := range waiting {
		if w.place > got {
			n.waiting = append(n.waiting, w)
			continue
		}
		n.engine, s.dirty = max(n.engine, w.place), true
		w.done()
	}
}

func (s *sim) applyOne(f *simNode) {
	for f.sql && len(f.relay) > 0 && s.chance(60) {
		f.log = append(f.log, f.relay[0])
		f.relay = f.relay[1:]
		f.engine = len(f.log)
	}
}

// commit appends to the log of a primary; done is called when it is acknowledged.
func (s *sim) commit(n *simNode, t tx, done func()) {
	n.log = append(n.log, t)
	if !n.awaits {
		n.engine = len(n.log)
		done()
		return
	}
	n.waiting = append(n.waiting, simWait{len(n.log), done, t.fence})
}

var (
	errSession = errors.New("the session is gone")
	errPromise = errors.New("the node has promised somebody newer")
)

// The statements that a controller sends. Each is one event on the node.

func (s *sim) fence(n *simNode, p promise) error {
	if p.less(n.promise) {
		return errPromise
	}
	if n.session != p { // the older session is killed, and with it the wait for an acknowledgement of a fence row
		waiting := n.waiting
		n.waiting = nil
		for _, w := range waiting {
			if !w.fence {
				n.waiting = append(n.waiting, w)
			} else {
				n.engine = max(n.engine, w.place)
			}
		}
	}
	n.promise, n.session, s.dirty = p, p, true
	if n.stalled && n.io {
		s.applyAgain(n)
	}
	n.stopIO()
	return nil
}

func (s *sim) promote(n *simNode, at GTID, r *Record) error {
	if uint64(len(n.log)) < at.Seq {
		return fmt.Errorf("it has %s, not %s", place(n.log), at)
	}
	n.stopIO()
	n.sql, n.stalled, n.acks, n.source, n.relay = false, false, false, nil, nil
	for name := range r.Nodes {
		if _, n.allowed[name] = r.InSync[name]; !n.allowed[name] {
			s.kick(n, name)
		}
	}
	n.awaits = true
	if r.Epoch == s.record.Epoch { // else it will never be in the register, and so never write
		s.checkPromoted(n)
	}
	return nil
}

func (s *sim) kick(n *simNode, name string) {
	if f := s.node(name); f.source == n {
		f.dump = 0
	}
}

func (s *sim) follow(f, src *simNode) {
	s.point(f, src)
	s.begin(f)
}

func (s *sim) point(f, src *simNode) {
	s.dirty = true
	f.stopIO()
	f.relay, f.source, f.diverged = nil, src, false
	f.awaits, f.readOnly, f.acks, f.sql, f.stalled = false, true, true, false, false
}

func (s *sim) begin(f *simNode) {
	f.io, f.sql = true, true
	s.pull(f)
}

// stall stops the appliers of a replica. A relay log that nobody uses any more begins anew when they are started again.
func (s *sim) stall(f *simNode) {
	if f.up && f.sql {
		s.trace("%s stalls", f.startID())
		f.sql, f.stalled = false, true
	}
}

func (s *sim) applyAgain(f *simNode) {
	if !f.io {
		f.relay = nil
	}
	f.sql, f.stalled = true, false
	s.pull(f)
}

// write is what an instance sends.
func (s *sim) write(n *simNode, epoch uint64) {
	if !n.up || n.readOnly || n.epoch() != epoch || s.stopped {
		return
	}
	if n.paused {
		s.after(20*time.Millisecond, func() { s.write(n, epoch) })
		return
	}
	s.ids++
	t := tx{id: s.ids, server: n.id, epoch: epoch}
	s.commit(n, t, func() { s.acked(n, t) })
}

func pair(a, b string) string { return min(a, b) + " " + max(a, b) }

func (s *sim) node(name string) *simNode {
	return s.nodes[slices.IndexFunc(s.nodes, func(n *simNode) bool { return n.name == name })]
}

// The invariants, by the names that a failure gives:
//
//	H1  what was acknowledged is with the primary or with somebody who will be asked
//	H2  before anybody is chosen every possible acker has promised and stopped, but for the exceptions that elect knows
//	H3  the promoted node has applied everything that was acknowledged
//	H4  in an epoch one node is open at most, and in the newest one it is the primary of the record
//	H5  nothing is written in an epoch before its fence row (write asks for it)
//	H6  no read of an epoch is released after a later one has admitted a write
//	H8  nobody acts on a node that has promised somebody newer
//	H11 who is being rebuilt is no possible acker, is not the primary, and has no more than its donor
//	H9  who acknowledges has a prefix of the primary's history, and is in the set
//
// That a key takes effect once is not a matter of nodes and controllers, and is tried out elsewhere.

// acked remembers what a client was told. Whoever is the primary by then has it.
func (s *sim) acked(n *simNode, t tx) {
	s.writes = append(s.writes, t)
	if p := s.node(s.record.Primary); s.record.Phase != shard.PhaseFencing && p != n && p.awaits && s.record.Epoch > t.epoch &&
		!slices.Contains(p.log, t) {
		s.fail("H1: %s acknowledges %d of epoch %d, which %s has not", n.startID(), t.id, t.epoch, p.startID())
	}
	if t.epoch > s.admitted {
		s.admitted = t.epoch
	}
}

// checkPromoted is H3: the promoted node has applied everything that was acknowledged.
func (s *sim) checkPromoted(n *simNode) {
	have := map[int]bool{}
	for _, t := range n.log {
		have[t.id] = true
	}
	for _, t := range s.writes {
		if !have[t.id] {
			s.fail("H3: %s is promoted without %d", n.startID(), t.id)
		}
	}
}

// checkAcker is H9 and the invariant of the set: who acknowledges is in it, and has a prefix of the primary's history.
func (s *sim) checkAcker(f, src *simNode) {
	if !src.awaits || src.name != s.record.Primary {
		return
	}
	if f.lasts() != place(src.log[:min(len(src.log), len(f.log)+len(f.relay))]) {
		s.fail("H9: %s acknowledges to %s with another history", f.startID(), src.startID())
	}
	// While fencing, who has promised the epoch has stopped. In the set it must be by the name; with another start id it is waited for.
	if _, ok := s.heard[f.name]; !ok && src.startID() == s.record.candidateStart() {
		s.fail("%s acknowledges to %s and is not in the set", f.startID(), src.startID())
	}
}

// checkChosen is H2, the exceptions being the old primary itself and a floor.
func (s *sim) checkChosen(before, after *Record) {
	if before.Boot[before.Primary] == BootPrimary && after.Primary == before.Primary || before.Floor != (GTID{}) {
		return
	}
	for name, id := range before.heard() {
		if n := s.node(name); n.up && n.startID() == id && (n.promise.epoch < after.Epoch || n.io) {
			s.fail("H2: %s is chosen before %s has promised", after.Primary, id)
		}
	}
}

// checkOpen is H4.
func (s *sim) checkOpen() {
	open := map[uint64]string{}
	for _, n := range s.nodes {
		if !n.up || n.readOnly {
			continue
		}
		if other := open[n.epoch()]; other != "" {
			s.fail("H4: %s and %s are open in epoch %d", n.startID(), other, n.epoch())
		}
		open[n.epoch()] = n.startID()
		if s.record.Phase == shard.PhaseServing && n.epoch() >= s.record.Epoch && n.startID() != s.record.PrimaryStart {
			s.fail("H4: %s is open in epoch %d, the primary is %s", n.startID(), n.epoch(), s.record.PrimaryStart)
		}
	}
}

// checkHeld is H1 in all phases: what was acknowledged is on the disk of the primary or with a possible acker. Everything older than
// the newest write that is missing would be missing too, so the newest are enough.
func (s *sim) checkHeld() {
	for _, t := range s.writes[max(0, len(s.writes)-3):] {
		held := slices.Contains(s.node(s.record.Primary).log, t)
		for name := range s.heard {
			held = held || slices.Contains(s.node(name).has(), t)
		}
		if !held {
			s.fail("H1: nobody who is asked has %d", t.id)
		}
	}
}
