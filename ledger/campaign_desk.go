package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// quotaKey is the key under which a campaign sets its quotas. Each quota has it once, so a campaign that is made again sets nothing.
const quotaKey = "campaign"

// untoldBatch bounds the campaigns whose state a sweep spreads.
const untoldBatch = 64

// CreateCampaign makes a campaign, with the quotas of its total and its budget. The Body is a CampaignReply. The campaign gives coupons
// from StartsAt on.
//
// The quotas are made first, each in a commit of its own: a campaign that is there has them. One that is refused because another
// definition has its name may leave the quotas of a name that has none.
func (l *Ledger) CreateCampaign(ctx context.Context, c Caller, r Campaign) (Answer, error) {
	if err := validateCampaign(c, &r, l.cfg.Now()); err != nil {
		return Answer{}, err
	}
	doc, err := r.definition()
	if err != nil {
		return Answer{}, err
	}
	if err := l.setQuotas(ctx, &r); err != nil {
		return Answer{}, err
	}
	op := &createCampaignOp{campaignID: r.CampaignID, doc: doc}
	answer, err := l.submit(ctx, c, campaignOwner(r.CampaignID), kindCreateCampaign, fingerprintCampaign(&r), op)
	if err != nil {
		return answer, err
	}
	return answer, l.spread(ctx, r.CampaignID)
}

