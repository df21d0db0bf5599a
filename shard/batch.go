package shard

import (
	"bytes"
	"slices"
	"time"
)

// opKey names a row of operations within a batch.
type opKey struct{ owner, key string }

// operation is a row of operations, loaded or about to be written.
type operation struct {
	fingerprint []byte
	verdict     Verdict
	reply       []byte
	quote       Quote
	decidedAt   int64 // of the stored row
	stored      bool  // the row is in the table
	bucket      Bucket
	key         opKey
}

// transaction is one attempt at one batch: what it loaded, what it decided.
type transaction struct {
	d        *Dialect
	clock    string
	tick     string // SQL that writes the time of the batch down; empty: none
	epoch    uint64 // of the route; the fence row must agree
	now      time.Time
	calls    []*call
	domain   Batch
	collided bool            // see Machine.NewBatch
	serving  map[Bucket]bool // the buckets that this shard serves
	seen     map[opKey]*operation
	written  []*operation
	replies  []Reply
	fence    uint64 // the shard's epoch; 0: it serves no bucket of the batch
}

func newTransaction(d *Dialect, clock, tick string, epoch uint64, calls []*call, m Machine, collided bool) *transaction {
	ops := make([]*Op, len(calls))
	for i, c := range calls {
		ops[i] = c.op
	}
	return &transaction{
		d: d, clock: clock, tick: tick, epoch: epoch, calls: calls, domain: m.NewBatch(ops, collided), collided: collided,
		serving: make(map[Bucket]bool, len(calls)),
		seen:    make(map[opKey]*operation, len(calls)),
		replies: make([]Reply, len(calls)),
	}
}

// load is round trip 1. Its order is the order of locks on every instance: the buckets' owners (shared), then what the
// domain locks (the owners' rows, exclusively). operations is read after the owners' rows are locked: under READ
// COMMITTED the plain read then sees every decision that an earlier holder of those locks has committed.
//
// That a key is new is nearly always true, so it is not looked up at first: if it is not, the INSERT of its row meets a
// duplicate key, and the batch runs again and looks. A reply that would insert no row is given only after a look (decideOne).
func (t *transaction) load(p *Packet) {
	p.clock = t.clock
	p.exec(t.d.begin)
	p.Then()
	t.loadFences(p)
	p.Then()
	t.domain.Load(p, 0)
	if t.collided {
		t.loadOperations(p)
	}
}

// loadFences reads the fence and the buckets, and locks both against changes until the transaction ends: whoever raises the epoch
// or takes a bucket away waits for the batches that have seen the old state, and all later ones see the new.
func (t *transaction) loadFences(p *Packet) {
	buckets := make([]Bucket, len(t.calls))
	for i, c := range t.calls {
		buckets[i] = c.op.Bucket
	}
	fences := fenceLookup
	fences.Columns += ", " + t.d.setNow + t.d.greatest + "(f.floor_at," + t.clock + ")" + t.d.resetCount
	p.lockFences(fences, buckets, t.scanFences)
}

// lockFences reads the fence with each of the buckets that is served, in their order.
func (p *Packet) lockFences(fences Lookup, buckets []Bucket, scan func(*Row) error) {
	slices.Sort(buckets)
	v := p.selectShared(fences, scan)
	for _, b := range slices.Compact(buckets) {
		v.Row().Bucket(b)
	}
}

func (t *transaction) scanFences(r *Row) error {
	t.serving[Bucket(r.Int())] = true
	t.fence = uint64(r.Int())
	t.now = time.UnixMicro(r.Int()).UTC()
	return nil
}

// fenceLookup finds those of the buckets that this shard serves, each with the shard's epoch.
var fenceLookup = Lookup{
	Columns: "b.bucket, f.epoch", From: "bucket_owner b", Index: "PRIMARY", Keys: "b.bucket", Joins: " JOIN fence f ON f.id=1",
	Where: "b.state='SERVING'",
}

func (t *transaction) loadOperations(p *Packet) {
	var v Values
	for _, c := range t.calls {
		if c.op.Key == "" {
			continue
		}
		if v.p == nil {
			v = p.Select(operationLookup, t.scanOperation)
		}
		v.Row().Bucket(c.op.Bucket).ASCII(c.op.Owner).ASCII(c.op.Key)
	}
}

func (t *transaction) scanOperation(r *Row) error {
	o := scanOperation(r)
	t.seen[o.key] = o
	return nil
}

