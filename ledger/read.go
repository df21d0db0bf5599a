package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Reads show what is true at the shard's time, settled or not: a hold whose time has passed shows as EXPIRED and its assets as
// free (or expired) even if no operation and no sweeper has written that down yet (C05).

// MaxPage bounds the lists; a list that asks for no limit gets DefaultPage.
const (
	MaxPage     = 200
	DefaultPage = 50
)

// Page is a part of a list that is ordered by id. Next is the After of the following part; it is zero at the end.
type Page[T any] struct {
	Items []T
	Next  id.ID
}

// CouponFilter narrows the list of an owner's coupons.
type CouponFilter struct {
	State      string // as shown: AVAILABLE, HELD, USED, EXPIRED, REVOKED; empty: all
	CampaignID string // empty: of all campaigns
	After      id.ID
	Limit      int
}

// LotFilter narrows the list of an owner's lots.
type LotFilter struct {
	State    string // LotLive, LotEnded; empty: all
	Currency string // empty: all
	After    id.ID
	Limit    int
}

// The states by which lots are listed.
const (
	LotLive  = "LIVE"  // available or held money is left
	LotEnded = "ENDED" // all was spent, expired or revoked
)

// HoldByID shows a hold, live or decided. It returns ErrNotFound if there is none.
func (l *Ledger) HoldByID(ctx context.Context, hold id.ID) (HoldBody, error) {
	var body HoldBody
	err := l.read(ctx, shard.Bucket(hold.Bucket()), func(tx *gorm.DB, at time.Time) error {
		var err error
		body, err = l.findHold(tx, hold, at)
		return err
	})
	if err != nil {
		return HoldBody{}, fmt.Errorf("read hold %s: %w", hold, err)
	}
	return body, nil
}

func (l *Ledger) findHold(tx *gorm.DB, hold id.ID, at time.Time) (HoldBody, error) {
	var live holdRecord
	err := first(tx.Table(liveHolds).Where("bucket = ? AND hold_id = ?", hold.Bucket(), hold[:]), &live)
	if err == nil {
		return live.body(l.cfg.Codec, at)
	}
	if !errors.Is(err, ErrNotFound) {
		return HoldBody{}, err
	}
	var decided decidedRecord
	if err := first(tx.Table(decidedHolds).Where("bucket = ? AND hold_id = ?", hold.Bucket(), hold[:]), &decided); err != nil {
		return HoldBody{}, err
	}
	return decided.body(l.cfg.Codec)
}

// holdsOfOrder finds holds, live or decided, by the table that remembers them for ever.
const holdsOfOrder = "hold_id IN (SELECT hold_id FROM orders WHERE bucket = ? AND owner = ? AND order_id = ?)"

// Holds lists the holds of an owner that are not decided yet, the oldest first; with an order, those of that order, decided or
// not. It shows at most MaxPage of them.
func (l *Ledger) Holds(ctx context.Context, owner, orderID string) ([]HoldBody, error) {
	holds := []HoldBody{}
	err := l.readOwner(ctx, owner, MaxPage, func(q query) error {
		if orderID == "" {
			q.db = q.db.Where("expires_at > ?", q.at.UnixMicro()).Session(&gorm.Session{})
		} else {
			q.db = q.db.Where(holdsOfOrder, shard.BucketOf(owner), owner, orderID).Session(&gorm.Session{})
		}
		live, _, err := list(q.from(liveHolds), "hold_id", id.ID{}, (*holdRecord).key)
		if err != nil {
			return err
		}
		var decided []decidedRecord
		if orderID != "" {
			if decided, _, err = list(q.from(decidedHolds), "hold_id", id.ID{}, (*decidedRecord).key); err != nil {
				return err
			}
		}
		holds, err = l.holdBodies(live, decided, q.at)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list holds of %s: %w", owner, err)
	}
	return holds, nil
}

// holdBodies shows holds in the order in which they were made.
func (l *Ledger) holdBodies(live []holdRecord, decided []decidedRecord, at time.Time) ([]HoldBody, error) {
	holds := make([]HoldBody, 0, len(live)+len(decided))
	for i := range live {
		body, err := live[i].body(l.cfg.Codec, at)
		if err != nil {
			return nil, err
		}
		holds = append(holds, body)
	}
	for i := range decided {
		body, err := decided[i].body(l.cfg.Codec)
		if err != nil {
			return nil, err
		}
		holds = append(holds, body)
	}
	slices.SortFunc(holds, func(a, b HoldBody) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.HoldID, b.HoldID))
	})
	return holds[:min(len(holds), MaxPage)], nil
}

