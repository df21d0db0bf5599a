package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Audit is what the checks have found in one place.
type Audit struct {
	Rows   int // that were read, as a measure of cost
	Unread int // comparisons that could not be made, because a shard did not answer or rows did not hold still
	Drift  []Drift
}

// AuditOwner makes all checks of an owner's rows in a bucket, over one snapshot, beside whatever is written meanwhile. It takes no
// locks. It reads the owner's whole history, and returns how many units of quotas were sold to him.
//
// What he has got out of packets is compared with the packets afterwards, wherever they live.
func (l *Ledger) AuditOwner(ctx context.Context, b shard.Bucket, owner string) (found Audit, sold map[string]int64, err error) {
	var a *audited
	err = l.read(ctx, b, func(tx *gorm.DB, _ time.Time) error {
		a = newAudited(l.cfg.Codec, b, owner)
		db := tx.Where("bucket = ? AND owner = ?", b, owner).Session(&gorm.Session{})
		return errors.Join(a.loadOwner(db), a.loadAssets(db), a.loadHolds(tx, db), a.loadUnits(tx), a.loadUsages(db), a.loadEntries(tx, db))
	})
	if err != nil {
		return Audit{}, nil, fmt.Errorf("audit %s: %w", owner, err)
	}
	for _, check := range ownerChecks {
		check(a)
	}
	l.checkReceived(ctx, a)
	return a.Audit, a.sold, nil
}

func newAudited(codec *id.Codec, b shard.Bucket, owner string) *audited {
	return &audited{
		codec: codec, bucket: b, owner: owner, chain: newChain(owner), coupon: map[string]*couponRecord{},
		lot: map[string]*lotRecord{}, both: map[string]bool{}, ended: map[string]State{}, units: map[string]map[string]itemRecord{},
		usage: map[string]usageRecord{}, lastLot: map[string]LotCounters{}, lastCoupon: map[string]string{}, inPart: map[string]bool{},
		claimed: map[string]claims{}, sold: map[string]int64{},
	}
}

func (a *audited) loadOwner(db *gorm.DB) error {
	a.Rows++
	err := first(db, &a.row)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (a *audited) loadAssets(db *gorm.DB) error {
	var coupons []couponRecord
	var lots []lotRecord
	if err := errors.Join(db.Find(&coupons).Error, db.Find(&lots).Error); err != nil {
		return err
	}
	a.Rows += len(coupons) + len(lots)
	for i := range coupons {
		a.coupon[a.codec.Text(id.Coupon, coupons[i].key())] = &coupons[i]
	}
	for i := range lots {
		a.lot[a.codec.Text(id.Lot, lots[i].key())] = &lots[i]
	}
	return nil
}

// auditedHolds are the live holds with their documents, also those whose order is missing.
const auditedHolds = "(SELECT h.bucket, h.hold_id, h.owner, h.order_id, h.attempt, h.created_at, h.expires_at, o.doc, " +
	"h.progress FROM holds h LEFT JOIN orders o" + ofOrder + ") AS audited"

func (a *audited) loadHolds(tx, db *gorm.DB) error {
	if err := db.Table(auditedHolds).Find(&a.live).Error; err != nil {
		return err
	}
	a.Rows += len(a.live)
	a.body = make([]HoldBody, len(a.live))
	named := make([]any, 0, len(a.live))
	for i := range a.live {
		if err := decodeGrown(a.live[i].Doc, a.live[i].Progress, &a.body[i]); err != nil {
			a.found(checkHold, a.holdText(a.live[i].HoldID), "a document that can be read", err)
		}
		if !a.body[i].partsFit() {
			a.found(checkHold, a.holdText(a.live[i].HoldID), "a part for each item and lot", "others")
			a.body[i].Parts = nil
		}
		named = append(named, a.live[i].HoldID)
	}
	live := len(named)
	for _, c := range a.coupon {
		if c.State == couponUsed {
			named = append(named, c.HoldID)
		}
	}
	states, err := a.decided(tx, named)
	if err != nil {
		return err
	}
	for i := range live {
		text := a.holdText(a.live[i].HoldID)
		_, a.both[text] = states[text]
	}
	a.ended = states
	return nil
}

// loadUnits reads what the live holds have of quotas, by the ids of the holds: the table has no index of owners. Rows without a live hold
// are found by their slice, whose held counter they are not in.
func (a *audited) loadUnits(tx *gorm.DB) error {
	for some := range slices.Chunk(a.live, decidedChunk) {
		holds := make([]any, len(some))
		for i := range some {
			holds[i] = some[i].HoldID
		}
		var records []itemRecord
		if err := tx.Table("hold_items").Where("bucket = ? AND hold_id IN ?", a.bucket, holds).Find(&records).Error; err != nil {
			return err
		}
		a.Rows += len(records)
		for _, r := range records {
			text := a.holdText(r.HoldID)
			if a.units[text] == nil {
				a.units[text] = map[string]itemRecord{}
			}
			a.units[text][r.Quota] = r
		}
	}
	return nil
}

func (a *audited) loadUsages(db *gorm.DB) error {
	var records []usageRecord
	err := db.Table("usages").Find(&records).Error
	a.Rows += len(records)
	for _, r := range records {
		a.usage[r.CampaignID] = r
	}
	return err
}

// decidedChunk bounds the list of ids in a query.
const decidedChunk = 500

// decided finds what became of holds.
func (a *audited) decided(tx *gorm.DB, holds []any) (map[string]State, error) {
	states := make(map[string]State, len(holds))
	for len(holds) > 0 {
		some := holds[:min(len(holds), decidedChunk)]
		holds = holds[len(some):]
		var records []struct {
			HoldID []byte
			State  State
		}
		err := tx.Table("decided_holds").Select("hold_id, state").
			Where("bucket = ? AND owner = ? AND hold_id IN ?", a.bucket, a.owner, some).Find(&records).Error
		if err != nil {
			return nil, err
		}
		a.Rows += len(records)
		for _, r := range records {
			states[a.holdText(r.HoldID)] = r.State
		}
	}
	return states, nil
}

// loadEntries reads the history page by page, so that a long one does not have to fit into memory.
func (a *audited) loadEntries(tx, db *gorm.DB) error {
	for {
		var records []entryRecord
		if err := db.Where("seq > ?", a.chain.seq).Order("seq").Limit(verifyPage).Find(&records).Error; err != nil {
			return err
		}
		var named []any
		for i := range records {
			if records[i].HoldID != nil {
				named = append(named, records[i].HoldID)
			}
		}
		states, err := a.decided(tx, named)
		if err != nil {
			return err
		}
		for i := range records {
			a.readEntry(&records[i], states)
		}
		a.Rows += len(records)
		if len(records) < verifyPage {
			return nil
		}
	}
}

func (a *audited) readEntry(r *entryRecord, states map[string]State) {
	e := Entry{Seq: r.Seq, Kind: r.Kind}
	if err := json.Unmarshal(r.Doc, &e); err != nil {
		a.found(checkHistory, entryText(r.Seq), "a document that can be read", err)
	}
	e.Seq, e.Kind = r.Seq, r.Kind
	if r.HoldID != nil {
		e.HoldID = a.holdText(r.HoldID)
	}
	a.addEntry(r, &e, states[e.HoldID])
}
