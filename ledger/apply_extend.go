package ledger

import (
	"errors"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// extend gives a hold a later expiry, never an earlier one (R12).
func (s *state) extend(o *ownerRow, op *extendOp) shard.Reply {
	h, _ := s.find(o, op.Hold)
	if h == nil {
		return refuse(unknownHold())
	}
	return s.expireLater(o, h, op.TTL, h.createdAt+MaxHoldTTL.Microseconds(), func() {})
}

// pin is an extension that is bounded by the first pin of the hold, and that shows in the report of pinned holds.
func (s *state) pin(o *ownerRow, op *pinOp) shard.Reply {
	h, _ := s.find(o, op.Hold)
	if h == nil {
		return refuse(unknownHold())
	}
	first := s.now
	if h.progress != nil && !h.progress.PinnedAt.IsZero() {
		first = h.progress.PinnedAt.UnixMicro()
	}
	return s.expireLater(o, h, op.TTL, first+MaxPin.Microseconds(), func() {
		s.grow(h, func(p *Progress) { p.PinnedAt = instant(first) })
	})
}

// expireLater lets a hold live for ttl from now, if that is not after limit. The coupons that it has know until when they are held.
func (s *state) expireLater(o *ownerRow, h *holdRow, ttl time.Duration, limit int64, also func()) shard.Reply {
	if _, ok := next(h.state, EventExtend); !ok {
		return refuse(s.stateRefusal(h))
	}
	expiresAt := s.now + ttl.Microseconds()
	if expiresAt > limit {
		r := refusal(ErrLimitReached, "/ttl_ms", "the hold may live until "+instant(limit).Format(time.RFC3339Nano))
		asked, have := ttl.Milliseconds(), max(0, (limit-s.now)/1000)
		r.Asked, r.Have = &asked, &have
		return refuse(r)
	}
	t, err := s.takesOf(h)
	if err != nil {
		return internal(err)
	}
	if err := s.checkTakes(h, t); err != nil {
		return internal(err)
	}
	s.settleAssets(o, t.currency)
	also()
	h.expiresAt = max(h.expiresAt, expiresAt)
	for _, c := range s.couponsOf(t) {
		s.changeCoupon(c)
		c.heldUntil = h.expiresAt
	}
	s.changeHold(h)
	s.touch(o)
	return s.holdReply(o, h, t.currency, false)
}

// replace makes a hold in the place of an older one of the same order (R14). What the old hold has is free for the new one; if the new
// one cannot be made, the old one stays as it is.
func (s *state) replace(o *ownerRow, op *replaceOp) shard.Reply {
	r := s.tryReplace(o, op)
	if r.Verdict != shard.Done && !s.lookedUp && !errors.Is(r.Err, shard.ErrInternal) {
		return shard.Reply{Err: shard.ErrLookUp} // its order may have the new hold already
	}
	return r
}

func (s *state) tryReplace(o *ownerRow, op *replaceOp) shard.Reply {
	if h, _ := s.known(o, &op.holdOp); h != nil && (h.state == Held || h.state == Confirmed) {
		s.settleAssets(o, op.moneyCurrency())
		return s.existing(o, &op.holdOp, h)
	}
	old, _ := s.find(o, op.old)
	if old == nil {
		return refuse(unknownHold())
	}
	if _, ok := next(old.state, EventReplace); !ok {
		return refuse(s.stateRefusal(old))
	}
	if old.orderID != op.OrderID {
		return shard.Reply{Err: invalid("/order_id", "must be that of the hold that is replaced")}
	}
	t, err := s.takesOf(old)
	if err != nil {
		return internal(err)
	}
	if err := s.checkTakes(old, t); err != nil {
		return internal(err)
	}
	s.settleAssets(o, t.currency)
	if r, ok := s.planWith(o, op, t); !ok {
		return r
	}
	if err := s.end(o, old, EventReplace); err != nil {
		return internal(err)
	}
	s.grow(old, func(p *Progress) { p.SupersededBy = s.codec.Text(id.Hold, op.id) })
	return s.take(o, &op.holdOp, &Progress{Supersedes: s.codec.Text(id.Hold, old.id)})
}

// planWith plans the new hold as if what t has were free already, and leaves the assets as they were.
func (s *state) planWith(o *ownerRow, op *replaceOp, t *takes) (r shard.Reply, ok bool) {
	lots := make([]LotCounters, len(t.lots))
	for i, take := range t.lots {
		lots[i] = s.lots[take.id].LotCounters
		s.endLot(s.lots[take.id], take.amount, EventReplace)
	}
	coupons := make([]couponRow, len(t.coupons))
	for i, c := range s.couponsOf(t) {
		coupons[i] = *c
		s.endCoupon(c, EventReplace)
	}
	s.freeQuotas(t.quotas, 1)
	r, ok = s.planHold(o, &op.holdOp)
	s.freeQuotas(t.quotas, -1)
	for i, take := range t.lots {
		s.lots[take.id].LotCounters = lots[i]
	}
	for i, c := range s.couponsOf(t) {
		*c = coupons[i]
	}
	return r, ok
}
