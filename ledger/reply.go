package ledger

import "time"

// The structs of this file are the bodies of openapi.yaml, field by field. Ids are texts, times RFC 3339 in UTC with
// microseconds, states UPPER_SNAKE.

// Coupon is a right to a discount, used whole.
type Coupon struct {
	CouponID   string       `json:"coupon_id"`
	Owner      string       `json:"owner"`
	CampaignID string       `json:"campaign_id"`
	IssueRef   string       `json:"issue_ref"`
	State      string       `json:"state"` // AVAILABLE, HELD, USED, EXPIRED, REVOKED
	Discount   DiscountBody `json:"discount"`
	ValidFrom  time.Time    `json:"valid_from"`
	ExpiresAt  time.Time    `json:"expires_at"`
	IssuedAt   time.Time    `json:"issued_at"`
	HoldID     string       `json:"hold_id,omitempty"`   // HELD, USED: by which hold
	HeldUntil  time.Time    `json:"held_until,omitzero"` // HELD: until when
	Terms
}

// DiscountBody is a Discount on the wire.
type DiscountBody struct {
	Kind        DiscountKind `json:"kind"`
	Currency    string       `json:"currency"`
	Amount      *Money       `json:"amount,omitempty"`       // FIXED
	BasisPoints int64        `json:"basis_points,omitempty"` // PERCENT
	Cap         *Money       `json:"cap,omitempty"`
	MinSpend    *Money       `json:"min_spend,omitempty"`
}

// Lot is a piece of red-packet money with its own source and expiry.
type Lot struct {
	LotID     string    `json:"lot_id"`
	Owner     string    `json:"owner"`
	IssueRef  string    `json:"issue_ref"`
	Source    string    `json:"source"`
	Tag       string    `json:"tag,omitempty"`
	Currency  string    `json:"currency"`
	Issued    int64     `json:"issued"`
	Available int64     `json:"available"`
	Held      int64     `json:"held"`
	Spent     int64     `json:"spent"`
	Expired   int64     `json:"expired"`
	Revoked   int64     `json:"revoked"`
	ExpiresAt time.Time `json:"expires_at"`
	IssuedAt  time.Time `json:"issued_at"`

	RefundGraceMs int64 `json:"refund_grace_ms,omitempty"` // money refunded after ExpiresAt lives for so long
}

// Balance is an owner's money in one currency, after the operation.
type Balance struct {
	Currency  string `json:"currency"`
	Available int64  `json:"available"`
	Held      int64  `json:"held"`
}

// HoldItem is an item of a hold with what was taken for it.
type HoldItem struct {
	Kind       ItemKind    `json:"kind"`
	CouponID   string      `json:"coupon_id,omitempty"`
	CampaignID string      `json:"campaign_id,omitempty"`
	Discount   *Money      `json:"discount,omitempty"` // coupon: what it gives for this order
	Lines      []LineShare `json:"lines,omitempty"`    // coupon: the discount split over lines; the shares sum up exactly (R18)
	Amount     *Money      `json:"amount,omitempty"`   // money
	Tag        string      `json:"tag,omitempty"`
	Lots       []LotShare  `json:"lots,omitempty"` // money: earliest expiry first, ties by lot id (R7)
	SKU        string      `json:"sku,omitempty"`  // stock
	Location   string      `json:"location,omitempty"`
	Quantity   int64       `json:"quantity,omitempty"`
}

// LineShare is the part of a discount that falls on one order line.
type LineShare struct {
	LineID string `json:"line_id"`
	Amount int64  `json:"amount"`
}

// LotShare is the part of an amount that one lot gives.
type LotShare struct {
	LotID  string `json:"lot_id"`
	Amount int64  `json:"amount"`
}

// LineBody is an order line with what it costs after all discounts.
type LineBody struct {
	LineID   string `json:"line_id"`
	Amount   Money  `json:"amount"`
	Discount int64  `json:"discount"`
	Payable  int64  `json:"payable"`
}

// HoldBody is a hold: the reply of hold, confirm and cancel, and what a read shows.
type HoldBody struct {
	HoldID    string    `json:"hold_id"`
	Owner     string    `json:"owner"`
	OrderID   string    `json:"order_id,omitempty"` // a tombstone made by id has none
	Attempt   int       `json:"attempt,omitempty"`
	State     string    `json:"state"` // HELD, CONFIRMED, CANCELLED, EXPIRED
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	DecidedAt time.Time `json:"decided_at,omitzero"`
	Progress
	Items    []HoldItem `json:"items"`
	Lines    []LineBody `json:"lines,omitempty"`
	Discount *Money     `json:"discount,omitempty"` // sum over all coupons
	Payable  *Money     `json:"payable,omitempty"`  // what the lines still cost: total − discount − money held

	OverCaptureLimit *Money `json:"over_capture_limit,omitempty"` // how much more than its money may be confirmed

	Tombstone bool `json:"tombstone,omitempty"` // a cancel came before its hold (R10)
}

