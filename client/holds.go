package client

import (
	"context"
	"net/http"

	"github.com/statesvc/statesvc/client/gen"
)

// MintIDs makes ids of holds in advance, for callers who must be able to cancel a hold whatever happened to its first attempt.
func (c *Client) MintIDs(ctx context.Context, owner string, count int) ([]string, error) {
	minted, err := do[gen.MintedIds](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewMintIdsRequest(server, nil, gen.MintRequest{Owner: owner, Count: count})
	}))
	return minted.Ids, err
}

// Hold takes coupons and money for an order, all or nothing.
func (c *Client) Hold(ctx context.Context, key string, r HoldRequest) (HoldReply, error) {
	return do[HoldReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewCreateHoldRequest(server, &gen.CreateHoldParams{IdempotencyKey: key}, r)
	}))
}

// Confirm spends what a hold has, or has left.
func (c *Client) Confirm(ctx context.Context, key, owner, holdID string) (HoldReply, error) {
	return do[HoldReply](ctx, c, write(owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewConfirmHoldRequest(server, holdID, &gen.ConfirmHoldParams{IdempotencyKey: key}, gen.ConfirmRequest{Owner: owner})
	}))
}

// ConfirmOrder is Confirm for callers who know the order only.
func (c *Client) ConfirmOrder(ctx context.Context, key string, r OrderRequest) (HoldReply, error) {
	return do[HoldReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewConfirmOrderRequest(server, &gen.ConfirmOrderParams{IdempotencyKey: key}, r)
	}))
}

// Cancel gives back what a hold has. An id that was never used leaves a tombstone.
func (c *Client) Cancel(ctx context.Context, key, owner, holdID string) (HoldReply, error) {
	return do[HoldReply](ctx, c, write(owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewCancelHoldRequest(server, holdID, &gen.CancelHoldParams{IdempotencyKey: key}, gen.OwnerRequest{Owner: owner})
	}))
}

// CancelOrder is Cancel for callers who know the order only. An attempt that was never seen leaves a tombstone.
func (c *Client) CancelOrder(ctx context.Context, key string, r OrderRequest) (HoldReply, error) {
	return do[HoldReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewCancelOrderRequest(server, &gen.CancelOrderParams{IdempotencyKey: key}, r)
	}))
}

// GetHold shows a hold, live or decided.
func (c *Client) GetHold(ctx context.Context, holdID string) (Hold, error) {
	return do[Hold](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewGetHoldRequest(server, holdID, nil) }))
}

// Holds lists an owner's live holds; with an order, those of the order, decided or not.
func (c *Client) Holds(ctx context.Context, owner, orderID string) ([]Hold, error) {
	list, err := do[gen.HoldList](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewListHoldsRequest(server, &gen.ListHoldsParams{Owner: owner, OrderID: optional(orderID)})
	}))
	return list.Holds, err
}

// optional is a parameter that is left out when empty.
func optional[T comparable](value T) *T {
	if value == *new(T) {
		return nil
	}
	return &value
}
