package ledger

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Replies and documents are written by hand, because reflection would cost more than everything else that a lane does for
// an operation. The bytes are those of encoding/json for the structs in reply.go; a test compares them.
//
// None of the texts needs an escape: owners, references, states and currencies were validated when they came in.

func appendText(b []byte, name, text string) []byte {
	b = append(append(append(b, '"'), name...), `":"`...)
	return append(append(b, text...), '"')
}

func appendInt(b []byte, name string, n int64) []byte {
	b = append(append(append(b, '"'), name...), `":`...)
	return strconv.AppendInt(b, n, 10)
}

func appendMoney(b []byte, name string, amount int64, currency string) []byte {
	b = append(append(append(b, '"'), name...), `":{`...)
	b = append(appendInt(b, "amount", amount), ',')
	return append(appendText(b, "currency", currency), '}')
}

func appendTime(b []byte, name string, us int64) []byte {
	b = append(append(append(b, '"'), name...), `":"`...)
	return append(instant(us).AppendFormat(b, time.RFC3339Nano), '"')
}

func (s *state) appendID(b []byte, name string, kind id.Kind, i id.ID) []byte {
	b = append(append(append(b, '"'), name...), `":"`...)
	return append(s.codec.AppendText(b, kind, i), '"')
}

// appendHold writes a HoldBody.
func (s *state) appendHold(b []byte, h *holdRow) []byte {
	b = append(s.appendID(append(b, '{'), "hold_id", id.Hold, h.id), ',')
	b = append(appendText(b, "owner", h.owner), ',')
	if h.orderID != "" {
		b = append(appendText(b, "order_id", h.orderID), ',')
		b = append(appendInt(b, "attempt", int64(h.attempt)), ',')
	}
	b = append(appendText(b, "state", string(h.state)), ',')
	b = append(appendTime(b, "created_at", h.createdAt), ',')
	b = append(appendTime(b, "expires_at", h.expiresAt), ',')
	if h.state != Held {
		b = append(appendTime(b, "decided_at", h.decidedAt), ',')
	}
	if p := h.writtenProgress(); p != nil {
		b = append(append(b, p[1:len(p)-1]...), ',')
	}
	if len(h.doc) == 0 {
		return append(b, `"items":[],"tombstone":true}`...)
	}
	return append(b, h.doc[1:]...)
}

// holdReply writes a HoldReply, which quotes the document of the hold; without a currency it has no balances.
func (s *state) holdReply(o *ownerRow, h *holdRow, currency string, exists bool) shard.Reply {
	b := append(s.buf[:0], `{"hold":`...)
	b = s.appendHold(b, h)
	var quote shard.Quote
	if len(h.doc) > 0 {
		quote = shard.Quote{Order: h.orderID, Attempt: h.attempt, At: len(b) - len(h.doc) + 1, Len: len(h.doc) - 1}
	}
	b = s.appendBalances(append(b, ','), o, currency)
	r := done(s.finish(b, o, exists))
	r.Quote = quote
	return r
}

func (s *state) appendBalances(b []byte, o *ownerRow, currency string) []byte {
	b = append(b, `"balances":[`...)
	if currency != "" {
		balance := s.balance(o, currency)
		b = append(appendText(append(b, '{'), "currency", currency), ',')
		b = append(appendInt(b, "available", balance.Available), ',')
		b = append(appendInt(b, "held", balance.Held), '}')
	}
	return append(b, "],"...)
}

// finish ends a reply and returns a copy of it.
func (s *state) finish(b []byte, o *ownerRow, exists bool) []byte {
	b = appendInt(b, "version", o.ver)
	if exists {
		b = append(b, alreadyExists...)
	} else {
		b = append(b, '}')
	}
	return s.keep(b)
}

// keptChunk is how much room for documents and replies is made at once: enough for a few dozen holds, and so that a reply
// that is still being sent does not hold much else in memory.
const keptChunk = 16 << 10

// keep returns a copy of b, which is the state's buffer.
func (s *state) keep(b []byte) []byte {
	s.buf = b
	if cap(s.kept)-len(s.kept) < len(b) {
		s.kept = make([]byte, 0, max(len(b), min(keptChunk, s.size*len(b))))
	}
	start := len(s.kept)
	s.kept = append(s.kept, b...)
	return s.kept[start:len(s.kept):len(s.kept)]
}

