package ledger

import "encoding/json"

// RefundPolicy says when a refund gives a coupon back.
type RefundPolicy string

// The policies of coupons. The empty one is WholeOrder.
const (
	WholeOrder RefundPolicy = "WHOLE_ORDER" // when the order is refunded as a whole, in one go or line by line
	AnyRefund  RefundPolicy = "ANY_REFUND"  // with the first refund
	NoRefund   RefundPolicy = "NEVER"
)

// Terms are rules of a coupon beside its discount. Most coupons have none, and then nothing is stored for them. The coupons of a
// campaign that was created have its terms.
type Terms struct {
	Refund      RefundPolicy `json:"refund_policy,omitempty"`
	StackGroup  string       `json:"stack_group,omitempty"`   // of which one hold has at most MaxPerGroup; empty: any number
	MaxPerGroup int          `json:"max_per_group,omitempty"` // 1 is an exclusive group
	Priority    int          `json:"priority,omitempty"`      // higher ones are computed first; equal ones in the order of the request
	MaxDiscount Money        `json:"max_discount,omitzero"`   // the most that all coupons of a hold that has this one give; zero: no limit

	ReturnGraceMs int64 `json:"return_grace_ms,omitempty"` // how long it lives when it comes back from a hold or a refund after its end; once
}

// or is the terms of which some were said: what was left out is as in the others. A group and how many of it are one.
func (t Terms) or(others Terms) Terms {
	if t.Refund == "" {
		t.Refund = others.Refund
	}
	if t.StackGroup == "" {
		t.StackGroup, t.MaxPerGroup = others.StackGroup, others.MaxPerGroup
	}
	if t.Priority == 0 {
		t.Priority = others.Priority
	}
	if t.MaxDiscount == (Money{}) {
		t.MaxDiscount = others.MaxDiscount
	}
	if t.ReturnGraceMs == 0 {
		t.ReturnGraceMs = others.ReturnGraceMs
	}
	return t
}

// plain is the same terms as they are stored: a policy that is the usual one is not said.
func (t Terms) plain() Terms {
	if t.Refund == WholeOrder {
		t.Refund = ""
	}
	return t
}

// written is the column; nil for the usual terms.
func (t Terms) written() []byte {
	if t == (Terms{}) {
		return nil
	}
	doc, _ := json.Marshal(t) // texts without escapes, and numbers
	return doc
}

// readTerms reads the column. What was written by a later version is read as far as it is known.
func readTerms(doc []byte) (t Terms, err error) {
	if len(doc) > 0 {
		err = json.Unmarshal(doc, &t)
	}
	return t, err
}

// returns says whether a refund gives the coupon back.
func (t Terms) returns(whole bool) bool {
	switch t.Refund {
	case NoRefund:
		return false
	case AnyRefund:
		return true
	default:
		return whole
	}
}
