package ledger

// wholeBasisPoints is 100 %.
const wholeBasisPoints = 10_000

// body is d as it is shown.
func (d *Discount) body() DiscountBody {
	b := DiscountBody{Kind: d.Kind, BasisPoints: d.BasisPoints}
	if d.Kind == Fixed {
		b.Amount = &Money{d.Amount, d.Currency}
	}
	if d.Cap > 0 {
		b.Cap = &Money{d.Cap, d.Currency}
	}
	if d.MinSpend > 0 {
		b.MinSpend = &Money{d.MinSpend, d.Currency}
	}
	return b
}