// couponReply writes a CouponReply.
func (s *state) couponReply(c *couponRow, exists bool) []byte {
	b := append(s.buf[:0], `{"coupon":{`...)
	b = append(s.appendID(b, "coupon_id", id.Coupon, c.id), ',')
	b = append(appendText(b, "owner", c.owner.name), ',')
	b = append(appendText(b, "campaign_id", c.campaignID), ',')
	b = append(appendText(b, "issue_ref", c.issueRef), ',')
	b = append(appendText(b, "state", c.state), ',')
	b = append(appendDiscount(b, &c.discount), ',')
	b = append(appendTime(b, "valid_from", c.validFrom), ',')
	b = append(appendTime(b, "expires_at", c.expiresAt), ',')
	b = appendTime(b, "issued_at", c.issuedAt)
	if c.holdID != (id.ID{}) {
		b = s.appendID(append(b, ','), "hold_id", id.Hold, c.holdID)
	}
	if c.state == couponHeld {
		b = appendTime(append(b, ','), "held_until", c.heldUntil)
	}
	if terms := c.terms.written(); terms != nil {
		b = append(append(b, ','), terms[1:len(terms)-1]...)
	}
	return s.finish(append(b, "},"...), c.owner, exists)
}

func appendDiscount(b []byte, d *Discount) []byte {
	b = append(appendText(append(b, `"discount":{`...), "kind", string(d.Kind)), ',')
	b = appendText(b, "currency", d.Currency)
	if d.Kind == Fixed {
		b = appendMoney(append(b, ','), "amount", d.Amount, d.Currency)
	}
	if d.BasisPoints > 0 {
		b = appendInt(append(b, ','), "basis_points", d.BasisPoints)
	}
	if d.Cap > 0 {
		b = appendMoney(append(b, ','), "cap", d.Cap, d.Currency)
	}
	if d.MinSpend > 0 {
		b = appendMoney(append(b, ','), "min_spend", d.MinSpend, d.Currency)
	}
	return append(b, '}')
}

// lotReply writes a LotReply.
func (s *state) lotReply(l *lotRow, exists bool) []byte {
	b := append(s.buf[:0], `{"lot":{`...)
	b = append(s.appendID(b, "lot_id", id.Lot, l.id), ',')
	b = append(appendText(b, "owner", l.owner.name), ',')
	b = append(appendText(b, "issue_ref", l.issueRef), ',')
	b = append(appendText(b, "source", l.source), ',')
	if l.tag != "" {
		b = append(appendText(b, "tag", l.tag), ',')
	}
	b = append(appendText(b, "currency", l.currency), ',')
	b = append(appendInt(b, "issued", l.issued), ',')
	b = append(appendCounters(b, &l.LotCounters), ',')
	b = append(appendTime(b, "expires_at", l.expiresAt), ',')
	b = appendTime(b, "issued_at", l.issuedAt)
	if ms := l.grace / 1000; ms > 0 {
		b = appendInt(append(b, ','), "refund_grace_ms", ms)
	}
	b = append(b, "},"...)
	return s.finish(s.appendBalances(b, l.owner, l.currency), l.owner, exists)
}

func appendCounters(b []byte, c *LotCounters) []byte {
	b = append(appendInt(b, "available", c.Available), ',')
	b = append(appendInt(b, "held", c.Held), ',')
	b = append(appendInt(b, "spent", c.Spent), ',')
	b = append(appendInt(b, "expired", c.Expired), ',')
	return appendInt(b, "revoked", c.Revoked)
}

// appendDoc writes the document of a hold: the members of HoldBody from items on, so that a reply can copy it.
func (s *state) appendDoc(b []byte, op *holdOp) []byte {
	p := &s.plan
	b = append(b, `{"items":[`...)
	for i := range op.Items {
		if i > 0 {
			b = append(b, ',')
		}
		switch op.Items[i].Kind {
		case CouponItem:
			b = s.appendCouponItem(b, op, &p.items[i])
		case MoneyItem:
			b = s.appendMoneyItem(b, &op.Items[i], &p.items[i])
		case StockItem, BudgetItem:
			b = appendQuotaItem(b, &op.Items[i])
		}
	}
	b = append(b, ']')
	if len(op.Lines) > 0 {
		b = p.appendLines(append(b, ','), op)
	}
	if op.OverCapture > 0 {
		b = appendMoney(append(b, ','), "over_capture_limit", op.OverCapture, p.currency)
	}
	return append(b, '}')
}

