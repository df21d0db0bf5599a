package cache_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

// rig is a cluster of one shard with a Redis, and as many instances of it as a test wants.
type rig struct {
	t      *testing.T
	reg    *register.File
	shards []instance.Shard
	redis  *testdb.RedisServer
}

// kind is declared in every rig.
const kind = "product"

// newRig makes a cluster on SQLite, with a real Redis. redisArgs are settings of it.
func newRig(t *testing.T, redisArgs ...string) *rig {
	t.Helper()
	folder := t.TempDir()
	return rigOn(t, instance.Shard{Name: "s1", File: filepath.Join(folder, "s1.db")}, redisArgs...)
}

// rigOn makes a cluster on a shard.
func rigOn(t *testing.T, one instance.Shard, redisArgs ...string) *rig {
	t.Helper()
	reg, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	r := &rig{t: t, reg: reg, shards: []instance.Shard{one}, redis: testdb.Redis(t, redisArgs...)}
	if err := instance.Bootstrap(t.Context(), reg, r.shards, time.Now, func(string) {}); err != nil {
		t.Fatal(err)
	}
	return r
}

// node is an instance of a rig.
type node struct {
	*instance.Instance
	t *testing.T
}

var numbers atomic.Int64

// start starts an instance. points may stop its readers and writers.
func (r *rig) start(points cache.Points) *node {
	r.t.Helper()
	return r.startWith(func(c *instance.Config) { c.CachePoints = points })
}

func (r *rig) startWith(change func(*instance.Config)) *node {
	r.t.Helper()
	cfg := instance.Config{
		Name: fmt.Sprintf("i%d", numbers.Add(1)), Register: r.reg, Shards: r.shards, Redis: r.redis.Addr(),
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	change(&cfg)
	in, err := instance.Open(r.t.Context(), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := in.Close(context.Background()); err != nil {
			r.t.Error(err)
		}
	})
	if _, err := in.Kinds.Declare(r.t.Context(), kind, state.Spec{}); err != nil {
		r.t.Fatal(err)
	}
	return &node{in, r.t}
}

func key(id string) state.Key { return state.Key{Kind: kind, ID: id} }

// absent and exists are preconditions.
var (
	absent = state.Precondition{Absent: true}
	exists = state.Precondition{Exists: true}
)

// put writes a document and fails the test if it is not written.
func (n *node) put(id, body string, when state.Precondition) state.Answer {
	n.t.Helper()
	answer, err := n.State.Put(n.t.Context(), n.request(id, when), []byte(body))
	if err != nil {
		n.t.Fatal(err)
	}
	return answer
}

func (n *node) request(id string, when state.Precondition) state.Request {
	return state.Request{Key: key(id), When: when, Idempotency: fmt.Sprintf("k%d", numbers.Add(1))}
}

// read reads a document.
func (n *node) read(id string, ask cache.Ask) cache.Result {
	n.t.Helper()
	result, err := n.State.Read(n.t.Context(), key(id), ask)
	if err != nil {
		n.t.Fatal(err)
	}
	return result
}

// shows fails the test unless the document has this body; none is "".
func (n *node) shows(id, body string, ask cache.Ask) cache.Result {
	n.t.Helper()
	result := n.read(id, ask)
	if got := string(result.Document.Body); got != body {
		n.t.Fatalf("%s is read as %q (%+v), want %q", ask.Mode, got, result.Status, body)
	}
	return result
}

var (
	bounded  = cache.Ask{}
	strong   = cache.Ask{Mode: cache.Strong}
	eventual = cache.Ask{Mode: cache.Eventual}
)

func atLeast(v state.Version) cache.Ask { return cache.Ask{Mode: cache.AtLeast, Version: v} }

func bucketOf(id string) shard.Bucket { return key(id).Bucket() }
