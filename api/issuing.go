package api

import (
	"context"
	"errors"
	"time"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
)

// IssueCoupon answers POST /v1/campaigns/{campaign_id}/issues.
func (s *server) IssueCoupon(ctx context.Context, r gen.IssueCouponRequestObject) (gen.IssueCouponResponseObject, error) {
	issue, err := issueOf(r.CampaignID, r.Body)
	if err != nil {
		return nil, err
	}
	owner(ctx, issue.Owner)
	answer, err := s.cfg.Ledger.IssueCoupon(ctx, callOf(ctx).caller(), issue)
	return written(ctx, answer, pointAtAmounts(err, &r.Body.Discount))
}

// issueOf is the request as the ledger wants it.
func issueOf(campaign string, b *gen.IssueRequest) (ledger.IssueCoupon, error) {
	discount, err := discountOf(&b.Discount)
	if err != nil {
		return ledger.IssueCoupon{}, err
	}
	return ledger.IssueCoupon{
		Owner: b.Owner, CampaignID: campaign, IssueRef: b.IssueRef, Discount: discount,
		ValidFrom: b.ValidFrom, ExpiresAt: b.ExpiresAt,
		Terms: ledger.Terms{
			Refund: ledger.RefundPolicy(b.RefundPolicy), StackGroup: b.StackGroup, MaxPerGroup: b.MaxPerGroup, Priority: b.Priority,
			MaxDiscount: ledger.Money(b.MaxDiscount), ReturnGraceMs: b.ReturnGraceMs,
		},
	}, nil
}

// discountOf finds the one currency of a discount.
func discountOf(b *gen.DiscountRequest) (ledger.Discount, error) {
	d := ledger.Discount{
		Kind: ledger.DiscountKind(b.Kind), Currency: b.Currency,
		Amount: b.Amount.Amount, BasisPoints: b.BasisPoints, Cap: b.Cap.Amount, MinSpend: b.MinSpend.Amount,
	}
	for _, one := range amountsOf(b) {
		switch {
		case one.money.Currency == "" || one.money.Currency == d.Currency:
		case d.Currency == "":
			d.Currency = one.money.Currency
		default:
			return d, invalid("/discount/"+one.name+"/currency", "must be the same everywhere in the discount")
		}
	}
	if d.Currency == "" {
		return d, invalid("/discount/currency", "is missing, and no amount says it")
	}
	return d, nil
}

type namedMoney struct {
	name  string
	money gen.Money
}

func amountsOf(b *gen.DiscountRequest) [3]namedMoney {
	return [...]namedMoney{{"amount", b.Amount}, {"cap", b.Cap}, {"min_spend", b.MinSpend}}
}

// pointAtAmounts corrects where the ledger, whose discounts have plain numbers, has found something wrong.
func pointAtAmounts(err error, b *gen.DiscountRequest) error {
	invalid, ok := errors.AsType[*ledger.Invalid](err)
	if !ok {
		return err
	}
	for _, one := range amountsOf(b) {
		for i := range invalid.Problems {
			switch p := &invalid.Problems[i].Pointer; {
			case one.money == gen.Money{}:
			case *p == "/discount/"+one.name:
				*p += "/amount"
			case *p == "/discount/currency" && b.Currency == "":
				*p = "/discount/" + one.name + "/currency"
			}
		}
	}
	return err
}

// CreditLot answers POST /v1/owners/{owner}/lots.
func (s *server) CreditLot(ctx context.Context, r gen.CreditLotRequestObject) (gen.CreditLotResponseObject, error) {
	answer, err := s.cfg.Ledger.CreditLot(ctx, callOf(ctx).caller(), ledger.CreditLot{
		Owner: owner(ctx, r.Owner), IssueRef: r.Body.IssueRef, Source: r.Body.Source, Tag: r.Body.Tag,
		Amount: ledger.Money(r.Body.Amount), ExpiresAt: r.Body.ExpiresAt,
		RefundGrace: time.Duration(r.Body.RefundGraceMs) * time.Millisecond,
	})
	return written(ctx, answer, err)
}
