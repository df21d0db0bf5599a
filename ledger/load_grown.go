package ledger

import (
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// What refunds and revocations need beside what the other operations load. A batch without any adds no statement here.

var refundByRef = shard.Lookup{
	Columns: "owner, refund_ref, refund_id, hold_id, request_hash, refunded_at, doc", From: "refunds", Index: "PRIMARY",
	Keys: "bucket, owner, refund_ref",
}

func (b *batch) loadRefunds(p *shard.Packet) {
	q := keys(p, refundByRef, b.scanRefund)
	for _, op := range b.ops {
		if refund, ok := op.Body.(*refundOp); ok {
			q.row(op.Bucket).ASCII(op.Owner).ASCII(refund.RefundRef)
		}
	}
}

func (b *batch) scanRefund(r *shard.Row) error {
	b.addRefund(&refundRow{
		owner: b.owners[r.Str()], ref: r.Str(), id: r.Array16(), holdID: r.Array16(), hash: r.Array16(), at: r.Int(), doc: r.Bytes(),
		stored: true,
	})
	return nil
}

// loadRefunded reads what the holds have had that are refunded. Spent money may be of lots that are not live any more, so they are
// read by id.
func (b *batch) loadRefunded(p *shard.Packet) {
	var had []had
	for _, op := range b.ops {
		if refund, ok := op.Body.(*refundOp); ok {
			h, _ := b.find(b.owners[op.Owner], refund.Hold)
			had = appendHad(had, h)
		}
	}
	coupons := keys(p, couponByID, b.scanCoupon)
	for _, of := range had {
		for _, coupon := range of.takes.coupons {
			coupons.row(of.bucket).ASCII(of.owner).Binary(coupon[:])
		}
	}
	lots := keys(p, lotByID, b.scanGrace)
	for _, of := range had {
		for _, take := range of.takes.lots {
			lots.row(of.bucket).ASCII(of.owner).Binary(take.id[:])
		}
	}
	live := keys(p, liveLots, b.scanLot)
	for _, of := range had {
		if of.takes.currency != "" {
			b.wantLots(live, b.owners[of.owner], of.takes.currency)
		}
	}
}

// had is everything that a hold has ever had, confirmed or not.
type had struct {
	bucket shard.Bucket
	owner  string
	takes  takes
}

// appendHad leaves a hold whose document cannot be read to apply, which complains.
func appendHad(all []had, h *holdRow) []had {
	if h == nil {
		return all
	}
	of := had{bucket: h.bucket, owner: h.owner}
	if len(h.doc) == 0 || of.takes.read(h.doc) != nil {
		return all
	}
	if h.progress != nil && h.progress.OverCaptured != nil {
		for _, lot := range h.progress.OverCaptured.Lots {
			if parsed, err := id.ParseOwn(id.Lot, lot.LotID); err == nil {
				of.takes.addLot(lotTake{parsed, lot.Confirmed})
			}
		}
	}
	return append(all, of)
}

// loadHolders reads the live holds that a revocation will cancel: of a coupon the one that has it, of a lot all of the owner's, for
// nothing else tells which have some of it. What they have comes in the next round.
func (b *batch) loadHolders(p *shard.Packet) {
	byID := keys(p, liveByID, b.scanExpired)
	for _, op := range b.ops {
		if revoke, ok := op.Body.(*revokeOp); ok && revoke.IncludeHeld {
			if holder := b.holderOf(revoke.Coupon); holder != (id.ID{}) {
				byID.row(op.Bucket).Binary(holder[:])
			}
		}
	}
	ofOwner := liveByID
	ofOwner.Index, ofOwner.Keys = "holds_owner", "h.bucket, h.owner"
	all := keys(p, ofOwner, b.scanExpired)
	for _, op := range b.ops {
		if revoke, ok := op.Body.(*revokeOp); ok && revoke.IncludeHeld && b.lots[revoke.Lot] != nil {
			all.row(op.Bucket).ASCII(op.Owner)
		}
	}
	lots := keys(p, liveLots, b.scanLot)
	for _, op := range b.ops {
		if revoke, ok := op.Body.(*revokeOp); ok && b.lots[revoke.Lot] != nil {
			b.wantLots(lots, b.owners[op.Owner], b.lots[revoke.Lot].currency)
		}
	}
}

// holderOf is the hold that has a coupon; zero if none has, or the coupon was not loaded.
func (b *batch) holderOf(coupon id.ID) id.ID {
	if c := b.coupons[coupon]; c != nil && c.state == couponHeld {
		return c.holdID
	}
	return id.ID{}
}

// revokesHeld says that loadHolders reads holds for a revocation.
func (b *batch) revokesHeld(op *revokeOp) bool {
	return op.IncludeHeld && (b.holderOf(op.Coupon) != (id.ID{}) || b.lots[op.Lot] != nil)
}
