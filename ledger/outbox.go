package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
)

// Events are the entries of a shard in one order, each with a sequence: 1, 2, 3 … without gaps.
//
// A batch that adds entries says in one row of outbox which they are. It gives no sequence, because batches do not commit in the order
// in which they would take one, and a reader that has passed 8 would never see a 7 that commits later. The sequence is given afterwards,
// by whoever sees the row committed, under a lock that only the givers take (NumberEvents). So a number is visible if and only if all
// smaller ones are, and a batch that commits late gets a late number. docs/decisions/0020 has what else was weighed.
//
// Of one owner, events are in the order of his entries: a later batch of his begins when the earlier one has committed, so its row has
// the larger id, and who sees the later row sees the earlier one as well.

// FeedEvent is an entry with its place among the events of its shard.
type FeedEvent struct {
	EventID  string        `json:"event_id"` // shard and sequence: the same whenever and however often it is delivered
	Shard    int           `json:"shard"`
	Sequence int64         `json:"sequence"` // 1, 2, 3 … in the shard
	Type     string        `json:"type"`     // the kind of the entry
	Owner    string        `json:"owner"`
	Entry    int64         `json:"entry"` // its sequence in the owner's history
	At       time.Time     `json:"at"`
	HoldID   string        `json:"hold_id,omitempty"`
	Changes  []EntryChange `json:"changes"`
}

// ErrTrimmed says that the events after a position are not kept any more.
var ErrTrimmed = errors.New("events that old are not kept any more; begin with the oldest, or read histories")

// Limits of events.
const (
	MaxEvents   = 500                 // that are read at once
	numberAtMax = 500                 // batches that get their numbers in one transaction
	trimAtMax   = 1000                // batches that are removed in one transaction
	EventsKept  = 30 * 24 * time.Hour // ten times what a webhook is retried for
)

// appendRun appends some entries of an owner to the document of an outbox row, and a comma.
func appendRun(b []byte, owner string, from, to int64) []byte {
	b = append(append(append(b, `["`...), owner...), `",`...)
	b = append(strconv.AppendInt(b, from, 10), ',')
	return append(strconv.AppendInt(b, to, 10), "],"...)
}

// run is some entries of an owner that follow each other; sequence is that of the first one's event.
type run struct {
	owner    string
	from, to int64
	sequence int64
}

// UnmarshalJSON reads ["owner",from,to].
func (r *run) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&r.owner, &r.from, &r.to})
}

// The statements on outbox. headSQL takes no locks; the others are part of a transaction that begins with lockHeadSQL, which makes
// transactions that give or remove numbers follow each other.
const (
	headSQL       = `SELECT last, trimmed, EXISTS (SELECT 1 FROM outbox WHERE first IS NULL) FROM outbox_head WHERE id=1`
	lockHeadSQL   = `UPDATE outbox_head SET last=last WHERE id=1`
	readHeadSQL   = `SELECT last FROM outbox_head WHERE id=1`
	unnumberedSQL = `SELECT id, events FROM outbox WHERE first IS NULL ORDER BY id LIMIT ?`
	raiseHeadSQL  = `UPDATE outbox_head SET last=? WHERE id=1`
	oldestSQL     = `SELECT first, events, at FROM outbox WHERE first IS NOT NULL ORDER BY first LIMIT ?`
	trimSQL       = `DELETE FROM outbox WHERE first <= ?`
	trimHeadSQL   = `UPDATE outbox_head SET trimmed=? WHERE id=1`
	batchesSQL    = `SELECT first, doc FROM outbox WHERE first BETWEEN (SELECT MAX(first) FROM outbox WHERE first <= ?) AND ? ORDER BY first`
)

// EventHead is what a shard says of its events.
type EventHead struct {
	Last    int64 // the newest sequence
	Trimmed int64 // the newest that is not kept any more
	Waiting bool  // some have no sequence yet
}