// Coupon shows a coupon. It returns ErrNotFound if there is none.
func (l *Ledger) Coupon(ctx context.Context, coupon id.ID) (Coupon, error) {
	var body Coupon
	err := l.read(ctx, shard.Bucket(coupon.Bucket()), func(tx *gorm.DB, at time.Time) error {
		var record couponRecord
		if err := first(tx.Where("bucket = ? AND coupon_id = ?", coupon.Bucket(), coupon[:]), &record); err != nil {
			return err
		}
		body = record.body(l.cfg.Codec, at)
		return nil
	})
	if err != nil {
		return Coupon{}, fmt.Errorf("read coupon %s: %w", coupon, err)
	}
	return body, nil
}

// Coupons lists the coupons of an owner.
func (l *Ledger) Coupons(ctx context.Context, owner string, f CouponFilter) (Page[Coupon], error) {
	var page Page[Coupon]
	err := l.readOwner(ctx, owner, f.Limit, func(q query) error {
		var err error
		if q.db, err = whereCouponState(q.db, f.State, q.at); err != nil {
			return err
		}
		if f.CampaignID != "" {
			q.db = q.db.Where("campaign_id = ?", f.CampaignID)
		}
		records, next, err := list(q, "coupon_id", f.After, (*couponRecord).key)
		if err != nil {
			return err
		}
		page = Page[Coupon]{make([]Coupon, len(records)), next}
		for i := range records {
			page.Items[i] = records[i].body(l.cfg.Codec, q.at)
		}
		return nil
	})
	if err != nil {
		return page, fmt.Errorf("list coupons of %s: %w", owner, err)
	}
	return page, nil
}

// whereCouponState says in SQL what couponRecord.body says in Go: which state a coupon is shown in.
func whereCouponState(db *gorm.DB, state string, at time.Time) (*gorm.DB, error) {
	const free = "(state = 'AVAILABLE' OR state = 'HELD' AND held_until <= @at)"
	now := map[string]any{"at": at.UnixMicro()}
	switch state {
	case "":
		return db, nil
	case couponAvailable:
		return db.Where(free+" AND expires_at > @at", now), nil
	case couponHeld:
		return db.Where("state = 'HELD' AND held_until > @at", now), nil
	case couponExpired:
		return db.Where("(state = 'EXPIRED' OR "+free+" AND expires_at <= @at)", now), nil
	case couponUsed, couponRevoked:
		return db.Where("state = ?", state), nil
	}
	return nil, invalid("/state", "must be AVAILABLE, HELD, USED, EXPIRED or REVOKED")
}

// Lot shows a lot. It returns ErrNotFound if there is none.
func (l *Ledger) Lot(ctx context.Context, lot id.ID) (Lot, error) {
	var body Lot
	err := l.read(ctx, shard.Bucket(lot.Bucket()), func(tx *gorm.DB, at time.Time) error {
		var record lotRecord
		if err := first(tx.Where("bucket = ? AND lot_id = ?", lot.Bucket(), lot[:]), &record); err != nil {
			return err
		}
		back, err := expiredShares(tx, record.Bucket, record.Owner, at)
		if err != nil {
			return err
		}
		body = record.body(l.cfg.Codec, back, at)
		return nil
	})
	if err != nil {
		return Lot{}, fmt.Errorf("read lot %s: %w", lot, err)
	}
	return body, nil
}

// Lots lists the lots of an owner. With a state, a page may have fewer lots than its limit before the end of the list.
func (l *Ledger) Lots(ctx context.Context, owner string, f LotFilter) (Page[Lot], error) {
	var page Page[Lot]
	if f.State != "" && f.State != LotLive && f.State != LotEnded {
		return page, invalid("/state", "must be LIVE or ENDED")
	}
	err := l.readOwner(ctx, owner, f.Limit, func(q query) error {
		back, err := expiredShares(q.tx, q.bucket, owner, q.at)
		if err != nil {
			return err
		}
		if f.State == LotLive {
			q.db = q.db.Where("live = 1")
		}
		if f.Currency != "" {
			q.db = q.db.Where("currency = ?", f.Currency)
		}
		records, next, err := list(q, "lot_id", f.After, (*lotRecord).key)
		if err != nil {
			return err
		}
		page = Page[Lot]{[]Lot{}, next}
		for i := range records {
			lot := records[i].body(l.cfg.Codec, back, q.at)
			if f.State == "" || (lot.Available+lot.Held > 0) == (f.State == LotLive) {
				page.Items = append(page.Items, lot)
			}
		}
		return nil
	})
	if err != nil {
		return page, fmt.Errorf("list lots of %s: %w", owner, err)
	}
	return page, nil
}

// Owner sums up an owner. An owner that nothing was ever written for has version 0 and no error.
func (l *Ledger) Owner(ctx context.Context, owner string) (OwnerBody, error) {
	body := OwnerBody{Owner: owner}
	err := l.readOwner(ctx, owner, 0, func(q query) error {
		var row ownerRecord
		if err := first(q.db, &row); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		body.Version, body.Frozen = row.Ver, row.Frozen
		available, err := whereCouponState(q.db.Model(&couponRecord{}), couponAvailable, q.at)
		if err != nil {
			return err
		}
		if err := available.Count(&body.Coupons).Error; err != nil {
			return err
		}
		live := q.db.Model(&holdRecord{}).Where("expires_at > ?", q.at.UnixMicro())
		if err := live.Count(&body.LiveHolds).Error; err != nil {
			return err
		}
		body.Balances, err = l.readBalances(q, owner)
		return err
	})
	if err != nil {
		return body, fmt.Errorf("read owner %s: %w", owner, err)
	}
	return body, nil
}

