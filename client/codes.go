package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/statesvc/statesvc/client/gen"
)

// MakeCodes makes codes of a campaign, once per batch: a number of unique ones, those of a list, or a shared one.
func (c *Client) MakeCodes(ctx context.Context, key, campaignID string, r CodesRequest) (CodesReply, error) {
	return do[CodesReply](ctx, c, write(campaignOwner(campaignID), key, func(server, key string) (*http.Request, error) {
		return gen.NewMakeCodesRequest(server, campaignID, &gen.MakeCodesParams{IdempotencyKey: key}, r)
	}))
}

// Codes goes through the codes of a batch in their order, like Coupons.
func (c *Client) Codes(ctx context.Context, campaignID, batchRef string) iter.Seq2[CampaignCode, error] {
	return pages(func(cursor *string) ([]CampaignCode, string, error) {
		page, err := do[gen.CodeList](ctx, c, read(func(server string) (*http.Request, error) {
			params := &gen.ListCodesParams{BatchRef: batchRef, Limit: new(pageSize), Cursor: cursor}
			return gen.NewListCodesRequest(server, campaignID, params)
		}))
		return page.Codes, page.NextCursor, err
	})
}

// Redeem claims the coupon of a code. Beside the errors of Claim, ErrSpent says that somebody else has redeemed it, ErrNotFound that there
// is no such code, and ErrTooManyGuesses that the owner has sent too many such ones.
func (c *Client) Redeem(ctx context.Context, key, owner, code string) (CouponReply, error) {
	return do[CouponReply](ctx, c, write(owner, key, func(server, key string) (*http.Request, error) {
		params := &gen.RedeemCodeParams{IdempotencyKey: key}
		return gen.NewRedeemCodeRequest(server, params, gen.RedemptionRequest{Owner: owner, Code: code})
	}))
}
