package ledger

import (
	"time"

	"github.com/statesvc/statesvc/shard/id"
)

// Limits of requests, each with its reason. Money and quantities end where a JavaScript number stops being exact.
const (
	MaxAmount  = 9_007_199_254_740_991
	MaxItems   = 50                        // items of one hold; bounds the rows of one operation
	MaxLines   = 200                       // order lines of one hold
	MinHoldTTL = time.Second               // shorter holds expire before their reply arrives
	MaxHoldTTL = 30 * 24 * time.Hour       // longer ones are not holds
	DefaultTTL = 15 * time.Minute          // of a hold that names none
	MaxExpiry  = 20 * 365 * 24 * time.Hour // of coupons and lots, from now
	MaxPin     = 7 * 24 * time.Hour        // from the first pin of a hold; no payment is unknown for longer
	MaxReason  = 500                       // characters
)

// Money is an amount in minor units (cents, fen) of an ISO 4217 currency.
type Money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// Caller says under which key, and for whom, an operation runs.
type Caller struct {
	Key    string // idempotency key, unique for the owner
	Client string // the API key's id; for fairness between clients, and for what a person answers for
	Name   string // what the API key is called

	// DryRun only finds out what the operation would answer at this instant, by the same code (R27). Nothing is written, not even
	// under the key, and whether the key was used before is not looked at.
	DryRun bool
}

// DiscountKind tells the two kinds of discount apart.
type DiscountKind string

// The kinds of discount.
const (
	Fixed   DiscountKind = "FIXED"   // an amount
	Percent DiscountKind = "PERCENT" // a share of the order, with an optional cap
)

// Discount says what a coupon is worth. Amounts are in the coupon's currency.
type Discount struct {
	Kind        DiscountKind
	Currency    string
	Amount      int64 // Fixed: the discount, at most the order's total; ≥ 1
	BasisPoints int64 // Percent: hundredths of a per cent, 1…10 000; the result is rounded down
	Cap         int64 // Percent: the most it gives; 0: no cap
	MinSpend    int64 // order total from which the coupon may be used; 0: any
}

// IssueCoupon gives an owner a coupon. (CampaignID, Owner, IssueRef) is unique for ever: a second issue answers the first (R1).
type IssueCoupon struct {
	Owner      string
	CampaignID string
	IssueRef   string
	Discount   Discount
	ValidFrom  time.Time // zero: from now
	ExpiresAt  time.Time
	Terms      Terms
}

// CreditLot gives an owner money with its own source and expiry. (Owner, IssueRef) is unique for ever.
type CreditLot struct {
	Owner     string
	IssueRef  string
	Source    string // who pays for it, e.g. a campaign
	Tag       string // holds may restrict themselves to lots of a tag; may be empty
	Amount    Money
	ExpiresAt time.Time

	RefundGrace time.Duration // money refunded after ExpiresAt lives for so long; zero: it comes back as expired
}

// Line is one line of the order that a hold is for. Discounts are split over lines.
type Line struct {
	LineID string
	Amount Money // price of the whole line
}

// ItemKind tells what a hold takes.
type ItemKind string

// The kinds of items.
const (
	CouponItem ItemKind = "coupon"
	MoneyItem  ItemKind = "money"
	StockItem  ItemKind = "stock"
	BudgetItem ItemKind = "budget"
)

// Item is one thing that a hold takes.
type Item struct {
	Kind     ItemKind
	CouponID id.ID  // coupon
	Amount   Money  // money, budget; with All only its currency counts
	All      bool   // money: all that is available, but no more than the lines leave to pay
	Tag      string // money: only lots with this tag; empty: all lots

	SKU        string // stock
	Location   string // stock
	Quantity   int64  // stock; several items may be of one SKU
	CampaignID string // budget: whose
}

