package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// refundRow is a row of refunds.
type refundRow struct {
	owner  *ownerRow
	id     id.ID
	ref    string
	holdID id.ID
	hash   [2 * printLen]byte
	at     int64
	doc    []byte
	stored bool
}

func (s *state) addRefund(r *refundRow) { s.refunds[creditRef{r.owner.name, r.ref}] = r }

// refund gives back what was confirmed and not refunded yet: never more, whatever comes in which order (R18, R19).
func (s *state) refund(o *ownerRow, op *refundOp) shard.Reply {
	if op.OfRefund != (id.ID{}) {
		return refuse(refusal(ErrRefundOfRefund, "hold_id", "a refund cannot be refunded; refund more of the hold, or make a new one"))
	}
	h, _ := s.find(o, op.Hold)
	if known := s.refunds[creditRef{o.name, op.RefundRef}]; known != nil {
		return s.knownRefund(o, op, h, known)
	}
	if h == nil {
		return refuse(unknownHold())
	}
	if !h.refundable() {
		return refuse(s.notRefundable(h))
	}
	c, err := s.contentOf(h)
	if err != nil {
		return internal(err)
	}
	p, wrong := s.planRefund(h, c, op)
	if wrong != nil {
		return *wrong
	}
	s.settleAssets(o, c.currency())
	if b := s.balance(o, c.currency()); b.Available+b.Held > MaxAmount-p.amount {
		return shard.Reply{Err: invalid("/amount", "makes the owner's money more than 9007199254740991")}
	}
	return s.makeRefund(o, h, c, p, op)
}

// knownRefund answers a second request for a refund that was made under another key.
func (s *state) knownRefund(o *ownerRow, op *refundOp, h *holdRow, known *refundRow) shard.Reply {
	if h == nil || h.id != known.holdID || known.hash != op.hash {
		return reused("refund_ref")
	}
	var body RefundBody
	if err := json.Unmarshal(known.doc, &body); err != nil {
		return internal(err)
	}
	if len(body.Lots) > 0 {
		s.settleAssets(o, body.Amount.Currency)
	}
	return s.refundReply(o, &body, true)
}

// refundable says that something of the hold was confirmed.
func (h *holdRow) refundable() bool { return h.state == Confirmed || h.state == Held && h.inPart() }

func (s *state) notRefundable(h *holdRow) *Refusal {
	if h.state == Held {
		return insufficient("", 1, 0, "nothing of the hold is confirmed yet")
	}
	return s.stateRefusal(h)
}

// refundPlan is what a refund will give back.
type refundPlan struct {
	want   []int64 // by item
	amount int64   // of money
	lines  []int   // places of the lines that are given back
	whole  bool    // nothing of the order is left
}

// refundableOf is how much of an item a refund may give back. Units of quotas stay used: whether goods that come back can be sold again
// is for whoever looks at them, who then adjusts the quota.
func (c *content) refundableOf(item int) int64 {
	if _, ok := c.body.Items[item].quota(1); ok {
		return 0
	}
	return c.spent(item)
}

// planRefund decides how much of each item comes back, and which coupons.
func (s *state) planRefund(h *holdRow, c *content, op *refundOp) (p *refundPlan, wrong *shard.Reply) {
	p = new(refundPlan)
	switch {
	case len(op.Lines) > 0:
		wrong = c.wantLines(h, p, op.Lines)
	case op.All:
		p.wantRest(c)
	default:
		p.want, wrong = c.portions(op.Items, op.Amount, c.refundableOf)
	}
	if wrong != nil {
		return nil, wrong
	}
	p.whole = p.isWhole(h, c, op)
	if wrong = s.wantCoupons(h, c, p, op); wrong != nil {
		return nil, wrong
	}
	p.amount = c.money(func(item int) int64 { return p.want[item] })
	if slices.Max(p.want) == 0 && len(p.lines) == 0 {
		return nil, wrongPart(insufficient("", 1, 0, "nothing is left that could be given back"))
	}
	return p, nil
}

