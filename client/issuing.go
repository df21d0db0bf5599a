package client

import (
	"bytes"
	"context"
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
