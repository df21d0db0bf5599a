package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// adjustmentRow is a row of adjustments. The owner's row is its lock.
type adjustmentRow struct {
	owner      *ownerRow
	id         id.ID
	ref        string
	state      string
	currency   string
	delta      int64
	lotUntil   int64 // when the money ends that is given; 0: some is taken
	proposedAt int64
	endsAt     int64 // when a proposal ends; 0: it was none
	decidedAt  int64 // 0: it is proposed
	notes      adjustmentNotes

	stored, dirty bool
}

// adjustmentNotes is what only people read of an adjustment, but for who has proposed it.
type adjustmentNotes struct {
	Reason     string   `json:"reason"`
	ProposedBy KeyName  `json:"proposed_by"`
	DecidedBy  *KeyName `json:"decided_by,omitempty"`
	Decision   string   `json:"decision,omitempty"`
}

// adjustmentRows is the part of a state that adjustments need.
type adjustmentRows struct {
	adjustments        map[id.ID]*adjustmentRow // nil without any
	adjustmentRefs     map[creditRef]*adjustmentRow
	changedAdjustments []*adjustmentRow
}

// addAdjustment makes a loaded or a new adjustment known. A new one will be written.
func (s *state) addAdjustment(a *adjustmentRow) {
	if s.adjustments[a.id] != nil {
		return
	}
	if s.adjustments == nil {
		s.adjustments, s.adjustmentRefs = map[id.ID]*adjustmentRow{}, map[creditRef]*adjustmentRow{}
	}
	s.adjustments[a.id], s.adjustmentRefs[creditRef{a.owner.name, a.ref}] = a, a
	if !a.stored {
		s.changeAdjustment(a)
	}
}

func (s *state) changeAdjustment(a *adjustmentRow) {
	if !a.dirty {
		a.dirty = true
		s.changedAdjustments = append(s.changedAdjustments, a)
	}
}

// stateAt is the state as it is at an instant.
func (a *adjustmentRow) stateAt(now int64) string {
	if a.state == adjustmentProposed && a.endsAt <= now {
		return adjustmentExpired
	}
	return a.state
}

func (a *adjustmentRow) body(codec *id.Codec, now int64) AdjustmentBody {
	b := AdjustmentBody{
		AdjustmentID: codec.Text(id.Adjustment, a.id), Owner: a.owner.name, AdjustmentRef: a.ref, State: a.stateAt(now), Delta: a.delta,
		Currency: a.currency, Reason: a.notes.Reason, ProposedBy: a.notes.ProposedBy, ProposedAt: instant(a.proposedAt),
		DecidedBy: a.notes.DecidedBy, Decision: a.notes.Decision,
	}
	if a.lotUntil != 0 {
		b.ExpiresAt = instant(a.lotUntil)
	}
	if a.endsAt != 0 {
		b.ApproveBy = instant(a.endsAt)
	}
	switch {
	case a.decidedAt != 0:
		b.DecidedAt = instant(a.decidedAt)
	case b.State == adjustmentExpired:
		b.DecidedAt = b.ApproveBy
	}
	return b
}

// Adjustments are read by the two keys that operations know. Batches without any have none of these statements.
var (
	adjustmentLookup = shard.Lookup{
		Columns: "owner, adjustment_id, adjustment_ref, state, currency, delta, lot_until, proposed_at, ends_at, decided_at, notes",
		From:    "adjustments",
	}
	adjustmentByID  = by(adjustmentLookup, "PRIMARY", "bucket, owner, adjustment_id")
	adjustmentByRef = by(adjustmentLookup, "adjustments_ref", "bucket, owner, adjustment_ref")
)

func (b *batch) loadAdjustments(p *shard.Packet) {
	byRef := keys(p, adjustmentByRef, b.scanAdjustment)
	for _, op := range b.ops {
		if body, ok := op.Body.(*adjustOp); ok {
			byRef.row(op.Bucket).ASCII(op.Owner).ASCII(body.AdjustmentRef)
		}
	}
	byID := keys(p, adjustmentByID, b.scanAdjustment)
	for _, op := range b.ops {
		switch body := op.Body.(type) {
		case *decideAdjustmentOp:
			byID.row(op.Bucket).ASCII(op.Owner).Binary(body.AdjustmentID[:])
		case *endAdjustmentOp:
			byID.row(op.Bucket).ASCII(op.Owner).Binary(body.id[:])
		}
	}
}

