package cache_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

func TestWrittenOnceReadEverywhere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.start(), r.start()
	k := key("sku-1")
	a.comes(k, "", filled, bounded)
	a.put(k, v1, absent)
	a.comes(k, v1, fromL1, bounded)
	b.comes(k, v1, fromRedis, bounded)
	b.comes(k, v1, fromL1, bounded)
	b.comes(k, v1, "statesvc; fwd=request", strong)
	b.shows(k, v1, eventual)
}

// What an instance writes, the others have in memory without asking, if they had the document there.
func TestWritesArePushed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.start(), r.start()
	k := key("a")
	a.put(k, v1, absent)
	b.shows(k, v1, bounded)
	a.put(k, v2, exists)
	eventually(t, "the other instance has it in memory", func() bool {
		found, err := b.Read(t.Context(), k, eventual)
		return err == nil && string(found.Document.Body) == v2 && plain(found.Status) == fromL1
	})
}

// A token is kept whatever memory and Redis have.
func TestTokens(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	first := r.commit(k, v1, absent)
	n := r.start()
	n.shows(k, v1, atLeast(first.Version))
	second := r.commit(k, v2, exists)
	n.shows(k, v1, atLeast(first.Version))
	n.shows(k, v2, atLeast(second.Version))
	future := state.Version{Era: second.Version.Era + 7, Number: 1}
	n.shows(k, v2, atLeast(future))
	token := cache.FormatToken(k, second.Version)
	if v, own, ok := cache.ParseToken(token, k); v != second.Version || !own || !ok {
		t.Errorf("the token is read as %s %t %t", v, own, ok)
	}
	if _, own, ok := cache.ParseToken(token, key("b")); own || !ok {
		t.Errorf("the token of another document: %t %t", own, ok)
	}
	for _, text := range []string{"", "x", token + "A", token[1:], "////"} {
		if _, _, ok := cache.ParseToken(text, k); ok {
			t.Errorf("%q is a token", text)
		}
	}
}

// A thousand readers of a cold document, at two instances, make one read of the primary.
func TestColdKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	r.commit(k, v1, absent)
	late := stopAt(cache.BeforePrimary)
	nodes := []*node{r.start(late.in), r.start()}
	var readers sync.WaitGroup
	read := func() {
		for i := range 1000 {
			readers.Go(func() { nodes[i%2].shows(k, v1, bounded) })
		}
		readers.Wait()
	}
	late.while(t, func() { nodes[0].shows(k, v1, bounded); readers.Wait() }, func() {
		go read()
		eventually(t, "all of them wait", func() bool { return nodes[0].Counts().Reads+nodes[1].Counts().Reads >= 1000 })
	})
	readers.Wait()
	if reads := nodes[0].Counts().PrimaryReads + nodes[1].Counts().PrimaryReads; reads != 1 {
		t.Errorf("%d reads of the primary", reads)
	}
}

// The documents of a batch share statements.
func TestBatchOfMisses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := r.start()
	keys := make([]state.Key, cache.MaxKeys)
	for i := range keys {
		keys[i] = key(fmt.Sprintf("d%d", i))
		if i%2 == 0 {
			r.commit(keys[i], fmt.Sprintf(`{"n":%d}`, i), absent)
		}
	}
	n.shows(keys[0], `{"n":0}`, bounded)
	found, err := n.ReadMany(t.Context(), keys, bounded)
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		want := ""
		if i%2 == 0 {
			want = fmt.Sprintf(`{"n":%d}`, i)
		}
		if got := string(found[i].Document.Body); got != want {
			t.Errorf("%d: %q", i, got)
		}
	}
	if reads := n.Counts().PrimaryReads; reads > cache.MaxKeys/4 {
		t.Errorf("%d statements for %d documents", reads, cache.MaxKeys)
	}
}

// Documents that are read together and are all in Redis cost one round trip.
func TestBatchOfHits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := r.start(noL1)
	keys := make([]state.Key, cache.MaxKeys)
	for i := range keys {
		keys[i] = key(fmt.Sprintf("d%d", i))
	}
	for range 2 {
		if _, err := n.ReadMany(t.Context(), keys, eventual); err != nil {
			t.Fatal(err)
		}
	}
	before := n.Counts()
	if _, err := n.ReadMany(t.Context(), slices.Concat(keys, keys[:1]), eventual); err != nil {
		t.Fatal(err)
	}
	after := n.Counts()
	if hits, trips := after.RedisHits-before.RedisHits, after.Trips-before.Trips; hits != cache.MaxKeys+1 || trips != 1 {
		t.Errorf("%d hits in %d round trips", hits, trips)
	}
}