// EventHeadOf looks at the events of a shard. It is a hint: no epoch is checked.
func EventHeadOf(ctx context.Context, db *shard.DB) (h EventHead, err error) {
	if err := db.SQL().QueryRowContext(ctx, headSQL).Scan(&h.Last, &h.Trimmed, &h.Waiting); err != nil {
		return h, fmt.Errorf("read the head of the events: %w", err)
	}
	return h, nil
}

// NumberEvents gives sequences to the events of a shard that have none and were committed before the call, at most those of 500
// batches. It returns the newest sequence and whether there may be more to do. Any number of callers may do so at once.
func NumberEvents(ctx context.Context, db *shard.DB, epoch uint64) (last int64, more bool, err error) {
	err = db.Transact(ctx, epoch, func(tx *sql.Conn) error {
		if _, err := tx.ExecContext(ctx, lockHeadSQL); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, readHeadSQL).Scan(&last); err != nil {
			return err
		}
		numbers, n, err := unnumbered(ctx, tx, &last)
		if err != nil || n == 0 {
			return err
		}
		more = n == numberAtMax
		if _, err := tx.ExecContext(ctx, numbers); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, raiseHeadSQL, last)
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("number events: %w", err)
	}
	return last, more, nil
}

// unnumbered writes the UPDATE that gives numbers from *last on, and moves *last on to the newest.
func unnumbered(ctx context.Context, tx *sql.Conn, last *int64) (update string, n int, err error) {
	rows, err := tx.QueryContext(ctx, unnumberedSQL, numberAtMax)
	if err != nil {
		return "", 0, err
	}
	defer rows.Close()
	var cases, ids strings.Builder
	for ; rows.Next(); n++ {
		var id, events int64
		if err := rows.Scan(&id, &events); err != nil {
			return "", 0, err
		}
		fmt.Fprintf(&cases, " WHEN %d THEN %d", id, *last+1)
		fmt.Fprintf(&ids, ",%d", id)
		*last += events
	}
	if n == 0 {
		return "", 0, rows.Err()
	}
	return "UPDATE outbox SET first=CASE id" + cases.String() + " END WHERE id IN (" + ids.String()[1:] + ")", n, rows.Err()
}

// TrimEvents removes events that were decided before an instant, at most those of 1000 batches. It returns whether there may be more.
func TrimEvents(ctx context.Context, db *shard.DB, epoch uint64, before time.Time) (more bool, err error) {
	err = db.Transact(ctx, epoch, func(tx *sql.Conn) error {
		if _, err := tx.ExecContext(ctx, lockHeadSQL); err != nil {
			return err
		}
		first, trimmed, n, err := oldest(ctx, tx, before)
		if err != nil || n == 0 {
			return err
		}
		more = n == trimAtMax
		if _, err := tx.ExecContext(ctx, trimSQL, first); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, trimHeadSQL, trimmed)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("trim events: %w", err)
	}
	return more, nil
}

// oldest finds the batches before an instant that no younger one precedes: first is the first sequence of the last of them, trimmed its
// last.
func oldest(ctx context.Context, tx *sql.Conn, before time.Time) (first, trimmed int64, n int, err error) {
	rows, err := tx.QueryContext(ctx, oldestSQL, trimAtMax)
	if err != nil {
		return 0, 0, 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var from, events, at int64
		if err := rows.Scan(&from, &events, &at); err != nil {
			return 0, 0, 0, err
		}
		if at >= before.UnixMicro() {
			break
		}
		first, trimmed = from, from+events-1
	}
	return first, trimmed, n, rows.Err()
}

