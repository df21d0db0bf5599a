package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

func partsOf(b []gen.PartRequest) []ledger.PartRequest {
	parts := make([]ledger.PartRequest, len(b))
	for i := range b {
		parts[i] = ledger.PartRequest{Item: b[i].Item, Amount: ledger.Money(b[i].Amount), Quantity: b[i].Quantity, All: b[i].All}
	}
	return parts
}

// ExtendHold answers POST /v1/holds/{hold_id}/extend.
func (s *server) ExtendHold(ctx context.Context, r gen.ExtendHoldRequestObject) (gen.ExtendHoldResponseObject, error) {
	hold, err := s.ownID(id.Hold, r.HoldID, r.Body.Owner)
	if err != nil {
		return nil, at("hold_id", err)
	}
	answer, err := s.cfg.Ledger.Extend(ctx, callOf(ctx).caller(), ledger.Extend{
		Owner: owner(ctx, r.Body.Owner), Hold: ledger.HoldRef{HoldID: hold}, TTL: time.Duration(r.Body.TTLMs) * time.Millisecond,
	})
	return written(ctx, answer, err)
}

// PinHold answers POST /v1/holds/{hold_id}/pin.
func (s *server) PinHold(ctx context.Context, r gen.PinHoldRequestObject) (gen.PinHoldResponseObject, error) {
	hold, err := s.ownID(id.Hold, r.HoldID, r.Body.Owner)
	if err != nil {
		return nil, at("hold_id", err)
	}
	answer, err := s.cfg.Ledger.Pin(ctx, callOf(ctx).caller(), ledger.Pin{
		Owner: owner(ctx, r.Body.Owner), Hold: ledger.HoldRef{HoldID: hold}, TTL: time.Duration(r.Body.TTLMs) * time.Millisecond,
	})
	return written(ctx, answer, err)
}

// ReplaceHold answers POST /v1/holds/{hold_id}/replace.
func (s *server) ReplaceHold(ctx context.Context, r gen.ReplaceHoldRequestObject) (gen.ReplaceHoldResponseObject, error) {
	hold, err := s.hold(r.Body)
	if err != nil {
		return nil, err
	}
	old, err := s.ownID(id.Hold, r.HoldID, hold.Owner)
	if err != nil {
		return nil, at("hold_id", err)
	}
	owner(ctx, hold.Owner)
	answer, err := s.cfg.Ledger.Replace(ctx, callOf(ctx).caller(), ledger.Replace{Old: ledger.HoldRef{HoldID: old}, New: hold})
	return written(ctx, answer, err)
}

// CreateRefund answers POST /v1/holds/{hold_id}/refunds.
func (s *server) CreateRefund(ctx context.Context, r gen.CreateRefundRequestObject) (gen.CreateRefundResponseObject, error) {
	return s.refund(ctx, callOf(ctx).caller(), r.HoldID, r.Body)
}

// PreviewRefund answers POST /v1/holds/{hold_id}/refunds/preview.
func (s *server) PreviewRefund(ctx context.Context, r gen.PreviewRefundRequestObject) (gen.PreviewRefundResponseObject, error) {
	return s.refund(ctx, callOf(ctx).previewer(), r.HoldID, r.Body)
}

func (s *server) refund(ctx context.Context, caller ledger.Caller, of string, b *gen.RefundRequest) (reply, error) {
	request := ledger.Refund{
		Owner: owner(ctx, b.Owner), RefundRef: b.RefundRef, All: b.All, Amount: ledger.Money(b.Amount), Items: partsOf(b.Items),
		Lines: b.Lines, Reason: b.Reason,
	}
	var err error
	if request.Hold.HoldID, err = s.ownID(id.Hold, of, b.Owner); err != nil {
		refund, wrong := s.ownID(id.Refund, of, b.Owner)
		if wrong != nil {
			return reply{}, at("hold_id", err)
		}
		request.OfRefund = refund
	}
	answer, err := s.cfg.Ledger.Refund(ctx, caller, request)
	return written(ctx, answer, err)
}

// ListRefunds answers GET /v1/holds/{hold_id}/refunds.
func (s *server) ListRefunds(ctx context.Context, r gen.ListRefundsRequestObject) (gen.ListRefundsResponseObject, error) {
	hold, err := s.cfg.Codec.Parse(id.Hold, r.HoldID)
	if err != nil {
		return nil, err
	}
	refunds, err := s.cfg.Ledger.RefundsOfHold(ctx, hold)
	return shown(http.StatusOK, refundList{refunds}, err)
}

