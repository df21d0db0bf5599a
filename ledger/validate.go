package ledger

import (
	"fmt"
	"strconv"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Limits of names. The columns that hold them have as many characters.
const (
	maxName    = 64
	maxAttempt = 1_000_000 // attempts to pay for one order; more is a caller that loops
)

// problems collects what is wrong with a request.
type problems []FieldProblem

func (p *problems) add(pointer, detail string) { *p = append(*p, FieldProblem{pointer, detail}) }

// at adds a problem of element i of a list.
func (p *problems) at(list string, i int, member, detail string) {
	p.add("/"+list+"/"+strconv.Itoa(i)+member, detail)
}

// err is nil if there is no problem.
func (p *problems) err() error {
	if len(*p) == 0 {
		return nil
	}
	return &Invalid{*p}
}

const (
	wrongKey   = "must be 1 to 64 of A–Z a–z 0–9 . _ : -"
	wrongOwner = "must be 1 to 64 of A–Z a–z 0–9 . _ : @ -"
	wrongRef   = "must be 1 to 64 of A–Z a–z 0–9 . _ : @ / -"
	wrongMoney = "must be a whole number of minor units from 1 to 9007199254740991"
	wrongCode  = "must be the code of a currency in ISO 4217"

	wrongQuantity = "must be a whole number from 1 to 9007199254740991"
	wrongDelta    = "must be a whole number from -9007199254740991 to 9007199254740991, and not 0"
	wrongTotal    = "makes the sum larger than 9007199254740991"
)

// validateCaller checks what every operation has. The key is a header, so its pointer is the header's name.
func validateCaller(c Caller, owner string) error {
	var p problems
	p.caller(c, owner)
	return p.err()
}

func (p *problems) caller(c Caller, owner string) {
	if !validKey(c.Key) {
		p.add("Idempotency-Key", wrongKey)
	}
	if !shard.ValidOwner(owner) {
		p.add("/owner", wrongOwner)
	}
}

func validKey(key string) bool {
	if key == "" || len(key) > maxName {
		return false
	}
	for i := range len(key) {
		if !alphanumeric(key[i]) && key[i] != '.' && key[i] != '_' && key[i] != ':' && key[i] != '-' {
			return false
		}
	}
	return true
}

// validRef is the syntax of the caller's own references: orders, lines, issues, sources, tags. None of its characters needs an
// escape in JSON, in SQL or in a log.
func validRef(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if !refByte(s[i]) {
			return false
		}
	}
	return true
}

