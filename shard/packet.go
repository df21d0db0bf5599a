package shard

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unsafe"

	"github.com/go-sql-driver/mysql"
)

// errRowCount: a write touched another number of rows than apply intended.
var errRowCount = errors.New("a write changed another number of rows than intended")

// Packet collects the statements of one round trip. Values are appended as literals by typed methods only, so that a
// statement is built without allocations and without a place where text could become SQL.
//
// On MariaDB the whole packet travels at once and the server stops at the first error. On SQLite the statements run one
// by one, with the same effect.
type Packet struct {
	d     *Dialect
	clock string // SQL of the server's time, without the floor
	buf   []byte
	stmts []stmt
}

type stmt struct {
	start, end int
	scan       func(*Row) error // reads: called for each row
	rows       int              // writes: rows that must change; -1: any number
}

const anyRows = -1

func newPacket(d *Dialect) *Packet { return &Packet{d: d, buf: make([]byte, 0, 4096)} }

// reset empties the packet and keeps its memory, unless one large batch has made it huge.
func (p *Packet) reset() {
	const keep = 4 << 20
	if cap(p.buf) > keep {
		p.buf = make([]byte, 0, 4096)
	}
	p.buf, p.stmts = p.buf[:0], p.stmts[:0]
}

// Empty reports whether nothing was added.
func (p *Packet) Empty() bool { return len(p.stmts) == 0 }

// Now is the SQL of the time at which a query runs, in microseconds. It is not before the batch's own time, which is read
// first, unless the server's clock steps back in between.
func (p *Packet) Now() string {
	return p.d.greatest + "(" + p.clock + ",(SELECT floor_at FROM fence WHERE id=1))"
}

// Index is the clause behind a table's name that makes a query use the index and nothing else.
func (p *Packet) Index(name string) string {
	if !p.d.multi {
		return ""
	}
	return " FORCE INDEX (" + name + ")"
}

// exec adds a statement without values.
func (p *Packet) exec(sql string) {
	p.open(nil, anyRows)
	p.buf = append(p.buf, sql...)
	p.close()
}

func (p *Packet) open(scan func(*Row) error, rows int) {
	p.stmts = append(p.stmts, stmt{start: len(p.buf), scan: scan, rows: rows})
}

func (p *Packet) close() {
	p.stmts[len(p.stmts)-1].end = len(p.buf)
	p.buf = append(p.buf, ';')
}

// Query adds a query without values. scan is called for every row of the result.
func (p *Packet) Query(sql string, scan func(*Row) error) {
	p.open(scan, 0)
	p.buf = append(p.buf, sql...)
	p.close()
}

// Select adds a query that ends in a list of row values, e.g. "SELECT … FROM owners WHERE (bucket, owner) IN". The rows of
// the list follow by Row, and End closes it. scan is called for every row of the result.
func (p *Packet) Select(sql string, scan func(*Row) error) *Values {
	p.open(scan, 0)
	p.buf = append(append(append(p.buf, sql...), ' '), p.d.inOpen...)
	return &Values{p: p, closing: p.d.inClose}
}

// Insert adds an INSERT of many rows.
func (p *Packet) Insert(table, columns string) *Values {
	p.open(nil, 0)
	p.buf = append(append(append(p.buf, "INSERT INTO "...), table...), " ("...)
	p.buf = append(append(p.buf, columns...), ") VALUES "...)
	return &Values{p: p, write: true}
}

// Update adds an UPDATE of many rows by key. Each Row gives the key columns, then the columns to set, in this order.
func (p *Packet) Update(table string, keys, set []string) *Values {
	p.open(nil, 0)
	begin := len(p.buf)
	p.buf = p.d.appendUpdate(p.buf, table, keys, set)
	return &Values{p: p, open: begin, write: true, counted: true, update: &updateOf{table, keys, set}}
}

// Delete adds a DELETE of many rows by key; columns are the key columns.
func (p *Packet) Delete(table, columns string) *Values {
	p.open(nil, 0)
	p.buf = append(append(append(append(p.buf, p.d.deleteOpen...), table...), p.d.deleteFrom...), " WHERE ("...)
	p.buf = append(append(append(p.buf, columns...), ") IN "...), p.d.inOpen...)
	return &Values{p: p, write: true, counted: true, closing: p.d.inClose}
}

type updateOf struct {
	table     string
	keys, set []string
}

// Values is a statement whose rows of values are being written.
type Values struct {
	p        *Packet
	open     int   // where the statement begins
	literals []int // updates: where each literal of the first row ends, to write a plain UPDATE if it stays alone
	n        int   // rows so far
	cols     int   // values in the current row
	write    bool  // n rows must change
	counted  bool  // it may change fewer rows than n without an error, so they are counted
	closing  string
	update   *updateOf
}

