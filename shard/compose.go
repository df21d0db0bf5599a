package shard

import "time"

// Domain is a machine for some of the operations.
type Domain interface {
	Machine
	// Owns reports whether an operation is the domain's.
	Owns(op *Op) bool
}

// Compose returns a machine that gives each operation to the first of the domains that owns it, and what nobody owns to base. They share
// lanes, transactions and round trips; in a transaction the rows of base are locked before those of the domains, in their order. A batch
// of a single domain is run by that domain itself, as if there were no other.
func Compose(base Machine, domains ...Domain) Machine { return &composed{base, domains} }

type composed struct {
	base    Machine
	domains []Domain
}

// owner is the domain of an operation: its index plus one, 0 for base.
func (m *composed) owner(op *Op) int {
	for i, d := range m.domains {
		if d.Owns(op) {
			return i + 1
		}
	}
	return 0
}

func (m *composed) machine(owner int) Machine {
	if owner == 0 {
		return m.base
	}
	return m.domains[owner-1]
}

// NewBatch starts the work on ops.
func (m *composed) NewBatch(ops []*Op, collided bool) Batch {
	first := m.owner(ops[0])
	for _, op := range ops[1:] {
		if m.owner(op) != first {
			return m.mixed(ops, collided)
		}
	}
	return m.machine(first).NewBatch(ops, collided)
}

// mixed is a batch with operations of several domains.
type mixed struct {
	parts  []Batch // in the order of locking
	places []place // of the operations
}

// place is where an operation of a mixed batch is: in which part, and its number there.
type place struct {
	part Batch
	i    int
}

func (m *composed) mixed(ops []*Op, collided bool) Batch {
	owned := make([][]*Op, len(m.domains)+1)
	owners := make([]int, len(ops))
	for i, op := range ops {
		owners[i] = m.owner(op)
		owned[owners[i]] = append(owned[owners[i]], op)
	}
	parts := make([]Batch, len(owned))
	b := &mixed{places: make([]place, len(ops))}
	for owner, theirs := range owned {
		if len(theirs) > 0 {
			parts[owner] = m.machine(owner).NewBatch(theirs, collided)
			b.parts = append(b.parts, parts[owner])
		}
	}
	next := make([]int, len(owned))
	for i, owner := range owners {
		b.places[i] = place{parts[owner], next[owner]}
		next[owner]++
	}
	return b
}

// Load adds the queries of all parts. A part that needs no more rounds adds nothing.
func (b *mixed) Load(p *Packet, round int) {
	for _, part := range b.parts {
		part.Load(p, round)
		if !p.Empty() {
			p.Then()
		}
	}
}

// Apply decides operation i.
func (b *mixed) Apply(i int, now time.Time) Reply { return b.places[i].part.Apply(b.places[i].i, now) }

// Write adds the changes of all parts.
func (b *mixed) Write(p *Packet) {
	for _, part := range b.parts {
		part.Write(p)
	}
}