func refByte(c byte) bool {
	if alphanumeric(c) {
		return true
	}
	switch c {
	case '.', '_', ':', '@', '/', '-':
		return true
	}
	return false
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// validateHold also fills in the default TTL.
func validateHold(c Caller, h *Hold) error {
	var p problems
	p.caller(c, h.Owner)
	p.order(h.OrderID, h.Attempt)
	if h.TTL == 0 {
		h.TTL = DefaultTTL
	}
	if h.TTL < MinHoldTTL || h.TTL > MaxHoldTTL {
		p.add("/ttl_ms", fmt.Sprintf("must be from %d to %d", MinHoldTTL.Milliseconds(), MaxHoldTTL.Milliseconds()))
	}
	h.TTL = h.TTL.Truncate(time.Microsecond)
	total := p.lines(h.Lines)
	p.items(h, total)
	p.maxDiscount(h)
	p.overCapture(h)
	return p.err()
}

func (p *problems) order(orderID string, attempt int) {
	if !validRef(orderID) {
		p.add("/order_id", wrongRef)
	}
	if attempt < 1 || attempt > maxAttempt {
		p.add("/attempt", fmt.Sprintf("must be from 1 to %d", maxAttempt))
	}
}

// lines returns the total of the lines. A line may cost nothing (a gift), the order may not be worth more than MaxAmount.
func (p *problems) lines(lines []Line) (total int64) {
	if len(lines) > MaxLines {
		p.add("/lines", fmt.Sprintf("must be at most %d", MaxLines))
		return 0
	}
	for i := range lines {
		l := &lines[i]
		switch {
		case !validRef(l.LineID):
			p.at("lines", i, "/line_id", wrongRef)
		case lineBefore(lines[:i], l.LineID):
			p.at("lines", i, "/line_id", "is the id of an earlier line, too")
		}
		if !validCurrency(l.Amount.Currency) {
			p.at("lines", i, "/amount/currency", wrongCode)
		} else if l.Amount.Currency != lines[0].Amount.Currency {
			p.at("lines", i, "/amount/currency", "must be the same for all lines")
		}
		total = p.sum(total, l.Amount.Amount, 0, "lines", i)
	}
	return total
}

// sum adds amount of element i of a list to total, if it is at least least and the sum stays exact.
func (p *problems) sum(total, amount, least int64, list string, i int) int64 {
	switch {
	case amount < least || amount > MaxAmount:
		p.at(list, i, "/amount/amount", fmt.Sprintf("must be a whole number of minor units from %d to %d", least, MaxAmount))
	case total > MaxAmount-amount:
		p.at(list, i, "/amount/amount", wrongTotal)
	default:
		return total + amount
	}
	return total
}

// lineBefore looks through a list that is short; see MaxLines.
func lineBefore(lines []Line, lineID string) bool {
	for i := range lines {
		if lines[i].LineID == lineID {
			return true
		}
	}
	return false
}

func (p *problems) items(h *Hold, total int64) {
	if len(h.Items) < 1 || len(h.Items) > MaxItems {
		p.add("/items", fmt.Sprintf("must be 1 to %d", MaxItems))
		return
	}
	var money int64
	for i := range h.Items {
		switch it := &h.Items[i]; it.Kind {
		case CouponItem:
			p.coupon(h, i)
		case MoneyItem:
			money = p.moneyItem(it, money, i)
		case StockItem:
			p.stockItem(it, i)
		case BudgetItem:
			p.budgetItem(it, i)
		default:
			p.at("items", i, "/kind", `must be "coupon", "money", "stock" or "budget"`)
		}
		p.quotaMembers(&h.Items[i], i)
	}
	p.quotaSums(h.Items)
	if len(h.Lines) > 0 && money > total {
		p.add("/items", fmt.Sprintf("take %d, but the lines cost only %d", money, total))
	}
}

func (p *problems) coupon(h *Hold, i int) {
	it := &h.Items[i]
	if it.CouponID == (id.ID{}) {
		p.at("items", i, "/coupon_id", "is missing")
	}
	if len(h.Lines) == 0 {
		p.at("items", i, "/coupon_id", "needs lines to give its discount for")
	}
	if it.Amount != (Money{}) || it.All || it.Tag != "" {
		p.at("items", i, "", "a coupon is taken whole: it has no amount, all or tag")
	}
	for j := range i {
		if h.Items[j].Kind == CouponItem && h.Items[j].CouponID == it.CouponID {
			p.at("items", i, "/coupon_id", "is in an earlier item, too")
			return
		}
	}
}

// moneyItem returns the sum of the amounts so far.
func (p *problems) moneyItem(it *Item, sum int64, i int) int64 {
	if it.CouponID != (id.ID{}) {
		p.at("items", i, "/coupon_id", "is not for money")
	}
	if !validCurrency(it.Amount.Currency) {
		p.add(currencyPointer(it, i), wrongCode)
	}
	if it.Tag != "" && !validRef(it.Tag) {
		p.at("items", i, "/tag", wrongRef)
	}
	if !it.All {
		return p.sum(sum, it.Amount.Amount, 1, "items", i)
	}
	if it.Amount.Amount != 0 {
		p.at("items", i, "/all", "cannot be together with an amount")
	}
	return sum
}

func validateDecision(c Caller, owner string, r HoldRef) error {
	var p problems
	p.caller(c, owner)
	p.ref(r)
	return p.err()
}

func (p *problems) ref(r HoldRef) {
	switch {
	case r.HoldID == (id.ID{}):
		p.order(r.OrderID, r.Attempt)
	case r.OrderID != "" || r.Attempt != 0:
		p.add("/order_id", "cannot be together with hold_id")
	}
}

func validateIssue(c Caller, r *IssueCoupon, now time.Time) error {
	var p problems
	p.caller(c, r.Owner)
	if !shard.ValidOwner(r.CampaignID) { // it stands in paths, and so has the alphabet of owners
		p.add("/campaign_id", wrongOwner)
	}
	p.ownRef("/issue_ref", r.IssueRef)
	p.discount(&r.Discount)
	p.terms(&r.Terms, r.Discount.Currency)
	r.ValidFrom, r.ExpiresAt = r.ValidFrom.Truncate(time.Microsecond), r.ExpiresAt.Truncate(time.Microsecond)
	p.expiry(r.ExpiresAt, now)
	if !r.ValidFrom.IsZero() && !r.ValidFrom.Before(r.ExpiresAt) {
		p.add("/valid_from", "must be before expires_at")
	}
	if r.ValidFrom.Before(time.UnixMicro(0)) && !r.ValidFrom.IsZero() {
		p.add("/valid_from", "must be after 1970")
	}
	return p.err()
}

func (p *problems) discount(d *Discount) {
	if !validCurrency(d.Currency) {
		p.add("/discount/currency", wrongCode)
	}
	p.within("/discount/min_spend", d.MinSpend, 0, MaxAmount)
	switch d.Kind {
	case Fixed:
		p.within("/discount/amount", d.Amount, 1, MaxAmount)
		p.within("/discount/basis_points", d.BasisPoints, 0, 0)
		p.within("/discount/cap", d.Cap, 0, 0)
	case Percent:
		p.within("/discount/amount", d.Amount, 0, 0)
		p.within("/discount/basis_points", d.BasisPoints, 1, wholeBasisPoints)
		p.within("/discount/cap", d.Cap, 0, MaxAmount)
	default:
		p.add("/discount/kind", `must be "FIXED" or "PERCENT"`)
	}
}

func (p *problems) within(pointer string, n, least, most int64) {
	switch {
	case n >= least && n <= most:
	case most == 0:
		p.add(pointer, "does not belong to this kind of discount")
	default:
		p.add(pointer, fmt.Sprintf("must be a whole number from %d to %d", least, most))
	}
}

// expiry does not say whether at has passed: that is decided at the shard's time.
func (p *problems) expiry(at, now time.Time) {
	if at.Before(time.UnixMicro(0)) || at.After(now.Add(MaxExpiry)) {
		p.add("/expires_at", fmt.Sprintf("must be after 1970 and at most %d days from now", int(MaxExpiry.Hours()/24)))
	}
}

func validateCredit(c Caller, r *CreditLot, now time.Time) error {
	var p problems
	p.caller(c, r.Owner)
	if !validRef(r.IssueRef) {
		p.add("/issue_ref", wrongRef)
	}
	if !validRef(r.Source) {
		p.add("/source", wrongRef)
	}
	if r.Tag != "" && !validRef(r.Tag) {
		p.add("/tag", wrongRef)
	}
	if r.Amount.Amount < 1 || r.Amount.Amount > MaxAmount {
		p.add("/amount/amount", wrongMoney)
	}
	if !validCurrency(r.Amount.Currency) {
		p.add("/amount/currency", wrongCode)
	}
	r.ExpiresAt = r.ExpiresAt.Truncate(time.Microsecond)
	p.expiry(r.ExpiresAt, now)
	r.RefundGrace = r.RefundGrace.Truncate(time.Millisecond)
	if r.RefundGrace < 0 || r.RefundGrace > MaxExpiry {
		p.add("/refund_grace_ms", fmt.Sprintf("must be from 1 to %d", MaxExpiry.Milliseconds()))
	}
	return p.err()
}

func validateMint(owner string, kind id.Kind, n int) error {
	var p problems
	if !shard.ValidOwner(owner) {
		p.add("/owner", wrongOwner)
	}
	if kind != id.Hold {
		p.add("/kind", `must be "hold"`)
	}
	if n < 1 || n > MaxMint {
		p.add("/count", fmt.Sprintf("must be from 1 to %d", MaxMint))
	}
	return p.err()
}
