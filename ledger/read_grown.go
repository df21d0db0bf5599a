package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// RefundByID shows a refund. It returns ErrNotFound if there is none.
func (l *Ledger) RefundByID(ctx context.Context, refund id.ID) (body RefundBody, err error) {
	err = l.read(ctx, shard.Bucket(refund.Bucket()), func(tx *gorm.DB, _ time.Time) error {
		var record refundRecord
		if err := first(tx.Where("bucket = ? AND refund_id = ?", refund.Bucket(), refund[:]), &record); err != nil {
			return err
		}
		return record.body(&body)
	})
	if err != nil {
		return RefundBody{}, fmt.Errorf("read refund %s: %w", refund, err)
	}
	return body, nil
}

// RefundsOfHold lists the refunds of a hold, the oldest first, at most MaxPage of them. A hold without any, or one that was never
// seen, has none.
func (l *Ledger) RefundsOfHold(ctx context.Context, hold id.ID) ([]RefundBody, error) {
	var bodies []RefundBody
	err := l.read(ctx, shard.Bucket(hold.Bucket()), func(tx *gorm.DB, _ time.Time) error {
		var records []refundRecord
		of := tx.Where("bucket = ? AND hold_id = ?", hold.Bucket(), hold[:])
		if err := of.Order("refunded_at, refund_id").Limit(MaxPage).Find(&records).Error; err != nil {
			return err
		}
		bodies = make([]RefundBody, len(records))
		for i := range records {
			if err := records[i].body(&bodies[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the refunds of hold %s: %w", hold, err)
	}
	return bodies, nil
}

func (r *refundRecord) body(b *RefundBody) error {
	if err := json.Unmarshal(r.Doc, b); err != nil {
		return fmt.Errorf("decode the document of a refund: %w", err)
	}
	return nil
}

// Which live holds a report is about.
const (
	pinnedHolds  = "(bucket, hold_id) IN (SELECT bucket, hold_id FROM pins)"
	overdueHolds = "(bucket, owner) IN (SELECT bucket, owner FROM owners WHERE due_at > 0 AND due_at <= @at) AND expires_at <= @at"
)

// HoldReport narrows the report of live holds that somebody should look at.
type HoldReport struct {
	Pinned  bool // their payment was sent, and its outcome is not known
	Overdue bool // they have expired, and nothing has settled them yet
	Limit   int
}

// ReportHolds lists live holds of the shard that serves a bucket: those that are pinned, or overdue, or both. If there are more than the
// limit, it has those that expire first.
func (l *Ledger) ReportHolds(ctx context.Context, of shard.Bucket, f HoldReport) ([]HoldBody, error) {
	var bodies []HoldBody
	err := l.read(ctx, of, func(tx *gorm.DB, at time.Time) error {
		db := tx.Table(liveHolds)
		if f.Pinned {
			db = db.Where(pinnedHolds)
		}
		if f.Overdue {
			db = db.Where(overdueHolds, map[string]any{"at": at.UnixMicro()})
		}
		var records []holdRecord
		if err := db.Order("expires_at, hold_id").Limit(f.Limit).Find(&records).Error; err != nil {
			return err
		}
		var err error
		bodies, err = l.holdBodies(records, nil, at)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("report the holds of a shard: %w", err)
	}
	return bodies, nil
}
