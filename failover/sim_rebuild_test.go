package failover

import (
	"slices"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// mayWipe has some shards lose a disk while all else goes wrong.
func (s *sim) mayWipe() {
	if s.disks.IntN(3) == 0 {
		at := time.Duration(100+s.disks.IntN(2800)) * time.Millisecond
		s.after(at, func() { s.wipe(s.nodes[s.disks.IntN(3)]) })
	}
}

// wipe takes the disk of a replica: what its acknowledgements were worth is with the primary.
func (s *sim) wipe(n *simNode) {
	if len(s.record.InSync) < 2 || n.name == s.record.Primary || s.record.Phase != shard.PhaseServing || !s.node(s.record.Primary).up {
		return
	}
	s.trace("%s loses its data", n.startID())
	s.dirty = true
	s.crash(n)
	n.log, n.engine, n.promise, n.unfit = nil, 0, promise{}, true
}

// oneLost says that a machine of the shard is lost already, disk included. A second one that goes without a word is one too many.
func (s *sim) oneLost() bool {
	return slices.ContainsFunc(s.nodes, func(n *simNode) bool { return n.unfit })
}

// hosts is what the agents have said last. One that does not reach the register says what it said before.
func (s *sim) hosts() map[string]Host {
	for _, n := range s.nodes {
		if s.cut[n.name+" register"] {
			continue
		}
		h := Host{Backup: n.name, Rebuild: n.rebuilt}
		if n.up {
			h.StartID = n.startID()
		}
		if n.unfit {
			h.Unfit = "it has no data"
		}
		s.said[n.name] = h
	}
	return s.said
}

// copyData is what an agent does that is ordered to rebuild its node. It may be interrupted, and then begins anew; and it may be done just
// after the order was taken back.
func (s *sim) copyData(n *simNode) {
	one, record := s.record.Rebuilds[n.name], s.record.Clone()
	again := func(d time.Duration) { s.after(d, func() { s.reboot(n) }) }
	if n.rebuilt.ID == one.ID {
		again(50 * time.Millisecond)
		return
	}
	s.after(s.between(50, 1500), func() {
		donor := s.node(one.Donor)
		late := s.chance(50)
		switch ordered := s.record.Rebuilds[n.name]; {
		case ordered.ID != one.ID || !ordered.Running() && !late:
			s.trace("the rebuild of %s is interrupted", n.name)
		case s.faulty():
			s.trace("the agent of %s is killed while it rebuilds", n.name)
		case !donor.up || donor.paused || s.cut[pair(n.name, donor.name)] || s.cut[donor.name+" register"]:
			n.rebuilt = HostRebuild{ID: one.ID, Error: "the donor is gone"}
		default:
			s.trace("%s is rebuilt from %s: %s", n.name, donor.name, place(donor.log[:donor.engine]))
			n.log, n.engine = slices.Clone(donor.log[:donor.engine]), donor.engine
			n.promise, n.unfit = promise{epoch: record.Epoch}, false
			n.rebuilt = HostRebuild{ID: one.ID, Done: true}
			s.dirty = true
		}
		again(s.between(1, 50))
	})
}

// checkRebuilds: who is being rebuilt can acknowledge nothing, and there is one at most. Who has the old data, or none, is no donor.
func (s *sim) checkRebuilds(r *Record) {
	running := 0
	for name, one := range r.Rebuilds {
		if !one.Running() {
			continue
		}
		running++
		_, possible := r.heard()[name]
		if possible || name == r.Primary || one.Donor == name || r.Phase != shard.PhaseServing || running > 1 {
			s.fail("H11: %s is rebuilt from %s in %+v", name, one.Donor, r)
		}
		if before := s.record.Rebuilds[name]; before.Running() {
			continue
		}
		if donor := s.node(one.Donor); len(donor.log) < s.node(name).engine {
			s.fail("H11: %s with %s is rebuilt from %s, which has %s", name, place(s.node(name).log), one.Donor, place(donor.log))
		}
	}
}
