package feed

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// markSQL commits a marker: it locks one row of clock, which never goes back. It writes nothing if the shard is not at the epoch any
// more.
const markSQL = `INSERT INTO clock (source, at)
  SELECT ?, CAST(UNIX_TIMESTAMP(SYSDATE(6))*1000000 AS SIGNED) FROM fence WHERE id=1 AND epoch=?
  ON DUPLICATE KEY UPDATE at=GREATEST(clock.at+1, VALUES(at))`

// settingsSQL asks for what the log must have been written with.
const settingsSQL = `SELECT @@global.log_bin, @@global.binlog_format, @@global.binlog_row_image, @@global.binlog_row_metadata`

var (
	errSettings = errors.New("the settings of the server do not allow a feed")
	errStale    = errors.New("the shard is not at the epoch of the route")
)

// marker commits markers over one connection, which is never replaced: as long as it lives, the server is the process that it was when
// the stream was opened.
type marker struct {
	pool   *sql.DB
	conn   *sql.Conn
	source string
	epoch  uint64
	now    func() time.Time
}

// openMarker connects to a server and looks at its settings.
func openMarker(ctx context.Context, cfg *mysql.Config, source string, epoch uint64, now func() time.Time) (*marker, error) {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	m := &marker{pool: sql.OpenDB(connector), source: source, epoch: epoch, now: now}
	opening, cancel := context.WithTimeout(ctx, silenceMax)
	defer cancel()
	if m.conn, err = m.pool.Conn(opening); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to %s: %w", cfg.Addr, err), m.pool.Close())
	}
	if err := m.checkSettings(opening); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *marker) checkSettings(ctx context.Context) error {
	var isOn, format, image, metadata string
	if err := m.conn.QueryRowContext(ctx, settingsSQL).Scan(&isOn, &format, &image, &metadata); err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	got := strings.ToUpper(strings.Join([]string{isOn, format, image, metadata}, " "))
	if got != "1 ROW FULL FULL" {
		return fmt.Errorf("%w: log_bin, binlog_format, binlog_row_image and binlog_row_metadata are %s, and must be 1 ROW FULL FULL",
			errSettings, got)
	}
	return nil
}

// commit commits a marker, and returns when it was acknowledged. It waits for as long as ctx lives: giving up would leave a session that
// waits on the server, and the next marker would wait for that one.
func (m *marker) commit(ctx context.Context) (proof, error) {
	made := proof{begunAt: m.now()}
	result, err := m.conn.ExecContext(ctx, markSQL, m.source, m.epoch)
	if err != nil {
		return proof{}, fmt.Errorf("commit a marker: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return proof{}, errors.Join(errStale, err)
	}
	var text string
	if err := m.conn.QueryRowContext(ctx, "SELECT @@last_gtid").Scan(&text); err != nil {
		return proof{}, fmt.Errorf("ask for the marker's place: %w", err)
	}
	made.gtid, err = parseGTID(text)
	return made, err
}

// here returns a position that cannot be lost, and a marker at its end. What is in front of it is visible to every read that begins
// after this.
func (m *marker) here(ctx context.Context) (Position, proof, error) {
	var text string
	if err := m.conn.QueryRowContext(ctx, "SELECT @@global.gtid_binlog_pos").Scan(&text); err != nil {
		return "", proof{}, fmt.Errorf("ask for the end of the binary log: %w", err)
	}
	made, err := m.commit(ctx) // everything that was in the log before it
	if err != nil {
		return "", proof{}, err
	}
	all, err := Position(text).gtids()
	if err != nil {
		return "", proof{}, err
	}
	all[made.gtid.Domain] = made.gtid
	return positionOf(all), made, nil
}

// close cuts the connection. A marker that waits goes on waiting on the server.
func (m *marker) close() {
	_ = m.conn.Close()
	_ = m.pool.Close()
}
