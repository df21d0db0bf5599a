package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/shard"
)

const (
	bulkMax    = 1000
	bulkAtOnce = 256 // owners whose operations are on their way: a full batch, far from filling a queue
)

// Bulk answers POST /v1/bulk. Each operation goes through the handler of its single call, so there is one way to do it and one
// table of codes.
func (s *server) Bulk(ctx context.Context, r gen.BulkRequestObject) (gen.BulkResponseObject, error) {
	call, operations := callOf(ctx), r.Body.Operations
	if n := len(operations); n < 1 || n > bulkMax {
		return nil, invalid("/operations", fmt.Sprintf("must be 1 to %d", bulkMax))
	}
	if !s.limits.of(call.key).tokens.AllowN(call.start, len(operations)-1) { // the request itself was one
		return nil, errRateLimited
	}
	results := make([]bulkResult, len(operations))
	var working errgroup.Group
	working.SetLimit(bulkAtOnce)
	for _, indices := range byOwner(operations) {
		working.Go(func() error {
			for _, i := range indices {
				results[i] = s.bulkOne(ctx, call, &operations[i])
			}
			return nil
		})
	}
	_ = working.Wait() // the operations keep their errors
	body := bulkReply{Results: results}
	for i := range results {
		if results[i].Problem == nil {
			body.Done++
		} else {
			body.Refused++
		}
	}
	return shown(http.StatusOK, body, nil)
}

type bulkReply struct {
	Results []bulkResult `json:"results"`
	Done    int          `json:"done"`
	Refused int          `json:"refused"`
}

type bulkResult struct {
	Status   int             `json:"status"`
	Replayed bool            `json:"replayed,omitempty"`
	Reply    json.RawMessage `json:"reply,omitempty"`
	Problem  *document       `json:"problem,omitempty"`
}

// byOwner lists the operations of each owner in their order.
func byOwner(operations []gen.BulkOperation) map[string][]int {
	indices := make(map[string][]int, len(operations))
	for i := range operations {
		name := bulkOwner(&operations[i])
		indices[name] = append(indices[name], i)
	}
	return indices
}

func bulkOwner(o *gen.BulkOperation) string {
	switch {
	case o.Hold != nil:
		return o.Hold.Owner
	case o.Confirm != nil:
		return o.Confirm.Owner
	case o.Cancel != nil:
		return o.Cancel.Owner
	case o.Issue != nil:
		return o.Issue.Issue.Owner
	case o.Credit != nil:
		return o.Credit.Owner
	}
	return ""
}

// bulkOne does an operation as its single call would.
func (s *server) bulkOne(ctx context.Context, bulk *call, o *gen.BulkOperation) bulkResult {
	one := &call{start: bulk.start, requestID: bulk.requestID, key: bulk.key, idempotency: o.IdempotencyKey, timeout: bulk.timeout}
	answer, err := s.bulkDo(context.WithValue(ctx, callKey{}, one), one, o)
	if err != nil {
		d := newDocument(err, true)
		d.RequestID, one.problem = bulk.requestID, d.Code
		if d.Code == internal.code {
			what := s.textInLog(&call{owner: one.owner, err: err})
			s.cfg.Log.ErrorContext(ctx, "an operation of a bulk failed", "request_id", bulk.requestID, "error", what)
		}
		return s.bulkCounted(ctx, one, bulkResult{Status: d.Status, Replayed: one.replayed, Problem: d})
	}
	r := answer.(reply)
	return s.bulkCounted(ctx, one, bulkResult{Status: r.status, Replayed: r.replayed, Reply: r.body})
}

func (s *server) bulkCounted(ctx context.Context, one *call, result bulkResult) bulkResult {
	if one.route != nil {
		s.metrics.operation(ctx, one.route.op, one.outcome())
	}
	return result
}

