package failover

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A node whose data cannot come back is rebuilt: its agent replaces them by a copy of another node's, and it joins again like any other.
// The order stands in the record, so agents obey it whoever leads, and a failover, which begins with a write of the record, ends it: a
// copy holds locks on the node that it is made of, which may be the candidate.
//
// What is never done without a person: to rebuild the primary, or a node that may acknowledge; two nodes at once; anything while the
// shard does not serve or automatic failover is suspended; to make a copy of a node that has less than the one that it would replace.

// The clocks of rebuilding.
const (
	rebuildAfter    = 3 * time.Second  // that a node must have been seen to be ruined: an error may be of a primary that was just replaced
	rebuildPauseMin = 10 * time.Second // after an attempt; twice as long after each one that has not brought the node back
	rebuildPauseMax = time.Hour
	rebuildMax      = 12 * time.Hour // of one attempt
)

// Rebuild is the newest rebuild of a node.
type Rebuild struct {
	ID       string    `json:"id"`              // by which agents report on it
	Token    string    `json:"token,omitempty"` // what the donor's agent wants to hear before it sends anything; empty when it has ended
	Donor    string    `json:"donor"`
	Why      string    `json:"why"`
	BeganAt  time.Time `json:"began_at"`
	EndedAt  time.Time `json:"ended_at,omitzero"`
	Error    string    `json:"error,omitempty"` // why it has ended without new data
	Attempts int       `json:"attempts"`        // including this one, since the node was last in sync
}

// Running says that it has not ended.
func (one *Rebuild) Running() bool { return one.ID != "" && one.EndedAt.IsZero() }

// State is how far it has come, for people.
func (one *Rebuild) State() string {
	switch {
	case one.Running():
		return fmt.Sprintf("attempt %d since %s", one.Attempts, one.BeganAt.UTC().Format(time.RFC3339))
	case one.Error != "":
		return fmt.Sprintf("attempt %d failed at %s (%s)", one.Attempts, one.EndedAt.UTC().Format(time.RFC3339), one.Error)
	}
	return "done at " + one.EndedAt.UTC().Format(time.RFC3339)
}

// restedAt is when the next attempt may begin.
func (one *Rebuild) restedAt() time.Time {
	pause := rebuildPauseMax
	if grown := rebuildPauseMin << min(max(one.Attempts-1, 0), 20); grown < rebuildPauseMax {
		pause = grown
	}
	return one.EndedAt.Add(pause)
}

// rebuilding returns the node of the shard that is being rebuilt, if there is one.
func (r *Record) rebuilding() (node string, one Rebuild, ok bool) {
	for node, one := range r.Rebuilds {
		if one.Running() {
			return node, one, true
		}
	}
	return "", Rebuild{}, false
}

// rebuilds begins and ends rebuilds while the shard serves.
func (s *State) rebuilds() []Action {
	if node, one, ok := s.Record.rebuilding(); ok {
		return s.rebuildEnds(node, &one)
	}
	if s.Record.Suspended != "" {
		return nil
	}
	for _, node := range s.Record.names() {
		why := s.ruined(node)
		if why == "" || !s.mayRebuild(node) {
			continue
		}
		if last, again := s.Record.Rebuilds[node]; again && s.Now.Before(last.restedAt()) && s.Now.After(last.EndedAt) {
			continue // an end that is still to come was written by a clock that was wrong
		}
		return []Action{{Kind: BeginRebuild, Node: node, Why: why}}
	}
	return nil
}

// rebuildEnds ends a rebuild when the node's agent says so, or says nothing any more: a copy that it had begun is of no use then.
func (s *State) rebuildEnds(node string, one *Rebuild) []Action {
	host, reports := s.Hosts[node]
	var failed string
	switch {
	case !reports:
		failed = "its agent does not report to the register any more"
	case host.Rebuild.ID == one.ID && host.Rebuild.Done:
		return []Action{{Kind: EndRebuild, Node: node}}
	case host.Rebuild.ID == one.ID && host.Rebuild.Error != "":
		failed = host.Rebuild.Error
	case s.Now.Sub(one.BeganAt) > rebuildMax:
		failed = fmt.Sprintf("it has not ended in %s", rebuildMax)
	default:
		return nil
	}
	return []Action{{Kind: FailRebuild, Node: node, Why: failed}}
}

// ruined says why a node cannot come back with the data that it has, or "".
func (s *State) ruined(node string) string {
	seen := s.Seen[node]
	switch {
	case s.Hosts[node].Unfit != "":
		return s.Hosts[node].Unfit
	case s.fresh(node) && !seen.RuinedAt.IsZero() && s.Now.Sub(seen.RuinedAt) >= rebuildAfter:
		return seen.ruin()
	}
	return ""
}

// ruin says why a replica will not go on however often it is started again.
func (st *Status) ruin() string {
	switch {
	case st.IOErrno == errDiverged:
		return "its history is not a part of the primary's: " + st.IOError
	case st.SQLErrno != 0 && !slices.Contains(passing, st.SQLErrno):
		return fmt.Sprintf("it cannot apply: %d %s", st.SQLErrno, st.SQLError)
	}
	return ""
}

