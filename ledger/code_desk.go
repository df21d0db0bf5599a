package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
)

const (
	makingAtOnce = 64     // codes of one request that are made side by side
	maxReserving = 16     // other owners' reservations that one redemption finishes
	knownShared  = 10_000 // shared codes that an instance keeps; beyond it, it begins anew
)

// MakeCodes makes codes of a campaign (R4). The Body is a CodesReply.
//
// That they are to be made is one commit at the home of the campaign; then each is made where it lives. A request that ends in between
// has made some of them, and nobody was told which; its key, or another one with the same BatchRef, makes the rest and tells all.
func (l *Ledger) MakeCodes(ctx context.Context, c Caller, r MakeCodes) (Answer, error) {
	texts, err := validateCodes(c, &r)
	if err != nil {
		return Answer{}, err
	}
	fingerprint := fingerprintCodes(&r, texts)
	op := &makeBatchOp{MakeCodes: r, kind: UniqueCode, codes: int64(max(r.Count, len(texts))), request: codesHash(fingerprint)}
	if r.Shared != "" {
		op.kind = SharedCode
	}
	if _, err := io.ReadFull(l.cfg.Random, op.seed[:]); err != nil {
		return Answer{}, fmt.Errorf("seed the codes of campaign %s: %w", r.CampaignID, err)
	}
	answer, err := l.submit(ctx, c, campaignOwner(r.CampaignID), kindMakeCodes, fingerprint, op)
	if err != nil || c.DryRun {
		return answer, err
	}
	answer.Body, err = l.makeAll(ctx, answer.Body, &r, texts)
	return answer, err
}

// makeAll makes the codes of a batch that are not there, and adds them to the reply.
func (l *Ledger) makeAll(ctx context.Context, body []byte, r *MakeCodes, texts []CodeText) ([]byte, error) {
	var reply CodesReply
	if err := json.Unmarshal(body, &reply); err != nil {
		return nil, fmt.Errorf("read the reply of a batch of codes: %w", err)
	}
	if r.Count > 0 {
		var err error
		if texts, err = l.generated(ctx, r); err != nil {
			return nil, err
		}
	}
	elsewhere, err := l.makeEach(ctx, &reply.Batch, texts)
	if err != nil {
		return nil, err
	}
	for i, text := range texts {
		if elsewhere[i] {
			reply.Elsewhere = append(reply.Elsewhere, text.Shown)
		} else {
			reply.Codes = append(reply.Codes, text.Shown)
		}
	}
	return json.Marshal(&reply)
}

// generated are the codes of a batch: those that its seed has always made.
func (l *Ledger) generated(ctx context.Context, r *MakeCodes) ([]CodeText, error) {
	var record struct{ Seed []byte }
	bucket := shard.BucketOf(campaignOwner(r.CampaignID))
	err := l.read(ctx, bucket, func(tx *gorm.DB, _ time.Time) error {
		where := tx.Table("code_batches").Where("bucket = ? AND campaign_id = ? AND batch_ref = ?", bucket, r.CampaignID, r.BatchRef)
		return first(where, &record)
	})
	if err != nil {
		return nil, fmt.Errorf("read the batch %s of codes: %w", r.BatchRef, err)
	}
	texts := make([]CodeText, r.Count)
	for i := range texts {
		texts[i] = generatedCode(record.Seed, i+1)
	}
	return texts, nil
}

// makeEach makes codes side by side, and says which of them belong to another batch.
func (l *Ledger) makeEach(ctx context.Context, batch *CodeBatch, texts []CodeText) (elsewhere []bool, err error) {
	elsewhere = make([]bool, len(texts))
	var all sync.WaitGroup
	var mu sync.Mutex
	room := make(chan struct{}, makingAtOnce)
	for i, text := range texts {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			op := &makeCodeOp{codeFacts: codeFacts{text, batch.CampaignID, batch.BatchRef, int64(i + 1), batch.Kind}}
			failed := l.atCode(ctx, kindMakeCode, text.Canonical, op)
			mu.Lock()
			defer mu.Unlock()
			if failed != nil {
				err = errors.Join(err, failed)
				return
			}
			elsewhere[i] = op.elsewhere
		})
	}
	all.Wait()
	if err != nil {
		return nil, fmt.Errorf("make the codes of batch %s: %w", batch.BatchRef, err)
	}
	return elsewhere, nil
}