func (s *state) appendCouponItem(b []byte, op *holdOp, it *planItem) []byte {
	b = append(s.appendID(append(b, `{"kind":"coupon",`...), "coupon_id", id.Coupon, it.coupon.id), ',')
	b = append(appendText(b, "campaign_id", it.coupon.campaignID), ',')
	b = appendMoney(b, "discount", it.amount, s.plan.currency)
	if it.amount > 0 {
		b = append(b, `,"lines":[`...)
		comma := false
		for i, share := range s.plan.shares(it) {
			if share > 0 {
				b, comma = appendComma(b, comma)
				b = append(appendText(append(b, '{'), "line_id", op.Lines[i].LineID), ',')
				b = append(appendInt(b, "amount", share), '}')
			}
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func (s *state) appendMoneyItem(b []byte, asked *Item, it *planItem) []byte {
	b = appendMoney(append(b, `{"kind":"money",`...), "amount", it.amount, s.plan.currency)
	if asked.Tag != "" {
		b = appendText(append(b, ','), "tag", asked.Tag)
	}
	b = append(b, `,"lots":[`...)
	for i, share := range s.plan.lots[it.from:it.to] {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(s.appendID(append(b, '{'), "lot_id", id.Lot, share.lot.id), ',')
		b = append(appendInt(b, "amount", share.amount), '}')
	}
	return append(b, "]}"...)
}

func (p *plan) appendLines(b []byte, op *holdOp) []byte {
	b = append(b, `"lines":[`...)
	for i := range op.Lines {
		if i > 0 {
			b = append(b, ',')
		}
		l := &op.Lines[i]
		b = append(appendText(append(b, '{'), "line_id", l.LineID), ',')
		b = append(appendMoney(b, "amount", l.Amount.Amount, l.Amount.Currency), ',')
		b = append(appendInt(b, "discount", l.Amount.Amount-p.left[i]), ',')
		b = append(appendInt(b, "payable", p.left[i]), '}')
	}
	b = append(appendMoney(append(b, "],"...), "discount", p.discount, p.currency), ',')
	return appendMoney(b, "payable", p.payable, p.currency)
}

func appendComma(b []byte, comma bool) ([]byte, bool) {
	if comma {
		b = append(b, ',')
	}
	return b, true
}

// A document of an entry is {"changes":[…]}, built by openChanges, one append for each asset, and closeChanges.

func (s *state) openChanges() []byte { return append(s.buf[:0], `{"changes":[`...) }

// entryHead is what an entry says beside its changes.
type entryHead struct {
	RefundID string `json:"refund_id,omitempty"`
	Reason   string `json:"reason,omitempty"`

	Adjustment *EntryAdjustment `json:"adjustment,omitempty"`
}

// openEntry is openChanges for an entry that says more.
func (s *state) openEntry(head entryHead) []byte {
	doc, _ := json.Marshal(head) // texts cannot fail
	b := append(s.buf[:0], doc[:len(doc)-1]...)
	if len(doc) > len("{}") {
		b = append(b, ',')
	}
	return append(b, `"changes":[`...)
}

// closeChanges returns a copy of the document.
func (s *state) closeChanges(b []byte) []byte {
	if last := len(b) - 1; b[last] == ',' { // after the last change
		b = b[:last]
	}
	return s.keep(append(b, "]}"...))
}

// appendCouponChange writes an EntryChange; before is empty for a new coupon.
func (s *state) appendCouponChange(b []byte, c *couponRow, before string) []byte {
	b = append(s.appendID(append(b, '{'), "coupon_id", id.Coupon, c.id), ',')
	if before != "" {
		b = append(appendText(b, "from", before), ',')
	}
	return append(appendText(b, "to", c.state), "},"...)
}

// appendLotChange writes an EntryChange; before is nil for a new lot.
func (s *state) appendLotChange(b []byte, l *lotRow, before *LotCounters) []byte {
	b = append(s.appendID(append(b, '{'), "lot_id", id.Lot, l.id), ',')
	if before != nil {
		b = append(appendCounters(append(b, `"before":{`...), before), "},"...)
	}
	return append(appendCounters(append(b, `"after":{`...), &l.LotCounters), "}},"...)
}