// setQuotas makes the quotas of a new campaign. They are those of the first definition that asked for them.
func (l *Ledger) setQuotas(ctx context.Context, r *Campaign) error {
	type quota struct {
		SetQuota
		field string
	}
	var wanted []quota
	if r.TotalLimit > 0 {
		wanted = append(wanted, quota{SetQuota{Quota: CountID(r.CampaignID), Total: r.TotalLimit}, "total_limit"})
	}
	if r.Budget != nil {
		budget := SetQuota{Quota: BudgetID(r.CampaignID), Total: r.Budget.Amount, Currency: r.Budget.Currency}
		wanted = append(wanted, quota{budget, "budget"})
	}
	for _, q := range wanted {
		q.Reason = "of campaign " + r.CampaignID
		_, err := l.SetQuota(ctx, Caller{Key: quotaKey}, q.SetQuota)
		if errors.Is(err, ErrKeyReused) {
			return &KeyReused{Fields: []string{"campaign_id", q.field}}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// MoveCampaign pauses, resumes, ends, freezes or unfreezes a campaign. The Body is a CampaignReply.
//
// When it answers, every shard knows: no claim that begins later is granted by a campaign that was paused, ended or frozen, and no hold
// that begins later takes a coupon of one that was frozen. An error says that a shard may not know yet; the same key tries again, and
// so does a sweeper.
func (l *Ledger) MoveCampaign(ctx context.Context, c Caller, r MoveCampaign) (Answer, error) {
	if err := validateMove(c, &r); err != nil {
		return Answer{}, err
	}
	answer, err := l.submit(ctx, c, campaignOwner(r.CampaignID), kindMoveCampaign, fingerprintMove(&r), &moveCampaignOp{r})
	if err != nil {
		return answer, err
	}
	return answer, l.spread(ctx, r.CampaignID)
}

// spread tells every shard the state of a campaign, and then its home that all know it. Each step is safe to repeat.
func (l *Ledger) spread(ctx context.Context, campaignID string) error {
	body, untold, err := l.readCampaign(ctx, campaignID)
	if err != nil || !untold {
		return err
	}
	for _, number := range l.cfg.Store.Shards() {
		if err := l.tell(ctx, &body, number); err != nil {
			return fmt.Errorf("tell shard %d of campaign %s: %w", number, campaignID, err)
		}
	}
	owner := campaignOwner(campaignID)
	return l.broker.submit(ctx, &shard.Op{
		Owner: owner, Bucket: shard.BucketOf(owner), Kind: kindTold, Body: &toldOp{campaignID, body.Version},
	})
}

// tell makes one shard know the state of a campaign.
func (l *Ledger) tell(ctx context.Context, body *Campaign, number int) error {
	door, err := l.broker.door(number)
	if err != nil {
		return err
	}
	op := &markOp{campaignID: body.CampaignID, standing: standing{body.State, body.Frozen}, ver: body.Version}
	return l.broker.submit(ctx, &shard.Op{Owner: slicesOwner, Bucket: door, Kind: kindMark, Body: op})
}

// Tend finishes what somebody has left half-way on a shard. It is for a sweeper.
func (l *Ledger) Tend(ctx context.Context, number int) error {
	return errors.Join(l.TendQuotas(ctx, number), l.TendCampaigns(ctx, number), l.TendPackets(ctx, number), l.TendCodes(ctx, number),
		l.TendAdjustments(ctx, number))
}

// untoldSQL lists campaigns whose state somebody has left half spread; it takes no locks.
const untoldSQL = "SELECT campaign_id FROM campaigns WHERE untold = 1 AND changed_at <= ? ORDER BY changed_at LIMIT ?"

// TendCampaigns spreads the states of campaigns at home on a shard that somebody has left half spread. It is for a sweeper.
func (l *Ledger) TendCampaigns(ctx context.Context, number int) error {
	door, err := l.broker.door(number)
	if err != nil {
		return err
	}
	var left []string
	err = l.cfg.Store.Read(ctx, door, func(tx *gorm.DB, now time.Time) error {
		left = nil
		return tx.Raw(untoldSQL, now.Add(-finishAfter).UnixMicro(), untoldBatch).Scan(&left).Error
	})
	for _, campaign := range left {
		err = errors.Join(err, l.spread(ctx, campaign))
	}
	if err != nil {
		return fmt.Errorf("tend the campaigns of shard %d: %w", number, err)
	}
	return nil
}

// Claim asks a campaign for a coupon: window, total, limits of the owner and budget are checked in one step, in the owner's transaction
// (R2). The Body is a CouponReply. A refusal says which of them stands against it.
func (l *Ledger) Claim(ctx context.Context, c Caller, r Claim) (Answer, error) {
	if err := validateClaim(c, &r); err != nil {
		return Answer{}, err
	}
	return l.claimAs(ctx, c, r, kindClaim, fingerprintClaim(&r))
}

// claimAs ends Claim and Redeem.
func (l *Ledger) claimAs(ctx context.Context, c Caller, r Claim, kind string, fingerprint []byte) (Answer, error) {
	rules, err := l.rules(ctx, r.CampaignID)
	if err != nil {
		return Answer{}, err
	}
	op := &claimOp{Claim: r, rules: rules, quotaSide: quotaSide{needs: rules.needs}}
	submit := func() (Answer, error) { return l.submit(ctx, c, r.Owner, kind, fingerprint, op) }
	if err := l.mint(&op.id, id.Coupon, r.Owner); err != nil {
		return Answer{}, err
	}
	number := int(l.cfg.Store.Placement(shard.BucketOf(r.Owner)))
	answer, err := l.withUnits(ctx, number, func() (Answer, error) { return l.tryClaim(ctx, r.CampaignID, number, submit) }, op.noted)
	if err == nil && !answer.Replayed {
		l.borrowAhead(&op.quotaSide, number)
	}
	return answer, err
}

// issue ends IssueCoupon. An issue under the name of a campaign that was never created asks nobody. That it was, its shard says, and then
// the limits of the campaign are those of its issues.
func (l *Ledger) issue(ctx context.Context, c Caller, op *issueOp) (Answer, error) {
	submit := func() (Answer, error) {
		return l.submit(ctx, c, op.Owner, kindIssue, fingerprintIssue(&op.IssueCoupon), op)
	}
	known := l.campaigns.get(op.CampaignID)
	if known == nil {
		answer, err := submit()
		if _, limited := errors.AsType[*counted](err); !limited {
			return answer, err
		}
		if known, err = l.rules(ctx, op.CampaignID); err != nil {
			return Answer{}, err
		}
	}
	if known.Budget != nil && op.Discount.most() == 0 {
		return Answer{}, invalid("/discount/cap", "is needed: the campaign has a budget, and without a cap the coupon may give any amount")
	}
	op.rules, op.needs = known, known.needsOf(&op.Discount)
	number := int(l.cfg.Store.Placement(shard.BucketOf(op.Owner)))
	answer, err := l.withUnits(ctx, number, func() (Answer, error) { return l.tryClaim(ctx, op.CampaignID, number, submit) }, op.noted)
	if err == nil && !answer.Replayed {
		l.borrowAhead(&op.quotaSide, number)
	}
	return answer, err
}

// borrowAhead has the slices filled that an operation has left low.
func (l *Ledger) borrowAhead(q *quotaSide, number int) {
	for _, lacking := range q.low {
		l.broker.ahead(end{lacking.quota, number}, lacking)
	}
}

// tryClaim submits a claim or an issue, again once if the shard had never heard of the campaign.
func (l *Ledger) tryClaim(ctx context.Context, campaignID string, number int, submit func() (Answer, error)) (Answer, error) {
	answer, err := submit()
	if _, unknown := errors.AsType[*unmarked](err); !unknown {
		return answer, err
	}
	body, _, err := l.readCampaign(ctx, campaignID)
	if err != nil {
		return Answer{}, err
	}
	if err := l.tell(ctx, &body, number); err != nil {
		return Answer{}, err
	}
	answer, err = submit()
	if _, unknown := errors.AsType[*unmarked](err); unknown {
		return answer, fmt.Errorf("%w: the owner's shard has changed", shard.ErrFailover)
	}
	return answer, err
}

// memoryOfCampaigns is how many definitions an instance keeps; beyond it, it begins anew.
const memoryOfCampaigns = 10_000

// campaignMemory keeps definitions, which never change.
type campaignMemory struct {
	mu    sync.Mutex
	rules map[string]*rules
}

func (m *campaignMemory) get(campaignID string) *rules {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rules[campaignID]
}

func (m *campaignMemory) put(r *rules) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rules == nil || len(m.rules) >= memoryOfCampaigns {
		m.rules = map[string]*rules{}
	}
	m.rules[r.CampaignID] = r
}

// rules returns the definition of a campaign, from memory if this instance has seen it.
func (l *Ledger) rules(ctx context.Context, campaignID string) (*rules, error) {
	if known := l.campaigns.get(campaignID); known != nil {
		return known, nil
	}
	body, _, err := l.readCampaign(ctx, campaignID)
	if err != nil {
		return nil, err
	}
	r, err := rulesOf(&body)
	if err != nil {
		return nil, err
	}
	l.campaigns.put(r)
	return r, nil
}

type campaignRecord struct {
	CampaignID string
	State      CampaignState
	Frozen     bool
	Ver        int64
	Untold     bool
	CreatedAt  int64
	ChangedAt  int64
	Doc        []byte
}

func (r *campaignRecord) body() (Campaign, error) {
	row := campaignRow{
		campaignID: r.CampaignID, standing: standing{r.State, r.Frozen}, ver: r.Ver, createdAt: r.CreatedAt, changedAt: r.ChangedAt,
		doc: r.Doc,
	}
	return row.body()
}

// Campaign shows a campaign. It returns ErrNotFound if there is none.
func (l *Ledger) Campaign(ctx context.Context, campaignID string) (Campaign, error) {
	if !validCampaign(campaignID) {
		return Campaign{}, invalid("/campaign_id", wrongCampaign)
	}
	body, _, err := l.readCampaign(ctx, campaignID)
	return body, err
}

func (l *Ledger) readCampaign(ctx context.Context, campaignID string) (body Campaign, untold bool, err error) {
	bucket := shard.BucketOf(campaignOwner(campaignID))
	err = l.read(ctx, bucket, func(tx *gorm.DB, _ time.Time) error {
		var record campaignRecord
		err := first(tx.Table("campaigns").Where("bucket = ? AND campaign_id = ?", bucket, campaignID), &record)
		if err != nil {
			return err
		}
		untold = record.Untold
		body, err = record.body()
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return body, false, unknownCampaign(campaignID)
	}
	if err != nil {
		return body, false, fmt.Errorf("read campaign %s: %w", campaignID, err)
	}
	return body, untold, nil
}

// Campaigns lists campaigns by their names, those after a name, at most limit of them, and the name after which the next page starts.
// Each shard is asked at an instant of its own.
func (l *Ledger) Campaigns(ctx context.Context, after string, limit int) (page []Campaign, next string, err error) {
	if limit, err = pageSize(limit); err != nil {
		return nil, "", err
	}
	page = []Campaign{}
	for _, number := range l.cfg.Store.Shards() {
		some, err := l.campaignsOn(ctx, number, after, limit+1)
		if err != nil {
			return nil, "", fmt.Errorf("list the campaigns of shard %d: %w", number, err)
		}
		page = append(page, some...)
	}
	slices.SortFunc(page, func(a, b Campaign) int { return strings.Compare(a.CampaignID, b.CampaignID) })
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].CampaignID
	}
	return page, next, nil
}

func (l *Ledger) campaignsOn(ctx context.Context, number int, after string, limit int) (some []Campaign, err error) {
	door, ok := l.cfg.Store.BucketOn(number)
	if !ok {
		return nil, nil // it has no campaigns either
	}
	err = l.read(ctx, door, func(tx *gorm.DB, _ time.Time) error {
		some = nil
		var records []campaignRecord
		if err := tx.Table("campaigns").Where("campaign_id > ?", after).Order("campaign_id").Limit(limit).Find(&records).Error; err != nil {
			return err
		}
		for i := range records {
			body, err := records[i].body()
			if err != nil {
				return err
			}
			some = append(some, body)
		}
		return nil
	})
	return some, err
}
