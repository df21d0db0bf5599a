package client

import (
	"context"
	"net/http"

	"github.com/statesvc/statesvc/client/gen"
)

type dryRunKey struct{}

// DryRun returns a context in which writes only say what their replies would be. Nothing is written, not even under the keys.
func DryRun(ctx context.Context) context.Context { return context.WithValue(ctx, dryRunKey{}, true) }

// asOf is the exchange as the context wants it. A dry run leaves nothing under its key that could be asked for.
func (e exchange) asOf(ctx context.Context) exchange {
	if e.key == "" || ctx.Value(dryRunKey{}) == nil {
		return e
	}
	request := e.request
	e.key = ""
	e.request = func(server string) (*http.Request, error) {
		r, err := request(server)
		if err == nil {
			query := r.URL.Query()
			query.Set("dry_run", "true")
			r.URL.RawQuery = query.Encode()
		}
		return r, err
	}
	return e
}

// ConfirmPart spends a part of what a hold has, or everything of one that has expired; see ConfirmRequest.
func (c *Client) ConfirmPart(ctx context.Context, key, holdID string, r ConfirmRequest) (HoldReply, error) {
	return do[HoldReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewConfirmHoldRequest(server, holdID, &gen.ConfirmHoldParams{IdempotencyKey: key}, r)
	}))
}

// Extend lets a hold live for ttlMs from now, if that is later than its expiry.
func (c *Client) Extend(ctx context.Context, key, owner, holdID string, ttlMs int64) (HoldReply, error) {
	return do[HoldReply](ctx, c, write(owner, key, func(server, key string) (*http.Request, error) {
		body := gen.LaterRequest{Owner: owner, TTLMs: ttlMs}
		return gen.NewExtendHoldRequest(server, holdID, &gen.ExtendHoldParams{IdempotencyKey: key}, body)
	}))
}

// Pin keeps a hold from expiring for ttlMs from now, because the outcome of its payment is unknown.
func (c *Client) Pin(ctx context.Context, key, owner, holdID string, ttlMs int64) (HoldReply, error) {
	return do[HoldReply](ctx, c, write(owner, key, func(server, key string) (*http.Request, error) {
		body := gen.LaterRequest{Owner: owner, TTLMs: ttlMs}
		return gen.NewPinHoldRequest(server, holdID, &gen.PinHoldParams{IdempotencyKey: key}, body)
	}))
}

// Replace makes a hold in the place of an older one of the same order, in one step.
func (c *Client) Replace(ctx context.Context, key, holdID string, r HoldRequest) (HoldReply, error) {
	return do[HoldReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewReplaceHoldRequest(server, holdID, &gen.ReplaceHoldParams{IdempotencyKey: key}, r)
	}))
}

// Refund gives back what a hold has confirmed, once per reference.
func (c *Client) Refund(ctx context.Context, key, holdID string, r RefundRequest) (RefundReply, error) {
	return do[RefundReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewCreateRefundRequest(server, holdID, &gen.CreateRefundParams{IdempotencyKey: key}, r)
	}))
}

// PreviewRefund says what a refund would give back. Nothing is written.
func (c *Client) PreviewRefund(ctx context.Context, holdID string, r RefundRequest) (RefundReply, error) {
	return do[RefundReply](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewPreviewRefundRequest(server, holdID, nil, r)
	}))
}

// Refunds lists the refunds of a hold, oldest first.
func (c *Client) Refunds(ctx context.Context, holdID string) ([]Refund, error) {
	list, err := do[gen.RefundList](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewListRefundsRequest(server, holdID, nil)
	}))
	return list.Refunds, err
}

// GetRefund shows a refund.
func (c *Client) GetRefund(ctx context.Context, refundID string) (Refund, error) {
	return do[Refund](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewGetRefundRequest(server, refundID, nil) }))
}

// Preview says what a hold would take. Nothing is written, and nothing is promised.
func (c *Client) Preview(ctx context.Context, r HoldRequest) (HoldReply, error) {
	return do[HoldReply](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewPreviewHoldRequest(server, nil, r) }))
}

// Freeze lets an owner make no new holds. It returns whether he is frozen now.
func (c *Client) Freeze(ctx context.Context, key, owner, reason string) (bool, error) {
	reply, err := do[gen.FreezeReply](ctx, c, write(owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewFreezeOwnerRequest(server, owner, &gen.FreezeOwnerParams{IdempotencyKey: key}, gen.ReasonRequest{Reason: reason})
	}))
	return reply.Frozen, err
}

// Unfreeze ends a freeze. It returns whether the owner is frozen now.
func (c *Client) Unfreeze(ctx context.Context, key, owner, reason string) (bool, error) {
	reply, err := do[gen.FreezeReply](ctx, c, write(owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewUnfreezeOwnerRequest(server, owner, &gen.UnfreezeOwnerParams{IdempotencyKey: key}, gen.ReasonRequest{Reason: reason})
	}))
	return reply.Frozen, err
}

// RevokeRequest says whose coupon or lot is taken away, and why.
type RevokeRequest = gen.RevokeRequest

// RevokeCoupon takes a coupon away for ever.
func (c *Client) RevokeCoupon(ctx context.Context, key, couponID string, r RevokeRequest) (CouponReply, error) {
	return do[CouponReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewRevokeCouponRequest(server, couponID, &gen.RevokeCouponParams{IdempotencyKey: key}, r)
	}))
}

// RevokeLot takes away what a lot has available, for ever.
func (c *Client) RevokeLot(ctx context.Context, key, lotID string, r RevokeRequest) (LotReply, error) {
	return do[LotReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewRevokeLotRequest(server, lotID, &gen.RevokeLotParams{IdempotencyKey: key}, r)
	}))
}

// PinnedHolds lists live holds of all shards whose payment was sent and whose outcome is not known.
func (c *Client) PinnedHolds(ctx context.Context) ([]Hold, error) {
	list, err := do[gen.HoldList](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewReportHoldsRequest(server, &gen.ReportHoldsParams{Pinned: new(true)})
	}))
	return list.Holds, err
}