// Row starts the next row.
func (v *Values) Row() *Values {
	if v.n == 0 {
		v.p.buf = append(v.p.buf, '(')
	} else {
		v.p.buf = append(v.p.buf, "),("...)
	}
	v.n++
	v.cols = 0
	return v
}

func (v *Values) comma() {
	if v.cols > 0 {
		v.p.buf = append(v.p.buf, ',')
	}
	if v.update != nil && v.n == 1 {
		v.literals = append(v.literals, len(v.p.buf))
	}
	v.cols++
}

// Int adds an integer.
func (v *Values) Int(i int64) *Values {
	v.comma()
	v.p.buf = strconv.AppendInt(v.p.buf, i, 10)
	return v
}

// Bucket adds a bucket number.
func (v *Values) Bucket(b Bucket) *Values { return v.Int(int64(b)) }

// ASCII adds a string of an ASCII column: an owner, a key, a state.
func (v *Values) ASCII(s string) *Values {
	v.comma()
	v.p.buf = v.p.d.appendText(v.p.buf, s)
	return v
}

// Text adds a string of a UTF-8 column. It must be valid UTF-8 and have no NUL, which no JSON text has.
func (v *Values) Text(s []byte) *Values {
	v.comma()
	v.p.buf = v.p.d.appendText(v.p.buf, unsafe.String(unsafe.SliceData(s), len(s)))
	return v
}

// Binary adds a binary value.
func (v *Values) Binary(b []byte) *Values {
	v.comma()
	v.p.buf = v.p.d.appendBinary(v.p.buf, b)
	return v
}

// Null adds NULL.
func (v *Values) Null() *Values {
	v.comma()
	v.p.buf = append(v.p.buf, "NULL"...)
	return v
}

// End closes the statement; suffix is e.g. an ORDER BY or a further condition.
func (v *Values) End(suffix string) {
	v.finish(suffix)
	if v.write {
		v.p.stmts[len(v.p.stmts)-1].rows = v.n
		if v.counted && v.p.d.multi {
			v.p.guardCount()
		}
	}
}

// endAny closes a write that may change any number of rows.
func (v *Values) endAny(suffix string) {
	v.finish(suffix)
	v.p.stmts[len(v.p.stmts)-1].rows = anyRows
}

func (v *Values) finish(suffix string) {
	if v.update != nil && v.n == 1 {
		v.plainUpdate()
		v.p.close()
		return
	}
	v.p.buf = append(v.p.buf, ')')
	v.p.buf = append(v.p.buf, v.closing...)
	if v.update != nil {
		v.p.buf = v.p.d.closeUpdate(v.p.buf, v.update.table, v.update.keys, v.update.set)
	}
	v.p.buf = append(v.p.buf, suffix...)
	v.p.close()
}

// EndForUpdate closes a query whose rows stay locked until the transaction ends.
func (v *Values) EndForUpdate(suffix string) { v.End(suffix + v.p.d.forUpdate) }

// plainUpdate writes the statement anew for its only row: a join with a list of one value costs three times as much.
func (v *Values) plainUpdate() {
	row := append([]byte(nil), v.p.buf[v.literals[0]:]...)
	literal := func(i int) []byte {
		end := len(row)
		if i+1 < len(v.literals) {
			end = v.literals[i+1] - v.literals[0] - 1 // the comma
		}
		return row[v.literals[i]-v.literals[0] : end]
	}
	b := append(append(append(v.p.buf[:v.open], "UPDATE "...), v.update.table...), " SET "...)
	for i, c := range v.update.set {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, c...), '='), literal(len(v.update.keys)+i)...)
	}
	for i, c := range v.update.keys {
		joint := " AND "
		if i == 0 {
			joint = " WHERE "
		}
		b = append(append(append(append(b, joint...), c...), '='), literal(i)...)
	}
	v.p.buf = b
}

// guardCount lets the server itself compare the rows that the last write changed with what was intended. The counts
// are summed up in @bad, because COMMIT travels in the same packet and would be too late to stop in Go.
func (p *Packet) guardCount() {
	rows := p.stmts[len(p.stmts)-1].rows
	p.open(nil, anyRows)
	p.buf = append(p.buf, "SET @bad=@bad+(ROW_COUNT()<>"...)
	p.buf = strconv.AppendInt(p.buf, int64(rows), 10)
	p.buf = append(p.buf, ')')
	p.close()
}

// guard makes the packet fail with error 1242 (a subquery with two rows) before COMMIT if any count was wrong. It is a SET,
// because DO passes over the errors of its expressions.
func (p *Packet) guard() { p.exec("SET @bad=IF(@bad=0,0,(SELECT 1 UNION SELECT 2))") }

// text is the packet as one string. It stays valid only until the packet grows.
func (p *Packet) text() string { return unsafe.String(unsafe.SliceData(p.buf), len(p.buf)) }

