package testdb

import (
	"context"
	"testing"

	"github.com/statesvc/statesvc/internal/redisd"
)

// RedisServer is a real redis-server of one test. miniredis is for unit tests; failover, partitions and restarts are tested here.
type RedisServer struct{ server *redisd.Server }

// Redis starts a Redis server for this test alone and stops it at the end. It keeps nothing over a restart unless args
// say so ("--appendonly", "yes"); args come after the usual ones, and the last of a name wins.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	if err := redisd.Installed(); err != nil {
		require(t, err)
	}
	server, err := redisd.Start(context.Background(), args...)
	check(t, "start redis", err)
	t.Cleanup(func() { check(t, "stop redis", server.Stop()) })
	return &RedisServer{server}
}

// Addr is host:port; it stays the same over restarts.
func (s *RedisServer) Addr() string { return s.server.Addr() }

// PID is the process id of the server, a new one after each Restart.
func (s *RedisServer) PID() int { return s.server.PID() }

// Kill ends the server at once (kill -9) and waits until it is gone.
func (s *RedisServer) Kill(t testing.TB) {
	t.Helper()
	check(t, "kill redis", s.server.Kill())
}

// Pause stops the server's process (SIGSTOP).
func (s *RedisServer) Pause(t testing.TB) {
	t.Helper()
	check(t, "pause redis", s.server.Pause())
}

// Resume lets a paused server go on (SIGCONT).
func (s *RedisServer) Resume(t testing.TB) {
	t.Helper()
	check(t, "resume redis", s.server.Resume())
}

// Restart starts the server again, after a clean shutdown if it still runs, and waits until it answers.
func (s *RedisServer) Restart(t testing.TB) {
	t.Helper()
	check(t, "start redis again", s.server.Restart(context.Background()))
}
