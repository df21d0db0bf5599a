package failover

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// heal keeps the in-sync set true and as large as it can be while the shard serves: one change of the record at a time.
func (s *State) heal() []Action {
	if !s.answers(s.Record.Primary, s.Record.PrimaryStart) {
		return nil
	}
	actions := slices.Concat(s.expel(), s.pace())
	for _, node := range s.Record.names() {
		if action, ok := s.recover(node); ok {
			actions = append(actions, action)
		}
	}
	return actions
}

// pace has instances write fewer transactions while a replica is behind, because a failover waits until it has applied what it has. A
// hundred small ones take a replica that syncs each of them as long as everything else in a failover.
func (s *State) pace() []Action {
	slow := s.Record.Slow
	switch node, behind := s.lag(); {
	case slow.IsZero() && behind > behindMax:
		return []Action{{Kind: Pace, Why: fmt.Sprintf("%s has %d transactions to apply", node, behind)}}
	case !slow.IsZero() && behind < behindMin && s.Now.Sub(slow) >= slowMin:
		return []Action{{Kind: Pace, Why: "all replicas have caught up"}}
	}
	return nil
}

const (
	behindMax = 40              // transactions: some 50 ms of a replica that syncs each of them
	behindMin = 5               // what is on its way anyway
	slowMin   = 2 * time.Second // a record that changes more often would be a burden itself
)

// lag is how many transactions the member that is most behind has received and not applied.
func (s *State) lag() (node string, behind uint64) {
	for _, name := range slices.Sorted(maps.Keys(s.Record.InSync)) {
		seen := s.Seen[name]
		if s.answers(name, s.Record.InSync[name]) && seen.Received.Seq > seen.Applied.Seq+behind {
			node, behind = name, seen.Received.Seq-seen.Applied.Seq
		}
	}
	return node, behind
}

// expel takes those out who must not acknowledge any more: the primary lets them in no more, and when all who stay have received
// what they may have acknowledged, the record is without them. They leave together: each would wait for the other otherwise, and one
// that is left alone in the set might be elected without what only the other had. There is no way back but to join again.
func (s *State) expel() []Action {
	var actions []Action
	heard := s.Record.heard()
	for _, node := range slices.Sorted(maps.Keys(heard)) {
		if why := s.unfit(node); why != "" && !s.refused(node) {
			actions = append(actions, Action{Kind: Refuse, Node: node, Why: why})
		}
	}
	if len(actions) > 0 {
		return actions
	}
	for node := range heard {
		for _, refused := range s.Run.Refused {
			if !s.refused(node) && (!s.answers(node, heard[node]) || s.Seen[node].Received.Compare(refused.Position) < 0) {
				return nil
			}
		}
	}
	if expelled := slices.DeleteFunc(slices.Sorted(maps.Keys(heard)), func(n string) bool { return !s.refused(n) }); len(expelled) > 0 {
		return []Action{{Kind: Drop, Node: expelled[0], Why: strings.Join(expelled, ", ")}}
	}
	return nil
}

// refused says that a node in the set cannot acknowledge any more, because the primary does not let it in.
func (s *State) refused(node string) bool {
	refused, ok := s.Run.Refused[node]
	return ok && refused.StartID == s.Record.heard()[node]
}

// unfit says why a possible acker must not be one any more.
func (s *State) unfit(node string) string {
	if why := s.lost(node, s.Record.heard()[node]); why != "" {
		return why
	}
	seen := s.Seen[node]
	switch {
	case s.condemned(node):
		return "a person wants it rebuilt"
	case s.fresh(node) && seen.cannotApply():
		return fmt.Sprintf("it cannot apply: %d %s", seen.SQLErrno, seen.SQLError)
	case s.fresh(node) && seen.IOErrno == errDiverged:
		return "its history is not a part of the primary's: " + seen.IOError
	}
	return ""
}

// recover says what brings a node nearer to being in sync.
func (s *State) recover(node string) (Action, bool) {
	seen := s.Seen[node]
	_, member := s.Record.InSync[node]
	_, joining := s.Record.Joining[node]
	switch {
	case node == s.Record.Primary || !s.fresh(node) || seen.StartID == "" || s.Dead[seen.StartID] || s.apart(node):
		return Action{}, false
	case (member || joining) && (s.refused(node) || s.unfit(node) != ""):
		return Action{}, false
	case !member && !joining:
		return s.comeIn(node)
	case !s.attached(seen):
		return Action{Kind: Attach, Node: node}, true
	case joining && s.caughtUp(seen):
		return Action{Kind: Admit, Node: node}, true
	}
	return Action{}, false
}

// comeIn is the next step of a node outside of the set into it.
func (s *State) comeIn(node string) (Action, bool) {
	seen := s.Seen[node]
	switch {
	case seen.stalled() && seen.IOErrno != errDiverged:
		return Action{Kind: Renew, Node: node}, true
	case s.mayJoin(node):
		return Action{Kind: Join, Node: node}, true
	}
	return Action{}, false
}

// mayJoin is false for a node whose history is another one, or may turn out to be, which has to be rebuilt; for one that cannot apply,
// which would be put out at once; and for an old primary that does not know yet that it is none: it has what nobody has acknowledged,
// and is not to follow before its agent has started it again.
func (s *State) mayJoin(node string) bool {
	seen, shared := s.Seen[node], s.shared()
	other := seen.IOErrno == errDiverged || seen.Executed.Compare(shared) > 0 || seen.Executed.diverged(shared)
	return !other && seen.SQLErrno == 0 && (!seen.SemiSync.PrimaryEnabled || seen.settled() == nil)
}

// shared is how far the history of the shard is known to more than one node, so that it stays the shard's if the primary is lost. A node
// that has more, because it was started as a primary with what nobody has acknowledged, must not be one that has to be heard.
func (s *State) shared() GTID {
	if s.Record.Phase != shard.PhaseServing {
		return s.Record.Floor
	}
	if len(s.Record.InSync) == 0 {
		return s.Seen[s.Record.Primary].Executed
	}
	var best GTID
	for node, startID := range s.Record.InSync {
		if received := s.Seen[node].Received; s.answers(node, startID) && received.Compare(best) > 0 {
			best = received
		}
	}
	return best
}

// attached says that a node replicates from the primary and acknowledges to it.
func (s *State) attached(seen Seen) bool {
	running := seen.IORunning == ioRunning && seen.SQLRunning
	return running && seen.SemiSync.ReplicaOn && seen.SourceAddr == s.Record.Nodes[s.Record.Primary].Address
}

// caughtUp says that a node may be elected: it has received all that the primary had after the node had joined. What is less may
// have been acknowledged by somebody who has left the set since, so there is no tolerance here, as there is in what it has applied.
func (s *State) caughtUp(seen Seen) bool {
	primary := s.Seen[s.Record.Primary].Executed
	return seen.Received.Compare(primary) >= 0 && seen.Applied.Seq+lagMax >= primary.Seq
}

// errDiverged is MariaDB's number for a replica that asks for a place that its primary does not have.
const errDiverged = 1236
