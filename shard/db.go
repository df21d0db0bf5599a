package shard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	lite "github.com/glebarez/sqlite"
	my "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// DB is the database of one shard: a pool of connections for batches, one for reads, and the dialect.
type DB struct {
	Dialect *Dialect
	writes  *sql.DB
	reads   *sql.DB
	orm     *gorm.DB
	now     func() time.Time

	wires    *wires    // of MariaDB; nil: the database is in this process
	observer *observer // of reads; nil: nobody looks
	folder   string    // of the file of a SQLite shard

	turn *sync.Mutex // whose turn it is to write to a SQLite shard, whose own lock lets a busy lane starve others; nil: MariaDB
}

// Limits of the pools. Lanes hold one connection each; the resolver and the sweeper borrow a few more.
const (
	maxWriteConns = 16
	maxReadConns  = 32
	connLifetime  = 30 * time.Minute
	warmPatience  = time.Second // as for a single connection; a candidate that takes longer is not about to serve
)

// sessionVariables are set on every MariaDB connection, with their reasons.
var sessionVariables = map[string]string{
	"tx_isolation": "'READ-COMMITTED'", // no gap locks; see doc.go
	"time_zone":    "'+00:00'",
	"sql_mode":     "'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
	// An IN list of a read must stay a range over the key and not become a subquery.
	"in_predicate_conversion_threshold": "0",
	// All values are ASCII or binary, and so are all columns. In this collation they are compared as they are; in the default one
	// each would be converted, which costs a third of a lookup, and binary values would lose bytes.
	"collation_connection": "'ascii_bin'",
	"character_set_client": "'ascii'",
	// A lock wait must end before the round trip it is in, so that it is told apart from a dead server and tried again.
	"innodb_lock_wait_timeout": "1",
	// An instance that stops between its round trips loses its rows. idle_write_transaction_timeout is not enough: a
	// transaction that has only locked rows, as after round trip 1, does not count as a writing one.
	"idle_transaction_timeout": "3",
}

// OpenMariaDB opens the pools of a MariaDB shard. dsn is "user:password@tcp(host:port)/schema"; every other setting is
// ours, and a dsn that carries its own is refused, because many of them break a promise (docs/operations.md).
func OpenMariaDB(dsn string, now func() time.Time) (*DB, error) {
	cfg, err := mariaConfig(dsn)
	if err != nil {
		return nil, err
	}
	return openMariaDB(cfg, now)
}

// OpenMariaDBAt is OpenMariaDB at another address: the nodes of a shard have user, password and schema in common. What is no
// host:port leaves the address of the DSN, as records have it that were made before there was failover.
func OpenMariaDBAt(dsn, address string, now func() time.Time) (*DB, error) {
	cfg, err := mariaConfig(dsn)
	if err != nil {
		return nil, err
	}
	if _, port, err := net.SplitHostPort(address); err == nil && isNumber(port) {
		cfg.Net, cfg.Addr = "tcp", address
	}
	return openMariaDB(cfg, now)
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func openMariaDB(cfg *my.Config, now func() time.Time) (*DB, error) {
	wires := newWires()
	cfg.DialFunc = wires.dial
	// A connector and not a DSN, which would lose the logger.
	pool := func() (*sql.DB, error) {
		connector, err := my.NewConnector(cfg)
		if err != nil {
			return nil, err
		}
		return sql.OpenDB(connector), nil
	}
	db, err := open(MariaDB, pool, now, func(db *sql.DB) gorm.Dialector {
		return mysql.New(mysql.Config{Conn: db, SkipInitializeWithVersion: true})
	})
	if err != nil {
		return nil, err
	}
	db.wires = wires
	return db, nil
}

func mariaConfig(dsn string) (*my.Config, error) {
	if strings.Contains(dsn, "?") {
		return nil, errors.New("the DSN of a shard takes no parameters; write user:password@tcp(host:port)/schema")
	}
	cfg, err := my.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("parse the DSN of a shard: %w", err)
	}
	if cfg.DBName == "" {
		return nil, errors.New("the DSN of a shard names no schema; write user:password@tcp(host:port)/schema")
	}
	cfg.MultiStatements = true   // batches travel as one packet; only literals of package shard are in it
	cfg.InterpolateParams = true // reads in one round trip
	cfg.ClientFoundRows = true   // a row set to what it was counts as changed (gorm issues 7384, 6756)
	cfg.RejectReadOnly = false   // error 1290 is a stale route, and a driver must not retry by itself
	cfg.Logger = &my.NopLogger{} // a lost connection is reported once, by whoever was using it
	cfg.ParseTime, cfg.Loc = true, time.UTC
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = time.Second, 3*time.Second, time.Second
	cfg.Params = maps.Clone(sessionVariables)
	return cfg, nil
}

