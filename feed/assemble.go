package feed

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/statesvc/statesvc/shard"
)

// errUnreadable: a wanted table was changed, and the log does not show the rows.
var errUnreadable = errors.New("a change is not readable")

// part is what the newest event has added to a transaction.
type part struct {
	gtid        GTID
	committedAt time.Time
	changes     []Change
	bytes       int  // about what the changes take in memory
	ends        bool // the transaction is over
	undone      bool // … and came to nothing
}

// assembler makes transactions of events. It does no IO.
type assembler struct {
	schema string
	tables map[string]Table
	table  *regexp.Regexp // finds the name of a wanted table in a statement
	home   *regexp.Regexp // … and that of the schema

	gtid        GTID // of the transaction under way
	committedAt time.Time
	standalone  bool // it is a single statement
	open        bool // its end was not read yet
	wanted      bool // it has wanted changes
}

func newAssembler(schema string, tables []Table) *assembler {
	a := &assembler{schema: schema, tables: map[string]Table{}}
	var names []string
	for _, t := range tables {
		a.tables[t.Name] = t
		names = append(names, t.Name)
	}
	a.table, a.home = mention(names...), mention(schema)
	return a
}

// mention finds any of the names in a statement.
func mention(names ...string) *regexp.Regexp {
	for i, name := range names {
		names[i] = regexp.QuoteMeta(name)
	}
	return regexp.MustCompile(`(?i)\b(` + strings.Join(names, "|") + `)\b`)
}

// wants says whether rows of a table are looked at. It is called by the reader of the stream.
func (a *assembler) wants(t *replication.TableMapEvent) bool {
	_, ok := a.tables[string(t.Table)]
	return ok && string(t.Schema) == a.schema
}

// add takes the next event. It returns nil if the event adds nothing to a transaction, and errUnreadable if it hides changes.
func (a *assembler) add(e *replication.BinlogEvent) (*part, error) {
	switch event := e.Event.(type) {
	case *replication.MariadbGTIDEvent:
		if a.open {
			return nil, fmt.Errorf("transaction %s has no end: %w", a.gtid, errUnreadable)
		}
		a.open, a.wanted = true, false
		a.gtid = GTID{event.GTID.DomainID, event.GTID.ServerID, event.GTID.SequenceNumber}
		a.committedAt = time.Unix(int64(e.Header.Timestamp), 0).UTC()
		a.standalone = event.IsStandalone()
		return &part{gtid: a.gtid, committedAt: a.committedAt}, nil
	case *replication.RowsEvent:
		if !a.wants(event.Table) {
			return nil, nil
		}
		changes, err := a.changes(event)
		if err != nil {
			return nil, fmt.Errorf("transaction %s: %w", a.gtid, err)
		}
		a.wanted = true
		return &part{gtid: a.gtid, committedAt: a.committedAt, changes: changes, bytes: len(e.RawData)}, nil
	case *replication.XIDEvent:
		return a.end(false), nil
	case *replication.QueryEvent:
		return a.query(string(event.Schema), string(event.Query))
	}
	if e.Header.EventType == replication.XA_PREPARE_LOG_EVENT { // whether it is committed, another transaction says
		if a.wanted {
			return nil, fmt.Errorf("transaction %s is a distributed one: %w", a.gtid, errUnreadable)
		}
		return a.end(false), nil
	}
	return nil, nil
}

func (a *assembler) end(undone bool) *part {
	a.open = false
	return &part{gtid: a.gtid, committedAt: a.committedAt, ends: true, undone: undone}
}

// query takes a statement. In a log of rows there are few: what defines tables, and what ends transactions without an XID.
func (a *assembler) query(schema, text string) (*part, error) {
	words := strings.Fields(strings.ToUpper(uncommented(text)))
	if !a.standalone {
		switch strings.Join(words, " ") {
		case "COMMIT":
			return a.end(false), nil
		case "ROLLBACK":
			return a.end(true), nil
		}
	}
	if a.touches(schema, text) && hidesRows(words) {
		return nil, fmt.Errorf("transaction %s is %.60q: %w", a.gtid, text, errUnreadable)
	}
	if a.standalone {
		return a.end(false), nil
	}
	return nil, nil
}

