package failover

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// The clocks of a failover.
const (
	readLease      = 200 * time.Millisecond // how long an instance may release reads after its newest look at the register
	leaseWait      = 210 * time.Millisecond // the same with 5 % for clocks that run at different rates
	stuckAfter     = 500 * time.Millisecond // without a candidate, before anything is said about it
	orderBootAfter = time.Second            // without a candidate, before the old primary is started again
	bootPatience   = 3 * time.Second        // since the decision, for the old primary to answer when it was told to start
	lagMax         = 500                    // transactions that a joining node may have left to apply when it is admitted
	dropAfter      = time.Second            // a member that is not heard for so long may not acknowledge any more
	skewMax        = 500 * time.Millisecond // a node whose clock is further off is chosen last
)

// Next returns what may be done now. It is pure: the same state gives the same actions. Actions that are under way are
// returned again until they have left their fact; the caller does not start them twice.
func Next(s State) []Action {
	switch {
	case s.Record.External:
		return nil // another tool fails the shard over
	case s.Record.Phase == shard.PhaseServing:
		return s.nextServing()
	case s.Record.Run != s.Run.ID:
		return []Action{{Kind: Decide, Why: "another controller's failover is taken over"}}
	case s.Record.Phase == shard.PhaseFencing:
		return s.nextFencing()
	default:
		return s.nextPromoting()
	}
}

func (s *State) nextServing() []Action {
	if s.Record.Suspended == "" {
		if why := s.tripwire(); why != "" {
			return []Action{{Kind: Suspend, Why: why}}
		}
		if why := s.suspicion(); why != "" {
			return []Action{{Kind: Decide, Node: s.Record.Primary, Why: why}}
		}
	}
	if ordered := s.obey(); len(ordered) > 0 {
		return ordered
	}
	return append(s.heal(), s.rebuilds()...)
}

// nextFencing is F3 to F5.
func (s *State) nextFencing() []Action {
	if actions, planned := s.nextPlanned(); planned {
		return actions
	}
	if startID, again := s.Record.InSync[s.Record.Primary]; again && s.lost(s.Record.Primary, startID) != "" {
		return []Action{{Kind: Decide, Node: s.Record.Primary, Why: "the candidate that was taken over is lost"}}
	}
	if s.Run.Chosen.candidate != "" {
		return s.promotion(s.Run.Chosen)
	}
	var actions []Action
	for node, startID := range s.Record.heard() {
		if fenced, ok := s.Run.Fenced[node]; !ok || fenced.StartID != startID || !fenced.IOStopped {
			actions = append(actions, Action{Kind: Fence, Node: node})
		}
	}
	if s.Record.Boot[s.Record.Primary] == BootPrimary {
		if _, ok := s.oldPrimary(); !ok {
			actions = append(actions, Action{Kind: Fence, Node: s.Record.Primary})
		}
	}
	slices.SortFunc(actions, func(a, b Action) int { return strings.Compare(a.Node, b.Node) })
	elected := s.elect()
	if elected.candidate == "" {
		return append(actions, s.stuck(elected.waits)...)
	}
	if !s.drained(elected) {
		return append(actions, Action{Kind: Drain, Node: elected.candidate, GTID: elected.position})
	}
	return s.promotion(elected)
}

// promotion is F6 while the register is being told of it: the candidate becomes a primary and its siblings are prepared meanwhile, for
// all of that can still be given up. What cannot, the first commit of the epoch, waits for the record. A run chooses once: what it hears
// later must not make a sibling of a candidate that the register may have been told of already.
func (s *State) promotion(e election) []Action {
	if why := s.lost(e.candidate, s.Run.Fenced[e.candidate].StartID); why != "" {
		return []Action{{Kind: Decide, Node: s.Record.Primary, Why: "the candidate is lost: " + why}}
	}
	actions := []Action{{Kind: Choose, Node: e.candidate, GTID: e.position}}
	ahead := *s
	ahead.Record = s.chosen(e)
	return append(actions, ahead.candidacy()...)
}

// ahead is the record with its candidate, which may not have been written yet.
func (s *State) ahead() Record {
	if s.Record.Phase == shard.PhasePromoting {
		return s.Record
	}
	return s.chosen(s.election())
}

// chosen is the record as Choose leaves it.
func (s *State) chosen(e election) Record {
	r := s.Record.Clone()
	r.choose(e.candidate, e.position, &s.Run)
	return r
}

// candidacy is what makes the record's primary one, if it is not yet.
func (s *State) candidacy() []Action {
	if s.Run.Promoted == s.Record.PrimaryStart {
		return nil
	}
	return append([]Action{{Kind: Promote, Node: s.Record.Primary, GTID: s.Record.Floor}}, s.points()...)
}

// drained says that the candidate has applied everything up to its position.
func (s *State) drained(e election) bool {
	return s.Run.Drained[e.candidate].Compare(e.position) >= 0 || s.Run.Fenced[e.candidate].Executed.Compare(e.position) >= 0
}

