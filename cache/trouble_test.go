package cache_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/internal/netfault"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

// place is a Redis with what may happen to it, and two instances that use it.
type place struct {
	*rig
	*load
	trouble trouble
	server  *testdb.RedisServer // one server, without sentinels
	client  *redis.Client       // of it
	watched *testdb.Sentinels   // or several, with sentinels
	proxy   *netfault.Proxy     // between the second instance and the one server
}

// trouble is undone by end. Without an end, or where there are sentinels, Redis must be used again before that.
type trouble struct {
	name       string
	watched    bool
	begin, end func(p *place)
}

var troubles = []trouble{
	{"killed", true, func(p *place) { p.watched.Caches[0].Kill(p.rig.t) }, nil},
	{"paused", true, func(p *place) {
		p.watched.Caches[0].Pause(p.rig.t)
	}, func(p *place) {
		p.watched.Caches[0].Resume(p.rig.t) // it takes itself for the primary for a while
	}},
	{"failed over, while a sentinel hangs", true, func(p *place) {
		p.watched.Sentinels[2].Pause(p.rig.t)
		p.watched.FailOver(p.rig.t)
	}, func(p *place) { p.watched.Sentinels[2].Resume(p.rig.t) }},
	{"restarted", false, func(p *place) { p.server.Kill(p.rig.t) }, func(p *place) { p.server.Restart(p.rig.t) }},
	{"flushed", false, func(p *place) {
		p.must(p.client.FlushAll(p.rig.t.Context()).Err())
		p.must(p.client.ScriptFlush(p.rig.t.Context()).Err())
	}, nil},
	{"full", false, func(p *place) {
		p.must(p.client.ConfigSet(p.rig.t.Context(), "maxmemory", "1").Err())
	}, func(p *place) {
		p.must(p.client.ConfigSet(p.rig.t.Context(), "maxmemory", "0").Err())
	}},
	{"cut off from one instance", false, func(p *place) {
		p.proxy.Swallow(netfault.ToServer)
		p.proxy.Swallow(netfault.ToClient)
	}, func(p *place) { p.proxy.Heal() }},
	{"slow for one instance", false, func(p *place) {
		p.proxy.Delay(netfault.ToClient, time.Second)
	}, func(p *place) { p.proxy.Heal() }},
}

// Whatever happens to Redis, while two instances read and write: no write fails or is lost, no read is older than its mode allows, an
// instance never asks the primary with more than two statements at a time, and afterwards Redis is used again. Each trouble has a Redis of
// its own, and all of them come at once: what takes long is the time in which nobody notices.
func TestTroubles(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	places := make([]*place, len(troubles))
	for i, trouble := range troubles {
		places[i] = newPlace(r, trouble)
		places[i].run()
		defer places[i].stop()
	}
	for _, p := range places {
		p.usesRedis("at first")
	}
	for _, p := range places {
		p.trouble.begin(p)
	}
	time.Sleep(cache.Bound + time.Second/2) // what is not noticed in this time is older than it may be
	for _, p := range places {
		if p.watched != nil || p.trouble.end == nil {
			p.usesRedis("without help")
		}
	}
	for _, p := range places {
		if p.trouble.end != nil {
			p.trouble.end(p)
		}
	}
	for _, p := range places {
		p.usesRedis("at the end")
		p.check()
	}
}

func newPlace(r *rig, what trouble) *place {
	p := &place{rig: r, trouble: what}
	if what.watched {
		p.watched = testdb.WatchedRedis(r.t)
		p.load = newLoad(r, what.name, p.watched.Setting(), p.watched.Setting())
		return p
	}
	p.server = testdb.Redis(r.t)
	p.client = redis.NewClient(&redis.Options{Addr: p.server.Addr()})
	r.t.Cleanup(func() { _ = p.client.Close() })
	p.proxy = netfault.New(r.t, p.server.Addr())
	p.load = newLoad(r, what.name, p.server.Addr(), p.proxy.Addr())
	return p
}

// load reads and writes a few documents, and knows what reads must show.
type load struct {
	t       testing.TB
	trouble string
	nodes   []*node
	most    []atomic.Int64 // statements at a time, of each instance
	keys    []state.Key
	mu      sync.Mutex
	written map[state.Key][]written
	reads   atomic.Int64
	stop    func() // ends what run has begun
}

