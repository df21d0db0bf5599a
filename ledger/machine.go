package ledger

import (
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Machine is the ledger's half of the committers of all shards.
type Machine struct {
	codec  *id.Codec
	crowds *crowds
}

// NewMachine returns a machine that writes ids with codec.
func NewMachine(codec *id.Codec) *Machine { return &Machine{codec, newCrowds(crowded)} }

// NewBatch starts the work on ops.
//
// That an order has no hold yet is nearly always true, so it is not looked up: the row in orders is inserted, and if that
// meets a duplicate key, the batch runs again and looks. A hold that is not made looks, too, before it is refused.
func (m *Machine) NewBatch(ops []*shard.Op, collided bool) shard.Batch {
	b := &batch{state: newState(m.codec, len(ops)), ops: ops, crowds: m.crowds}
	b.lookedUp = collided
	return b
}

// batch is one transaction of a shard: what it loads is in load.go, what it decides in apply*.go, what it writes in write.go.
type batch struct {
	*state
	ops    []*shard.Op
	listed []*ownerRow // owners of the operations, by bucket and name
	wanted []*holdRow  // live holds that will be decided or settled
	locked []string    // quotas whose slices are locked
	due    []*ownerRow // owners whose due_at has come: they may have expired holds

	crowds *crowds
	parts  int            // purses of which a part is loaded
	whole  map[purse]bool // purses of which a part is not enough
}

// Apply decides operation i.
func (b *batch) Apply(i int, now time.Time) shard.Reply { return b.apply(b.ops[i], now) }