// decide gives every operation its reply. An operation sees what the ones before it in the batch have done.
func (t *transaction) decide() {
	for i, c := range t.calls {
		t.replies[i] = t.decideOne(i, c.op)
	}
}

func (t *transaction) decideOne(i int, op *Op) Reply {
	if !t.serving[op.Bucket] {
		return Reply{Err: ErrStaleRoute}
	}
	if op.Key == "" {
		return t.domain.Apply(i, t.now)
	}
	o := t.seen[opKey{op.Owner, op.Key}]
	if o != nil && !o.aborted(op) {
		return replay(o, op)
	}
	r := Reply{Verdict: Sealed}
	if _, seal := op.Body.(SealOp); !seal {
		r = t.domain.Apply(i, t.now)
	}
	switch {
	case r.Verdict != NotRecorded:
		t.record(o, op, r)
	case !t.collided:
		return Reply{Err: ErrLookUp} // the key may have an answer already, and that one counts
	}
	return r
}

// aborted reports whether the key holds nothing but a tombstone that op may take over: that of the same request, or, for a
// seal, that of any request.
func (o *operation) aborted(op *Op) bool {
	_, seal := op.Body.(SealOp)
	return o.verdict == Aborted && (seal || bytes.Equal(o.fingerprint, op.Fingerprint))
}

// replay answers a key that was decided before. A seal takes any request's answer; every other repeat must be the same
// request.
func replay(o *operation, op *Op) Reply {
	if _, seal := op.Body.(SealOp); seal {
		return Reply{Verdict: o.verdict, Body: o.reply, Replayed: true}
	}
	if o.verdict == Sealed {
		return Reply{Err: &KeyReusedError{Sealed: true}}
	}
	if !bytes.Equal(o.fingerprint, op.Fingerprint) {
		return Reply{Err: &KeyReusedError{Stored: o.fingerprint, Sent: op.Fingerprint}}
	}
	return Reply{Verdict: o.verdict, Body: o.reply, Replayed: true}
}

func (t *transaction) record(o *operation, op *Op, r Reply) {
	if o == nil {
		o = &operation{bucket: op.Bucket, key: opKey{op.Owner, op.Key}}
		t.seen[o.key] = o
	}
	o.fingerprint, o.verdict, o.reply, o.quote = op.Fingerprint, r.Verdict, r.Body, r.Quote
	t.written = append(t.written, o)
}

// write is round trip 2. It returns false if there is nothing to make durable.
func (t *transaction) write(p *Packet) bool {
	t.domain.Write(p)
	t.writeOperations(p)
	if p.Empty() {
		return false
	}
	if t.tick != "" {
		p.exec(t.tick)
	}
	return true
}

func (t *transaction) writeOperations(p *Packet) {
	t.takeOver(p)
	var v Values
	for _, o := range t.written {
		if v.p == nil {
			v = p.Insert("operations", "bucket, owner, op_key, fingerprint, verdict, epoch, decided_at, order_id, attempt, quote_at, reply")
		}
		t.outcome(v.Row().Bucket(o.bucket).ASCII(o.key.owner).ASCII(o.key.key).Binary(o.fingerprint), o)
	}
}

// takeOver removes the tombstones of earlier attempts whose keys are used again, as they were loaded. One that was renewed since stays,
// because this attempt was declared aborted itself; the INSERT of its row then meets a duplicate key.
func (t *transaction) takeOver(p *Packet) {
	var v Values
	for _, o := range t.written {
		if !o.stored {
			continue
		}
		if v.p == nil {
			v = p.deleteIfThere("operations", "bucket, owner, op_key, decided_at")
		}
		v.Row().Bucket(o.bucket).ASCII(o.key.owner).ASCII(o.key.key).Int(o.decidedAt)
	}
	if v.p != nil {
		p.Then()
	}
}

// outcome adds the columns from verdict on.
func (t *transaction) outcome(v Values, o *operation) {
	decidedAt := t.now.UnixMicro()
	if o.stored {
		decidedAt = max(decidedAt, o.decidedAt+1) // never that of the tombstone it has taken over
	}
	v.ASCII(o.verdict.String()).Int(int64(t.epoch)).Int(decidedAt)
	if q := o.quote; q.Len > 0 {
		v.ASCII(q.Order).Int(int64(q.Attempt)).Int(int64(q.At)).Binary(cut(o.reply, q))
		return
	}
	v.Null().Null().Null().Binary(o.reply)
}
