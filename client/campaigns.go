package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/statesvc/statesvc/client/gen"
)

// campaignOwner is the owner of a campaign's keys and history.
func campaignOwner(campaignID string) string { return "campaign:" + campaignID }

// CreateCampaign makes a campaign from which owners claim coupons, once per name.
func (c *Client) CreateCampaign(ctx context.Context, key string, r CampaignRequest) (CampaignReply, error) {
	return do[CampaignReply](ctx, c, write(campaignOwner(r.CampaignID), key, func(server, key string) (*http.Request, error) {
		return gen.NewCreateCampaignRequest(server, &gen.CreateCampaignParams{IdempotencyKey: key}, r)
	}))
}

// Campaign shows a campaign.
func (c *Client) Campaign(ctx context.Context, campaignID string) (Campaign, error) {
	return do[Campaign](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewGetCampaignRequest(server, campaignID, nil)
	}))
}

// Campaigns goes through all campaigns by name, like Coupons.
func (c *Client) Campaigns(ctx context.Context) iter.Seq2[Campaign, error] {
	return pages(func(cursor *string) ([]Campaign, string, error) {
		page, err := do[gen.CampaignList](ctx, c, read(func(server string) (*http.Request, error) {
			return gen.NewListCampaignsRequest(server, &gen.ListCampaignsParams{Limit: new(pageSize), Cursor: cursor})
		}))
		return page.Campaigns, page.NextCursor, err
	})
}

// PauseCampaign stops claims until ResumeCampaign. When it returns without an error, no shard grants any.
func (c *Client) PauseCampaign(ctx context.Context, key, campaignID, reason string) (CampaignReply, error) {
	return do[CampaignReply](ctx, c, write(campaignOwner(campaignID), key, func(server, key string) (*http.Request, error) {
		params := &gen.PauseCampaignParams{IdempotencyKey: key}
		return gen.NewPauseCampaignRequest(server, campaignID, params, gen.CampaignChange{Reason: reason})
	}))
}

// ResumeCampaign lets a paused campaign go on.
func (c *Client) ResumeCampaign(ctx context.Context, key, campaignID, reason string) (CampaignReply, error) {
	return do[CampaignReply](ctx, c, write(campaignOwner(campaignID), key, func(server, key string) (*http.Request, error) {
		params := &gen.ResumeCampaignParams{IdempotencyKey: key}
		return gen.NewResumeCampaignRequest(server, campaignID, params, gen.CampaignChange{Reason: reason})
	}))
}

// EndCampaign ends a campaign for ever. Coupons that were claimed stay good.
func (c *Client) EndCampaign(ctx context.Context, key, campaignID, reason string) (CampaignReply, error) {
	return do[CampaignReply](ctx, c, write(campaignOwner(campaignID), key, func(server, key string) (*http.Request, error) {
		params := &gen.EndCampaignParams{IdempotencyKey: key}
		return gen.NewEndCampaignRequest(server, campaignID, params, gen.CampaignChange{Reason: reason})
	}))
}

// FreezeCampaign stops claims, and new holds of coupons that were claimed or issued. Live holds still confirm.
func (c *Client) FreezeCampaign(ctx context.Context, key, campaignID, reason string) (CampaignReply, error) {
	return do[CampaignReply](ctx, c, write(campaignOwner(campaignID), key, func(server, key string) (*http.Request, error) {
		params := &gen.FreezeCampaignParams{IdempotencyKey: key}
		return gen.NewFreezeCampaignRequest(server, campaignID, params, gen.CampaignChange{Reason: reason})
	}))
}

// UnfreezeCampaign ends a freeze.
func (c *Client) UnfreezeCampaign(ctx context.Context, key, campaignID, reason string) (CampaignReply, error) {
	return do[CampaignReply](ctx, c, write(campaignOwner(campaignID), key, func(server, key string) (*http.Request, error) {
		params := &gen.UnfreezeCampaignParams{IdempotencyKey: key}
		return gen.NewUnfreezeCampaignRequest(server, campaignID, params, gen.CampaignChange{Reason: reason})
	}))
}

// Claim asks a campaign for a coupon, once per reference. ErrAlreadyClaimed, ErrLimitReached, ErrSoldOut, ErrNotStarted, ErrEnded and
// ErrFrozen say why there is none.
func (c *Client) Claim(ctx context.Context, key, campaignID string, r ClaimRequest) (CouponReply, error) {
	return do[CouponReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewClaimCouponRequest(server, campaignID, &gen.ClaimCouponParams{IdempotencyKey: key}, r)
	}))
}
