package events

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/statesvc/statesvc/ledger"
)

// deliveryRow is a row of deliveries. Times are microseconds since 1970, of the instances' clocks: if those differ by more than a
// lease, two may send the same for a while, and no event is lost.
type deliveryRow struct {
	Position     int64
	Failures     int
	FailingSince int64
	NextAt       int64
	ParkedAt     int64
	LastError    string
	Holder       string
	HeldUntil    int64
}

// The statements on deliveries. Each locks the row of one webhook.
const (
	addDeliverySQL = `INSERT INTO deliveries (webhook_id, position) SELECT ?, ? FROM fence ` +
		`WHERE id=1 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE webhook_id=?)`
	claimSQL     = `UPDATE deliveries SET holder=?, held_until=? WHERE webhook_id=? AND (holder=? OR held_until<?)`
	deliveryCols = `position, failures, failing_since, next_at, parked_at, last_error, holder, held_until`
	readSQL      = `SELECT ` + deliveryCols + ` FROM deliveries WHERE webhook_id=?`
	outcomeSQL   = `UPDATE deliveries SET position=?, failures=?, failing_since=?, next_at=?, parked_at=?, last_error=?, held_until=? ` +
		`WHERE webhook_id=? AND holder=? AND position=? AND parked_at=0`
	releaseSQL = `UPDATE deliveries SET holder='', held_until=0 WHERE webhook_id=? AND holder=?`
	// Whoever sends loses the lease by a replay: what is on its way was asked for before it, and must not move the position.
	replaySQL = `UPDATE deliveries SET position=COALESCE(?, position), failures=0, failing_since=0, next_at=0, parked_at=0, ` +
		`last_error='', holder='', held_until=0 WHERE webhook_id=?`
	forgetSQL = `DELETE FROM deliveries WHERE webhook_id=?`
)

func (r *deliveryRow) scan(row *sql.Row) error {
	return row.Scan(&r.Position, &r.Failures, &r.FailingSince, &r.NextAt, &r.ParkedAt, &r.LastError, &r.Holder, &r.HeldUntil)
}

// transact runs f in a transaction of a shard, under the epoch of today.
func (f *Feed) transact(ctx context.Context, number int, run func(tx *sql.Conn) error) error {
	db, epoch, err := f.cfg.Primary(number)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	return db.Transact(ctx, epoch, run)
}

// claim makes this instance the sender of a delivery, or goes on being it, unless another one is. In any case it reads the row.
func (d *delivery) claim(ctx context.Context, now time.Time) error {
	err := d.cfg.Feed.transact(ctx, d.shard, func(tx *sql.Conn) error {
		if _, err := tx.ExecContext(ctx, addDeliverySQL, d.hook.ID, d.hook.Start[d.shard], d.hook.ID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, claimSQL, d.cfg.Instance, now.Add(leaseTTL).UnixMicro(), d.hook.ID, d.cfg.Instance, now.UnixMicro())
		if err != nil {
			return err
		}
		return d.row.scan(tx.QueryRowContext(ctx, readSQL, d.hook.ID))
	})
	if err != nil {
		return fmt.Errorf("claim the delivery: %w", err)
	}
	return nil
}

// outcome writes down what became of a message, and renews the lease. If another instance has taken over meanwhile, or somebody has
// asked for a replay, nothing is written: the row says what is next.
//
// What was taken is written down also when the instance stops: otherwise it would come again.
func (d *delivery) outcome(ctx context.Context, message []ledger.FeedEvent, failure error) error {
	ctx = context.WithoutCancel(ctx)
	next := d.row.after(message, failure, d.cfg.Now())
	var changed int64
	err := d.cfg.Feed.transact(ctx, d.shard, func(tx *sql.Conn) error {
		result, err := tx.ExecContext(ctx, outcomeSQL, next.Position, next.Failures, next.FailingSince, next.NextAt, next.ParkedAt,
			next.LastError, next.HeldUntil, d.hook.ID, d.cfg.Instance, d.row.Position)
		if err != nil {
			return err
		}
		changed, err = result.RowsAffected()
		return err
	})
	if err != nil || changed == 0 {
		next = deliveryRow{} // claim again
	}
	d.row = next
	if err != nil {
		return fmt.Errorf("write down what became of a message: %w", err)
	}
	if next.ParkedAt > 0 {
		d.cfg.Log.ErrorContext(ctx, "a webhook is parked; a replay resumes it", "webhook", d.hook.ID, "shard", d.shard, "error", next.LastError)
	}
	return nil
}

