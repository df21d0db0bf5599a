package ledger

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// CampaignState says whether a campaign gives coupons away. Whether it is frozen is beside it.
type CampaignState string

// The states of campaigns.
const (
	CampaignActive CampaignState = "ACTIVE"
	CampaignPaused CampaignState = "PAUSED"
	CampaignEnded  CampaignState = "ENDED" // for ever
)

// CampaignEvent is what happens to a campaign.
type CampaignEvent string

// The events of campaigns.
const (
	PauseCampaign    CampaignEvent = "pause"
	ResumeCampaign   CampaignEvent = "resume"
	EndCampaign      CampaignEvent = "end"
	FreezeCampaign   CampaignEvent = "freeze"   // no claims, and its coupons make no new holds; live holds still confirm (R31)
	UnfreezeCampaign CampaignEvent = "unfreeze" // back to the state that it has beside
)

// standing is what may change of a campaign.
type standing struct {
	state  CampaignState
	frozen bool
}

// after is a campaign's standing after an event. It is false for what cannot be: an ended campaign stays ended. What is so already
// stays as it is.
func (s standing) after(e CampaignEvent) (standing, bool) {
	switch e {
	case FreezeCampaign, UnfreezeCampaign:
		s.frozen = e == FreezeCampaign
		return s, true
	case EndCampaign:
		s.state = CampaignEnded
		return s, true
	case PauseCampaign, ResumeCampaign:
	}
	if s.state == CampaignEnded {
		return s, false
	}
	s.state = CampaignActive
	if e == PauseCampaign {
		s.state = CampaignPaused
	}
	return s, true
}

// ValidityKind tells how the validity of a claimed coupon is found.
type ValidityKind string

// The kinds of validity (R3).
const (
	FixedWindow ValidityKind = "WINDOW"     // from From to Until, whenever it was claimed
	ForDays     ValidityKind = "DAYS"       // until Days days after the claim, at the same time of day
	ToEndOfDay  ValidityKind = "END_OF_DAY" // to the end of the day that is Days days after that of the claim; 0: the same day
)

// Validity says from when to when a coupon that is claimed may be used. Days are those of the campaign's time zone.
type Validity struct {
	Kind  ValidityKind `json:"kind"`
	From  time.Time    `json:"from,omitzero"`
	Until time.Time    `json:"until,omitzero"`
	Days  int          `json:"days,omitempty"`
}

// Campaign is what claims give, to whom and how often. All but the last five fields is its definition: written once, never changed.
type Campaign struct {
	CampaignID    string       `json:"campaign_id"`
	Discount      DiscountBody `json:"discount"`
	TimeZone      string       `json:"time_zone"` // of the IANA database; its days are the campaign's
	StartsAt      time.Time    `json:"starts_at"` // claims are granted from here …
	EndsAt        time.Time    `json:"ends_at"`   // … up to here
	Validity      Validity     `json:"validity"`
	TotalLimit    int64        `json:"total_limit,omitempty"`     // coupons in all; 0: no limit. It is the quota coupons:{campaign_id}
	OwnerLimit    int64        `json:"owner_limit,omitempty"`     // coupons of one owner; 0: no limit
	OwnerDayLimit int64        `json:"owner_day_limit,omitempty"` // and on one day
	Budget        *Money       `json:"budget,omitempty"`          // the most that all coupons may give; nil: no cap. budget:{campaign_id}
	CodeRequired  bool         `json:"code_required,omitempty"`   // coupons are given for codes only
	Terms                      // of its coupons

	State     CampaignState `json:"state,omitempty"`
	Frozen    bool          `json:"frozen,omitempty"`
	CreatedAt time.Time     `json:"created_at,omitzero"`
	ChangedAt time.Time     `json:"changed_at,omitzero"`
	Version   int64         `json:"version,omitempty"`
}

// CampaignReply answers every change of a campaign.
type CampaignReply struct {
	Campaign      Campaign `json:"campaign"`
	AlreadyExists bool     `json:"already_exists,omitempty"`
}

// MoveCampaign changes the state of a campaign.
type MoveCampaign struct {
	CampaignID string
	Event      CampaignEvent
	Reason     string // for the history; may be empty
}

// Claim asks a campaign for a coupon. (CampaignID, Owner, ClaimRef) is unique for ever, together with the references of issues.
type Claim struct {
	Owner      string
	CampaignID string
	ClaimRef   string
}

// campaignOwner is the owner under whose lock, keys and history a campaign is kept; its bucket is the campaign's home.
func campaignOwner(campaignID string) string { return "campaign:" + campaignID }

func validCampaign(campaignID string) bool {
	return campaignID != "" && shard.ValidOwner(campaignOwner(campaignID))
}

// definition is what is written of a campaign when it is made. Equal definitions have equal bytes.
func (c *Campaign) definition() ([]byte, error) {
	written := *c
	written.State, written.Frozen, written.CreatedAt, written.ChangedAt, written.Version = "", false, time.Time{}, time.Time{}, 0
	doc, err := json.Marshal(&written)
	if err != nil {
		return nil, fmt.Errorf("write the definition of campaign %s: %w", c.CampaignID, err)
	}
	return doc, nil
}

// rules is the definition of a campaign as claims need it. It never changes, so instances keep it.
type rules struct {
	Campaign
	zone     *time.Location
	discount Discount
	needs    []quotaTake // what each claim takes of quotas
}

