package ledger

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// springCampaign is valid; tests change it.
func springCampaign() Campaign {
	return Campaign{
		CampaignID: "spring", TimeZone: "Europe/Berlin",
		Discount: DiscountBody{Kind: Fixed, Currency: "CNY", Amount: &Money{100, "CNY"}},
		StartsAt: epoch, EndsAt: epoch.AddDate(0, 0, 10),
		Validity: Validity{Kind: ForDays, Days: 3},
	}
}

func TestCampaignEvents(t *testing.T) {
	t.Parallel()
	active, paused, ended := standing{state: CampaignActive}, standing{state: CampaignPaused}, standing{state: CampaignEnded}
	never := standing{}
	for _, c := range []struct {
		from                standing
		pause, resume, end_ standing
	}{
		{active, paused, active, ended},
		{paused, paused, active, ended},
		{ended, never, never, ended},
	} {
		for event, want := range map[CampaignEvent]standing{PauseCampaign: c.pause, ResumeCampaign: c.resume, EndCampaign: c.end_} {
			for _, frozen := range []bool{false, true} {
				from, to := c.from, want
				from.frozen, to.frozen = frozen, frozen
				got, ok := from.after(event)
				if ok != (want != never) || ok && got != to {
					t.Errorf("%+v after %s is %+v %t", from, event, got, ok)
				}
			}
		}
		for event, frozen := range map[CampaignEvent]bool{FreezeCampaign: true, UnfreezeCampaign: false} {
			if got, ok := c.from.after(event); !ok || got != (standing{c.from.state, frozen}) {
				t.Errorf("%+v after %s is %+v %t", c.from, event, got, ok)
			}
		}
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	today := dayOf(epoch, zoneOf(t, "Europe/Berlin"))
	active := standing{state: CampaignActive}
	for _, c := range []struct {
		name     string
		change   func(*Campaign)
		standing standing
		usage    *usageRow
		at       time.Time
		want     error
	}{
		{name: "fresh", standing: active, at: epoch},
		{name: "before", standing: active, at: epoch.Add(-time.Microsecond), want: ErrNotStarted},
		{name: "at the end", standing: active, at: epoch.AddDate(0, 0, 10), want: ErrEnded},
		{name: "just before the end", standing: active, at: epoch.AddDate(0, 0, 10).Add(-time.Microsecond)},
		{name: "ended", standing: standing{state: CampaignEnded, frozen: true}, at: epoch, want: ErrEnded},
		{name: "frozen", standing: standing{state: CampaignActive, frozen: true}, at: epoch, want: ErrFrozen},
		{name: "paused", standing: standing{state: CampaignPaused}, at: epoch, want: ErrFrozen},
		{name: "the coupon is over", standing: active, at: epoch.Add(2 * time.Hour), want: ErrEnded, change: func(r *Campaign) {
			r.Validity = Validity{Kind: FixedWindow, From: epoch, Until: epoch.Add(2 * time.Hour)}
		}},
		{
			name: "one of one", standing: active, at: epoch, usage: &usageRow{used: 1, day: today, dayUsed: 1}, want: ErrAlreadyClaimed,
			change: func(r *Campaign) { r.OwnerLimit, r.OwnerDayLimit = 1, 1 },
		},
		{
			name: "two of three", standing: active, at: epoch, usage: &usageRow{used: 2, day: today, dayUsed: 2},
			change: func(r *Campaign) { r.OwnerLimit = 3 },
		},
		{
			name: "three of three", standing: active, at: epoch, usage: &usageRow{used: 3, day: today, dayUsed: 1}, want: ErrLimitReached,
			change: func(r *Campaign) { r.OwnerLimit = 3 },
		},
		{
			name: "the day's", standing: active, at: epoch, usage: &usageRow{used: 3, day: today, dayUsed: 2}, want: ErrLimitReached,
			change: func(r *Campaign) { r.OwnerDayLimit = 2 },
		},
		{
			name: "another day's", standing: active, at: epoch.AddDate(0, 0, 1), usage: &usageRow{used: 3, day: today, dayUsed: 2},
			change: func(r *Campaign) { r.OwnerDayLimit = 2 },
		},
		{name: "no limits", standing: active, at: epoch, usage: &usageRow{used: 1000, day: today, dayUsed: 1000}},
	} {
		campaign := springCampaign()
		if c.change != nil {
			c.change(&campaign)
		}
		r, err := rulesOf(&campaign)
		if err != nil {
			t.Fatal(err)
		}
		got := r.admit(c.standing, c.at, false)
		if got == nil && c.usage != nil {
			got = r.admitUsage(c.usage, c.at)
		}
		switch {
		case got == nil && c.want != nil:
			t.Errorf("%s: admitted, want %v", c.name, c.want)
		case got != nil && !errors.Is(got, c.want):
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// The days of a limit and of a validity are the campaign's, and as long as the clocks make them.
func TestValidity(t *testing.T) {
	t.Parallel()
	at := func(text string) time.Time {
		parsed, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	for _, c := range []struct {
		zone        string
		v           Validity
		now         string
		from, until string
	}{
		{
			"UTC",
			Validity{Kind: FixedWindow, From: at("2026-11-01T00:00:00Z"), Until: at("2026-12-01T00:00:00Z")},
			"2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z", "2026-12-01T00:00:00Z",
		},
		{
			"UTC",
			Validity{Kind: FixedWindow, From: at("2026-11-30T00:00:00Z"), Until: at("2026-12-01T00:00:00Z")},
			"2026-11-22T10:00:00Z", "2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z",
		},
		{"UTC", Validity{Kind: ForDays, Days: 3}, "2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z", "2026-11-25T10:00:00Z"},
		// The clocks of Berlin go forwards on 29 March 2026 and back on 25 October.
		{"Europe/Berlin", Validity{Kind: ForDays, Days: 1}, "2026-03-28T10:00:00Z", "2026-03-28T10:00:00Z", "2026-03-29T09:00:00Z"},
		{"Europe/Berlin", Validity{Kind: ForDays, Days: 1}, "2026-10-24T10:00:00Z", "2026-10-24T10:00:00Z", "2026-10-25T11:00:00Z"},
		{"Europe/Berlin", Validity{Kind: ToEndOfDay}, "2026-03-29T00:30:00Z", "2026-03-29T00:30:00Z", "2026-03-29T22:00:00Z"},
		{"Europe/Berlin", Validity{Kind: ToEndOfDay}, "2026-10-25T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T23:00:00Z"},
		{"Asia/Shanghai", Validity{Kind: ToEndOfDay}, "2026-12-31T15:59:59Z", "2026-12-31T15:59:59Z", "2026-12-31T16:00:00Z"},
		{"Asia/Shanghai", Validity{Kind: ToEndOfDay}, "2026-12-31T16:00:00Z", "2026-12-31T16:00:00Z", "2027-01-01T16:00:00Z"},
		{"America/Sao_Paulo", Validity{Kind: ToEndOfDay, Days: 1}, "2018-11-02T12:00:00Z", "2018-11-02T12:00:00Z", "2018-11-04T03:00:00Z"},
	} {
		campaign := springCampaign()
		campaign.TimeZone, campaign.Validity = c.zone, c.v
		r, err := rulesOf(&campaign)
		if err != nil {
			t.Fatal(err)
		}
		from, until := r.validity(at(c.now))
		if !from.Equal(at(c.from)) || !until.Equal(at(c.until)) {
			t.Errorf("%s %+v at %s: from %s until %s, want %s and %s", c.zone, c.v, c.now, from.UTC(), until.UTC(), c.from, c.until)
		}
	}
}

func TestInvalidCampaigns(t *testing.T) {
	t.Parallel()
	for pointer, change := range map[string]func(*Campaign){
		"/campaign_id":           func(r *Campaign) { r.CampaignID = strings.Repeat("x", 56) },
		"/time_zone":             func(r *Campaign) { r.TimeZone = "Mars/Olympus" },
		"/ends_at":               func(r *Campaign) { r.EndsAt = r.StartsAt },
		"/starts_at":             func(r *Campaign) { r.StartsAt = time.Time{} },
		"/validity/days":         func(r *Campaign) { r.Validity.Days = 0 },
		"/validity/kind":         func(r *Campaign) { r.Validity.Kind = "WEEKS" },
		"/validity/from":         func(r *Campaign) { r.Validity.From = epoch },
		"/validity/until":        func(r *Campaign) { r.Validity = Validity{Kind: FixedWindow, From: epoch, Until: epoch} },
		"/total_limit":           func(r *Campaign) { r.TotalLimit = -1 },
		"/owner_limit":           func(r *Campaign) { r.OwnerLimit = -1 },
		"/owner_day_limit":       func(r *Campaign) { r.OwnerLimit, r.OwnerDayLimit = 1, 2 },
		"/budget/amount":         func(r *Campaign) { r.Budget = &Money{99, "CNY"} },
		"/budget/currency":       func(r *Campaign) { r.Budget = &Money{1000, "EUR"} },
		"/budget":                func(r *Campaign) { r.Budget = &Money{1000, "CNY"}; r.Discount = ofPercent(10) },
		"/discount/amount":       func(r *Campaign) { r.Discount.Amount.Amount = 0 },
		"/discount/cap/currency": func(r *Campaign) { r.Discount = ofPercent(10); r.Discount.Cap = &Money{1, "EUR"} },
		"/refund_policy":         func(r *Campaign) { r.Refund = "SOMETIMES" },
		"/stack_group":           func(r *Campaign) { r.StackGroup, r.MaxPerGroup = "a group", 1 },
		"/max_per_group":         func(r *Campaign) { r.StackGroup = "spring" },
		"/priority":              func(r *Campaign) { r.Priority = maxPriority + 1 },
		"/max_discount/amount":   func(r *Campaign) { r.MaxDiscount = Money{-1, "CNY"} },
		"/max_discount/currency": func(r *Campaign) { r.MaxDiscount = Money{1, "EUR"} },
		"/return_grace_ms":       func(r *Campaign) { r.ReturnGraceMs = MaxExpiry.Milliseconds() + 1 },
	} {
		campaign := springCampaign()
		change(&campaign)
		err := validateCampaign(Caller{Key: "k"}, &campaign, epoch)
		wrong, ok := errors.AsType[*Invalid](err)
		if !ok || wrong.Problems[0].Pointer != pointer {
			t.Errorf("%s: %v", pointer, err)
		}
	}
	for _, zone := range []string{"", "Local", "../etc/passwd"} {
		campaign := springCampaign()
		campaign.TimeZone = zone
		if err := validateCampaign(Caller{Key: "k"}, &campaign, epoch); !errors.Is(err, ErrInvalid) {
			t.Errorf("time zone %q: %v", zone, err)
		}
	}
}

func ofPercent(points int64) DiscountBody {
	return DiscountBody{Kind: Percent, Currency: "CNY", BasisPoints: points}
}

// What an issue says of its terms wins over what its campaign says, one by one; a group and how many of it are one.
func TestTermsOfAnIssue(t *testing.T) {
	t.Parallel()
	campaign := Terms{NoRefund, "spring", 2, 7, cny(50), 1000}
	for _, c := range []struct{ said, want Terms }{
		{Terms{}, campaign},
		{Terms{Refund: WholeOrder}, Terms{"", "spring", 2, 7, cny(50), 1000}},
		{Terms{StackGroup: "other", MaxPerGroup: 1}, Terms{NoRefund, "other", 1, 7, cny(50), 1000}},
		{Terms{Priority: -1}, Terms{NoRefund, "spring", 2, -1, cny(50), 1000}},
		{Terms{MaxDiscount: cny(9)}, Terms{NoRefund, "spring", 2, 7, cny(9), 1000}},
		{Terms{ReturnGraceMs: 5}, Terms{NoRefund, "spring", 2, 7, cny(50), 5}},
	} {
		op := &issueOp{IssueCoupon: IssueCoupon{Terms: c.said}, rules: &rules{Campaign: Campaign{Terms: campaign}}}
		if got := op.terms(); got != c.want {
			t.Errorf("%+v gives %+v, want %+v", c.said, got, c.want)
		}
		if op.rules = nil; op.terms() != c.said.plain() {
			t.Errorf("without a campaign, %+v gives %+v", c.said, op.terms())
		}
	}
}

// The longest terms fit into their column of 255 bytes.
func TestLongestTerms(t *testing.T) {
	t.Parallel()
	longest := Terms{
		AnyRefund, strings.Repeat("g", 64), maxPerGroup, -maxPriority, cny(MaxAmount), MaxExpiry.Milliseconds(),
	}
	var p problems
	if p.terms(&longest, "CNY"); p.err() != nil || len(longest.written()) > 255 {
		t.Errorf("%v, %d bytes: %s", p.err(), len(longest.written()), longest.written())
	}
}

// What is written of a campaign is its definition, whatever state it is shown in.
func TestDefinition(t *testing.T) {
	t.Parallel()
	campaign := springCampaign()
	before, err := campaign.definition()
	if err != nil {
		t.Fatal(err)
	}
	row := campaignRow{campaignID: "spring", standing: standing{CampaignPaused, true}, ver: 7, createdAt: 1, changedAt: 2, doc: before}
	shown, err := row.body()
	if err != nil || shown.State != CampaignPaused || !shown.Frozen || shown.Version != 7 {
		t.Fatalf("%+v %v", shown, err)
	}
	after, err := shown.definition()
	if err != nil || string(after) != string(before) {
		t.Errorf("%s became %s: %v", before, after, err)
	}
}

// A shard that hears of an older state after a newer one keeps the newer one, whoever tells it.
func TestMarks(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for _, c := range []struct {
		ver   int64
		state CampaignState
		want  CampaignState
	}{
		{2, CampaignPaused, CampaignPaused},
		{1, CampaignActive, CampaignPaused},
		{2, CampaignActive, CampaignPaused},
		{4, CampaignEnded, CampaignEnded},
		{3, CampaignActive, CampaignEnded},
	} {
		d.do(slicesOwner, &markOp{campaignID: "spring", standing: standing{state: c.state}, ver: c.ver})
		if got := d.marks["spring"].state; got != c.want {
			t.Errorf("after version %d the mark says %s, want %s", c.ver, got, c.want)
		}
	}
}
