package shard

import (
	"database/sql/driver"
	"errors"
)

// errRowCount: a write touched another number of rows than apply intended.
var errRowCount = errors.New("a write changed another number of rows than intended")

// Packet collects statements that travel together. Values are added by typed methods only and never become part of a
// statement's text by concatenation, so there is no place where a value could become SQL.
//
// On MariaDB a small packet is one round trip; the lists of a large batch are sent as prepared statements (see send.go). On
// SQLite the statements run one by one. The effect is the same: in order, and nothing after the first error.
type Packet struct {
	d     *Dialect
	clock string // SQL of the server's time, without the floor
	stmts []stmt
	args  []driver.NamedValue // of all statements
	bytes int                 // about what the values take on the wire
	then  bool                // the next statement must come after all before it
	text  []byte              // room for statements with their values in them
	bound []driver.NamedValue // room for the values of a prepared statement

	commits     bool // the last statement is COMMIT
	commitsSent bool // from now on only an answer tells whether the transaction took place
}

// stmt is one statement with its list of rows.
type stmt struct {
	shape shape
	scan  func(*Row) error // queries: called for each row of the result
	first int              // its first value in Packet.args
	cols  int              // values per row
	rows  int
	after bool // it must come after all before it
	exact bool // writes: as many rows as it lists must change
}

// counted says that a write may change fewer rows than it lists without an error.
func (s *stmt) counted() bool {
	return s.exact && (s.shape.verb == verbUpdate || s.shape.verb == verbDelete)
}

// verb is what a statement does.
type verb uint8

const (
	verbText verb = iota // no values: the text is in columns
	verbLookup
	verbInsert
	verbUpdate
	verbDelete
)

// shape is a statement without its rows. It is comparable: equal shapes have equal texts for equally many rows.
type shape struct {
	verb    verb
	columns string // selected, inserted or set
	from    string // the table
	index   string
	keys    string
	joins   string
	where   string
	tail    string
}

// Lookup is a query that finds rows of a table by exact key. Its index is forced: the optimizer may prefer to read a whole table
// that is small today, and would then lock more rows than were asked for. A key that is listed twice gives its row twice.
type Lookup struct {
	Columns string // what is selected
	From    string // the table, with an alias if Joins needs one
	Index   string // the index to use
	Keys    string // the key's columns, separated by ", "
	Joins   string // further tables
	Where   string // a further condition
	Tail    string // e.g. GROUP BY
}

func newPacket(d *Dialect) *Packet { return &Packet{d: d} }

// reset empties the packet and keeps its memory, unless one large batch has made it huge.
func (p *Packet) reset() {
	const keepBytes, keepArgs = 4 << 20, 64 << 10
	if cap(p.text) > keepBytes {
		p.text = nil
	}
	if cap(p.args) > keepArgs {
		p.args, p.bound = nil, nil
	}
	clear(p.args) // they refer to documents
	clear(p.bound)
	clear(p.stmts)
	p.stmts, p.args = p.stmts[:0], p.args[:0]
	p.bytes, p.then, p.commits, p.commitsSent = 0, false, false, false
}

// Empty reports whether nothing was added.
func (p *Packet) Empty() bool { return len(p.stmts) == 0 }

// Now is the SQL of the batch's time, in microseconds. It is the same in all queries of a batch: what becomes due between two of
// them must not be missed by both.
func (p *Packet) Now() string {
	if p.d.batchNow != "" {
		return p.d.batchNow
	}
	return p.d.greatest + "(" + p.clock + ",(SELECT floor_at FROM fence WHERE id=1))"
}

// Then says that the statements that follow must come after those before. Without it their order is free, which saves round
// trips.
func (p *Packet) Then() { p.then = true }

func (p *Packet) add(s stmt) {
	s.first, s.after = len(p.args), p.then
	p.then = false
	p.stmts = append(p.stmts, s)
}

// exec adds a statement without values.
func (p *Packet) exec(sql string) { p.add(stmt{shape: shape{columns: sql}}) }