func rulesOf(c *Campaign) (*rules, error) {
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("time zone of campaign %s: %w", c.CampaignID, err)
	}
	r := &rules{Campaign: *c, zone: zone, discount: c.Discount.discount()}
	r.needs = r.needsOf(&r.discount)
	return r, nil
}

// needsOf is what a coupon of the campaign takes of its quotas.
func (r *rules) needsOf(d *Discount) (needs []quotaTake) {
	if r.Budget != nil {
		needs = addTake(needs, quotaTake{BudgetID(r.CampaignID), d.most()})
	}
	if r.TotalLimit > 0 {
		needs = addTake(needs, quotaTake{CountID(r.CampaignID), 1})
	}
	return needs
}

// discount is the Discount that a body shows.
func (b *DiscountBody) discount() Discount {
	d := Discount{Kind: b.Kind, Currency: b.Currency, BasisPoints: b.BasisPoints}
	for _, one := range []struct {
		from *Money
		to   *int64
	}{{b.Amount, &d.Amount}, {b.Cap, &d.Cap}, {b.MinSpend, &d.MinSpend}} {
		if one.from != nil {
			*one.to = one.from.Amount
		}
	}
	return d
}

// most is the most that a coupon can give; 0 if there is no bound.
func (d *Discount) most() int64 {
	if d.Kind == Fixed {
		return d.Amount
	}
	return d.Cap
}

// validity is from when to when a coupon that is claimed now may be used.
func (r *rules) validity(now time.Time) (from, until time.Time) {
	local := now.In(r.zone)
	switch r.Validity.Kind {
	case FixedWindow:
		if r.Validity.From.After(now) {
			return r.Validity.From, r.Validity.Until
		}
		return now, r.Validity.Until
	case ForDays:
		return now, local.AddDate(0, 0, r.Validity.Days)
	case ToEndOfDay:
		return now, startOfDay(local.Year(), local.Month(), local.Day()+r.Validity.Days+1, r.zone)
	}
	return now, now
}

// admit says why nobody may claim now; nil if owners may, within their limits. byCode: the owner has shown a code. The order is that of
// the codes.
func (r *rules) admit(s standing, now time.Time, byCode bool) *Refusal {
	_, until := r.validity(now)
	switch {
	case now.Before(r.StartsAt):
		return refusal(ErrNotStarted, "", "the campaign starts at "+r.StartsAt.UTC().Format(time.RFC3339Nano))
	case s.state == CampaignEnded:
		return refusal(ErrEnded, "", "the campaign was ended")
	case !now.Before(r.EndsAt):
		return refusal(ErrEnded, "", "the campaign ended at "+r.EndsAt.UTC().Format(time.RFC3339Nano))
	case !until.After(now):
		return refusal(ErrEnded, "", "the coupon would have ended at "+until.UTC().Format(time.RFC3339Nano))
	case s.frozen:
		return refusal(ErrFrozen, "", "the campaign is frozen")
	case s.state == CampaignPaused:
		return refusal(ErrFrozen, "", "the campaign is paused")
	case r.CodeRequired && !byCode:
		return refusal(ErrCodeRequired, "", "the campaign gives coupons for codes only")
	}
	return nil
}

// admitUsage checks the limits of one owner. One of 1 that is used up is told apart: there is a coupon to show.
func (r *rules) admitUsage(u *usageRow, now time.Time) *Refusal {
	today := int64(0)
	if u.day == dayOf(now, r.zone) {
		today = u.dayUsed
	}
	switch {
	case r.OwnerLimit == 1 && u.used >= 1:
		return refusal(ErrAlreadyClaimed, "", "the owner has the one coupon that the campaign gives him")
	case r.OwnerLimit > 0 && u.used >= r.OwnerLimit:
		return limited("the owner has all the coupons that the campaign gives him", u.used+1, r.OwnerLimit)
	case r.OwnerDayLimit > 0 && today >= r.OwnerDayLimit:
		local := now.In(r.zone)
		refused := limited("the owner has all the coupons of the day", today+1, r.OwnerDayLimit)
		refused.RetryAt = startOfDay(local.Year(), local.Month(), local.Day()+1, r.zone).UTC() // with another key
		return refused
	}
	return nil
}

func limited(detail string, asked, have int64) *Refusal {
	r := refusal(ErrLimitReached, "", detail)
	r.Asked, r.Have = &asked, &have
	return r
}

// campaignRow is a row of campaigns.
type campaignRow struct {
	owner      *ownerRow // of the campaign: its row is the lock
	campaignID string
	standing
	ver       int64
	untold    bool
	createdAt int64
	changedAt int64
	doc       []byte

	stored, dirty bool
}

// markRow is a row of campaign_marks: what the shard was told of a campaign last.
type markRow struct {
	campaignID string
	standing
	ver int64

	stored, dirty bool
}

// usageRow is a row of usages.
type usageRow struct {
	owner      *ownerRow
	campaignID string
	used       int64
	day        int64
	dayUsed    int64
	couponID   id.ID
	ver        int64

	stored, dirty bool
}

type usageRef struct{ owner, campaignID string }

// campaignRows are the rows of campaigns in memory. The maps are nil until a batch has a campaign.
type campaignRows struct {
	campaigns map[string]*campaignRow
	marks     map[string]*markRow
	usages    map[usageRef]*usageRow

	changed struct {
		campaigns []*campaignRow
		marks     []*markRow
		usages    []*usageRow
	}
}