func (b *batch) scanAdjustment(r *shard.Row) error {
	a := &adjustmentRow{owner: b.owners[r.Str()], id: r.Array16(), ref: r.Str(), state: r.Str(), currency: r.Str(), stored: true}
	a.delta, a.lotUntil, a.proposedAt, a.endsAt, a.decidedAt = r.Int(), r.Int(), r.Int(), r.Int(), r.Int()
	if err := json.Unmarshal(r.Bytes(), &a.notes); err != nil {
		return fmt.Errorf("decode the notes of adjustment %s: %w", a.id, err)
	}
	b.addAdjustment(a)
	return nil
}

// loadAdjusted reads the money that a decision may move: only the adjustment says in which currency.
func (b *batch) loadAdjusted(p *shard.Packet) {
	live := keys(p, liveLots, b.scanLot)
	for _, op := range b.ops {
		if body, ok := op.Body.(*decideAdjustmentOp); ok && b.adjustments[body.AdjustmentID] != nil {
			b.wantLots(live, b.owners[op.Owner], b.adjustments[body.AdjustmentID].currency)
		}
	}
}

// writeAdjustments adds the changed rows. Batches without adjustments have none.
func (b *batch) writeAdjustments(p *shard.Packet) {
	changed := b.changedAdjustments
	slices.SortFunc(changed, func(x, y *adjustmentRow) int { return cmp.Or(x.owner.compare(y.owner), compareIDs(x.id, y.id)) })
	const decision = "state, decided_at, decided_by, notes"
	added := rows{open: func() shard.Values {
		return p.Insert("adjustments", "bucket, owner, adjustment_id, adjustment_ref, currency, delta, lot_until, proposed_by, proposed_at, "+
			"ends_at, "+decision)
	}}
	for _, a := range changed {
		if !a.stored {
			v := a.key(added.row()).ASCII(a.ref).ASCII(a.currency).Int(a.delta).Int(a.lotUntil)
			b.decision(v.ASCII(a.notes.ProposedBy.KeyID).Int(a.proposedAt).Int(a.endsAt), a)
		}
	}
	updated := rows{open: func() shard.Values { return p.Update("adjustments", "bucket, owner, adjustment_id", decision) }}
	for _, a := range changed {
		if a.stored {
			b.decision(a.key(updated.row()), a)
		}
	}
}

func (a *adjustmentRow) key(v shard.Values) shard.Values {
	return v.Bucket(a.owner.bucket).ASCII(a.owner.name).Binary(a.id[:])
}

func (b *batch) decision(v shard.Values, a *adjustmentRow) {
	decidedBy := ""
	if a.notes.DecidedBy != nil {
		decidedBy = a.notes.DecidedBy.KeyID
	}
	notes, _ := json.Marshal(a.notes) // texts cannot fail
	v.ASCII(a.state).Int(a.decidedAt).ASCII(decidedBy).Binary(notes)
}

// adjustmentRecord is a row of adjustments as gorm reads it.
type adjustmentRecord struct {
	Bucket        shard.Bucket
	Owner         string
	AdjustmentID  []byte
	AdjustmentRef string
	State         string
	Currency      string
	Delta         int64
	LotUntil      int64
	ProposedAt    int64
	EndsAt        int64
	DecidedAt     int64
	Notes         []byte
}

// TableName is how gorm learns the table.
func (*adjustmentRecord) TableName() string { return "adjustments" }

func (r *adjustmentRecord) key() id.ID { return toID(r.AdjustmentID) }

func (r *adjustmentRecord) body(codec *id.Codec, at time.Time) (AdjustmentBody, error) {
	row := adjustmentRow{
		owner: &ownerRow{name: r.Owner}, id: r.key(), ref: r.AdjustmentRef, state: r.State, currency: r.Currency, delta: r.Delta,
		lotUntil: r.LotUntil, proposedAt: r.ProposedAt, endsAt: r.EndsAt, decidedAt: r.DecidedAt,
	}
	if err := json.Unmarshal(r.Notes, &row.notes); err != nil {
		return AdjustmentBody{}, fmt.Errorf("decode the notes of adjustment %s: %w", row.id, err)
	}
	return row.body(codec, at.UnixMicro()), nil
}

func (l *Ledger) adjustmentBodies(records []adjustmentRecord, at time.Time) ([]AdjustmentBody, error) {
	bodies := make([]AdjustmentBody, len(records))
	for i := range records {
		var err error
		if bodies[i], err = records[i].body(l.cfg.Codec, at); err != nil {
			return nil, err
		}
	}
	return bodies, nil
}

