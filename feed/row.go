package feed

import (
	"database/sql"
	"fmt"
	"slices"
)

// Row is a row as it was before or after a change. The zero Row is not there.
type Row struct {
	columns []string
	values  []any // signed and unsigned integers, floats, string, []byte, nil; times as the server writes them
}

// Exists says whether there is a row: an insert has none before, a delete none after.
func (r Row) Exists() bool { return r.columns != nil }

// Columns are the names of the columns, in the order of the table.
func (r Row) Columns() []string { return slices.Clone(r.columns) }

// Value returns a value as it was read; false if there is no such column.
func (r Row) Value(column string) (any, bool) {
	i := slices.Index(r.columns, column)
	if i < 0 {
		return nil, false
	}
	return r.values[i], true
}

// Into says where the values of columns go: to an *int64, *uint64, *string, *[]byte, *bool, or a sql.Scanner such as *sql.Null.
type Into map[string]any

// Scan copies columns. A column that is not there, NULL where it cannot be said, and a number that does not fit are errors: the table
// is not what the program was made for.
func (r Row) Scan(into Into) error {
	for column, to := range into {
		value, ok := r.Value(column)
		if !ok {
			return fmt.Errorf("there is no column %s", column)
		}
		if err := scan(to, value); err != nil {
			return fmt.Errorf("column %s: %w", column, err)
		}
	}
	return nil
}

func scan(to, value any) error {
	switch to := to.(type) {
	case sql.Scanner:
		return to.Scan(plain(value))
	case *int64:
		n, err := integer(value)
		*to = n
		return err
	case *uint64:
		n, err := integer(value)
		if u, ok := value.(uint64); ok {
			*to = u
			return nil
		}
		if err == nil && n < 0 {
			return fmt.Errorf("%d is negative", n)
		}
		*to = uint64(n)
		return err
	case *bool:
		n, err := integer(value)
		*to = n != 0
		return err
	case *string:
		text, err := text(value)
		*to = string(text)
		return err
	case *[]byte:
		text, err := text(value)
		*to = slices.Clone(text)
		return err
	}
	return fmt.Errorf("cannot be copied to a %T", to)
}

// plain is a value as drivers of databases have it.
func plain(value any) any {
	if n, err := integer(value); err == nil {
		return n
	}
	return value
}

func integer(value any) (int64, error) {
	switch v := value.(type) {
	case int8:
		return int64(v), nil
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case int64:
		return v, nil
	case uint8:
		return int64(v), nil
	case uint16:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case uint64:
		if v > 1<<63-1 {
			return 0, fmt.Errorf("%d does not fit", v)
		}
		return int64(v), nil
	}
	return 0, fmt.Errorf("a %T is no integer", value)
}

func text(value any) ([]byte, error) {
	switch v := value.(type) {
	case string:
		return []byte(v), nil
	case []byte:
		return v, nil
	}
	return nil, fmt.Errorf("a %T is no text", value)
}
