package ledger

import (
	"context"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
)

// The checks of quotas.
const (
	checkQuota = "quota" // total = free + granted; what the home has granted is on the slice or on its way, in either direction
	checkSlice = "slice" // granted = available + held + used, each from 0; held = what live holds have of it
	checkSold  = "sold"  // used of a slice = what the histories of the owners of its shard have used of it
)

type (
	auditedSlice struct {
		Quota     string
		Shard     int
		Currency  string
		Granted   int64
		Available int64
		Held      int64
		Used      int64
		OutSeq    int64
		InSeq     int64
		Holding   int64 // of live holds
		Items     int64 // rows of hold_items
	}
	auditedHome struct {
		Currency string
		Total    int64
		Free     int64
		Ver      int64
	}
	auditedGrant struct {
		Shard   int
		Granted int64
		OutSeq  int64
		InSeq   int64
	}
)

// Rows that belong to live holds count; one without a hold is what nobody would ever give back.
const auditedSliceSQL = "SELECT s.quota, s.shard, s.currency, s.granted, s.available, s.held, s.used, s.out_seq, s.in_seq, " +
	"(SELECT COUNT(*) FROM hold_items i WHERE i.quota=s.quota) AS items, " +
	"(SELECT COALESCE(SUM(i.amount), 0) FROM hold_items i JOIN holds h ON h.bucket=i.bucket AND h.hold_id=i.hold_id " +
	"WHERE i.quota=s.quota) AS holding FROM slices s WHERE s.quota=?"

// quotaAudit collects what is found about one quota.
type quotaAudit struct {
	Audit
	quota string
}

func (a *quotaAudit) same(check, subject, what string, want, have int64) {
	if want != have {
		a.found(check, subject, fmt.Sprintf("%s %d", what, want), have)
	}
}

func (a *quotaAudit) found(check, subject, want string, have any) {
	a.Drift = append(a.Drift, Drift{
		Check: check, Bucket: int(shard.BucketOf(a.quota)), Owner: a.quota, Subject: subject, Want: want, Have: fmt.Sprint(have),
	})
}

func sliceText(number int) string { return fmt.Sprintf("slice %d", number) }

// auditSliceAt audits the slice of a quota on a shard, over one snapshot, and what of it the owners that were read before have used.
func auditSliceAt(ctx context.Context, l *Ledger, at place, w *walked) (Audit, error) {
	a := &quotaAudit{quota: at.Name}
	s, err := l.auditedSlice(ctx, at.Name, w.shard)
	if err != nil || s == nil {
		return a.Audit, err
	}
	a.Rows = 1 + int(s.Items)
	text := sliceText(w.shard)
	a.same(checkSlice, text, "granted", s.Available+s.Held+s.Used, s.Granted)
	if min(s.Available, s.Held, s.Used) < 0 {
		a.found(checkSlice, text, "no counter below zero", *s)
	}
	a.same(checkSlice, text, "held", s.Holding, s.Held)
	a.same(checkSlice, text, "shard", int64(w.shard), int64(s.Shard))
	if wrong, used := w.sold.wrong(at.Name, s.Used); wrong {
		a.found(checkSold, text, fmt.Sprintf("used %d", used), s.Used)
	}
	a.slicesHome(ctx, l, s)
	return a.Audit, nil
}

// slicesHome looks for the home of a slice, which was there before it.
func (a *quotaAudit) slicesHome(ctx context.Context, l *Ledger, s *auditedSlice) {
	_, grants, _, err := l.auditedHome(ctx, a.quota)
	if err != nil {
		a.Unread++
		return
	}
	for _, g := range grants {
		if g.Shard == s.Shard {
			return
		}
	}
	a.found(checkQuota, sliceText(s.Shard), "a home that has granted it", "none")
}

func (l *Ledger) auditedSlice(ctx context.Context, quota string, number int) (*auditedSlice, error) {
	door, err := l.broker.door(number)
	if err != nil {
		return nil, err
	}
	var slices []auditedSlice
	err = l.read(ctx, door, func(tx *gorm.DB, _ time.Time) error {
		slices = nil
		return tx.Raw(auditedSliceSQL, quota).Scan(&slices).Error
	})
	if err != nil || len(slices) == 0 {
		return nil, err
	}
	return &slices[0], nil
}

// auditTries is how often a home and its slices are read before they are left to the next pass, because units come and go.
const auditTries = 16

// auditHomeAt audits the home of a quota, and what it has granted to each shard.
func auditHomeAt(ctx context.Context, l *Ledger, at place, _ *walked) (Audit, error) {
	a := &quotaAudit{quota: at.Name}
	for range auditTries {
		still, err := a.home(ctx, l)
		if err != nil || still {
			return a.Audit, err
		}
		a.Drift, a.Unread = nil, 0
	}
	a.Unread++
	return a.Audit, nil
}

// home compares a home with its slices. There is no snapshot of two shards, but all units that travel pass through the home: if it is the
// same before and after the slices were read, each of them was read while the home was as it is. A transfer that is out is in if the
// other end has its number. still is false if the home has changed meanwhile; what was found is void then.
func (a *quotaAudit) home(ctx context.Context, l *Ledger) (still bool, err error) {
	home, grants, out, err := l.auditedHome(ctx, a.quota)
	if err != nil || home == nil {
		return true, err
	}
	a.Rows += 1 + len(grants) + len(out)
	granted := int64(0)
	for _, g := range grants {
		granted += g.Granted
	}
	a.same(checkQuota, "", "total", home.Free+granted, home.Total)
	if home.Free < 0 {
		a.found(checkQuota, "", "no counter below zero", home.Free)
	}
	for _, g := range grants {
		if err := a.link(ctx, l, home, g, out); err != nil {
			a.Unread++
		}
	}
	after, _, _, err := l.auditedHome(ctx, a.quota)
	return err != nil || after != nil && after.Ver == home.Ver, err
}

