package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Audit is what the checks have found about an owner.
type Audit struct {
	Rows  int // that were read
	Drift []Drift
}

// AuditOwner makes all checks of an owner's rows in a bucket, over one snapshot, beside whatever is written meanwhile. It takes no
// locks. It reads the owner's whole history.
func (l *Ledger) AuditOwner(ctx context.Context, b shard.Bucket, owner string) (Audit, error) {
	var a *audited
	err := l.read(ctx, b, func(tx *gorm.DB, _ time.Time) error {
		a = &audited{
			codec: l.cfg.Codec, bucket: b, owner: owner, chain: newChain(owner), coupon: map[string]*couponRecord{},
			lot: map[string]*lotRecord{}, both: map[string]bool{}, ended: map[string]State{}, lastLot: map[string]LotCounters{},
			lastCoupon: map[string]string{},
		}
		db := tx.Where("bucket = ? AND owner = ?", b, owner).Session(&gorm.Session{})
		return errors.Join(a.loadOwner(db), a.loadAssets(db), a.loadHolds(tx, db), a.loadEntries(tx, db))
	})
	if err != nil {
		return Audit{}, fmt.Errorf("audit %s: %w", owner, err)
	}
	for _, check := range ownerChecks {
		check(a)
	}
	return Audit{Rows: a.rows, Drift: a.drift}, nil
}

func (a *audited) loadOwner(db *gorm.DB) error {
	a.rows++
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
	a.rows += len(coupons) + len(lots)
	for i := range coupons {
		a.coupon[a.codec.Text(id.Coupon, coupons[i].key())] = &coupons[i]
	}
	for i := range lots {
		a.lot[a.codec.Text(id.Lot, lots[i].key())] = &lots[i]
	}
	return nil
}

// auditedHolds are the live holds with their documents, also those whose order is missing.
const auditedHolds = "(SELECT h.bucket, h.hold_id, h.owner, h.order_id, h.attempt, h.created_at, h.expires_at, o.doc " +
	"FROM holds h LEFT JOIN orders o" + ofOrder + ") AS audited"

func (a *audited) loadHolds(tx, db *gorm.DB) error {
	if err := db.Table(auditedHolds).Find(&a.live).Error; err != nil {
		return err
	}
	a.rows += len(a.live)
	a.body = make([]HoldBody, len(a.live))
	named := make([]any, 0, len(a.live))
	for i := range a.live {
		if err := decodeDoc(a.live[i].Doc, &a.body[i]); err != nil {
			a.found(checkHold, a.holdText(a.live[i].HoldID), "a document that can be read", err)
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
		a.rows += len(records)
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
		a.rows += len(records)
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

// place is where a walk through the owners of a shard has come to.
type place struct {
	Bucket int    `json:"bucket"`
	Owner  string `json:"owner"`
}

// ownersAfterSQL lists whoever has a row in one of the tables, in the order of their keys, so that also the assets of an owner
// without a row in owners are found. It takes no locks and reads ranges of indexes that begin with bucket and owner.
const (
	ownersAfterSQL = `SELECT bucket, owner FROM (` + ownersIn + `owners` + ownersWhere + ` UNION ` + ownersIn + `coupons` + ownersWhere +
		` UNION ` + ownersIn + `lots` + ownersWhere + ` UNION ` + ownersIn + `holds` + ownersWhere + `) o ORDER BY bucket, owner LIMIT ?`
	ownersIn    = `SELECT bucket, owner FROM (SELECT DISTINCT bucket, owner FROM `
	ownersWhere = ` WHERE bucket >= ? AND (bucket > ? OR owner > ?) ORDER BY bucket, owner LIMIT ?) t`
	ownersFrom  = 4 // tables in ownersAfterSQL
)

// ownersAfter lists the owners of a shard that come after a place.
func ownersAfter(ctx context.Context, db *shard.DB, after place, limit int) (owners []place, err error) {
	var args []any
	for range ownersFrom {
		args = append(args, after.Bucket, after.Bucket, after.Owner, limit)
	}
	rows, err := db.SQL().QueryContext(ctx, ownersAfterSQL, append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("list owners: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var one place
		if err := rows.Scan(&one.Bucket, &one.Owner); err != nil {
			return nil, fmt.Errorf("list owners: %w", err)
		}
		owners = append(owners, one)
	}
	return owners, rows.Err()
}