// after is the row after an attempt.
func (r *deliveryRow) after(message []ledger.FeedEvent, failure error, now time.Time) deliveryRow {
	next := *r
	next.HeldUntil = now.Add(leaseTTL).UnixMicro()
	if failure == nil {
		next.Position = message[len(message)-1].Sequence
		next.Failures, next.FailingSince, next.NextAt, next.LastError = 0, 0, 0, ""
		return next
	}
	next.Failures++
	next.LastError = shorten(failure.Error())
	if next.FailingSince == 0 {
		next.FailingSince = now.UnixMicro()
	}
	next.NextAt = now.Add(backoff(next.Failures)).UnixMicro()
	if now.UnixMicro()-next.FailingSince >= parkAfter.Microseconds() || errors.Is(failure, ledger.ErrTrimmed) {
		next.ParkedAt, next.NextAt = now.UnixMicro(), 0
	}
	return next
}

// backoff is the pause after so many failures in a row.
func backoff(failures int) time.Duration {
	const doublings = 12 // 2^12 s are more than an hour
	return min(backoffFirst<<min(failures-1, doublings), backoffMax)
}

// shorten keeps the beginning of a text, in ASCII.
func shorten(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?' // the column is ASCII
		}
		return r
	}, text)
	return text[:min(len(text), errorMax)]
}

func (d *delivery) release(ctx context.Context) error {
	return d.cfg.Feed.transact(ctx, d.shard, func(tx *sql.Conn) error {
		_, err := tx.ExecContext(ctx, releaseSQL, d.hook.ID, d.cfg.Instance)
		return err
	})
}

// Delivery is how far a webhook has come with the events of a shard.
type Delivery struct {
	Shard        int
	Position     int64
	Waiting      int64 // events that have a number and were not taken yet
	Failures     int   // in a row
	FailingSince time.Time
	NextAt       time.Time
	ParkedAt     time.Time
	LastError    string
	Holder       string // the instance that sends
}

// Deliveries says how far a webhook has come, by shard. Shards that do not answer are left out.
func (f *Feed) Deliveries(ctx context.Context, hook Webhook) (found []Delivery) {
	for _, number := range f.cfg.Shards() {
		if d, err := f.delivery(ctx, hook, number); err == nil {
			found = append(found, d)
		}
	}
	return found
}

func (f *Feed) delivery(ctx context.Context, hook Webhook, number int) (Delivery, error) {
	db, _, err := f.cfg.Primary(number)
	if err != nil {
		return Delivery{}, err
	}
	head, err := ledger.EventHeadOf(ctx, db)
	if err != nil {
		return Delivery{}, err
	}
	row := deliveryRow{Position: hook.Start[number]}
	if err := row.scan(db.SQL().QueryRowContext(ctx, readSQL, hook.ID)); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Delivery{}, err
	}
	return Delivery{
		Shard: number, Position: row.Position, Waiting: max(0, head.Last-row.Position), Failures: row.Failures,
		FailingSince: instant(row.FailingSince), NextAt: instant(row.NextAt), ParkedAt: instant(row.ParkedAt),
		LastError: row.LastError, Holder: row.Holder,
	}, nil
}

// instant is zero for 0.
func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// Replay lets the deliveries of a webhook go on at once, parked or not; with a position, from there. Shards that the position does not
// name go on where they are. After an error it may be asked again.
func (f *Feed) Replay(ctx context.Context, hook Webhook, from Position) error {
	for _, number := range f.cfg.Shards() {
		err := f.transact(ctx, number, func(tx *sql.Conn) error {
			if _, err := tx.ExecContext(ctx, addDeliverySQL, hook.ID, hook.Start[number], hook.ID); err != nil {
				return err
			}
			var position any
			if sequence, named := from[number]; named {
				position = sequence
			}
			_, err := tx.ExecContext(ctx, replaySQL, position, hook.ID)
			return err
		})
		if err != nil {
			return fmt.Errorf("replay webhook %s on shard %d: %w", hook.ID, number, err)
		}
	}
	return nil
}

// Forget removes what the shards know of a webhook that is deleted. What stays is harmless.
func (f *Feed) Forget(ctx context.Context, id string) error {
	var all error
	for _, number := range f.cfg.Shards() {
		all = errors.Join(all, f.transact(ctx, number, func(tx *sql.Conn) error {
			_, err := tx.ExecContext(ctx, forgetSQL, id)
			return err
		}))
	}
	return all
}
