package feed

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of an embedded tailer, each with its reason.
const (
	pollEvery = 20 * time.Millisecond // a query of a local file that finds nothing takes microseconds
	rowsMax   = 1000                  // of a release: of documents of 64 KiB that is 64 MiB
	keptRows  = 100_000               // for consumers that come late; the triggers remove what is older, whether anybody reads or not
)

// EmbeddedConfig is what an EmbeddedTailer needs; see TailerConfig.
type EmbeddedConfig struct {
	Shard    int
	Epoch    uint64
	DB       *sql.DB // of the SQLite file of the shard
	Tables   []Table
	Consumer Consumer
	Alarm    func(Alarm)
	Now      func() time.Time
	Log      *slog.Logger
	Metrics  *Metrics // nil: none
}

// EmbeddedTailer is the feed of a shard in a SQLite file, which has no binary log and no failovers. Triggers write changed rows into the
// table feed_log in the transactions that change them, so nothing is missed, whoever writes. Each row is a transaction of its own here;
// a release is what one look has found, and ends with a commit unless it is full.
type EmbeddedTailer struct {
	cfg    EmbeddedConfig
	tables map[string]Table
}

// NewEmbeddedTailer returns a tailer. Run does the work.
func NewEmbeddedTailer(cfg EmbeddedConfig) *EmbeddedTailer {
	if cfg.Metrics == nil {
		cfg.Metrics = discardMetrics()
	}
	t := &EmbeddedTailer{cfg: cfg, tables: map[string]Table{}}
	for _, one := range cfg.Tables {
		t.tables[one.Name] = one
	}
	return t
}

// Run feeds the consumer until ctx ends. Whatever goes wrong is tried again.
func (t *EmbeddedTailer) Run(ctx context.Context) {
	for pause := backoffMin; ctx.Err() == nil; pause = min(2*pause, backoffMax) {
		if err := t.follow(ctx); ctx.Err() == nil {
			t.cfg.Log.WarnContext(ctx, "the feed was interrupted", "shard", t.cfg.Shard, "error", err)
			wait(ctx, pause)
		}
	}
}