// wantRest is all that is left: the last refund, which makes the sum exact.
func (p *refundPlan) wantRest(c *content) {
	p.want = make([]int64, len(c.parts))
	for i := range c.body.Items {
		if c.body.Items[i].Kind == MoneyItem {
			p.want[i] = c.spent(i)
		}
	}
}

// wantLines gives each line its share of the money that was confirmed, split by what the lines cost after discounts. The last lines
// get what is left, so the shares of all lines sum up to what was confirmed and not refunded otherwise.
func (c *content) wantLines(h *holdRow, p *refundPlan, lineIDs []string) (wrong *shard.Reply) {
	given := make([]bool, len(c.body.Lines))
	left := len(given)
	for i := range c.body.Lines {
		if given[i] = h.lineRefunded(c.body.Lines[i].LineID); given[i] {
			left--
		}
	}
	for i, lineID := range lineIDs {
		at := slices.IndexFunc(c.body.Lines, func(l LineBody) bool { return l.LineID == lineID })
		switch {
		case at < 0:
			return wrongPart(refusal(ErrNotFound, linePointer(i), "the hold has no such line"))
		case given[at]:
			return wrongPart(insufficient(linePointer(i), 1, 0, "the line was refunded before"))
		}
		given[at] = true
		p.lines = append(p.lines, at)
		left--
	}
	if left == 0 {
		p.wantRest(c)
		return nil
	}
	p.want = make([]int64, len(c.parts))
	for i := range c.body.Items[:c.items] { // what was confirmed beyond them is no line's
		if c.body.Items[i].Kind == MoneyItem {
			p.want[i] = min(c.spent(i), c.shareOf(p.lines, c.parts[i].Confirmed))
		}
	}
	return nil
}

// shareOf is the part of an amount that falls on some lines.
func (c *content) shareOf(lines []int, amount int64) (sum int64) {
	shares := c.lineShares(amount)
	for _, at := range lines {
		sum += shares[at]
	}
	return sum
}

// lineShares splits money over the lines by what they cost after discounts. Money never pays more than that.
func (c *content) lineShares(amount int64) []int64 {
	cost, total := make([]int64, len(c.body.Lines)), int64(0)
	for i := range c.body.Lines {
		cost[i] = c.body.Lines[i].Payable
		total += cost[i]
	}
	return split(nil, amount, cost, total)
}

func (h *holdRow) lineRefunded(lineID string) bool {
	return h.progress != nil && slices.Contains(h.progress.RefundedLines, lineID)
}

// isWhole says that nothing of the order is left after the refund: all of it was asked for, or the last line; or the last money of an
// order without lines.
func (p *refundPlan) isWhole(h *holdRow, c *content, op *refundOp) bool {
	if h.state != Confirmed {
		return false
	}
	if len(p.lines) > 0 {
		before := 0
		if h.progress != nil {
			before = len(h.progress.RefundedLines)
		}
		return before+len(p.lines) == len(c.body.Lines)
	}
	left := c.money(func(item int) int64 { return c.spent(item) - p.want[item] })
	return op.All || len(c.body.Lines) == 0 && left == 0
}

// wantCoupons adds the coupons that come back by their policies. One that the request names must be among them.
func (s *state) wantCoupons(h *holdRow, c *content, p *refundPlan, op *refundOp) (wrong *shard.Reply) {
	for i := range c.body.Items {
		if c.body.Items[i].Kind != CouponItem {
			continue
		}
		named := p.want[i] > 0
		p.want[i] = 0
		coupon, err := s.usedCoupon(h, &c.body.Items[i])
		if err != nil {
			reply := internal(err)
			return &reply
		}
		if coupon != nil && c.spent(i) > 0 && coupon.terms.returns(p.whole) {
			p.want[i] = 1
		} else if named {
			at := slices.IndexFunc(op.Items, func(r PartRequest) bool { return r.Item == i })
			return wrongPart(insufficient(itemPointer(at, "item"), 1, 0, "the policy of the coupon does not give it back now"))
		}
	}
	return nil
}