// pragmas are set on every SQLite connection, with their reasons.
var pragmas = []string{
	"journal_mode(WAL)",
	"synchronous(FULL)", // a commit is durable before it is answered
	"busy_timeout(2000)",
	"foreign_keys(OFF)",
	"cache_size(-32768)",       // KiB; what a batch changes must fit, or it is written twice
	"wal_autocheckpoint(4096)", // pages; a page that changes often is copied back less often
}

// OpenSQLite opens a shard in a file.
func OpenSQLite(path string, now func() time.Time) (*DB, error) {
	file := sqliteFile{"file:" + path + "?" + url.Values{"_pragma": pragmas}.Encode()}
	pool := func() (*sql.DB, error) { return sql.OpenDB(file), nil }
	db, err := open(SQLite, pool, now, func(db *sql.DB) gorm.Dialector {
		return &lite.Dialector{Conn: db}
	})
	if err != nil {
		return nil, err
	}
	db.folder, db.turn = filepath.Dir(path), new(sync.Mutex)
	return db, nil
}

func open(d *Dialect, pool func() (*sql.DB, error), now func() time.Time, dial func(*sql.DB) gorm.Dialector) (*DB, error) {
	writes, err := pool()
	if err != nil {
		return nil, fmt.Errorf("open a shard: %w", err)
	}
	writes.SetMaxOpenConns(maxWriteConns)
	writes.SetMaxIdleConns(maxWriteConns)
	reads, err := pool()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a shard: %w", err), writes.Close())
	}
	reads.SetMaxOpenConns(maxReadConns)
	reads.SetMaxIdleConns(maxReadConns)
	reads.SetConnMaxLifetime(connLifetime)
	orm, err := gorm.Open(dial(reads), &gorm.Config{
		SkipDefaultTransaction: true,
		DisableAutomaticPing:   true, // a dead shard must not stop the others from starting
		NowFunc:                now,
		Logger:                 logger.Discard,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a shard: %w", err), writes.Close(), reads.Close())
	}
	db := &DB{Dialect: d, writes: writes, reads: reads, orm: orm, now: now}
	if err := db.observeQueries(); err != nil {
		return nil, errors.Join(fmt.Errorf("open a shard: %w", err), db.Close())
	}
	return db, nil
}

// takeTurn waits until nobody else writes through this DB, where transactions exclude each other anyway.
func (db *DB) takeTurn() (release func()) {
	if db.turn == nil {
		return func() {}
	}
	db.turn.Lock()
	return db.turn.Unlock
}

// SQL is the pool for migrations and administration. Ledger tables are not written through it.
func (db *DB) SQL() *sql.DB { return db.reads }

// Close closes both pools.
func (db *DB) Close() error { return errors.Join(db.writes.Close(), db.reads.Close()) }

// Cut closes all connections under the hands of whoever uses them, and none can be made again. SQLite has none.
func (db *DB) Cut() {
	if db.wires != nil {
		db.wires.cut()
	}
}

// warm makes connections for n users of batches and for one reader, so that the first of them need not wait for one. It gives up
// quietly: they would then be made when they are needed.
func (db *DB) warm(ctx context.Context, n int) {
	ctx, cancel := context.WithTimeout(ctx, warmPatience)
	defer cancel()
	for range n {
		conn, err := db.writes.Conn(ctx)
		if err != nil {
			return
		}
		defer conn.Close() // all at once, or they would be one
	}
	_ = db.reads.PingContext(ctx)
}

// clock is the SQL of the shard's time in microseconds. SQLite runs in our process, so its clock is ours.
func (db *DB) clock() string {
	if db.Dialect.now != "" {
		return db.Dialect.now
	}
	return fmt.Sprint(db.now().UnixMicro())
}

// Address returns the host and port of a DSN.
func Address(dsn string) string {
	cfg, err := my.ParseDSN(dsn)
	if err != nil {
		return "malformed DSN"
	}
	return cfg.Addr
}
