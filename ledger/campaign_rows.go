package ledger

import (
	"cmp"
	"slices"
	"strings"

	"github.com/statesvc/statesvc/shard"
)

// A campaign's home is locked by the row in owners of campaign:{campaign_id}, and what an owner has claimed by his own. Marks are read
// without a lock by claims: one that has seen the old mark comes before the change. Batches without campaigns have none of these
// statements.
var (
	campaignLookup = shard.Lookup{
		Columns: "campaign_id, state, frozen, ver, untold, created_at, changed_at, doc", From: "campaigns", Index: "PRIMARY",
		Keys: "bucket, campaign_id",
	}
	markLookup = shard.Lookup{
		Columns: "campaign_id, state, frozen, ver", From: "campaign_marks", Index: "PRIMARY", Keys: "campaign_id",
	}
	usageLookup = shard.Lookup{
		Columns: "owner, campaign_id, used, day, day_used, coupon_id, ver", From: "usages", Index: "PRIMARY",
		Keys: "bucket, owner, campaign_id",
	}
)

func (b *batch) loadCampaigns(p *shard.Packet) {
	homes := keys(p, campaignLookup, b.scanCampaign)
	for _, op := range b.ops {
		if campaign := campaignOf(op); campaign != "" {
			homes.row(op.Bucket).ASCII(campaign)
		}
	}
	b.loadClaims(p)
	b.lockMarks(p)
}

// campaignOf is the campaign whose home an operation is about.
func campaignOf(op *shard.Op) string {
	switch body := op.Body.(type) {
	case *createCampaignOp:
		return body.campaignID
	case *moveCampaignOp:
		return body.CampaignID
	case *toldOp:
		return body.campaignID
	case *makeBatchOp:
		return body.CampaignID
	}
	return ""
}

// loadClaims reads what claims and issues look at: the coupon of a claim's reference, what the owner has had, and the campaign's mark.
func (b *batch) loadClaims(p *shard.Packet) {
	byRef := keys(p, couponByRef, b.scanIssue)
	for op, claim := range b.claims() {
		byRef.row(op.Bucket).ASCII(op.Owner).ASCII(claim.CampaignID).ASCII(claim.ClaimRef)
	}
	usages := keys(p, usageLookup, b.scanUsage)
	for op, campaign := range b.asked() {
		if counts(op) {
			usages.row(op.Bucket).ASCII(op.Owner).ASCII(campaign)
		}
	}
	marks := keys(p, markLookup, b.scanMark)
	for _, campaign := range b.asked() {
		marks.next().ASCII(campaign)
	}
}

// asked are the operations that give coupons of campaigns, each with its campaign.
func (b *batch) asked() func(yield func(*shard.Op, string) bool) {
	return func(yield func(*shard.Op, string) bool) {
		for _, op := range b.ops {
			var campaign string
			switch body := op.Body.(type) {
			case *claimOp:
				campaign = body.CampaignID
			case *issueOp:
				campaign = body.CampaignID
			default:
				continue
			}
			if !yield(op, campaign) {
				return
			}
		}
	}
}

// counts says whether an operation is counted among what its owner has of a campaign: all but issues under a mere name.
func counts(op *shard.Op) bool {
	issue, ok := op.Body.(*issueOp)
	return !ok || issue.rules != nil
}

// claims are the claims of the batch, each with its operation.
func (b *batch) claims() func(yield func(*shard.Op, *claimOp) bool) {
	return func(yield func(*shard.Op, *claimOp) bool) {
		for _, op := range b.ops {
			if claim, ok := op.Body.(*claimOp); ok && !yield(op, claim) {
				return
			}
		}
	}
}

// lockMarks locks the marks that are to be changed, in the order of campaigns, after all owners and before slices.
func (b *batch) lockMarks(p *shard.Packet) {
	var names []string
	for _, op := range b.ops {
		if mark, ok := op.Body.(*markOp); ok {
			names = append(names, mark.campaignID)
		}
	}
	slices.Sort(names)
	q := keys(p, markLookup, b.scanMark)
	q.lock = true
	for _, name := range slices.Compact(names) {
		q.next().ASCII(name)
	}
}

func (b *batch) scanCampaign(r *shard.Row) error {
	c := &campaignRow{campaignID: r.Str(), standing: scannedStanding(r), ver: r.Int(), untold: r.Int() != 0, stored: true}
	c.createdAt, c.changedAt, c.doc = r.Int(), r.Int(), r.Bytes()
	c.owner = b.owners[campaignOwner(c.campaignID)]
	b.addCampaign(c)
	return nil
}

