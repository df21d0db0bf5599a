package ledger

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
)

type (
	homeRecord struct {
		Quota    string
		Currency string
		Total    int64
		Free     int64
		LowAt    int64
		Ver      int64
	}
	sliceRecord struct {
		Quota     string
		Shard     int
		Granted   int64
		Available int64
		Held      int64
		Used      int64
	}
	transferRecord struct {
		Bucket     shard.Bucket
		TransferID []byte
		Kind       string
		Quota      string
		Shard      int
		Seq        int64
		Amount     int64
		Currency   string
		CreatedAt  int64
	}
)

func (r *transferRecord) transfer() transfer {
	return transfer{
		bucket: r.Bucket, id: toID(r.TransferID), kind: r.Kind, quota: r.Quota, shard: r.Shard, seq: r.Seq, amount: r.Amount,
		currency: r.Currency, createdAt: r.CreatedAt,
	}
}

// Quota shows a quota with its slices, each as its shard has it at the instant at which it is asked. It returns ErrNotFound if there is
// none. What is in transit is what the home has given and no slice has; what is available is what is neither held nor used, wherever
// it is.
func (l *Ledger) Quota(ctx context.Context, quota string) (QuotaBody, error) {
	body, err := l.readQuota(ctx, quota)
	if err != nil {
		return QuotaBody{}, fmt.Errorf("read quota %s: %w", quota, err)
	}
	return body, nil
}

func (l *Ledger) readQuota(ctx context.Context, quota string) (QuotaBody, error) {
	if _, _, ok := ParseQuotaID(quota); !ok {
		return QuotaBody{}, invalid("/quota_id", wrongQuota)
	}
	body, shards, err := l.readHome(ctx, quota)
	if err != nil {
		return body, err
	}
	for _, number := range shards {
		slice, err := l.readSlice(ctx, end{quota, number})
		if err != nil {
			return body, err
		}
		body.Slices = append(body.Slices, slice)
	}
	body.sumUp()
	return body, nil
}

// sumUp adds what the slices have to what the home says.
func (b *QuotaBody) sumUp() {
	b.InTransit = b.Total - b.Free
	for _, slice := range b.Slices {
		b.Held += slice.Held
		b.Used += slice.Used
		b.InTransit -= slice.Granted
	}
	b.InTransit = max(b.InTransit, 0) // a slice that was read later may have got more since
	b.Available = max(b.Total-b.Held-b.Used, 0)
}

// readHome reads a home, and which shards it has ever granted units to.
func (l *Ledger) readHome(ctx context.Context, quota string) (body QuotaBody, shards []int, err error) {
	bucket := shard.BucketOf(quota)
	err = l.read(ctx, bucket, func(tx *gorm.DB, _ time.Time) error {
		var record homeRecord
		db := tx.Where("bucket = ? AND quota = ?", bucket, quota).Session(&gorm.Session{})
		if err := first(db.Table("quotas"), &record); err != nil {
			return err
		}
		body = record.body()
		shards = nil
		return db.Table("grants").Order("shard").Pluck("shard", &shards).Error
	})
	return body, shards, err
}

// readSlice reads a slice as it is once its expired holds are settled. A shard whose first units are still on their way has none.
func (l *Ledger) readSlice(ctx context.Context, at end) (SliceBody, error) {
	door, err := l.broker.door(at.shard)
	if err != nil {
		return SliceBody{}, err
	}
	var records []sliceRecord
	var expired int64
	err = l.read(ctx, door, func(tx *gorm.DB, now time.Time) error {
		records, expired = nil, 0
		if err := tx.Table("slices").Where("quota = ?", at.quota).Find(&records).Error; err != nil {
			return err
		}
		return tx.Raw("SELECT COALESCE(SUM(amount), 0) FROM hold_items WHERE quota = ? AND expires_at <= ?", at.quota, now.UnixMicro()).
			Scan(&expired).Error
	})
	body := SliceBody{Shard: at.shard}
	for i := range records {
		body = records[i].body(at.shard, expired)
	}
	return body, err
}

// SetQuota makes a quota or sets its total (R22). The Body is a QuotaReply.
func (l *Ledger) SetQuota(ctx context.Context, c Caller, r SetQuota) (Answer, error) {
	if err := validateSetQuota(c, &r); err != nil {
		return Answer{}, err
	}
	op := &setQuotaOp{SetQuota: r}
	return l.withUnits(ctx, home, func() (Answer, error) {
		return l.submit(ctx, c, r.Quota, kindSetQuota, fingerprintSetQuota(&r), op)
	}, func(wish lack, found verdict) { op.gathered = found.dry(wish) })
}

// AdjustQuota adds units to a quota, or takes free ones away (R22). The Body is a QuotaReply.
func (l *Ledger) AdjustQuota(ctx context.Context, c Caller, r AdjustQuota) (Answer, error) {
	if err := validateAdjustQuota(c, &r); err != nil {
		return Answer{}, err
	}
	op := &adjustQuotaOp{AdjustQuota: r}
	return l.withUnits(ctx, home, func() (Answer, error) {
		return l.submit(ctx, c, r.Quota, kindAdjustQuota, fingerprintAdjustQuota(&r), op)
	}, func(wish lack, found verdict) { op.gathered = found.dry(wish) })
}

const (
	wrongQuota  = "must be stock:{sku}:{location}, budget:{campaign_id} or coupons:{campaign_id}, at most 64 of A–Z a–z 0–9 . _ : @ -"
	wrongReason = "must be at most 200 bytes of UTF-8 without control characters"
	wrongStock  = "must make, with stock: in front and one : between them, at most 64 of A–Z a–z 0–9 . _ @ -"
)
