package shard

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"unsafe"

	"github.com/go-sql-driver/mysql"
)

// On MariaDB a packet is sent in one of two ways, statement by statement:
//
// A short list travels as text, many statements in one packet: one round trip, which is what counts for a batch of a few.
//
// A long list would keep the server busy with parsing: half of what a lookup of 256 keys costs it. It is therefore executed as a
// prepared statement, in a round trip of its own, which many operations share. A connection keeps one for each shape and each of a
// few sizes: lists of keys are filled up with NULLs, which match no row, and an INSERT goes in chunks, the rest of it with the text.
var (
	listSizes   = []int{256, 192, 128, 64, 32}
	insertSizes = []int{256, 128, 64, 32, 16}
)

// leastPrepared is the shortest list that is prepared; one that is shorter costs less to parse than another round trip.
const leastPrepared = 20

// prepared are the prepared statements of one connection. They go when it does.
type prepared map[preparedKey]driver.Stmt

type preparedKey struct {
	shape shape
	kinds string // see kindsOf
	rows  int
}

// send runs the packet on c. With no prepared statements everything is sent as text.
func (p *Packet) send(ctx context.Context, c driver.Conn, ready prepared) error {
	if !p.d.multi {
		return p.sendEach(ctx, c)
	}
	s := sending{Packet: p, conn: c, ready: ready}
	p.text = p.text[:0]
	for i := range p.stmts {
		if err := s.statement(ctx, &p.stmts[i]); err != nil {
			return err
		}
	}
	p.commitsSent = p.commits
	return s.flush(ctx)
}

// sending is a packet on its way to MariaDB.
type sending struct {
	*Packet
	conn  driver.Conn
	ready prepared

	texts int                // statements that wait in text
	scans []func(*Row) error // of the queries among them
	late  bool               // what waits in text must be sent before anything else runs
}

func (s *sending) statement(ctx context.Context, st *stmt) error {
	s.late = s.late || st.after && s.texts > 0
	done := 0
	if s.ready != nil && st.rows >= leastPrepared {
		if kinds, ok := s.kindsOf(st); ok {
			var err error
			if done, err = s.chunks(ctx, st, kinds); err != nil {
				return err
			}
		}
	}
	if st.shape.verb == verbText || done < st.rows {
		s.wait(st, done)
	}
	return nil
}

// chunks runs a list as prepared statements, and returns how many of its rows that were. The rest goes with the text.
func (s *sending) chunks(ctx context.Context, st *stmt, kinds string) (done int, err error) {
	if s.late {
		if err := s.flush(ctx); err != nil {
			return 0, err
		}
	}
	for {
		size := chunkSize(st.shape.verb, st.rows-done)
		if size == 0 {
			return done, nil
		}
		rows := min(size, st.rows-done)
		switch err := s.execute(ctx, st, kinds, done, rows, size); {
		case isNoRoom(err):
			return done, nil
		case err != nil:
			return done, err
		}
		done += rows
	}
}

// chunkSize chooses the size of the next prepared statement for the rows that are left, 0 for none. A list of keys is filled up
// to it.
func chunkSize(v verb, rows int) int {
	if v == verbInsert {
		for _, size := range insertSizes {
			if size <= rows {
				return size
			}
		}
		return 0
	}
	if rows == 0 {
		return 0
	}
	best := listSizes[0]
	for _, size := range listSizes {
		if size >= rows {
			best = size
		}
	}
	return best
}

func (s *sending) execute(ctx context.Context, st *stmt, kinds string, from, rows, size int) error {
	ready, err := s.prepare(ctx, preparedKey{st.shape, kinds, size}, st.cols)
	if err != nil {
		return err
	}
	args := append(s.bound[:0], s.args[st.first+from*st.cols:st.first+(from+rows)*st.cols]...)
	for len(args) < size*st.cols {
		args = append(args, driver.NamedValue{})
	}
	for i := range args {
		args[i].Ordinal = i + 1
	}
	s.bound = args
	if st.scan != nil {
		result, err := ready.(driver.StmtQueryContext).QueryContext(ctx, args)
		if err != nil {
			return err
		}
		return errors.Join(scanAll(result, st.scan), result.Close())
	}
	result, err := ready.(driver.StmtExecContext).ExecContext(ctx, args)
	if err != nil || !st.exact {
		return err
	}
	return checkCount(st, result, rows)
}

func (s *sending) prepare(ctx context.Context, key preparedKey, cols int) (driver.Stmt, error) {
	if ready := s.ready[key]; ready != nil {
		return ready, nil
	}
	text := s.d.appendShape(nil, &key.shape, listing{rows: key.rows, cols: cols, typed: key.kinds, placeholders: true})
	ready, err := s.conn.(driver.ConnPrepareContext).PrepareContext(ctx, string(text))
	if err == nil {
		s.ready[key] = ready
	}
	return ready, err
}

