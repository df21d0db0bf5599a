package client

import (
	"context"
	"iter"
	"net/http"
	"time"

	"github.com/statesvc/statesvc/client/gen"
)

// Owner sums up an owner.
func (c *Client) Owner(ctx context.Context, owner string) (Owner, error) {
	return do[Owner](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewGetOwnerRequest(server, owner, nil) }))
}

// Operation says what became of a key.
func (c *Client) Operation(ctx context.Context, owner, key string) (Operation, error) {
	return do[Operation](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewGetOperationRequest(server, owner, key, nil)
	}))
}

// Seal makes sure that a key is never used any more, or says what it did. After SEALED the caller may act otherwise.
func (c *Client) Seal(ctx context.Context, owner, key string) (Operation, error) {
	return do[Operation](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewSealOperationRequest(server, owner, key, nil)
	}))
}

// Verify has an owner's hash chain checked.
func (c *Client) Verify(ctx context.Context, owner string) (Verification, error) {
	return do[Verification](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewVerifyEntriesRequest(server, owner, nil)
	}))
}

// GetCoupon shows a coupon.
func (c *Client) GetCoupon(ctx context.Context, couponID string) (Coupon, error) {
	return do[Coupon](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewGetCouponRequest(server, couponID, nil) }))
}

// GetLot shows a lot.
func (c *Client) GetLot(ctx context.Context, lotID string) (Lot, error) {
	return do[Lot](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewGetLotRequest(server, lotID, nil) }))
}

// CouponFilter narrows a list of coupons; empty fields do not.
type CouponFilter struct{ State, CampaignID string }

// Coupons goes through an owner's coupons. It asks for the next page when it is needed, and ends with the first error.
func (c *Client) Coupons(ctx context.Context, owner string, f CouponFilter) iter.Seq2[Coupon, error] {
	return pages(func(cursor *string) ([]Coupon, string, error) {
		page, err := do[gen.CouponList](ctx, c, read(func(server string) (*http.Request, error) {
			return gen.NewListCouponsRequest(server, owner, &gen.ListCouponsParams{
				State: optional(f.State), CampaignID: optional(f.CampaignID), Limit: new(pageSize), Cursor: cursor,
			})
		}))
		return page.Coupons, page.NextCursor, err
	})
}

// LotFilter narrows a list of lots; empty fields do not. State is LIVE or ENDED.
type LotFilter struct{ State, Currency string }

// Lots goes through an owner's lots, like Coupons.
func (c *Client) Lots(ctx context.Context, owner string, f LotFilter) iter.Seq2[Lot, error] {
	return pages(func(cursor *string) ([]Lot, string, error) {
		page, err := do[gen.LotList](ctx, c, read(func(server string) (*http.Request, error) {
			return gen.NewListLotsRequest(server, owner, &gen.ListLotsParams{
				State: optional(f.State), Currency: optional(f.Currency), Limit: new(pageSize), Cursor: cursor,
			})
		}))
		return page.Lots, page.NextCursor, err
	})
}

// EntryFilter narrows a history to [From, To) and to a hold; zero fields do not.
type EntryFilter struct {
	From, To time.Time
	HoldID   string
}

// Entries goes through an owner's history, oldest first, like Coupons.
func (c *Client) Entries(ctx context.Context, owner string, f EntryFilter) iter.Seq2[Entry, error] {
	return pages(func(cursor *string) ([]Entry, string, error) {
		page, err := do[gen.EntryList](ctx, c, read(func(server string) (*http.Request, error) {
			return gen.NewListEntriesRequest(server, owner, &gen.ListEntriesParams{
				From: optional(f.From), To: optional(f.To), HoldID: optional(f.HoldID), Limit: new(pageSize), Cursor: cursor,
			})
		}))
		return page.Entries, page.NextCursor, err
	})
}

// pageSize is the largest page there is: fewer requests cost less.
const pageSize = 200

// pages goes through the rows of a list, page by page.
func pages[T any](fetch func(cursor *string) (rows []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor := ""; ; {
			rows, next, err := fetch(optional(cursor))
			if err != nil {
				yield(*new(T), err)
				return
			}
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			cursor = next
		}
	}
}
