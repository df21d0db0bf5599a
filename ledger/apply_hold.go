package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// hold takes all items or none. If it cannot, that may be because its order has made the hold before, which a batch does not
// look up at first (see Machine.NewBatch).
func (s *state) hold(o *ownerRow, op *holdOp) shard.Reply {
	r := s.tryHold(o, op)
	if r.Verdict != shard.Done && !s.lookedUp && !errors.Is(r.Err, shard.ErrInternal) {
		return shard.Reply{Err: shard.ErrLookUp}
	}
	return r
}

func (s *state) tryHold(o *ownerRow, op *holdOp) shard.Reply {
	if r, ok := s.planHold(o, op); !ok {
		return r
	}
	return s.take(o, op, nil)
}

// planHold finds out what the hold takes, or else the reply that says why it is not made. Its checks are in the order of the codes.
func (s *state) planHold(o *ownerRow, op *holdOp) (r shard.Reply, ok bool) {
	p := &s.plan
	p.reset(s, o, op)
	if o.part(op.moneyCurrency()).hides(s.now) {
		return shard.Reply{Err: shard.ErrLookUp}, false
	}
	s.settleAssets(o, op.moneyCurrency(), p.coupons...)
	h, foreign := s.known(o, op)
	if h != nil && (h.state == Held || h.state == Confirmed) {
		return s.existing(o, op, h), false
	}
	if foreign {
		return refuse(refusal(ErrNotFound, "/hold_id", "the id belongs to another owner")), false
	}
	if wrong := p.unknownCoupon(o, op); wrong != nil {
		return refuse(wrong), false
	}
	if h != nil {
		return refuse(s.stateRefusal(h)), false
	}
	if wrong := p.check(s, o, op); wrong != nil {
		return refuse(wrong), false
	}
	p.discountLines(op)
	wrong := p.takeMoney(o, op)
	p.unplan()
	if wrong != nil {
		return refuse(wrong), false
	}
	return p.checkQuotas(s, op)
}

// known returns the hold that the request's reference or id has made.
func (s *state) known(o *ownerRow, op *holdOp) (h *holdRow, foreign bool) {
	if op.HoldID != (id.ID{}) {
		h, foreign = s.find(o, HoldRef{HoldID: op.HoldID})
	}
	if byOrder := s.orders[orderRef{o.name, op.OrderID, op.Attempt}]; byOrder != nil {
		return byOrder, false
	}
	return h, foreign
}

// existing answers a second request for a hold that was made under another key.
func (s *state) existing(o *ownerRow, op *holdOp, h *holdRow) shard.Reply {
	switch {
	case h.orderID != op.OrderID || h.attempt != op.Attempt:
		return reused("hold_id")
	case h.hash != op.hash || op.HoldID != (id.ID{}) && op.HoldID != h.id:
		return reused("order_id", "attempt")
	}
	return s.holdReply(o, h, op.moneyCurrency(), true)
}

// take makes the hold that was planned. progress is what there is to say of it from the beginning; usually nil.
func (s *state) take(o *ownerRow, op *holdOp, progress *Progress) shard.Reply {
	p := &s.plan
	h := &holdRow{
		bucket: o.bucket, id: op.id, owner: o.name, orderID: op.OrderID, attempt: op.Attempt, hash: op.hash,
		createdAt: s.now, expiresAt: s.now + op.TTL.Microseconds(), progress: progress, quotas: op.needs,
	}
	h.state, _ = next(None, EventHold)
	h.doc = s.keep(s.appendDoc(s.buf[:0], op))
	for _, c := range p.coupons {
		if c != nil {
			s.changeCoupon(c)
			c.state, c.holdID, c.heldUntil = couponHeld, h.id, h.expiresAt
		}
	}
	for _, share := range p.lots {
		s.changeLot(share.lot)
		share.lot.Available -= share.amount
		share.lot.Held += share.amount
	}
	s.takeQuotas(&op.quotaSide)
	s.addHold(h)
	s.changeHold(h)
	o.holdMade(h)
	s.touch(o)
	return s.holdReply(o, h, op.moneyCurrency(), false)
}

// plan is what a hold is about to take. Its memory is used again for the next hold.
type plan struct {
	currency string   // of the whole hold
	part     *lotPart // nil: all lots of the currency are loaded
	total    int64    // of the lines, before discounts
	discount int64    // sum over all coupons
	payable  int64    // what is left of the lines after discounts and money
	items    []planItem
	coupons  []*couponRow // by item; nil: not a coupon, or not there
	left     []int64      // of each line, after the discounts so far
	split    []int64      // shares of all coupons, line by line
	order    []int        // places of the items as discounts are computed
	lots     []planShare  // shares of all money items
}

