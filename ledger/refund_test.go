package ledger

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/statesvc/statesvc/shard/id"
)

// TestC25RefundsLineByLine refunds an order of 1 to 200 random lines, line by line in random order, under several coupons: what goes
// back to lots sums up to what was confirmed, discounts to those of the hold, no share is below zero, and with the last line the coupons
// are back.
func TestC25RefundsLineByLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDesk(tbOf(t))
		d.credit("u1", 1_000_000, time.Hour, "")
		coupons := []*couponRow{d.issue("u1", percent(333, 0)), d.issue("u1", fixed(rapid.Int64Range(1, 5000).Draw(t, "fixed")))}
		h := Hold{Owner: "u1", OrderID: "o", Attempt: 1, HoldID: d.mint(id.Hold, "u1"), TTL: time.Minute}
		for i := range rapid.IntRange(1, MaxLines).Draw(t, "lines") {
			h.Lines = append(h.Lines, Line{fmt.Sprint("l", i), cny(rapid.Int64Range(0, 999).Draw(t, "price"))})
		}
		h.Items = []Item{coupons[0].item(), coupons[1].item(), money(1 + rapid.Int64Range(0, 300).Draw(t, "money"))}
		body := wantHold(d, &h)
		if body == nil {
			return
		}
		wantDone[HoldReply](d.tb, d.confirm(h.HoldID))
		confirmed, discount, payable := body.Items[2].Amount.Amount, body.Discount.Amount, body.Payable.Amount
		for n, i := range rapid.Permutation(indexes(len(h.Lines))).Draw(t, "order") {
			r := Refund{Owner: "u1", Hold: HoldRef{HoldID: h.HoldID}, RefundRef: fmt.Sprint("r", i), Lines: []string{h.Lines[i].LineID}}
			op := &refundOp{Refund: r, id: d.mint(id.Refund, "u1"), hash: refundHash(fingerprintRefund(&r))}
			made := wantDone[RefundReply](d.tb, d.do("u1", op)).Refund
			line := made.Lines[0]
			if min(line.Discount, line.Money, line.Payable) < 0 || line.Discount+line.Money+line.Payable != line.Amount ||
				line.Money != made.Amount.Amount {
				t.Fatalf("%+v gives back %v", line, made.Amount)
			}
			confirmed, discount, payable = confirmed-line.Money, discount-line.Discount, payable-line.Payable
			if made.Left.Amount != confirmed || made.Whole != (n == len(h.Lines)-1) {
				t.Fatalf("after line %d of %d: %+v, and %d should be left", n+1, len(h.Lines), made, confirmed)
			}
		}
		if confirmed != 0 || discount != 0 || payable != 0 {
			t.Fatalf("%d of the money, %d of the discounts and %d of the rest did not come back", confirmed, discount, payable)
		}
		for _, c := range coupons {
			if c.state != couponAvailable {
				t.Fatalf("coupon %s is %s", c.id, c.state)
			}
		}
	})
}

// wantHold makes a hold whose money the lines may pay; nil if they cost too little for it.
func wantHold(d *desk, h *Hold) *HoldBody {
	if validateHold(Caller{Key: "k"}, h) != nil {
		return nil
	}
	r := d.hold(*h)
	if refusalOf(d.tb, r) != nil {
		return nil
	}
	body := wantDone[HoldReply](d.tb, r).Hold
	return &body
}

func indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}