// atCode submits an operation to the home of a code.
func (l *Ledger) atCode(ctx context.Context, kind, code string, body any) error {
	owner := codeOwner(code)
	return l.broker.submit(ctx, &shard.Op{Owner: owner, Bucket: shard.BucketOf(owner), Kind: kind, Body: body})
}

// Redeem gives an owner the coupon of a code, if the campaign of the code gives him one. The Body is a CouponReply.
//
// A shared code is a claim in one commit. A unique one is reserved for the owner where it lives, decided together with the coupon and the
// limits in one commit on his shard, under his key, and closed: redeemed, or free again if he was refused. An error that is neither a
// refusal nor a reused key leaves the reservation, which the same key, or a sweeper, takes to its end.
func (l *Ledger) Redeem(ctx context.Context, c Caller, r Redeem) (Answer, error) {
	code, err := validateRedeem(c, &r)
	if err != nil {
		return Answer{}, err
	}
	if err := l.guesses.admit(c.Client, r.Owner, l.cfg.Now()); err != nil {
		return Answer{}, err
	}
	for range maxReserving {
		found, err := l.reserve(ctx, code.Canonical, r.Owner, c.Key)
		switch {
		case err != nil:
			return Answer{}, err
		case found == nil:
			return l.guessedWrong(ctx, c, r, code, refusal(ErrNotFound, "/code", "there is no such code"))
		case found.kind == SharedCode, found.state == codeRedeemed && found.owner == r.Owner:
			return l.claimByCode(ctx, c, r.Owner, found)
		case found.state == codeRedeemed:
			return l.guessedWrong(ctx, c, r, code, refusal(ErrSpent, "/code", "somebody has redeemed the code"))
		case found.owner == r.Owner && found.opKey == c.Key:
			return l.decideCode(ctx, c, found)
		}
		_, err = l.decideCode(ctx, Caller{Key: found.opKey, Client: c.Client}, found)
		if err != nil && !decided(err) {
			return Answer{}, fmt.Errorf("another redemption of the code is under way: %w", err)
		}
	}
	return Answer{}, fmt.Errorf("%w: others reserve the code again and again", shard.ErrOverloaded)
}

// reserve asks for a code at its home, unless this instance knows that it is a shared one.
func (l *Ledger) reserve(ctx context.Context, code, owner, key string) (*codeRow, error) {
	if known := l.shared.get(code); known != nil {
		return known, nil
	}
	op := &reserveCodeOp{code: code, owner: owner, key: key}
	if err := l.atCode(ctx, kindReserveCode, code, op); err != nil {
		return nil, err
	}
	if op.told != nil && op.told.kind == SharedCode {
		l.shared.put(op.told)
	}
	return op.told, nil
}

// claimByCode has the shard of an owner decide whether his code gives him a coupon.
func (l *Ledger) claimByCode(ctx context.Context, c Caller, owner string, code *codeRow) (Answer, error) {
	ref := codeOwner(code.code.Canonical)
	claim := Claim{Owner: owner, CampaignID: code.campaign, ClaimRef: ref}
	return l.claimAs(ctx, c, claim, kindRedeem, fingerprintRedeem(code.code.Canonical))
}

// decideCode takes a reservation to its end, whoever has made it.
func (l *Ledger) decideCode(ctx context.Context, c Caller, code *codeRow) (Answer, error) {
	answer, err := l.claimByCode(ctx, c, code.owner, code)
	if err != nil && !decided(err) {
		return answer, err
	}
	op := &closeCodeOp{code: code.code.Canonical, attempt: code.attempt, redeemed: err == nil}
	if failed := l.atCode(ctx, kindCloseCode, op.code, op); failed != nil {
		return answer, err // a sweeper will find it, and the same answer under the key
	}
	return answer, err
}

