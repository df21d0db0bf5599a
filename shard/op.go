package shard

import (
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Op is one operation of one owner. The committer reads everything but Body, which is the domain's.
type Op struct {
	Owner       string
	Bucket      Bucket
	Key         string // idempotency key, unique for the owner; empty: background work that is safe to repeat
	Fingerprint []byte // tells whether a repeat of the key is the same request; at most MaxFingerprint bytes
	Kind        string // name for metrics and logs, e.g. "hold"
	Client      string // whose request it is, for fairness between clients
	Body        any
	Dry         bool // only find out what the reply would be; see [lane.rehearse]

	span trace.Span // of the request; nil: not traced
}

// MaxFingerprint is the room for a fingerprint in the operations table.
const MaxFingerprint = 255

// Verdict is what the operations table says of a key.
type Verdict uint8

// The verdicts. NotRecorded is that of a reply which left no trace: the operation changed nothing and its key is unused.
const (
	NotRecorded Verdict = iota
	Done
	Refused // by a rule; final, and so recorded
	Aborted // the tombstone of an undecided operation that did not happen; the key may be used again by the same request
	Sealed  // burned by its owner; nothing may use the key any more
)

var verdictNames = [...]string{"NOT_RECORDED", "DONE", "REFUSED", "ABORTED", "SEALED"}

// String returns the verdict as it is stored.
func (v Verdict) String() string { return verdictNames[v] }

func parseVerdict(s string) Verdict {
	for v, name := range verdictNames {
		if name == s {
			return Verdict(v)
		}
	}
	return NotRecorded
}

// Reply is the answer to an operation.
type Reply struct {
	Verdict  Verdict
	Body     []byte // what the domain answered, byte for byte the same on every replay
	Replayed bool   // the key was decided before
	Err      error  // why nothing was recorded; nil for a recorded verdict
	Quote    Quote  // what of Body need not be stored again
}

// SealOp is the Body of the operation that burns its key if nothing has used it yet, or else answers what did (R25).
type SealOp struct{}

// Machine is the domain's half of the committer.
type Machine interface {
	// NewBatch starts the work on ops, which share one transaction. A batch that is run again is started anew; collided
	// says that an earlier run of it may have met a duplicate key or has ended in ErrLookUp, so whatever was taken for new must
	// be looked up now.
	NewBatch(ops []*Op, collided bool) Batch
}

// Batch is the domain's view of one transaction. Its methods are called in order, by one goroutine.
type Batch interface {
	// Load adds the queries that the operations need, with the locking ones first and in a fixed order of tables and
	// keys. It is called again with the next round, after the rows were scanned, until it adds nothing; round 0
	// travels with BEGIN and the fences, and most batches should need no other.
	Load(p *Packet, round int)
	// Apply decides operation i at now over the loaded rows and those that earlier operations changed. It has no IO, no
	// clock and no randomness. It is not called for operations that are replayed or fenced off.
	Apply(i int, now time.Time) Reply
	// Write adds the statements that make durable what Apply changed.
	Write(p *Packet)
}
