package shard

import (
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
	deleteOpen string // what stands before and behind the table's name in a DELETE by key
	deleteFrom string
	inOpen     string // what opens and closes a list of row values after IN
	inClose    string
	multi      bool   // many statements travel in one packet
	unicode    string // introduces a literal that is not ASCII
	driverName string

	resetCount      string // column that sets the count of wrong row counts to 0; see Packet.guard
	ignoreDuplicate string // ends an INSERT into operations that leaves a row which is already there as it is
	keepRow         string // the same for bucket_owner
}

// MariaDB speaks to MariaDB 10.11 and later.
var MariaDB = &Dialect{
	name:      "mariadb",
	lanes:     2,
	begin:     "BEGIN",
	forUpdate: " FOR UPDATE",
	shareLock: " LOCK IN SHARE MODE",
	greatest:  "GREATEST",
	now:       "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)",
	// In the form of many tables, because in the plain one a list of one key reads, and locks, the whole table.
	deleteOpen: "DELETE t FROM ",
	deleteFrom: " t FORCE INDEX (PRIMARY)",
	inOpen:     "(",
	inClose:    ")",
	multi:      true,
	unicode:    "_utf8mb4",
	driverName: "mysql",

	resetCount:      ", @bad:=0",
	ignoreDuplicate: " ON DUPLICATE KEY UPDATE op_key=op_key",
	keepRow:         " ON DUPLICATE KEY UPDATE bucket=bucket",
}

// SQLite is the embedded mode. Its transactions exclude each other, so it needs no locking clauses; it is therefore never
// evidence for locking.
var SQLite = &Dialect{
	name:       "sqlite",
	lanes:      1,
	begin:      "BEGIN IMMEDIATE",
	greatest:   "MAX",
	deleteOpen: "DELETE FROM ",
	inOpen:     "(SELECT * FROM (VALUES ", // a bare list of row values would make SQLite read the whole table
	inClose:    "))",
	driverName: "sqlite",

	ignoreDuplicate: " ON CONFLICT DO NOTHING",
	keepRow:         " ON CONFLICT DO NOTHING",
}

// String returns the dialect's name.
func (d *Dialect) String() string { return d.name }

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

// appendUpdate opens an UPDATE of many rows from a list of values: the given key columns choose the row, the others are
// set. On both dialects a row that is not there is not made.
func (d *Dialect) appendUpdate(b []byte, table string, keys, set []string) []byte {
	if d.multi {
		return append(append(append(b, "UPDATE (WITH v("...), columnNames(len(keys)+len(set))...), ") AS (VALUES "...)
	}
	b = append(append(b, "UPDATE "...), table...)
	b = append(b, " SET "...)
	for i, c := range set {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, c...), "=v.column"...)
		b = strconv.AppendInt(b, int64(len(keys)+i+1), 10)
	}
	return append(b, " FROM (VALUES "...)
}

// closeUpdate ends what appendUpdate opened. STRAIGHT_JOIN makes MariaDB look each value up by key, in the order of the
// values, which is the order of locks.
func (d *Dialect) closeUpdate(b []byte, table string, keys, set []string) []byte {
	if !d.multi {
		b = append(b, ") v WHERE "...)
		for i, c := range keys {
			if i > 0 {
				b = append(b, " AND "...)
			}
			b = append(append(append(append(b, table...), '.'), c...), "=v.column"...)
			b = strconv.AppendInt(b, int64(i+1), 10)
		}
		return b
	}
	b = append(append(append(b, ") SELECT * FROM v) v STRAIGHT_JOIN "...), table...), " t ON "...) //nolint:unqueryvet // of the list
	for i, c := range keys {
		if i > 0 {
			b = append(b, " AND "...)
		}
		b = append(append(append(b, "t."...), c...), "=v.c"...)
		b = strconv.AppendInt(b, int64(i+1), 10)
	}
	b = append(b, " SET "...)
	for i, c := range set {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, "t."...), c...), "=v.c"...)
		b = strconv.AppendInt(b, int64(len(keys)+i+1), 10)
	}
	return b
}

func columnNames(n int) string {
	b := []byte("c1")
	for i := 2; i <= n; i++ {
		b = append(b, ",c"...)
		b = strconv.AppendInt(b, int64(i), 10)
	}
	return string(b)
}
