package api

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api/strictjson"
	"github.com/statesvc/statesvc/blacklist"
	"github.com/statesvc/statesvc/events"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
	"github.com/statesvc/statesvc/state"
)

// Errors that are born here.
var (
	errNoRoute          = errors.New("there is nothing at this address")
	errMethodNotAllowed = errors.New("the address does not know this method")
	errInvalid          = errors.New("the request is malformed")
	errTooLarge         = errors.New("the body is too large")
	errMediaType        = errors.New("the media type is not one that the operation reads")
	errUnauthenticated  = errors.New("there is no API key")
	errForbidden        = errors.New("the key lacks the scope of the operation")
	errRateLimited      = errors.New("the key has used up its rate")
	errNotFound         = errors.New("there is nothing with this id")

	errPreconditionRequired = errors.New("the write says neither If-Match nor If-None-Match")
)

const (
	terminal  = false
	retryable = true
)

// problem is a code with all errors that have it.
type problem struct {
	code      string
	status    int
	retryable bool
	title     string
	errors    []error
}

// problems is scanned top down with errors.Is, in the order of the checks; docs/errors.md and openapi.yaml have the same codes
// in the same order. What is not in it is internal, and its text stays in the log.
var problems = []problem{
	{"no-route", 404, terminal, "There is nothing at this address", []error{errNoRoute}},
	{"method-not-allowed", 405, terminal, "The address does not know this method", []error{errMethodNotAllowed}},
	{
		"invalid-request", 400, terminal, "The request is malformed",
		[]error{
			errInvalid, strictjson.ErrInvalid, ledger.ErrInvalid, state.ErrInvalid, blacklist.ErrInvalid, access.ErrInvalid,
			events.ErrInvalid,
		},
	},
	{"too-large", 413, terminal, "The body is too large", []error{errTooLarge, strictjson.ErrTooLarge, state.ErrTooLarge}},
	{"unsupported-media-type", 415, terminal, "The media type is not supported", []error{errMediaType, strictjson.ErrMediaType}},
	{"precondition-required", 428, terminal, "The write must say what it expects", []error{errPreconditionRequired}},
	{
		"unauthenticated", 401, terminal, "The caller is not known", // ErrExpired and ErrRevoked are told apart in the log only
		[]error{errUnauthenticated, access.ErrUnauthenticated, access.ErrExpired, access.ErrRevoked},
	},
	{"forbidden", 403, terminal, "The key may not do this", []error{errForbidden, ledger.ErrForbidden}},
	{"rate-limited", 429, retryable, "The key has used up its rate", []error{errRateLimited}},
	{"too-many-guesses", 429, retryable, "There were too many wrong codes", []error{ledger.ErrTooManyGuesses}},
	{
		"overloaded", 503, retryable, "The service cannot take more work now", // nothing has happened
		[]error{shard.ErrOverloaded, shard.ErrClosed, id.ErrLeaseLost, id.ErrClockBackwards},
	},
	{"blocked", 503, retryable, "Writes are blocked for a moment", []error{blacklist.ErrBlocked}},
	{
		"failover-in-progress", 503, retryable, "The shard has no primary at the moment",
		[]error{shard.ErrFailover, shard.ErrStaleRoute, blacklist.ErrStale},
	},
	{"key-reused", 422, terminal, "The key or the reference belongs to another request", []error{ledger.ErrKeyReused, state.ErrKeyReused}},
	{
		"not-found", 404, terminal, "There is nothing with this id", // a wrong MAC says the same as a missing row
		[]error{
			errNotFound, ErrNoShard, ledger.ErrNotFound, state.ErrNoKind, access.ErrNotFound, blacklist.ErrNotBlocked,
			id.ErrMalformed, id.ErrForged, events.ErrNotFound, ledger.ErrTrimmed,
		},
	},
	{"precondition-failed", 412, terminal, "The document is in another state", []error{state.ErrPrecondition}},
	{"superseded", 409, terminal, "Another hold has taken its place", []error{ledger.ErrSuperseded}},
	{"already-confirmed", 409, terminal, "The hold is confirmed", []error{ledger.ErrAlreadyConfirmed}},
	{"already-cancelled", 409, terminal, "The hold is cancelled", []error{ledger.ErrAlreadyCancelled}},
	{"hold-expired", 409, terminal, "The hold has expired", []error{ledger.ErrHoldExpired}},
	{"refund-of-refund", 409, terminal, "A refund is not refunded", []error{ledger.ErrRefundOfRefund}},
	{"already-decided", 409, terminal, "The adjustment is decided", []error{ledger.ErrAlreadyDecided}},
	{"not-started", 409, terminal, "The coupon may not be used yet", []error{ledger.ErrNotStarted}},
	{"ended", 409, terminal, "The campaign is over", []error{ledger.ErrEnded}},
	{"frozen", 409, terminal, "The owner or the campaign is frozen", []error{ledger.ErrFrozen}}, // or the campaign is paused
	{"code-required", 409, terminal, "The campaign gives coupons for codes only", []error{ledger.ErrCodeRequired}},
	{
		"limit-reached", 409, terminal, "There is as much as there may be",
		[]error{access.ErrTooMany, events.ErrTooMany, ledger.ErrLimitReached, state.ErrTooManyKinds},
	},
	{"already-claimed", 409, terminal, "The owner has the coupon", []error{ledger.ErrAlreadyClaimed}},
	{"not-stackable", 409, terminal, "The coupons do not go together", []error{ledger.ErrNotStackable}},
	{"currency-mismatch", 409, terminal, "The currencies differ", []error{ledger.ErrCurrencyMismatch}},
	{"min-spend", 409, terminal, "The order is too small for the coupon", []error{ledger.ErrMinSpend}},
	{"block-in-force", 409, terminal, "The cause of the block stands", []error{blacklist.ErrBlockInForce}},
	{"no-failover", 409, terminal, "The shard is not failed over that way", []error{ErrNoFailover}},
	{"stale-epoch", 409, terminal, "Another failover has overtaken this one", []error{ErrStaleEpoch}},
	{"order-stands", 409, terminal, "An earlier order waits to be carried out", []error{ErrOrderStands}},
	{"held-by-other", 409, retryable, "Another hold has the asset", []error{ledger.ErrHeldByOther}}, // after retry_at; never pinned
	{"spent", 409, terminal, "The asset was used", []error{ledger.ErrSpent}},
	{"asset-expired", 409, terminal, "The asset has expired", []error{ledger.ErrAssetExpired}},
	{"insufficient", 409, terminal, "There is less than was asked for", []error{ledger.ErrInsufficient}},
	{"sold-out", 409, terminal, "There is not enough left anywhere", []error{ledger.ErrSoldOut}},
	{
		"quota-unavailable", 503, retryable, "It is not known whether there is more", // never pinned
		[]error{ledger.ErrQuotaUnavailable},
	},
	{"late-unfulfillable", 409, terminal, "What the hold had is not free any more", []error{ledger.ErrLateUnfulfillable}},
	{"outcome-unknown", 504, retryable, "The outcome is not known yet", []error{shard.ErrOutcomeUnknown}}, // the same key only
	{"internal", 500, retryable, "A fault of the service", []error{shard.ErrInternal, shard.ErrLookUp}},   // no caller sees the second
}