type refundList struct {
	Refunds []ledger.RefundBody `json:"refunds"`
}

// GetRefund answers GET /v1/refunds/{refund_id}.
func (s *server) GetRefund(ctx context.Context, r gen.GetRefundRequestObject) (gen.GetRefundResponseObject, error) {
	refund, err := s.cfg.Codec.Parse(id.Refund, r.RefundID)
	if err != nil {
		return nil, err
	}
	body, err := s.cfg.Ledger.RefundByID(ctx, refund)
	return shown(http.StatusOK, body, err)
}

// PreviewHold answers POST /v1/preview.
func (s *server) PreviewHold(ctx context.Context, r gen.PreviewHoldRequestObject) (gen.PreviewHoldResponseObject, error) {
	hold, err := s.hold(r.Body)
	if err != nil {
		return nil, err
	}
	owner(ctx, hold.Owner)
	answer, err := s.cfg.Ledger.Hold(ctx, callOf(ctx).previewer(), hold)
	return written(ctx, answer, err)
}

// FreezeOwner answers POST /v1/owners/{owner}/freeze.
func (s *server) FreezeOwner(ctx context.Context, r gen.FreezeOwnerRequestObject) (gen.FreezeOwnerResponseObject, error) {
	return s.freeze(ctx, ledger.Freeze{Owner: r.Owner, Frozen: true, Reason: r.Body.Reason})
}

// UnfreezeOwner answers POST /v1/owners/{owner}/unfreeze.
func (s *server) UnfreezeOwner(ctx context.Context, r gen.UnfreezeOwnerRequestObject) (gen.UnfreezeOwnerResponseObject, error) {
	return s.freeze(ctx, ledger.Freeze{Owner: r.Owner, Reason: r.Body.Reason})
}

func (s *server) freeze(ctx context.Context, request ledger.Freeze) (reply, error) {
	owner(ctx, request.Owner)
	answer, err := s.cfg.Ledger.Freeze(ctx, callOf(ctx).caller(), request)
	return written(ctx, answer, err)
}

// RevokeCoupon answers POST /v1/coupons/{coupon_id}/revoke.
func (s *server) RevokeCoupon(ctx context.Context, r gen.RevokeCouponRequestObject) (gen.RevokeCouponResponseObject, error) {
	coupon, err := s.ownID(id.Coupon, r.CouponID, r.Body.Owner)
	if err != nil {
		return nil, at("coupon_id", err)
	}
	return s.revoke(ctx, r.Body, ledger.Revoke{Coupon: coupon})
}

// RevokeLot answers POST /v1/lots/{lot_id}/revoke.
func (s *server) RevokeLot(ctx context.Context, r gen.RevokeLotRequestObject) (gen.RevokeLotResponseObject, error) {
	lot, err := s.ownID(id.Lot, r.LotID, r.Body.Owner)
	if err != nil {
		return nil, at("lot_id", err)
	}
	return s.revoke(ctx, r.Body, ledger.Revoke{Lot: lot})
}

func (s *server) revoke(ctx context.Context, b *gen.RevokeRequest, request ledger.Revoke) (reply, error) {
	request.Owner, request.IncludeHeld, request.Reason = owner(ctx, b.Owner), b.IncludeHeld, b.Reason
	answer, err := s.cfg.Ledger.Revoke(ctx, callOf(ctx).caller(), request)
	return written(ctx, answer, err)
}

// ReportHolds answers GET /v1/admin/holds. Each shard is asked by one of its buckets.
func (s *server) ReportHolds(ctx context.Context, r gen.ReportHoldsRequestObject) (gen.ReportHoldsResponseObject, error) {
	report := ledger.HoldReport{Pinned: r.Params.Pinned, Overdue: r.Params.Overdue}
	if !report.Pinned && !report.Overdue {
		return nil, invalid("pinned", "or overdue must be true")
	}
	var err error
	if report.Limit, err = pageLimit(r.Params.Limit); err != nil {
		return nil, err
	}
	m, ok := s.cfg.Routes.Map()
	if !ok {
		return nil, fmt.Errorf("%w: there is no shard map", shard.ErrFailover)
	}
	holds := []ledger.HoldBody{}
	var asked []int
	for _, run := range m.Runs {
		if slices.Contains(asked, run.Shard) {
			continue
		}
		asked = append(asked, run.Shard)
		found, err := s.cfg.Ledger.ReportHolds(ctx, run.From, report)
		if err != nil {
			return nil, err
		}
		holds = append(holds, found...)
	}
	return shown(http.StatusOK, holdList{holds}, nil)
}
