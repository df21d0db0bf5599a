package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/statesvc/statesvc/client/gen"
)

// AdjustMoney gives an owner money by hand or takes some away, once per reference. By policy of the service it may only be proposed: look
// at the State of the reply, and have ApproveAdjustment called with another API key.
func (c *Client) AdjustMoney(ctx context.Context, key, owner string, r AdjustmentRequest) (AdjustmentReply, error) {
	return do[AdjustmentReply](ctx, c, write(owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewAdjustMoneyRequest(server, owner, &gen.AdjustMoneyParams{IdempotencyKey: key}, r)
	}))
}

// ApproveAdjustment does what another API key has proposed.
func (c *Client) ApproveAdjustment(ctx context.Context, key, adjustmentID string, r DecisionRequest) (AdjustmentReply, error) {
	return do[AdjustmentReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewApproveAdjustmentRequest(server, adjustmentID, &gen.ApproveAdjustmentParams{IdempotencyKey: key}, r)
	}))
}

// RejectAdjustment ends a proposal without doing it.
func (c *Client) RejectAdjustment(ctx context.Context, key, adjustmentID string, r DecisionRequest) (AdjustmentReply, error) {
	return do[AdjustmentReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewRejectAdjustmentRequest(server, adjustmentID, &gen.RejectAdjustmentParams{IdempotencyKey: key}, r)
	}))
}

// GetAdjustment shows an adjustment.
func (c *Client) GetAdjustment(ctx context.Context, adjustmentID string) (Adjustment, error) {
	return do[Adjustment](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewGetAdjustmentRequest(server, adjustmentID, nil)
	}))
}

// Adjustments goes through the adjustments of an owner, oldest first, like Coupons.
func (c *Client) Adjustments(ctx context.Context, owner string) iter.Seq2[Adjustment, error] {
	return pages(func(cursor *string) ([]Adjustment, string, error) {
		page, err := do[gen.AdjustmentList](ctx, c, read(func(server string) (*http.Request, error) {
			return gen.NewListAdjustmentsRequest(server, owner, &gen.ListAdjustmentsParams{Limit: new(pageSize), Cursor: cursor})
		}))
		return page.Adjustments, page.NextCursor, err
	})
}

// Proposals goes through the adjustments of all owners that wait for a second API key, like Coupons.
func (c *Client) Proposals(ctx context.Context) iter.Seq2[Adjustment, error] {
	return pages(func(cursor *string) ([]Adjustment, string, error) {
		page, err := do[gen.AdjustmentList](ctx, c, read(func(server string) (*http.Request, error) {
			return gen.NewListProposalsRequest(server, &gen.ListProposalsParams{Limit: new(pageSize), Cursor: cursor})
		}))
		return page.Adjustments, page.NextCursor, err
	})
}