// touches says whether a statement may be about a wanted table, or the whole schema. It says so once too often rather than too seldom.
func (a *assembler) touches(schema, text string) bool {
	return a.home.MatchString(text) || schema == a.schema && a.table.MatchString(text)
}

// uncommented is a statement without comments in front of it.
func uncommented(text string) string {
	for {
		text = strings.TrimSpace(text)
		_, after, closed := strings.Cut(text, "*/")
		if !strings.HasPrefix(text, "/*") || !closed {
			return text
		}
		text = after
	}
}

// hidesRows says whether a statement about wanted tables changes rows that are not in the log.
func hidesRows(words []string) bool {
	second := ""
	if len(words) > 1 {
		second = words[1]
	}
	switch words[0] {
	case "INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "TRUNCATE", "RENAME":
		return true
	case "DROP":
		return slices.Contains([]string{"TABLE", "DATABASE", "SCHEMA"}, second)
	case "CREATE":
		return second == "OR" && slices.Contains(words, "TABLE")
	case "ALTER":
		return slices.Contains(words, "PARTITION") || slices.Contains(words, "RENAME")
	}
	return false
}

// changes are those of a rows event of a wanted table.
func (a *assembler) changes(e *replication.RowsEvent) ([]Change, error) {
	columns := e.Table.ColumnNameString()
	if len(columns) != int(e.Table.ColumnCount) {
		return nil, fmt.Errorf("rows of %s are without names (binlog_row_metadata=FULL): %w", e.Table.Table, errUnreadable)
	}
	for _, skipped := range e.SkippedColumns {
		if len(skipped) > 0 {
			return nil, fmt.Errorf("rows of %s are not whole (binlog_row_image=FULL): %w", e.Table.Table, errUnreadable)
		}
	}
	fill(e)
	row := func(i int) Row { return Row{columns, e.Rows[i]} }
	table := a.tables[string(e.Table.Table)]
	var list []Change
	switch e.Type() {
	case replication.EnumRowsEventTypeInsert:
		for i := range e.Rows {
			list = append(list, Change{Table: table.Name, After: row(i)})
		}
	case replication.EnumRowsEventTypeDelete:
		for i := range e.Rows {
			list = append(list, Change{Table: table.Name, Before: row(i)})
		}
	case replication.EnumRowsEventTypeUpdate:
		for i := 0; i+1 < len(e.Rows); i += 2 {
			list = append(list, Change{Table: table.Name, Before: row(i), After: row(i + 1)})
		}
	default:
		return nil, fmt.Errorf("rows of %s are of an unknown kind: %w", e.Table.Table, errUnreadable)
	}
	for i := range list {
		list[i].Bucket = bucketOf(list[i])
		list[i].Unversioned = table.broken(list[i]) != ""
	}
	return list, nil
}

// fill gives values of BINARY columns their length back: the log leaves out the zeros at their ends.
func fill(e *replication.RowsEvent) {
	const binary = 63 // the collation
	for i, collation := range e.Table.CollationMap() {
		if collation != binary || e.Table.ColumnType[i] != mysql.MYSQL_TYPE_STRING {
			continue
		}
		length := int(e.Table.ColumnMeta[i] & 0xff)
		for _, row := range e.Rows {
			if v, ok := row[i].(string); ok && len(v) < length {
				row[i] = v + strings.Repeat("\x00", length-len(v))
			}
		}
	}
}

func bucketOf(c Change) shard.Bucket {
	row := c.After
	if !row.Exists() {
		row = c.Before
	}
	value, _ := row.Value("bucket")
	n, _ := integer(value) // a table without buckets
	return shard.Bucket(n)
}

// broken says which rule of its table a change breaks, or nothing.
func (t Table) broken(c Change) string {
	if !c.Before.Exists() {
		return ""
	}
	if t.AppendOnly {
		return "a row that is written once was changed or deleted"
	}
	if t.Version == "" || !c.After.Exists() {
		return ""
	}
	before, _ := c.Before.Value(t.Version)
	after, _ := c.After.Value(t.Version)
	was, err1 := integer(before)
	is, err2 := integer(after)
	if err1 != nil || err2 != nil || is <= was {
		return fmt.Sprintf("a row was changed and its %s went from %v to %v", t.Version, before, after)
	}
	return ""
}
