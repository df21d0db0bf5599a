package ledger

import (
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawLines draws lines whose sum is at most MaxAmount, sometimes as much, often with equal and with empty ones.
func drawLines(t *rapid.T) (left []int64, total int64) {
	n := rapid.IntRange(1, 12).Draw(t, "lines")
	most := rapid.SampledFrom([]int64{3, 100, MaxAmount / int64(n)}).Draw(t, "most")
	for range n {
		amount := rapid.Int64Range(0, most).Draw(t, "amount")
		left = append(left, amount)
		total += amount
	}
	return left, total
}

// slowSplit gives out the discount unit by unit where it is small, to whoever is furthest below his exact share. It is
// obviously exact, and of use for small numbers only.
func slowSplit(discount int64, left []int64, total int64) []int64 {
	shares := make([]int64, len(left))
	below := func(i int) *big.Rat { // exact share minus what was given
		exact := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(discount), big.NewInt(left[i])), big.NewInt(total))
		return exact.Sub(exact, new(big.Rat).SetInt64(shares[i]))
	}
	given := int64(0)
	for i := range left {
		exact := new(big.Int).Mul(big.NewInt(discount), big.NewInt(left[i]))
		shares[i] = exact.Div(exact, big.NewInt(total)).Int64()
		given += shares[i]
	}
	for ; given < discount; given++ {
		best := 0
		for i := range left {
			if below(i).Cmp(below(best)) > 0 {
				best = i
			}
		}
		shares[best]++
	}
	return shares
}

func TestC25SplitIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		left, total := drawLines(t)
		discount := rapid.Int64Range(0, total).Draw(t, "discount")
		prefix := []int64{-1, -2} // of other coupons: left alone
		shares := split(slices.Clone(prefix), discount, left, total)
		if !slices.Equal(shares[:2], prefix) || len(shares) != 2+len(left) {
			t.Fatalf("shares %v", shares)
		}
		shares = shares[2:]
		var sum int64
		for i, share := range shares {
			if share < 0 || share > left[i] {
				t.Fatalf("share %d of line %d, which has %d", share, i, left[i])
			}
			sum += share
		}
		if sum != discount {
			t.Fatalf("shares %v sum up to %d, not %d", shares, sum, discount)
		}
		if total > 0 {
			if want := slowSplit(discount, left, total); !slices.Equal(shares, want) {
				t.Fatalf("shares %v, want %v", shares, want)
			}
		}
	})
}

func TestSplitVectors(t *testing.T) {
	for _, c := range []struct {
		discount int64
		left     []int64
		want     []int64
	}{
		{100, []int64{1, 1, 1}, nil},
		{1, []int64{1, 1, 1}, []int64{1, 0, 0}}, // equal remainders: the first line
		{2, []int64{1, 1, 1}, []int64{1, 1, 0}},
		{10, []int64{10, 20}, []int64{3, 7}},
		{10, []int64{0, 20}, []int64{0, 10}},
		{0, []int64{0, 0}, []int64{0, 0}},
		{MaxAmount, []int64{MaxAmount - 1, 1}, []int64{MaxAmount - 1, 1}},
		{MaxAmount - 1, []int64{MaxAmount - 1, 1}, []int64{MaxAmount - 2, 1}},
	} {
		var total int64
		for _, l := range c.left {
			total += l
		}
		if c.want == nil {
			c.discount, c.want = total, c.left // a discount of everything takes every line
		}
		if got := split(nil, c.discount, c.left, total); !slices.Equal(got, c.want) {
			t.Errorf("%d over %v: %v, want %v", c.discount, c.left, got, c.want)
		}
	}
}

func TestDiscountAgainstBigNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Discount{
			Kind:        rapid.SampledFrom([]DiscountKind{Fixed, Percent}).Draw(t, "kind"),
			Amount:      rapid.Int64Range(1, MaxAmount).Draw(t, "amount"),
			BasisPoints: rapid.Int64Range(1, wholeBasisPoints).Draw(t, "points"),
			Cap:         rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(1, MaxAmount)).Draw(t, "cap"),
		}
		left := rapid.Int64Range(0, MaxAmount).Draw(t, "left")
		want := big.NewInt(d.Amount)
		if d.Kind == Percent {
			want.Mul(big.NewInt(left), big.NewInt(d.BasisPoints))
			want.Div(want, big.NewInt(wholeBasisPoints))
			if d.Cap > 0 && want.Cmp(big.NewInt(d.Cap)) > 0 {
				want.SetInt64(d.Cap)
			}
		}
		if want.Cmp(big.NewInt(left)) > 0 {
			want.SetInt64(left)
		}
		if got := d.of(left); got != want.Int64() {
			t.Fatalf("%+v of %d is %d, want %v", d, left, got, want)
		}
	})
}
