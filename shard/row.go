package shard

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
)

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
