package ledger

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/currency"

	"github.com/statesvc/statesvc/shard/id"
)

// pointersOf lists what an error finds wrong.
func pointersOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	invalid, ok := errors.AsType[*Invalid](err)
	if !ok || !errors.Is(err, ErrInvalid) {
		t.Fatalf("%v is not an *Invalid", err)
	}
	var pointers []string
	for _, p := range invalid.Problems {
		if p.Detail == "" {
			t.Errorf("%s has no detail", p.Pointer)
		}
		pointers = append(pointers, p.Pointer)
	}
	return strings.Join(pointers, " ")
}

var long = strings.Repeat("x", maxName+1)

func lines(n int, amount int64) []Line {
	lines := make([]Line, n)
	for i := range lines {
		lines[i] = Line{fmt.Sprintf("l%d", i), cny(amount)}
	}
	return lines
}

func coupons(n int) []Item {
	items := make([]Item, n)
	for i := range items {
		items[i] = Item{Kind: CouponItem, CouponID: id.ID{byte(i + 1)}}
	}
	return items
}

// TestC27C28Holds changes one thing of a valid hold at a time.
func TestC27C28Holds(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Hold)
		want   string
	}{
		{"valid", func(*Hold) {}, ""},
		{"no owner", func(h *Hold) { h.Owner = "" }, "/owner"},
		{"owner", func(h *Hold) { h.Owner = "o w" }, "/owner"},
		{"no order", func(h *Hold) { h.OrderID = "" }, "/order_id"},
		{"order", func(h *Hold) { h.OrderID = long }, "/order_id"},
		{"order with a quote", func(h *Hold) { h.OrderID = `o"1` }, "/order_id"},
		{"order with a slash", func(h *Hold) { h.OrderID = "2026/1" }, ""},
		{"attempt 0", func(h *Hold) { h.Attempt = 0 }, "/attempt"},
		{"attempt", func(h *Hold) { h.Attempt = maxAttempt + 1 }, "/attempt"},
		{"default TTL", func(h *Hold) { h.TTL = 0 }, ""},
		{"short TTL", func(h *Hold) { h.TTL = MinHoldTTL - 1 }, "/ttl_ms"},
		{"shortest TTL", func(h *Hold) { h.TTL = MinHoldTTL }, ""},
		{"longest TTL", func(h *Hold) { h.TTL = MaxHoldTTL }, ""},
		{"long TTL", func(h *Hold) { h.TTL = MaxHoldTTL + 1 }, "/ttl_ms"},
		{"negative TTL", func(h *Hold) { h.TTL = -time.Second }, "/ttl_ms"},

		{"most lines", func(h *Hold) { h.Lines = lines(MaxLines, 1) }, ""},
		{"too many lines", func(h *Hold) { h.Lines = lines(MaxLines+1, 1) }, "/lines /items"}, // the items cannot be compared
		{"line without id", func(h *Hold) { h.Lines[0].LineID = "" }, "/lines/0/line_id"},
		{"line twice", func(h *Hold) { h.Lines[1].LineID = h.Lines[0].LineID }, "/lines/1/line_id"},
		{"line for nothing", func(h *Hold) { h.Lines[0].Amount.Amount = 0 }, ""},
		{"negative line", func(h *Hold) { h.Lines[0].Amount.Amount = -1 }, "/lines/0/amount/amount"},
		{"2^53 as a line", func(h *Hold) { h.Lines[0].Amount.Amount = MaxAmount + 1 }, "/lines/0/amount/amount"},
		{"sum of lines", func(h *Hold) { h.Lines[0].Amount.Amount = MaxAmount }, "/lines/1/amount/amount"},
		{"overflow of lines", func(h *Hold) { h.Lines = lines(MaxLines, 1<<62) }, allLines("/amount/amount") + " /items"},
		{"currency of a line", func(h *Hold) { h.Lines[1].Amount.Currency = "XTS" }, "/lines/1/amount/currency"},
		{"two currencies", func(h *Hold) { h.Lines[1].Amount.Currency = "USD" }, "/lines/1/amount/currency"},

		{"no items", func(h *Hold) { h.Items = nil }, "/items"},
		{"most items", func(h *Hold) { h.Items = coupons(MaxItems) }, ""},
		{"too many items", func(h *Hold) { h.Items = coupons(MaxItems + 1) }, "/items"},
		{"kind", func(h *Hold) { h.Items[1].Kind = "Money" }, "/items/1/kind"},
		{"no coupon", func(h *Hold) { h.Items[0].CouponID = id.ID{} }, "/items/0/coupon_id"},
		{"coupon twice", func(h *Hold) { h.Items = append(h.Items, h.Items[0]) }, "/items/2/coupon_id"},
		{"coupon without lines", func(h *Hold) { h.Lines = nil }, "/items/0/coupon_id"},
		{"coupon with an amount", func(h *Hold) { h.Items[0].Amount = cny(1) }, "/items/0"},
		{"coupon and all", func(h *Hold) { h.Items[0].All = true }, "/items/0"},
		{"money of a coupon", func(h *Hold) { h.Items[1].CouponID = id.ID{1} }, "/items/1/coupon_id"},
		{"money of nothing", func(h *Hold) { h.Items[1].Amount.Amount = 0 }, "/items/1/amount/amount"},
		{"negative money", func(h *Hold) { h.Items[1].Amount.Amount = -1 }, "/items/1/amount/amount"},
		{"money", func(h *Hold) { h.Items[1].Amount.Amount = 1<<63 - 1 }, "/items/1/amount/amount"},
		{"money of no currency", func(h *Hold) { h.Items[1].Amount.Currency = "cny" }, "/items/1/amount/currency"},
		{"all", func(h *Hold) { h.Items[1] = allMoney() }, ""},
		{"all and an amount", func(h *Hold) { h.Items[1].All = true }, "/items/1/all"},
		{"all of no currency", func(h *Hold) { h.Items[1] = Item{Kind: MoneyItem, All: true} }, "/items/1/currency"},
		{"tag", func(h *Hold) { h.Items[1].Tag = "a b" }, "/items/1/tag"},
		{"more money than the lines cost", func(h *Hold) { h.Items[1].Amount.Amount = 151 }, "/items"},
		{"sum of money", func(h *Hold) {
			h.Lines, h.Items = nil, []Item{money(MaxAmount), money(1)}
		}, "/items/1/amount/amount"},
		{"several", func(h *Hold) { h.OrderID, h.Attempt, h.Items = "", 0, nil }, "/order_id /attempt /items"},
	} {
		h := Hold{
			Owner: "u1", OrderID: "o1", Attempt: 1, TTL: time.Minute, Lines: []Line{{"l1", cny(100)}, {"l2", cny(50)}},
			Items: []Item{{Kind: CouponItem, CouponID: id.ID{1}}, money(20)},
		}
		c.change(&h)
		if got := pointersOf(t, validateHold(Caller{Key: "k"}, &h)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func allLines(member string) string {
	pointers := make([]string, MaxLines)
	for i := range pointers {
		pointers[i] = fmt.Sprintf("/lines/%d%s", i, member)
	}
	return strings.Join(pointers, " ")
}

func TestValidateIssue(t *testing.T) {
	now := epoch
	for _, c := range []struct {
		name   string
		change func(*IssueCoupon)
		want   string
	}{
		{"valid", func(*IssueCoupon) {}, ""},
		{"campaign", func(r *IssueCoupon) { r.CampaignID = "a/b" }, "/campaign_id"},
		{"ref", func(r *IssueCoupon) { r.IssueRef = "" }, "/issue_ref"},
		{"in the past", func(r *IssueCoupon) { r.ExpiresAt = now.Add(-time.Hour) }, ""}, // decided at the shard's time
		{"no expiry", func(r *IssueCoupon) { r.ExpiresAt = time.Time{} }, "/expires_at"},
		{"last expiry", func(r *IssueCoupon) { r.ExpiresAt = now.Add(MaxExpiry) }, ""},
		{"late expiry", func(r *IssueCoupon) { r.ExpiresAt = now.Add(MaxExpiry + 1000) }, "/expires_at"},
		{"never valid", func(r *IssueCoupon) { r.ValidFrom = r.ExpiresAt }, "/valid_from"},
		{"valid before 1970", func(r *IssueCoupon) { r.ValidFrom = time.Unix(-1, 0) }, "/valid_from"},
		{"kind", func(r *IssueCoupon) { r.Discount.Kind = "" }, "/discount/kind"},
		{"currency", func(r *IssueCoupon) { r.Discount.Currency = "" }, "/discount/currency"},
		{"min", func(r *IssueCoupon) { r.Discount.MinSpend = -1 }, "/discount/min_spend"},
		{"fixed 0", func(r *IssueCoupon) { r.Discount.Amount = 0 }, "/discount/amount"},
		{"fixed", func(r *IssueCoupon) { r.Discount.Amount = MaxAmount + 1 }, "/discount/amount"},
		{"fixed points", func(r *IssueCoupon) { r.Discount.BasisPoints = 1 }, "/discount/basis_points"},
		{"fixed cap", func(r *IssueCoupon) { r.Discount.Cap = 1 }, "/discount/cap"},
		{"percent", func(r *IssueCoupon) { r.Discount = percent(wholeBasisPoints, 0) }, ""},
		{"percent 0", func(r *IssueCoupon) { r.Discount = percent(0, 0) }, "/discount/basis_points"},
		{"percent over 100", func(r *IssueCoupon) { r.Discount = percent(wholeBasisPoints+1, 0) }, "/discount/basis_points"},
		{"percent cap", func(r *IssueCoupon) { r.Discount = percent(1, -1) }, "/discount/cap"},
		{"percent amount", func(r *IssueCoupon) { r.Discount = percent(1, 0); r.Discount.Amount = 1 }, "/discount/amount"},
	} {
		r := IssueCoupon{Owner: "u1", CampaignID: "c", IssueRef: "r", Discount: fixed(1), ExpiresAt: now.Add(time.Hour)}
		c.change(&r)
		if got := pointersOf(t, validateIssue(Caller{Key: "k"}, &r, now)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestValidateCredit(t *testing.T) {
	now := epoch
	for _, c := range []struct {
		name   string
		change func(*CreditLot)
		want   string
	}{
		{"valid", func(*CreditLot) {}, ""},
		{"ref", func(r *CreditLot) { r.IssueRef = long }, "/issue_ref"},
		{"source", func(r *CreditLot) { r.Source = "" }, "/source"},
		{"tag", func(r *CreditLot) { r.Tag = "'" }, "/tag"},
		{"nothing", func(r *CreditLot) { r.Amount.Amount = 0 }, "/amount/amount"},
		{"most", func(r *CreditLot) { r.Amount.Amount = MaxAmount }, ""},
		{"too much", func(r *CreditLot) { r.Amount.Amount = MaxAmount + 1 }, "/amount/amount"},
		{"currency", func(r *CreditLot) { r.Amount.Currency = "DEM" }, "/amount/currency"},
		{"expiry", func(r *CreditLot) { r.ExpiresAt = time.Time{} }, "/expires_at"},
	} {
		r := CreditLot{Owner: "u1", IssueRef: "r", Source: "s", Amount: cny(1), ExpiresAt: now.Add(time.Hour)}
		c.change(&r)
		if got := pointersOf(t, validateCredit(Caller{Key: "k"}, &r, now)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestValidateDecision(t *testing.T) {
	for _, c := range []struct {
		key, owner string
		ref        HoldRef
		want       string
	}{
		{"k", "u1", HoldRef{HoldID: id.ID{1}}, ""},
		{"k", "u1", HoldRef{OrderID: "o", Attempt: 1}, ""},
		{"k", "u1", HoldRef{}, "/order_id /attempt"},
		{"k", "u1", HoldRef{HoldID: id.ID{1}, OrderID: "o", Attempt: 1}, "/order_id"},
		{"", "u1", HoldRef{HoldID: id.ID{1}}, "Idempotency-Key"},
		{long, "u1", HoldRef{HoldID: id.ID{1}}, "Idempotency-Key"},
		{"a@b", "u1", HoldRef{HoldID: id.ID{1}}, "Idempotency-Key"},
		{"A:z_0-9.", long, HoldRef{HoldID: id.ID{1}}, "/owner"},
	} {
		if got := pointersOf(t, validateDecision(Caller{Key: c.key}, c.owner, c.ref)); got != c.want {
			t.Errorf("%+v: %q, want %q", c, got, c.want)
		}
	}
}

func TestValidateMint(t *testing.T) {
	for _, c := range []struct {
		owner string
		kind  id.Kind
		n     int
		want  string
	}{
		{"u1", id.Hold, 1, ""},
		{"u1", id.Hold, MaxMint, ""},
		{"u1", id.Hold, 0, "/count"},
		{"u1", id.Hold, MaxMint + 1, "/count"},
		{"", id.Coupon, 1, "/owner /kind"},
	} {
		if got := pointersOf(t, validateMint(c.owner, c.kind, c.n)); got != c.want {
			t.Errorf("%+v: %q, want %q", c, got, c.want)
		}
	}
}

// Codes are compared with the table of x/text, which also knows those that are no longer in use.
func TestCurrencies(t *testing.T) {
	newer := map[string]bool{"MRU": true, "SLE": true, "VED": true, "VES": true, "XCG": true, "ZWG": true}
	for i, code := range sortedCurrencies {
		if i > 0 && sortedCurrencies[i-1] >= code {
			t.Errorf("%s is out of order", code)
		}
		if _, err := currency.ParseISO(code); err != nil && !newer[code] {
			t.Errorf("%s is no currency", code)
		}
	}
	for _, code := range []string{"", "CN", "CNYY", "cny", "XTS", "XUA", "XAU", "DEM", "C'Y"} {
		if validCurrency(code) {
			t.Errorf("%q is accepted", code)
		}
	}
	if !validCurrency("CNY") || !validCurrency("AED") || !validCurrency("ZWG") || len(sortedCurrencies) < 150 {
		t.Error("the table has a hole")
	}
}
