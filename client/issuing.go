package client

import (
	"bytes"
	"context"
	"iter"
	"net/http"

	"github.com/statesvc/statesvc/client/gen"
)

// IssueCoupon gives an owner a coupon of a campaign, once per reference.
func (c *Client) IssueCoupon(ctx context.Context, key, campaignID string, r IssueRequest) (CouponReply, error) {
	return do[CouponReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewIssueCouponRequest(server, campaignID, &gen.IssueCouponParams{IdempotencyKey: key}, r)
	}))
}

// CreditLot gives an owner money, once per reference.
func (c *Client) CreditLot(ctx context.Context, key, owner string, r CreditRequest) (LotReply, error) {
	return do[LotReply](ctx, c, write(owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewCreditLotRequest(server, owner, &gen.CreditLotParams{IdempotencyKey: key}, r)
	}))
}

// stockID is the quota of a SKU at a location, and so the owner of its keys.
func stockID(sku, location string) string { return "stock:" + sku + ":" + location }

// Stock reads the stock of a SKU at a location.
func (c *Client) Stock(ctx context.Context, sku, location string) (Quota, error) {
	return do[Quota](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewGetStockRequest(server, sku, location, nil)
	}))
}

// SetStock makes the stock of a SKU at a location, or sets how many pieces there are in all.
func (c *Client) SetStock(ctx context.Context, key, sku, location string, r QuotaRequest) (QuotaReply, error) {
	return do[QuotaReply](ctx, c, write(stockID(sku, location), key, func(server, key string) (*http.Request, error) {
		return gen.NewSetStockRequest(server, sku, location, &gen.SetStockParams{IdempotencyKey: key}, r)
	}))
}

// AdjustStock adds pieces, or takes away some that are free.
func (c *Client) AdjustStock(ctx context.Context, key, sku, location string, r QuotaAdjustment) (QuotaReply, error) {
	return do[QuotaReply](ctx, c, write(stockID(sku, location), key, func(server, key string) (*http.Request, error) {
		return gen.NewAdjustStockRequest(server, sku, location, &gen.AdjustStockParams{IdempotencyKey: key}, r)
	}))
}

// Quota reads any quota, such as the budget of a campaign.
func (c *Client) Quota(ctx context.Context, quotaID string) (Quota, error) {
	return do[Quota](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewGetQuotaRequest(server, quotaID, nil)
	}))
}

// Quotas goes through the quotas whose ids begin with a prefix, such as "stock:", by their ids, like Coupons. Empty: all of them.
func (c *Client) Quotas(ctx context.Context, prefix string) iter.Seq2[Quota, error] {
	return pages(func(cursor *string) ([]Quota, string, error) {
		page, err := do[gen.QuotaList](ctx, c, read(func(server string) (*http.Request, error) {
			return gen.NewListQuotasRequest(server, &gen.ListQuotasParams{Prefix: optional(prefix), Limit: new(pageSize), Cursor: cursor})
		}))
		return page.Quotas, page.NextCursor, err
	})
}

// SetQuota makes a quota, or sets how many units it has in all.
func (c *Client) SetQuota(ctx context.Context, key, quotaID string, r QuotaRequest) (QuotaReply, error) {
	return do[QuotaReply](ctx, c, write(quotaID, key, func(server, key string) (*http.Request, error) {
		return gen.NewSetQuotaRequest(server, quotaID, &gen.SetQuotaParams{IdempotencyKey: key}, r)
	}))
}

// AdjustQuota adds units, or takes away some that are free.
func (c *Client) AdjustQuota(ctx context.Context, key, quotaID string, r QuotaAdjustment) (QuotaReply, error) {
	return do[QuotaReply](ctx, c, write(quotaID, key, func(server, key string) (*http.Request, error) {
		return gen.NewAdjustQuotaRequest(server, quotaID, &gen.AdjustQuotaParams{IdempotencyKey: key}, r)
	}))
}

// The media types of an import.
const (
	CSV       = "text/csv"
	JSONLines = "application/jsonl"
)

// ImportCoupons issues the coupons of a file. It makes one attempt, since the reply says which rows are to be sent again; the
// same file under the same key never issues anything twice. Give ctx a deadline that fits the file.
func (c *Client) ImportCoupons(ctx context.Context, key, campaignID, mediaType string, file []byte) (ImportResult, error) {
	e := write("", key, func(server, key string) (*http.Request, error) {
		params := &gen.ImportCouponsParams{IdempotencyKey: key}
		return gen.NewImportCouponsRequestWithBody(server, campaignID, params, mediaType, bytes.NewReader(file))
	})
	e.once, e.long = true, true
	return do[ImportResult](ctx, c, e)
}
