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

// Terms are rules of a coupon beside its discount. Most coupons have none, and then nothing is stored for them.
type Terms struct {
	Refund      RefundPolicy `json:"refund_policy,omitempty"`
	StackGroup  string       `json:"stack_group,omitempty"`   // of which one hold has at most MaxPerGroup; empty: any number
	MaxPerGroup int          `json:"max_per_group,omitempty"` // 1 is an exclusive group
	Priority    int          `json:"priority,omitempty"`      // higher ones are computed first; equal ones in the order of the request
}

// written is the column; nil for the usual terms.
func (t *Terms) written() []byte {
	if *t == (Terms{}) {
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
func (t *Terms) returns(whole bool) bool {
	switch t.Refund {
	case NoRefund:
		return false
	case AnyRefund:
		return true
	default:
		return whole
	}
}