// What Redis is in for: it is killed, hangs, or has forgotten everything, and reads and writes go on with what their mode allows.
func TestRedisInTrouble(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(r *rig){
		"killed":  func(r *rig) { r.redis.Kill(r.t) },
		"hanging": func(r *rig) { r.redis.Pause(r.t) },
		"flushed": func(r *rig) {
			r.must(r.client.FlushAll(r.t.Context()).Err())
			r.must(r.client.ScriptFlush(r.t.Context()).Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.t = t
			k := key("a")
			r.commit(k, v1, absent)
			n := r.start(noL1, func(c *cache.Config) { c.RedisTimeout = 200 * time.Millisecond })
			n.shows(k, v1, bounded)
			trouble(r)
			second := n.put(k, v2, exists)
			for range 20 {
				n.shows(k, v2, bounded)
				n.shows(k, v2, atLeast(second.Version))
				n.shows(k, v2, eventual)
			}
			if name == "hanging" {
				r.redis.Resume(t)
			} else {
				r.redis.Restart(t)
			}
			eventually(t, "Redis answers again", func() bool {
				found, err := n.Read(t.Context(), k, bounded)
				return err == nil && string(found.Document.Body) == v2 && plain(found.Status) == fromRedis
			})
		})
	}
}

// Without a Redis, memory and the primary answer.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := r.start(func(c *cache.Config) { c.Redis = "" })
	k := key("a")
	n.comes(k, "", "statesvc; fwd=miss", bounded)
	n.put(k, v1, absent)
	n.comes(k, v1, fromL1, bounded)
	if _, err := n.Follower(1).Position(t.Context()); err == nil {
		t.Error("there is something to follow")
	}
}

// A primary that does not answer is waited for by as many as the bulkhead takes; the others are told at once.
func TestBulkhead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	release := make(chan struct{})
	n := r.start(func(c *cache.Config) {
		c.Redis = ""
		c.Points = func(name string) {
			if name == cache.BeforePrimary {
				<-release
			}
		}
	})
	errs := make(chan error, 6000)
	for i := range cap(errs) {
		go func() {
			_, err := n.Read(t.Context(), key(fmt.Sprintf("d%d", i)), bounded)
			errs <- err
		}()
	}
	first := <-errs
	if !errors.Is(first, shard.ErrOverloaded) {
		t.Errorf("who comes too late is told %v", first)
	}
	close(release)
	for range cap(errs) - 1 {
		if err := <-errs; err != nil && !errors.Is(err, shard.ErrOverloaded) {
			t.Fatal(err)
		}
	}
	if reads := n.Counts().PrimaryReads; reads > 100 {
		t.Errorf("%d statements", reads)
	}
}

// A scan of names that nobody else asks for does not push out of Redis what is read all the time.
func TestScanLeavesHotKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, "--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lfu")
	n := r.start(noL1)
	const hot, readers, warm, looks, most, scans = 50, 10, 10, 10, 300, 8
	keys, names := make([]state.Key, hot), make([]string, hot)
	for i := range keys {
		keys[i] = key(fmt.Sprintf("hot%d", i))
		names[i] = redisKey(keys[i])
		r.commit(keys[i], v1, absent)
	}
	var kept, asked int64
	for round, looked := 0, 0; looked < looks; round++ {
		if round == most {
			t.Fatal("nothing was pushed out, so this shows nothing")
		}
		if round >= warm && !strings.Contains(r.client.Info(t.Context(), "stats").Val(), "evicted_keys:0\r") {
			looked++
			kept, asked = kept+r.client.Exists(t.Context(), names...).Val(), asked+hot
		}
		for range readers {
			if _, err := n.ReadMany(t.Context(), keys, eventual); err != nil {
				t.Fatal(err)
			}
		}
		for part := range scans {
			scan := make([]state.Key, cache.MaxKeys)
			for i := range scan {
				scan[i] = key(fmt.Sprintf("no%d-%d-%d", round, part, i))
			}
			if _, err := n.ReadMany(t.Context(), scan, eventual); err != nil {
				t.Fatal(err)
			}
		}
	}
	if kept < asked*9/10 {
		t.Errorf("%d of %d hot documents were still there", kept, asked)
	}
}