// passing are errors of an applier that say nothing of the data: memory or disk were short, or a lock was waited for too long.
var passing = []int{1021, 1037, 1038, 1040, 1041, 1053, 1114, 1180, 1205, 1213, 1317, 1927}

// ruinedAt returns since when a node says that it is ruined.
func (seen Seen) ruinedAt(p probed) time.Time {
	switch {
	case p.status.ruin() == "":
		return time.Time{}
	case seen.RuinedAt.IsZero():
		return p.now
	}
	return seen.RuinedAt
}

// mayRebuild says that nothing is lost if the data of a node are put aside: it cannot have acknowledged anything that others need, and
// there is somebody to copy.
func (s *State) mayRebuild(node string) bool {
	_, there := s.Record.Nodes[node]
	_, possible := s.Record.heard()[node]
	return there && node != s.Record.Primary && !possible && s.Hosts[node].Backup != "" && s.donor(node) != ""
}

// donor is the node to copy: a member of the in-sync set that has everything, or else the primary. Nobody copies a primary whose commits
// wait for an acknowledgement: the copy would wait for them, and keep out the replica that could acknowledge them.
func (s *State) donor(node string) string {
	ready := false
	for _, member := range slices.Sorted(maps.Keys(s.Record.InSync)) {
		if member == node || !s.isReady(member) {
			continue
		}
		if ready = true; s.gives(member, node) {
			return member
		}
	}
	if primary := s.Record.Primary; ready && s.answers(primary, s.Record.PrimaryStart) && s.gives(primary, node) {
		return primary
	}
	return ""
}

// gives says that the agent of a node can send its data, and that these are no less than those that they would replace.
func (s *State) gives(donor, node string) bool {
	host := s.Hosts[donor]
	less := s.fresh(node) && s.Seen[donor].Executed.Compare(s.Seen[node].Executed) < 0
	return host.Backup != "" && host.StartID == s.Seen[donor].StartID && !less
}

// apart says that a node must not join: it is being rebuilt, or is about to be by order.
func (s *State) apart(node string) bool {
	one := s.Record.Rebuilds[node]
	return one.Running() || s.condemned(node)
}

// condemned says that a person wants a node rebuilt that may still acknowledge, so it has to leave the others first. They must be able to
// go on without it.
func (s *State) condemned(node string) bool {
	_, _, busy := s.Record.rebuilding()
	return s.Order.Kind == OrderRebuild && s.Order.Node == node && node != s.Record.Primary && !busy && s.donor(node) != ""
}

// obeyRebuild carries out a person's order as soon as the node has left the set. One that has become the primary meanwhile is left alone.
func (s *State) obeyRebuild(why string) []Action {
	_, _, busy := s.Record.rebuilding()
	switch node := s.Order.Node; {
	case node == s.Record.Primary:
		return []Action{{Kind: Dismiss, Node: node, Why: "it is the primary now"}}
	case !busy && s.mayRebuild(node):
		return []Action{{Kind: BeginRebuild, Node: node, Why: why}}
	}
	return nil
}

// carriesOut says that an action does what was ordered. A rebuild may be the controller's own idea.
func (s *State) carriesOut(a Action) bool {
	return a.ordered() || a.Kind == BeginRebuild && s.Order.Kind == OrderRebuild && s.Order.Node == a.Node
}

// beginRebuild writes the order down. The token is as secret as the register; what agents report is made from it and does not tell it.
func (r *Record) beginRebuild(a Action, token string, s *State) {
	sum := sha256.Sum256([]byte(token))
	r.Rebuilds = maps.Clone(r.Rebuilds)
	if r.Rebuilds == nil {
		r.Rebuilds = map[string]Rebuild{}
	}
	r.Rebuilds[a.Node] = Rebuild{
		ID: hex.EncodeToString(sum[:6]), Token: token, Donor: s.donor(a.Node), Why: a.Why, BeganAt: s.Now.UTC(),
		Attempts: r.Rebuilds[a.Node].Attempts + 1,
	}
}

// endRebuild ends a rebuild; why is empty if the node has new data.
func (r *Record) endRebuild(node, why string, now time.Time) {
	one := r.Rebuilds[node]
	one.Token, one.EndedAt, one.Error = "", now.UTC(), why
	r.Rebuilds = maps.Clone(r.Rebuilds)
	r.Rebuilds[node] = one
}

// interrupt ends what a failover does not wait for.
func (r *Record) interrupt(now time.Time) {
	if node, _, ok := r.rebuilding(); ok {
		r.endRebuild(node, "a failover has begun", now)
	}
}

// recovered notes that a node is in sync again, so that its next rebuild is the first of its kind.
func (r *Record) recovered(node string) {
	if one, ok := r.Rebuilds[node]; ok {
		one.Attempts = 0
		r.Rebuilds = maps.Clone(r.Rebuilds)
		r.Rebuilds[node] = one
	}
}