// Hold takes coupons, money and units of quotas for an order, all or nothing (R6). (Owner, OrderID, Attempt) is unique for ever.
type Hold struct {
	Owner   string
	OrderID string
	Attempt int
	HoldID  id.ID         // minted in advance by the caller; zero: the ledger mints one
	TTL     time.Duration // zero: DefaultTTL
	Lines   []Line        // needed when a coupon is held; one currency
	Items   []Item

	MaxDiscount int64 // the most that all coupons together give, in the currency of the lines; 0: no limit
	OverCapture int64 // how much more than its money may be confirmed, in the currency of that; 0: nothing
}

// HoldRef names a hold by its id, or by the order it is for when HoldID is zero.
type HoldRef struct {
	HoldID  id.ID
	OrderID string
	Attempt int
}

// Confirm spends what a hold has: in full (R9), or a part of it, by items or by an amount of its money (R17).
type Confirm struct {
	Owner  string
	Hold   HoldRef
	Items  []PartRequest // which items, and how much of them; empty: not by items
	Amount Money         // of the money items, the first ones first, and then beyond them; zero: not by amount
	Final  bool          // with a part: give back the rest

	// AllowLate confirms a hold that has expired, if all of it is still free (R13). Not with a part.
	AllowLate bool
}

// PartRequest is an item of a hold, and how much of it: an amount of money or budget, a quantity of stock, or all that is left. A coupon
// is whole, so it takes All.
type PartRequest struct {
	Item     int // place in the hold's items, from 0
	Amount   Money
	Quantity int64
	All      bool
}

// Extend gives a live hold a later expiry: TTL from now. It never makes it earlier. A hold lives MaxHoldTTL at most (R12).
type Extend struct {
	Owner string
	Hold  HoldRef
	TTL   time.Duration
}

// Pin says that a payment was sent and its outcome is unknown: the hold does not expire within TTL from now, at most MaxPin after
// the first pin, and shows in a report until it is decided (R12).
type Pin struct {
	Owner string
	Hold  HoldRef
	TTL   time.Duration
}

// Replace makes a hold in the place of an older one of the same order, in one step (R14). The older one is cancelled only if the new
// one can be made, and what it has is free for it.
type Replace struct {
	Old HoldRef
	New Hold
}

// Refund gives back what was confirmed (R18, R19), in exactly one of four ways: All, Amount, Items or Lines. (Owner, RefundRef) is
// unique for ever.
type Refund struct {
	Owner     string
	Hold      HoldRef
	OfRefund  id.ID // the caller has named a refund instead of a hold, which is refused
	RefundRef string
	All       bool
	Amount    Money         // of the money, the last lots first
	Items     []PartRequest // which items, and how much of them
	Lines     []string      // whole order lines: each gives back its share of the money
	Reason    string        // for people; may be empty
}

// Freeze lets an owner make no new holds, or ends that (R31). Live holds still confirm.
type Freeze struct {
	Owner  string
	Frozen bool
	Reason string
}

// Revoke takes a coupon, or what is available of a lot, away for ever (R31). With IncludeHeld it cancels the live holds that have some
// of it, which is the one exception to R9.
type Revoke struct {
	Owner       string
	Coupon      id.ID // zero: a lot
	Lot         id.ID
	IncludeHeld bool
	Reason      string
}

// Cancel gives back what a hold has. An unknown hold leaves a tombstone that refuses it for ever (R10).
type Cancel struct {
	Owner string
	Hold  HoldRef
}

// SetQuota makes a quota, or sets how many units it has in all: those that are sold and held are among them. It cannot have fewer
// than those.
type SetQuota struct {
	Quota    string
	Total    int64
	Currency string // of a budget
	Reason   string // for the history; may be empty
	LowAt    int64  // when no more units than that are free, the history gets a QUOTA_LOW; 0: it never does
}

// AdjustQuota gives a quota more units, or takes away some that are free. The quota must be there.
type AdjustQuota struct {
	Quota  string
	Delta  int64 // not 0
	Reason string
}
