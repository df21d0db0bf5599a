package api

import (
	"context"
	"net/http"
	"time"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/api/strictjson"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard/id"
)

// GetOwner answers GET /v1/owners/{owner}.
func (s *server) GetOwner(ctx context.Context, r gen.GetOwnerRequestObject) (gen.GetOwnerResponseObject, error) {
	body, err := s.cfg.Ledger.Owner(ctx, owner(ctx, r.Owner))
	return shown(http.StatusOK, body, inQuery(err))
}

// GetOperation answers GET /v1/owners/{owner}/operations/{key}.
func (s *server) GetOperation(ctx context.Context, r gen.GetOperationRequestObject) (gen.GetOperationResponseObject, error) {
	body, err := s.cfg.Ledger.Operation(ctx, owner(ctx, r.Owner), r.Key)
	return shown(http.StatusOK, body, inQuery(err))
}

// SealOperation answers POST /v1/owners/{owner}/operations/{key}/seal. The key in the path is the one that the seal burns, and
// so is its own idempotency key.
func (s *server) SealOperation(ctx context.Context, r gen.SealOperationRequestObject) (gen.SealOperationResponseObject, error) {
	call := callOf(ctx)
	body, err := s.cfg.Ledger.Seal(ctx, ledger.Caller{Key: r.Key, Client: call.key.ID}, owner(ctx, r.Owner))
	call.verdict = "done"
	return shown(http.StatusOK, body, inQuery(err))
}

// ListCoupons answers GET /v1/owners/{owner}/coupons.
func (s *server) ListCoupons(ctx context.Context, r gen.ListCouponsRequestObject) (gen.ListCouponsResponseObject, error) {
	p := &r.Params
	list := s.cursors.list("coupons", r.Owner, p.State, p.CampaignID)
	filter := ledger.CouponFilter{State: p.State, CampaignID: p.CampaignID}
	var err error
	if filter.After, filter.Limit, err = list.page(p.Cursor, p.Limit); err != nil {
		return nil, err
	}
	page, err := s.cfg.Ledger.Coupons(ctx, owner(ctx, r.Owner), filter)
	return shown(http.StatusOK, couponList{page.Items, list.next(page.Next)}, inQuery(err))
}

type couponList struct {
	Coupons    []ledger.Coupon `json:"coupons"`
	NextCursor string          `json:"next_cursor,omitempty"`
}

// ListLots answers GET /v1/owners/{owner}/lots.
func (s *server) ListLots(ctx context.Context, r gen.ListLotsRequestObject) (gen.ListLotsResponseObject, error) {
	p := &r.Params
	list := s.cursors.list("lots", r.Owner, p.State, p.Currency)
	filter := ledger.LotFilter{State: p.State, Currency: p.Currency}
	var err error
	if filter.After, filter.Limit, err = list.page(p.Cursor, p.Limit); err != nil {
		return nil, err
	}
	page, err := s.cfg.Ledger.Lots(ctx, owner(ctx, r.Owner), filter)
	return shown(http.StatusOK, lotList{page.Items, list.next(page.Next)}, inQuery(err))
}

type lotList struct {
	Lots       []ledger.Lot `json:"lots"`
	NextCursor string       `json:"next_cursor,omitempty"`
}

// ListEntries answers GET /v1/owners/{owner}/entries.
func (s *server) ListEntries(ctx context.Context, r gen.ListEntriesRequestObject) (gen.ListEntriesResponseObject, error) {
	p := &r.Params
	list := s.cursors.list("entries", r.Owner, p.From, p.To, p.HoldID)
	filter, err := s.entryFilter(p)
	if err != nil {
		return nil, err
	}
	if filter.After, err = list.afterNumber(p.Cursor); err != nil {
		return nil, err
	}
	page, err := s.cfg.Ledger.Entries(ctx, owner(ctx, r.Owner), filter)
	return shown(http.StatusOK, entryList{page.Items, list.nextNumber(page.Next)}, inQuery(err))
}

type entryList struct {
	Entries    []ledger.Entry `json:"entries"`
	NextCursor string         `json:"next_cursor,omitempty"`
}

func (s *server) entryFilter(p *gen.ListEntriesParams) (f ledger.EntryFilter, err error) {
	if f.From, err = queryTime("from", p.From); err != nil {
		return f, err
	}
	if f.To, err = queryTime("to", p.To); err != nil {
		return f, err
	}
	if p.HoldID != "" {
		if f.Hold, err = s.cfg.Codec.Parse(id.Hold, p.HoldID); err != nil {
			return f, at("hold_id", err)
		}
	}
	f.Limit, err = pageLimit(p.Limit)
	return f, err
}

// queryTime reads an instant; an absent one is zero.
func queryTime(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	instant, ok := strictjson.ParseTime(text)
	if !ok {
		return instant, invalid(name, strictjson.WrongTime)
	}
	return instant, nil
}

// GetMoney answers GET /v1/owners/{owner}/money.
func (s *server) GetMoney(ctx context.Context, r gen.GetMoneyRequestObject) (gen.GetMoneyResponseObject, error) {
	asOf, err := queryTime("as_of", r.Params.AsOf)
	if err != nil {
		return nil, err
	}
	body, err := s.cfg.Ledger.MoneyAt(ctx, owner(ctx, r.Owner), asOf)
	return shown(http.StatusOK, body, inQuery(err))
}

// VerifyEntries answers GET /v1/owners/{owner}/entries/verify.
func (s *server) VerifyEntries(ctx context.Context, r gen.VerifyEntriesRequestObject) (gen.VerifyEntriesResponseObject, error) {
	body, err := s.cfg.Ledger.VerifyHistory(ctx, owner(ctx, r.Owner))
	return shown(http.StatusOK, body, inQuery(err))
}

// GetCoupon answers GET /v1/coupons/{coupon_id}.
func (s *server) GetCoupon(ctx context.Context, r gen.GetCouponRequestObject) (gen.GetCouponResponseObject, error) {
	coupon, err := s.cfg.Codec.Parse(id.Coupon, r.CouponID)
	if err != nil {
		return nil, err
	}
	body, err := s.cfg.Ledger.Coupon(ctx, coupon)
	return shown(http.StatusOK, body, err)
}

// GetLot answers GET /v1/lots/{lot_id}.
func (s *server) GetLot(ctx context.Context, r gen.GetLotRequestObject) (gen.GetLotResponseObject, error) {
	lot, err := s.cfg.Codec.Parse(id.Lot, r.LotID)
	if err != nil {
		return nil, err
	}
	body, err := s.cfg.Ledger.Lot(ctx, lot)
	return shown(http.StatusOK, body, err)
}