// decided says that an error is final for the key that has got it: no retry will ever be granted.
func decided(err error) bool {
	if refused, ok := errors.AsType[*Refusal](err); ok {
		return !retryable(refused.Reason)
	}
	return errors.Is(err, ErrKeyReused)
}

// guessedWrong refuses a code, under the key of the owner, and counts the attempt.
func (l *Ledger) guessedWrong(ctx context.Context, c Caller, r Redeem, code CodeText, refused *Refusal) (Answer, error) {
	answer, err := l.submit(ctx, c, r.Owner, kindRedeem, fingerprintRedeem(code.Canonical), &refusedCodeOp{refused})
	if !answer.Replayed {
		l.guesses.wrong(c.Client, r.Owner, l.cfg.Now())
	}
	return answer, err
}

// reservedSQL lists codes whose redemption somebody has left half-way; it takes no locks.
const reservedSQL = "SELECT code, campaign_id, owner, op_key, attempt FROM codes WHERE reserved_at <= ? ORDER BY reserved_at LIMIT ?"

type codeRecord struct {
	Code       string
	Shown      string
	CampaignID string
	BatchRef   string
	Number     int64
	Kind       CodeKind
	State      string
	Owner      string
	OpKey      string
	Attempt    int64
}

// TendCodes finishes the redemptions of codes at home on a shard that somebody has left half-way. It is for a sweeper.
func (l *Ledger) TendCodes(ctx context.Context, number int) error {
	door, err := l.broker.door(number)
	if err != nil {
		return err
	}
	var left []codeRecord
	err = l.cfg.Store.Read(ctx, door, func(tx *gorm.DB, now time.Time) error {
		left = nil
		return tx.Raw(reservedSQL, now.Add(-finishAfter).UnixMicro(), finishBatch).Scan(&left).Error
	})
	for i := range left {
		one := &left[i]
		code := &codeRow{owner: one.Owner, opKey: one.OpKey, attempt: one.Attempt}
		code.code.Canonical, code.campaign = one.Code, one.CampaignID
		if _, failed := l.decideCode(ctx, Caller{Key: one.OpKey}, code); failed != nil && !decided(failed) {
			err = errors.Join(err, failed)
		}
	}
	if err != nil {
		return fmt.Errorf("tend the codes of shard %d: %w", number, err)
	}
	return nil
}

// sharedCodes keeps shared codes, which never change.
type sharedCodes struct {
	mu    sync.Mutex
	known map[string]*codeRow
}

func (s *sharedCodes) get(code string) *codeRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[code]
}

func (s *sharedCodes) put(c *codeRow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= knownShared {
		s.known = map[string]*codeRow{}
	}
	s.known[c.code.Canonical] = c
}

// CodeFilter narrows the list of a campaign's codes.
type CodeFilter struct {
	CampaignID string
	BatchRef   string
	After      int64 // number after which the page starts
	Limit      int
}

// Codes lists the codes of a batch by their numbers, and the number after which the next page starts; 0 at the end. Each shard is asked
// at an instant of its own.
func (l *Ledger) Codes(ctx context.Context, f CodeFilter) (page []CodeBody, next int64, err error) {
	if err := validateCodeFilter(&f); err != nil {
		return nil, 0, err
	}
	page = []CodeBody{}
	for _, number := range l.cfg.Store.Shards() {
		some, err := l.codesOn(ctx, number, &f)
		if err != nil {
			return nil, 0, fmt.Errorf("list the codes of shard %d: %w", number, err)
		}
		page = append(page, some...)
	}
	slices.SortFunc(page, func(a, b CodeBody) int { return int(a.Number - b.Number) })
	if len(page) > f.Limit {
		page = page[:f.Limit]
		next = page[f.Limit-1].Number
	}
	return page, next, nil
}

