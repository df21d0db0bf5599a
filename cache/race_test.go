package cache_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/feed"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

// The tests of this file force the interleavings of the table in docs/cache.md, by its numbers. Nothing in them depends on luck, and
// time matters only where the promise is about time.

// Race 1: a reader has read the first version when the second is committed and put; then he fills.
func TestRace01FillAfterPut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	r.commit(k, v1, absent)
	late := stopAt(cache.BeforeFill)
	reader, writer, other := r.start(late.in, noL1), r.start(), r.start(noL1)
	late.while(t, func() { reader.shows(k, v1, bounded) }, func() { writer.put(k, v2, exists) })
	other.shows(k, v2, bounded)
	other.shows(k, v2, eventual)
}

// Race 2: the puts of two writers arrive reversed.
func TestRace02PutsReversed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	r.commit(k, v1, absent)
	late := stopAt(cache.AfterCommit)
	slow, quick, other := r.start(late.in), r.start(), r.start(noL1)
	other.comes(k, v1, filled, bounded)
	late.while(t, func() { slow.put(k, v2, exists) }, func() { quick.put(k, v3, exists) })
	other.comes(k, v3, fromRedis, bounded)
	eventually(t, "the slow writer shows what is newer than its own", func() bool {
		result, err := slow.Read(t.Context(), k, eventual)
		return err == nil && string(result.Document.Body) == v3
	})
}

// Race 3: a writer dies between its commit and its put. Nobody reads the old version later than the bound after the commit, and the
// feed mends it before.
func TestRace03WriterDies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	reader, remote := r.start(), r.start(noL1)
	a, b := key("a"), key("b")
	for _, k := range []state.Key{a, b} {
		r.commit(k, v1, absent)
		reader.comes(k, v1, filled, bounded)
	}
	committed := time.Now()
	r.commit(a, v2, exists)
	reader.shows(a, v1, bounded) // as the mode allows
	time.Sleep(time.Until(committed.Add(cache.Bound)))
	reader.shows(a, v2, bounded)
	remote.shows(a, v2, bounded)
	r.follow(remote)
	r.trusts(remote, b)
	r.commit(b, v2, exists)
	eventually(t, "the feed mends both copies", func() bool {
		here, err1 := reader.Read(t.Context(), b, eventual)
		there, err2 := remote.Read(t.Context(), b, eventual)
		return err1 == nil && err2 == nil && string(here.Document.Body) == v2 && string(there.Document.Body) == v2
	})
}

// Race 4: a read between a commit and its put. A token sees the write; so does everybody if the kind announces its writes.
func TestRace04CommitBeforePut(t *testing.T) {
	t.Parallel()
	for _, name := range []string{kind, careful} {
		r := newRig(t)
		k := state.Key{Kind: name, ID: "a"}
		first := r.commit(k, v1, absent)
		late := stopAt(cache.AfterCommit)
		writer, other := r.start(late.in), r.start(noL1)
		other.comes(k, v1, filled, bounded)
		late.while(t, func() { writer.put(k, v2, exists) }, func() {
			next := state.Version{Era: first.Version.Era, Number: first.Version.Number + 1}
			if name == careful {
				other.shows(k, v2, bounded)
			}
			other.shows(k, v2, atLeast(next))
		})
		other.shows(k, v2, bounded)
	}
}

// Race 6: the key is evicted during a fill, and a write in between finds nothing that it could tell.
func TestRace06EvictedDuringFill(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	r.commit(k, v1, absent)
	late := stopAt(cache.BeforeFill)
	reader, writer, other := r.start(late.in, noL1), r.start(noL1), r.start(noL1)
	late.while(t, func() { reader.shows(k, v1, bounded) }, func() {
		r.evict(k)
		writer.put(k, v2, exists)
	})
	other.comes(k, v2, filled, bounded)
}

// Race 7: that there is no document is cached while one is made, before and after.
func TestRace07NegativeAgainstInsert(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	late := stopAt(cache.BeforeFill)
	reader, writer, other := r.start(late.in, noL1), r.start(), r.start(noL1)
	a, b := key("a"), key("b")
	other.comes(b, "", filled, bounded)
	other.comes(b, "", fromRedis, bounded)
	writer.put(b, v1, absent)
	other.comes(b, v1, fromRedis, bounded)
	late.while(t, func() { reader.shows(a, "", bounded) }, func() { writer.put(a, v1, absent) })
	other.shows(a, v1, bounded)
}

