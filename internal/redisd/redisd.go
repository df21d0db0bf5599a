// Package redisd starts real Redis servers for tests and benchmarks, on a free loopback port and in a folder of their own. A server dies
// with the program that started it. It keeps nothing over a restart unless its settings say so.
//
// Besides it configures them for the roles that the service has (roles.go): caches, of which one is the primary and the others are its
// replicas; sentinels, which watch the caches and promote a replica; and coordination. Nothing has a password: everything is on the
// loopback interface.
package redisd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/statesvc/statesvc/internal/scratch"
)

const (
	startTimeout = 30 * time.Second // on a busy machine; a start takes some 10 ms
	pollInterval = 5 * time.Millisecond
	stopPatience = 5 * time.Second
	pingTimeout  = 5 * time.Second
)

var (
	errNotInstalled = errors.New("redis-server is not installed (run scripts/install-deps)")
	errSilent       = errors.New("redis-server does not answer PING")
)

// Server is one redis-server. Its methods may be called from several goroutines.
type Server struct {
	folder *scratch.Folder
	port   *scratch.Port
	args   []string // of redis-server

	mu      sync.Mutex
	running *scratch.Process
	output  *bytes.Buffer // of the process; read when it has ended
}

// Installed returns an error if there is no redis-server on this machine.
func Installed() error {
	_, err := Find()
	return err
}

// Find returns the path of redis-server. It looks beyond the PATH as well: some distributions keep servers out of it.
func Find() (string, error) {
	for _, name := range []string{"redis-server", "/usr/sbin/redis-server", "/usr/local/bin/redis-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNotInstalled
}

// Start starts a server and returns when it answers. args are settings of redis-server ("--appendonly", "yes"); they come after the
// usual ones, and the last of a name wins. ctx bounds the start only; the server runs until Stop, or until this program ends.
func Start(ctx context.Context, args ...string) (*Server, error) {
	s, err := newServer()
	if err == nil {
		s.args = append([]string{
			"--bind", "127.0.0.1", "--port", strconv.Itoa(s.port.Number), "--dir", s.folder.Path,
			"--save", "", "--appendonly", "no", "--daemonize", "no", "--pidfile", filepath.Join(s.folder.Path, "pid"),
		}, args...)
		err = s.Restart(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// newServer is a server that was not started yet. After an error it must be stopped as well.
func newServer() (s *Server, err error) {
	s = &Server{}
	if s.folder, err = scratch.NewFolder("redis"); err == nil {
		s.port, err = scratch.NewPort()
	}
	return s, err
}

// process is what the configuration of a server is about.
func (s *Server) process() Process { return Process{Address: s.Addr(), Folder: s.folder.Path} }

// Addr is host:port; it stays the same over restarts.
func (s *Server) Addr() string { return s.port.Addr() }

// PID is the process id of the server, a new one after each Restart.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running.PID()
}

// Kill ends the server at once (kill -9) and waits until it is gone.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running.Kill()
}

// Pause stops the server's process (SIGSTOP): its connections stay open and nothing answers any more.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running.Pause()
}

// Resume lets a paused server go on (SIGCONT).
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running.Resume()
}

// Restart starts the server again, after a clean shutdown if it still runs, and waits until it answers.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.end(); err != nil {
		return err
	}
	if err := s.launch(); err != nil {
		return err
	}
	return s.awaitAnswer(ctx)
}

// Stop ends the server for good and gives back what it used.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.end()
	if s.port != nil {
		err = errors.Join(err, s.port.Close())
	}
	if s.folder != nil {
		err = errors.Join(err, s.folder.Remove())
	}
	return err
}

func (s *Server) end() error {
	if s.running == nil {
		return nil
	}
	return s.running.Stop(stopPatience)
}

func (s *Server) launch() error {
	path, err := Find()
	if err != nil {
		return err
	}
	s.output = new(bytes.Buffer)
	s.running, err = scratch.StartProcess(&exec.Cmd{
		Path: path, Args: append([]string{path}, s.args...), Dir: s.folder.Path, Stdout: s.output, Stderr: s.output,
	})
	return err
}

func (s *Server) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		err := ping(s.Addr())
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-s.running.Done():
			return fmt.Errorf("redis-server ended while starting: %w\n%s", errors.Join(err, s.running.Err()), s.output)
		case <-ctx.Done():
			return fmt.Errorf("wait for redis-server on %s: %w", s.Addr(), errors.Join(ctx.Err(), err))
		}
	}
}

// ping speaks the little of the protocol that it needs, so that this package does without a client.
func ping(addr string) error {
	conn, err := net.DialTimeout("tcp4", addr, pingTimeout)
	if err != nil {
		return fmt.Errorf("dial redis: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(pingTimeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return fmt.Errorf("write PING: %w", err)
	}
	answer := make([]byte, len("+PONG"))
	if _, err := conn.Read(answer); err != nil {
		return fmt.Errorf("read answer to PING: %w", err)
	}
	if string(answer) != "+PONG" {
		return fmt.Errorf("%w: %q", errSilent, answer)
	}
	return nil
}