// EventsAfter reads the events of a shard that follow a sequence, at most limit and MaxEvents of them, from one fenced snapshot. b is a
// bucket that the shard serves. It returns ErrTrimmed if some of them are not kept any more; after 0 it begins with the oldest.
func (l *Ledger) EventsAfter(ctx context.Context, number int, b shard.Bucket, after int64, limit int) ([]FeedEvent, error) {
	var events []FeedEvent
	err := l.read(ctx, b, func(tx *gorm.DB, _ time.Time) error {
		events = nil
		var trimmed int64
		if err := tx.Raw("SELECT trimmed FROM outbox_head WHERE id=1").Scan(&trimmed).Error; err != nil {
			return err
		}
		if after > 0 && after < trimmed {
			return ErrTrimmed
		}
		runs, err := runsAfter(tx, max(after, trimmed), min(limit, MaxEvents))
		if err != nil || len(runs) == 0 {
			return err
		}
		events, err = l.readRuns(tx, number, runs)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read events of shard %d after %d: %w", number, after, err)
	}
	return events, nil
}

// runsAfter reads which entries the events after a sequence are. Sequences have no gaps, so it is known which batches have them.
func runsAfter(tx *gorm.DB, after int64, limit int) (runs []run, err error) {
	var batches []struct {
		First int64
		Doc   []byte
	}
	until := after + int64(limit)
	if err := tx.Raw(batchesSQL, after+1, until).Scan(&batches).Error; err != nil {
		return nil, err
	}
	for _, b := range batches {
		var all []run
		if err := json.Unmarshal(b.Doc, &all); err != nil {
			return nil, fmt.Errorf("decode the outbox of event %d: %w", b.First, err)
		}
		sequence := b.First
		for _, r := range all {
			r.sequence = sequence
			sequence += r.to - r.from + 1
			if r.cut(after+1, until); r.from <= r.to {
				runs = append(runs, r)
			}
		}
	}
	return runs, nil
}

// cut leaves of a run what has a sequence in [from, to].
func (r *run) cut(from, to int64) {
	last := r.sequence + r.to - r.from
	if skip := from - r.sequence; skip > 0 {
		r.from, r.sequence = r.from+skip, from
	}
	if over := last - to; over > 0 {
		r.to -= over
	}
}

// runsAtOnce bounds the conditions of a query.
const runsAtOnce = 100

// readRuns reads the entries of runs. One that is not there is an event that nobody may pass over.
func (l *Ledger) readRuns(tx *gorm.DB, number int, runs []run) ([]FeedEvent, error) {
	var events []FeedEvent
	for len(runs) > 0 {
		some := runs[:min(len(runs), runsAtOnce)]
		runs = runs[len(some):]
		found, err := entriesOf(tx, some)
		if err != nil {
			return nil, err
		}
		for _, r := range some {
			for seq := r.from; seq <= r.to; seq++ {
				e := FeedEvent{Shard: number, Sequence: r.sequence + seq - r.from}
				record := found[entryKey{r.owner, seq}]
				if record == nil {
					return nil, fmt.Errorf("event %d is entry %d of an owner who has no such entry: %w", e.Sequence, seq, shard.ErrInternal)
				}
				if err := e.read(l, record); err != nil {
					return nil, err
				}
				events = append(events, e)
			}
		}
	}
	return events, nil
}

func (e *FeedEvent) read(l *Ledger, record *entryRecord) error {
	var entry Entry
	if err := record.body(l.cfg.Codec, &entry); err != nil {
		return err
	}
	e.EventID = fmt.Sprintf("%d-%d", e.Shard, e.Sequence)
	e.Type, e.Owner, e.Entry, e.At, e.HoldID, e.Changes = entry.Kind, entry.Owner, entry.Seq, entry.At, entry.HoldID, entry.Changes
	return nil
}

type entryKey struct {
	owner string
	seq   int64
}

func entriesOf(tx *gorm.DB, runs []run) (map[entryKey]*entryRecord, error) {
	db := tx.Session(&gorm.Session{})
	either := tx
	for i, r := range runs {
		one := db.Where("bucket = ? AND owner = ? AND seq BETWEEN ? AND ?", shard.BucketOf(r.owner), r.owner, r.from, r.to)
		if i == 0 {
			either = one
		} else {
			either = either.Or(one)
		}
	}
	var records []entryRecord
	if err := either.Find(&records).Error; err != nil {
		return nil, err
	}
	found := make(map[entryKey]*entryRecord, len(records))
	for i := range records {
		found[entryKey{records[i].Owner, records[i].Seq}] = &records[i]
	}
	return found, nil
}
