package cache_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

// rig is a shard with a real Redis, and as many caches over them as a test wants: each is what an instance has.
type rig struct {
	*instance.Instance
	t         testing.TB
	reg       *register.File
	file      string // of the shard
	redis     *testdb.RedisServer
	client    *redis.Client // of the test's own
	documents *state.Documents
}

// The kinds of every rig. Writes of careful announce themselves.
const (
	kind    = "product"
	careful = "careful"
)

// newRig makes a cluster on SQLite, with a real Redis. redisArgs are settings of it.
func newRig(t testing.TB, redisArgs ...string) *rig {
	t.Helper()
	ctx := t.Context()
	reg, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	r := &rig{t: t, reg: reg, file: filepath.Join(t.TempDir(), "s1.db"), redis: testdb.Redis(t, redisArgs...)}
	shards := []instance.Shard{{Name: "s1", File: r.file}}
	if err := instance.Bootstrap(ctx, reg, shards, time.Now, func(string) {}); err != nil {
		t.Fatal(err)
	}
	r.Instance, err = instance.Open(ctx, instance.Config{
		Name: "test", Register: reg, Shards: shards, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for name, spec := range map[string]state.Spec{kind: {}, careful: {Intent: true}} {
		if _, err := r.Kinds.Declare(ctx, name, spec); err != nil {
			t.Fatal(err)
		}
	}
	r.documents = state.New(state.Config{
		Store: r.Store, Kinds: r.Kinds, Blocks: func(string, shard.Bucket) error { return nil },
	})
	r.client = redis.NewClient(&redis.Options{Addr: r.redis.Addr()})
	t.Cleanup(func() { _ = r.client.Close() })
	return r
}

// node is a cache of a rig.
type node struct {
	*cache.Cache
	rig *rig
	t   testing.TB
}

var numbers atomic.Int64

// start starts a cache. change may alter its configuration; it has waited for the first word of Redis.
func (r *rig) start(change ...func(*cache.Config)) *node {
	r.t.Helper()
	cfg := cache.Config{
		Documents: r.documents, Shards: r.ShardNumbers, Now: time.Now, Random: mathrand.Float64, NewToken: rand.Text,
		Redis: r.redis.Addr(), RedisTimeout: 5 * time.Second, // a busy machine is no fault
		Locate: func(b shard.Bucket) cache.Place {
			route, err := r.Routes.Route(b)
			if err != nil {
				return cache.Place{Shard: route.Shard}
			}
			return cache.Place{Shard: route.Shard, Epoch: route.Epoch, Era: route.Era()}
		},
	}
	for _, alter := range change {
		alter(&cfg)
	}
	c, err := cache.New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			r.t.Error(err)
		}
	})
	n := &node{c, r, r.t}
	if cfg.Redis != "" {
		eventually(r.t, "the cache hears Redis", n.HearsRedis)
	}
	return n
}

// eventually waits until something is true that nothing but time stands in the way of.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for range 6000 {
		if is() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("it does not happen that %s", what)
}

// stop holds the first that passes a point, until it is released.
type stop struct {
	at      string
	passed  atomic.Bool
	reached chan struct{}
	release chan struct{}
}

func stopAt(at string) *stop {
	return &stop{at: at, reached: make(chan struct{}), release: make(chan struct{})}
}

// in makes a cache pass the point.
func (s *stop) in(cfg *cache.Config) {
	cfg.Points = func(name string) {
		if name == s.at && s.passed.CompareAndSwap(false, true) {
			close(s.reached)
			<-s.release
		}
	}
}

// while runs begin until it is held at the point, then meanwhile, and then lets begin end.
func (s *stop) while(t *testing.T, begin, meanwhile func()) {
	t.Helper()
	var held sync.WaitGroup
	held.Go(begin)
	select {
	case <-s.reached:
	case <-time.After(10 * time.Second):
		t.Fatalf("nobody comes to %s", s.at)
	}
	meanwhile()
	close(s.release)
	held.Wait()
}

func noL1(cfg *cache.Config) { cfg.NoL1 = true }

func key(id string) state.Key { return state.Key{Kind: kind, ID: id} }

// absent and exists are preconditions.
var (
	absent = state.Precondition{Absent: true}
	exists = state.Precondition{Exists: true}
)

func request(k state.Key, when state.Precondition) state.Request {
	return state.Request{Key: k, When: when, Idempotency: fmt.Sprintf("k%d", numbers.Add(1))}
}

// put writes a document through a cache.
func (n *node) put(k state.Key, body string, when state.Precondition) state.Answer {
	n.t.Helper()
	answer, err := n.Put(n.t.Context(), request(k, when), []byte(body))
	if err != nil {
		n.t.Error(err)
	}
	return answer
}

// commit writes a document that no cache hears of, as by an instance that dies after the commit.
func (r *rig) commit(k state.Key, body string, when state.Precondition) state.Answer {
	r.t.Helper()
	answer, err := r.documents.Put(r.t.Context(), request(k, when), []byte(body))
	if err != nil {
		r.t.Error(err)
	}
	return answer
}

// shows fails the test unless the document has this body; none is "".
func (n *node) shows(k state.Key, body string, ask cache.Ask) cache.Result {
	n.t.Helper()
	result, err := n.Read(n.t.Context(), k, ask)
	if err != nil {
		n.t.Error(err)
		return result
	}
	if got := string(result.Document.Body); got != body {
		n.t.Errorf("a read that is %s shows %q (%s), want %q", ask.Mode, got, result.Status, body)
	}
	return result
}

// comes fails the test unless the document has this body and Cache-Status says this of it.
func (n *node) comes(k state.Key, body, status string, ask cache.Ask) {
	n.t.Helper()
	if got := n.shows(k, body, ask).Status; status != plain(got) {
		n.t.Errorf("a read that is %s is answered by %q, want %q", ask.Mode, plain(got), status)
	}
}

// plain is a status without what depends on the time.
func plain(s cache.Status) string {
	s.TTL = 0
	return s.String()
}

// The values of Cache-Status in tests.
const (
	fromL1    = "statesvc; hit; ttl=0; detail=l1"
	fromRedis = "statesvc; hit; ttl=0; detail=redis"
	filled    = "statesvc; fwd=miss; stored"
	renewed   = "statesvc; fwd=stale; stored"
)

var (
	bounded  = cache.Ask{}
	strong   = cache.Ask{Mode: cache.Strong}
	eventual = cache.Ask{Mode: cache.Eventual}
)

func atLeast(v state.Version) cache.Ask { return cache.Ask{Mode: cache.AtLeast, Version: v} }

func ifVersion(v state.Version) state.Precondition { return state.Precondition{Version: v} }

const (
	v1 = `{"v":1}`
	v2 = `{"v":2}`
	v3 = `{"v":3}`
)