// commit adds COMMIT, the last statement, behind a guard that fails with error 1242 (a subquery with two rows) if a write changed
// another number of rows than intended. The guard is a SET, because DO passes over the errors of its expressions.
func (p *Packet) commit() {
	p.Then()
	if p.d.multi {
		p.exec("SET @bad=IF(@bad=0,0,(SELECT 1 UNION SELECT 2))")
	}
	p.exec("COMMIT")
	p.commits = true
}

// Query adds a query without values. scan is called for every row of the result.
func (p *Packet) Query(sql string, scan func(*Row) error) {
	p.add(stmt{shape: shape{columns: sql}, scan: scan})
}

// Select adds a lookup. The keys follow by Row; there must be at least one. scan is called for every row of the result.
func (p *Packet) Select(l Lookup, scan func(*Row) error) Values {
	p.add(stmt{scan: scan, shape: shape{
		verb: verbLookup, columns: l.Columns, from: l.From, index: l.Index, keys: l.Keys, joins: l.Joins, where: l.Where, tail: l.Tail,
	}})
	return Values{p}
}

// SelectForUpdate is Select whose rows stay locked until the transaction ends. They are locked in the order of the keys as listed.
func (p *Packet) SelectForUpdate(l Lookup, scan func(*Row) error) Values {
	l.Tail += p.d.forUpdate
	return p.Select(l, scan)
}

// selectShared is Select whose rows cannot be changed by others until the transaction ends.
func (p *Packet) selectShared(l Lookup, scan func(*Row) error) Values {
	l.Tail += p.d.shareLock
	return p.Select(l, scan)
}

// Insert adds an INSERT of the rows that follow.
func (p *Packet) Insert(table, columns string) Values {
	p.add(stmt{exact: true, shape: shape{verb: verbInsert, from: table, columns: columns}})
	return Values{p}
}

// insertNew is Insert that leaves rows as they are which are already there; keep is the dialect's word for it.
func (p *Packet) insertNew(table, columns, keep string) Values {
	p.add(stmt{shape: shape{verb: verbInsert, from: table, columns: columns, tail: keep}})
	return Values{p}
}

// Update adds an UPDATE of the rows that follow: each gives the columns of its primary key, then those to set, in this order. keys
// and set are separated by ", ". A row that is not there is an error and not made.
func (p *Packet) Update(table, keys, set string) Values {
	p.add(stmt{exact: true, shape: shape{verb: verbUpdate, from: table, keys: keys, columns: set}})
	return Values{p}
}

// Delete adds a DELETE of the rows whose primary keys follow. A row that is not there is an error.
func (p *Packet) Delete(table, keys string) Values {
	p.add(stmt{exact: true, shape: shape{verb: verbDelete, from: table, keys: keys}})
	return Values{p}
}

// deleteIfThere is Delete of rows that may be gone.
func (p *Packet) deleteIfThere(table, keys string) Values {
	p.add(stmt{shape: shape{verb: verbDelete, from: table, keys: keys}})
	return Values{p}
}

// Values adds rows to the statement that was added last.
type Values struct{ p *Packet }

// Row starts the next row. All rows of a statement have equally many values.
func (v Values) Row() Values {
	v.p.stmts[len(v.p.stmts)-1].rows++
	return v
}

func (v Values) add(value driver.Value, bytes int) Values {
	p := v.p
	s := &p.stmts[len(p.stmts)-1]
	if s.rows == 1 {
		s.cols++
	}
	p.args = append(p.args, driver.NamedValue{Value: value})
	p.bytes += bytes
	return v
}

// Int adds an integer.
func (v Values) Int(i int64) Values { return v.add(i, 20) }

// Bucket adds a bucket number.
func (v Values) Bucket(b Bucket) Values { return v.Int(int64(b)) }

// ASCII adds a string of an ASCII column: an owner, a key, a state.
func (v Values) ASCII(s string) Values { return v.add(s, len(s)+3) }

// Binary adds a value of a binary column. It must not change before the packet was sent.
func (v Values) Binary(b []byte) Values {
	if b == nil {
		b = []byte{}
	}
	return v.add(b, len(b)+3)
}

// Null adds NULL.
func (v Values) Null() Values { return v.add(nil, 4) }