// Adjustment shows an adjustment. It returns ErrNotFound if there is none.
func (l *Ledger) Adjustment(ctx context.Context, adjustment id.ID) (body AdjustmentBody, err error) {
	err = l.read(ctx, shard.Bucket(adjustment.Bucket()), func(tx *gorm.DB, at time.Time) error {
		var record adjustmentRecord
		err := first(tx.Where("bucket = ? AND adjustment_id = ?", adjustment.Bucket(), adjustment[:]), &record)
		if err != nil {
			return err
		}
		body, err = record.body(l.cfg.Codec, at)
		return err
	})
	if err != nil {
		return AdjustmentBody{}, fmt.Errorf("read adjustment %s: %w", adjustment, err)
	}
	return body, nil
}

// Adjustments lists the adjustments of an owner, the oldest first.
func (l *Ledger) Adjustments(ctx context.Context, owner string, after id.ID, limit int) (page Page[AdjustmentBody], err error) {
	err = l.readOwner(ctx, owner, limit, func(q query) error {
		records, next, err := list(q, "adjustment_id", after, (*adjustmentRecord).key)
		if err != nil {
			return err
		}
		page.Next = next
		page.Items, err = l.adjustmentBodies(records, q.at)
		return err
	})
	if err != nil {
		return page, fmt.Errorf("list adjustments of %s: %w", owner, err)
	}
	return page, nil
}

// Proposals lists the adjustments of all owners that wait for a second key, by their ids. Each shard is asked at an instant of its own.
func (l *Ledger) Proposals(ctx context.Context, after id.ID, limit int) (page Page[AdjustmentBody], err error) {
	if limit, err = pageSize(limit); err != nil {
		return page, err
	}
	var found []proposal
	for _, number := range l.cfg.Store.Shards() {
		some, err := l.proposalsOn(ctx, number, after, limit+1)
		if err != nil {
			return page, fmt.Errorf("list the proposals of shard %d: %w", number, err)
		}
		found = append(found, some...)
	}
	slices.SortFunc(found, func(a, b proposal) int { return compareIDs(a.id, b.id) })
	if len(found) > limit {
		found = found[:limit]
		page.Next = found[limit-1].id
	}
	page.Items = make([]AdjustmentBody, len(found))
	for i := range found {
		page.Items[i] = found[i].body
	}
	return page, nil
}

type proposal struct {
	id   id.ID
	body AdjustmentBody
}

func (l *Ledger) proposalsOn(ctx context.Context, number int, after id.ID, limit int) (some []proposal, err error) {
	door, ok := l.cfg.Store.BucketOn(number)
	if !ok {
		return nil, nil
	}
	err = l.read(ctx, door, func(tx *gorm.DB, at time.Time) error {
		some = nil
		var records []adjustmentRecord
		open := tx.Where("state = ? AND ends_at > ? AND adjustment_id > ?", adjustmentProposed, at.UnixMicro(), after[:])
		if err := open.Order("adjustment_id").Limit(limit).Find(&records).Error; err != nil {
			return err
		}
		bodies, err := l.adjustmentBodies(records, at)
		for i := range bodies {
			some = append(some, proposal{records[i].key(), bodies[i]})
		}
		return err
	})
	return some, err
}

// overdueProposalsSQL reads an index in the order of its keys. It takes no locks.
const overdueProposalsSQL = "SELECT owner, adjustment_id FROM adjustments WHERE state = ? AND ends_at <= ? ORDER BY ends_at LIMIT ?"

// TendAdjustments writes down which proposals of a shard have ended without a decision. It is for a sweeper.
func (l *Ledger) TendAdjustments(ctx context.Context, number int) error {
	door, err := l.broker.door(number)
	if err != nil {
		return err
	}
	var left []adjustmentRecord
	err = l.cfg.Store.Read(ctx, door, func(tx *gorm.DB, now time.Time) error {
		left = nil
		return tx.Raw(overdueProposalsSQL, adjustmentProposed, now.UnixMicro(), finishBatch).Scan(&left).Error
	})
	for i := range left {
		err = errors.Join(err, l.broker.submit(ctx, &shard.Op{
			Owner: left[i].Owner, Bucket: shard.BucketOf(left[i].Owner), Kind: kindEndAdjustment, Body: &endAdjustmentOp{left[i].key()},
		}))
	}
	if err != nil {
		return fmt.Errorf("tend the adjustments of shard %d: %w", number, err)
	}
	return nil
}