// stuck says in the record what a failover waits for, and after a while lets the old primary start again: it may be all that
// is left of what was acknowledged.
func (s *State) stuck(waits string) []Action {
	if s.Run.DecidedAt.IsZero() {
		return nil
	}
	waited := s.waited()
	switch {
	case (waited >= orderBootAfter || s.hopeless()) && s.Record.Boot[s.Record.Primary] == BootNone:
		return []Action{{Kind: OrderBoot, Node: s.Record.Primary, Why: waits}}
	case waited >= stuckAfter && s.Record.Stuck != waits:
		return []Action{{Kind: ReportStuck, Why: waits}}
	}
	return nil
}

// hopeless says that somebody who has to be heard never will be, so that there is nothing to wait for.
func (s *State) hopeless() bool {
	heard := s.Record.heard()
	return slices.ContainsFunc(s.unheard(), func(node string) bool { return s.ended(node, heard[node]) != "" })
}

// nextPromoting is F6 to F9.
func (s *State) nextPromoting() []Action {
	primary := s.Record.Primary
	if why := s.lost(primary, s.Record.PrimaryStart); why != "" {
		return []Action{{Kind: Decide, Node: primary, Why: "the candidate is lost: " + why}}
	}
	if actions := s.candidacy(); len(actions) > 0 {
		return actions
	}
	actions := s.followers()
	switch {
	case !s.Run.Proved && !s.acker():
		return actions
	case !s.Run.Proved:
		return append(actions, Action{Kind: Establish, Node: primary})
	case s.leased():
		return actions
	case !s.Run.Opened:
		return append(actions, Action{Kind: Open, Node: primary})
	}
	return append(actions, Action{Kind: Serve, Node: primary})
}

// points prepares the siblings while the candidate becomes a primary: what they then have to do is quick.
func (s *State) points() []Action {
	var actions []Action
	for _, node := range slices.Sorted(maps.Keys(s.Record.InSync)) {
		if s.Run.Pointed[node] != s.Record.link(node) && s.ended(node, s.Record.InSync[node]) == "" {
			actions = append(actions, Action{Kind: Point, Node: node})
		}
	}
	return actions
}

// followers brings nodes behind the candidate: its first commit needs one that acknowledges it. The candidate has acknowledged
// nothing to a client yet, so a process that has ended leaves the set without further ado, and its node may start again.
func (s *State) followers() []Action {
	var actions []Action
	heard := s.Record.heard()
	for _, node := range slices.Sorted(maps.Keys(heard)) {
		switch why := s.ended(node, heard[node]); {
		case why != "":
			actions = append(actions, Action{Kind: Drop, Node: node, Why: why})
		case !s.follows(node) || s.idle(node):
			actions = append(actions, Action{Kind: Follow, Node: node})
		}
	}
	if len(heard) == 0 || !s.Run.Proved && s.waited() >= orderBootAfter {
		actions = append(actions, s.anybody()...)
	}
	return actions
}

// acker says whether somebody who may acknowledge has been let in. The first commit has the only session with the candidate until it is
// acknowledged, so whoever has to be let in over that session must be before.
func (s *State) acker() bool {
	for node := range s.Record.Joining {
		if s.follows(node) {
			return true
		}
	}
	return len(s.Record.InSync) > 0
}

// idle says that a node receives nothing although it was told to: a fencing that was late has stopped it again. One that has diverged
// would stop again, however often it is told.
func (s *State) idle(node string) bool {
	return s.fresh(node) && s.Seen[node].IORunning == ioStopped && s.Seen[node].IOErrno != errDiverged
}

// anybody lets all other nodes join a primary whose first commit nobody acknowledges.
func (s *State) anybody() []Action {
	var actions []Action
	heard := s.Record.heard()
	for _, node := range s.Record.names() {
		_, already := heard[node]
		if node == s.Record.Primary || already || !s.fresh(node) || s.Seen[node].StartID == "" {
			continue
		}
		if action, ok := s.comeIn(node); ok {
			actions = append(actions, action)
		}
	}
	return actions
}

// leased says that an instance may still release a read of the old epoch (F8).
func (s *State) leased() bool {
	return len(s.Holding) > 0 && s.waited() < leaseWait
}

// tripwire says that acknowledgements may have been given without a replica: from then on a failover could lose them.
func (s *State) tripwire() string {
	primary := s.Seen[s.Record.Primary]
	if !s.answers(s.Record.Primary, s.Record.PrimaryStart) || len(s.Record.InSync) == 0 {
		return ""
	}
	switch {
	case primary.SemiSync.NoTx > s.Record.NoTx:
		return fmt.Sprintf("%d transactions were acknowledged without a replica", primary.SemiSync.NoTx-s.Record.NoTx)
	case !primary.SemiSync.PrimaryEnabled:
		return "semi-synchronous replication was switched off on the primary"
	case !primary.SemiSync.PrimaryOn:
		return "the primary has stopped waiting for replicas"
	case primary.SemiSync.TimeoutMS < waitTimeoutMinMS:
		return fmt.Sprintf("the primary waits %d ms for a replica and then goes on alone", primary.SemiSync.TimeoutMS)
	case primary.SemiSync.WaitPoint != waitPoint:
		return "the primary shows transactions before a replica has them (" + primary.SemiSync.WaitPoint + ")"
	}
	return ""
}

const (
	waitTimeoutMinMS = 31_536_000_000 // 365 days
	waitPoint        = "AFTER_SYNC"
)
