package testdb

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/scratch"
)

const (
	redisStartTimeout = 10 * time.Second
	redisPollInterval = 5 * time.Millisecond
	redisStopPatience = 5 * time.Second
)

var (
	errNoRedis     = errors.New("redis-server is not installed (run scripts/install-deps)")
	errRedisSilent = errors.New("redis-server does not answer PING")
)

// RedisServer is a real redis-server. miniredis is for unit tests; failover, partitions and restarts are tested here.
type RedisServer struct {
	folder string
	port   *scratch.Port
	args   []string

	mu      sync.Mutex
	process *scratch.Process
	output  *bytes.Buffer // of the process; read when it has ended
}

// Redis starts a Redis server for this test alone and stops it at the end. It keeps nothing over a restart unless args
// say so ("--appendonly", "yes"); args come after the usual ones, and the last of a name wins.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	if _, err := findRedis(); err != nil {
		require(t, err)
	}
	port, err := scratch.NewPort()
	check(t, "find a port for redis", err)
	t.Cleanup(func() { check(t, "give back the port of redis", port.Close()) })

	server := &RedisServer{folder: t.TempDir(), port: port, args: args}
	t.Cleanup(func() { check(t, "stop redis", server.end()) })
	server.Restart(t)
	return server
}

// findRedis looks beyond the PATH as well: some distributions keep servers out of it.
func findRedis() (string, error) {
	for _, name := range []string{"redis-server", "/usr/sbin/redis-server", "/usr/local/bin/redis-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoRedis
}

// Addr is host:port; it stays the same over restarts.
func (s *RedisServer) Addr() string { return s.port.Addr() }

// PID is the process id of the server, a new one after each Restart.
func (s *RedisServer) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.PID()
}

// Kill ends the server at once (kill -9) and waits until it is gone.
func (s *RedisServer) Kill(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	check(t, "kill redis", s.process.Kill())
}

// Pause stops the server's process (SIGSTOP).
func (s *RedisServer) Pause(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	check(t, "pause redis", s.process.Pause())
}

// Resume lets a paused server go on (SIGCONT).
func (s *RedisServer) Resume(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	check(t, "resume redis", s.process.Resume())
}

// Restart starts the server again, after a clean shutdown if it still runs, and waits until it answers.
func (s *RedisServer) Restart(t testing.TB) {
	t.Helper()
	check(t, "stop redis", s.end())
	s.mu.Lock()
	defer s.mu.Unlock()
	check(t, "start redis", s.launch())
	check(t, "wait for redis", s.awaitAnswer())
}

func (s *RedisServer) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	return s.process.Stop(redisStopPatience)
}

func (s *RedisServer) launch() error {
	path, err := findRedis()
	if err != nil {
		return err
	}
	args := []string{
		path, "--bind", "127.0.0.1", "--port", strconv.Itoa(s.port.Number), "--dir", s.folder,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--pidfile", filepath.Join(s.folder, "pid"),
	}
	s.output = new(bytes.Buffer)
	command := &exec.Cmd{Path: path, Args: append(args, s.args...), Dir: s.folder, Stdout: s.output, Stderr: s.output}
	s.process, err = scratch.StartProcess(command)
	return err
}

func (s *RedisServer) awaitAnswer() error {
	deadline := time.After(redisStartTimeout)
	poll := time.NewTicker(redisPollInterval)
	defer poll.Stop()
	for {
		err := ping(s.Addr())
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-s.process.Done():
			return fmt.Errorf("redis-server ended while starting: %w\n%s", errors.Join(err, s.process.Err()), s.output)
		case <-deadline:
			return fmt.Errorf("no answer in %s: %w", redisStartTimeout, err)
		}
	}
}

// ping speaks the little of the protocol it needs, so that this package does without a Redis client.
func ping(addr string) error {
	conn, err := net.DialTimeout("tcp4", addr, redisStartTimeout)
	if err != nil {
		return fmt.Errorf("dial redis: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(redisStartTimeout)); err != nil {
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
		return fmt.Errorf("%w: %q", errRedisSilent, answer)
	}
	return nil
}
