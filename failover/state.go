package failover

import (
	"slices"
	"time"

	"github.com/statesvc/statesvc/shard"
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

	Order Order // the zero value: nobody has ordered anything

	Now time.Time // of the controller, monotonic
}

// Seen is what the probes of a node found.
type Seen struct {
	Status               // the newest answer; zero before the first
	AnsweredAt time.Time // when it came
	FailingAt  time.Time // when the first probe since then failed; zero: none has
	Misses     int       // probes that got no answer since then
	Refused    int       // of these, connections that were refused
	ReceivedAt time.Time // when a replica was last seen to have received anything
}

// Run is what this controller has done since it decided on the record's epoch. It is not stored: a controller that takes over
// begins anew, with an epoch of its own.
type Run struct {
	ID        string
	DecidedAt time.Time         // when the register answered F1
	Fenced    map[string]Fenced // nodes that have promised the epoch and stopped receiving
	Drained   map[string]GTID   // how far a node has applied what it received
	Quiesced  bool              // a planned failover: the old primary takes no writes, and the others have all it has
	Promoted  bool
	Following map[string]bool // nodes that were pointed at the new primary
	Proved    bool            // the fence row is committed and acknowledged
	Opened    bool
	Journal   Journal
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
	Follow      Kind = "follow"       // F6: a sibling is pointed at it
	Establish   Kind = "establish"    // F7: the fence row, acknowledged
	Open        Kind = "open"         // F9: read_only off
	Serve       Kind = "serve"        // F9: record: SERVING
	OrderBoot   Kind = "order-boot"   // record: the old primary may start as one, for nobody else can be elected
	ReportStuck Kind = "report-stuck" // record: what it waits for

	SwitchOver Kind = "switch-over" // F1, planned
	Quiesce    Kind = "quiesce"     // the old primary takes no more writes
	Resume     Kind = "resume"      // record: automatic failover again

	Suspend Kind = "suspend" // record: a tripwire: acknowledgements were given that no replica gave
	Join    Kind = "join"    // record: the node may acknowledge soon, so it must be heard from now on
	Attach  Kind = "attach"  // the joining node follows the primary
	Admit   Kind = "admit"   // record: it has caught up and may be elected
	Drop    Kind = "drop"    // the node may not acknowledge any more; when that is certain, the record says so
)

// Action is something to be done now. Why is for the journal.
type Action struct {
	Kind Kind
	Node string
	GTID GTID
	Why  string
}

// key tells actions apart that must not run twice at the same time.
func (a Action) key() string { return string(a.Kind) + " " + a.Node }

// writesRecord says that the action is a compare-and-set of the record.
func (a Action) writesRecord() bool {
	return slices.Contains([]Kind{Decide, Choose, Serve, OrderBoot, ReportStuck, Suspend, SwitchOver, Resume, Join, Admit, Drop}, a.Kind)
}

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

// serving is the record's phase as most rules ask for it.
func (s *State) serving() bool { return s.Record.Phase == shard.PhaseServing }
