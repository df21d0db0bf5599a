package ledger

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// freeze lets an owner make no new holds, or ends that. What is so already stays so, without an entry.
func (s *state) freeze(o *ownerRow, op *freezeOp) shard.Reply {
	if o.frozen != op.Frozen {
		o.frozen, o.refrozen = op.Frozen, true
		kind := entryUnfrozen
		if op.Frozen {
			kind = entryFrozen
		}
		s.addEntry(o, kind, id.ID{}, s.closeChanges(s.openEntry(entryHead{Reason: op.Reason})))
	}
	text, err := json.Marshal(FreezeReply{Owner: o.name, Frozen: o.frozen, Version: o.ver})
	if err != nil {
		return internal(err)
	}
	return done(text)
}

// FreezeReply answers a freeze and its end.
type FreezeReply struct {
	Owner   string `json:"owner"`
	Frozen  bool   `json:"frozen"`
	Version int64  `json:"version"`
}

func (s *state) revoke(o *ownerRow, op *revokeOp) shard.Reply {
	if op.Coupon != (id.ID{}) {
		return s.revokeCoupon(o, op)
	}
	return s.revokeLot(o, op)
}

// revokeCoupon takes a coupon away. One that is held is taken only if the request says so; its hold is cancelled then.
func (s *state) revokeCoupon(o *ownerRow, op *revokeOp) shard.Reply {
	c := s.coupons[op.Coupon]
	if c == nil || c.owner != o {
		return refuse(refusal(ErrNotFound, "coupon_id", "the owner has no such coupon"))
	}
	s.settleAssets(o, "", c)
	switch {
	case c.state == couponHeld && !op.IncludeHeld:
		r := refusal(ErrHeldByOther, "/include_held", "a hold has the coupon")
		r.RetryAt, r.HoldID = instant(c.heldUntil), s.codec.Text(id.Hold, c.holdID)
		return refuse(r)
	case c.state == couponUsed:
		return refuse(refusal(ErrSpent, "coupon_id", "the coupon is USED"))
	case c.state != couponAvailable && c.state != couponHeld:
		return refuse(refusal(ErrAssetExpired, "coupon_id", "the coupon is "+c.state))
	}
	if c.state == couponHeld {
		h := s.holds[c.holdID]
		if h == nil {
			return internal(fmt.Errorf("I3: coupon %s is held by %s, which is not live", c.id, c.holdID))
		}
		if err := s.end(o, h, EventCancel); err != nil {
			return internal(err)
		}
	}
	before := c.state
	if before == couponAvailable { // the hold may have given it back as EXPIRED
		s.changeCoupon(c)
		c.state = couponRevoked
		b := s.appendCouponChange(s.openEntry(entryHead{Reason: op.Reason}), c, before)
		s.addEntry(o, entryRevoked, id.ID{}, s.closeChanges(b))
	}
	return done(s.couponReply(c, false))
}

// revokeLot takes away what a lot has available, and with include_held what live holds have of it.
func (s *state) revokeLot(o *ownerRow, op *revokeOp) shard.Reply {
	l := s.lots[op.Lot]
	if l == nil || l.owner != o {
		return refuse(refusal(ErrNotFound, "lot_id", "the owner has no such lot"))
	}
	s.settleAssets(o, l.currency)
	switch {
	case l.live() && l.expiresAt <= s.now:
		return refuse(refusal(ErrAssetExpired, "lot_id", "the lot has ended; what is held of it will not come back"))
	case l.Available == 0 && (!op.IncludeHeld || l.Held == 0):
		return refuse(insufficient("lot_id", 1, 0, "nothing of the lot is available"))
	case op.IncludeHeld:
		if err := s.cancelHolders(o, l); err != nil {
			return internal(err)
		}
	}
	before := l.LotCounters
	s.changeLot(l)
	l.Revoked += l.Available
	l.Available = 0
	b := s.appendLotChange(s.openEntry(entryHead{Reason: op.Reason}), l, &before)
	s.addEntry(o, entryRevoked, id.ID{}, s.closeChanges(b))
	return done(s.lotReply(l, false))
}

// cancelHolders cancels the live holds that have some of a lot, in the order in which they were made.
func (s *state) cancelHolders(o *ownerRow, l *lotRow) error {
	live := slices.DeleteFunc(slices.Clone(o.live), func(h *holdRow) bool { return h.state != Held })
	slices.SortFunc(live, func(a, b *holdRow) int { return compareIDs(a.id, b.id) })
	for _, h := range live {
		t, err := s.takesOf(h)
		if err != nil {
			return err
		}
		for _, take := range t.lots {
			if take.id == l.id {
				if err := s.end(o, h, EventCancel); err != nil {
					return err
				}
				break
			}
		}
	}
	return nil
}
