package failover

import (
	"fmt"
	"maps"
	"slices"
)

// heal keeps the in-sync set true and as large as it can be while the shard serves: one change of the record at a time.
func (s *State) heal() []Action {
	if !s.answers(s.Record.Primary, s.Record.PrimaryStart) {
		return nil
	}
	for _, node := range slices.Sorted(maps.Keys(s.Record.heard())) {
		if why := s.unfit(node); why != "" {
			return []Action{{Kind: Drop, Node: node, Why: why}}
		}
	}
	var actions []Action
	for _, node := range s.Record.names() {
		if action, ok := s.recover(node); ok {
			actions = append(actions, action)
		}
	}
	return actions
}

// unfit says why a possible acker must not be one any more.
func (s *State) unfit(node string) string {
	seen, startID := s.Seen[node], s.Record.heard()[node]
	switch {
	case s.Dead[startID]:
		return "its process has ended"
	case s.fresh(node) && seen.StartID != startID:
		return "it was restarted"
	case s.fresh(node) && seen.SQLErrno != 0:
		return fmt.Sprintf("it cannot apply: %d %s", seen.SQLErrno, seen.SQLError)
	case s.fresh(node) && seen.IOErrno == errDiverged:
		return "its history is not a part of the primary's: " + seen.IOError
	case !seen.FailingAt.IsZero() && s.Now.Sub(seen.FailingAt) >= dropAfter:
		return "it does not answer"
	}
	return ""
}

// recover says what brings a node nearer to being in sync.
func (s *State) recover(node string) (Action, bool) {
	seen := s.Seen[node]
	_, member := s.Record.InSync[node]
	_, joining := s.Record.Joining[node]
	switch {
	case node == s.Record.Primary || !s.fresh(node) || seen.StartID == "":
		return Action{}, false
	case !member && !joining && seen.IOErrno == errDiverged:
		return Action{}, false // it has to be rebuilt
	case !member && !joining:
		return Action{Kind: Join, Node: node}, true
	case !s.attached(seen):
		return Action{Kind: Attach, Node: node}, true
	case joining && s.caughtUp(seen):
		return Action{Kind: Admit, Node: node}, true
	}
	return Action{}, false
}

// attached says that a node replicates from the primary and acknowledges to it.
func (s *State) attached(seen Seen) bool {
	return seen.SourceAddr == s.Record.Nodes[s.Record.Primary].Address && seen.IORunning == ioRunning && seen.SQLRunning && seen.SlaveOn
}

func (s *State) caughtUp(seen Seen) bool {
	primary := s.Seen[s.Record.Primary].Executed
	return seen.Received.Seq+lagMax >= primary.Seq && seen.Applied.Seq+lagMax >= primary.Seq
}

// errDiverged is MariaDB's number for a replica that asks for a place that its primary does not have.
const errDiverged = 1236