// HoldReply answers hold, confirm and cancel.
type HoldReply struct {
	Hold          HoldBody  `json:"hold"`
	Balances      []Balance `json:"balances"`                 // of the currencies that the hold touches
	Version       int64     `json:"version"`                  // of the owner; +1 with every write
	AlreadyExists bool      `json:"already_exists,omitempty"` // another key has made this hold before
}

// CouponReply answers an issue.
type CouponReply struct {
	Coupon        Coupon `json:"coupon"`
	Version       int64  `json:"version"`
	AlreadyExists bool   `json:"already_exists,omitempty"`
}

// LotReply answers a credit.
type LotReply struct {
	Lot           Lot       `json:"lot"`
	Balances      []Balance `json:"balances"`
	Version       int64     `json:"version"`
	AlreadyExists bool      `json:"already_exists,omitempty"`
}

// Entry is one decided operation in an owner's history.
type Entry struct {
	Owner    string        `json:"owner"`
	Seq      int64         `json:"seq"`  // 1, 2, 3 … without gaps
	Kind     string        `json:"kind"` // ISSUED, CREDITED, CONFIRMED, QUOTA_SET … see history.go
	At       time.Time     `json:"at"`
	HoldID   string        `json:"hold_id,omitempty"`
	RefundID string        `json:"refund_id,omitempty"`
	Reason   string        `json:"reason,omitempty"` // a person's, of what a person has done
	Changes  []EntryChange `json:"changes"`

	Adjustment *EntryAdjustment `json:"adjustment,omitempty"` // of entries about a change by hand

	Hash string `json:"hash"` // hex of SHA-256 over the previous hash and this entry
}

// EntryChange is what an entry did to one asset: a coupon's state, a lot's counters, or where units of a quota are.
type EntryChange struct {
	CouponID   string       `json:"coupon_id,omitempty"`
	QuotaID    string       `json:"quota_id,omitempty"`
	CampaignID string       `json:"campaign_id,omitempty"`
	PacketID   string       `json:"packet_id,omitempty"`
	From       string       `json:"from,omitempty"` // state or place before; empty for a new asset
	To         string       `json:"to,omitempty"`
	Quantity   int64        `json:"quantity,omitempty"` // of a quota
	LotID      string       `json:"lot_id,omitempty"`
	Before     *LotCounters `json:"before,omitempty"`
	After      *LotCounters `json:"after,omitempty"`
}

// LotCounters are a lot's counters at one instant; they always sum up to what was issued (I2).
type LotCounters struct {
	Available int64 `json:"available"`
	Held      int64 `json:"held"`
	Spent     int64 `json:"spent"`
	Expired   int64 `json:"expired"`
	Revoked   int64 `json:"revoked"`
}

// OwnerBody sums up an owner.
type OwnerBody struct {
	Owner     string    `json:"owner"`
	Version   int64     `json:"version"` // 0: nothing was ever written
	Balances  []Balance `json:"balances"`
	Coupons   int64     `json:"coupons_available"`
	LiveHolds int64     `json:"live_holds"`
	Frozen    bool      `json:"frozen,omitempty"` // no new holds
}

// OperationBody says what became of a key (R25).
type OperationBody struct {
	Owner  string `json:"owner"`
	Key    string `json:"key"`
	Status string `json:"status"`          // DONE, REFUSED, SEALED, ABORTED (may be sent again), IN_PROGRESS, NOT_SEEN
	Reply  any    `json:"reply,omitempty"` // DONE: the recorded reply; REFUSED: the refusal
}

// VerifyBody is the result of checking an owner's hash chain.
type VerifyBody struct {
	Owner    string `json:"owner"`
	Entries  int64  `json:"entries"`
	Intact   bool   `json:"intact"`
	BrokenAt int64  `json:"broken_at,omitempty"` // sequence of the first entry that does not fit
	Head     string `json:"head"`
}

// QuotaReply answers a change of a quota's total.
type QuotaReply struct {
	QuotaID  string `json:"quota_id"`
	Currency string `json:"currency,omitempty"`
	Total    int64  `json:"total"`
	Free     int64  `json:"free"` // granted to no slice
	Version  int64  `json:"version"`
}

// SliceBody is the part of a quota that one shard may give away.
type SliceBody struct {
	Shard   int   `json:"shard"`
	Granted int64 `json:"granted"` // the sum of the others

	Available int64 `json:"available"`
	Held      int64 `json:"held"`
	Used      int64 `json:"used"`
}

// QuotaBody is a quota, summed up over the home and all slices. Each of them is read at an instant of its own, so while units are
// taken and moved the sums are about right; every single row is exact.
type QuotaBody struct {
	QuotaID   string      `json:"quota_id"`
	Currency  string      `json:"currency,omitempty"`
	Total     int64       `json:"total"`
	Available int64       `json:"available"` // free, or available on a slice, or between the two
	Held      int64       `json:"held"`
	Used      int64       `json:"used"`       // sold, spent
	Free      int64       `json:"free"`       // at home
	InTransit int64       `json:"in_transit"` // out and not in
	LowAt     int64       `json:"low_at,omitempty"`
	Slices    []SliceBody `json:"slices"`
	Version   int64       `json:"version"`
}
