package ledger

import (
	"fmt"
	"strconv"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// confirmPart spends a part of what a hold has (R17). The hold stays HELD until nothing is left, or until the rest is released: by
// final, by a cancel, or by its expiry.
func (s *state) confirmPart(o *ownerRow, h *holdRow, op *confirmOp) shard.Reply {
	if _, ok := next(h.state, EventConfirmPart); !ok {
		return refuse(s.stateRefusal(h))
	}
	c, err := s.contentOf(h)
	if err != nil {
		return internal(err)
	}
	amount, over := c.over(op.Amount)
	want, wrong := c.portions(op.Items, amount, c.held)
	if wrong != nil {
		return *wrong
	}
	t := new(takes)
	for i, amount := range want {
		if amount == 0 {
			continue
		}
		if err := t.move(&c.body.Items[i], amount, c.confirm(i, amount)); err != nil {
			return internal(err)
		}
	}
	s.settleAssets(o, c.currency())
	if err := s.checkTakes(h, t); err != nil {
		return internal(err)
	}
	beyond, refused := s.planOver(o, c, op.Amount.Amount, over)
	if refused != nil {
		return refuse(refused)
	}
	return s.confirmMoved(o, h, c, spending{t, beyond, op.Final})
}

// spending is what a part spends.
type spending struct {
	held   *takes
	beyond *takes // lots that are free
	final  bool
}

// confirmMoved spends what m has. What is left is given back if this was the final part.
func (s *state) confirmMoved(o *ownerRow, h *holdRow, c *content, m spending) shard.Reply {
	b := s.endTakes(s.openChanges(), m.held, EventConfirm)
	b = s.spendFree(b, h, m.beyond)
	c.overCapture(s.codec, m.beyond)
	s.grow(h, c.note)
	rest, err := s.takesOf(h)
	if err != nil {
		return internal(err)
	}
	h.quotas = rest.quotas
	kind := entryPartConfirmed
	if left := !rest.nothing(); m.final || !left {
		event := EventConfirm
		if left {
			event = EventRelease
			b = s.endTakes(b, rest, event)
		}
		s.decided(o, h, event)
		kind = entryConfirmed
	}
	s.addEntry(o, kind, h.id, s.closeChanges(b))
	return s.holdReply(o, h, c.currency(), false)
}

// portions says how much of each item a request wants, by item, or by an amount that is spread over the money items in their order. left
// is how much there is of an item. If the request cannot be met, wrong is the reply.
func (c *content) portions(items []PartRequest, amount Money, left func(item int) int64) (want []int64, wrong *shard.Reply) {
	want = make([]int64, len(c.parts))
	if len(items) == 0 {
		return want, c.spreadAmount(want, amount, left)
	}
	for i := range items {
		if wrong = c.portion(want, &items[i], i, left); wrong != nil {
			return nil, wrong
		}
	}
	return want, nil
}

func (c *content) spreadAmount(want []int64, amount Money, left func(item int) int64) *shard.Reply {
	if currency := c.currency(); currency != "" && amount.Currency != currency {
		return wrongPart(refusal(ErrCurrencyMismatch, "/amount/currency", "the hold is in "+currency))
	}
	if have := c.money(left); amount.Amount > have {
		return wrongPart(insufficient("/amount", amount.Amount, have, "the hold has less left"))
	}
	rest := amount.Amount
	for i := range c.body.Items {
		if c.body.Items[i].Kind == MoneyItem {
			want[i] = min(rest, left(i))
			rest -= want[i]
		}
	}
	return nil
}

// portion adds what a request wants of one item.
func (c *content) portion(want []int64, r *PartRequest, at int, left func(item int) int64) *shard.Reply {
	if r.Item >= len(c.body.Items) {
		return wrongPart(refusal(ErrNotFound, itemPointer(at, "item"), "the hold has "+strconv.Itoa(len(c.body.Items))+" items"))
	}
	it, have := &c.body.Items[r.Item], left(r.Item)
	asked := r.Amount.Amount + r.Quantity // one of them is 0
	switch {
	case r.All:
		asked = max(have, 1) // all of nothing: at least 1 was needed
	case it.Kind == CouponItem:
		return &shard.Reply{Err: invalid(itemPointer(at, "amount"), "a coupon is whole: say all")}
	case it.Kind == StockItem && r.Quantity == 0:
		return &shard.Reply{Err: invalid(itemPointer(at, "amount"), "stock is counted: say a quantity, or all")}
	case it.Kind == StockItem:
	case r.Quantity != 0:
		return &shard.Reply{Err: invalid(itemPointer(at, "quantity"), "is only for stock")}
	case r.Amount.Currency != it.Amount.Currency:
		return wrongPart(refusal(ErrCurrencyMismatch, itemPointer(at, "amount/currency"), "the item is in "+it.Amount.Currency))
	}
	if asked > have {
		return wrongPart(insufficient(fmt.Sprintf("/items/%d", at), asked, have, "the item has less left"))
	}
	want[r.Item] = asked
	return nil
}

func wrongPart(r *Refusal) *shard.Reply {
	reply := refuse(r)
	return &reply
}

// confirmLate makes a hold over the same assets as one that has expired, and confirms it at once; all of them, or none (R13). The new
// hold has order, attempt and document of the old one, which stays EXPIRED and names it. Units of quotas that the shard has too few of are
// borrowed, as for a hold, unless something else is gone anyway.
func (s *state) confirmLate(o *ownerRow, old *holdRow, op *confirmOp) shard.Reply {
	t, err := s.takesOf(old)
	if err != nil {
		return internal(err)
	}
	s.settleAssets(o, t.currency, s.couponsOf(t)...)
	if o.frozen {
		return refuse(frozenOwner())
	}
	op.needs = t.quotas
	gone, lacks := op.goneUnits(s)
	if gone = append(s.goneOf(t), gone...); len(gone) > 0 {
		r := refusal(ErrLateUnfulfillable, "", "the hold has expired, and "+strconv.Itoa(len(gone))+" of its assets are not free any more")
		r.HoldID, r.Gone = s.codec.Text(id.Hold, old.id), gone
		return refuse(r)
	}
	if len(lacks) > 0 {
		return shard.Reply{Err: &shortage{lacks}}
	}
	h := &holdRow{
		bucket: o.bucket, id: op.successor, owner: o.name, orderID: old.orderID, attempt: old.attempt, hash: old.hash, doc: old.doc,
		createdAt: s.now, expiresAt: s.now, decidedAt: s.now,
		progress: &Progress{Late: true, Supersedes: s.codec.Text(id.Hold, old.id)},
	}
	h.state, _ = next(None, EventConfirmLate)
	s.addHold(h)
	s.changeHold(h)
	s.grow(old, func(p *Progress) { p.SupersededBy = s.codec.Text(id.Hold, h.id) })
	changes := s.spendQuotas(s.spendFree(s.openChanges(), h, t), &op.quotaSide)
	s.addEntry(o, entryConfirmed, h.id, s.closeChanges(changes))
	return s.holdReply(o, h, t.currency, false)
}

// spendFree uses coupons and lots that no hold has.
func (s *state) spendFree(b []byte, h *holdRow, t *takes) []byte {
	for _, c := range s.couponsOf(t) {
		s.changeCoupon(c)
		c.state, c.holdID = couponUsed, h.id
		b = s.appendCouponChange(b, c, couponAvailable)
	}
	for _, take := range t.lots {
		l := s.lots[take.id]
		before := l.LotCounters
		s.changeLot(l)
		l.Available -= take.amount
		l.Spent += take.amount
		b = s.appendLotChange(b, l, &before)
	}
	return b
}

// couponsOf are the rows of the coupons in t; nil for one that is not there.
func (s *state) couponsOf(t *takes) []*couponRow {
	rows := make([]*couponRow, len(t.coupons))
	for i, coupon := range t.coupons {
		rows[i] = s.coupons[coupon]
	}
	return rows
}

// goneOf lists the coupons and lots of t that are not free any more. A lot that has nothing left may not have been loaded.
func (s *state) goneOf(t *takes) (gone []GoneAsset) {
	for i, c := range s.couponsOf(t) {
		if c == nil || c.state != couponAvailable {
			asset := GoneAsset{CouponID: s.codec.Text(id.Coupon, t.coupons[i]), Asked: 1}
			if c != nil {
				asset.State = c.state
			}
			gone = append(gone, asset)
		}
	}
	for _, take := range t.lots {
		var have int64
		if l := s.lots[take.id]; l != nil {
			have = l.Available
		}
		if have < take.amount {
			gone = append(gone, GoneAsset{LotID: s.codec.Text(id.Lot, take.id), Asked: take.amount, Have: have})
		}
	}
	return gone
}

func frozenOwner() *Refusal { return refusal(ErrFrozen, "", "the owner is frozen: no new holds") }
