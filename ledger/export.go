package ledger

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// exportPage is how many entries are read at a time. They are filtered afterwards and not by the query, because entries have no index by
// time: a query that finds nothing for a while would take longer than a connection waits.
const exportPage = 1000

// ExportPlace is where a walk through the histories of a shard has come to. The zero value is the beginning.
type ExportPlace struct {
	bucket shard.Bucket
	owner  string
	seq    int64
}

// ExportEntries reads the next entries of a shard, owner by owner, those of each in their order, and keeps what was decided in [from, to);
// a zero bound is none. b is a bucket that the shard serves. At the end, more is false. Each page is a snapshot of its own: entries are
// never changed, so only those that are decided meanwhile can be missed, and they are younger than any to that has passed for a while.
func (l *Ledger) ExportEntries(ctx context.Context, b shard.Bucket, after ExportPlace, from, to time.Time) (
	found []Entry, next ExportPlace, more bool, err error,
) {
	var records []entryRecord
	err = l.read(ctx, b, func(tx *gorm.DB, _ time.Time) error {
		records = nil
		const behind = "bucket >= @bucket AND (bucket > @bucket OR owner > @owner OR owner = @owner AND seq > @seq)"
		at := map[string]any{"bucket": after.bucket, "owner": after.owner, "seq": after.seq}
		return tx.Where(behind, at).Order("bucket, owner, seq").Limit(exportPage).Find(&records).Error
	})
	if err != nil {
		return nil, after, false, fmt.Errorf("export entries: %w", err)
	}
	next = after
	for i := range records {
		r := &records[i]
		next = ExportPlace{r.Bucket, r.Owner, r.Seq}
		if at := instant(r.At); at.Before(from) || !to.IsZero() && !at.Before(to) {
			continue
		}
		var e Entry
		if err := r.body(l.cfg.Codec, &e); err != nil {
			return nil, after, false, err
		}
		found = append(found, e)
	}
	return found, next, len(records) == exportPage, nil
}

// MoneyBody is an owner's money as of an instant.
type MoneyBody struct {
	Owner    string    `json:"owner"`
	AsOf     time.Time `json:"as_of"`
	Balances []Balance `json:"balances"`
}

// MoneyAt says what money an owner had at an instant that has passed: what his history says of each lot, less what had ended by then, and
// what the holds of that time had of it. It reads the history up to the instant, and all orders of the owner.
func (l *Ledger) MoneyAt(ctx context.Context, owner string, asOf time.Time) (MoneyBody, error) {
	body := MoneyBody{Owner: owner, AsOf: asOf.UTC()}
	err := l.readOwner(ctx, owner, 0, func(q query) error {
		if asOf.After(q.at) {
			return invalid("/as_of", "has not come yet")
		}
		var lots []lotRecord
		if err := q.db.Where("issued_at <= ?", asOf.UnixMicro()).Order("currency, lot_id").Find(&lots).Error; err != nil {
			return err
		}
		past, err := l.moneyPastAt(q, asOf)
		if err != nil {
			return err
		}
		held, err := l.heldAt(q, asOf, past.parted)
		if err != nil {
			return err
		}
		body.Balances = []Balance{}
		for i := range lots {
			r := &lots[i]
			text := l.cfg.Codec.Text(id.Lot, r.key())
			after, known := past.counters[text]
			if !known {
				continue
			}
			if n := len(body.Balances); n == 0 || body.Balances[n-1].Currency != r.Currency {
				body.Balances = append(body.Balances, Balance{Currency: r.Currency})
			}
			last := &body.Balances[len(body.Balances)-1]
			last.Held += held[text]
			if r.ExpiresAt > asOf.UnixMicro() {
				last.Available += after.Available + after.Held - held[text]
			}
		}
		return nil
	})
	if err != nil {
		return body, fmt.Errorf("read the money of %s: %w", owner, err)
	}
	return body, nil
}

// moneyPast is what an owner's history says of his money.
type moneyPast struct {
	counters map[string]LotCounters // of each lot, after its last entry
	parted   map[heldPart]int64     // what has left live holds, by confirms of a part
}

// heldPart is what a hold has of a lot.
type heldPart struct{ holdID, lotID string }

func (p *moneyPast) add(e *Entry) {
	for _, c := range e.Changes {
		if c.LotID == "" || c.After == nil {
			continue
		}
		p.counters[c.LotID] = *c.After
		if e.Kind == entryPartConfirmed {
			p.parted[heldPart{e.HoldID, c.LotID}] += c.Before.Held - c.After.Held
		}
	}
}

// moneyPastAt follows the history of an owner to an instant.
func (l *Ledger) moneyPastAt(q query, asOf time.Time) (moneyPast, error) {
	past := moneyPast{map[string]LotCounters{}, map[heldPart]int64{}}
	for seq := int64(0); ; {
		var records []entryRecord
		err := q.db.Where("seq > ? AND at <= ?", seq, asOf.UnixMicro()).Order("seq").Limit(verifyPage).Find(&records).Error
		if err != nil {
			return past, err
		}
		for i := range records {
			var e Entry
			if err := records[i].body(l.cfg.Codec, &e); err != nil {
				return past, err
			}
			seq = e.Seq
			past.add(&e)
		}
		if len(records) < verifyPage {
			return past, nil
		}
	}
}

// holdsAt are the holds that an instant lies in. A hold that has expired ended at its expiry, whenever that was written down.
const holdsAt = "(SELECT o.bucket, o.owner, o.hold_id, o.doc, COALESCE(h.created_at, d.created_at) AS created_at, " +
	"COALESCE(h.expires_at, d.expires_at) AS expires_at, d.decided_at FROM orders o " +
	"LEFT JOIN holds h ON h.bucket=o.bucket AND h.hold_id=o.hold_id " +
	"LEFT JOIN decided_holds d ON d.bucket=o.bucket AND d.hold_id=o.hold_id) AS held"

// heldAt sums up what the holds of an instant had of each lot, less what had left them before they ended.
func (l *Ledger) heldAt(q query, asOf time.Time, parted map[heldPart]int64) (map[string]int64, error) {
	var records []struct{ HoldID, Doc []byte }
	at := asOf.UnixMicro()
	err := q.from(holdsAt).db.Select("hold_id", "doc").
		Where("created_at <= ? AND expires_at > ? AND (decided_at IS NULL OR decided_at > ?)", at, at, at).Find(&records).Error
	if err != nil {
		return nil, err
	}
	held := map[string]int64{}
	for i := range records {
		var h HoldBody
		if err := decodeDoc(records[i].Doc, &h); err != nil {
			return nil, err
		}
		holdID := l.cfg.Codec.Text(id.Hold, id.ID(records[i].HoldID))
		for _, item := range h.Items {
			for _, share := range item.Lots {
				held[share.LotID] += share.Amount
				gone := heldPart{holdID, share.LotID}
				held[share.LotID] -= parted[gone]
				delete(parted, gone) // several items may have the same lot
			}
		}
	}
	return held, nil
}

// CheckIssue says what is wrong with an issue before it is tried: what IssueCoupon would answer without looking at any data.
func (l *Ledger) CheckIssue(c Caller, r IssueCoupon) error { return validateIssue(c, &r, l.cfg.Now()) }