// usedCoupon is the row of a coupon that the hold has used; nil if it has not.
func (s *state) usedCoupon(h *holdRow, it *HoldItem) (*couponRow, error) {
	coupon, err := id.ParseOwn(id.Coupon, it.CouponID)
	if err != nil {
		return nil, err
	}
	c := s.coupons[coupon]
	if c == nil || c.state != couponUsed || c.holdID != h.id {
		return nil, nil
	}
	return c, nil
}

// makeRefund gives back what was planned.
func (s *state) makeRefund(o *ownerRow, h *holdRow, c *content, p *refundPlan, op *refundOp) shard.Reply {
	body := &RefundBody{
		RefundID: s.codec.Text(id.Refund, op.id), Owner: o.name, RefundRef: op.RefundRef, HoldID: s.codec.Text(id.Hold, h.id),
		RefundedAt: instant(s.now), Reason: op.Reason, Whole: p.whole,
		Amount: Money{p.amount, c.anyCurrency()}, Lots: []LotShare{}, Coupons: []RefundedCoupon{}, Lines: c.refundLines(p),
	}
	t := new(takes)
	for i := len(p.want) - 1; i >= 0; i-- {
		if p.want[i] == 0 {
			continue
		}
		if err := t.move(&c.body.Items[i], p.want[i], c.refund(i, p.want[i])); err != nil {
			return internal(err)
		}
	}
	if err := s.checkSpent(h, t); err != nil {
		return internal(err)
	}
	changes := s.unspend(s.openEntry(entryHead{RefundID: body.RefundID, Reason: op.Reason}), t, body)
	s.grow(h, func(progress *Progress) {
		c.note(progress)
		for _, at := range p.lines {
			progress.RefundedLines = append(progress.RefundedLines, c.body.Lines[at].LineID)
		}
	})
	s.addEntry(o, entryRefunded, h.id, s.closeChanges(changes))
	left := c.money(c.spent)
	body.Left = Money{left, c.anyCurrency()}
	body.BelowMinSpend = s.belowMinSpend(h, c)
	return s.recordRefund(o, h, body, op)
}

func (s *state) recordRefund(o *ownerRow, h *holdRow, body *RefundBody, op *refundOp) shard.Reply {
	doc, err := json.Marshal(body)
	if err != nil {
		return internal(err)
	}
	r := &refundRow{owner: o, id: op.id, ref: op.RefundRef, holdID: h.id, hash: op.hash, at: s.now, doc: doc}
	s.addRefund(r)
	s.changed.refunds = append(s.changed.refunds, r)
	return s.refundReply(o, body, false)
}

// refundLines says of each line that is given back what falls on it: its discount, the money that paid for it, and the rest, which the
// caller has got by other means and gives back himself.
func (c *content) refundLines(p *refundPlan) []RefundLine {
	lines := make([]RefundLine, 0, len(p.lines))
	cost := make([]int64, len(p.lines))
	var total int64
	for i, at := range p.lines {
		cost[i] = c.body.Lines[at].Payable
		total += cost[i]
	}
	amount := c.money(func(item int) int64 {
		if item >= c.items {
			return 0
		}
		return p.want[item]
	})
	shares := split(nil, min(amount, total), cost, total)
	for i, at := range p.lines {
		l := &c.body.Lines[at]
		lines = append(lines, RefundLine{
			LineID: l.LineID, Amount: l.Amount.Amount, Discount: l.Discount, Money: shares[i], Payable: l.Payable - shares[i],
		})
	}
	return lines
}

// belowMinSpend lists the coupons that stay used though the lines that are left cost less than the coupon needs.
func (s *state) belowMinSpend(h *holdRow, c *content) []string {
	var total int64
	for i := range c.body.Lines {
		if !h.lineRefunded(c.body.Lines[i].LineID) {
			total += c.body.Lines[i].Amount.Amount
		}
	}
	below := []string{}
	for i := range c.body.Items {
		if c.body.Items[i].Kind != CouponItem || c.spent(i) == 0 {
			continue
		}
		if coupon, _ := s.usedCoupon(h, &c.body.Items[i]); coupon != nil && total < coupon.discount.MinSpend {
			below = append(below, c.body.Items[i].CouponID)
		}
	}
	return below
}

