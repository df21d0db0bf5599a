package cache

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Connect returns a client of a Redis server. It does not wait for the server, and every call is short: a caller can do
// without Redis, but not without an answer.
func Connect(addr string) *redis.Client { return connect(addr, answerTimeout, nil) }

// answerTimeout is how long a server may take to be reached, and again to answer.
const answerTimeout = 100 * time.Millisecond

// connect is Connect with another timeout, and something to do on each new connection.
func connect(addr string, timeout time.Duration, greet func(ctx context.Context, conn *redis.Conn) error) *redis.Client {
	quiet()
	return redis.NewClient(&redis.Options{
		Addr:                  addr,
		OnConnect:             greet,
		ContextTimeoutEnabled: true, // default: contexts are ignored
		DialTimeout:           timeout,
		ReadTimeout:           timeout,
		WriteTimeout:          timeout,
		PoolTimeout:           timeout / 2,
		DialerRetries:         1,
		MaxRetries:            -1, // default 3, also of what must not be repeated
	})
}

// quiet keeps go-redis from writing a line for each connection that fails: whoever needed it says so, once.
var quiet = sync.OnceFunc(func() { redis.SetLogger(silence{}) })

type silence struct{}

// Printf says nothing.
func (silence) Printf(context.Context, string, ...any) {}
