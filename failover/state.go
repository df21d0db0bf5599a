package failover

import (
	"maps"
	"slices"
	"time"
)

// State is everything that Next looks at. It is a snapshot: nothing in it changes while Next runs.
type State struct {
	Record Record
	Run    Run
	Seen   map[string]Seen // by node
	Dead   map[string]bool // start ids whose process has ended, as their agents say

	// Holding are the instances that have not said yet that they let go of the epochs before the record's. An instance that has
	// vanished from the register within the last second counts: it may be paused and still hold a read lease.
	Holding []string

	Hosts map[string]Host // what the agents say, by node; one that has fallen silent lately counts

	Suspected bool // an instance says that it cannot reach the primary of this epoch

	Order Order // the zero value: nobody has ordered anything

	Now time.Time // of the controller, monotonic
}

// Seen is what the probes of a node found.
type Seen struct {
	Status               // the newest answer; zero before the first
	AnsweredAt time.Time // when it came
	ChangedAt  time.Time // when an action of ours on the node ended: what was asked before says nothing any more
	FailingAt  time.Time // when the first probe since then failed; zero: none has
	Misses     int       // probes that got no answer since then
	Refused    int       // of these, connections that were refused
	ReceivedAt time.Time // when a replica was last seen to have received anything
	AnswersAt  time.Time // since when it answers every probe
	StallsAt   time.Time // since when commits wait and none was acknowledged; zero: none waits, or they go on
	RuinedAt   time.Time // since when it says what it cannot recover from
}

// Run is what this controller has done since it decided on the record's epoch. It is not stored: a controller that takes over
// begins anew, with an epoch of its own.
type Run struct {
	ID        string
	DecidedAt time.Time         // when the register answered F1
	Fenced    map[string]Fenced // nodes that have promised the epoch and stopped receiving
	Drained   map[string]GTID   // how far a node has applied what it received
	Chosen    election          // whom it promotes; it chooses once
	Quiesced  bool              // a planned failover: the old primary takes no writes, and the others have all it has
	Promoted  string            // start id of the candidate that has become a primary
	Pointed   map[string]link   // nodes that know the new primary, and wait to be started
	Following map[string]link   // nodes that follow it
	Proved    bool              // the fence row is committed and acknowledged
	NoTx      uint64            // the primary's count of unacknowledged commits when that was proved
	Opened    bool
	Refused   map[string]Refused // possible acknowledgers that the primary does not let in any more
	Journal   Journal
}

// link is a replica and its primary, by their start ids: what is known of a process says nothing about the one after it.
type link struct{ replica, primary string }

// link is that of a possible acknowledger and the record's primary.
func (r *Record) link(node string) link { return link{r.heard()[node], r.PrimaryStart} }

// follows says that a possible acknowledger was let in by the record's primary.
func (s *State) follows(node string) bool {
	followed, ok := s.Run.Following[node]
	return ok && followed == s.Record.link(node)
}

// Refused says that a process cannot acknowledge any more, and up to where it may have.
type Refused struct {
	StartID  string
	Position GTID // of the primary, read after the node was locked out
}

// forget drops what a record that has moved on makes meaningless: who is no possible acker any more is not being expelled, and
// may join again under the same start id.
func (r *Run) forget(record *Record) {
	heard := record.heard()
	maps.DeleteFunc(r.Refused, func(node string, refused Refused) bool { return heard[node] != refused.StartID })
}

// noted is what is seen of a node after one more probe. An answer to what was asked before our newest action on the node ended is
// none: a primary that has just been promoted would look like one whose semi-synchronous replication is off.
func (seen Seen) noted(p probed) Seen {
	switch {
	case p.err == nil && p.began.Before(seen.ChangedAt):
		return seen
	case p.err == nil:
		received := seen.ReceivedAt
		if p.status.ReceivedMark != seen.ReceivedMark {
			received = p.now
		}
		answers := seen.AnswersAt
		if seen.AnsweredAt.IsZero() || !seen.FailingAt.IsZero() {
			answers = p.now
		}
		return Seen{
			Status: p.status, AnsweredAt: p.now, ReceivedAt: received, ChangedAt: seen.ChangedAt, AnswersAt: answers,
			StallsAt: seen.stalls(p), RuinedAt: seen.ruinedAt(p),
		}
	}
	if seen.Misses++; seen.FailingAt.IsZero() {
		seen.FailingAt = p.began
	}
	if p.refused {
		seen.Refused++
	}
	return seen
}

// stalls returns since when commits of the node wait without any being acknowledged.
func (seen Seen) stalls(p probed) time.Time {
	before, now := seen.SemiSync, p.status.SemiSync
	switch {
	case now.WaitSessions == 0 || before.WaitSessions == 0 || now.YesTx != before.YesTx || p.status.StartID != seen.StartID:
		return time.Time{}
	case seen.StallsAt.IsZero():
		return p.now
	}
	return seen.StallsAt
}

// probed is how a probe went.
type probed struct {
	began, now time.Time
	status     Status
	err        error
	refused    bool
}

// changed is what is seen of a node when an action of ours on it has ended: nothing that may be relied on. If it has succeeded
// then the node is not silent, whatever the probes of a process before it met.
func (seen Seen) changed(now time.Time, succeeded bool) Seen {
	seen.ChangedAt, seen.AnsweredAt = now, time.Time{}
	if succeeded {
		seen.FailingAt, seen.Misses, seen.Refused = time.Time{}, 0, 0
	}
	return seen
}

// Kind is the kind of an action.
type Kind string

