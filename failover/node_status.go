package failover

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Status is what a node says of itself.
type Status struct {
	Answered bool // the server answers at all; if that came with an error, what follows SemiSync is not known

	StartID     string // under which it was started: another one is another process
	ServerID    uint32
	ReadOnly    bool
	Executed    GTID          // newest in its binary log
	Applied     GTID          // newest that it has applied as a replica
	ClockOffset time.Duration // its clock against ours; half the round trip uncertain
	SemiSync    SemiSync

	// Of the replica; zero if the node follows nobody.
	Received     GTID // newest that it has received in full; zero after a restart
	SourceAddr   string
	IORunning    string // Yes, No, Connecting, Preparing
	SQLRunning   bool
	IOErrno      int // 1236: its history is not a prefix of the primary's
	SQLErrno     int
	IOError      string
	SQLError     string
	ReceivedMark string // changes with whatever is received, heartbeats included

	// Of the fence row; zero if there is none.
	Epoch     uint64
	PrimaryID uint32
}

// stalled says that the appliers have stopped though nothing is wrong with what they apply: they have waited for a lock again and again,
// memory or disk were short, or somebody has stopped them. Those of a node that has just been started are not stalled: there is nothing
// for them yet.
func (s *Status) stalled() bool {
	waited := slices.Contains(passing, s.SQLErrno)
	stopped := s.SQLErrno == 0 && (s.receives() || s.Received.Compare(s.Executed) > 0)
	return !s.SQLRunning && (waited || stopped)
}

// receives says that there is a receiver, be it connected or not: the relay log is in use then.
func (s *Status) receives() bool { return s.IORunning != "" && s.IORunning != ioStopped }

// cannotApply says that the appliers have stopped for good: at an error that would be there again, or with a receiver that has stopped
// as well, as then nobody may start them; see applyAgain.
func (s *Status) cannotApply() bool {
	if s.stalled() {
		return !s.receives()
	}
	return s.SQLErrno != 0
}

// SemiSync is the state of semi-synchronous replication.
type SemiSync struct {
	PrimaryEnabled bool
	PrimaryOn      bool // it really waits; off after a timeout or a failed allocation
	ReplicaEnabled bool
	ReplicaOn      bool // what the server says, which is not true before receiving starts again
	Clients        int  // replicas that acknowledge, counted even if PrimaryEnabled is false
	WaitSessions   int
	YesTx, NoTx    uint64 // commits that were acknowledged, and that went on without
	TimeoutMS      uint64
	WaitPoint      string
}

// probeSQL is one packet. What tells that the server is alive comes first, because the third statement can hang in a healthy server;
// the last one fails where there is no schema yet. None of them locks rows.
const probeSQL = `SELECT @@global.report_user AS start_id, @@global.server_id AS server_id, @@global.read_only AS read_only,
  @@global.gtid_binlog_pos AS executed, @@global.gtid_slave_pos AS applied, CAST(UNIX_TIMESTAMP(SYSDATE(6))*1000000 AS SIGNED) AS now,
  @@global.rpl_semi_sync_master_enabled AS p_enabled, @@global.rpl_semi_sync_slave_enabled AS r_enabled,
  @@global.rpl_semi_sync_master_timeout AS timeout_ms, @@global.rpl_semi_sync_master_wait_point AS wait_point;
SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync%';
SHOW ALL SLAVES STATUS;
SELECT epoch, primary_id FROM {schema}.fence WHERE id=1`

// Probe asks the node how it is. It is quick or fails: ctx is the limit.
func (n *Node) Probe(ctx context.Context) (Status, error) {
	var status Status
	err := n.probe.use(ctx, func(conn *sql.Conn) (err error) {
		status, err = n.ask(ctx, conn)
		return err
	})
	return status, n.failed("probe", err)
}

func (n *Node) ask(ctx context.Context, conn *sql.Conn) (Status, error) {
	before := n.cfg.Now()
	sets, err := readSets(ctx, conn, n.inSchema(probeSQL))
	if isNumber(err, errUnknownDatabase, errUnknownTable) {
		err = nil // there is no schema yet
	}
	if err == nil && len(sets) == 0 {
		err = errAnswer
	}
	if len(sets) == 0 {
		return Status{}, err
	}
	middle := before.Add(n.cfg.Now().Sub(before) / 2)
	status, unreadable := n.status(sets, middle)
	return status, errors.Join(err, unreadable)
}

// errAnswer means that the server's answer is not what we know of it.
var errAnswer = errors.New("the server's answer has an unexpected form")

