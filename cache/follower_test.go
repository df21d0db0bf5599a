package cache_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/feed"
	"github.com/statesvc/statesvc/state"
)

// Race 18: a document that somebody changes by SQL is shown by everybody at once, however he has done it.
func TestRace18ChangedByHand(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"as the service does": `UPDATE state SET doc=CAST('{"v":2}' AS BLOB), ver=ver+1`,
		"without a version":   `UPDATE state SET doc=CAST('{"v":2}' AS BLOB)`,
		"back in time":        `UPDATE state SET doc=CAST('{"v":2}' AS BLOB), ver=5`,
		"under another name":  `UPDATE state SET doc=CAST('{"v":2}' AS BLOB), id='a', bucket=` + fmt.Sprint(key("a").Bucket()) + ` WHERE id='b'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			n, other := r.start(), r.start(noL1)
			first := "a"
			if strings.Contains(statement, "id='a'") {
				first = "b"
			}
			n.put(key(first), v1, absent)
			r.follow(n)
			for _, k := range []state.Key{key("a"), key("b")} {
				n.shows(k, map[bool]string{true: v1}[k.ID == first], bounded)
			}
			r.trusts(other, key(first))
			r.sql(statement)
			eventually(t, "everybody shows it", func() bool {
				here, err1 := n.Read(t.Context(), key("a"), eventual)
				there, err2 := other.Read(t.Context(), key("a"), eventual)
				return err1 == nil && err2 == nil && string(here.Document.Body) == v2 && string(there.Document.Body) == v2
			})
			if first == "b" {
				other.shows(key("b"), "", bounded)
			}
		})
	}
}

// A row that was written by hand in the era before the last failover has a larger number in an earlier era than what was seen of it.
func TestChangeByHandInAnOldEra(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	r.commit(k, v1, absent)
	r.failOver(2)
	n, other := r.start(), r.start(noL1)
	r.follow(n)
	n.shows(k, v1, bounded) // the follower that begins may take the lease away
	r.trusts(other, k)
	r.sql(`UPDATE state SET doc=CAST('{"v":2}' AS BLOB), ver=ver+1`)
	eventually(t, "everybody shows it", func() bool {
		here, err1 := n.Read(t.Context(), k, eventual)
		there, err2 := other.Read(t.Context(), k, eventual)
		return err1 == nil && err2 == nil && string(here.Document.Body) == v2 && string(there.Document.Body) == v2
	})
}

// A row that is removed is gone for everybody.
func TestRowIsRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	n, other := r.start(), r.start(noL1)
	n.put(k, v1, absent)
	r.follow(n)
	r.trusts(other, k)
	r.sql("DELETE FROM state")
	eventually(t, "everybody knows", func() bool {
		here, err1 := n.Read(t.Context(), k, eventual)
		there, err2 := other.Read(t.Context(), k, eventual)
		return err1 == nil && err2 == nil && !here.Document.Exists() && !there.Document.Exists()
	})
}

// While a shard is followed, what Redis has needs no stamps: nobody asks the primary again, however much time passes.
func TestFollowedDocumentsAreNotReadAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	n := r.start(noL1)
	n.put(k, v1, absent)
	r.follow(n)
	r.trusts(n, k)
	before := n.Counts().PrimaryReads
	for range 20 {
		r.must(r.client.HSet(t.Context(), redisKey(k), "s", 1).Err()) // as old as can be
		n.shows(k, v1, bounded)
	}
	if again := n.Counts().PrimaryReads - before; again > 10 { // a machine that stops for a second makes beats old
		t.Errorf("the primary was asked %d times", again)
	}
}

// What happens while nobody follows is made good from the position in Redis.
func TestFollowerGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	n, other := r.start(noL1), r.start(noL1)
	n.put(k, v1, absent)
	stop := r.follow(n)
	r.trusts(other, k)
	stop()
	r.commit(k, v2, exists)
	n.shows(k, v1, eventual)
	log := r.follow(n)
	defer log()
	eventually(t, "Redis has it", func() bool {
		result, err := other.Read(t.Context(), k, eventual)
		return err == nil && string(result.Document.Body) == v2
	})
}

// A position that is lost with Redis' data, or with the log, makes Redis forget the documents of the shard, and none else.
func TestFollowerStartsAnew(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(r *rig){
		"beat":   func(r *rig) { r.must(r.client.Del(r.t.Context(), "hb:1").Err()) },
		"broken": func(r *rig) { r.must(r.client.Set(r.t.Context(), "hb:1", "what", 0).Err()) },
		"log":    func(r *rig) { r.sql("DELETE FROM feed_log") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			k := key("a")
			n, other := r.start(noL1), r.start(noL1)
			n.put(k, v1, absent)
			stop := r.follow(n)
			r.trusts(other, k)
			stop()
			r.commit(k, v2, exists)
			r.commit(k, v3, exists)
			lose(r)
			n.shows(k, v1, eventual)
			r.follow(n)
			eventually(t, "nobody shows what was missed", func() bool {
				result, err := other.Read(t.Context(), k, eventual)
				return err == nil && string(result.Document.Body) == v3
			})
		})
	}
}

// Redis fails over to a dataset that has less: it is not believed before everything that it lacks was said again.
func TestRedisLosesTheNewest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := key("a"), key("b")
	n, other := r.start(noL1), r.start(noL1)
	n.put(a, v1, absent)
	n.put(b, v1, absent)
	stop := r.follow(n)
	r.trusts(other, a)
	r.trusts(other, b)
	old := r.dataset()
	n.put(a, v2, exists)
	n.put(b, v2, exists)
	other.shows(b, v2, bounded)
	stop()
	r.restore(old)
	held := stopAt(cache.BeforeApply)
	again := r.start(noL1, held.in)
	held.while(t, func() { r.follow(again); <-held.release }, func() {
		eventually(t, "Redis is asked again", func() bool {
			result, err := other.Read(t.Context(), b, eventual)
			return err == nil && plain(result.Status) == fromRedis
		})
		other.shows(b, v1, eventual)
		other.comes(a, v2, renewed, bounded)
	})
	eventually(t, "Redis has what it lacked", func() bool {
		result, err := other.Read(t.Context(), b, eventual)
		return err == nil && string(result.Document.Body) == v2
	})
}

// follow has a cache follow the rig's shard, as an instance does, until stop is called or the test ends.
func (r *rig) follow(n *node) (stop func()) {
	return r.feed(n.Follower(1))
}

// feed feeds a consumer.
func (r *rig) feed(c feed.Consumer) (stop func()) {
	r.t.Helper()
	db, _, err := r.Store.Primary(1)
	if err != nil {
		r.t.Fatal(err)
	}
	route, err := r.Routes.Shard(1)
	if err != nil {
		r.t.Fatal(err)
	}
	tailer := feed.NewEmbeddedTailer(feed.EmbeddedConfig{
		Shard: 1, Epoch: route.Epoch, DB: db.SQL(), Tables: cache.Tables, Consumer: c, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	var running sync.WaitGroup
	running.Go(func() { tailer.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	r.t.Cleanup(stop)
	return stop
}

// trusts waits until a node that has no memory believes what Redis has of a document without regard to its stamp.
func (r *rig) trusts(n *node, k state.Key) {
	r.t.Helper()
	eventually(r.t, "Redis is believed", func() bool {
		r.must(r.client.Eval(r.t.Context(), ageSQL, []string{redisKey(k)}).Err())
		result, err := n.Read(r.t.Context(), k, bounded)
		return err == nil && plain(result.Status) == fromRedis
	})
}

// ageSQL makes an entry as old as can be.
const ageSQL = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 's', 1) end return 0"

// dataset is all that Redis has.
func (r *rig) dataset() map[string]string {
	r.t.Helper()
	all := map[string]string{}
	names, err := r.client.Keys(r.t.Context(), "*").Result()
	r.must(err)
	slices.Sort(names)
	for _, name := range names {
		all[name], err = r.client.Dump(r.t.Context(), name).Result()
		r.must(err)
	}
	return all
}

// restore makes of Redis what a server is that had this dataset when it took over.
func (r *rig) restore(all map[string]string) {
	r.t.Helper()
	r.redis.Restart(r.t)
	r.must(r.client.FlushAll(r.t.Context()).Err())
	for name, dump := range all {
		r.must(r.client.RestoreReplace(r.t.Context(), name, 0, dump).Err())
	}
}
