package ledger

import (
	"fmt"
	"time"

	"github.com/statesvc/statesvc/shard/id"
)

func (w *walk) drawTerms() (terms Terms) {
	if w.dice.IntN(3) > 0 {
		return terms
	}
	terms.Refund = pick(w, "", AnyRefund, NoRefund)
	terms.Priority = w.dice.IntN(3) - 1
	if pick(w, true, false) {
		terms.StackGroup, terms.MaxPerGroup = "g", 1+w.dice.IntN(2)
	}
	if pick(w, true, false, false) {
		terms.MaxDiscount = cny(1 + w.dice.Int64N(30))
	}
	terms.ReturnGraceMs = pick(w, int64(0), 1000, 30_000)
	return terms
}

// drawGrown draws an operation on holds that were asked for before: confirmed in part or late, extended, replaced, refunded.
func (w *walk) drawGrown(owner string) any {
	switch pick(w, 0, 1, 2, 3, 4, 5, 6, 7, 8) {
	case 0, 1:
		return w.drawPart(owner, w.drawRef(owner))
	case 2, 3, 4:
		return w.drawRefund(owner, w.drawRef(owner))
	case 5:
		ttl := pick(w, time.Second, time.Minute, MaxHoldTTL)
		if pick(w, true, false) {
			return &pinOp{Pin{owner, w.drawRef(owner), min(ttl, MaxPin)}}
		}
		return &extendOp{Extend{owner, w.drawRef(owner), ttl}}
	case 6:
		return &confirmOp{
			Confirm: Confirm{Owner: owner, Hold: w.drawRef(owner), AllowLate: true}, successor: w.mint(id.Hold, owner),
		}
	case 7:
		return w.drawReplace(owner)
	default:
		return w.drawAdmin(owner)
	}
}

// refOfHold names a hold as its caller does.
func refOfHold(h *Hold) HoldRef {
	if h.HoldID != (id.ID{}) {
		return HoldRef{HoldID: h.HoldID}
	}
	return HoldRef{OrderID: h.OrderID, Attempt: h.Attempt}
}

// checkout is what most callers do next with their hold: confirm it, in full or in part, and then some refund it, more than once.
func (w *walk) checkout(owner string, ref HoldRef) func() any {
	if pick(w, true, false) {
		return nil
	}
	return func() any {
		w.next = w.regret(owner, ref)
		if pick(w, true, false) {
			return &confirmOp{Confirm: Confirm{Owner: owner, Hold: ref}}
		}
		return w.drawPart(owner, ref)
	}
}

func (w *walk) regret(owner string, ref HoldRef) func() any {
	if pick(w, true, false, false) {
		return nil
	}
	return func() any {
		w.next = w.regret(owner, ref)
		if pick(w, true, false, false) {
			return w.drawPart(owner, ref)
		}
		return w.drawRefund(owner, ref)
	}
}

func (w *walk) drawPart(owner string, ref HoldRef) *confirmOp {
	r := Confirm{Owner: owner, Hold: ref, Final: pick(w, true, false)}
	if pick(w, true, false) {
		r.Amount = w.drawAmount()
	} else {
		r.Items = w.drawParts()
	}
	return &confirmOp{Confirm: r}
}

func (w *walk) drawAmount() Money {
	return Money{1 + w.dice.Int64N(30), pick(w, "CNY", "CNY", "CNY", "USD")}
}

func (w *walk) drawParts() (parts []PartRequest) {
	for item := range 3 {
		switch pick(w, 0, 1, 2, 3) {
		case 2:
			if w.units {
				parts = append(parts, PartRequest{Item: item, Quantity: 1 + w.dice.Int64N(2)})
			}
		case 0:
			parts = append(parts, PartRequest{Item: item, All: true})
		case 1:
			parts = append(parts, PartRequest{Item: item, Amount: w.drawAmount()})
		}
	}
	if len(parts) == 0 {
		parts = append(parts, PartRequest{All: true})
	}
	return parts
}

