package api

import (
	"context"
	"net/http"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
)

// CreateCampaign answers POST /v1/campaigns.
func (s *server) CreateCampaign(ctx context.Context, r gen.CreateCampaignRequestObject) (gen.CreateCampaignResponseObject, error) {
	b := r.Body
	discount, err := discountOf(&b.Discount)
	if err != nil {
		return nil, err
	}
	v := &b.Validity
	campaign := ledger.Campaign{
		CampaignID: owner(ctx, b.CampaignID), Discount: discount.Body(), TimeZone: b.TimeZone, StartsAt: b.StartsAt, EndsAt: b.EndsAt,
		Validity:   ledger.Validity{Kind: ledger.ValidityKind(v.Kind), From: v.From, Until: v.Until, Days: v.Days},
		TotalLimit: b.TotalLimit, OwnerLimit: b.OwnerLimit, OwnerDayLimit: b.OwnerDayLimit,
		CodeRequired: b.CodeRequired,
		Terms: ledger.Terms{
			Refund: ledger.RefundPolicy(b.RefundPolicy), StackGroup: b.StackGroup, MaxPerGroup: b.MaxPerGroup, Priority: b.Priority,
			MaxDiscount: ledger.Money(b.MaxDiscount), ReturnGraceMs: b.ReturnGraceMs,
		},
	}
	if b.Budget != (gen.Money{}) {
		campaign.Budget = new(ledger.Money(b.Budget))
	}
	answer, err := s.cfg.Ledger.CreateCampaign(ctx, callOf(ctx).caller(), campaign)
	return written(ctx, answer, pointAtAmounts(err, &b.Discount))
}

// ListCampaigns answers GET /v1/campaigns.
func (s *server) ListCampaigns(ctx context.Context, r gen.ListCampaignsRequestObject) (gen.ListCampaignsResponseObject, error) {
	list := s.cursors.list("campaigns")
	after, err := list.afterName(r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(r.Params.Limit)
	if err != nil {
		return nil, err
	}
	page, next, err := s.cfg.Ledger.Campaigns(ctx, after, limit)
	return shown(http.StatusOK, campaignList{page, list.nextName(next)}, err)
}

type campaignList struct {
	Campaigns  []ledger.Campaign `json:"campaigns"`
	NextCursor string            `json:"next_cursor,omitempty"`
}

// GetCampaign answers GET /v1/campaigns/{campaign_id}.
func (s *server) GetCampaign(ctx context.Context, r gen.GetCampaignRequestObject) (gen.GetCampaignResponseObject, error) {
	body, err := s.cfg.Ledger.Campaign(ctx, owner(ctx, r.CampaignID))
	return shown(http.StatusOK, body, inQuery(err))
}

// PauseCampaign answers POST /v1/campaigns/{campaign_id}/pause.
func (s *server) PauseCampaign(ctx context.Context, r gen.PauseCampaignRequestObject) (gen.PauseCampaignResponseObject, error) {
	return s.moveCampaign(ctx, r.CampaignID, ledger.PauseCampaign, r.Body)
}

// ResumeCampaign answers POST /v1/campaigns/{campaign_id}/resume.
func (s *server) ResumeCampaign(ctx context.Context, r gen.ResumeCampaignRequestObject) (gen.ResumeCampaignResponseObject, error) {
	return s.moveCampaign(ctx, r.CampaignID, ledger.ResumeCampaign, r.Body)
}

// EndCampaign answers POST /v1/campaigns/{campaign_id}/end.
func (s *server) EndCampaign(ctx context.Context, r gen.EndCampaignRequestObject) (gen.EndCampaignResponseObject, error) {
	return s.moveCampaign(ctx, r.CampaignID, ledger.EndCampaign, r.Body)
}

// FreezeCampaign answers POST /v1/campaigns/{campaign_id}/freeze.
func (s *server) FreezeCampaign(ctx context.Context, r gen.FreezeCampaignRequestObject) (gen.FreezeCampaignResponseObject, error) {
	return s.moveCampaign(ctx, r.CampaignID, ledger.FreezeCampaign, r.Body)
}

// UnfreezeCampaign answers POST /v1/campaigns/{campaign_id}/unfreeze.
func (s *server) UnfreezeCampaign(ctx context.Context, r gen.UnfreezeCampaignRequestObject) (gen.UnfreezeCampaignResponseObject, error) {
	return s.moveCampaign(ctx, r.CampaignID, ledger.UnfreezeCampaign, r.Body)
}

func (s *server) moveCampaign(ctx context.Context, campaign string, event ledger.CampaignEvent, b *gen.CampaignChange) (reply, error) {
	answer, err := s.cfg.Ledger.MoveCampaign(ctx, callOf(ctx).caller(), ledger.MoveCampaign{
		CampaignID: owner(ctx, campaign), Event: event, Reason: b.Reason,
	})
	return written(ctx, answer, err)
}

// ClaimCoupon answers POST /v1/campaigns/{campaign_id}/claims.
func (s *server) ClaimCoupon(ctx context.Context, r gen.ClaimCouponRequestObject) (gen.ClaimCouponResponseObject, error) {
	answer, err := s.cfg.Ledger.Claim(ctx, callOf(ctx).caller(), ledger.Claim{
		Owner: owner(ctx, r.Body.Owner), CampaignID: r.CampaignID, ClaimRef: r.Body.ClaimRef,
	})
	return written(ctx, answer, err)
}