// Race 8: a document is deleted and made again. No version comes twice, not even after its tombstone was purged.
func TestRace08DeleteAndMakeAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n, other := r.start(), r.start(noL1)
	k := key("a")
	first := n.put(k, v1, absent)
	other.shows(k, v1, bounded)
	deleted, err := n.Delete(t.Context(), request(k, ifVersion(first.Version)))
	if err != nil {
		t.Fatal(err)
	}
	other.shows(k, "", bounded)
	again := n.put(k, v2, absent)
	other.shows(k, v2, bounded)
	r.sql("DELETE FROM state")
	purged := n.put(k, v3, absent)
	for older, newer := range map[state.Version]state.Version{
		first.Version: deleted.Version, deleted.Version: again.Version, again.Version: purged.Version,
	} {
		if newer.Compare(older) <= 0 {
			t.Errorf("version %s comes after %s", newer, older)
		}
	}
	other.shows(k, v3, bounded)
}

// Race 9: a read must not join one that began before a write which it has to see: one of its own instance, or one whose token it has.
func TestRace09OldFlights(t *testing.T) {
	t.Parallel()
	t.Run("write", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		k := key("a")
		r.commit(k, v1, absent)
		late := stopAt(cache.AfterPrimary)
		n := r.start(late.in, noL1)
		late.while(t, func() { n.shows(k, v1, bounded) }, func() {
			n.put(k, v2, exists)
			n.shows(k, v2, bounded)
		})
	})
	t.Run("token", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		k := key("a")
		first := r.commit(k, v1, absent)
		late := stopAt(cache.AfterPrimary)
		n := r.start(late.in, noL1)
		late.while(t, func() { n.shows(k, v1, atLeast(first.Version)) }, func() {
			second := r.commit(k, v2, exists)
			r.evict(k) // so that nobody waits for the lease
			n.shows(k, v2, atLeast(second.Version))
		})
	})
}

// Race 10: a reader is paused until his lease is over; meanwhile a version is committed of which Redis hears nothing.
func TestRace10FillerPaused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	r.commit(k, v1, absent)
	late := stopAt(cache.BeforeFill)
	reader, other := r.start(late.in, noL1), r.start(noL1)
	late.while(t, func() { reader.shows(k, v1, bounded) }, func() {
		r.must(r.client.HSet(t.Context(), redisKey(k), "x", 1).Err())
		r.commit(k, v2, exists)
	})
	other.comes(k, v2, filled, eventual) // he has stored nothing
}

// Race 11: Redis comes back with what it had, but without what it was told last. Its entries carry the server that stamped them.
func TestRace11RedisComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, "--appendonly", "yes", "--appendfsync", "always")
	k := key("a")
	r.commit(k, v1, absent)
	before := r.start(noL1)
	before.comes(k, v1, filled, bounded)
	stop := r.follow(before)
	r.trusts(before, k)
	stop()
	r.commit(k, v2, exists)
	r.redis.Restart(t)
	r.start(noL1).comes(k, v2, renewed, bounded)
}

// Race 12: the feed has stopped, or Redis is cut off from it: what was vouched for is believed no longer than the bound.
func TestRace12FeedStops(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	r.commit(k, v1, absent)
	n := r.start(noL1)
	stop := r.follow(n)
	r.trusts(n, k)
	stop()
	committed := time.Now()
	r.commit(k, v2, exists)
	time.Sleep(time.Until(committed.Add(cache.Bound)))
	n.shows(k, v2, bounded)
}

// Race 13: after a failover every entry of the era before is suspect, and is read from the new primary once.
func TestRace13NewEra(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	r.commit(k, v1, absent)
	n, other := r.start(), r.start(noL1)
	n.comes(k, v1, filled, bounded)
	r.follow(other) // by a feed that does not hear of it
	r.trusts(other, k)
	r.failOver(2)
	n.comes(k, v1, renewed, bounded)
	n.comes(k, v1, fromL1, bounded)
	other.comes(k, v1, fromRedis, bounded)
	if seen := other.shows(k, v1, bounded).Seen; seen.Era != 2 {
		t.Errorf("it was seen in era %d", seen.Era)
	}
}