// follow starts the consumer and hands over what it finds until something goes wrong.
func (t *EmbeddedTailer) follow(ctx context.Context) error {
	isNew, err := t.prepare(ctx)
	if err != nil {
		return err
	}
	from, err := t.start(ctx, isNew)
	if err != nil {
		return err
	}
	for told := t.cfg.Now(); ; {
		began := t.cfg.Now()
		list, err := t.look(ctx, from)
		if err != nil {
			return err
		}
		if len(list) > 0 || began.Sub(told) >= markEvery {
			told = began
			if from, err = t.handOver(ctx, from, list, began); err != nil {
				return err
			}
		}
		if len(list) < rowsMax {
			wait(ctx, pollEvery)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// The log of an embedded shard. A row has the values of all columns by name, as literals of SQL, which lose nothing.
const (
	logSQL = `CREATE TABLE IF NOT EXISTS feed_log (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, name TEXT NOT NULL, before TEXT, after TEXT)`
	triggerSQL  = "SELECT COALESCE((SELECT sql FROM sqlite_schema WHERE type='trigger' AND name=?),'')"
	triggerText = `CREATE TRIGGER %s AFTER %s ON %[3]s BEGIN
  INSERT INTO feed_log (at, name, before, after) VALUES (CAST(unixepoch('subsec')*1000000 AS INTEGER), '%[3]s', %[4]s, %[5]s);
  DELETE FROM feed_log WHERE seq=last_insert_rowid()-%[6]d; END`
	columnsSQL = "SELECT name FROM pragma_table_info(?) ORDER BY cid"
	ownSQL     = "SELECT COALESCE((SELECT MIN(seq) FROM feed_log),0), COALESCE((SELECT seq FROM sqlite_sequence WHERE name='feed_log'),0)"
	lookSQL    = "SELECT seq, at, name, before, after FROM feed_log WHERE seq>? ORDER BY seq LIMIT ?"
)

// prepare makes log and triggers. It returns true if a table had none, whose changes nobody has written down until now.
func (t *EmbeddedTailer) prepare(ctx context.Context) (isNew bool, err error) {
	if _, err := t.cfg.DB.ExecContext(ctx, logSQL); err != nil {
		return false, fmt.Errorf("make the log: %w", err)
	}
	for _, table := range t.cfg.Tables {
		columns, err := t.columns(ctx, table.Name)
		if err != nil {
			return false, err
		}
		for _, on := range []struct{ event, before, after string }{
			{"INSERT", "NULL", object("NEW", columns)},
			{"UPDATE", object("OLD", columns), object("NEW", columns)},
			{"DELETE", object("OLD", columns), "NULL"},
		} {
			name := "feed_" + table.Name + "_" + strings.ToLower(on.event)
			made, err := t.trigger(ctx, name, fmt.Sprintf(triggerText, name, on.event, table.Name, on.before, on.after, keptRows))
			if err != nil {
				return false, fmt.Errorf("make the trigger %s: %w", name, err)
			}
			isNew = isNew || made
		}
	}
	return isNew, nil
}

// trigger makes a trigger, or another one in the place of one that is not the same, as when a table has got columns since. It returns
// true if there was none.
func (t *EmbeddedTailer) trigger(ctx context.Context, name, statement string) (made bool, err error) {
	var there string
	if err := t.cfg.DB.QueryRowContext(ctx, triggerSQL, name).Scan(&there); err != nil || there == statement {
		return false, err
	}
	tx, err := t.cfg.DB.BeginTx(ctx, nil) // no change may pass between the two
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }()
	for _, one := range []string{"DROP TRIGGER IF EXISTS " + name, statement} {
		if _, err := tx.ExecContext(ctx, one); err != nil {
			return false, err
		}
	}
	return there == "", tx.Commit()
}

func (t *EmbeddedTailer) columns(ctx context.Context, table string) (list []string, err error) {
	rows, err := t.cfg.DB.QueryContext(ctx, columnsSQL, table)
	if err != nil {
		return nil, fmt.Errorf("read the columns of %s: %w", table, err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("read the columns of %s: %w", table, err)
		}
		list = append(list, name)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the columns of %s: %w", table, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("there is no table %s", table)
	}
	return list, nil
}

// object is SQL that makes a row: an array of names and literals in turn.
func object(row string, columns []string) string {
	var parts []string
	for _, c := range columns {
		parts = append(parts, "'"+c+"', quote("+row+"."+c+")")
	}
	return "json_array(" + strings.Join(parts, ", ") + ")"
}

// start finds out where the consumer stands, and has it start anew if it must.
func (t *EmbeddedTailer) start(ctx context.Context, isNew bool) (seq uint64, err error) {
	from, err := t.cfg.Consumer.Position(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask the consumer for its position: %w", err)
	}
	var first, last uint64
	if err := t.cfg.DB.QueryRowContext(ctx, ownSQL).Scan(&first, &last); err != nil {
		return 0, fmt.Errorf("look at the log: %w", err)
	}
	at, err := from.gtids()
	if err != nil {
		return 0, err
	}
	seq = at[0].Seq
	gap := Gap{Shard: t.cfg.Shard, Epoch: t.cfg.Epoch, After: from, Position: embeddedPosition(last)}
	switch {
	case from == "" || isNew:
		gap.Reason = ReasonNew
	case seq > last:
		t.alarm(Alarm{Kind: AlarmVanished, What: fmt.Sprintf("the consumer is at %d, and the log ends at %d", seq, last)})
		return 0, fmt.Errorf("%s: %w", from, errVanished)
	case first > seq+1 || first == 0 && last > seq:
		gap.Reason = ReasonPurged
	default:
		return seq, nil
	}
	t.cfg.Metrics.reset(gap)
	if err := t.cfg.Consumer.Reset(ctx, gap); err != nil {
		return 0, fmt.Errorf("start the consumer anew: %w", err)
	}
	return last, nil
}

func embeddedGTID(seq uint64) GTID { return GTID{Server: 1, Seq: seq} }

func embeddedPosition(seq uint64) Position { return Position(embeddedGTID(seq).String()) }

func (t *EmbeddedTailer) alarm(a Alarm) {
	a.Shard = t.cfg.Shard
	t.cfg.Log.Error("the feed of a shard has met what must not happen", "shard", a.Shard, "kind", string(a.Kind), "table", a.Table,
		"gtid", a.GTID.String(), "what", a.What)
	t.cfg.Metrics.alarmed(a)
	if t.cfg.Alarm != nil {
		t.cfg.Alarm(a)
	}
}

// look reads the log. Rows of tables that are not wanted are those of other consumers; they move the position.
func (t *EmbeddedTailer) look(ctx context.Context, from uint64) (list []Transaction, err error) {
	rows, err := t.cfg.DB.QueryContext(ctx, lookSQL, from, rowsMax)
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var seq uint64
		var at int64
		var change Change
		var before, after sql.NullString
		if err := rows.Scan(&seq, &at, &change.Table, &before, &after); err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		one := Transaction{GTID: embeddedGTID(seq), CommittedAt: time.UnixMicro(at).UTC(), Complete: true}
		if table, wanted := t.tables[change.Table]; wanted {
			var err1, err2 error
			change.Before, err1 = literalRow(before)
			change.After, err2 = literalRow(after)
			if err := errors.Join(err1, err2); err != nil {
				return nil, fmt.Errorf("row %d of the log: %w", seq, err)
			}
			change.Bucket, change.Unversioned = bucketOf(change), table.broken(change) != ""
			one.Changes = []Change{change}
		}
		list = append(list, one)
	}
	return list, rows.Err()
}

// handOver gives the consumer what was found in a look that began then, and returns where it stands.
func (t *EmbeddedTailer) handOver(ctx context.Context, from uint64, list []Transaction, began time.Time) (uint64, error) {
	r := Release{Shard: t.cfg.Shard, Epoch: t.cfg.Epoch, Position: embeddedPosition(from), CompleteAt: began}
	if len(list) > 0 {
		from = list[len(list)-1].GTID.Seq
		r.Position = embeddedPosition(from)
	}
	if len(list) == rowsMax {
		r.CompleteAt = time.Time{} // there is more
	}
	r.Transactions = slices.DeleteFunc(list, func(one Transaction) bool { return len(one.Changes) == 0 })
	if err := t.cfg.Consumer.Take(ctx, r); err != nil {
		return 0, fmt.Errorf("hand over %d changes: %w", len(r.Transactions), err)
	}
	t.cfg.Metrics.released(r)
	for _, one := range r.Transactions {
		if c := one.Changes[0]; c.Unversioned {
			t.alarm(Alarm{Kind: AlarmUnversioned, GTID: one.GTID, Table: c.Table, What: t.tables[c.Table].broken(c)})
		}
	}
	return from, nil
}

// literalRow reads what object has made.
func literalRow(text sql.NullString) (r Row, err error) {
	if !text.Valid {
		return r, nil
	}
	var parts []string
	if err := json.Unmarshal([]byte(text.String), &parts); err != nil {
		return r, err
	}
	for pair := range slices.Chunk(parts, 2) {
		value, err := literal(pair[1])
		if err != nil {
			return r, fmt.Errorf("column %s: %w", pair[0], err)
		}
		r.columns, r.values = append(r.columns, pair[0]), append(r.values, value)
	}
	return r, nil
}

// literal reads what SQLite's quote has written.
func literal(text string) (any, error) {
	switch {
	case text == "NULL":
		return nil, nil
	case strings.HasPrefix(text, "X'"):
		return hex.DecodeString(text[2 : len(text)-1])
	case strings.HasPrefix(text, "'"):
		return strings.ReplaceAll(text[1:len(text)-1], "''", "'"), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	return strconv.ParseFloat(text, 64)
}
