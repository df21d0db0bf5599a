package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/statesvc/statesvc/client/gen"
)

// Export says what is exported, and how. Format is CSV or JSONLines. From and To are instants, or days and times in TimeZone, as in
// openapi.yaml; empty fields do not narrow.
type Export struct{ Format, From, To, TimeZone string }

// exportFormats are the names of the media types in the query.
var exportFormats = map[string]string{CSV: "csv", JSONLines: "jsonl"}

// ExportEntries writes the histories of all owners to w, as they come, and returns how many bytes it has written. It makes one attempt. If
// it fails, what was written is not whole.
func (c *Client) ExportEntries(ctx context.Context, w io.Writer, x Export) (int64, error) {
	request, err := gen.NewExportEntriesRequest(c.options.BaseURL, &gen.ExportEntriesParams{
		Format: exportFormats[x.Format], From: optional(x.From), To: optional(x.To), TimeZone: optional(x.TimeZone),
	})
	if err != nil {
		return 0, fmt.Errorf("client: make the request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.options.Token)
	response, err := c.options.HTTP.Do(request.WithContext(ctx))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errConnection, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, replyMax))
		return 0, newProblem(response, body)
	}
	n, err := io.Copy(w, response.Body)
	if err != nil {
		return n, fmt.Errorf("%w: the export broke off: %w", errConnection, err)
	}
	return n, nil
}

// MoneyAt shows an owner's money as of an instant that has passed.
func (c *Client) MoneyAt(ctx context.Context, owner string, asOf time.Time) (MoneyAsOf, error) {
	return do[MoneyAsOf](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewGetMoneyRequest(server, owner, &gen.GetMoneyParams{AsOf: asOf})
	}))
}

// CheckCoupons is ImportCoupons that issues nothing: it says which rows are wrong.
func (c *Client) CheckCoupons(ctx context.Context, campaignID, mediaType string, file []byte) (ImportResult, error) {
	e := write("", "", func(server, key string) (*http.Request, error) {
		params := &gen.ImportCouponsParams{IdempotencyKey: key, DryRun: new(true)}
		return gen.NewImportCouponsRequestWithBody(server, campaignID, params, mediaType, bytes.NewReader(file))
	})
	e.once, e.long = true, true
	return do[ImportResult](ctx, c, e)
}