// written is a write that was acknowledged.
type written struct {
	number  int
	version state.Version
	at      time.Time // when that was heard
}

const loadKeys = 4

// newLoad makes an instance for each place of a Redis.
func newLoad(r *rig, trouble string, settings ...string) *load {
	l := &load{t: r.t, trouble: trouble, written: map[state.Key][]written{}, most: make([]atomic.Int64, len(settings))}
	for i, setting := range settings {
		var now atomic.Int64
		l.nodes = append(l.nodes, r.start(func(c *cache.Config) {
			c.Redis, c.RedisTimeout, c.NoL1 = setting, 300*time.Millisecond, i == 0
			c.Points = func(name string) {
				switch name {
				case cache.BeforePrimary:
					l.most[i].Store(max(l.most[i].Load(), now.Add(1)))
				case cache.AfterPrimary:
					now.Add(-1)
				}
			}
		}))
	}
	for i := range loadKeys {
		k := key(fmt.Sprintf("%s-%d", strings.NewReplacer(" ", "-", ",", "").Replace(trouble), i))
		l.keys = append(l.keys, k)
		l.write(l.nodes[0], k, 0, absent)
	}
	return l
}

func (l *load) write(n *node, k state.Key, number int, when state.Precondition) {
	answer := n.put(k, fmt.Sprintf(`{"n":%d}`, number), when)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written[k] = append(l.written[k], written{number, answer.Version, time.Now()})
}

// by is the last write of a document that was acknowledged by then.
func (l *load) by(k state.Key, then time.Time) (last written) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.written[k] {
		if !w.at.After(then) {
			last = w
		}
	}
	return last
}

// run reads and writes until stop.
func (l *load) run() {
	done := make(chan struct{})
	var work sync.WaitGroup
	loop := func(every time.Duration, do func(i int)) {
		work.Go(func() {
			for i := 1; ; i++ {
				do(i)
				select {
				case <-done:
					return
				case <-time.After(every):
				}
			}
		})
	}
	loop(50*time.Millisecond, func(i int) { l.write(l.nodes[i/loadKeys%2], l.keys[i%loadKeys], i, exists) })
	for _, n := range l.nodes {
		loop(20*time.Millisecond, func(i int) { l.read(n, l.keys[i/loadKeys%loadKeys], i) })
	}
	l.stop = sync.OnceFunc(func() { close(done); work.Wait() })
}

// read reads a document in a mode, and compares what it shows with what it must at least.
func (l *load) read(n *node, k state.Key, i int) {
	began := time.Now()
	newest := l.by(k, began)
	least := [...]int{
		cache.Bounded: l.by(k, began.Add(-cache.Bound)).number, cache.Strong: newest.number, cache.AtLeast: newest.number, cache.Eventual: 0,
	}
	ask := [...]cache.Ask{bounded, strong, atLeast(newest.version), eventual}[i%len(least)]
	found, err := n.Read(l.t.Context(), k, ask)
	switch {
	case errors.Is(err, shard.ErrOverloaded): // what a caller is told who would have to wait for too long
		return
	case err != nil:
		l.t.Errorf("%s: a read that is %s: %v", l.trouble, ask.Mode, err)
		return
	}
	l.reads.Add(1)
	number := -1
	if _, err := fmt.Sscanf(string(found.Document.Body), `{"n":%d}`, &number); err != nil || number < least[ask.Mode] {
		l.t.Errorf("%s: a read that is %s shows %s (%s), and not %d or later",
			l.trouble, ask.Mode, found.Document.Body, found.Status, least[ask.Mode])
	}
}

// usesRedis waits until all instances store into Redis what nobody has asked for before.
func (l *load) usesRedis(when string) {
	l.t.Helper()
	for i, n := range l.nodes {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			found, err := n.Read(l.t.Context(), key(fmt.Sprintf("probe%d", numbers.Add(1))), bounded)
			if err == nil && found.Status.Stored {
				break
			}
			if time.Now().After(deadline) {
				l.t.Fatalf("%s: instance %d does not use Redis %s: %s, %v", l.trouble, i+1, when, found.Status, err)
			}
		}
	}
}

