package failover

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// change returns the record as an action leaves it; run is the id of a new run, should the action begin one.
func (s *State) change(a Action, run string) (Record, error) {
	r := s.Record.Clone()
	switch a.Kind {
	case Decide:
		r.decide(run, s.lost(r.Primary, r.candidateStart()) != "")
	case Choose:
		r.choose(a.Node, a.GTID, &s.Run)
	case Serve:
		r.serve(s)
	case OrderBoot:
		r.Boot = map[string]Boot{a.Node: BootPrimary}
		r.Stuck = a.Why
	case ReportStuck:
		r.Stuck = a.Why
	case Suspend:
		r.Suspended = a.Why
	case Resume:
		r.Suspended = ""
		if s.answers(r.Primary, r.PrimaryStart) {
			r.NoTx = s.Seen[r.Primary].SemiSync.NoTx
		}
	case SwitchOver:
		r.switchOver(run)
	case Join:
		r.Joining = with(r.Joining, a.Node, s.Seen[a.Node].StartID)
	case Admit:
		r.InSync = with(r.InSync, a.Node, r.Joining[a.Node])
		delete(r.Joining, a.Node)
		r.recovered(a.Node)
	case Drop:
		r.drop(a.Node, s)
	case Pace:
		if r.Slow = s.Now.UTC(); !s.Record.Slow.IsZero() {
			r.Slow = time.Time{}
		}
	case BeginRebuild:
		r.beginRebuild(a, run, s)
	case EndRebuild, FailRebuild:
		r.endRebuild(a.Node, a.Why, s.Now)
	case Dismiss: // the order goes with it
	default:
		return r, fmt.Errorf("%q does not change the record", a.Kind)
	}
	if a.begins() {
		r.interrupt(s.Now)
	}
	return r, nil
}

// candidateStart is the process of the record's primary, be it the primary or a candidate that is one of the possible ackers again.
func (r *Record) candidateStart() string { return cmp.Or(r.PrimaryStart, r.InSync[r.Primary]) }

// decide makes the record one of a failover that begins. A candidate that another controller was promoting has acknowledged
// nothing and has everything, so it may be elected like the others. If it is lost it is treated as any old primary: killed if
// it still runs, not waited for if somebody has the floor, and started again by order if nobody has.
func (r *Record) decide(run string, lost bool) {
	candidate := r.candidateStart()
	delete(r.InSync, r.Primary)
	if r.PrimaryStart = candidate; !lost && (r.Phase == shard.PhasePromoting || r.Floor != (GTID{})) {
		r.InSync = with(r.InSync, r.Primary, candidate)
		r.PrimaryStart = "" // nobody is to be killed
	}
	r.Epoch++
	r.Phase, r.Run = shard.PhaseFencing, run
	r.Boot, r.Stuck, r.Planned, r.Slow = nil, "", false, time.Time{}
}

// choose makes the record one of a promotion: what was heard of the others stays in sync with the candidate. Who was not heard, because
// a floor or the old primary itself made that unnecessary, may be receiving from the candidate already.
func (r *Record) choose(candidate string, position GTID, run *Run) {
	members, joining := map[string]string{}, map[string]string{}
	for node, startID := range r.heard() {
		_, member := r.InSync[node]
		fenced, ok := run.Fenced[node]
		switch {
		case node == candidate:
		case !ok || fenced.StartID != startID:
			joining[node] = startID
		case member && fenced.SQLErrno == 0:
			members[node] = startID
		}
	}
	r.Phase, r.Primary, r.PrimaryStart = shard.PhasePromoting, candidate, run.Fenced[candidate].StartID
	r.InSync, r.Joining, r.Boot, r.Stuck, r.Floor, r.Planned = members, joining, nil, "", position, false
}

// serve ends a failover. A member of which nobody knows that it follows the new primary is not in sync with it; but it may follow and
// acknowledge all the same, if only the answer was lost, so it has to be heard until it has been locked out.
func (r *Record) serve(s *State) {
	for node, startID := range r.InSync {
		if !s.follows(node) {
			r.Joining = with(r.Joining, node, startID)
		}
	}
	maps.DeleteFunc(r.InSync, func(node, _ string) bool { return !s.follows(node) })
	r.Phase, r.Floor, r.Stuck, r.Boot = shard.PhaseServing, GTID{}, "", nil
	r.NoTx = s.Run.NoTx
}

// drop takes a node out of the possible ackers, and everybody else whom the primary does not let in any more.
func (r *Record) drop(node string, s *State) {
	gone := func(name, _ string) bool { return name == node || s.refused(name) }
	maps.DeleteFunc(r.InSync, gone)
	maps.DeleteFunc(r.Joining, gone)
}

func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

// result is what an action on a node has found.
type result struct {
	fenced   Fenced
	position GTID
	link     // that the action was about
	noTx     uint64
}

// begun is what a run knows as soon as an action is under way.
func (a Action) begun(run *Run) {
	if a.Kind == Choose || a.Kind == Promote {
		run.Chosen = election{candidate: a.Node, position: a.GTID}
	}
}

// fact is what a run knows when an action has succeeded; nil if that is nothing.
func (a Action) fact(found result) func(*Run) {
	switch a.Kind {
	case Fence:
		return func(run *Run) { run.Fenced[a.Node] = found.fenced }
	case Drain:
		return func(run *Run) { run.Drained[a.Node] = a.GTID }
	case Quiesce:
		return func(run *Run) { run.Quiesced = true }
	case Promote:
		return func(run *Run) { run.Promoted = found.primary }
	case Point:
		return func(run *Run) { run.Pointed[a.Node] = found.link }
	case Follow:
		return func(run *Run) { run.Following[a.Node] = found.link }
	case Establish:
		return func(run *Run) { run.Proved, run.NoTx = true, found.noTx }
	case Open:
		return func(run *Run) { run.Opened = true }
	case Refuse:
		return func(run *Run) { run.Refused[a.Node] = Refused{found.replica, found.position} }
	default:
		return nil
	}
}

// startOf is the process of a node that the record means.
func (s *State) startOf(node string) string {
	if node == s.Record.Primary && s.Record.PrimaryStart != "" && s.Record.Boot[node] != BootPrimary {
		return s.Record.PrimaryStart
	}
	if startID, ok := s.Record.heard()[node]; ok {
		return startID
	}
	return s.Run.Fenced[node].StartID
}

func newRun(id string, at time.Time) Run {
	return Run{
		ID: id, DecidedAt: at, Fenced: map[string]Fenced{}, Drained: map[string]GTID{},
		Pointed: map[string]link{}, Following: map[string]link{}, Refused: map[string]Refused{},
	}
}

func (r *Run) clone() Run {
	c := *r
	c.Journal.Steps = slices.Clone(r.Journal.Steps)
	c.Fenced, c.Drained = maps.Clone(r.Fenced), maps.Clone(r.Drained)
	c.Pointed, c.Following, c.Refused = maps.Clone(r.Pointed), maps.Clone(r.Following), maps.Clone(r.Refused)
	return c
}
