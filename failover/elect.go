package failover

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// election is what F4 says.
type election struct {
	candidate string
	position  GTID   // the candidate applies everything up to here before it is promoted
	waits     string // why there is no candidate yet; for people
}

// election is the choice that this run has made, or would make now.
func (s *State) election() election {
	if s.Run.Chosen.candidate != "" {
		return s.Run.Chosen
	}
	return s.elect()
}

// elect names the node that has everything that was acknowledged. It is the one that has received most of all possible
// ackers, each of which must have been heard under the start id that the record has: one that was restarted may have lost what it had
// acknowledged. The old primary, started again by order, has everything by itself.
func (s *State) elect() election {
	if again, ok := s.oldPrimary(); ok {
		return s.above(election{candidate: s.Record.Primary, position: again.Executed})
	}
	if missing := s.unheard(); len(missing) > 0 && !s.floorSuffices() {
		return election{waits: "not heard under the start id of the record: " + strings.Join(missing, ", ")}
	}
	if s.booting() {
		return election{waits: "the old primary was told to start, and would have another history than anybody else who is chosen"}
	}
	best := election{waits: "nobody is in sync"}
	heard := slices.Sorted(maps.Keys(s.Record.heard()))
	for _, node := range heard {
		fenced, ok := s.Run.Fenced[node]
		if !ok || fenced.StartID != s.Record.heard()[node] {
			continue // the floor suffices without it
		}
		if _, joining := s.Record.Joining[node]; joining && fenced.IOErrno == errDiverged {
			continue // the primary did not let it in, so it has acknowledged nothing
		}
		if position := fenced.position(); best.position.diverged(position) {
			return election{waits: fmt.Sprintf("split history: %s and %s at the same place", best.position, position)}
		} else if position.Compare(best.position) > 0 {
			best.position = position
		}
	}
	for _, node := range heard {
		if s.electable(node, best.position) && (best.candidate == "" || s.readier(node, best.candidate)) {
			best.candidate, best.waits = node, ""
		}
	}
	if best.candidate == "" {
		best.waits = fmt.Sprintf("nobody who may be elected has %s and can apply it", best.position)
		return best
	}
	return s.above(best)
}

// position is what a node has of the shard's history, applied or not.
func (f Fenced) position() GTID {
	if f.Executed.Compare(f.Received) > 0 {
		return f.Executed
	}
	return f.Received
}

// unheard are the possible ackers that have not promised, or not under the start id that the record has.
func (s *State) unheard() []string {
	var missing []string
	for node, startID := range s.Record.heard() {
		if fenced, ok := s.Run.Fenced[node]; !ok || fenced.StartID != startID || !fenced.IOStopped {
			missing = append(missing, node)
		}
	}
	slices.Sort(missing)
	return missing
}

// floorSuffices says that the candidate need not be the best of all. While a floor stands, nothing was acknowledged to a client
// since it was set: whoever has the floor has everything, and a sibling that never comes back need not be waited for. A candidate
// that is still in the set must be heard all the same, for it may take writes already.
func (s *State) floorSuffices() bool {
	return s.Record.Floor != (GTID{}) && s.waited() >= stuckAfter && !slices.Contains(s.unheard(), s.Record.Primary)
}

// electable says that a node has everything up to the position and can be made to apply it. One that was lost after it had been
// heard, or whose appliers have stopped since, still counts for the position, but it would be waited for in vain.
func (s *State) electable(node string, position GTID) bool {
	fenced, heard := s.Run.Fenced[node]
	startID, member := s.Record.InSync[node]
	seen := s.Seen[node]
	applies := fenced.SQLRunning && (!s.fresh(node) || !seen.cannotApply())
	ready := applies || fenced.Executed.Compare(position) >= 0 || s.Run.Drained[node].Compare(position) >= 0
	return heard && member && fenced.StartID == startID && ready && fenced.position().Compare(position) >= 0 && s.lost(node, startID) == ""
}

// readier breaks ties: whose clock is right, then who has less left to apply, and before others the candidate of the failover that is
// taken over, which may be open already. What counts is the binary log, for a candidate's own commits do not show in what it has applied.
func (s *State) readier(a, b string) bool {
	if s.skewed(a) != s.skewed(b) {
		return s.skewed(b)
	}
	if order := s.Run.Fenced[a].Executed.Compare(s.Run.Fenced[b].Executed); order != 0 {
		return order > 0
	}
	return a == s.Record.Primary
}

// skewed says that a node's clock differs from the controller's by so much that validity and expiry would jump. No promise depends on it:
// a shard's time never goes back. If the controller's own clock is the wrong one, all nodes are skewed and none is worse.
func (s *State) skewed(node string) bool {
	return s.fresh(node) && s.Seen[node].ClockOffset.Abs() > skewMax
}

// above refuses a candidate below the floor: somebody was chosen before who had more, and may have acknowledged it.
func (s *State) above(e election) election {
	if e.position.Compare(s.Record.Floor) < 0 {
		return election{waits: fmt.Sprintf("%s has %s, below the floor %s", e.candidate, e.position, s.Record.Floor)}
	}
	return e
}

// booting says that the old primary was told to start as one, and has had little time for it. What nobody has acknowledged becomes a part
// of its history then, so it has to be made anew if somebody else is chosen.
func (s *State) booting() bool {
	return s.Record.Boot[s.Record.Primary] == BootPrimary && s.waited() < bootPatience
}

// oldPrimary is the old primary, if it was started again as one by our order. It has everything that was ever acknowledged,
// and could not acknowledge anything since.
func (s *State) oldPrimary() (Fenced, bool) {
	fenced, ok := s.Run.Fenced[s.Record.Primary]
	ordered := s.Record.Boot[s.Record.Primary] == BootPrimary
	return fenced, ok && ordered && fenced.ReadOnly && fenced.StartID != s.Record.PrimaryStart
}