// check ends the load, and fails if a write was lost, or the primary was asked by too many at a time.
func (l *load) check() {
	l.t.Helper()
	l.stop()
	for _, k := range l.keys {
		last := l.by(k, time.Now())
		l.nodes[1].shows(k, fmt.Sprintf(`{"n":%d}`, last.number), strong)
	}
	for i := range l.nodes {
		if most := l.most[i].Load(); most > 2 {
			l.t.Errorf("%s: instance %d has asked the primary with %d statements at a time", l.trouble, i+1, most)
		}
	}
	if l.reads.Load() == 0 {
		l.t.Errorf("%s: nothing was read", l.trouble)
	}
}

// When Redis has lost everything, or is gone, a thousand readers of a few documents do not all go to the primary.
func TestNoStampede(t *testing.T) {
	t.Parallel()
	const readers, documents = 1000, 10
	for name, trouble := range map[string]func(r *rig, cfg *cache.Config){
		"flushed": func(r *rig, cfg *cache.Config) { cfg.NoL1 = true },
		"gone":    func(r *rig, cfg *cache.Config) { cfg.RedisTimeout = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.t = t
			nodes := []*node{}
			for range 2 {
				nodes = append(nodes, r.start(func(c *cache.Config) { trouble(r, c) }))
			}
			for i := range documents {
				r.commit(key(fmt.Sprintf("d%d", i)), v1, absent)
				nodes[0].shows(key(fmt.Sprintf("d%d", i)), v1, bounded)
			}
			if name == "gone" {
				r.redis.Kill(t)
			} else {
				r.must(r.client.FlushAll(t.Context()).Err())
			}
			before, began := nodes[0].Counts().PrimaryReads+nodes[1].Counts().PrimaryReads, time.Now()
			var reading sync.WaitGroup
			for i := range readers {
				reading.Go(func() { nodes[i%2].shows(key(fmt.Sprintf("d%d", i/2%documents)), v1, bounded) })
			}
			reading.Wait()
			// A copy is believed for some time, and then read again: by one, at each instance.
			most := int64(documents * 2 * (1 + time.Since(began)/time.Second))
			if reads := nodes[0].Counts().PrimaryReads + nodes[1].Counts().PrimaryReads - before; reads > most {
				t.Errorf("%d readers have made %d statements, and not at most %d", readers, reads, most)
			}
		})
	}
}

// Sentinels are asked for the primary, and an instance that knows none yet works without.
func TestSentinelsAreAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	nowhere := "sentinel://" + strings.Join([]string{"127.0.0.1:1", "127.0.0.1:2"}, ",") + "/cache"
	c, err := cache.New(cache.Config{
		Documents: r.documents, Shards: r.ShardNumbers, Now: time.Now, Random: func() float64 { return 1 / 2. },
		NewToken: func() string { return "t" }, Redis: nowhere, Locate: func(shard.Bucket) cache.Place { return cache.Place{Shard: 1, Era: 1} },
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{c, r, t}
	n.put(key("a"), v1, absent)
	n.shows(key("a"), v1, bounded)
	n.comes(key("b"), "", "statesvc; fwd=bypass; detail=breaker", bounded)
	if n.HearsRedis() {
		t.Error("there is a clock of a Redis that nobody knows")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// An instance that does not hear of the others' writes does not show its memory for long, not even to eventual reads.
func TestDeafInstance(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	proxy := netfault.New(t, r.redis.Addr())
	n, deaf := r.start(), r.start(func(c *cache.Config) { c.Redis, c.RedisTimeout = proxy.Addr(), time.Second })
	k := key("a")
	n.put(k, v1, absent)
	deaf.shows(k, v1, bounded)
	time.Sleep(cache.Bound)
	eventually(t, "memory answers, as nothing else was heard", func() bool {
		found, err := deaf.Read(t.Context(), k, eventual)
		return err == nil && plain(found.Status) == fromL1 && found.Age > time.Second
	})
	proxy.Swallow(netfault.ToServer)
	proxy.Swallow(netfault.ToClient)
	n.put(k, v2, exists)
	eventually(t, "the write is seen", func() bool {
		found, err := deaf.Read(t.Context(), k, eventual)
		return err == nil && string(found.Document.Body) == v2
	})
}
