package api

import (
	"context"
	"net/http"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
)

// GetStock answers GET /v1/stock/{sku}/{location}.
func (s *server) GetStock(ctx context.Context, r gen.GetStockRequestObject) (gen.GetStockResponseObject, error) {
	return s.quota(ctx, stockOf(r.Sku, r.Location))
}

// SetStock answers PUT /v1/stock/{sku}/{location}.
func (s *server) SetStock(ctx context.Context, r gen.SetStockRequestObject) (gen.SetStockResponseObject, error) {
	return s.setQuota(ctx, stockOf(r.Sku, r.Location), r.Body)
}

// AdjustStock answers POST /v1/stock/{sku}/{location}/adjustments.
func (s *server) AdjustStock(ctx context.Context, r gen.AdjustStockRequestObject) (gen.AdjustStockResponseObject, error) {
	return s.adjustQuota(ctx, stockOf(r.Sku, r.Location), r.Body)
}

// GetQuota answers GET /v1/quotas/{quota_id}.
func (s *server) GetQuota(ctx context.Context, r gen.GetQuotaRequestObject) (gen.GetQuotaResponseObject, error) {
	return s.quota(ctx, named{r.QuotaID, "quota_id"})
}

// SetQuota answers PUT /v1/quotas/{quota_id}.
func (s *server) SetQuota(ctx context.Context, r gen.SetQuotaRequestObject) (gen.SetQuotaResponseObject, error) {
	return s.setQuota(ctx, named{r.QuotaID, "quota_id"}, r.Body)
}

// ListQuotas answers GET /v1/quotas.
func (s *server) ListQuotas(ctx context.Context, r gen.ListQuotasRequestObject) (gen.ListQuotasResponseObject, error) {
	list := s.cursors.list("quotas", r.Params.Prefix)
	after, err := list.afterName(r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(r.Params.Limit)
	if err != nil {
		return nil, err
	}
	page, next, err := s.cfg.Ledger.Quotas(ctx, ledger.QuotaFilter{Prefix: r.Params.Prefix, After: after, Limit: limit})
	return shown(http.StatusOK, quotaList{page, list.nextName(next)}, err)
}

type quotaList struct {
	Quotas     []ledger.QuotaBody `json:"quotas"`
	NextCursor string             `json:"next_cursor,omitempty"`
}

// AdjustQuota answers POST /v1/quotas/{quota_id}/adjustments.
func (s *server) AdjustQuota(ctx context.Context, r gen.AdjustQuotaRequestObject) (gen.AdjustQuotaResponseObject, error) {
	return s.adjustQuota(ctx, named{r.QuotaID, "quota_id"}, r.Body)
}

// named is a quota, and the parameter that names it.
type named struct{ quota, parameter string }

func stockOf(sku, location string) named { return named{ledger.StockID(sku, location), "sku"} }

// id refuses what names no quota.
func (n named) id() (string, error) {
	if _, _, ok := ledger.ParseQuotaID(n.quota); !ok {
		return "", invalid(n.parameter, "does not name a quota; openapi.yaml says what does")
	}
	return n.quota, nil
}

func (s *server) quota(ctx context.Context, n named) (reply, error) {
	id, err := n.id()
	if err != nil {
		return reply{}, err
	}
	body, err := s.cfg.Ledger.Quota(ctx, owner(ctx, id))
	return shown(http.StatusOK, body, err)
}

func (s *server) setQuota(ctx context.Context, n named, b *gen.QuotaRequest) (reply, error) {
	id, err := n.id()
	if err != nil {
		return reply{}, err
	}
	answer, err := s.cfg.Ledger.SetQuota(ctx, callOf(ctx).caller(), ledger.SetQuota{
		Quota: owner(ctx, id), Total: b.Total, Currency: b.Currency, Reason: b.Reason, LowAt: b.LowAt,
	})
	return written(ctx, answer, err)
}

func (s *server) adjustQuota(ctx context.Context, n named, b *gen.QuotaAdjustment) (reply, error) {
	id, err := n.id()
	if err != nil {
		return reply{}, err
	}
	answer, err := s.cfg.Ledger.AdjustQuota(ctx, callOf(ctx).caller(), ledger.AdjustQuota{
		Quota: owner(ctx, id), Delta: b.Delta, Reason: b.Reason,
	})
	return written(ctx, answer, err)
}