// query sends the packet and scans its results in order.
func (p *Packet) query(ctx context.Context, c driver.Conn) error {
	if p.d.multi {
		return p.queryAll(ctx, c)
	}
	for _, s := range p.stmts {
		if err := p.runOne(ctx, c, s); err != nil {
			return err
		}
	}
	return nil
}

func (p *Packet) queryAll(ctx context.Context, c driver.Conn) (err error) {
	rows, err := c.(driver.QueryerContext).QueryContext(ctx, p.text(), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	next, first := rows.(driver.RowsNextResultSet), true
	for _, s := range p.stmts {
		if s.scan == nil {
			continue
		}
		if !first || len(rows.Columns()) == 0 {
			if err := next.NextResultSet(); err != nil {
				return fmt.Errorf("next result: %w", err)
			}
		}
		first = false
		if err := scanAll(rows, s.scan); err != nil {
			return err
		}
	}
	return nil
}

func (p *Packet) runOne(ctx context.Context, c driver.Conn, s stmt) error {
	sql := unsafe.String(unsafe.SliceData(p.buf[s.start:]), s.end-s.start)
	if s.scan == nil {
		res, err := c.(driver.ExecerContext).ExecContext(ctx, sql, nil)
		if err != nil || s.rows == anyRows {
			return err
		}
		n, err := res.RowsAffected()
		if err == nil && n != int64(s.rows) {
			return fmt.Errorf("%.60s: %d instead of %d: %w", sql, n, s.rows, errRowCount)
		}
		return err
	}
	rows, err := c.(driver.QueryerContext).QueryContext(ctx, sql, nil)
	if err != nil {
		return err
	}
	return errors.Join(scanAll(rows, s.scan), rows.Close())
}

// execAll sends a packet of writes whose last statement is COMMIT.
func (p *Packet) execAll(ctx context.Context, c driver.Conn) error {
	if !p.d.multi {
		return p.query(ctx, c)
	}
	res, err := c.(driver.ExecerContext).ExecContext(ctx, p.text(), nil)
	if err != nil {
		return err
	}
	if got := len(res.(mysql.Result).AllRowsAffected()); got != len(p.stmts) {
		return fmt.Errorf("%d results for %d statements: %w", got, len(p.stmts), mysql.ErrInvalidConn)
	}
	return nil
}

func scanAll(rows driver.Rows, scan func(*Row) error) error {
	r := Row{vals: make([]driver.Value, len(rows.Columns()))}
	for {
		switch err := rows.Next(r.vals); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		r.i = 0
		if err := scan(&r); err != nil {
			return err
		}
		if r.err != nil {
			return r.err
		}
	}
}

// Row gives the columns of one result row in order. A value of the wrong type makes the whole read fail.
type Row struct {
	vals []driver.Value
	i    int
	err  error
}

func (r *Row) next() driver.Value {
	if r.i >= len(r.vals) {
		r.err = errors.New("a row has fewer columns than are read")
		return nil
	}
	r.i++
	return r.vals[r.i-1]
}

// Int reads an integer; NULL reads as 0.
func (r *Row) Int() int64 {
	switch v := r.next().(type) {
	case int64:
		return v
	case uint64:
		return int64(v)
	case nil:
		return 0
	case []byte:
		n, err := strconv.ParseInt(string(v), 10, 64)
		r.err = errors.Join(r.err, err)
		return n
	default:
		r.err = fmt.Errorf("column %d is a %T, not an integer", r.i, v)
		return 0
	}
}

// Str reads a string; NULL reads as "".
func (r *Row) Str() string {
	switch v := r.next().(type) {
	case []byte:
		return string(v)
	case string:
		return v
	case nil:
		return ""
	default:
		r.err = fmt.Errorf("column %d is a %T, not a string", r.i, v)
		return ""
	}
}

// Bytes reads a copy of a binary or text value; NULL reads as nil.
func (r *Row) Bytes() []byte {
	switch v := r.next().(type) {
	case []byte:
		return append([]byte(nil), v...)
	case string:
		return []byte(v)
	case nil:
		return nil
	default:
		r.err = fmt.Errorf("column %d is a %T, not bytes", r.i, v)
		return nil
	}
}

// Array16 reads a value of exactly 16 bytes, an id; NULL reads as zero.
func (r *Row) Array16() (a [16]byte) {
	switch v := r.next().(type) {
	case []byte:
		if len(v) == len(a) {
			copy(a[:], v)
			return a
		}
		r.err = fmt.Errorf("column %d has %d bytes, not 16", r.i, len(v))
	case nil:
	default:
		r.err = fmt.Errorf("column %d is a %T, not 16 bytes", r.i, v)
	}
	return a
}
