package ledger

import (
	"fmt"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// entryOf names the entry that an event leaves.
var entryOf = map[Event]string{
	EventConfirm: entryConfirmed, EventCancel: entryCancelled, EventExpire: entryExpired, EventReplace: entryCancelled,
}

func (s *state) confirm(o *ownerRow, op *confirmOp) shard.Reply {
	h, _ := s.find(o, op.Hold)
	if h == nil {
		return refuse(unknownHold())
	}
	switch {
	case len(op.Items) > 0 || op.Amount != Money{}:
		return s.confirmPart(o, h, op)
	case op.AllowLate && h.state == Expired && h.successor() == "":
		return s.confirmLate(o, h, op)
	}
	return s.decide(o, h, EventConfirm)
}

func (s *state) cancel(o *ownerRow, op *cancelOp) shard.Reply {
	h, foreign := s.find(o, op.Hold)
	switch {
	case foreign:
		return refuse(unknownHold())
	case h == nil:
		return s.bury(o, op)
	}
	return s.decide(o, h, EventCancel)
}

// decide ends a live hold on request.
func (s *state) decide(o *ownerRow, h *holdRow, e Event) shard.Reply {
	if _, ok := next(h.state, e); !ok {
		return refuse(s.stateRefusal(h))
	}
	t, err := s.takesOf(h)
	if err != nil {
		return internal(err)
	}
	s.settleAssets(o, t.currency)
	if err := s.end(o, h, e); err != nil {
		return internal(err)
	}
	return s.holdReply(o, h, t.currency, false)
}

// bury leaves a tombstone: a hold that was cancelled before it came (R10).
func (s *state) bury(o *ownerRow, op *cancelOp) shard.Reply {
	state, _ := next(None, EventCancel)
	h := &holdRow{
		bucket: o.bucket, id: op.tombstone, owner: o.name, orderID: op.Hold.OrderID, attempt: op.Hold.Attempt, state: state,
		createdAt: s.now, expiresAt: s.now, decidedAt: s.now,
	}
	s.addHold(h)
	s.changeHold(h)
	s.touch(o)
	return s.holdReply(o, h, "", false)
}

// end moves a live hold to its final state, and what it has with it: to USED and spent if it is confirmed, or else back to
// where it came from, or to EXPIRED if it has ended meanwhile (R11). It checks everything before it changes anything.
func (s *state) end(o *ownerRow, h *holdRow, e Event) error {
	t, err := s.takesOf(h)
	if err != nil {
		return err
	}
	if err := s.checkTakes(h, t); err != nil {
		return err
	}
	b := s.endTakes(s.openChanges(), t, e)
	s.decided(o, h, e)
	s.addEntry(o, entryOf[e], h.id, s.closeChanges(b))
	return nil
}

// decided moves a live hold to its final state. If some of it was confirmed before, that is CONFIRMED, whatever becomes of the rest (R8).
func (s *state) decided(o *ownerRow, h *holdRow, e Event) {
	edge := e
	switch {
	case e == EventConfirm && h.inPart():
		s.growWhole(h)
	case e != EventConfirm && h.inPart():
		edge = EventRelease
		s.grow(h, func(p *Progress) { p.Rest = restOf[e] })
	}
	h.state, _ = next(h.state, edge)
	h.decidedAt = s.now
	s.changeHold(h)
	o.holdEnded()
}

// endTakes moves assets out of a live hold, and notes the changes.
func (s *state) endTakes(b []byte, t *takes, e Event) []byte {
	for _, coupon := range t.coupons {
		c := s.coupons[coupon]
		s.changeCoupon(c)
		s.endCoupon(c, e)
		b = s.appendCouponChange(b, c, couponHeld)
	}
	for _, take := range t.lots {
		l := s.lots[take.id]
		before := l.LotCounters
		s.changeLot(l)
		s.endLot(l, take.amount, e)
		b = s.appendLotChange(b, l, &before)
	}
	return s.endQuotas(b, t.quotas, e)
}

// checkTakes compares what the document says with the assets: they must be loaded, and held at least as much.
func (s *state) checkTakes(h *holdRow, t *takes) error {
	for _, coupon := range t.coupons {
		if c := s.coupons[coupon]; c == nil || c.state != couponHeld || c.holdID != h.id {
			return fmt.Errorf("I3: hold %s has coupon %s, which does not know it", h.id, coupon)
		}
	}
	for _, take := range t.lots {
		if l := s.lots[take.id]; l == nil || l.Held < take.amount || l.owner.name != h.owner {
			return fmt.Errorf("I2: hold %s has %d of lot %s, which has less held", h.id, take.amount, take.id)
		}
	}
	return s.checkTaken(h, t.quotas)
}

// endCoupon takes a coupon out of its hold. It comes back when the hold ends, which for one that has expired was before now.
func (s *state) endCoupon(c *couponRow, e Event) {
	at := s.now
	if e == EventExpire {
		at = c.heldUntil
	}
	c.heldUntil = 0
	if e == EventConfirm {
		c.state = couponUsed
		return
	}
	c.holdID = id.ID{}
	c.state = couponAvailable
	c.returned(at)
	if c.expiresAt <= s.now {
		c.state = couponExpired
	}
}

// returned gives a coupon that has ended in a hold, or since it was used, the grace of its terms, once (R11): otherwise, whoever held it
// again whenever it ends would keep it for ever.
func (c *couponRow) returned(at int64) {
	if grace := c.terms.ReturnGraceMs; grace > 0 && c.expiresAt <= at {
		c.expiresAt, c.terms.ReturnGraceMs, c.extended = at+grace*1000, 0, true
	}
}

func (s *state) endLot(l *lotRow, amount int64, e Event) {
	l.Held -= amount
	switch {
	case e == EventConfirm:
		l.Spent += amount
	case l.expiresAt <= s.now:
		l.Expired += amount
	default:
		l.Available += amount
	}
}