func (w *walk) drawRefund(owner string, ref HoldRef) *refundOp {
	r := Refund{
		Owner: owner, Hold: ref, RefundRef: fmt.Sprintf("refund-%d", w.dice.IntN(100)),
		Reason: pick(w, "", `the <left> "shoe"`),
	}
	switch pick(w, 0, 1, 2, 3, 4) {
	case 0:
		r.All = true
	case 1:
		r.Amount = w.drawAmount()
	case 2:
		r.Items = w.drawParts()
	default:
		r.Lines = pick(w, [][]string{{"l0"}, {"l1"}, {"l0", "l1"}, {"l2"}, {"l3", "l0"}}...)
	}
	if w.dice.IntN(20) == 0 {
		r.OfRefund = w.mint(id.Refund, owner)
	}
	return &refundOp{Refund: r, id: w.mint(id.Refund, owner), hash: refundHash(fingerprintRefund(&r))}
}

// drawReplace replaces a hold by one with other items, usually of the same order.
func (w *walk) drawReplace(owner string) any {
	op := w.drawHold(owner)
	old := w.drawRef(owner)
	if h := w.holdAt(owner, old); h != nil && h.orderID != "" && pick(w, true, true, true, false) {
		op.OrderID, op.Attempt = h.orderID, 1+w.dice.IntN(5)
	}
	w.holds[len(w.holds)-1] = op.Hold
	return &replaceOp{holdOp: *op, old: old}
}

func (w *walk) holdAt(owner string, r HoldRef) *holdRow {
	if o := w.owners[owner]; o != nil {
		h, _ := w.find(o, r)
		return h
	}
	return nil
}

func (w *walk) drawAdmin(owner string) any {
	if pick(w, true, false, false) {
		return w.drawFreeze(owner)
	}
	if pick(w, true, false) {
		return w.drawAdjustment(owner)
	}
	r := Revoke{Owner: owner, IncludeHeld: pick(w, true, false), Reason: "a test"}
	switch {
	case len(w.coupons) > 0 && pick(w, true, false):
		r.Coupon = pick(w, w.coupons...)
	case len(w.lotIDs) > 0:
		r.Lot = pick(w, w.lotIDs...)
	default:
		r.Lot = w.mint(id.Lot, owner)
	}
	return &revokeOp{r}
}

// drawAdjustment draws an adjustment, or a decision about one; most of them are followed by one.
func (w *walk) drawAdjustment(owner string) any {
	by := KeyName{KeyID: pick(w, "ann", "bob"), Name: "a person"}
	if len(w.changes) > 0 && pick(w, true, false, false) {
		return w.drawDecision(owner, pick(w, w.changes...))
	}
	w.ref++
	r := AdjustMoney{
		Owner: owner, AdjustmentRef: fmt.Sprintf("a%d", w.ref-w.dice.IntN(2)), Delta: 1 + w.dice.Int64N(30),
		Currency: pick(w, "CNY", "CNY", "USD"), Reason: "a test",
	}
	if pick(w, true, false) {
		r.Delta = -r.Delta
	} else {
		r.ExpiresAt = w.drawEnd()
	}
	op := &adjustOp{
		AdjustMoney: r, id: w.mint(id.Adjustment, owner), lotID: w.mint(id.Lot, owner), by: by, proposed: pick(w, true, true, false),
	}
	w.changes = append(w.changes, op.id)
	w.next = func() any { return w.drawDecision(owner, op.id) }
	return op
}

func (w *walk) drawDecision(owner string, adjustment id.ID) any {
	return &decideAdjustmentOp{
		DecideAdjustment: DecideAdjustment{Owner: owner, AdjustmentID: adjustment, Approve: pick(w, true, true, false), Reason: "a test"},
		lotID:            w.mint(id.Lot, owner), by: KeyName{KeyID: pick(w, "ann", "bob")},
	}
}

func (w *walk) drawFreeze(owner string) *freezeOp {
	w.frozen[owner] = !w.frozen[owner]
	return &freezeOp{Freeze{owner, w.frozen[owner], "a test"}}
}