// isNoRoom reports that all connections together have as many prepared statements as the server allows (max_prepared_stmt_count).
func isNoRoom(err error) bool {
	my, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && my.Number == 1461
}

func checkCount(st *stmt, result driver.Result, want int) error {
	n, err := result.RowsAffected()
	if err == nil && n != int64(want) {
		return fmt.Errorf("%s: %d instead of %d: %w", st.shape.from, n, want, errRowCount)
	}
	return err
}

// wait adds a statement to the text, from row first on.
func (s *sending) wait(st *stmt, first int) {
	s.text = append(s.d.appendShape(s.text, &st.shape, s.listing(st, first)), ';')
	s.texts++
	if st.scan != nil {
		s.scans = append(s.scans, st.scan)
	}
	if st.counted() {
		s.text = appendCountGuard(s.text, st.rows-first)
		s.texts++
	}
}

// listing is the rows of a statement with their values, from row first on.
func (p *Packet) listing(st *stmt, first int) listing {
	return listing{rows: st.rows - first, cols: st.cols, values: p.args[st.first+first*st.cols : st.first+st.rows*st.cols]}
}

// flush sends what waits in text.
func (s *sending) flush(ctx context.Context) error {
	if s.texts == 0 {
		return nil
	}
	text := unsafe.String(unsafe.SliceData(s.text), len(s.text)) // it does not grow before the answer is there
	var err error
	if len(s.scans) > 0 {
		err = s.query(ctx, text)
	} else {
		err = s.exec(ctx, text)
	}
	s.text, s.scans, s.texts, s.late = s.text[:0], s.scans[:0], 0, false
	return err
}

func (s *sending) exec(ctx context.Context, text string) error {
	result, err := s.conn.(driver.ExecerContext).ExecContext(ctx, text, nil)
	if err != nil {
		return err
	}
	if got := len(result.(mysql.Result).AllRowsAffected()); got != s.texts {
		return fmt.Errorf("%d results for %d statements: %w", got, s.texts, mysql.ErrInvalidConn)
	}
	return nil
}

func (s *sending) query(ctx context.Context, text string) (err error) {
	rows, err := s.conn.(driver.QueryerContext).QueryContext(ctx, text, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for i, scan := range s.scans {
		if i > 0 || len(rows.Columns()) == 0 { // the first result may be that of a statement without rows
			if err := rows.(driver.RowsNextResultSet).NextResultSet(); err != nil {
				return fmt.Errorf("next result: %w", err)
			}
		}
		if err := scanAll(rows, scan); err != nil {
			return err
		}
	}
	return nil
}

// sendEach runs the statements one by one.
func (p *Packet) sendEach(ctx context.Context, c driver.Conn) error {
	for i := range p.stmts {
		st := &p.stmts[i]
		p.commitsSent = p.commits && i == len(p.stmts)-1
		p.text = p.d.appendShape(p.text[:0], &st.shape, p.listing(st, 0))
		if err := runEach(ctx, c, st, unsafe.String(unsafe.SliceData(p.text), len(p.text))); err != nil {
			return err
		}
	}
	return nil
}

func runEach(ctx context.Context, c driver.Conn, st *stmt, text string) error {
	if st.scan != nil {
		rows, err := c.(driver.QueryerContext).QueryContext(ctx, text, nil)
		if err != nil {
			return err
		}
		return errors.Join(scanAll(rows, st.scan), rows.Close())
	}
	result, err := c.(driver.ExecerContext).ExecContext(ctx, text, nil)
	if err != nil || !st.exact {
		return err
	}
	return checkCount(st, result, st.rows)
}

// kindsOf names the type of each column of a list, one letter each: the server must know them before it sees values, or else it
// takes those of the first values, with their lengths. An insert needs none: it has those of its table. ok says whether the
// list can be prepared at all, which a value that is too long for its type prevents.
func (s *sending) kindsOf(st *stmt) (kinds string, ok bool) {
	if st.shape.verb == verbInsert {
		return "", true
	}
	of := make([]byte, st.cols)
	for i := range of {
		of[i] = kindNull
	}
	args := s.args[st.first : st.first+st.rows*st.cols]
	for i := range args {
		switch v := args[i].Value.(type) {
		case int64:
			of[i%st.cols] = kindInt
		case string:
			if len(v) > widestASCII {
				return "", false
			}
			of[i%st.cols] = kindASCII
		case []byte:
			if len(v) > widestBinary {
				return "", false
			}
			of[i%st.cols] = kindBinary
		}
	}
	return string(of), true
}
