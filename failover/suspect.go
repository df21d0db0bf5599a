package failover

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// The thresholds of F0, each with its reason.
const (
	probeEvery   = 50 * time.Millisecond
	probeTimeout = 100 * time.Millisecond
	calmEvery    = 100 * time.Millisecond // while nothing is wrong with the shard
	beatEvery    = 500 * time.Millisecond // the primary's clock row; what tells that it lives are the heartbeats of replication
	answerAgeMax = 350 * time.Millisecond // a node whose newest answer is older is not judged by it
	hangAfter    = 300 * time.Millisecond // without an answer, and without anything received: three beats, six probes
	missesMin    = 3
	stallAfter   = 2 * time.Second // an acknowledgement that a replica can still give comes in milliseconds
	refusedMin   = 2               // one refusal may be a full backlog, unless an instance has met another

	// Of Slave_IO_Running. What is neither tries to connect: nothing arrives, but its relay log is in use.
	ioRunning = "Yes"
	ioStopped = "No"
)

// suspicion says why the primary must be taken for lost, or "" if it need not be. Silence towards this controller alone
// proves nothing: as long as a replica receives, the primary lives and the partition is ours.
func (s *State) suspicion() string {
	r := &s.Record
	seen := s.Seen[r.Primary]
	switch {
	case s.Dead[r.PrimaryStart]:
		return "the agent says that the process has ended"
	case s.fresh(r.Primary) && seen.StartID != r.PrimaryStart:
		return fmt.Sprintf("it was restarted: start id %s, the record has %s", seen.StartID, r.PrimaryStart)
	case s.refuses() && s.anyMember(func(n string) bool { return s.fresh(n) && s.Seen[n].IORunning != ioRunning }):
		return fmt.Sprintf("it refused %d connections and a replica has lost it", seen.Refused)
	case seen.Refused >= refusedMin && len(r.InSync) == 0 && s.Now.Sub(seen.FailingAt) >= dropAfter:
		return fmt.Sprintf("it refused %d connections and is alone: it has to be started again", seen.Refused)
	case s.hangs(seen):
		return fmt.Sprintf("%d probes got no answer and no replica received anything for %s", seen.Misses, hangAfter)
	case s.stalls(seen):
		return fmt.Sprintf("commits wait for an acknowledgement that was lost, as a replica has had everything for %s", stallAfter)
	}
	return ""
}

// stalls says that commits of the primary wait for ever. A replica whose connection ends after it has received a transaction and before
// its acknowledgement has arrived asks for what comes next when it is back, and acknowledges only that; but nothing comes next, because
// all other commits wait behind that one. The replica has it, so a failover finds it done. One that was paused has just come back, and is
// about to acknowledge, so it must have answered for as long.
func (s *State) stalls(seen Seen) bool {
	return s.answers(s.Record.Primary, s.Record.PrimaryStart) && !seen.StallsAt.IsZero() && s.Now.Sub(seen.StallsAt) >= stallAfter &&
		s.anyMember(func(n string) bool { return s.isReady(n) && s.Now.Sub(s.Seen[n].AnswersAt) >= stallAfter })
}

// refuses says that the primary refuses connections, and not only one that may have found its backlog full.
func (s *State) refuses() bool {
	refused := s.Seen[s.Record.Primary].Refused
	return refused >= refusedMin || refused > 0 && s.Suspected
}

func (s *State) hangs(seen Seen) bool {
	return seen.Misses >= missesMin && !seen.FailingAt.IsZero() && s.Now.Sub(seen.FailingAt) >= hangAfter &&
		s.anyMember(s.fresh) && !s.anyMember(func(n string) bool { return s.receives(n, hangAfter) })
}

// anyMember says whether f holds for a member of the in-sync set.
func (s *State) anyMember(f func(node string) bool) bool {
	return slices.ContainsFunc(slices.Sorted(maps.Keys(s.Record.InSync)), f)
}
