package testdb

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/mariadb"
)

const (
	schemaNameMax  = 40               // of the test's name in the schema's; MariaDB allows 64 in all
	cleanupTimeout = 10 * time.Second // a test that leaves a transaction open must not hang the ones after it
)

// shared is the one server of this binary. Nobody stops it: it dies with the binary, and scratch removes its folder.
var shared = sync.OnceValues(func() (*mariadb.Server, error) {
	return mariadb.Start(context.Background(), mariadb.Options{})
})

// schemas numbers the schemas, so that two tests of one name (or -count=2) never meet.
var schemas atomic.Int64

// Server is a MariaDB server whose failures end the test that asked.
type Server struct {
	server *mariadb.Server
	shared bool
}

// MariaDB returns the server that all tests of this binary share, and starts it for the first of them. It cannot be
// killed, paused or restarted: other tests are using it.
func MariaDB(t testing.TB) *Server {
	t.Helper()
	NeedMariaDB(t)
	server, err := shared()
	if err != nil {
		t.Fatalf("start the shared mariadb server: %v", err)
	}
	return &Server{server: server, shared: true}
}

// Start starts a server for this test alone and stops it at the end.
func Start(t testing.TB, options mariadb.Options) *Server {
	t.Helper()
	NeedMariaDB(t)
	server, err := mariadb.Start(t.Context(), options)
	if err != nil {
		t.Fatalf("start a mariadb server: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop the mariadb server: %v", err)
		}
	})
	return &Server{server: server}
}

// Addr is host:port; it stays the same over restarts.
func (s *Server) Addr() string { return s.server.Addr() }

// Socket is the path of the server's unix socket.
func (s *Server) Socket() string { return s.server.Socket() }

// PID is the process id of the server, a new one after each Restart.
func (s *Server) PID() int { return s.server.PID() }

// DSN is a data source name of go-sql-driver/mysql for user app, without parameters: append "?name=value&…".
func (s *Server) DSN(schema string) string { return s.server.DSN(schema) }

// AdminDSN is the same for user root, who is not stopped by read_only.
func (s *Server) AdminDSN(schema string) string { return s.server.AdminDSN(schema) }

// Schema creates an empty database and returns its name. It is dropped when the test ends.
func (s *Server) Schema(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("%s_%d", schemaName(t.Name()), schemas.Add(1))
	s.Exec(t, "CREATE DATABASE "+name)
	t.Cleanup(func() { s.drop(t, name) })
	return name
}

// schemaName keeps of a test's name what needs no quoting.
func schemaName(test string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '_'
		}
	}, test)
	return "t_" + name[:min(len(name), schemaNameMax)]
}

// drop only logs what goes wrong: a test may well end with its server dead, and the data goes with the server anyway.
func (s *Server) drop(t testing.TB, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	if _, err := s.server.Admin().ExecContext(ctx, "DROP DATABASE "+name); err != nil {
		t.Logf("drop schema %s: %v", name, err)
	}
}

// Exec runs one statement as root, outside of any schema; for settings, users and faults. Statements that must share a
// connection need a pool on AdminDSN.
func (s *Server) Exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := s.server.Admin().ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("run %q as root: %v", statement, err)
	}
}

// Kill ends the server at once (kill -9) and waits until it is gone.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.own(t)
	check(t, "kill mariadb", s.server.Kill())
}

// Restart starts the server on its data again, after a clean shutdown if it still runs, and waits until it answers.
func (s *Server) Restart(t testing.TB, settings ...string) {
	t.Helper()
	s.own(t)
	check(t, "restart mariadb", s.server.Restart(t.Context(), settings...))
}

// Pause stops the server's process (SIGSTOP): its connections stay open and nothing answers any more.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	s.own(t)
	check(t, "pause mariadb", s.server.Pause())
}

// Resume lets a paused server go on (SIGCONT).
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.own(t)
	check(t, "resume mariadb", s.server.Resume())
}

// own keeps one test from pulling the shared server away under all others.
func (s *Server) own(t testing.TB) {
	t.Helper()
	if s.shared {
		t.Fatal("this mariadb server is shared with other tests; take one of your own with testdb.Start")
	}
}
