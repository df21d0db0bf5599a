package ledger

import "github.com/statesvc/statesvc/shard/id"

// The bodies of operations: the validated request, and the ids that it may need, minted before it is queued so that apply
// needs no randomness.
type (
	holdOp struct {
		Hold
		id   id.ID              // of the new hold: the caller's own, or minted for it
		hash [2 * printLen]byte // see requestHash
	}
	confirmOp struct {
		Confirm
		successor id.ID // of the hold that a late confirm makes
	}
	refundOp struct {
		Refund
		id   id.ID
		hash [2 * printLen]byte // tells whether a second refund of the reference asks for the same
	}
	extendOp  struct{ Extend }
	pinOp     struct{ Pin }
	replaceOp struct {
		holdOp
		old HoldRef
	}
	freezeOp struct{ Freeze }
	revokeOp struct{ Revoke }
	cancelOp struct {
		Cancel
		tombstone id.ID // of the tombstone, if there is no such hold
	}
	issueOp struct {
		IssueCoupon
		id id.ID
	}
	creditOp struct {
		CreditLot
		id id.ID
	}
	expireOp struct{} // background work: settle what has expired
)

// currency is that of the whole hold: all of its parts must agree with the lines, or with the first item if there are none.
func (op *holdOp) currency() string {
	if len(op.Lines) > 0 {
		return op.Lines[0].Amount.Currency
	}
	return op.Items[0].Amount.Currency
}

// moneyCurrency is the currency of the hold if it takes money, or else empty: a hold without money touches no balance.
func (op *holdOp) moneyCurrency() string {
	for i := range op.Items {
		if op.Items[i].Kind == MoneyItem {
			return op.currency()
		}
	}
	return ""
}
