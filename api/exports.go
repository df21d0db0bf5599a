package api

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/api/strictjson"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
)

const (
	// exportAge is how old an entry must be to be exported: a batch is decided at the time at which it reads, and commits seconds later at
	// most. So a period that has ended for as long is complete.
	exportAge      = 10 * time.Second
	exportBuffer   = 64 << 10
	exportPatience = time.Minute // for a reader to take what was written
	exportStep     = 30 * time.Second
)

// ExportEntries answers GET /v1/exports/entries. What is wrong with the request is said before the export begins; an export that breaks
// off ends without an end, which every client of HTTP notices.
func (s *server) ExportEntries(ctx context.Context, r gen.ExportEntriesRequestObject) (gen.ExportEntriesResponseObject, error) {
	p := &r.Params
	zone, err := timeZone(p.TimeZone)
	if err != nil {
		return nil, err
	}
	x := &export{s: s, ctx: ctx, zone: zone, csv: p.Format == "csv"}
	if !x.csv && p.Format != "jsonl" {
		return nil, invalid("format", "must be csv or jsonl")
	}
	latest := s.cfg.Now().Add(-exportAge)
	if x.from, err = border("from", p.From, zone); err != nil {
		return nil, err
	}
	if x.to, err = border("to", p.To, zone); err != nil {
		return nil, err
	}
	switch {
	case x.to.IsZero():
		x.to = latest
	case x.to.After(latest):
		return nil, invalid("to", "must have passed 10 seconds ago: what is younger is not complete yet")
	}
	if !x.from.Before(x.to) {
		return nil, invalid("from", "must be before to")
	}
	return x, nil
}

// timeZone finds a time zone by its name in the IANA database; without a name it is UTC.
func timeZone(name string) (*time.Location, error) {
	if name == "Local" { // that of the machine, which is nobody's business
		return nil, invalid("time_zone", "is not known")
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, invalid("time_zone", "is not known; it is a name such as Europe/Berlin")
	}
	return zone, nil
}

// border reads a bound: an instant, or a day or time of day in the zone. A time that the clock skips or has twice is one instant all the
// same, so adjoining periods still adjoin.
func border(name, text string, zone *time.Location) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, ok := strictjson.ParseTime(text); ok {
		return at, nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04:05"} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return at, nil
		}
	}
	return time.Time{}, invalid(name, "must be an instant, a day such as 2026-03-29, or a time such as 2026-03-29T12:00:00 in the time zone")
}

// export is an export under way.
type export struct {
	s        *server
	ctx      context.Context //nolint:containedctx // it is the reply of one request, and ends with it
	zone     *time.Location
	from, to time.Time
	csv      bool
	write    func(e *ledger.Entry) error
	flush    func() error // what write keeps
}

// VisitExportEntriesResponse writes the entries of all shards, owner by owner.
func (x *export) VisitExportEntriesResponse(w http.ResponseWriter) error {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	out := bufio.NewWriterSize(w, exportBuffer)
	if x.csv {
		header.Set("Content-Type", "text/csv; charset=utf-8; header=present")
		rows := csv.NewWriter(out)
		_ = rows.Write(exportColumns) // an error comes again with the next row
		x.write = func(e *ledger.Entry) error { return x.writeRows(rows, e) }
		x.flush = func() error { rows.Flush(); return rows.Error() }
	} else {
		header.Set("Content-Type", "application/jsonl")
		lines := json.NewEncoder(out)
		x.write = func(e *ledger.Entry) error { return lines.Encode(e) }
		x.flush = func() error { return nil }
	}
	w.WriteHeader(http.StatusOK)
	for _, number := range x.s.cfg.Feed.Shards() {
		if err := x.shard(w, number); err != nil {
			x.s.cfg.Log.WarnContext(x.ctx, "an export broke off", "shard", number, "error", err)
			panic(http.ErrAbortHandler) // the reply must not look as if it were whole
		}
	}
	return errors.Join(x.flush(), out.Flush())
}

// shard writes the entries of a shard, page by page. A page that cannot be read now is tried again for a while.
func (x *export) shard(w http.ResponseWriter, number int) error {
	bucket, known := x.s.cfg.Feed.Bucket(number)
	if !known {
		return fmt.Errorf("shard %d serves no bucket: %w", number, shard.ErrStaleRoute)
	}
	connection := http.NewResponseController(w)
	for place, more := (ledger.ExportPlace{}), true; more && x.ctx.Err() == nil; {
		_ = connection.SetWriteDeadline(x.s.cfg.Now().Add(exportPatience))
		ctx, cancel := context.WithTimeout(x.ctx, exportStep)
		page, next, rest, err := x.s.cfg.Ledger.ExportEntries(ctx, bucket, place, x.from, x.to)
		cancel()
		if err != nil {
			return err
		}
		place, more = next, rest
		for i := range page {
			page[i].At = page[i].At.In(x.zone)
			if err := x.write(&page[i]); err != nil {
				return err
			}
		}
	}
	return x.ctx.Err()
}

var exportColumns = []string{
	"owner", "seq", "kind", "at", "hold_id", "coupon_id", "from", "to", "lot_id",
	"available_before", "held_before", "spent_before", "expired_before", "revoked_before",
	"available_after", "held_after", "spent_after", "expired_after", "revoked_after", "hash",
}

// writeRows writes an entry as CSV, a row for each change.
func (x *export) writeRows(rows *csv.Writer, e *ledger.Entry) error {
	for _, c := range e.Changes {
		row := []string{
			e.Owner, strconv.FormatInt(e.Seq, 10), e.Kind, e.At.Format(time.RFC3339Nano), e.HoldID, c.CouponID, c.From, c.To, c.LotID,
		}
		row = append(append(append(row, numbers(c.Before)...), numbers(c.After)...), e.Hash)
		if err := rows.Write(row); err != nil {
			return err
		}
	}
	return nil
}

// numbers are the counters as texts; empty where there are none.
func numbers(c *ledger.LotCounters) []string {
	row := make([]string, 5)
	if c == nil {
		return row
	}
	for i, n := range []int64{c.Available, c.Held, c.Spent, c.Expired, c.Revoked} {
		row[i] = strconv.FormatInt(n, 10)
	}
	return row
}
