package testdb_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/testdb"
)

const readOnly = 1290 // ER_OPTION_PREVENTS_STATEMENT

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func text(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	var value string
	if err := db.QueryRowContext(t.Context(), query).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func TestSharedServerIsOne(t *testing.T) {
	t.Parallel()
	if one, two := testdb.MariaDB(t), testdb.MariaDB(t); one.PID() != two.PID() || one.Addr() != two.Addr() {
		t.Errorf("two shared servers: %s and %s", one.Addr(), two.Addr())
	}
}

// The promises of the service rest on these; a server that starts without one of them makes every other test worthless.
func TestSettings(t *testing.T) {
	t.Parallel()
	server := testdb.MariaDB(t)
	db := open(t, server.DSN(server.Schema(t)))
	want := map[string]string{
		"innodb_flush_log_at_trx_commit": "1", "sync_binlog": "1", "log_bin": "1", "binlog_format": "ROW",
		"gtid_strict_mode": "1", "tx_isolation": "READ-COMMITTED", "innodb_lock_wait_timeout": "2",
		"idle_write_transaction_timeout": "3", "character_set_server": "utf8mb4", "max_connections": "1200",
		"skip_name_resolve": "1", "performance_schema": "0",
	}
	got := make(map[string]string, len(want))
	for name := range want {
		got[name] = text(t, db, "SELECT @@"+name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
	if mode := text(t, db, "SELECT @@sql_mode"); !strings.Contains(mode, "STRICT_ALL_TABLES") {
		t.Errorf("sql_mode %q is not strict", mode)
	}
	var name, value string
	row := db.QueryRowContext(t.Context(), "SHOW GLOBAL VARIABLES LIKE 'innodb_snapshot_isolation'")
	if err := row.Scan(&name, &value); err == nil && value != "OFF" {
		t.Errorf("%s = %s", name, value)
	}
}

func TestSchemasAreSeparateAndDropped(t *testing.T) {
	t.Parallel()
	server := testdb.MariaDB(t)
	var dropped string
	t.Run("inner/with odd=name", func(t *testing.T) {
		one, two := server.Schema(t), server.Schema(t)
		if one == two {
			t.Fatalf("both schemas are %s", one)
		}
		dropped = one
		exec(t, open(t, server.DSN(one)), "CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB")
		exec(t, open(t, server.DSN(two)), "CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB")
	})
	count := text(t, open(t, server.DSN("")), "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name='"+dropped+"'")
	if count != "0" {
		t.Errorf("schema %s is still there", dropped)
	}
}

func TestDataSurviveKill(t *testing.T) {
	t.Parallel()
	server := testdb.Start(t, mariadb.Options{})
	addr, pid := server.Addr(), server.PID()
	db := open(t, server.DSN(server.Schema(t))+"?timeout=5s")
	exec(t, db, "CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB")
	exec(t, db, "INSERT INTO t VALUES (7)")

	server.Kill(t)
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if err := db.PingContext(t.Context()); err == nil {
		t.Error("a killed server answers")
	}
	server.Restart(t)
	if got := text(t, db, "SELECT GROUP_CONCAT(id) FROM t"); got != "7" {
		t.Errorf("rows after the kill: %q, want 7", got)
	}
	if server.Addr() != addr {
		t.Errorf("address changed from %s to %s", addr, server.Addr())
	}
	if server.PID() == pid {
		t.Errorf("process id did not change: %d", pid)
	}
}

func TestPauseSilencesUntilResume(t *testing.T) {
	t.Parallel()
	server := testdb.Start(t, mariadb.Options{})
	db := open(t, server.DSN(""))
	text(t, db, "SELECT 1") // a connection from before the pause

	server.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(ctx, "DO 1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused server answers: %v", err)
	}
	server.Resume(t)
	text(t, db, "SELECT 1")
}

// A fenced primary is fenced by read_only: app must not be able to write past it, and root must.
func TestReadOnlyStopsAppButNotRoot(t *testing.T) {
	t.Parallel()
	server := testdb.Start(t, mariadb.Options{Settings: []string{"read-only=1"}})
	schema := server.Schema(t)
	server.Exec(t, "CREATE TABLE "+schema+".t (id INT PRIMARY KEY) ENGINE=InnoDB")

	_, err := open(t, server.DSN(schema)).ExecContext(t.Context(), "INSERT INTO t VALUES (1)")
	if refused := new(mysql.MySQLError); !errors.As(err, &refused) || refused.Number != readOnly {
		t.Errorf("insert on a read-only server: %v, want error %d", err, readOnly)
	}
	exec(t, open(t, server.AdminDSN(schema)), "INSERT INTO t VALUES (1)")
}

func TestRestartTakesSettings(t *testing.T) {
	t.Parallel()
	server := testdb.Start(t, mariadb.Options{Settings: []string{"innodb-lock-wait-timeout=9"}})
	if got := text(t, open(t, server.DSN("")), "SELECT @@global.innodb_lock_wait_timeout"); got != "9" {
		t.Errorf("setting of the options: %s, want 9", got)
	}
	server.Restart(t, "innodb-lock-wait-timeout=11")
	if got := text(t, open(t, server.DSN("")), "SELECT @@global.innodb_lock_wait_timeout"); got != "11" {
		t.Errorf("setting of the restart: %s, want 11", got)
	}
}