// link compares what a home has granted to a shard with the slice there.
func (a *quotaAudit) link(ctx context.Context, l *Ledger, home *auditedHome, g auditedGrant, out []transferRecord) error {
	s, back, err := l.auditedEnd(ctx, a.quota, g.Shard)
	if err != nil {
		return err
	}
	a.Rows += 1 + len(back)
	text := sliceText(g.Shard)
	there := a.underWay(text, transferGrant, g.Shard, g.OutSeq, s.InSeq, out)
	here := a.underWay(text, transferReturn, g.Shard, s.OutSeq, g.InSeq, back)
	a.same(checkQuota, text, "with what is on its way to the slice and back: granted", s.Granted+there+here, g.Granted)
	if s.Quota != "" && s.Currency != home.Currency {
		a.found(checkQuota, text, "currency "+home.Currency, s.Currency)
	}
	return nil
}

// underWay is what is on its way from one end of a link to the other: the newest transfer, unless it is in. sent are the transfers that
// their source has not closed.
func (a *quotaAudit) underWay(text, kind string, number int, out, in int64, sent []transferRecord) int64 {
	var newest *transferRecord
	for i := range sent {
		if sent[i].Kind == kind && sent[i].Shard == number {
			newest = &sent[i]
		}
	}
	switch {
	case newest != nil && newest.Seq != out:
		a.found(checkQuota, text, fmt.Sprintf("%s %d", kind, out), newest.Seq)
	case out == in:
	case out != in+1:
		a.found(checkQuota, text, fmt.Sprintf("%s at most one behind %d", kind, out), in)
	case newest == nil:
		a.found(checkQuota, text, fmt.Sprintf("%s %d on its way", kind, out), "none")
	default:
		return newest.Amount
	}
	return 0
}

// auditedHome reads a home, what it has granted, and what it has sent; nil if there is no home.
func (l *Ledger) auditedHome(ctx context.Context, quota string) (
	home *auditedHome, grants []auditedGrant, out []transferRecord, err error,
) {
	bucket := shard.BucketOf(quota)
	err = l.read(ctx, bucket, func(tx *gorm.DB, _ time.Time) error {
		home, grants, out = nil, nil, nil
		var homes []auditedHome
		db := tx.Where("bucket = ? AND quota = ?", bucket, quota).Session(&gorm.Session{})
		if err := db.Table("quotas").Find(&homes).Error; err != nil || len(homes) == 0 {
			return err
		}
		home = &homes[0]
		if err := db.Table("grants").Find(&grants).Error; err != nil {
			return err
		}
		return tx.Table("transfers").Where("quota = ? AND kind = ?", quota, transferGrant).Find(&out).Error
	})
	return home, grants, out, err
}

// auditedEnd reads a slice as the home knows it, and what it has sent home. A slice that has never got anything is zero.
func (l *Ledger) auditedEnd(ctx context.Context, quota string, number int) (s auditedSlice, back []transferRecord, err error) {
	door, err := l.broker.door(number)
	if err != nil {
		return s, nil, err
	}
	err = l.read(ctx, door, func(tx *gorm.DB, _ time.Time) error {
		s, back = auditedSlice{}, nil
		if err := tx.Table("slices").Where("quota = ?", quota).Scan(&s).Error; err != nil {
			return err
		}
		return tx.Table("transfers").Where("quota = ? AND kind = ?", quota, transferReturn).Find(&back).Error
	})
	return s, back, err
}

// soldTally compares what slices have sold with the histories of the owners on their shard, without a snapshot of all of them: neither
// ever falls. So what the owners are found to have, one after the other, cannot be less than what the slice had sold before the first of
// them was read, nor more than after the last. While nothing is sold that is one number. Of a quota that always sells, a drift shows once
// it is more than what is sold during a pass, or at last when sales rest.
type soldTally struct {
	before map[string]int64
	owners map[string]int64
}

// soldWindow bounds the quotas that a pass counts. The next pass takes those that come after.
const soldWindow = 50_000

// newSoldTally reads what the slices of a shard have sold, from the quota after one. last is where the next pass begins.
func newSoldTally(ctx context.Context, db *shard.DB, after string) (t *soldTally, last string, err error) {
	t = &soldTally{before: map[string]int64{}, owners: map[string]int64{}}
	rows, err := db.SQL().QueryContext(ctx, "SELECT quota, used FROM slices WHERE quota > ? ORDER BY quota LIMIT ?", after, soldWindow)
	if err != nil {
		return nil, "", fmt.Errorf("read what slices have sold: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var used int64
		if err := rows.Scan(&last, &used); err != nil {
			return nil, "", fmt.Errorf("read what slices have sold: %w", err)
		}
		t.before[strings.Clone(last)] = used
	}
	if len(t.before) < soldWindow {
		last = ""
	}
	return t, last, rows.Err()
}

func (t *soldTally) add(sold map[string]int64) {
	if t == nil {
		return
	}
	for quota, used := range sold {
		if _, counted := t.before[quota]; counted {
			t.owners[quota] += used
		}
	}
}

// wrong says whether a slice can have sold so much, and what its owners have.
func (t *soldTally) wrong(quota string, after int64) (wrong bool, owners int64) {
	if t == nil {
		return false, 0
	}
	before, counted := t.before[quota]
	owners = t.owners[quota]
	return counted && (owners < before || owners > after), owners
}
