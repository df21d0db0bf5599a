package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// The operations on campaigns. Those without a key are safe to repeat.
type (
	createCampaignOp struct { // at home
		campaignID string
		doc        []byte
	}
	moveCampaignOp struct{ MoveCampaign } // at home
	markOp         struct {               // at each shard: what the home says
		campaignID string
		standing
		ver int64
	}
	toldOp struct { // at home: all shards know the version
		campaignID string
		ver        int64
	}
	claimOp struct {
		Claim
		rules *rules
		id    id.ID // of the coupon
		quotaSide
	}
)

// unmarked is the answer to a claim on a shard that was never told of the campaign. Nothing has changed.
type unmarked struct{ campaignID string }

func (u *unmarked) Error() string {
	return "the shard does not know the state of campaign " + u.campaignID
}

func (s *state) createCampaign(o *ownerRow, op *createCampaignOp) shard.Reply {
	if c := s.campaigns[op.campaignID]; c != nil {
		if !bytes.Equal(c.doc, op.doc) {
			return reused("campaign_id")
		}
		return s.campaignReply(c, true)
	}
	c := &campaignRow{
		owner: o, campaignID: op.campaignID, standing: standing{state: CampaignActive}, doc: op.doc,
		createdAt: s.now, changedAt: s.now,
	}
	s.addCampaign(c)
	s.changeCampaign(c)
	b := appendCampaignChange(s.openChanges(), c.campaignID, "", string(c.state))
	s.addEntry(o, entryCampaignCreated, id.ID{}, s.closeChanges(b))
	return s.campaignReply(c, false)
}

func (s *state) moveCampaign(o *ownerRow, op *moveCampaignOp) shard.Reply {
	c := s.campaigns[op.CampaignID]
	if c == nil {
		return refuse(unknownCampaign(op.CampaignID))
	}
	after, ok := c.after(op.Event)
	if !ok {
		return refuse(refusal(ErrEnded, "", "the campaign was ended"))
	}
	if after == c.standing {
		return s.campaignReply(c, false)
	}
	before := c.standing
	s.changeCampaign(c)
	c.standing, c.changedAt = after, s.now
	b := appendCampaignChange(s.openChanges(), c.campaignID, before.shown(), after.shown())
	s.addEntry(o, entryCampaignChanged, id.ID{}, s.closeReasoned(b, op.Reason))
	return s.campaignReply(c, false)
}

// shown is a standing as entries name it.
func (s standing) shown() string {
	if s.frozen {
		return "FROZEN"
	}
	return string(s.state)
}

func unknownCampaign(campaignID string) *Refusal {
	return refusal(ErrNotFound, "", "there is no campaign "+campaignID)
}

func appendCampaignChange(b []byte, campaignID, from, to string) []byte {
	b = append(appendText(append(b, '{'), "campaign_id", campaignID), ',')
	if from != "" {
		b = append(appendText(b, "from", from), ',')
	}
	return append(appendText(b, "to", to), "},"...)
}

func (s *state) campaignReply(c *campaignRow, exists bool) shard.Reply {
	body, err := c.body()
	if err != nil {
		return internal(err)
	}
	text, err := json.Marshal(CampaignReply{Campaign: body, AlreadyExists: exists})
	if err != nil {
		return internal(err)
	}
	return done(text)
}

// body shows a campaign.
func (c *campaignRow) body() (body Campaign, err error) {
	if err := json.Unmarshal(c.doc, &body); err != nil {
		return body, fmt.Errorf("definition of campaign %s: %w", c.campaignID, err)
	}
	body.State, body.Frozen, body.Version = c.state, c.frozen, c.ver
	body.CreatedAt, body.ChangedAt = instant(c.createdAt), instant(c.changedAt)
	return body, nil
}

// mark writes down what the home of a campaign has said, unless the shard knows better.
func (s *state) mark(op *markOp) shard.Reply {
	m := s.marks[op.campaignID]
	if m == nil {
		m = s.addMark(&markRow{campaignID: op.campaignID})
	}
	if m.ver >= op.ver {
		return unchanged()
	}
	s.changeMark(m)
	m.standing, m.ver = op.standing, op.ver
	return moved()
}

// told notes that no shard has missed a version, unless there is a newer one.
func (s *state) told(op *toldOp) shard.Reply {
	c := s.campaigns[op.campaignID]
	if c == nil || c.ver != op.ver || !c.untold {
		return unchanged()
	}
	s.writeCampaign(c)
	c.untold = false
	return moved()
}

