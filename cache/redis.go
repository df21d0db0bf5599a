package cache

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Connect returns a client of a Redis server. It does not wait for the server, and every call is short: a caller can do
// without Redis, but not without an answer.
func Connect(addr string) *redis.Client {
	quiet()
	o := options(answerTimeout)
	o.Addr = addr
	return redis.NewClient(o)
}

// answerTimeout is how long a server may take to be reached, and again to answer.
const answerTimeout = 100 * time.Millisecond

// options are those of every client; the defaults of go-redis are those of callers who have time.
func options(timeout time.Duration) *redis.Options {
	return &redis.Options{
		ContextTimeoutEnabled: true, // default: contexts are ignored
		DialTimeout:           timeout,
		ReadTimeout:           timeout,
		WriteTimeout:          timeout,
		PoolTimeout:           timeout / 2,
		DialerRetries:         1,
		MaxRetries:            -1, // default 3, also of what must not be repeated
		// By default each connection asks for notices of maintenance, which a Redis that is not a cloud's refuses; taking note of
		// the refusal races with Subscribe in go-redis 9.23.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// quiet keeps go-redis from writing a line for each connection that fails: whoever needed it says so, once.
var quiet = sync.OnceFunc(func() { redis.SetLogger(silence{}) })

type silence struct{}

// Printf says nothing.
func (silence) Printf(context.Context, string, ...any) {}

// pool has connections to one process of a server. Its first connection binds it to that process's run_id; a connection that leads to
// another one is refused, and has the pool replaced. So whatever a pool says, that process has said.
type pool struct {
	client   *redis.Client
	address  string                 // empty: it is not known, and nothing is reached
	run      atomic.Pointer[string] // nil: no connection was made yet
	replaced chan struct{}          // closed when it is
}

// newPool makes a pool; strayed is called when a connection has led to another process.
func newPool(address string, timeout time.Duration, strayed func(*pool)) *pool {
	quiet()
	p := &pool{address: address, replaced: make(chan struct{})}
	o := options(timeout)
	o.Addr = address
	if address == "" { // go-redis would take its own default
		o.Dialer = func(context.Context, string, string) (net.Conn, error) { return nil, errNoAnswer }
	}
	o.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
		run, err := runOf(ctx, conn)
		if err != nil {
			return err
		}
		if !p.run.CompareAndSwap(nil, &run) && *p.run.Load() != run {
			strayed(p)
			return errReplaced
		}
		return nil
	}
	p.client = redis.NewClient(o)
	return p
}

// inMemory is the run_id of a Redis that has none because it is a part of this process, and ends with it.
const inMemory = "in-memory"

// runOf asks a connection for the run_id of the server that it leads to.
func runOf(ctx context.Context, conn *redis.Conn) (string, error) {
	info, err := conn.Info(ctx, "server").Result()
	switch {
	case err != nil && strings.Contains(err.Error(), "is not supported"):
		return inMemory, nil
	case err != nil:
		return "", fmt.Errorf("ask Redis for its run_id: %w", err)
	}
	_, rest, _ := strings.Cut(info, "run_id:")
	run, _, _ := strings.Cut(rest, "\r\n")
	if run == "" {
		return "", fmt.Errorf("%w: it does not say its run_id", errRemote)
	}
	return run, nil
}

// running returns the run_id of the pool's process; "" if none was reached yet.
func (p *pool) running() string {
	if run := p.run.Load(); run != nil {
		return *run
	}
	return ""
}

// reach is running, after a connection was made if there was none.
func (p *pool) reach(ctx context.Context) (string, error) {
	if run := p.running(); run != "" {
		return run, nil
	}
	err := p.client.Ping(ctx).Err()
	return p.running(), err
}
