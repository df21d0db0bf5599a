package api

import (
	"context"
	"net/http"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
)

// MakeCodes answers POST /v1/campaigns/{campaign_id}/codes.
func (s *server) MakeCodes(ctx context.Context, r gen.MakeCodesRequestObject) (gen.MakeCodesResponseObject, error) {
	b := r.Body
	answer, err := s.cfg.Ledger.MakeCodes(ctx, callOf(ctx).caller(), ledger.MakeCodes{
		CampaignID: owner(ctx, r.CampaignID), BatchRef: b.BatchRef, Count: b.Count, Codes: b.Codes, Shared: b.SharedCode,
	})
	return written(ctx, answer, err)
}

// ListCodes answers GET /v1/campaigns/{campaign_id}/codes.
func (s *server) ListCodes(ctx context.Context, r gen.ListCodesRequestObject) (gen.ListCodesResponseObject, error) {
	list := s.cursors.list("codes", r.CampaignID, r.Params.BatchRef)
	after, err := list.afterNumber(r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(r.Params.Limit)
	if err != nil {
		return nil, err
	}
	page, next, err := s.cfg.Ledger.Codes(ctx, ledger.CodeFilter{
		CampaignID: owner(ctx, r.CampaignID), BatchRef: r.Params.BatchRef, After: after, Limit: limit,
	})
	return shown(http.StatusOK, codeList{page, list.nextNumber(next)}, inQuery(err))
}

type codeList struct {
	Codes      []ledger.CodeBody `json:"codes"`
	NextCursor string            `json:"next_cursor,omitempty"`
}

// RedeemCode answers POST /v1/redemptions.
func (s *server) RedeemCode(ctx context.Context, r gen.RedeemCodeRequestObject) (gen.RedeemCodeResponseObject, error) {
	answer, err := s.cfg.Ledger.Redeem(ctx, callOf(ctx).caller(), ledger.Redeem{Owner: owner(ctx, r.Body.Owner), Code: r.Body.Code})
	return written(ctx, answer, err)
}