// internal is the last row.
var internal = &problems[len(problems)-1]

// problemOf returns the row of err, and the error of the row that err is; that is nil for what is not in the table.
func problemOf(err error) (*problem, error) {
	for i := range problems {
		for _, known := range problems[i].errors {
			if errors.Is(err, known) {
				return &problems[i], known
			}
		}
	}
	return internal, nil
}

// partError is an error that concerns one part of a request.
type partError struct {
	kind    error // in problems
	pointer string
	detail  string
}

func (e *partError) Error() string { return e.pointer + ": " + e.detail }
func (e *partError) Unwrap() error { return e.kind }

func invalid(pointer, detail string) error { return &partError{errInvalid, pointer, detail} }

// document is a problem document.
type document struct {
	Type      string    `json:"type"`
	Title     string    `json:"title"`
	Status    int       `json:"status"`
	Detail    string    `json:"detail,omitempty"`
	Code      string    `json:"code"`
	Retryable bool      `json:"retryable"`
	RetryAt   time.Time `json:"retry_at,omitzero"`
	Outcome   string    `json:"outcome"`
	RequestID string    `json:"request_id"`
	Asked     *int64    `json:"asked,omitempty"`
	Have      *int64    `json:"have,omitempty"`
	HoldID    string    `json:"hold_id,omitempty"`
	CouponID  string    `json:"coupon_id,omitempty"`
	Grain     string    `json:"grain,omitempty"`
	Version   string    `json:"version,omitempty"`

	Gone   []ledger.GoneAsset `json:"gone,omitempty"`
	Errors []part             `json:"errors,omitempty"`
}