// Race 14: a bucket moves. What the old place still has is not read there any more, and copies of the time before are read again, once.
func TestRace14BucketMoves(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	r.commit(k, v1, absent)
	late := stopAt(cache.BeforePrimary)
	reader, n, other := r.start(late.in, noL1), r.start(), r.start(noL1)
	n.comes(k, v1, filled, bounded)
	r.follow(other) // by a feed that does not hear of the move
	r.trusts(other, k)
	late.while(t, func() {
		if found, err := reader.Read(t.Context(), k, strong); err == nil {
			t.Errorf("the old place shows %s", found.Document.Body)
		}
	}, func() { r.sql(fmt.Sprintf("UPDATE bucket_owner SET state='GONE' WHERE bucket=%d", k.Bucket())) })
	r.sql(fmt.Sprintf("UPDATE bucket_owner SET state='SERVING', era_base=5 WHERE bucket=%d", k.Bucket()))
	r.moved(5, k)
	n.comes(k, v1, renewed, bounded)
	n.comes(k, v1, fromL1, bounded)
	other.comes(k, v1, fromRedis, bounded)
	if seen := other.shows(k, v1, bounded).Seen; seen.Era != 6 {
		t.Errorf("it was seen in era %d", seen.Era)
	}
}

// Race 15: an announced write that does not happen is taken back; if nobody is left to do that, its time ends.
func TestRace15RollbackAfterIntent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := state.Key{Kind: careful, ID: "a"}
	r.commit(k, v1, absent)
	n := r.start(noL1)
	n.comes(k, v1, filled, bounded)
	if _, err := n.Put(t.Context(), request(k, absent), []byte(v2)); err == nil {
		t.Fatal("the write happened")
	}
	n.comes(k, v1, fromRedis, bounded)
	r.must(r.client.HSet(t.Context(), redisKey(k), "w", "DEAD:9999999999999 ").Err())
	n.comes(k, v1, "statesvc; fwd=bypass; detail=intent", bounded)
	r.must(r.client.HSet(t.Context(), redisKey(k), "w", "DEAD:1 ").Err())
	n.comes(k, v1, fromRedis, bounded)
}

// Race 16: the feed repeats what it has said before.
func TestRace16FeedRepeats(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	n, other := r.start(), r.start(noL1)
	stop := r.follow(n)
	eventually(t, "Redis has a beat", func() bool { return r.client.Exists(t.Context(), "hb:1").Val() == 1 })
	stop()
	from := r.client.Get(t.Context(), "hb:1").Val()
	n.put(k, v1, absent)
	n.shows(k, v1, bounded)
	other.shows(k, v1, bounded)
	n.put(k, v2, exists)
	r.must(r.client.Set(t.Context(), "hb:1", from, 0).Err())
	between := stopAt(cache.BeforeBeat)
	again := r.start(noL1, between.in)
	between.while(t, func() { r.follow(again); <-between.release }, func() {
		n.shows(k, v2, bounded)
		other.comes(k, v2, fromRedis, bounded)
	})
	r.trusts(other, k)
	other.shows(k, v2, bounded)
}

// Race 17: the clocks of two instances are an hour apart. Stamps are of Redis' clock, ages of the reader's own.
func TestRace17ClocksDiffer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		shifted := r.start(noL1, func(c *cache.Config) { c.Now = func() time.Time { return time.Now().Add(ahead) } })
		right := r.start(noL1)
		r.evict(k)
		right.shows(k, string(shifted.shows(k, "", strong).Document.Body), bounded)
		wrote := shifted.put(k, v1, absent)
		right.comes(k, v1, fromRedis, bounded)
		shifted.comes(k, v1, fromRedis, bounded)
		if _, err := right.Delete(t.Context(), request(k, ifVersion(wrote.Version))); err != nil {
			t.Fatal(err)
		}
	}
}

