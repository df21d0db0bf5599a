package ledger

import "github.com/statesvc/statesvc/shard/id"

// The bodies of operations: the validated request, and the ids that it may need, minted before it is queued so that apply
// needs no randomness.
type (
	holdOp struct {
		Hold
		id   id.ID              // of the new hold: the caller's own, or minted for it
		hash [2 * printLen]byte // see requestHash
		quotaSide
	}
	confirmOp struct {
		Confirm
		successor id.ID // of the hold that a late confirm makes
		quotaSide       // of a late confirm
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
		id    id.ID
		rules *rules // of its campaign, if it was created and the instance knows; else nil
		quotaSide
	}
	creditOp struct {
		CreditLot
		id id.ID
	}
	expireOp struct{} // background work: settle what has expired
)

// currency is that of the whole hold: all of its parts must agree with the lines, or with the first item that has one if there are none.
func (op *holdOp) currency() string {
	if len(op.Lines) > 0 {
		return op.Lines[0].Amount.Currency
	}
	for i := range op.Items {
		if currency := op.Items[i].Amount.Currency; currency != "" {
			return currency
		}
	}
	return "" // of a hold of stock alone
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

// quotaSide is what a hold, or what else takes units, knows of quotas: what it needs of each, what a round of borrowing has found out,
// and what apply tells the broker.
type quotaSide struct {
	needs   []quotaTake // of each quota once, in their order
	dry     []string    // quotas of which there is nothing more anywhere
	unknown []string    // quotas that have no home

	low []lack // told by apply: slices that will soon need more
}

// The operations on quotas. Those of transfers have no key: each is safe to repeat. told is for whoever submitted the operation, who
// may read it when the reply is there.
type (
	setQuotaOp struct {
		SetQuota
		gathered bool // all that could be had has come home: refuse if it is not enough
	}
	adjustQuotaOp struct {
		AdjustQuota
		gathered bool
	}
	borrowOp struct { // at home
		lack
		shard  int
		shards int   // among which the free units are to be shared
		id     id.ID // of the transfer
		told   lent
	}
	giveBackOp struct { // at a slice
		quota  string
		shard  int
		amount int64 // at most; 0: only tell
		id     id.ID // of the transfer
		told   givenBack
	}
	landOp  struct{ transfer } // in at the destination
	closeOp struct{ transfer } // known at the source
)

// lent is what a home tells of a request to borrow.
type lent struct {
	transfer transfer // the GRANT under way to the slice; zero: there is none
	unknown  bool     // there is no such quota

	// If nothing was lent:
	ver    int64      // of the home: as long as it stays, nothing was sent out and nothing came in
	free   int64      // too little
	shards []int      // that have been granted units
	others []transfer // the GRANTs under way
}

// givenBack is what a slice tells of a request to give back.
type givenBack struct {
	transfer  transfer // the RETURN under way; zero: there is none
	available int64    // what is left
	due       bool     // holds on it have expired that nobody has settled
}

// lack is what a slice should have more of a quota.
type lack struct {
	quota string
	need  int64 // of all who wait
	least int64 // of them: with less, nobody is helped
	want  int64 // what the slice could use in the next moment
	due   bool  // holds on the slice have expired that nobody has settled
}

// shortage is the answer to a hold whose slices have too little. Nothing has changed.
type shortage struct{ lacks []lack }

func (s *shortage) Error() string { return "too few units of " + s.lacks[0].quota + " on the shard" }
