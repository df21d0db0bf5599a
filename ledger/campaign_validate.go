package ledger

import (
	"fmt"
	"time"
)

// maxValidDays bounds the days that a claimed coupon is valid: about as long as MaxExpiry.
const maxValidDays = 7300

const (
	wrongCampaign = "must be 1 to 55 of A–Z a–z 0–9 . _ : @ -"
	wrongZone     = "must be a time zone of the IANA database, such as Asia/Shanghai or UTC"
)

func validateCampaign(c Caller, r *Campaign, now time.Time) error {
	var p problems
	p.campaign(c, r.CampaignID)
	d := r.Discount.discount()
	p.discount(&d)
	p.moneyOf("/discount/amount", r.Discount.Amount, d.Currency)
	p.moneyOf("/discount/cap", r.Discount.Cap, d.Currency)
	p.moneyOf("/discount/min_spend", r.Discount.MinSpend, d.Currency)
	if _, err := time.LoadLocation(r.TimeZone); err != nil || r.TimeZone == "" || r.TimeZone == "Local" {
		p.add("/time_zone", wrongZone)
	}
	p.window("", &r.StartsAt, &r.EndsAt, now)
	p.validity(&r.Validity, r.StartsAt, now)
	p.limits(r)
	p.budget(r, &d)
	p.terms(&r.Terms, d.Currency)
	r.Terms = r.plain()
	return p.err()
}

func (p *problems) campaign(c Caller, campaignID string) {
	if !validKey(c.Key) {
		p.add("Idempotency-Key", wrongKey)
	}
	if !validCampaign(campaignID) {
		p.add("/campaign_id", wrongCampaign)
	}
}

// moneyOf refuses an amount in another currency than that of the discount.
func (p *problems) moneyOf(pointer string, m *Money, currency string) {
	if m != nil && m.Currency != currency {
		p.add(pointer+"/currency", "must be that of the discount")
	}
}

// window checks that two instants are in order, and makes them as exact as the ledger's times are.
func (p *problems) window(under string, from, to *time.Time, now time.Time) {
	first, last := "/starts_at", "/ends_at"
	if under != "" {
		first, last = under+"/from", under+"/until"
	}
	*from, *to = from.UTC().Truncate(time.Microsecond), to.UTC().Truncate(time.Microsecond)
	for _, one := range []struct {
		pointer string
		at      time.Time
	}{{first, *from}, {last, *to}} {
		if one.at.Before(time.UnixMicro(0)) || one.at.After(now.Add(MaxExpiry)) {
			p.add(one.pointer, fmt.Sprintf("must be after 1970 and at most %d days from now", int(MaxExpiry.Hours()/24)))
		}
	}
	if !from.Before(*to) {
		p.add(last, "must be after "+first[1:])
	}
}

func (p *problems) validity(v *Validity, startsAt, now time.Time) {
	switch v.Kind {
	case FixedWindow:
		p.window("/validity", &v.From, &v.Until, now)
		if !v.Until.After(startsAt) {
			p.add("/validity/until", "must be after starts_at: no coupon could ever be used")
		}
		p.days(v.Days, 0, 0)
	case ForDays:
		p.days(v.Days, 1, maxValidDays)
		p.noWindow(v)
	case ToEndOfDay:
		p.days(v.Days, 0, maxValidDays)
		p.noWindow(v)
	default:
		p.add("/validity/kind", `must be "WINDOW", "DAYS" or "END_OF_DAY"`)
	}
}

func (p *problems) days(n, least, most int) {
	switch {
	case n >= least && n <= most:
	case most == 0:
		p.add("/validity/days", "does not belong to a fixed window")
	default:
		p.add("/validity/days", fmt.Sprintf("must be a whole number from %d to %d", least, most))
	}
}

func (p *problems) noWindow(v *Validity) {
	if !v.From.IsZero() || !v.Until.IsZero() {
		p.add("/validity/from", "from and until are for a fixed window")
	}
}

func (p *problems) limits(r *Campaign) {
	for _, one := range []struct {
		pointer string
		limit   int64
	}{{"/total_limit", r.TotalLimit}, {"/owner_limit", r.OwnerLimit}, {"/owner_day_limit", r.OwnerDayLimit}} {
		if one.limit < 0 || one.limit > MaxAmount {
			p.add(one.pointer, "must be a whole number from 1 to 9007199254740991; leave it out for no limit")
		}
	}
	if r.OwnerLimit > 0 && r.OwnerDayLimit > r.OwnerLimit {
		p.add("/owner_day_limit", "is more than owner_limit, so it would never count")
	}
}

// budget refuses one that is smaller than one coupon, and one for coupons that may give any amount.
func (p *problems) budget(r *Campaign, d *Discount) {
	switch {
	case r.Budget == nil:
	case r.Budget.Currency != d.Currency:
		p.add("/budget/currency", "must be that of the discount")
	case d.most() == 0:
		p.add("/budget", "needs a discount with a cap: without one, a coupon may give any amount")
	case r.Budget.Amount < d.most() || r.Budget.Amount > MaxAmount:
		p.add("/budget/amount", fmt.Sprintf("must be from %d, which is what one coupon may give, to 9007199254740991", d.most()))
	}
}

func validateMove(c Caller, r *MoveCampaign) error {
	var p problems
	p.campaign(c, r.CampaignID)
	switch r.Event {
	case PauseCampaign, ResumeCampaign, EndCampaign, FreezeCampaign, UnfreezeCampaign:
	default:
		p.add("/event", `must be "pause", "resume", "end", "freeze" or "unfreeze"`)
	}
	if !validReason(r.Reason) {
		p.add("/reason", wrongReason)
	}
	return p.err()
}

func validateClaim(c Caller, r *Claim) error {
	var p problems
	p.caller(c, r.Owner)
	if !validCampaign(r.CampaignID) {
		p.add("/campaign_id", wrongCampaign)
	}
	p.ownRef("/claim_ref", r.ClaimRef)
	return p.err()
}
