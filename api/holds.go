package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// MintIds answers POST /v1/ids.
func (s *server) MintIds(ctx context.Context, r gen.MintIdsRequestObject) (gen.MintIdsResponseObject, error) {
	kind, known := id.Hold, true
	if r.Body.Kind != "" {
		kind, known = id.KindOf(r.Body.Kind)
	}
	if !known {
		return nil, invalid("/kind", `must be "hold"`)
	}
	ids, err := s.cfg.Ledger.MintIDs(ctx, owner(ctx, r.Body.Owner), kind, max(r.Body.Count, 1))
	return shown(http.StatusOK, gen.MintedIds{Ids: ids}, err)
}

// CreateHold answers POST /v1/holds.
func (s *server) CreateHold(ctx context.Context, r gen.CreateHoldRequestObject) (gen.CreateHoldResponseObject, error) {
	hold, err := s.hold(r.Body)
	if err != nil {
		return nil, err
	}
	owner(ctx, hold.Owner)
	answer, err := s.cfg.Ledger.Hold(ctx, callOf(ctx).caller(), hold)
	return written(ctx, answer, err)
}

// hold is the request as the ledger wants it.
func (s *server) hold(b *gen.HoldRequest) (h ledger.Hold, err error) {
	h = ledger.Hold{
		Owner: b.Owner, OrderID: b.OrderID, Attempt: max(b.Attempt, 1), TTL: time.Duration(b.TTLMs) * time.Millisecond,
		Lines: make([]ledger.Line, len(b.Lines)), Items: make([]ledger.Item, len(b.Items)),
	}
	if b.HoldID != "" {
		if h.HoldID, err = s.ownID(id.Hold, b.HoldID, b.Owner); err != nil {
			return h, at("/hold_id", err)
		}
	}
	for i := range b.Lines {
		h.Lines[i] = ledger.Line{LineID: b.Lines[i].LineID, Amount: ledger.Money(b.Lines[i].Amount)}
	}
	for i := range b.Items {
		if h.Items[i], err = s.item(&b.Items[i], b.Owner); err != nil {
			return h, at(fmt.Sprintf("/items/%d", i), err)
		}
	}
	if h.MaxDiscount = b.MaxDiscount.Amount; h.MaxDiscount > 0 && len(h.Lines) > 0 && b.MaxDiscount.Currency != h.Lines[0].Amount.Currency {
		return h, invalid("/max_discount/currency", "must be that of the lines")
	}
	h.OverCapture = b.OverCaptureLimit.Amount
	for i := range h.Items {
		if h.OverCapture > 0 && h.Items[i].Kind == ledger.MoneyItem && h.Items[i].Amount.Currency != b.OverCaptureLimit.Currency {
			return h, invalid("/over_capture_limit/currency", "must be that of the money")
		}
	}
	return h, nil
}

func (s *server) item(b *gen.HoldItemRequest, owner string) (item ledger.Item, err error) {
	item = ledger.Item{
		Kind: ledger.ItemKind(b.Kind), Amount: ledger.Money(b.Amount), All: b.All, Tag: b.Tag,
		SKU: b.Sku, Location: b.Location, Quantity: b.Quantity, CampaignID: b.CampaignID,
	}
	if b.CouponID != "" {
		if item.CouponID, err = s.ownID(id.Coupon, b.CouponID, owner); err != nil {
			return item, at("/coupon_id", err)
		}
	}
	switch {
	case b.Currency != "" && !b.All:
		return item, invalid("/currency", "belongs to all; an amount has its own")
	case b.All && b.Amount != gen.Money{}:
		return item, invalid("/amount", "cannot be together with all")
	case b.All && b.Currency == "":
		return item, invalid("/currency", "is missing: all of which money?")
	case b.All:
		item.Amount.Currency = b.Currency
	}
	return item, nil
}

// ConfirmHold answers POST /v1/holds/{hold_id}/confirm.
func (s *server) ConfirmHold(ctx context.Context, r gen.ConfirmHoldRequestObject) (gen.ConfirmHoldResponseObject, error) {
	hold, err := s.ownID(id.Hold, r.HoldID, r.Body.Owner)
	if err != nil {
		return nil, at("hold_id", err)
	}
	return s.confirm(ctx, ledger.Confirm{
		Owner: r.Body.Owner, Hold: ledger.HoldRef{HoldID: hold}, Items: partsOf(r.Body.Items), Amount: ledger.Money(r.Body.Amount),
		Final: r.Body.Final, AllowLate: r.Body.AllowLate,
	})
}