func scannedStanding(r *shard.Row) standing {
	return standing{state: CampaignState(r.Str()), frozen: r.Int() != 0}
}

func (b *batch) scanMark(r *shard.Row) error {
	b.addMark(&markRow{campaignID: r.Str(), standing: scannedStanding(r), ver: r.Int(), stored: true})
	return nil
}

func (b *batch) scanUsage(r *shard.Row) error {
	u := &usageRow{owner: b.owners[r.Str()], campaignID: r.Str(), used: r.Int(), day: r.Int(), dayUsed: r.Int(), stored: true}
	u.couponID, u.ver = r.Array16(), r.Int()
	b.addUsage(u)
	return nil
}

// writeCampaigns adds the changed rows. Batches without campaigns have none.
func (b *batch) writeCampaigns(p *shard.Packet) {
	b.writeHomesOfCampaigns(p)
	b.writeMarks(p)
	b.writeUsages(p)
}

func (b *batch) writeHomesOfCampaigns(p *shard.Packet) {
	changed := b.campaignRows.changed.campaigns
	slices.SortFunc(changed, func(x, y *campaignRow) int { return x.owner.compare(y.owner) })
	const moving = "state, frozen, ver, untold, changed_at"
	added := rows{open: func() shard.Values { return p.Insert("campaigns", "bucket, campaign_id, "+moving+", created_at, doc") }}
	for _, c := range changed {
		if !c.stored {
			c.moving(added.row().Bucket(c.owner.bucket).ASCII(c.campaignID)).Int(c.createdAt).Binary(c.doc)
		}
	}
	updated := rows{open: func() shard.Values { return p.Update("campaigns", "bucket, campaign_id", moving) }}
	for _, c := range changed {
		if c.stored {
			c.moving(updated.row().Bucket(c.owner.bucket).ASCII(c.campaignID))
		}
	}
}

func (c *campaignRow) moving(v shard.Values) shard.Values {
	return c.write(v).Int(c.ver).Int(bit(c.untold)).Int(c.changedAt)
}

// write adds state and frozen.
func (s standing) write(v shard.Values) shard.Values {
	return v.ASCII(string(s.state)).Int(bit(s.frozen))
}

func bit(set bool) int64 {
	if set {
		return 1
	}
	return 0
}

func (b *batch) writeMarks(p *shard.Packet) {
	changed := b.campaignRows.changed.marks
	slices.SortFunc(changed, func(x, y *markRow) int { return strings.Compare(x.campaignID, y.campaignID) })
	added := rows{open: func() shard.Values { return p.Insert("campaign_marks", "campaign_id, state, frozen, ver") }}
	for _, m := range changed {
		if !m.stored {
			m.write(added.row().ASCII(m.campaignID)).Int(m.ver)
		}
	}
	updated := rows{open: func() shard.Values { return p.Update("campaign_marks", "campaign_id", "state, frozen, ver") }}
	for _, m := range changed {
		if m.stored {
			m.write(updated.row().ASCII(m.campaignID)).Int(m.ver)
		}
	}
}

func (b *batch) writeUsages(p *shard.Packet) {
	changed := b.campaignRows.changed.usages
	slices.SortFunc(changed, func(x, y *usageRow) int {
		return cmp.Or(x.owner.compare(y.owner), strings.Compare(x.campaignID, y.campaignID))
	})
	const counters = "used, day, day_used, coupon_id, ver"
	added := rows{open: func() shard.Values { return p.Insert("usages", "bucket, owner, campaign_id, "+counters) }}
	for _, u := range changed {
		if !u.stored {
			u.counters(u.key(added.row()))
		}
	}
	updated := rows{open: func() shard.Values { return p.Update("usages", "bucket, owner, campaign_id", counters) }}
	for _, u := range changed {
		if u.stored {
			u.counters(u.key(updated.row()))
		}
	}
}

func (u *usageRow) key(v shard.Values) shard.Values {
	return v.Bucket(u.owner.bucket).ASCII(u.owner.name).ASCII(u.campaignID)
}

func (u *usageRow) counters(v shard.Values) {
	v.Int(u.used).Int(u.day).Int(u.dayUsed).Binary(u.couponID[:]).Int(u.ver)
}