// unspend moves assets back to where they came from. What has ended meanwhile comes back as EXPIRED, unless its lot has a grace.
func (s *state) unspend(b []byte, t *takes, body *RefundBody) []byte {
	for _, coupon := range t.coupons {
		c := s.coupons[coupon]
		s.changeCoupon(c)
		s.endCoupon(c, EventCancel)
		b = s.appendCouponChange(b, c, couponUsed)
		body.Coupons = append(body.Coupons, RefundedCoupon{s.codec.Text(id.Coupon, c.id), c.state})
	}
	for _, take := range t.lots {
		l := s.lots[take.id]
		before := l.LotCounters
		s.changeLot(l)
		s.unspendLot(l, take.amount)
		b = s.appendLotChange(b, l, &before)
		body.Lots = append(body.Lots, LotShare{s.codec.Text(id.Lot, l.id), take.amount})
	}
	return b
}

func (s *state) unspendLot(l *lotRow, amount int64) {
	l.Spent -= amount
	switch {
	case l.expiresAt > s.now:
		l.Available += amount
	case l.grace > 0: // what it had available is settled as expired, and stays so
		l.Available += amount
		l.expiresAt, l.extended = s.now+l.grace, true
		l.owner.unsorted = true
	default:
		l.Expired += amount
	}
}

// checkSpent compares what comes back with the assets: they must be loaded, and spent at least as much.
func (s *state) checkSpent(h *holdRow, t *takes) error {
	for _, take := range t.lots {
		if l := s.lots[take.id]; l == nil || l.Spent < take.amount || l.owner.name != h.owner {
			return fmt.Errorf("I2: hold %s has spent %d of lot %s, which has less spent", h.id, take.amount, take.id)
		}
	}
	return nil
}

func (s *state) refundReply(o *ownerRow, body *RefundBody, exists bool) shard.Reply {
	reply := RefundReply{Refund: *body, Balances: []Balance{}, Version: o.ver, AlreadyExists: exists}
	if len(body.Lots) > 0 {
		reply.Balances = append(reply.Balances, s.balance(o, body.Amount.Currency))
	}
	text, err := json.Marshal(reply)
	if err != nil {
		return internal(err)
	}
	return done(text)
}

// RefundBody is a refund. Amounts of lines are in the currency of Amount.
type RefundBody struct {
	RefundID      string           `json:"refund_id"`
	Owner         string           `json:"owner"`
	RefundRef     string           `json:"refund_ref"`
	HoldID        string           `json:"hold_id"`
	RefundedAt    time.Time        `json:"refunded_at"`
	Amount        Money            `json:"amount"` // what went back to lots
	Lots          []LotShare       `json:"lots"`
	Coupons       []RefundedCoupon `json:"coupons"`
	Lines         []RefundLine     `json:"lines"`
	Whole         bool             `json:"whole"`           // nothing of the order is left
	Left          Money            `json:"left"`            // money that was confirmed and not refunded
	BelowMinSpend []string         `json:"below_min_spend"` // coupons that stay used though what is left of the order is too small for them
	Reason        string           `json:"reason,omitempty"`
}

// RefundedCoupon is a coupon that a refund has given back: AVAILABLE, or EXPIRED if it has ended meanwhile.
type RefundedCoupon struct {
	CouponID string `json:"coupon_id"`
	State    string `json:"state"`
}

// RefundLine is an order line that a refund has given back.
type RefundLine struct {
	LineID   string `json:"line_id"`
	Amount   int64  `json:"amount"`   // price of the line
	Discount int64  `json:"discount"` // what coupons gave for it
	Money    int64  `json:"money"`    // what went back to lots for it
	Payable  int64  `json:"payable"`  // the rest: paid by other means, and given back by the caller
}

// RefundReply answers a refund.
type RefundReply struct {
	Refund        RefundBody `json:"refund"`
	Balances      []Balance  `json:"balances"`
	Version       int64      `json:"version"`
	AlreadyExists bool       `json:"already_exists,omitempty"`
}

func linePointer(i int) string { return "/lines/" + strconv.Itoa(i) }
