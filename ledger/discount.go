package ledger

import (
	"math/bits"
	"slices"
)

// wholeBasisPoints is 100 %.
const wholeBasisPoints = 10_000

// of is what the discount gives for an amount that is left to pay: never more than that amount.
func (d *Discount) of(left int64) int64 {
	if d.Kind == Fixed {
		return min(d.Amount, left)
	}
	give := mulDiv(left, d.BasisPoints, wholeBasisPoints)
	if d.Cap > 0 {
		give = min(give, d.Cap)
	}
	return give
}

// split divides a discount over lines in proportion to what is left of each, by largest remainder, ties by the order of the
// lines (R18). It appends one share per line to shares. The shares sum up to the discount exactly, and no share is larger than
// what is left of its line; the discount must not be larger than total, the sum of left.
func split(shares []int64, discount int64, left []int64, total int64) []int64 {
	start := len(shares)
	rest := discount
	for _, l := range left {
		share := int64(0)
		if discount > 0 { // otherwise total may be 0
			share = mulDiv(discount, l, total)
		}
		shares = append(shares, share)
		rest -= share
	}
	if rest > 0 {
		spread(shares[start:], rest, discount, left, total)
	}
	return shares
}

// spread gives one more unit to each of the rest lines that lost most by rounding down. There are at least as many lines with
// a remainder as there are units, so none gets more than what is left of it.
func spread(shares []int64, rest, discount int64, left []int64, total int64) {
	order := make([]int, len(left))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return compareUint(mulMod(discount, left[b], total), mulMod(discount, left[a], total))
	})
	for _, i := range order[:rest] {
		shares[i]++
	}
}

func compareUint(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// mulDiv is a×b/c rounded down, with a product of 128 bits. The quotient must fit, as it does if a or b is at most c.
func mulDiv(a, b, c int64) int64 {
	high, low := bits.Mul64(unsigned(a), unsigned(b))
	quotient, _ := bits.Div64(high, low, unsigned(c))
	return int64(quotient)
}

// mulMod is the remainder of the same division.
func mulMod(a, b, c int64) uint64 {
	high, low := bits.Mul64(unsigned(a), unsigned(b))
	return bits.Rem64(high, low, unsigned(c))
}

func unsigned(n int64) uint64 { return uint64(n) }

// Body is d as it is shown.
func (d *Discount) Body() DiscountBody {
	b := DiscountBody{Kind: d.Kind, Currency: d.Currency, BasisPoints: d.BasisPoints}
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
