package shard

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RecordPrefix is where the register keeps the records of the shards: shards/1 and so on. Only the leading controller
// writes them.
const RecordPrefix = "shards/"

// RecordKey returns the key of a shard's record.
func RecordKey(shard int) string { return RecordPrefix + strconv.Itoa(shard) }

// Phase is what the controller is doing with a shard.
type Phase string

// The phases. Only a serving shard takes writes; in the others requests wait a moment or are refused.
const (
	PhaseServing   Phase = "SERVING"
	PhaseFencing   Phase = "FENCING"   // the old primary is being deprived of its acknowledgements
	PhasePromoting Phase = "PROMOTING" // the new primary is chosen and is catching up
)

// Record is what an instance needs to know of a shard's record. The controller keeps more in the same value; it embeds
// Record and adds its fields, which DecodeRecord ignores.
type Record struct {
	Epoch   uint64          `json:"epoch"` // the fencing token: one more with each failover, from 1
	Phase   Phase           `json:"phase"`
	Primary string          `json:"primary"` // name of the primary's node; while fencing still the old one's
	Nodes   map[string]Node `json:"nodes"`
	Planned bool            `json:"planned,omitempty"` // while fencing: the primary lives, so batches that are under way may end
	Slow    time.Time       `json:"slow,omitzero"`     // since when a replica has fallen behind, so batches should be few and large
}

// Node is a database of a shard.
type Node struct {
	Address string `json:"address"` // host:port, or the path of the file when embedded
}

// Validate reports what makes the record useless for routing.
func (r *Record) Validate() error {
	switch r.Phase {
	case PhaseServing, PhaseFencing, PhasePromoting:
	default:
		return fmt.Errorf("shard record: unknown phase %q", r.Phase)
	}
	if r.Epoch == 0 {
		return fmt.Errorf("shard record: it has no epoch")
	}
	if _, ok := r.Nodes[r.Primary]; !ok {
		nodes := strings.Join(slices.Sorted(maps.Keys(r.Nodes)), ", ")
		return fmt.Errorf("shard record: primary %q is not among its nodes (%s)", r.Primary, nodes)
	}
	for name, node := range r.Nodes {
		if name == "" || node.Address == "" {
			return fmt.Errorf("shard record: node %q at %q", name, node.Address)
		}
	}
	return nil
}

// DecodeRecord reads a record as the register holds it. Unlike DecodeMap it ignores fields that it does not know: they are
// the controller's.
func DecodeRecord(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("shard record: %w", err)
	}
	if err := r.Validate(); err != nil {
		return Record{}, err
	}
	return r, nil
}

// Encode returns the record as the register holds it, or an error if it is not valid.
func (r *Record) Encode() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}