// The actions. Those that write the record are done with the guard of the leader, one at a time.
const (
	Decide      Kind = "decide"       // F1: record: epoch+1, FENCING
	Fence       Kind = "fence"        // F3: promise and stop receiving
	Drain       Kind = "drain"        // F5: apply what was received
	Choose      Kind = "choose"       // F6: record: PROMOTING, candidate, floor
	Promote     Kind = "promote"      // F6: the candidate becomes a primary, read only
	Point       Kind = "point"        // F6: meanwhile a sibling applies what it has and is told whom to follow
	Follow      Kind = "follow"       // F6: the sibling follows
	Establish   Kind = "establish"    // F7: the fence row, acknowledged
	Open        Kind = "open"         // F9: read_only off
	Serve       Kind = "serve"        // F9: record: SERVING
	OrderBoot   Kind = "order-boot"   // record: the old primary may start as one, for nobody else can be elected
	ReportStuck Kind = "report-stuck" // record: what it waits for

	SwitchOver Kind = "switch-over" // F1, planned
	Quiesce    Kind = "quiesce"     // the old primary takes no more writes
	Resume     Kind = "resume"      // record: automatic failover again

	Suspend Kind = "suspend" // record: a tripwire: acknowledgements were given that no replica gave
	Renew   Kind = "renew"   // a node outside of the set, whose appliers have stopped for nothing, begins to apply again
	Join    Kind = "join"    // record: the node may acknowledge soon, so it must be heard from now on
	Attach  Kind = "attach"  // the joining node follows the primary
	Pace    Kind = "pace"    // record: a replica has fallen behind, or is no more
	Admit   Kind = "admit"   // record: it has caught up and may be elected
	Refuse  Kind = "refuse"  // the primary lets the node in no more
	Drop    Kind = "drop"    // record: without those who cannot acknowledge any more

	BeginRebuild Kind = "rebuild"        // record: the agent of the node replaces its data
	EndRebuild   Kind = "rebuilt"        // record: it has
	FailRebuild  Kind = "rebuild-failed" // record: it has not
	Dismiss      Kind = "dismiss"        // an order that has lost its meaning
)

// Action is something to be done now. Why is for the journal.
type Action struct {
	Kind Kind
	Node string
	GTID GTID
	Why  string
}

// key tells actions apart that must not run at the same time. An attachment that ends after the node was locked out would let it
// in again, so what concerns a node's right to acknowledge has one key.
func (a Action) key() string {
	switch {
	case a.writesRecord():
		return "record"
	case a.Kind == Point || a.Kind == Follow || a.Kind == Attach || a.Kind == Refuse || a.Kind == Renew:
		return "acker " + a.Node
	}
	return string(a.Kind) + " " + a.Node
}

// touches are the nodes that an action has changed, so that older answers to probes say nothing about them. One that has failed
// may have done so half-way.
func (a Action) touches(r *Record, succeeded bool) []string {
	switch a.Kind {
	case Promote, Open, Point, Renew:
		return []string{a.Node}
	case Follow, Attach:
		return []string{a.Node, r.Primary}
	case Fence:
		if succeeded {
			return []string{a.Node}
		}
	default: // the rest changes nothing that a rule looks at
	}
	return nil
}

// writesRecord says that the action is a compare-and-set of the record.
func (a Action) writesRecord() bool {
	return slices.Contains([]Kind{
		Decide, Choose, Serve, OrderBoot, ReportStuck, Suspend, SwitchOver, Resume, Join, Admit, Drop,
		Pace, BeginRebuild, EndRebuild, FailRebuild, Dismiss,
	}, a.Kind)
}

// ordered says that the action carries out an order, which is then removed. Suspend may be a tripwire's as well; an order that stands
// beside it is then carried out with it.
func (a Action) ordered() bool {
	return slices.Contains([]Kind{SwitchOver, Suspend, Resume, Dismiss}, a.Kind)
}

// begins says that the action begins a failover, and a run with it.
func (a Action) begins() bool { return a.Kind == Decide || a.Kind == SwitchOver }

// answers says that a node has answered a probe under the given start id lately.
func (s *State) answers(node, startID string) bool {
	seen := s.Seen[node]
	return seen.StartID == startID && startID != "" && s.fresh(node)
}

// fresh says that the newest probe of a node that could have been answered was.
func (s *State) fresh(node string) bool {
	seen := s.Seen[node]
	return !seen.AnsweredAt.IsZero() && s.Now.Sub(seen.AnsweredAt) <= answerAgeMax
}

// receives says that a replica has got something from its primary within the last d.
func (s *State) receives(node string, d time.Duration) bool {
	seen := s.Seen[node]
	return s.fresh(node) && seen.IORunning == ioRunning && s.Now.Sub(seen.ReceivedAt) <= d
}

// ended says why a process is gone for good, or "". It can acknowledge nothing any more.
func (s *State) ended(node, startID string) string {
	switch {
	case s.Dead[startID]:
		return "its process has ended"
	case s.fresh(node) && s.Seen[node].StartID != startID:
		return "it was restarted"
	}
	return ""
}

// lost says why a process must not be counted on, or "". It may come back if it is only silent.
func (s *State) lost(node, startID string) string {
	if why := s.ended(node, startID); why != "" {
		return why
	}
	if failing := s.Seen[node].FailingAt; !failing.IsZero() && s.Now.Sub(failing) >= dropAfter {
		return "it does not answer"
	}
	return ""
}

// waited is how long ago this run was decided on.
func (s *State) waited() time.Duration { return s.Now.Sub(s.Run.DecidedAt) }
