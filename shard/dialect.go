package shard

import (
	"database/sql/driver"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Dialect is the SQL that differs between MariaDB and SQLite. All differences are in this file.
type Dialect struct {
	name       string
	lanes      int    // default number of lanes; SQLite has one writer
	begin      string // starts a write transaction
	forUpdate  string
	shareLock  string
	greatest   string // the function that returns the largest of its arguments
	now        string // SQL of the server's time in microseconds; empty: the process's own clock
	setNow     string // keeps the value of the expression that follows, the batch's time, for batchNow
	batchNow   string // SQL of the batch's time; empty: that of its clock, which stands still
	multi      bool   // many statements travel in one packet
	unicode    string // introduces a literal that is not ASCII
	driverName string

	orderedJoin string // a join that reads its left side first, whatever the optimizer thinks

	orFail         string // lets a write that fails leave what it has done so far, because the transaction is undone anyway
	resetCount     string // column that sets the count of wrong row counts to 0; see appendCountGuard
	renewTombstone string // ends an INSERT into operations that leaves a row which is already there, but for a tombstone's time
	keepRow        string // the same for bucket_owner
}

// MariaDB speaks to MariaDB 10.11 and later.
var MariaDB = &Dialect{
	name:       "mariadb",
	lanes:      2,
	begin:      "BEGIN",
	forUpdate:  " FOR UPDATE",
	shareLock:  " LOCK IN SHARE MODE",
	greatest:   "GREATEST",
	now:        "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)",
	setNow:     "@now:=",
	batchNow:   "@now",
	multi:      true,
	unicode:    "_utf8mb4",
	driverName: "mysql",

	orderedJoin: "STRAIGHT_JOIN",

	resetCount: ", @bad:=0",
	renewTombstone: " ON DUPLICATE KEY UPDATE " +
		"decided_at=IF(verdict='ABORTED',GREATEST(decided_at+1,VALUES(decided_at)),decided_at)",
	keepRow: " ON DUPLICATE KEY UPDATE bucket=bucket",
}

// SQLite is the embedded mode. Its transactions exclude each other, so it needs no locking clauses; it is therefore never
// evidence for locking.
var SQLite = &Dialect{
	name:       "sqlite",
	lanes:      1,
	begin:      "BEGIN IMMEDIATE",
	greatest:   "MAX",
	driverName: "sqlite",

	orderedJoin: "CROSS JOIN",

	orFail:         "OR FAIL ", // saves a journal for each statement
	renewTombstone: " ON CONFLICT DO UPDATE SET decided_at=MAX(decided_at+1,excluded.decided_at) WHERE verdict='ABORTED'",
	keepRow:        " ON CONFLICT DO NOTHING",
}

// String returns the dialect's name.
func (d *Dialect) String() string { return d.name }

// tick is the SQL that writes down the time of a batch as that of a source. Each lane has a row of its own, so nobody waits for it.
func (d *Dialect) tick(source string) string {
	text := d.appendText([]byte("INSERT INTO clock (source, at) VALUES ("), source)
	return string(text) + "," + d.batchNow + ") ON DUPLICATE KEY UPDATE at=VALUES(at)"
}

// appendText appends a quoted string literal. MariaDB reads backslash escapes (NO_BACKSLASH_ESCAPES is never set on our
// connections), SQLite only doubled quotes.
func (d *Dialect) appendText(b []byte, s string) []byte {
	if !isASCII(s) {
		b = append(b, d.unicode...)
	}
	b = append(b, '\'')
	b = d.appendEscaped(b, s)
	return append(b, '\'')
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func (d *Dialect) appendEscaped(b []byte, s string) []byte {
	if strings.IndexByte(s, '\'') < 0 && (!d.multi || strings.IndexByte(s, '\\') < 0 && strings.IndexByte(s, 0) < 0) {
		return append(b, s...) // nearly always
	}
	start := 0
	for i := range len(s) {
		var esc string
		switch c := s[i]; {
		case c == '\'':
			esc = "''"
		case d.multi && c == '\\':
			esc = `\\`
		case d.multi && c == 0:
			esc = `\0`
		default:
			continue
		}
		b = append(b, s[start:i]...)
		b = append(b, esc...)
		start = i + 1
	}
	return append(b, s[start:]...)
}

// appendBinary appends the literal of a binary value. Long values are escaped text on MariaDB, half the size of hex.
func (d *Dialect) appendBinary(b, v []byte) []byte {
	const short = 64
	if !d.multi || len(v) <= short {
		return appendHex(b, v)
	}
	b = append(b, "_binary'"...)
	b = d.appendEscaped(b, string(v))
	return append(b, '\'')
}

func appendHex(b, v []byte) []byte {
	const digits = "0123456789abcdef"
	b = append(b, 'x', '\'')
	for _, c := range v {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return append(b, '\'')
}

// The kinds of columns in a list of rows, and the widest values of them that a prepared statement takes.
const (
	kindNull   = 'n'
	kindInt    = 'i'
	kindASCII  = 'a'
	kindBinary = 'b'

	widestASCII  = 64
	widestBinary = 32
)

// typeRows has a literal of each kind, as wide as it can be. A row of them comes first in a list of placeholders, to give the list
// its types. It is nobody's row: no bucket has this number.
var typeRows = map[byte]string{
	kindNull:   "NULL",
	kindInt:    "9223372036854775807",
	kindASCII:  "'" + strings.Repeat("~", widestASCII) + "'",
	kindBinary: "x'" + strings.Repeat("00", widestBinary) + "'",
}

// listing is the list of rows in a statement's text.
type listing struct {
	rows, cols   int
	values       []driver.NamedValue
	typed        string // the kinds of its columns, if a row of types comes first
	placeholders bool   // instead of values
}

func (d *Dialect) appendRows(b []byte, l listing) []byte {
	b = append(b, '(')
	for col := range len(l.typed) {
		if col > 0 {
			b = append(b, ',')
		}
		b = append(b, typeRows[l.typed[col]]...)
	}
	for row := range l.rows {
		if row > 0 || l.typed != "" {
			b = append(b, "),("...)
		}
		for col := range l.cols {
			if col > 0 {
				b = append(b, ',')
			}
			b = d.appendItem(b, &l, row*l.cols+col)
		}
	}
	return append(b, ')')
}

func (d *Dialect) appendItem(b []byte, l *listing, i int) []byte {
	if l.placeholders {
		return append(b, '?')
	}
	return d.appendValue(b, l.values[i].Value)
}

// appendValue appends a value as a literal.
func (d *Dialect) appendValue(b []byte, v driver.Value) []byte {
	switch v := v.(type) {
	case int64:
		return strconv.AppendInt(b, v, 10)
	case string:
		return d.appendText(b, v)
	case []byte:
		return d.appendBinary(b, v)
	}
	return append(b, "NULL"...)
}

// appendShape appends a statement with its list of rows.
func (d *Dialect) appendShape(b []byte, s *shape, l listing) []byte {
	alone := l.rows == 1 && l.typed == ""
	switch {
	case s.verb == verbText:
		return append(b, s.columns...)
	case s.verb == verbInsert:
		b = concat(b, "INSERT ", d.orFail, "INTO ", s.from, " (", s.columns, ") VALUES ")
		return append(d.appendRows(b, l), s.tail...)
	case alone:
		return d.appendAlone(b, s, l)
	case s.verb == verbLookup:
		return d.appendLookup(b, s, l)
	case s.verb == verbUpdate:
		return d.appendUpdate(b, s, l)
	}
	return d.appendDelete(b, s, l)
}

// appendAlone writes a statement over one row without a list, which costs a third.
func (d *Dialect) appendAlone(b []byte, s *shape, l listing) []byte {
	keys := names(s.keys)
	switch s.verb {
	case verbLookup:
		b = d.appendTable(concat(b, "SELECT ", s.columns, " FROM "), s)
		b = append(b, s.joins...)
	case verbUpdate:
		b = concat(b, "UPDATE ", d.orFail, s.from, " SET ")
		for i, name := range names(s.columns) {
			b = d.appendValue(concat(b, comma(i), name, "="), l.values[len(keys)+i].Value)
		}
	default:
		b = concat(b, "DELETE FROM ", s.from)
	}
	joint := " WHERE "
	for i, name := range keys {
		b = d.appendValue(concat(b, joint, name, "="), l.values[i].Value)
		joint = " AND "
	}
	if s.where != "" {
		b = concat(b, " AND ", s.where)
	}
	return append(b, s.tail...)
}

// appendLookup joins the table to the list, in this order on both engines: each key is looked up by itself, in the order of the
// list, which is the order of locks.
func (d *Dialect) appendLookup(b []byte, s *shape, l listing) []byte {
	b = append(d.appendRows(appendList(b, l.cols), l), ") "...)
	b = d.appendTable(concat(b, "SELECT ", s.columns, " FROM v ", d.orderedJoin, " "), s)
	b = appendOn(append(b, " ON "...), s.keys, "", "=v.c")
	b = append(b, s.joins...)
	if s.where != "" {
		b = concat(b, " WHERE ", s.where)
	}
	return append(b, s.tail...)
}

// byKey is what both kinds of writes on MariaDB join their list to. The index is forced as in lookups: a scan of a small table would
// wait for the rows of others.
func (d *Dialect) byKey(b []byte, s *shape) []byte {
	return concat(b, allListed, " v ", d.orderedJoin, " ", s.from, " t FORCE INDEX (PRIMARY) ON ")
}

// appendUpdate sets columns from the list.
func (d *Dialect) appendUpdate(b []byte, s *shape, l listing) []byte {
	if d.multi {
		b = d.byKey(d.appendRows(appendList(append(b, "UPDATE ("...), l.cols), l), s)
		return appendSet(appendOn(b, s.keys, "t.", "=v.c"), s, "t.")
	}
	b = append(d.appendRows(appendList(b, l.cols), l), ") "...)
	b = appendSet(concat(b, "UPDATE ", d.orFail, s.from), s, "")
	// SQLite is told by the plus that it cannot look for rows of the list: it would do that for each row of the whole table.
	return appendOn(append(b, " FROM v WHERE "...), s.keys, s.from+".", "=+v.c")
}

func (d *Dialect) appendDelete(b []byte, s *shape, l listing) []byte {
	if d.multi {
		b = d.appendRows(appendList(append(b, "DELETE t FROM ("...), l.cols), l)
		return appendOn(d.byKey(b, s), s.keys, "t.", "=v.c")
	}
	b = concat(b, "DELETE FROM ", s.from, " WHERE (", s.keys, ") IN (")
	return append(d.appendRows(appendList(b, l.cols), l), allListed...)
}

// allListed closes a list that stands in parentheses.
const allListed = ") SELECT * FROM v)" //nolint:unqueryvet // its columns are named where it begins

// appendList opens the list v with columns c1, c2 …
func appendList(b []byte, cols int) []byte {
	b = append(b, "WITH v("...)
	for i := range cols {
		b = strconv.AppendInt(concat(b, comma(i), "c"), int64(i+1), 10)
	}
	return append(b, ") AS (VALUES "...)
}

// appendOn compares the key with the first columns of the list.
func appendOn(b []byte, keys, prefix, equals string) []byte {
	for i, name := range names(keys) {
		if i > 0 {
			b = append(b, " AND "...)
		}
		b = strconv.AppendInt(concat(b, prefix, name, equals), int64(i+1), 10)
	}
	return b
}

// appendSet sets columns from those of the list that follow the key.
func appendSet(b []byte, s *shape, prefix string) []byte {
	b = append(b, " SET "...)
	keys := len(names(s.keys))
	for i, name := range names(s.columns) {
		b = strconv.AppendInt(concat(b, comma(i), prefix, name, "=v.c"), int64(keys+i+1), 10)
	}
	return b
}

func (d *Dialect) appendTable(b []byte, s *shape) []byte {
	b = append(b, s.from...)
	if d.multi && s.index != "" {
		b = concat(b, " FORCE INDEX (", s.index, ")")
	}
	return b
}

// appendCountGuard adds what compares the rows that the last write changed with what was intended. The counts are summed up in
// @bad, because COMMIT travels in the same packet and would be too late to stop in Go.
func appendCountGuard(b []byte, rows int) []byte {
	b = strconv.AppendInt(append(b, "SET @bad=@bad+(ROW_COUNT()<>"...), int64(rows), 10)
	return append(b, ");"...)
}

// names splits a list of columns.
func names(list string) []string { return strings.Split(list, ", ") }

func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

func concat(b []byte, parts ...string) []byte {
	for _, part := range parts {
		b = append(b, part...)
	}
	return b
}
