package ledger

import (
	"cmp"
	"slices"
)

// overstacked is the first item that is one coupon too many of its group; -1 if there is none.
func (p *plan) overstacked() int {
	for i, c := range p.coupons {
		if c == nil || c.terms.StackGroup == "" {
			continue
		}
		if p.ofGroup(c.terms.StackGroup, i) > c.terms.MaxPerGroup {
			return i
		}
	}
	return -1
}

// ofGroup counts the coupons of a group up to item last.
func (p *plan) ofGroup(group string, last int) (n int) {
	for _, c := range p.coupons[:last+1] {
		if c != nil && c.terms.StackGroup == group {
			n++
		}
	}
	return n
}

// inOrder is the places of the items in the order in which discounts are computed: the highest priority first, equal ones as they
// stand. It is the same for the same request, whatever else happens.
func (p *plan) inOrder() []int {
	p.order = p.order[:0]
	for i := range p.items {
		p.order = append(p.order, i)
	}
	if slices.ContainsFunc(p.coupons, func(c *couponRow) bool { return c != nil && c.terms.Priority != 0 }) {
		slices.SortStableFunc(p.order, func(a, b int) int { return cmp.Compare(p.priority(b), p.priority(a)) })
	}
	return p.order
}

// mostDiscount is the least of the limits that the hold and its coupons have for all discounts together; 0: there is none.
func (p *plan) mostDiscount(most int64) int64 {
	for _, c := range p.coupons {
		if c == nil || c.terms.MaxDiscount.Amount == 0 {
			continue
		}
		if most == 0 || c.terms.MaxDiscount.Amount < most {
			most = c.terms.MaxDiscount.Amount
		}
	}
	return most
}

func (p *plan) priority(item int) int {
	if c := p.coupons[item]; c != nil {
		return c.terms.Priority
	}
	return 0
}