// part is one wrong part of a request.
type part struct {
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

func (d *document) add(pointer, detail string) {
	d.Errors = append(d.Errors, part{pointer, d.Code, detail})
}

// newDocument describes err. writing says whether the request could have changed something.
func newDocument(err error, writing bool) *document {
	row, known := problemOf(err)
	d := &document{
		Type: "/problems/" + row.code, Title: row.title, Status: row.status, Code: row.code, Retryable: row.retryable, Outcome: "none",
	}
	if errors.Is(err, shard.ErrOutcomeUnknown) || known == nil && writing {
		d.Outcome = "unknown"
	}
	if known != nil {
		d.Detail = known.Error()
	}
	d.explain(err)
	return d
}

// explain adds what only the error knows. The texts of other errors are not shown: they may name hosts and statements.
func (d *document) explain(err error) {
	if e, ok := errors.AsType[*ledger.Refusal](err); ok {
		d.refusal(e)
	} else if e, ok := errors.AsType[*ledger.Invalid](err); ok {
		for _, p := range e.Problems {
			d.add(p.Pointer, p.Detail)
		}
	} else if d.ofDocuments(err) {
		return
	} else if e, ok := errors.AsType[*strictjson.Error](err); ok {
		for _, p := range e.Problems {
			d.add(p.Pointer, p.Detail)
		}
	} else if e, ok := errors.AsType[*partError](err); ok {
		d.add(e.pointer, e.detail)
	} else if e, ok := errors.AsType[*ledger.KeyReused](err); ok {
		d.keyReused(e)
	} else if e, ok := errors.AsType[*blacklist.BlockedError](err); ok {
		d.Detail, d.RetryAt, d.Grain = e.Error(), e.RetryAt, string(e.Grain)
	} else if errors.Is(err, blacklist.ErrInvalid) || errors.Is(err, access.ErrInvalid) || errors.Is(err, events.ErrInvalid) ||
		ofOperators(err) {
		d.Detail = err.Error()
	}
	if len(d.Errors) > 0 && d.Code == "invalid-request" {
		d.Detail = strings.TrimPrefix(d.Errors[0].Pointer+": "+d.Errors[0].Detail, ": ") // the pointer to the whole body is empty
	}
}

// ofDocuments explains an error of package state.
func (d *document) ofDocuments(err error) bool {
	if e, ok := errors.AsType[*state.Invalid](err); ok {
		for _, p := range e.Problems {
			d.add(p.Pointer, p.Detail)
		}
		d.Detail = strings.TrimPrefix(e.Error(), ": ")
	} else if e, ok := errors.AsType[*state.KeyReused](err); ok {
		d.Detail = e.Error()
		for _, field := range e.Fields {
			d.add("/"+field, "differs from the request that used the key first")
		}
	} else if e, ok := errors.AsType[*state.Conflict](err); ok {
		d.Detail = e.Error()
		if e.Current != (state.Version{}) {
			d.Version = e.Current.String()
		}
	} else {
		return false
	}
	return true
}

func (d *document) refusal(r *ledger.Refusal) {
	d.Detail, d.RetryAt, d.Asked, d.Have, d.HoldID, d.CouponID = r.Detail, r.RetryAt, r.Asked, r.Have, r.HoldID, r.CouponID
	d.Gone = r.Gone
	if r.Pointer != "" {
		d.add(r.Pointer, r.Detail)
	}
}

func (d *document) keyReused(e *ledger.KeyReused) {
	d.Detail = e.Error()
	for _, field := range e.Fields {
		d.add("/"+field, "differs from the request that used the key first")
	}
}

// retryAfter is the least number of seconds to wait. What is retryable without a time may be tried again after a second.
func (d *document) retryAfter(now time.Time) int {
	if d.RetryAt.IsZero() {
		return 1
	}
	return max(1, int(math.Ceil(d.RetryAt.Sub(now).Seconds())))
}

// refuse answers a request with the problem document of err.
func (s *server) refuse(c *gin.Context, err error) { s.answer(c, callOf(c.Request.Context()), err) }

// answer writes the problem document of err. Nothing that comes after it in gin's chain runs.
func (s *server) answer(c *gin.Context, call *call, err error) {
	c.Abort()
	call.err = err
	if c.Writer.Written() { // the reply broke off; there is no way to say so any more
		return
	}
	d := newDocument(err, c.Request.Method != http.MethodGet)
	d.RequestID = call.requestID
	call.problem = d.Code
	header := c.Writer.Header()
	maps.Copy(header, call.header)
	header.Set("Content-Type", "application/problem+json")
	if d.Retryable {
		header.Set("Retry-After", strconv.Itoa(d.retryAfter(s.cfg.Now())))
	}
	if d.Status == http.StatusUnauthorized {
		header.Set("Www-Authenticate", "Bearer")
	}
	if call.replayed {
		header.Set(headerReplayed, "true")
	}
	body, err := json.Marshal(d)
	if err != nil {
		call.err = errors.Join(call.err, err)
	}
	c.Writer.WriteHeader(d.Status)
	_, _ = c.Writer.Write(body) // a caller who is gone needs no document
}