// bulkDo checks what the door checks of a single call, and calls its handler.
func (s *server) bulkDo(ctx context.Context, one *call, o *gen.BulkOperation) (answer any, err error) {
	path, handle := s.bulkHandler(o)
	if handle == nil {
		return nil, invalid("", "must have exactly one of hold, confirm, cancel, issue and credit")
	}
	one.route = routeAt[place{http.MethodPost, path}]
	switch {
	case !one.key.Scopes.Has(one.route.scope):
		return nil, fmt.Errorf("%w: it needs %s and has %s", errForbidden, one.route.scope, one.key.Scopes)
	case !validKey(one.idempotency):
		return nil, invalid("/idempotency_key", "must be 1 to 64 of A–Z a–z 0–9 . _ : -")
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the deadline came before the operation: %w", shard.ErrOverloaded)
	}
	return handle(ctx)
}

// bulkHandler finds the single call of an operation, by its place in gin's spelling; nil if there is none, or more than one.
func (s *server) bulkHandler(o *gen.BulkOperation) (path string, handle func(ctx context.Context) (any, error)) {
	named := 0
	for _, there := range []bool{o.Hold != nil, o.Confirm != nil, o.Cancel != nil, o.Issue != nil, o.Credit != nil} {
		if there {
			named++
		}
	}
	switch {
	case named != 1:
		return "", nil
	case o.Hold != nil:
		return "/v1/holds", func(ctx context.Context) (any, error) {
			return s.CreateHold(ctx, gen.CreateHoldRequestObject{Body: o.Hold})
		}
	case o.Issue != nil:
		return "/v1/campaigns/:campaign_id/issues", func(ctx context.Context) (any, error) {
			return s.IssueCoupon(ctx, gen.IssueCouponRequestObject{CampaignID: o.Issue.CampaignID, Body: &o.Issue.Issue})
		}
	case o.Credit != nil:
		return "/v1/owners/:owner/lots", func(ctx context.Context) (any, error) {
			return s.CreditLot(ctx, gen.CreditLotRequestObject{Owner: o.Credit.Owner, Body: &o.Credit.Lot})
		}
	case o.Confirm != nil:
		return "/v1/holds/confirm", func(ctx context.Context) (any, error) { return s.bulkConfirm(ctx, o.Confirm) }
	}
	return "/v1/holds/cancel", func(ctx context.Context) (any, error) { return s.bulkCancel(ctx, o.Cancel) }
}

func (s *server) bulkConfirm(ctx context.Context, d *gen.BulkDecision) (any, error) {
	if err := checkDecision(d); err != nil {
		return nil, err
	}
	if d.HoldID != "" {
		return s.ConfirmHold(ctx, gen.ConfirmHoldRequestObject{HoldID: d.HoldID, Body: &gen.ConfirmRequest{Owner: d.Owner}})
	}
	return s.ConfirmOrder(ctx, gen.ConfirmOrderRequestObject{Body: orderOf(d)})
}

func (s *server) bulkCancel(ctx context.Context, d *gen.BulkDecision) (any, error) {
	if err := checkDecision(d); err != nil {
		return nil, err
	}
	if d.HoldID != "" {
		return s.CancelHold(ctx, gen.CancelHoldRequestObject{HoldID: d.HoldID, Body: &gen.OwnerRequest{Owner: d.Owner}})
	}
	return s.CancelOrder(ctx, gen.CancelOrderRequestObject{Body: orderOf(d)})
}

func checkDecision(d *gen.BulkDecision) error {
	switch {
	case d.HoldID == "" && d.OrderID == "":
		return invalid("/hold_id", "is missing, and so is order_id")
	case d.HoldID != "" && d.OrderID != "":
		return invalid("/order_id", "cannot be together with hold_id")
	case d.HoldID != "" && d.Attempt != 0:
		return invalid("/attempt", "belongs to order_id, not to attempt "+strconv.Itoa(d.Attempt)+" of a hold")
	}
	return nil
}

func orderOf(d *gen.BulkDecision) *gen.OrderRequest {
	return &gen.OrderRequest{Owner: d.Owner, OrderID: d.OrderID, Attempt: d.Attempt}
}
