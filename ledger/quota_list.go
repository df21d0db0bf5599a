package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
)

// QuotaFilter narrows the list of quotas.
type QuotaFilter struct {
	Prefix string // of their ids, such as "stock:" or "stock:mug-"; empty: all
	After  string // id after which the page starts
	Limit  int
}

// Quotas lists quotas by their ids, with their slices, and the id after which the next page starts; empty at the end. Each shard is asked
// twice: for the homes that it has, and then for its slices of all quotas of the page, each time at an instant of its own. So the sums are
// about right, as those of Quota are.
func (l *Ledger) Quotas(ctx context.Context, f QuotaFilter) (page []QuotaBody, next string, err error) {
	if f.Limit, err = pageSize(f.Limit); err != nil {
		return nil, "", err
	}
	page = []QuotaBody{}
	for _, number := range l.cfg.Store.Shards() {
		some, err := l.homesOn(ctx, number, &f)
		if err != nil {
			return nil, "", fmt.Errorf("list the quotas of shard %d: %w", number, err)
		}
		page = append(page, some...)
	}
	slices.SortFunc(page, func(a, b QuotaBody) int { return strings.Compare(a.QuotaID, b.QuotaID) })
	if len(page) > f.Limit {
		page = page[:f.Limit]
		next = page[f.Limit-1].QuotaID
	}
	for _, number := range l.cfg.Store.Shards() {
		if err := l.addSlices(ctx, number, page); err != nil {
			return nil, "", fmt.Errorf("list the slices of shard %d: %w", number, err)
		}
	}
	for i := range page {
		page[i].sumUp()
	}
	return page, next, nil
}

// behindAll is behind every character of an id, so that an id with a prefix is before the prefix with it.
const behindAll = "\x7f"

func (l *Ledger) homesOn(ctx context.Context, number int, f *QuotaFilter) (some []QuotaBody, err error) {
	door, ok := l.cfg.Store.BucketOn(number)
	if !ok {
		return nil, nil // it has no quotas either
	}
	err = l.read(ctx, door, func(tx *gorm.DB, _ time.Time) error {
		some = nil
		var records []homeRecord
		within := tx.Table("quotas").Where("quota > ? AND quota >= ? AND quota < ?", f.After, f.Prefix, f.Prefix+behindAll)
		if err := within.Order("quota").Limit(f.Limit + 1).Find(&records).Error; err != nil {
			return err
		}
		for i := range records {
			some = append(some, records[i].body())
		}
		return nil
	})
	return some, err
}

// addSlices adds what a shard has of the quotas of a page, once its expired holds are settled. The page is sorted.
func (l *Ledger) addSlices(ctx context.Context, number int, page []QuotaBody) error {
	door, ok := l.cfg.Store.BucketOn(number)
	if !ok || len(page) == 0 {
		return nil
	}
	ids := make([]string, len(page))
	for i := range page {
		ids[i] = page[i].QuotaID
	}
	var records []sliceRecord
	var expired []listedExpired
	err := l.read(ctx, door, func(tx *gorm.DB, now time.Time) error {
		records, expired = nil, nil
		if err := tx.Table("slices").Where("quota IN ?", ids).Find(&records).Error; err != nil {
			return err
		}
		return tx.Raw(expiredOfQuotasSQL, ids, now.UnixMicro()).Scan(&expired).Error
	})
	if err != nil {
		return err
	}
	back := make(map[string]int64, len(expired))
	for _, e := range expired {
		back[e.Quota] = e.Amount
	}
	for _, r := range records {
		i, _ := slices.BinarySearch(ids, r.Quota) // it is there: the query asked for it
		page[i].Slices = append(page[i].Slices, r.body(number, back[r.Quota]))
	}
	return nil
}

// expiredOfQuotasSQL reads ranges of an index. It takes no locks.
const expiredOfQuotasSQL = "SELECT quota, CAST(SUM(amount) AS SIGNED) AS amount FROM hold_items WHERE quota IN ? AND expires_at <= ? " +
	"GROUP BY quota"

// listedExpired is what expired holds have of a quota on a shard.
type listedExpired struct {
	Quota  string
	Amount int64
}

func (r *homeRecord) body() QuotaBody {
	return QuotaBody{
		QuotaID: r.Quota, Currency: r.Currency, Total: r.Total, Free: r.Free, LowAt: r.LowAt, Version: r.Ver, Slices: []SliceBody{},
	}
}

// body shows a slice; expired is what expired holds give back to it.
func (r *sliceRecord) body(number int, expired int64) SliceBody {
	return SliceBody{Shard: number, Granted: r.Granted, Available: r.Available + expired, Held: r.Held - expired, Used: r.Used}
}
