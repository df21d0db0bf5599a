package ledger

import (
	"slices"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// TestC19DifferingFields changes one field of each request at a time.
func TestC19DifferingFields(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	hold := func(change func(*Hold)) []byte {
		h := Hold{
			OrderID: "o", Attempt: 1, TTL: time.Minute, Lines: []Line{{"l1", cny(1)}, {"l2", cny(2)}}, Items: []Item{money(1)},
		}
		change(&h)
		return fingerprintHold(&h)
	}
	issue := func(change func(*IssueCoupon)) []byte {
		r := IssueCoupon{CampaignID: "c", IssueRef: "r", Discount: fixed(1), ExpiresAt: at}
		change(&r)
		return fingerprintIssue(&r)
	}
	credit := func(change func(*CreditLot)) []byte {
		r := CreditLot{IssueRef: "r", Source: "s", Amount: cny(1), ExpiresAt: at}
		change(&r)
		return fingerprintCredit(&r)
	}
	campaign := func(change func(*Campaign)) []byte {
		c := springCampaign()
		change(&c)
		return fingerprintCampaign(&c)
	}
	same := hold(func(*Hold) {})
	sameIssue := issue(func(*IssueCoupon) {})
	sameCredit := credit(func(*CreditLot) {})
	confirm := fingerprintRef(printConfirm, HoldRef{OrderID: "o", Attempt: 1})
	for _, c := range []struct {
		name      string
		one, two  []byte
		differing []string
	}{
		{"same", same, hold(func(*Hold) {}), nil},
		{"order", same, hold(func(h *Hold) { h.OrderID = "p" }), []string{"order_id"}},
		{"attempt", same, hold(func(h *Hold) { h.Attempt = 2 }), []string{"attempt"}},
		{"id", same, hold(func(h *Hold) { h.HoldID = id.ID{1} }), []string{"hold_id"}},
		{"ttl", same, hold(func(h *Hold) { h.TTL = time.Hour }), []string{"ttl_ms"}},
		{"line", same, hold(func(h *Hold) { h.Lines[1].Amount.Amount = 3 }), []string{"lines"}},
		{"fewer lines", same, hold(func(h *Hold) { h.Lines = h.Lines[:1] }), []string{"lines"}},
		{"item", same, hold(func(h *Hold) { h.Items[0].Tag = "x" }), []string{"items"}},
		{"all", same, hold(func(h *Hold) { h.Items[0].All = true }), []string{"items"}},
		{"over", same, hold(func(h *Hold) { h.OverCapture = 1 }), []string{"over_capture_limit"}},
		{"two", same, hold(func(h *Hold) { h.Items[0].Tag, h.Attempt = "x", 3 }), []string{"attempt", "items"}},
		{"campaign", sameIssue, issue(func(r *IssueCoupon) { r.CampaignID = "d" }), []string{"campaign_id"}},
		{"issue_ref", sameIssue, issue(func(r *IssueCoupon) { r.IssueRef = "d" }), []string{"issue_ref"}},
		{"discount", sameIssue, issue(func(r *IssueCoupon) { r.Discount.MinSpend = 1 }), []string{"discount"}},
		{"from", sameIssue, issue(func(r *IssueCoupon) { r.ValidFrom = at }), []string{"valid_from"}},
		{"expires", sameIssue, issue(func(r *IssueCoupon) { r.ExpiresAt = at.Add(1e6) }), []string{"expires_at"}},
		{"terms", sameIssue, issue(func(r *IssueCoupon) { r.Terms.ReturnGraceMs = 1 }), []string{"terms"}},
		{
			"limit", issue(func(r *IssueCoupon) { r.Terms.MaxDiscount = cny(1) }),
			issue(func(r *IssueCoupon) { r.Terms.MaxDiscount = cny(2) }),
			[]string{"terms"},
		},
		{"campaign terms", campaign(func(*Campaign) {}), campaign(func(c *Campaign) { c.Refund = NoRefund }), []string{"terms"}},
		{
			"campaign codes", campaign(func(c *Campaign) { c.Priority = 1 }),
			campaign(func(c *Campaign) { c.Priority, c.CodeRequired = 1, true }),
			[]string{"code_required"},
		},
		{"credit_ref", sameCredit, credit(func(r *CreditLot) { r.IssueRef = "d" }), []string{"issue_ref"}},
		{"source", sameCredit, credit(func(r *CreditLot) { r.Source = "d" }), []string{"source"}},
		{"tag", sameCredit, credit(func(r *CreditLot) { r.Tag = "d" }), []string{"tag"}},
		{"amount", sameCredit, credit(func(r *CreditLot) { r.Amount.Currency = "USD" }), []string{"amount"}},
		{"ends", sameCredit, credit(func(r *CreditLot) { r.ExpiresAt = at.Add(1e6) }), []string{"expires_at"}},
		{"ref", confirm, fingerprintRef(printConfirm, HoldRef{OrderID: "o", Attempt: 2}), []string{"attempt"}},
		{"kind", confirm, fingerprintRef(printCancel, HoldRef{OrderID: "o", Attempt: 1}), []string{"operation"}},
		{"nothing", nil, same, []string{"operation"}},
		{"seal", []byte{printSeal}, same, []string{"operation"}},
		{"future kind", []byte{200}, []byte{200}, []string{"operation"}},
	} {
		if got := differingFields(c.one, c.two); !slices.Equal(got, c.differing) {
			t.Errorf("%s: %v, want %v", c.name, got, c.differing)
		}
		if len(c.two) > shard.MaxFingerprint {
			t.Errorf("%s: %d bytes do not fit", c.name, len(c.two))
		}
	}
}

// A field that a later version adds is not in the fingerprints of today.
func TestFingerprintOfAnOlderVersion(t *testing.T) {
	today := fingerprintRef(printConfirm, HoldRef{OrderID: "o", Attempt: 1})
	older := today[:1+2*printLen]
	if got := differingFields(older, today); !slices.Equal(got, []string{"attempt"}) {
		t.Error(got)
	}
	if got := differingFields(older, older); got != nil {
		t.Error(got)
	}
}

// The default of a field and the same value spelled out are one request.
func TestFingerprintOfDefaults(t *testing.T) {
	short := Hold{Owner: "u", OrderID: "o", Attempt: 1, Items: []Item{money(1)}}
	long := short
	long.TTL = DefaultTTL
	for _, h := range []*Hold{&short, &long} {
		if err := validateHold(Caller{Key: "k"}, h); err != nil {
			t.Fatal(err)
		}
	}
	if string(fingerprintHold(&short)) != string(fingerprintHold(&long)) {
		t.Error("a TTL left out is another request than the default TTL")
	}
}

// A repeat of a hold under another key may count its TTL down, but must take the same for the same lines.
func TestRequestHash(t *testing.T) {
	hash := func(change func(*Hold)) [16]byte {
		h := Hold{OrderID: "o", Attempt: 1, TTL: time.Minute, Lines: []Line{{"l1", cny(1)}}, Items: []Item{money(1)}}
		change(&h)
		return requestHash(fingerprintHold(&h))
	}
	same := hash(func(*Hold) {})
	if hash(func(h *Hold) { h.TTL, h.OrderID, h.Attempt, h.HoldID = time.Second, "p", 2, id.ID{1} }) != same {
		t.Error("it depends on more than lines and items")
	}
	if hash(func(h *Hold) { h.Lines[0].Amount.Amount++ }) == same || hash(func(h *Hold) { h.Items[0].Amount.Amount++ }) == same {
		t.Error("it does not depend on lines or items")
	}
	if over := hash(func(h *Hold) { h.OverCapture = 1 }); over == same || over == hash(func(h *Hold) { h.MaxDiscount = 1 }) {
		t.Error("it does not depend on what may be confirmed beyond the hold, or takes it for something else")
	}
}
