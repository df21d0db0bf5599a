package testdb

import (
	"context"
	"testing"

<<<<<<< HEAD
	"github.com/statesvc/statesvc/internal/redisd"
)

// RedisServer is a real redis-server of one test. miniredis is for unit tests; failover, partitions and restarts are tested here.
type RedisServer struct{ server *redisd.Server }
=======
	"github.com/statesvc/statesvc/internal/redis"
	"github.com/statesvc/statesvc/internal/scratch"
)

const (
	redisStartTimeout = 10 * time.Second
	redisPollInterval = 5 * time.Millisecond
	redisStopPatience = 5 * time.Second
)

var errRedisSilent = errors.New("redis-server does not answer PING")

// RedisServer is a real redis-server. miniredis is for unit tests; failover, partitions and restarts are tested here.
type RedisServer struct {
	folder string
	port   *scratch.Port
	args   []string // of redis-server

	mu      sync.Mutex
	running *scratch.Process
	output  *bytes.Buffer // of the process; read when it has ended
}
>>>>>>> 3e0064f (cluster: Redis in its two roles: three caches with sentinels, and one for coordination)

// Redis starts a Redis server for this test alone and stops it at the end. It keeps nothing over a restart unless args
// say so ("--appendonly", "yes"); args come after the usual ones, and the last of a name wins.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
<<<<<<< HEAD
	if err := redisd.Installed(); err != nil {
		require(t, err)
	}
	server, err := redisd.Start(context.Background(), args...)
	check(t, "start redis", err)
	t.Cleanup(func() { check(t, "stop redis", server.Stop()) })
	return &RedisServer{server}
=======
	server := newRedis(t)
	server.args = append([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(server.port.Number), "--dir", server.folder,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--pidfile", filepath.Join(server.folder, "pid"),
	}, args...)
	server.Restart(t)
	return server
}

// newRedis is a server that was not started yet.
func newRedis(t testing.TB) *RedisServer {
	t.Helper()
	if _, err := redis.Find(); err != nil {
		require(t, err)
	}
	port, err := scratch.NewPort()
	check(t, "find a port for redis", err)
	t.Cleanup(func() { check(t, "give back the port of redis", port.Close()) })
	server := &RedisServer{folder: t.TempDir(), port: port}
	t.Cleanup(func() { check(t, "stop redis", server.end()) })
	return server
>>>>>>> 3e0064f (cluster: Redis in its two roles: three caches with sentinels, and one for coordination)
}

// Addr is host:port; it stays the same over restarts.
func (s *RedisServer) Addr() string { return s.server.Addr() }

// PID is the process id of the server, a new one after each Restart.
<<<<<<< HEAD
func (s *RedisServer) PID() int { return s.server.PID() }
=======
func (s *RedisServer) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running.PID()
}
>>>>>>> 3e0064f (cluster: Redis in its two roles: three caches with sentinels, and one for coordination)

// Kill ends the server at once (kill -9) and waits until it is gone.
func (s *RedisServer) Kill(t testing.TB) {
	t.Helper()
<<<<<<< HEAD
	check(t, "kill redis", s.server.Kill())
=======
	s.mu.Lock()
	defer s.mu.Unlock()
	check(t, "kill redis", s.running.Kill())
>>>>>>> 3e0064f (cluster: Redis in its two roles: three caches with sentinels, and one for coordination)
}

// Pause stops the server's process (SIGSTOP).
func (s *RedisServer) Pause(t testing.TB) {
	t.Helper()
<<<<<<< HEAD
	check(t, "pause redis", s.server.Pause())
=======
	s.mu.Lock()
	defer s.mu.Unlock()
	check(t, "pause redis", s.running.Pause())
>>>>>>> 3e0064f (cluster: Redis in its two roles: three caches with sentinels, and one for coordination)
}

// Resume lets a paused server go on (SIGCONT).
func (s *RedisServer) Resume(t testing.TB) {
	t.Helper()
<<<<<<< HEAD
	check(t, "resume redis", s.server.Resume())
=======
	s.mu.Lock()
	defer s.mu.Unlock()
	check(t, "resume redis", s.running.Resume())
>>>>>>> 3e0064f (cluster: Redis in its two roles: three caches with sentinels, and one for coordination)
}

// Restart starts the server again, after a clean shutdown if it still runs, and waits until it answers.
func (s *RedisServer) Restart(t testing.TB) {
	t.Helper()
<<<<<<< HEAD
	check(t, "start redis again", s.server.Restart(context.Background()))
=======
	check(t, "stop redis", s.end())
	s.mu.Lock()
	defer s.mu.Unlock()
	check(t, "start redis", s.launch())
	check(t, "wait for redis", s.awaitAnswer())
}

func (s *RedisServer) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return nil
	}
	return s.running.Stop(redisStopPatience)
}

func (s *RedisServer) launch() error {
	path, err := redis.Find()
	if err != nil {
		return err
	}
	s.output = new(bytes.Buffer)
	command := &exec.Cmd{Path: path, Args: append([]string{path}, s.args...), Dir: s.folder, Stdout: s.output, Stderr: s.output}
	s.running, err = scratch.StartProcess(command)
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
		case <-s.running.Done():
			return fmt.Errorf("redis-server ended while starting: %w\n%s", errors.Join(err, s.running.Err()), s.output)
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
>>>>>>> 3e0064f (cluster: Redis in its two roles: three caches with sentinels, and one for coordination)
}
