package ledger

import (
	"errors"
	"fmt"
	"time"
)

// The reasons for which a rule refuses an operation, in the order in which they are checked. Their texts are the codes of
// docs/errors.md. All are final and recorded under the operation's key, except ErrTooManyGuesses,
// ErrHeldByOther and ErrQuotaUnavailable (R24).
var (
	ErrForbidden        = errors.New("forbidden")        // of the key that has proposed what it would approve
	ErrTooManyGuesses   = errors.New("too-many-guesses") // retryable after RetryAt
	ErrNotFound         = errors.New("not-found")
	ErrSuperseded       = errors.New("superseded")
	ErrAlreadyConfirmed = errors.New("already-confirmed")
	ErrAlreadyCancelled = errors.New("already-cancelled")
	ErrHoldExpired      = errors.New("hold-expired")
	ErrRefundOfRefund   = errors.New("refund-of-refund")
	ErrAlreadyDecided   = errors.New("already-decided") // an adjustment
	ErrNotStarted       = errors.New("not-started")
	ErrEnded            = errors.New("ended")
	ErrFrozen           = errors.New("frozen")
	ErrCodeRequired     = errors.New("code-required")
	ErrLimitReached     = errors.New("limit-reached")
	ErrAlreadyClaimed   = errors.New("already-claimed") // CouponID says what
	ErrNotStackable     = errors.New("not-stackable")
	ErrCurrencyMismatch = errors.New("currency-mismatch")
	ErrMinSpend         = errors.New("min-spend")     // the order is too small for the coupon
	ErrHeldByOther      = errors.New("held-by-other") // retryable after RetryAt, with the same key
	ErrSpent            = errors.New("spent")
	ErrAssetExpired     = errors.New("asset-expired")
	ErrInsufficient     = errors.New("insufficient")
	ErrSoldOut          = errors.New("sold-out")          // there is less of a quota everywhere
	ErrQuotaUnavailable = errors.New("quota-unavailable") // retryable: not known whether there is more elsewhere

	ErrLateUnfulfillable = errors.New("late-unfulfillable") // Gone has what is not free any more
)

// reasons lists the errors above in their order.
var reasons = []error{
	ErrForbidden, ErrTooManyGuesses, ErrNotFound, ErrSuperseded, ErrAlreadyConfirmed, ErrAlreadyCancelled, ErrHoldExpired,
	ErrRefundOfRefund, ErrAlreadyDecided, ErrNotStarted, ErrEnded, ErrFrozen, ErrCodeRequired, ErrLimitReached, ErrAlreadyClaimed,
	ErrNotStackable, ErrCurrencyMismatch, ErrMinSpend, ErrHeldByOther, ErrSpent, ErrAssetExpired, ErrInsufficient, ErrSoldOut,
	ErrQuotaUnavailable, ErrLateUnfulfillable,
}

// reasonOf is the error whose text is code. A code that this version does not know (any more) is an error of its own.
func reasonOf(code string) error {
	for _, reason := range reasons {
		if reason.Error() == code {
			return reason
		}
	}
	return fmt.Errorf("unknown refusal %q", code)
}

// retryable says that the same key may be tried again: the refusal is not recorded.
func retryable(reason error) bool {
	return errors.Is(reason, ErrHeldByOther) || errors.Is(reason, ErrQuotaUnavailable) || errors.Is(reason, ErrTooManyGuesses)
}

// ErrInvalid: the request breaks a rule of syntax or a limit; nothing was looked up. See [Invalid].
var ErrInvalid = errors.New("invalid-request")

// ErrKeyReused: the key belongs to another request. See [KeyReused].
var ErrKeyReused = errors.New("key-reused")

// Refusal is a refused operation. It is the error of a public method, and as JSON the recorded reply of a REFUSED key.
type Refusal struct {
	Reason  error     `json:"-"`
	Code    string    `json:"code"`
	Detail  string    `json:"detail"`
	RetryAt time.Time `json:"retry_at,omitzero"`
	Asked   *int64    `json:"asked,omitempty"`   // insufficient, min-spend: what was asked for, or is needed
	Have    *int64    `json:"have,omitempty"`    // and what there is
	Pointer string    `json:"pointer,omitempty"` // JSON pointer to the part of the request that was refused
	HoldID  string    `json:"hold_id,omitempty"`

	CouponID string `json:"coupon_id,omitempty"` // already-claimed

	Gone []GoneAsset `json:"gone,omitempty"` // late-unfulfillable: what another hold has taken, or what has ended
}

// GoneAsset is something of an expired hold that is not free any more.
type GoneAsset struct {
	CouponID string `json:"coupon_id,omitempty"`
	State    string `json:"state,omitempty"` // of the coupon
	LotID    string `json:"lot_id,omitempty"`
	QuotaID  string `json:"quota_id,omitempty"`
	Asked    int64  `json:"asked"`
	Have     int64  `json:"have"`
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Detail }

// Unwrap makes errors.Is(err, ErrInsufficient) work.
func (r *Refusal) Unwrap() error { return r.Reason }

// Invalid lists everything that is wrong with a request.
type Invalid struct{ Problems []FieldProblem }

// FieldProblem is one thing that is wrong, with the JSON pointer to it, or with the name of a header.
type FieldProblem struct{ Pointer, Detail string }

func (e *Invalid) Error() string {
	return fmt.Sprintf("%d problems, first: %s %s", len(e.Problems), e.Problems[0].Pointer, e.Problems[0].Detail)
}

// Unwrap makes errors.Is(err, ErrInvalid) work.
func (e *Invalid) Unwrap() error { return ErrInvalid }

// KeyReused names the fields in which a request differs from the one that used its key first.
type KeyReused struct {
	Sealed bool // no request may use the key any more
	Fields []string
}

func (e *KeyReused) Error() string {
	if e.Sealed {
		return "the key was sealed"
	}
	return fmt.Sprintf("the key belongs to a request with other %v", e.Fields)
}

// Unwrap makes errors.Is(err, ErrKeyReused) work.
func (e *KeyReused) Unwrap() error { return ErrKeyReused }
