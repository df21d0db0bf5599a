package api

import (
	"context"
	"net/http"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard/id"
)

// AdjustMoney answers POST /v1/owners/{owner}/adjustments.
func (s *server) AdjustMoney(ctx context.Context, r gen.AdjustMoneyRequestObject) (gen.AdjustMoneyResponseObject, error) {
	b := r.Body
	answer, err := s.cfg.Ledger.AdjustMoney(ctx, callOf(ctx).caller(), ledger.AdjustMoney{
		Owner: owner(ctx, r.Owner), AdjustmentRef: b.AdjustmentRef, Delta: b.Delta, Currency: b.Currency, ExpiresAt: b.ExpiresAt,
		Reason: b.Reason,
	})
	return written(ctx, answer, err)
}

// ApproveAdjustment answers POST /v1/adjustments/{adjustment_id}/approve.
func (s *server) ApproveAdjustment(ctx context.Context, r gen.ApproveAdjustmentRequestObject) (gen.ApproveAdjustmentResponseObject, error) {
	return s.decideAdjustment(ctx, r.AdjustmentID, ledger.DecideAdjustment{Owner: r.Body.Owner, Approve: true, Reason: r.Body.Reason})
}

// RejectAdjustment answers POST /v1/adjustments/{adjustment_id}/reject.
func (s *server) RejectAdjustment(ctx context.Context, r gen.RejectAdjustmentRequestObject) (gen.RejectAdjustmentResponseObject, error) {
	return s.decideAdjustment(ctx, r.AdjustmentID, ledger.DecideAdjustment{Owner: r.Body.Owner, Reason: r.Body.Reason})
}

func (s *server) decideAdjustment(ctx context.Context, text string, request ledger.DecideAdjustment) (reply, error) {
	var err error
	if request.AdjustmentID, err = s.ownID(id.Adjustment, text, owner(ctx, request.Owner)); err != nil {
		return reply{}, at("adjustment_id", err)
	}
	answer, err := s.cfg.Ledger.DecideAdjustment(ctx, callOf(ctx).caller(), request)
	return written(ctx, answer, err)
}

// GetAdjustment answers GET /v1/adjustments/{adjustment_id}.
func (s *server) GetAdjustment(ctx context.Context, r gen.GetAdjustmentRequestObject) (gen.GetAdjustmentResponseObject, error) {
	adjustment, err := s.cfg.Codec.Parse(id.Adjustment, r.AdjustmentID)
	if err != nil {
		return nil, err
	}
	body, err := s.cfg.Ledger.Adjustment(ctx, adjustment)
	return shown(http.StatusOK, body, err)
}

// ListAdjustments answers GET /v1/owners/{owner}/adjustments.
func (s *server) ListAdjustments(ctx context.Context, r gen.ListAdjustmentsRequestObject) (gen.ListAdjustmentsResponseObject, error) {
	list := s.cursors.list("adjustments", r.Owner)
	after, limit, err := list.page(r.Params.Cursor, r.Params.Limit)
	if err != nil {
		return nil, err
	}
	page, err := s.cfg.Ledger.Adjustments(ctx, owner(ctx, r.Owner), after, limit)
	return shown(http.StatusOK, adjustmentList{page.Items, list.next(page.Next)}, inQuery(err))
}

// ListProposals answers GET /v1/admin/adjustments.
func (s *server) ListProposals(ctx context.Context, r gen.ListProposalsRequestObject) (gen.ListProposalsResponseObject, error) {
	list := s.cursors.list("proposals")
	after, limit, err := list.page(r.Params.Cursor, r.Params.Limit)
	if err != nil {
		return nil, err
	}
	page, err := s.cfg.Ledger.Proposals(ctx, after, limit)
	return shown(http.StatusOK, adjustmentList{page.Items, list.next(page.Next)}, inQuery(err))
}

type adjustmentList struct {
	Adjustments []ledger.AdjustmentBody `json:"adjustments"`
	NextCursor  string                  `json:"next_cursor,omitempty"`
}
