package ledger

import (
	"slices"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// A home is locked by the row in owners of its quota's id, like everything of an owner. Slices are locked by their own rows, after all
// owners and in the order of quotas; then the transfers that are to be closed. Batches without quotas have none of these statements.
var (
	homeLookup = shard.Lookup{
		Columns: "q.quota, q.currency, q.total, q.free, q.low_at, q.ver, g.shard, g.granted, g.out_seq, g.in_seq, g.ver, " +
			"t.bucket, t.transfer_id, t.kind, t.quota, t.shard, t.seq, t.amount, t.currency, t.created_at",
		From: "quotas q", Index: "PRIMARY", Keys: "q.bucket, q.quota",
		Joins: " LEFT JOIN grants g ON g.bucket=q.bucket AND g.quota=q.quota" +
			" LEFT JOIN transfers t ON t.quota=g.quota AND t.kind='" + transferGrant + "' AND t.shard=g.shard",
	}
	sliceLookup = shard.Lookup{
		Columns: "quota, shard, currency, granted, available, held, used, taken, since_at, taken_at, out_seq, in_seq, ver, " +
			"(SELECT i.expires_at FROM hold_items i WHERE i.quota=s.quota ORDER BY i.expires_at LIMIT 1)",
		From: "slices s", Index: "PRIMARY", Keys: "quota",
	}
	transferLookup = shard.Lookup{
		Columns: "bucket, transfer_id, kind, quota, shard, seq, amount, currency, created_at", From: "transfers",
	}

	transferByLink = by(transferLookup, "transfers_link", "quota, kind")
	transferByID   = by(transferLookup, "PRIMARY", "bucket, transfer_id")
)

// loadHomes reads the homes that operations name, with what they have granted to each shard and what is on its way there.
func (b *batch) loadHomes(p *shard.Packet) {
	q := keys(p, homeLookup, b.scanHome)
	for _, op := range b.ops {
		if quota := homeOf(op); quota != "" {
			q.row(op.Bucket).ASCII(quota)
		}
	}
}

// homeOf is the quota whose home an operation is about.
func homeOf(op *shard.Op) string {
	switch body := op.Body.(type) {
	case *setQuotaOp:
		return body.Quota
	case *adjustQuotaOp:
		return body.Quota
	case *borrowOp:
		return body.quota
	case *landOp:
		if body.kind == transferReturn {
			return body.quota
		}
	}
	return ""
}

// sliceOf is the quota whose slice an operation is about.
func sliceOf(op *shard.Op) string {
	switch body := op.Body.(type) {
	case *giveBackOp:
		return body.quota
	case *landOp:
		if body.kind == transferGrant {
			return body.quota
		}
	}
	return ""
}

// sliceRound is the first round in which slices may be locked. All of a batch should be locked in one round, for their order is that
// of all instances: what decided, changed and settled holds have is known in a later one. A batch of holds does not wait for that;
// if it then meets an expired hold, the lock may come out of order, and a deadlock runs one of two batches again.
func (b *batch) sliceRound() (round int) {
	for _, op := range b.ops {
		revoke, ok := op.Body.(*revokeOp)
		switch {
		case ok && b.revokesHeld(revoke):
			return 2
		case ok && revoke.IncludeHeld, decidedHold(op) != (HoldRef{}):
			round = 1
		}
	}
	if round > 0 && len(b.due) > 0 {
		return 2
	}
	return round
}

// loadSlices locks the slices that are needed and not locked yet, and then the transfers that are to be closed.
func (b *batch) loadSlices(p *shard.Packet, round int) {
	first := b.sliceRound()
	if round >= first {
		b.lockSlices(p)
	}
	if round == first {
		b.lockClosing(p)
	}
}

func (b *batch) lockSlices(p *shard.Packet) {
	quotas := b.sliceNames()
	if len(quotas) == 0 {
		return
	}
	p.Then()
	locked := p.SelectForUpdate(sliceLookup, b.scanSlice)
	for _, quota := range quotas {
		b.locked = append(b.locked, quota)
		locked.Row().ASCII(quota)
	}
	p.Then()
	b.loadReturns(p)
}

// sliceNames are the quotas whose slices are needed and not locked, in their order.
func (b *batch) sliceNames() (names []string) {
	add := func(quota string) {
		if quota != "" && !slices.Contains(b.locked, quota) {
			names = append(names, quota)
		}
	}
	for _, op := range b.ops {
		add(sliceOf(op))
		for _, need := range needsOf(op) {
			add(need.quota)
		}
	}
	for _, h := range b.wanted {
		for i := range h.takes.quotas {
			add(h.takes.quotas[i].quota)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// needsOf is what an operation takes of quotas.
func needsOf(op *shard.Op) []quotaTake {
	switch body := op.Body.(type) {
	case *claimOp:
		return body.needs
	case *issueOp:
		return body.needs
	}
	if hold := newHold(op); hold != nil {
		return hold.needs
	}
	return nil
}

// loadReturns reads what slices that are asked to give back have sent already.
func (b *batch) loadReturns(p *shard.Packet) {
	sent := keys(p, transferByLink, b.scanTransfer)
	for _, op := range b.ops {
		if body, ok := op.Body.(*giveBackOp); ok {
			sent.next().ASCII(body.quota).ASCII(transferReturn)
		}
	}
}

// lockClosing locks the transfers that are to be closed: two instances may close one at once.
func (b *batch) lockClosing(p *shard.Packet) {
	q := keys(p, transferByID, b.scanTransfer)
	q.lock = true
	for _, op := range b.ops {
		if body, ok := op.Body.(*closeOp); ok {
			q.row(op.Bucket).Binary(body.id[:])
		}
	}
}

// scanHome reads a home with one of its grants, or without any.
func (b *batch) scanHome(r *shard.Row) error {
	h := &homeRow{quota: r.Str(), currency: r.Str(), total: r.Int(), free: r.Int(), lowAt: r.Int(), ver: r.Int(), stored: true}
	h.owner = b.owners[h.quota]
	h = b.addHome(h)
	number := int(r.Int())
	if number == 0 {
		return nil
	}
	g := h.grant(number)
	g.granted, g.outSeq, g.inSeq, g.ver, g.stored = r.Int(), r.Int(), r.Int(), r.Int(), true
	if t := scannedTransfer(r); t.id != (id.ID{}) {
		g.out = b.addTransfer(t)
	}
	return nil
}

func (b *batch) scanSlice(r *shard.Row) error {
	row := &sliceRow{quota: r.Str(), shard: int(r.Int()), currency: r.Str(), granted: r.Int(), stored: true}
	row.sliceCounters = sliceCounters{Available: r.Int(), Held: r.Int(), Used: r.Int()}
	row.demand = demand{taken: r.Int(), sinceAt: r.Int()}
	row.takenAt, row.outSeq, row.inSeq, row.ver, row.dueAt = r.Int(), r.Int(), r.Int(), r.Int(), r.Int()
	b.addSlice(row)
	return nil
}

func (b *batch) scanTransfer(r *shard.Row) error {
	t := b.addTransfer(scannedTransfer(r))
	if s := b.slices[t.quota]; s != nil && t.kind == transferReturn {
		s.out = t
	}
	return nil
}

func scannedTransfer(r *shard.Row) *transferRow {
	return &transferRow{stored: true, transfer: transfer{
		bucket: bucketIn(r), id: r.Array16(), kind: r.Str(), quota: r.Str(), shard: int(r.Int()), seq: r.Int(), amount: r.Int(),
		currency: r.Str(), createdAt: r.Int(),
	}}
}