type planItem struct {
	coupon   *couponRow
	amount   int64 // the discount, or the money
	from, to int   // of its shares: in split for a coupon, in lots for money
}

type planShare struct {
	lot    *lotRow
	amount int64
}

// shares are a coupon's shares of the lines.
func (p *plan) shares(it *planItem) []int64 { return p.split[it.from:it.to] }

func (p *plan) reset(s *state, o *ownerRow, op *holdOp) {
	*p = plan{items: p.items[:0], coupons: p.coupons[:0], left: p.left[:0], split: p.split[:0], lots: p.lots[:0], order: p.order[:0]}
	for i := range op.Lines {
		p.total += op.Lines[i].Amount.Amount
		p.left = append(p.left, op.Lines[i].Amount.Amount)
	}
	p.payable = p.total
	p.currency = op.currency()
	p.part = o.part(p.currency)
	for i := range op.Items {
		c := s.coupons[op.Items[i].CouponID]
		if c != nil && c.owner != o {
			c = nil
		}
		p.coupons = append(p.coupons, c)
		p.items = append(p.items, planItem{coupon: c})
	}
}

func (p *plan) unknownCoupon(o *ownerRow, op *holdOp) *Refusal {
	for i := range op.Items {
		if op.Items[i].Kind == CouponItem && p.coupons[i] == nil {
			return refusal(ErrNotFound, itemPointer(i, "coupon_id"), "the owner "+o.name+" has no such coupon")
		}
	}
	return nil
}

func itemPointer(i int, member string) string { return "/items/" + strconv.Itoa(i) + "/" + member }

// check finds the first refusal in the order of the codes, and among items with the same code the first item.
func (p *plan) check(s *state, o *ownerRow, op *holdOp) *Refusal {
	worst, at := len(reasons), 0
	if o.frozen {
		worst, at = slices.Index(reasons, ErrFrozen), -1
	}
	if stacked := p.overstacked(); stacked >= 0 {
		if rank := slices.Index(reasons, ErrNotStackable); rank < worst {
			worst, at = rank, stacked
		}
	}
	for i := range op.Items {
		if reason := p.checkItem(s, op, i); reason != nil {
			if rank := slices.Index(reasons, reason); rank < worst {
				worst, at = rank, i
			}
		}
	}
	if worst == len(reasons) {
		return nil
	}
	if at < 0 {
		return frozenOwner()
	}
	return p.itemRefusal(s, op, at, reasons[worst])
}

// checkItem checks what does not depend on the other items.
func (p *plan) checkItem(s *state, op *holdOp, i int) error {
	switch op.Items[i].Kind {
	case MoneyItem:
		if op.Items[i].Amount.Currency != p.currency {
			return ErrCurrencyMismatch
		}
		return nil
	case StockItem, BudgetItem:
		return p.checkQuotaItem(s, &op.Items[i])
	case CouponItem:
	}
	c := p.coupons[i]
	switch {
	case c.validFrom > s.now:
		return ErrNotStarted
	case c.frozen:
		return ErrFrozen
	case c.discount.Currency != p.currency:
		return ErrCurrencyMismatch
	case p.total < c.discount.MinSpend:
		return ErrMinSpend
	case c.state == couponHeld:
		return ErrHeldByOther
	case c.state == couponUsed:
		return ErrSpent
	case c.state != couponAvailable:
		return ErrAssetExpired
	}
	return nil
}

func (p *plan) itemRefusal(s *state, op *holdOp, i int, reason error) *Refusal {
	r := refusal(reason, itemPointer(i, "coupon_id"), "")
	c := p.coupons[i]
	switch {
	case errors.Is(reason, ErrNotStarted):
		r.Detail = "the coupon is valid from " + instant(c.validFrom).Format(time.RFC3339Nano)
	case errors.Is(reason, ErrNotStackable):
		limit := int64(c.terms.MaxPerGroup)
		r.Detail = "the hold has more coupons of the group " + c.terms.StackGroup
		r.Asked, r.Have = new(limit+1), &limit
	case errors.Is(reason, ErrFrozen):
		r.Detail = "the campaign of the coupon is frozen"
	case errors.Is(reason, ErrCurrencyMismatch):
		r.Detail = "the hold is in " + p.currency
		if c == nil {
			r.Pointer = currencyPointer(&op.Items[i], i)
		}
	case errors.Is(reason, ErrMinSpend):
		r.Detail = fmt.Sprintf("the coupon needs an order of %d, the lines sum up to %d", c.discount.MinSpend, p.total)
		r.Asked, r.Have = new(c.discount.MinSpend), new(p.total)
	case errors.Is(reason, ErrHeldByOther):
		r.Detail, r.RetryAt, r.HoldID = "another hold has the coupon", instant(c.heldUntil), s.codec.Text(id.Hold, c.holdID)
	case errors.Is(reason, ErrSpent):
		r.Detail, r.HoldID = "another hold has used the coupon", s.codec.Text(id.Hold, c.holdID)
	case errors.Is(reason, ErrAssetExpired):
		r.Detail = "the coupon is " + c.state
	}
	return r
}