// Race 20: a feed reads a primary that was cut off. It vouches for what its last marker has proved, and nobody believes it in a later
// epoch.
func TestRace20FeedOfAnOldPrimary(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	n := r.start(noL1)
	follower := n.Follower(1)
	if _, err := follower.Position(t.Context()); err != nil {
		t.Fatal(err)
	}
	vouch := func(completeAt time.Time) {
		r.must(follower.Take(t.Context(), feed.Release{Shard: 1, Epoch: 1, Position: "p", CompleteAt: completeAt}))
		r.must(r.client.Eval(t.Context(), ageSQL, []string{redisKey(k)}).Err())
	}
	vouchForLong := func(completeAt func() time.Time) {
		for begun := time.Now(); time.Since(begun) < cache.Bound; time.Sleep(20 * time.Millisecond) {
			vouch(completeAt())
		}
	}
	r.commit(k, v1, absent)
	n.comes(k, v1, filled, bounded)
	eventually(t, "it is believed while it is right", func() bool {
		vouch(time.Now())
		found, err := n.Read(t.Context(), k, bounded)
		return err == nil && plain(found.Status) == fromRedis
	})

	last := time.Now()
	r.commit(k, v2, exists) // at another primary
	vouchForLong(func() time.Time { return last })
	n.shows(k, v2, bounded)

	r.failOver(2)
	n.shows(k, v2, bounded)
	r.commit(k, v3, exists)
	vouchForLong(time.Now)
	n.shows(k, v3, bounded)
}

// A reader has seen the first version in Redis when the second is put and all instances are told; then he remembers what he has seen.
func TestRememberedTooLate(t *testing.T) {
	t.Parallel()
	for name, point := range map[string]string{"of Redis": cache.AfterPeek, "of the primary": cache.AfterPrimary} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			k, told := key("a"), key("told")
			r.commit(k, v1, absent)
			late := stopAt(point)
			reader, writer := r.start(), r.start(noL1)
			slow := r.start(late.in)
			reader.put(told, v1, absent)
			if point == cache.AfterPeek {
				reader.comes(k, v1, filled, bounded)
			}
			late.while(t, func() { slow.shows(k, v1, bounded) }, func() {
				slow.shows(told, v1, bounded)
				writer.put(k, v2, exists)
				writer.put(told, v2, exists)
				eventually(t, "he has heard of it", func() bool {
					found, err := slow.Read(t.Context(), told, eventual)
					return err == nil && string(found.Document.Body) == v2 && plain(found.Status) == fromL1
				})
			})
			slow.shows(k, v2, eventual)
		})
	}
}

// A clock of Redis that is set back makes no entry younger.
func TestRedisClockSetBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := key("a")
	r.commit(k, v1, absent)
	n := r.start(noL1)
	n.comes(k, v1, filled, bounded)
	now := r.client.Time(t.Context()).Val().UnixMilli()
	r.must(r.client.HSet(t.Context(), redisKey(k), "s", now+60_000).Err()) // as stamped before the clock was set back
	r.commit(k, v2, exists)
	n.comes(k, v2, renewed, bounded)
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Error(err)
	}
}

func redisKey(k state.Key) string { return "s:" + k.String() }

func (r *rig) evict(k state.Key) {
	r.t.Helper()
	r.must(r.client.Del(r.t.Context(), redisKey(k)).Err())
}

// sql changes the shard under the hands of everybody.
func (r *rig) sql(statement string) {
	r.t.Helper()
	db, _, err := r.Store.Primary(1)
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = db.SQL().ExecContext(r.t.Context(), statement)
	r.must(err)
}

// moved lets the map say that the bucket of a document was moved, in which its era rises.
func (r *rig) moved(eraBase int64, k state.Key) {
	r.t.Helper()
	m, _ := r.Routes.Map()
	m.Runs = slices.Clone(m.Runs)
	for i := range m.Runs {
		m.Runs[i].EraBase = eraBase
	}
	m.Version++
	text, err := m.Encode()
	r.must(err)
	_, err = register.Put(context.Background(), r.reg, shard.MapKey, text)
	r.must(err)
	eventually(r.t, "the routes know of the move", func() bool {
		route, err := r.Routes.Route(k.Bucket())
		return err == nil && route.EraBase == eraBase
	})
}

// failOver begins an epoch of the shard.
func (r *rig) failOver(epoch uint64) {
	r.t.Helper()
	entry, err := r.reg.Get(r.t.Context(), shard.RecordKey(1))
	r.must(err)
	record, err := shard.DecodeRecord(entry.Value)
	r.must(err)
	r.sql("UPDATE fence SET epoch=2")
	record.Epoch = epoch
	text, err := record.Encode()
	r.must(err)
	_, err = register.Put(context.Background(), r.reg, shard.RecordKey(1), text)
	r.must(err)
	eventually(r.t, "the routes know of the epoch", func() bool {
		route, err := r.Routes.Shard(1)
		return err == nil && route.Epoch == epoch
	})
}