// ConfirmOrder answers POST /v1/holds/confirm.
func (s *server) ConfirmOrder(ctx context.Context, r gen.ConfirmOrderRequestObject) (gen.ConfirmOrderResponseObject, error) {
	return s.confirm(ctx, ledger.Confirm{Owner: r.Body.Owner, Hold: orderRef(r.Body)})
}

func (s *server) confirm(ctx context.Context, request ledger.Confirm) (reply, error) {
	owner(ctx, request.Owner)
	answer, err := s.cfg.Ledger.Confirm(ctx, callOf(ctx).caller(), request)
	return written(ctx, answer, err)
}

// CancelHold answers POST /v1/holds/{hold_id}/cancel.
func (s *server) CancelHold(ctx context.Context, r gen.CancelHoldRequestObject) (gen.CancelHoldResponseObject, error) {
	hold, err := s.ownID(id.Hold, r.HoldID, r.Body.Owner)
	if err != nil {
		return nil, at("hold_id", err)
	}
	return s.cancel(ctx, r.Body.Owner, ledger.HoldRef{HoldID: hold})
}

// CancelOrder answers POST /v1/holds/cancel.
func (s *server) CancelOrder(ctx context.Context, r gen.CancelOrderRequestObject) (gen.CancelOrderResponseObject, error) {
	return s.cancel(ctx, r.Body.Owner, orderRef(r.Body))
}

func (s *server) cancel(ctx context.Context, name string, ref ledger.HoldRef) (reply, error) {
	answer, err := s.cfg.Ledger.Cancel(ctx, callOf(ctx).caller(), ledger.Cancel{Owner: owner(ctx, name), Hold: ref})
	return written(ctx, answer, err)
}

func orderRef(b *gen.OrderRequest) ledger.HoldRef {
	return ledger.HoldRef{OrderID: b.OrderID, Attempt: max(b.Attempt, 1)}
}

// GetHold answers GET /v1/holds/{hold_id}.
func (s *server) GetHold(ctx context.Context, r gen.GetHoldRequestObject) (gen.GetHoldResponseObject, error) {
	hold, err := s.cfg.Codec.Parse(id.Hold, r.HoldID)
	if err != nil {
		return nil, err
	}
	body, err := s.cfg.Ledger.HoldByID(ctx, hold)
	return shown(http.StatusOK, body, err)
}

// ListHolds answers GET /v1/holds.
func (s *server) ListHolds(ctx context.Context, r gen.ListHoldsRequestObject) (gen.ListHoldsResponseObject, error) {
	holds, err := s.cfg.Ledger.Holds(ctx, owner(ctx, r.Params.Owner), r.Params.OrderID)
	return shown(http.StatusOK, holdList{holds}, inQuery(err))
}

type holdList struct {
	Holds []ledger.HoldBody `json:"holds"`
}

// ownID reads an id that belongs to owner. The id of another bucket was never given to him; the ledger would look for it in
// the wrong place.
func (s *server) ownID(kind id.Kind, text, owner string) (id.ID, error) {
	found, err := s.cfg.Codec.Parse(kind, text)
	if err != nil {
		return found, err
	}
	if found.Bucket() != uint16(shard.BucketOf(owner)) {
		return found, fmt.Errorf("%w: it is of another owner", errNotFound)
	}
	return found, nil
}

// at says which part of the request an error is about.
func at(pointer string, err error) error {
	if inner, ok := errors.AsType[*partError](err); ok {
		return &partError{inner.kind, pointer + inner.pointer, inner.detail}
	}
	if errors.Is(err, id.ErrMalformed) && strings.HasPrefix(pointer, "/") {
		return &partError{errInvalid, pointer, "is not an id"} // in a body that is bad syntax; in a path there is nothing there
	}
	return &partError{err, pointer, "names nothing"}
}

// owner notes whose data the call is about, for the log.
func owner(ctx context.Context, name string) string {
	callOf(ctx).owner = name
	return name
}
