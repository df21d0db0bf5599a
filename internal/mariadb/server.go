package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/statesvc/statesvc/internal/scratch"
)

const (
	startTimeout = 60 * time.Second      // crash recovery on a busy machine; a start takes well under a second
	stopPatience = 20 * time.Second      // a clean shutdown writes the whole buffer pool back
	pollInterval = 10 * time.Millisecond // how often a starting server is asked whether it is there
	logTailMax   = 4 << 10               // of the server's log in the error of a start that failed
	adminMax     = 4                     // connections of Admin; tests create schemas side by side
)

// Options say where a server lives and what it does differently from the others. The zero value is a fresh server.
type Options struct {
	Folder   string   // holds data, socket and log, and stays after Stop; empty: a scratch folder that goes with the server
	Port     int      // empty: a free one, kept over restarts
	Settings []string // "name=value" in addition to the usual ones; the last one of a name wins
}

// Server is one mariadbd. Its methods may be called from several goroutines.
type Server struct {
	folder   string
	scratch  *scratch.Folder // nil if the caller gave the folder
	port     *scratch.Port   // nil if the caller gave the port
	addr     string
	settings []string
	admin    *sql.DB

	mu      sync.Mutex // a kill and a restart at the same time happen one after the other
	process *scratch.Process
	closed  bool
}

// ErrStopped is the answer of a server that has been stopped for good.
var ErrStopped = errors.New("mariadb server was stopped for good")

// Start starts a server and returns when it answers. ctx bounds the start only; the server runs until Stop, or until this
// program ends.
func Start(ctx context.Context, options Options) (*Server, error) {
	server := &Server{settings: options.Settings}
	if err := server.place(options); err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	if err := server.prepare(ctx); err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	if err := server.Restart(ctx); err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	return server, nil
}

// place finds folder and port.
func (s *Server) place(options Options) error {
	s.folder = options.Folder
	if s.folder == "" {
		folder, err := scratch.NewFolder("mariadb")
		if err != nil {
			return err
		}
		s.scratch, s.folder = folder, folder.Path
	}
	number := options.Port
	if number == 0 {
		port, err := scratch.NewPort()
		if err != nil {
			return err
		}
		s.port, number = port, port.Number
	}
	s.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(number))
	return nil
}

// prepare initialises the data directory unless an earlier server has left one, and makes the administrator's pool.
func (s *Server) prepare(ctx context.Context) error {
	if err := Installed(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.folder, 0o700); err != nil {
		return fmt.Errorf("make server folder: %w", err)
	}
	_, err := os.Stat(filepath.Join(s.data(), "mysql"))
	if errors.Is(err, os.ErrNotExist) {
		err = initialise(ctx, s.data(), grants)
	}
	if err != nil {
		return err
	}
	s.admin, err = openAdmin(s.addr)
	return err
}

// openAdmin keeps no idle connections, so that none of them is stale after a restart.
func openAdmin(addr string) (*sql.DB, error) {
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr = "root", "tcp", addr
	config.Logger = &mysql.NopLogger{} // a server that is still starting is no news
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("configure administrator's pool: %w", err)
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(adminMax)
	pool.SetMaxIdleConns(-1)
	return pool, nil
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

// Socket is the path of the server's unix socket.
func (s *Server) Socket() string { return filepath.Join(s.folder, "sock") }

// Log is the path of the server's error log.
func (s *Server) Log() string { return filepath.Join(s.folder, "error.log") }

// Folder holds the server's files: data, sock, error.log.
func (s *Server) Folder() string { return s.folder }

// Addr is host:port; it stays the same over restarts.
func (s *Server) Addr() string { return s.addr }

// DSN is a data source name of go-sql-driver/mysql for user app, without parameters: append "?name=value&…".
func (s *Server) DSN(schema string) string { return "app@tcp(" + s.addr + ")/" + schema }

// AdminDSN is the same for user root.
func (s *Server) AdminDSN(schema string) string { return "root@tcp(" + s.addr + ")/" + schema }

// Admin is root's pool. It holds no idle connections and so survives restarts; Stop closes it.
func (s *Server) Admin() *sql.DB { return s.admin }

// PID is the process id of the server that was started last.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.PID()
}

// Done is closed when the server that was started last has ended, for whatever reason.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.Done()
}

// Restart starts the server on its data again, after a clean shutdown if it still runs, and returns when it answers.
// Settings of this call come after those of Options.
func (s *Server) Restart(ctx context.Context, settings ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrStopped
	}
	if err := s.end(false); err != nil {
		return err
	}
	if err := s.launch(settings); err != nil {
		return err
	}
	return s.awaitAnswer(ctx)
}

func (s *Server) launch(extra []string) error {
	path, err := find("mariadbd")
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return fmt.Errorf("split server address: %w", err)
	}
	list := append(arguments(settings),
		"--datadir="+s.data(), "--tmpdir="+s.folder, "--socket="+s.Socket(), "--port="+port,
		"--pid-file="+filepath.Join(s.folder, "pid"), "--log-error="+s.Log())
	for _, setting := range append(append([]string(nil), s.settings...), extra...) {
		list = append(list, "--"+setting)
	}
	// Not CommandContext: the server outlives the context of its start.
	s.process, err = scratch.StartProcess(&exec.Cmd{Path: path, Args: append([]string{path}, list...), Dir: s.folder})
	return err
}

// awaitAnswer waits until the server lets the administrator in.
func (s *Server) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		err := s.admin.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-s.process.Done():
			return fmt.Errorf("mariadbd ended while starting: %w\n%s", errors.Join(err, s.process.Err()), s.logTail())
		case <-ctx.Done():
			return fmt.Errorf("wait for mariadbd on %s: %w\n%s", s.addr, errors.Join(ctx.Err(), err), s.logTail())
		}
	}
}

func (s *Server) logTail() string {
	text, err := os.ReadFile(s.Log())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTailMax):])
}

// Kill ends the server at once (kill -9) and waits until it is gone. Restart brings it back on what was on disk.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(true)
}

func (s *Server) end(hard bool) error {
	if s.process == nil {
		return nil
	}
	if hard {
		return s.process.Kill()
	}
	return s.process.Stop(stopPatience)
}

// Pause stops the server's process (SIGSTOP): its connections stay open and nothing answers any more.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.Pause()
}

// Resume lets a paused server go on (SIGCONT).
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.Resume()
}

// Shutdown ends the server cleanly (SIGTERM); Restart brings it back.
func (s *Server) Shutdown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(false)
}

// Stop ends the server for good and gives back what it used. A scratch folder goes with it, so there is nothing to save
// and it is killed; otherwise the server is shut down cleanly and the folder stays. A second Stop does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.end(s.scratch != nil)
	if s.admin != nil {
		err = errors.Join(err, s.admin.Close())
	}
	if s.scratch != nil {
		err = errors.Join(err, s.scratch.Remove())
	}
	if s.port != nil {
		err = errors.Join(err, s.port.Close())
	}
	return err
}