func (l *Ledger) codesOn(ctx context.Context, number int, f *CodeFilter) (some []CodeBody, err error) {
	door, ok := l.cfg.Store.BucketOn(number)
	if !ok {
		return nil, nil
	}
	err = l.read(ctx, door, func(tx *gorm.DB, _ time.Time) error {
		some = nil
		var records []codeRecord
		err := tx.Table("codes").Where("campaign_id = ? AND batch_ref = ? AND number > ?", f.CampaignID, f.BatchRef, f.After).
			Order("number").Limit(f.Limit + 1).Find(&records).Error
		for i := range records {
			r := &records[i]
			some = append(some, CodeBody{
				Code: r.Shown, BatchRef: r.BatchRef, Number: r.Number, Kind: r.Kind, State: r.State, Owner: r.Owner,
			})
		}
		return err
	})
	return some, err
}

func validateCodes(c Caller, r *MakeCodes) ([]CodeText, error) {
	var p problems
	p.campaign(c, r.CampaignID)
	if !validRef(r.BatchRef) {
		p.add("/batch_ref", wrongRef)
	}
	var ways int
	for _, asked := range []bool{r.Count != 0, len(r.Codes) > 0, r.Shared != ""} {
		if asked {
			ways++
		}
	}
	if ways != 1 {
		p.add("", "must have one of count, codes and shared_code")
	}
	if r.Count < 0 || r.Count > MaxCodes {
		p.add("/count", fmt.Sprintf("must be from 1 to %d", MaxCodes))
	}
	if len(r.Codes) > MaxCodes {
		p.add("/codes", fmt.Sprintf("must be at most %d", MaxCodes))
		return nil, p.err()
	}
	texts := p.codes(r.Codes)
	if r.Shared != "" {
		texts = append(texts, p.code("/shared_code", r.Shared, minSharedCode))
	}
	return texts, p.err()
}

// codes reads a list, in which no code may be twice.
func (p *problems) codes(list []string) []CodeText {
	texts := make([]CodeText, len(list))
	seen := make(map[string]int, len(list))
	for i, text := range list {
		pointer := fmt.Sprintf("/codes/%d", i)
		texts[i] = p.code(pointer, text, minUniqueCode)
		if before, twice := seen[texts[i].Canonical]; twice && texts[i].Canonical != "" {
			p.add(pointer, fmt.Sprintf("is the same code as /codes/%d", before))
		}
		seen[texts[i].Canonical] = i
	}
	return texts
}

func (p *problems) code(pointer, text string, least int) CodeText {
	code, err := ReadCode(text)
	switch {
	case err != nil:
		p.add(pointer, err.Error())
	case len(code.Canonical) < least:
		p.add(pointer, fmt.Sprintf("must have at least %d letters and digits", least))
	}
	return code
}

func validateRedeem(c Caller, r *Redeem) (CodeText, error) {
	var p problems
	p.caller(c, r.Owner)
	code := p.code("/code", r.Code, minSharedCode)
	return code, p.err()
}

func validateCodeFilter(f *CodeFilter) error {
	var p problems
	if !validCampaign(f.CampaignID) {
		p.add("/campaign_id", wrongCampaign)
	}
	if !validRef(f.BatchRef) {
		p.add("/batch_ref", wrongRef)
	}
	if f.Limit == 0 {
		f.Limit = DefaultPage
	}
	if f.Limit < 1 || f.Limit > MaxPage {
		p.add("/limit", fmt.Sprintf("must be from 1 to %d", MaxPage))
	}
	return p.err()
}

// ownRef refuses references that are those of codes.
func (p *problems) ownRef(pointer, ref string) {
	switch {
	case !validRef(ref):
		p.add(pointer, wrongRef)
	case strings.HasPrefix(ref, codePrefix):
		p.add(pointer, "must not begin with "+codePrefix+": those are the coupons of codes")
	}
}