func (n *Node) status(sets [][]answer, now time.Time) (Status, error) {
	f := first(sets, 0)
	var p parser
	s := Status{
		Answered: true,
		StartID:  f["start_id"], ServerID: uint32(p.number(f["server_id"])), ReadOnly: isOn(f["read_only"]),
		Executed: p.gtid(f["executed"], n.cfg.Domain), Applied: p.gtid(f["applied"], n.cfg.Domain),
		ClockOffset: time.UnixMicro(int64(p.number(f["now"]))).Sub(now),
	}
	s.SemiSync = p.semiSync(f, second(sets))
	s.replica(&p, first(sets, 2), n.cfg.Domain)
	if fence := first(sets, 3); fence != nil {
		s.Epoch, s.PrimaryID = p.number(fence["epoch"]), uint32(p.number(fence["primary_id"]))
	}
	return s, p.err
}

func (p *parser) semiSync(f answer, state answer) SemiSync {
	return SemiSync{
		PrimaryEnabled: isOn(f["p_enabled"]), ReplicaEnabled: isOn(f["r_enabled"]),
		TimeoutMS: p.number(f["timeout_ms"]), WaitPoint: f["wait_point"],
		PrimaryOn: isOn(state["rpl_semi_sync_master_status"]), ReplicaOn: isOn(state["rpl_semi_sync_slave_status"]),
		Clients:      int(p.number(state["rpl_semi_sync_master_clients"])),
		WaitSessions: int(p.number(state["rpl_semi_sync_master_wait_sessions"])),
		YesTx:        p.number(state["rpl_semi_sync_master_yes_tx"]), NoTx: p.number(state["rpl_semi_sync_master_no_tx"]),
	}
}

// replica takes what a row of SHOW ALL SLAVES STATUS says; nil is no replica.
func (s *Status) replica(p *parser, f answer, domain uint32) {
	if f == nil {
		return
	}
	s.Received = p.gtid(f["Gtid_IO_Pos"], domain)
	s.SourceAddr = net.JoinHostPort(f["Master_Host"], f["Master_Port"])
	s.IORunning, s.SQLRunning = f["Slave_IO_Running"], isOn(f["Slave_SQL_Running"])
	s.IOErrno, s.SQLErrno = int(p.number(f["Last_IO_Errno"])), int(p.number(f["Last_SQL_Errno"]))
	s.IOError, s.SQLError = f["Last_IO_Error"], f["Last_SQL_Error"]
	s.ReceivedMark = strings.Join([]string{
		f["Master_Log_File"], f["Read_Master_Log_Pos"], f["Gtid_IO_Pos"], f["Slave_received_heartbeats"],
	}, "/")
}

// answer is a row, by the names of its columns.
type answer map[string]string

// readSets returns all results of a packet, and those before the error if there is one.
func readSets(ctx context.Context, conn *sql.Conn, statements string) ([][]answer, error) {
	rows, err := conn.QueryContext(ctx, statements)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var sets [][]answer
	for {
		set, err := readSet(rows)
		if err != nil {
			return sets, err
		}
		sets = append(sets, set)
		if !rows.NextResultSet() {
			return sets, rows.Err()
		}
	}
}

func readSet(rows *sql.Rows) ([]answer, error) {
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var set []answer
	values, targets := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		row := make(answer, len(columns))
		for i, column := range columns {
			row[column] = values[i].String
		}
		set = append(set, row)
	}
	return set, rows.Err()
}

// first is the first row of a result, or nil.
func first(sets [][]answer, number int) answer {
	if number >= len(sets) || len(sets[number]) == 0 {
		return nil
	}
	return sets[number][0]
}

// second is the second result, of names and values, as one row.
func second(sets [][]answer) answer {
	all := answer{}
	if len(sets) > 1 {
		for _, row := range sets[1] {
			all[strings.ToLower(row["Variable_name"])] = row["Value"]
		}
	}
	return all
}

// parser keeps the first error of many conversions.
type parser struct{ err error }

func (p *parser) number(text string) uint64 {
	if text == "" {
		return 0 // SQL's NULL, or a status variable of a plugin that is not loaded
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		p.fail(err)
	}
	return value
}

func (p *parser) gtid(list string, domain uint32) GTID {
	g, err := ParseGTID(list, domain)
	if err != nil {
		p.fail(err)
	}
	return g
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: %w", errAnswer, err)
	}
}

// isOn reads the forms in which releases and statements spell a truth.
func isOn(text string) bool {
	return text == "1" || strings.EqualFold(text, "ON") || strings.EqualFold(text, "YES")
}