// claim gives a coupon, or says why not, in the order of the codes (R2).
func (s *state) claim(o *ownerRow, op *claimOp) shard.Reply {
	if c := s.issues[issueRef{o.name, op.CampaignID, op.ClaimRef}]; c != nil {
		s.settleAssets(o, "", c)
		return done(s.couponReply(c, true))
	}
	m := s.marks[op.CampaignID]
	if m == nil {
		return shard.Reply{Err: &unmarked{op.CampaignID}}
	}
	u := s.usages[usageRef{o.name, op.CampaignID}]
	now := instant(s.now)
	refused := op.rules.admit(m.standing, now, strings.HasPrefix(op.ClaimRef, codePrefix))
	if refused == nil && o.frozen {
		refused = refusal(ErrFrozen, "", "the owner is frozen: he claims nothing")
	}
	if refused == nil {
		refused = s.limit(op.rules, u, now)
	}
	if refused != nil {
		return refuse(refused)
	}
	if r, ok := op.checkNeeds(s, func(string) string { return "" }); !ok {
		return r
	}
	return s.grant(o, u, op, now)
}

// limit says which limit of the owner stands against one more coupon; nil if none does.
func (s *state) limit(r *rules, u *usageRow, now time.Time) *Refusal {
	if u == nil {
		return nil
	}
	refused := r.admitUsage(u, now)
	if refused != nil && refused.Code == ErrAlreadyClaimed.Error() {
		refused.CouponID = s.codec.Text(id.Coupon, u.couponID)
	}
	return refused
}

// grant makes the coupon of a claim that was admitted.
func (s *state) grant(o *ownerRow, u *usageRow, op *claimOp, now time.Time) shard.Reply {
	from, until := op.rules.validity(now)
	c := &couponRow{
		owner: o, id: op.id, campaignID: op.CampaignID, issueRef: op.ClaimRef, state: couponAvailable, discount: op.rules.discount,
		validFrom: from.UnixMicro(), expiresAt: until.UnixMicro(), issuedAt: s.now, terms: op.rules.Terms,
	}
	s.addIssue(c)
	s.changeCoupon(c)
	b := s.appendCouponChange(s.openChanges(), c, "")
	b = s.spendQuotas(b, &op.quotaSide)
	s.countUse(o, u, c, dayOf(now, op.rules.zone))
	s.addEntry(o, entryClaimed, id.ID{}, s.closeChanges(b))
	return done(s.couponReply(c, false))
}

// countUse counts a claim in the owner's transaction, so that no other claim of his can be between the check and the count.
func (s *state) countUse(o *ownerRow, u *usageRow, c *couponRow, day int64) {
	if u == nil {
		u = s.addUsage(&usageRow{owner: o, campaignID: c.campaignID})
	}
	s.changeUsage(u)
	if u.day != day {
		u.day, u.dayUsed = day, 0
	}
	u.used++
	u.dayUsed++
	u.couponID = c.id
}

// spendQuotas takes what checkNeeds has found, for good.
func (s *state) spendQuotas(b []byte, q *quotaSide) []byte {
	s.takeQuotas(q)
	for _, need := range q.needs {
		r := s.slices[need.quota]
		r.Held -= need.amount
		r.Used += need.amount
		b = appendQuotaChange(b, need.quota, quotaAvailable, quotaUsed, need.amount)
	}
	return b
}

// The rows of campaigns: add makes one known, change is called before every change.

func (s *state) addCampaign(c *campaignRow) {
	if s.campaigns == nil {
		s.campaigns = map[string]*campaignRow{}
	}
	s.campaigns[c.campaignID] = c
}

func (s *state) changeCampaign(c *campaignRow) {
	c.ver++
	c.untold = true
	s.writeCampaign(c)
}

// writeCampaign makes a change durable that is no change of the campaign.
func (s *state) writeCampaign(c *campaignRow) {
	if !c.dirty {
		c.dirty = true
		s.campaignRows.changed.campaigns = append(s.campaignRows.changed.campaigns, c)
	}
}

func (s *state) addMark(m *markRow) *markRow {
	if known := s.marks[m.campaignID]; known != nil {
		return known
	}
	if s.marks == nil {
		s.marks = map[string]*markRow{}
	}
	s.marks[m.campaignID] = m
	return m
}

func (s *state) changeMark(m *markRow) {
	if !m.dirty {
		m.dirty = true
		s.campaignRows.changed.marks = append(s.campaignRows.changed.marks, m)
	}
}

func (s *state) addUsage(u *usageRow) *usageRow {
	ref := usageRef{u.owner.name, u.campaignID}
	if known := s.usages[ref]; known != nil {
		return known
	}
	if s.usages == nil {
		s.usages = map[usageRef]*usageRow{}
	}
	s.usages[ref] = u
	return u
}

func (s *state) changeUsage(u *usageRow) {
	u.ver++
	if !u.dirty {
		u.dirty = true
		s.campaignRows.changed.usages = append(s.campaignRows.changed.usages, u)
	}
}
