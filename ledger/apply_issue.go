package ledger

import (
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

func (s *state) issue(o *ownerRow, op *issueOp) shard.Reply {
	m := s.marks[op.CampaignID]
	if m != nil && op.rules == nil {
		return shard.Reply{Err: &counted{op.CampaignID}}
	}
	if c := s.issues[issueRef{o.name, op.CampaignID, op.IssueRef}]; c != nil {
		if !sameIssue(c, op) {
			return reused("issue_ref")
		}
		s.settleAssets(o, "", c)
		return done(s.couponReply(c, true))
	}
	expiresAt := op.ExpiresAt.UnixMicro()
	if expiresAt <= s.now {
		return refuse(pastExpiry(op.ExpiresAt))
	}
	if reply, ok := s.admitIssue(o, m, op); !ok {
		return reply
	}
	c := &couponRow{
		owner: o, id: op.id, campaignID: op.CampaignID, issueRef: op.IssueRef, state: couponAvailable, discount: op.Discount,
		validFrom: s.now, expiresAt: expiresAt, issuedAt: s.now, terms: op.terms(),
	}
	if !op.ValidFrom.IsZero() {
		c.validFrom = op.ValidFrom.UnixMicro()
	}
	s.addIssue(c)
	s.changeCoupon(c)
	b := s.appendCouponChange(s.openChanges(), c, "")
	if op.rules != nil {
		b = s.spendQuotas(b, &op.quotaSide)
		s.countUse(o, s.usages[usageRef{o.name, c.campaignID}], c, dayOf(instant(s.now), op.rules.zone))
	}
	s.addEntry(o, entryIssued, id.ID{}, s.closeChanges(b))
	return done(s.couponReply(c, false))
}

// counted is the answer to an issue whose campaign was created, by an instance that did not know. Nothing has changed.
type counted struct{ campaignID string }

func (c *counted) Error() string { return "the issues of campaign " + c.campaignID + " are counted" }

// terms are those of the coupon: what the issue leaves out is as its campaign has it, if that was created.
func (op *issueOp) terms() Terms {
	if op.rules == nil {
		return op.Terms.plain()
	}
	return op.Terms.or(op.rules.Terms).plain()
}

// admitIssue checks the limits of a campaign that was created: those of the owner, the total, the budget. Its window is for claims. Every
// shard has a mark of every such campaign, so an issue without a mark is of a campaign that is only a name.
func (s *state) admitIssue(o *ownerRow, m *markRow, op *issueOp) (shard.Reply, bool) {
	switch {
	case m == nil && op.rules == nil:
		return shard.Reply{}, true
	case m == nil:
		return shard.Reply{Err: &unmarked{op.CampaignID}}, false
	case m.state == CampaignEnded:
		return refuse(refusal(ErrEnded, "", "the campaign was ended")), false
	case m.frozen:
		return refuse(refusal(ErrFrozen, "", "the campaign is frozen")), false
	}
	if r := s.limit(op.rules, s.usages[usageRef{o.name, op.CampaignID}], instant(s.now)); r != nil {
		return refuse(r), false
	}
	if budget := op.rules.Budget; budget != nil && budget.Currency != op.Discount.Currency {
		return refuse(refusal(ErrCurrencyMismatch, "/discount/currency", "the budget of the campaign is in "+budget.Currency)), false
	}
	if most := op.terms().MaxDiscount; most != (Money{}) && most.Currency != op.Discount.Currency {
		return refuse(refusal(ErrCurrencyMismatch, "/discount/currency", "the max_discount of the campaign is in "+most.Currency)), false
	}
	return op.checkNeeds(s, func(string) string { return "" })
}

// sameIssue reports whether a request asks for the coupon that its reference has made. A request without valid_from asks for a
// coupon that was valid from the instant of its issue. The coupon may be older than its campaign, and then it has the terms of the request
// alone.
func sameIssue(c *couponRow, op *issueOp) bool {
	validFrom := c.issuedAt
	if !op.ValidFrom.IsZero() {
		validFrom = op.ValidFrom.UnixMicro()
	}
	expiresAt := op.ExpiresAt.UnixMicro()
	return c.discount == op.Discount && c.validFrom == validFrom &&
		(c.issuedWith(op.terms(), expiresAt) || c.issuedWith(op.Terms.plain(), expiresAt))
}

// issuedWith says whether the coupon had these terms and this expiry when it was issued: since then it may have used its grace.
func (c *couponRow) issuedWith(terms Terms, expiresAt int64) bool {
	if c.terms.ReturnGraceMs == 0 && terms.ReturnGraceMs > 0 && c.expiresAt > expiresAt {
		terms.ReturnGraceMs, expiresAt = 0, c.expiresAt
	}
	return c.terms == terms && c.expiresAt == expiresAt
}

func (s *state) credit(o *ownerRow, op *creditOp) shard.Reply {
	l := s.credits[creditRef{o.name, op.IssueRef}]
	if l != nil && !sameCredit(l, op) {
		return reused("issue_ref")
	}
	s.settleAssets(o, op.Amount.Currency)
	if l != nil {
		return done(s.lotReply(l, true))
	}
	expiresAt := op.ExpiresAt.UnixMicro()
	if expiresAt <= s.now {
		return refuse(pastExpiry(op.ExpiresAt))
	}
	if b := s.balance(o, op.Amount.Currency); b.Available+b.Held > MaxAmount-op.Amount.Amount {
		return shard.Reply{Err: invalid("/amount/amount", "makes the owner's money more than 9007199254740991")}
	}
	l = &lotRow{
		owner: o, id: op.id, issueRef: op.IssueRef, source: op.Source, tag: op.Tag, currency: op.Amount.Currency,
		issued: op.Amount.Amount, LotCounters: LotCounters{Available: op.Amount.Amount}, expiresAt: expiresAt, issuedAt: s.now,
		grace: op.RefundGrace.Microseconds(),
	}
	s.addCredit(l)
	s.changeLot(l)
	s.addEntry(o, entryCredited, id.ID{}, s.closeChanges(s.appendLotChange(s.openChanges(), l, nil)))
	return done(s.lotReply(l, false))
}

func sameCredit(l *lotRow, op *creditOp) bool {
	return l.issued == op.Amount.Amount && l.currency == op.Amount.Currency && l.source == op.Source && l.tag == op.Tag &&
		l.grace == op.RefundGrace.Microseconds() && l.endsAs(op.ExpiresAt.UnixMicro())
}

// endsAs says whether the lot had this expiry when it was credited: a refund may have made it later since.
func (l *lotRow) endsAs(expiresAt int64) bool {
	return l.expiresAt == expiresAt || l.grace > 0 && l.expiresAt > expiresAt
}

func pastExpiry(at time.Time) *Refusal {
	return refusal(ErrAssetExpired, "/expires_at", "it would have ended at "+at.UTC().Format(time.RFC3339Nano))
}
