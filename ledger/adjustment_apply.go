package ledger

import (
	"encoding/json"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// The states of adjustments. A proposal whose time is over is EXPIRED whether or not anything has written that down.
const (
	adjustmentProposed = "PROPOSED"
	adjustmentDone     = "DONE"
	adjustmentRejected = "REJECTED"
	adjustmentExpired  = "EXPIRED"
)

// adjustmentSource is the source of lots that adjustments have made.
const adjustmentSource = "adjustment"

// adjust does what it is asked for, or only writes it down if a second key has to approve it. What could not be done is not proposed
// either.
func (s *state) adjust(o *ownerRow, op *adjustOp) shard.Reply {
	if a := s.adjustmentRefs[creditRef{o.name, op.AdjustmentRef}]; a != nil {
		if a.delta != op.Delta || a.currency != op.Currency || a.lotUntil != lotUntil(op) {
			return reused("adjustment_ref")
		}
		s.settleAssets(o, a.currency)
		return s.adjustmentReply(a, true)
	}
	a := &adjustmentRow{
		owner: o, id: op.id, ref: op.AdjustmentRef, state: adjustmentDone, currency: op.Currency, delta: op.Delta, lotUntil: lotUntil(op),
		proposedAt: s.now, decidedAt: s.now, notes: adjustmentNotes{Reason: op.Reason, ProposedBy: op.by},
	}
	s.settleAssets(o, a.currency)
	shares, reply, ok := s.planAdjustment(a)
	if !ok {
		return reply
	}
	if op.proposed {
		a.state, a.decidedAt, a.endsAt = adjustmentProposed, 0, s.now+ProposalTTL.Microseconds()
		s.addAdjustment(a)
		s.noteAdjustment(a, entryAdjustmentProposed, op.Reason)
		return s.adjustmentReply(a, false)
	}
	s.addAdjustment(a)
	s.carryOut(a, shares, op.lotID)
	return s.adjustmentReply(a, false)
}

func lotUntil(op *adjustOp) int64 {
	if op.ExpiresAt.IsZero() {
		return 0
	}
	return op.ExpiresAt.UnixMicro()
}

// decideAdjustment ends a proposal. An approval that cannot be carried out leaves it as it is.
func (s *state) decideAdjustment(o *ownerRow, op *decideAdjustmentOp) shard.Reply {
	a := s.adjustments[op.AdjustmentID]
	if a == nil || a.owner != o {
		return refuse(refusal(ErrNotFound, "adjustment_id", "the owner has no such adjustment"))
	}
	s.settleAssets(o, a.currency)
	if state := a.stateAt(s.now); state != adjustmentProposed {
		return refuse(refusal(ErrAlreadyDecided, "adjustment_id", "the adjustment is "+state))
	}
	if !op.Approve {
		s.conclude(a, adjustmentRejected, op)
		s.noteAdjustment(a, entryAdjustmentRejected, op.Reason)
		return s.adjustmentReply(a, false)
	}
	if op.by.KeyID == a.notes.ProposedBy.KeyID {
		return refuse(refusal(ErrForbidden, "", "the key that has proposed an adjustment does not approve it"))
	}
	shares, reply, ok := s.planAdjustment(a)
	if !ok {
		return reply
	}
	s.conclude(a, adjustmentDone, op)
	s.carryOut(a, shares, op.lotID)
	return s.adjustmentReply(a, false)
}

func (s *state) conclude(a *adjustmentRow, state string, op *decideAdjustmentOp) {
	s.changeAdjustment(a)
	a.state, a.decidedAt = state, s.now
	a.notes.DecidedBy, a.notes.Decision = &op.by, op.Reason
}

// endAdjustment writes down that the time of a proposal is over.
func (s *state) endAdjustment(op *endAdjustmentOp) shard.Reply {
	a := s.adjustments[op.id]
	if a == nil || a.state != adjustmentProposed || a.stateAt(s.now) != adjustmentExpired {
		return unchanged()
	}
	s.changeAdjustment(a)
	a.state, a.decidedAt = adjustmentExpired, a.endsAt
	s.noteAdjustment(a, entryAdjustmentExpired, "")
	return moved()
}

// planAdjustment finds the money that an adjustment takes, or says why it cannot be done. It changes nothing.
func (s *state) planAdjustment(a *adjustmentRow) (shares []planShare, reply shard.Reply, ok bool) {
	if a.delta < 0 {
		shares, have := payFrom(a.owner, Money{-a.delta, a.currency}, s.now)
		if have < -a.delta {
			return nil, refuse(insufficient("/delta", -a.delta, have, "the owner has less available")), false
		}
		return shares, reply, true
	}
	if a.lotUntil <= s.now {
		return nil, refuse(pastExpiry(instant(a.lotUntil))), false
	}
	if b := s.balance(a.owner, a.currency); b.Available+b.Held > MaxAmount-a.delta {
		return nil, shard.Reply{Err: invalid("/delta", "makes the owner's money more than 9007199254740991")}, false
	}
	return nil, reply, true
}

// carryOut gives the money as a lot of its own, or takes away what was planned.
func (s *state) carryOut(a *adjustmentRow, shares []planShare, lotID id.ID) {
	b := s.openEntry(a.head(s.codec, a.notes.Reason))
	if a.delta > 0 {
		l := &lotRow{
			owner: a.owner, id: lotID, issueRef: adjustmentLot(s.codec, a.id), source: adjustmentSource, currency: a.currency,
			issued: a.delta, LotCounters: LotCounters{Available: a.delta}, expiresAt: a.lotUntil, issuedAt: s.now,
		}
		s.addCredit(l)
		s.changeLot(l)
		b = s.appendLotChange(b, l, nil)
	}
	for _, share := range shares {
		before := share.lot.LotCounters
		s.changeLot(share.lot)
		share.lot.Available -= share.amount
		share.lot.Revoked += share.amount
		b = s.appendLotChange(b, share.lot, &before)
	}
	s.addEntry(a.owner, entryAdjusted, id.ID{}, s.closeChanges(b))
}

// adjustmentLot is the reference of the lot that an adjustment has made. Callers cannot make such references, because of the #.
func adjustmentLot(codec *id.Codec, adjustment id.ID) string {
	return codec.Text(id.Adjustment, adjustment) + "#lot"
}

// noteAdjustment adds an entry of a step that moves nothing.
func (s *state) noteAdjustment(a *adjustmentRow, kind, reason string) {
	s.addEntry(a.owner, kind, id.ID{}, s.closeChanges(s.openEntry(a.head(s.codec, reason))))
}

// head is what entries say of an adjustment: all that somebody has to answer for.
func (a *adjustmentRow) head(codec *id.Codec, reason string) entryHead {
	return entryHead{Reason: reason, Adjustment: &EntryAdjustment{
		AdjustmentID: codec.Text(id.Adjustment, a.id), AdjustmentRef: a.ref, Delta: a.delta, Currency: a.currency,
		ProposedBy: a.notes.ProposedBy, DecidedBy: a.notes.DecidedBy,
	}}
}

func (s *state) adjustmentReply(a *adjustmentRow, exists bool) shard.Reply {
	text, err := json.Marshal(AdjustmentReply{
		Adjustment: a.body(s.codec, s.now), Balances: []Balance{s.balance(a.owner, a.currency)}, Version: a.owner.ver, AlreadyExists: exists,
	})
	if err != nil {
		return internal(err)
	}
	return done(text)
}

// AdjustmentBody is a change of an owner's money by hand, proposed or decided.
type AdjustmentBody struct {
	AdjustmentID  string `json:"adjustment_id"`
	Owner         string `json:"owner"`
	AdjustmentRef string `json:"adjustment_ref"`
	State         string `json:"state"` // PROPOSED, DONE, REJECTED, EXPIRED
	Delta         int64  `json:"delta"` // minor units
	Currency      string `json:"currency"`

	ExpiresAt  time.Time `json:"expires_at,omitzero"` // of the money that is given
	Reason     string    `json:"reason"`
	ProposedBy KeyName   `json:"proposed_by"`
	ProposedAt time.Time `json:"proposed_at"`
	ApproveBy  time.Time `json:"approve_by,omitzero"` // when a proposal ends that nobody decides
	DecidedBy  *KeyName  `json:"decided_by,omitempty"`
	DecidedAt  time.Time `json:"decided_at,omitzero"`
	Decision   string    `json:"decision,omitempty"` // the reason of who has decided
}

// KeyName names an API key, as it was called when it was used.
type KeyName struct {
	KeyID string `json:"key_id"`
	Name  string `json:"name,omitempty"`
}

// AdjustmentReply answers an adjustment and its decision.
type AdjustmentReply struct {
	Adjustment    AdjustmentBody `json:"adjustment"`
	Balances      []Balance      `json:"balances"` // in the currency of the adjustment
	Version       int64          `json:"version"`
	AlreadyExists bool           `json:"already_exists,omitempty"` // another key has made this adjustment before
}

// EntryAdjustment is what an entry says of an adjustment.
type EntryAdjustment struct {
	AdjustmentID  string   `json:"adjustment_id"`
	AdjustmentRef string   `json:"adjustment_ref"`
	Delta         int64    `json:"delta"`
	Currency      string   `json:"currency"`
	ProposedBy    KeyName  `json:"proposed_by"`
	DecidedBy     *KeyName `json:"decided_by,omitempty"`
}
