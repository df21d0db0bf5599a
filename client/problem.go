package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/statesvc/statesvc/client/gen"
)

// Code is the code of a problem. As an error it is what errors.Is(err, client.ErrHeldByOther) compares with.
type Code string

func (c Code) Error() string { return string(c) }

// The codes, in the order of docs/errors.md. There may be more in later versions.
const (
	ErrNoRoute              Code = "no-route"
	ErrMethodNotAllowed     Code = "method-not-allowed"
	ErrInvalidRequest       Code = "invalid-request"
	ErrTooLarge             Code = "too-large"
	ErrUnsupportedMediaType Code = "unsupported-media-type"
	ErrPreconditionRequired Code = "precondition-required"
	ErrUnauthenticated      Code = "unauthenticated"
	ErrForbidden            Code = "forbidden"
	ErrRateLimited          Code = "rate-limited"
	ErrTooManyGuesses       Code = "too-many-guesses"
	ErrOverloaded           Code = "overloaded"
	ErrBlocked              Code = "blocked"
	ErrFailoverInProgress   Code = "failover-in-progress"
	ErrKeyReused            Code = "key-reused"
	ErrNotFound             Code = "not-found"
	ErrPreconditionFailed   Code = "precondition-failed"
	ErrSuperseded           Code = "superseded"
	ErrAlreadyConfirmed     Code = "already-confirmed"
	ErrAlreadyCancelled     Code = "already-cancelled"
	ErrHoldExpired          Code = "hold-expired"
	ErrRefundOfRefund       Code = "refund-of-refund"
	ErrAlreadyDecided       Code = "already-decided"
	ErrNotStarted           Code = "not-started"
	ErrEnded                Code = "ended"
	ErrFrozen               Code = "frozen"
	ErrCodeRequired         Code = "code-required"
	ErrLimitReached         Code = "limit-reached"
	ErrAlreadyClaimed       Code = "already-claimed"
	ErrNotStackable         Code = "not-stackable"
	ErrCurrencyMismatch     Code = "currency-mismatch"
	ErrMinSpend             Code = "min-spend"
	ErrBlockInForce         Code = "block-in-force"
	ErrNoFailover           Code = "no-failover"
	ErrStaleEpoch           Code = "stale-epoch"
	ErrOrderStands          Code = "order-stands"
	ErrHeldByOther          Code = "held-by-other"
	ErrSpent                Code = "spent"
	ErrAssetExpired         Code = "asset-expired"
	ErrInsufficient         Code = "insufficient"
	ErrSoldOut              Code = "sold-out"
	ErrQuotaUnavailable     Code = "quota-unavailable"
	ErrLateUnfulfillable    Code = "late-unfulfillable"
	ErrOutcomeUnknown       Code = "outcome-unknown"
	ErrInternal             Code = "internal"
)

const (
	outcomeNone    = "none"
	outcomeUnknown = "unknown"
)

// Problem is a refusal, as the service describes it. errors.As finds it in the errors of this package; errors.Is compares its
// code.
type Problem struct {
	gen.Problem
	RetryAfter time.Duration // what the reply asked to wait; 0: nothing
	Replayed   bool          // an earlier attempt with the key got the same refusal
}

func (p *Problem) Error() string {
	return fmt.Sprintf("%d %s: %s (request %s)", p.Status, p.Code, p.Detail, p.RequestID)
}

// Is compares the code.
func (p *Problem) Is(target error) bool {
	code, ok := target.(Code)
	return ok && string(code) == p.Code
}

// newProblem reads a refusal. Something in between, such as a proxy, may answer without a document; then only the status says
// what to do.
func newProblem(response *http.Response, body []byte) *Problem {
	p := &Problem{Replayed: response.Header.Get("Idempotency-Replayed") == "true"}
	if err := json.Unmarshal(body, &p.Problem); err != nil || p.Code == "" {
		p.Problem = gen.Problem{
			Title: response.Status, Status: response.StatusCode, Detail: fmt.Sprintf("%.200s", body), Outcome: outcomeUnknown,
			RequestID: response.Header.Get("X-Request-Id"),
			Retryable: response.StatusCode >= http.StatusInternalServerError || response.StatusCode == http.StatusTooManyRequests,
		}
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	return p
}
