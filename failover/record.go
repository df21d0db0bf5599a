package failover

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/statesvc/statesvc/shard"
)

// Record is what the register keeps of a shard, whole. Instances read the part that is shard.Record; the rest is the
// controller's. Only the leading controller writes it, by compare-and-set under its guard.
type Record struct {
	shard.Record

	Run          string             `json:"run,omitempty"`           // random: how an attempt knows its own writes
	PrimaryStart string             `json:"primary_start,omitempty"` // start id under which the primary was opened
	InSync       map[string]string  `json:"in_sync,omitempty"`       // node → start id: may acknowledge, has everything, may be elected
	Joining      map[string]string  `json:"joining,omitempty"`       // node → start id: may acknowledge, so must be heard; may not be elected
	NoTx         uint64             `json:"no_tx,omitempty"`         // the primary's count of unacknowledged commits when it was opened
	Floor        GTID               `json:"floor_gtid,omitzero"`     // nobody who has less is ever promoted
	Boot         map[string]Boot    `json:"boot,omitempty"`          // orders to agents beyond what follows from the record
	Rebuilds     map[string]Rebuild `json:"rebuilds,omitempty"`      // by node: the newest one
	Stuck        string             `json:"stuck,omitempty"`         // what a failover waits for, for people
	Suspended    string             `json:"suspended,omitempty"`     // why there is no automatic failover; empty: there is
	External     bool               `json:"external,omitempty"`      // another tool fails the shard over; controllers leave it alone
	Fencing      Fencing            `json:"fencing,omitzero"`        // with External, while FENCING
}

// Boot is the role in which an agent starts its database.
type Boot string

// The roles, as mariadbd's init-rpl-role has them. A database that recovers as a replica throws away the end of its binary
// log that no replica has acknowledged; one that recovers as a primary commits it.
const (
	BootNone    Boot = ""
	BootPrimary Boot = "MASTER"
	BootReplica Boot = "SLAVE"
	BootRebuild Boot = "REBUILD" // no start before its data are replaced, see Rebuild
)

// BootOf says how the agent of a node may start its database now, or BootNone: not yet. While it is open who will be elected, the old
// primary and the possible ackers are what it is about, so all wait for its end or for an order. After that nothing depends
// on what a process that has ended had received, for the candidate has everything.
func (r *Record) BootOf(node string) Boot {
	if one := r.Rebuilds[node]; one.Running() {
		return BootRebuild
	}
	if order, ordered := r.Boot[node]; ordered {
		return order
	}
	if r.Phase != shard.PhaseFencing && node != r.Primary {
		return BootReplica
	}
	return BootNone
}

// heard are the nodes that may have acknowledged something: all of them have to be asked before anybody is elected.
func (r *Record) heard() map[string]string {
	all := maps.Clone(r.InSync)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, r.Joining)
	return all
}

// names lists the nodes of the shard in order.
func (r *Record) names() []string { return slices.Sorted(maps.Keys(r.Nodes)) }

// Clone returns a copy that shares nothing.
func (r *Record) Clone() Record {
	c := *r
	c.Nodes = maps.Clone(r.Nodes)
	c.InSync, c.Joining, c.Boot, c.Rebuilds = maps.Clone(r.InSync), maps.Clone(r.Joining), maps.Clone(r.Boot), maps.Clone(r.Rebuilds)
	return c
}

// Encode returns the record as the register holds it, or an error if it is not valid.
func (r *Record) Encode() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// DecodeRecord reads a whole record.
func DecodeRecord(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("shard record: %w", err)
	}
	return r, r.Validate()
}