// readBalances sums up the live lots per currency.
func (l *Ledger) readBalances(q query, owner string) ([]Balance, error) {
	back, err := expiredShares(q.tx, q.bucket, owner, q.at)
	if err != nil {
		return nil, err
	}
	var records []lotRecord
	if err := q.db.Where("live = 1").Order("currency").Find(&records).Error; err != nil {
		return nil, err
	}
	balances := []Balance{}
	for i := range records {
		lot := records[i].body(l.cfg.Codec, back, q.at)
		if n := len(balances); n == 0 || balances[n-1].Currency != lot.Currency {
			balances = append(balances, Balance{Currency: lot.Currency})
		}
		last := &balances[len(balances)-1]
		last.Available += lot.Available
		last.Held += lot.Held
	}
	return balances, nil
}

// Operation says what became of a key (R25). NOT_SEEN is no promise that the key will not be used; only Seal gives that.
func (l *Ledger) Operation(ctx context.Context, owner, key string) (OperationBody, error) {
	if err := validateCaller(Caller{Key: key}, owner); err != nil {
		return OperationBody{}, err
	}
	undecided := l.cfg.Undecided(owner, key) // asked first: if it is decided meanwhile, the row is there
	var row operationRecord
	bucket := shard.BucketOf(owner)
	err := l.read(ctx, bucket, func(tx *gorm.DB, _ time.Time) error {
		row = operationRecord{}
		return first(tx.Table(decisions).Where("bucket = ? AND owner = ? AND op_key = ?", bucket, owner, key), &row)
	})
	switch {
	case err == nil:
		return operationBody(owner, key, row.Verdict, shard.Restore(row.Reply, row.QuoteAt, row.Doc)), nil
	case !errors.Is(err, ErrNotFound):
		return OperationBody{}, fmt.Errorf("read operation %s of %s: %w", key, owner, err)
	case undecided:
		return operationBody(owner, key, "IN_PROGRESS", nil), nil
	}
	return operationBody(owner, key, "NOT_SEEN", nil), nil
}

// read runs f over a snapshot. f may run several times, and must begin anew each time; see [shard.Store.Read].
func (l *Ledger) read(ctx context.Context, b shard.Bucket, f func(tx *gorm.DB, at time.Time) error) error {
	return l.cfg.Store.Read(ctx, b, f)
}

// query is a read of one owner's rows.
type query struct {
	tx     *gorm.DB // without conditions
	db     *gorm.DB // with the condition on the owner
	at     time.Time
	bucket shard.Bucket
	limit  int
}

// from is q over a query instead of the record's own table.
func (q query) from(table string) query {
	q.db = q.db.Table(table)
	return q
}

func (l *Ledger) readOwner(ctx context.Context, owner string, limit int, f func(q query) error) error {
	if !shard.ValidOwner(owner) {
		return invalid("/owner", wrongOwner)
	}
	limit, err := pageSize(limit)
	if err != nil {
		return err
	}
	bucket := shard.BucketOf(owner)
	return l.read(ctx, bucket, func(tx *gorm.DB, at time.Time) error {
		db := tx.Where("bucket = ? AND owner = ?", bucket, owner).Session(&gorm.Session{})
		return f(query{tx: tx, db: db, at: at, bucket: bucket, limit: limit})
	})
}

// pageSize is how many rows a page has; 0 asks for the default.
func pageSize(limit int) (int, error) {
	switch {
	case limit < 0 || limit > MaxPage:
		return 0, invalid("/limit", fmt.Sprintf("must be from 1 to %d", MaxPage))
	case limit == 0:
		return DefaultPage, nil
	}
	return limit, nil
}

func invalid(pointer, detail string) error { return &Invalid{[]FieldProblem{{pointer, detail}}} }

// first reads one row into record, or returns ErrNotFound.
func first(db *gorm.DB, record any) error {
	err := db.Take(record).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return ErrNotFound
	}
	return err
}

// list reads a page of records in the order of their ids, and the id after which the next one starts.
func list[R any](q query, column string, after id.ID, key func(*R) id.ID) ([]R, id.ID, error) {
	if after != (id.ID{}) {
		q.db = q.db.Where(column+" > ?", after[:])
	}
	var records []R
	if err := q.db.Order(column).Limit(q.limit + 1).Find(&records).Error; err != nil {
		return nil, id.ID{}, err
	}
	if len(records) <= q.limit {
		return records, id.ID{}, nil
	}
	records = records[:q.limit]
	return records, key(&records[q.limit-1]), nil
}