// currencyPointer says where the request has the currency of a money item: all money has no amount.
func currencyPointer(it *Item, i int) string {
	if it.All {
		return itemPointer(i, "currency")
	}
	return itemPointer(i, "amount/currency")
}

// discountLines computes the discounts: coupons by priority, equal ones in the order of the request, each on what those before it have
// left (R18, R27). All of them together give no more than the hold's limit, nor than that of any of them.
func (p *plan) discountLines(op *holdOp) {
	most := p.mostDiscount(op.MaxDiscount)
	for _, i := range p.inOrder() {
		it := &p.items[i]
		if it.coupon == nil {
			continue
		}
		it.amount = it.coupon.discount.of(p.payable)
		if most > 0 {
			it.amount = min(it.amount, most-p.discount)
		}
		it.from = len(p.split)
		p.split = split(p.split, it.amount, p.left, p.payable)
		it.to = len(p.split)
		for line, share := range p.shares(it) {
			p.left[line] -= share
		}
		p.discount += it.amount
		p.payable -= it.amount
	}
}

// takeMoney chooses the lots: earliest expiry first, ties by id (R7). unplan must follow.
func (p *plan) takeMoney(o *ownerRow, op *holdOp) *Refusal {
	for i := range op.Items {
		if op.Items[i].Kind != MoneyItem {
			continue
		}
		if r := p.takeItem(o, op, i); r != nil {
			return r
		}
	}
	return nil
}

func (p *plan) takeItem(o *ownerRow, op *holdOp, i int) *Refusal {
	asked, it := &op.Items[i], &p.items[i]
	have := p.available(o, asked.Tag)
	it.amount = asked.Amount.Amount
	if asked.All {
		it.amount = have
		if len(op.Lines) > 0 {
			it.amount = min(have, p.payable)
		}
	}
	switch {
	case it.amount == 0: // all of nothing: at least 1 was needed
		return insufficient(itemPointer(i, "all"), 1, 0, "there is nothing to take")
	case it.amount > have:
		return insufficient(itemPointer(i, "amount"), it.amount, have, "the lots that match have less")
	case len(op.Lines) > 0 && it.amount > p.payable:
		return insufficient(itemPointer(i, "amount"), it.amount, p.payable, "the lines leave less to pay")
	}
	it.from = len(p.lots)
	p.spread(o, asked.Tag, it.amount)
	it.to = len(p.lots)
	if len(op.Lines) > 0 {
		p.payable -= it.amount
	}
	return nil
}

func insufficient(pointer string, asked, have int64, detail string) *Refusal {
	r := refusal(ErrInsufficient, pointer, detail)
	r.Asked, r.Have = &asked, &have
	return r
}

// matches reports whether a money item may take from a lot.
func (p *plan) matches(l *lotRow, tag string) bool {
	return l.currency == p.currency && (tag == "" || l.tag == tag) && p.part.covers(l)
}

// available is what a money item could take, after the items before it.
func (p *plan) available(o *ownerRow, tag string) int64 {
	var sum int64
	for _, l := range o.lots {
		if p.matches(l, tag) {
			sum += l.Available - l.planned
		}
	}
	return sum
}

func (p *plan) spread(o *ownerRow, tag string, amount int64) {
	for _, l := range o.sortedLots() {
		if amount == 0 {
			return
		}
		free := l.Available - l.planned
		if free == 0 || !p.matches(l, tag) {
			continue
		}
		share := min(free, amount)
		l.planned += share
		amount -= share
		p.lots = append(p.lots, planShare{l, share})
	}
}

// unplan forgets what takeMoney noted in the lots.
func (p *plan) unplan() {
	for _, share := range p.lots {
		share.lot.planned = 0
	}
}
