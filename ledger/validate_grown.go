package ledger

import (
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/statesvc/statesvc/shard/id"
)

func (p *problems) maxDiscount(h *Hold) {
	switch {
	case h.MaxDiscount < 0 || h.MaxDiscount > MaxAmount:
		p.add("/max_discount/amount", wrongMoney)
	case h.MaxDiscount > 0 && len(h.Lines) == 0:
		p.add("/max_discount", "needs lines to be discounted")
	}
}

func (p *problems) overCapture(h *Hold) {
	switch {
	case h.OverCapture < 0 || h.OverCapture > MaxAmount:
		p.add("/over_capture_limit/amount", wrongMoney)
	case h.OverCapture > 0 && !slices.ContainsFunc(h.Items, func(it Item) bool { return it.Kind == MoneyItem }):
		p.add("/over_capture_limit", "needs an item of money that it goes beyond")
	}
}

// Limits of the terms of coupons.
const (
	maxPerGroup = MaxItems
	maxPriority = 1000
)

// terms checks those of a coupon whose discount is in a currency.
func (p *problems) terms(t *Terms, currency string) {
	switch t.Refund {
	case "", WholeOrder, AnyRefund, NoRefund:
	default:
		p.add("/refund_policy", `must be "WHOLE_ORDER", "ANY_REFUND" or "NEVER"`)
	}
	if t.StackGroup != "" && !validRef(t.StackGroup) {
		p.add("/stack_group", wrongRef)
	}
	switch {
	case t.StackGroup == "" && t.MaxPerGroup != 0:
		p.add("/max_per_group", "needs a stack_group")
	case t.StackGroup != "" && (t.MaxPerGroup < 1 || t.MaxPerGroup > maxPerGroup):
		p.add("/max_per_group", fmt.Sprintf("must be from 1 to %d", maxPerGroup))
	}
	if t.Priority < -maxPriority || t.Priority > maxPriority {
		p.add("/priority", fmt.Sprintf("must be from %d to %d", -maxPriority, maxPriority))
	}
	if t.MaxDiscount != (Money{}) {
		p.money("/max_discount", t.MaxDiscount)
		p.moneyOf("/max_discount", &t.MaxDiscount, currency)
	}
	if t.ReturnGraceMs < 0 || t.ReturnGraceMs > MaxExpiry.Milliseconds() {
		p.add("/return_grace_ms", fmt.Sprintf("must be from 1 to %d", MaxExpiry.Milliseconds()))
	}
}

func validateConfirm(c Caller, r *Confirm) error {
	var p problems
	p.caller(c, r.Owner)
	p.ref(r.Hold)
	byAmount := r.Amount != (Money{})
	part := byAmount || len(r.Items) > 0
	switch {
	case byAmount && len(r.Items) > 0:
		p.add("/amount", "cannot be together with items")
	case r.Final && !part:
		p.add("/final", "needs a part that it is the last of: items or amount")
	case r.AllowLate && part:
		p.add("/allow_late", "confirms in full: it cannot be together with items or amount")
	}
	if byAmount {
		p.money("/amount", r.Amount)
	}
	p.parts(r.Items)
	return p.err()
}

// money checks an amount that must be there.
func (p *problems) money(pointer string, m Money) {
	if m.Amount < 1 || m.Amount > MaxAmount {
		p.add(pointer+"/amount", wrongMoney)
	}
	if !validCurrency(m.Currency) {
		p.add(pointer+"/currency", wrongCode)
	}
}

func (p *problems) parts(parts []PartRequest) {
	if len(parts) > MaxItems {
		p.add("/items", fmt.Sprintf("must be at most %d", MaxItems))
		return
	}
	for i := range parts {
		part := &parts[i]
		switch {
		case part.Item < 0 || part.Item >= MaxItems:
			p.at("items", i, "/item", fmt.Sprintf("must be from 0 to %d", MaxItems-1))
		case slices.ContainsFunc(parts[:i], func(before PartRequest) bool { return before.Item == part.Item }):
			p.at("items", i, "/item", "is in an earlier part, too")
		}
		switch {
		case part.All && part.Amount != (Money{}):
			p.at("items", i, "/amount", "cannot be together with all")
		case part.Quantity != 0 && (part.All || part.Amount != (Money{})):
			p.at("items", i, "/quantity", "cannot be together with all or amount")
		case part.Quantity < 0 || part.Quantity > MaxAmount:
			p.at("items", i, "/quantity", wrongQuantity)
		case !part.All && part.Quantity == 0:
			p.money("/items/"+strconv.Itoa(i)+"/amount", part.Amount)
		}
	}
}

func validateRefund(c Caller, r *Refund) error {
	var p problems
	p.caller(c, r.Owner)
	if r.OfRefund == (id.ID{}) {
		p.ref(r.Hold)
	}
	if !validRef(r.RefundRef) {
		p.add("/refund_ref", wrongRef)
	}
	ways := 0
	for _, used := range []bool{r.All, r.Amount != (Money{}), len(r.Items) > 0, len(r.Lines) > 0} {
		if used {
			ways++
		}
	}
	if ways != 1 {
		p.add("", "must have exactly one of all, amount, items and lines")
	}
	if r.Amount != (Money{}) {
		p.money("/amount", r.Amount)
	}
	p.parts(r.Items)
	p.refundLines(r.Lines)
	p.reason(r.Reason)
	return p.err()
}

func (p *problems) refundLines(lines []string) {
	if len(lines) > MaxLines {
		p.add("/lines", fmt.Sprintf("must be at most %d", MaxLines))
		return
	}
	for i, line := range lines {
		switch {
		case !validRef(line):
			p.at("lines", i, "", wrongRef)
		case slices.Contains(lines[:i], line):
			p.at("lines", i, "", "is the id of an earlier line, too")
		}
	}
}

// reason checks a text for people. It may be empty.
func (p *problems) reason(text string) {
	if utf8.RuneCountInString(text) > MaxReason || !utf8.ValidString(text) || containsControl(text) {
		p.add("/reason", fmt.Sprintf("must be at most %d characters, without control characters", MaxReason))
	}
}

func containsControl(text string) bool {
	for _, r := range text {
		if unicode.IsControl(r) {
			return true
		}
	}
	return false
}

// validateLater checks a request for a later expiry, and cuts its TTL to microseconds.
func validateLater(c Caller, owner string, r HoldRef, ttl *time.Duration, longest time.Duration) error {
	var p problems
	p.caller(c, owner)
	p.ref(r)
	if *ttl < MinHoldTTL || *ttl > longest {
		p.add("/ttl_ms", fmt.Sprintf("must be from %d to %d", MinHoldTTL.Milliseconds(), longest.Milliseconds()))
	}
	*ttl = ttl.Truncate(time.Microsecond)
	return p.err()
}

func validateAdmin(c Caller, owner, reason string) error {
	var p problems
	p.caller(c, owner)
	p.because(reason)
	return p.err()
}

// because checks a reason that must be there.
func (p *problems) because(reason string) {
	if reason == "" {
		p.add("/reason", "is missing: why?")
	}
	p.reason(reason)
}
