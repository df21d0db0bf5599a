package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/statesvc/statesvc/feed"
)

// errReplaced says that the Redis server is another one than a moment ago.
var errReplaced = errors.New("the Redis server was replaced")

// beat is what the feed of a shard says of a Redis server: everything up to a position was applied to it, and before an instant of its
// clock nothing else was acknowledged. It is kept among the entries, so whoever loses some of them loses it as well.
type beat struct {
	epoch    uint64 // in which the shard has acknowledged that
	at       int64  // ms of the server's clock; 0: nothing is known of any instant
	run      string // run_id of the server
	position feed.Position
}

// beatTTL only clears away what nobody renews; whether a beat is believed depends on its age.
const beatTTL = time.Hour

func beatKey(number int) string { return "hb:" + strconv.Itoa(number) }

func (b beat) String() string { return fmt.Sprintf("%d %d %s %s", b.epoch, b.at, b.run, b.position) }

func parseBeat(text string) (b beat, ok bool) {
	parts := strings.SplitN(text, " ", 4)
	if len(parts) != 4 {
		return b, false
	}
	epoch, err := strconv.ParseUint(parts[0], 10, 64)
	at, failed := strconv.ParseInt(parts[1], 10, 64)
	return beat{epoch, at, parts[2], feed.Position(parts[3])}, err == nil && failed == nil
}

// beats are the newest beats of all shards, with the sample that they were read with.
type beats struct{ last atomic.Pointer[heard] }

type heard struct {
	run string // of the server that has said it
	of  map[int]vouched
}

// vouched is a beat and the instant of our clock that it is worth: not later than the one it means, and never a later one for the same
// beat, whatever becomes of the server's clock.
type vouched struct {
	beat
	instant time.Time
}

// take takes what a server has said together with its clock.
func (b *beats) take(s *sample, of map[int]beat) {
	old := b.last.Load()
	next := &heard{s.run, make(map[int]vouched, len(of))}
	for number, beat := range of {
		v := vouched{beat, s.instantOf(min(beat.at, s.redis))}
		if old != nil && old.of[number].beat == beat && old.of[number].instant.Before(v.instant) {
			v = old.of[number]
		}
		next.of[number] = v
	}
	b.last.Store(next)
}

// vouchedAt is an instant before which everything that a shard has acknowledged is in the Redis server with this run_id, for reads of it
// from now on. ok is false if nobody vouches for the shard in this epoch, or not lately enough.
func (h *heard) vouchedAt(number int, epoch uint64, run string, now time.Time) (at time.Time, ok bool) {
	if h == nil || epoch == 0 || h.run != run {
		return at, false
	}
	v, found := h.of[number]
	if !found || v.run != run || v.epoch != epoch {
		return at, false
	}
	return v.instant, now.Sub(v.instant) <= trusted
}

// listen reads the server's clock and the beats of shards.
func (r *remote) listen(ctx context.Context, numbers []int) error {
	p, sentAt := r.pool(), r.now()
	pipe := p.client.Pipeline()
	at := pipe.Time(ctx)
	texts := make([]*redis.StringCmd, len(numbers))
	for i, n := range numbers {
		texts[i] = pipe.Get(ctx, beatKey(n))
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	if r.pool() != p {
		return errReplaced
	}
	s := &sample{p.running(), at.Val().UnixMilli(), sentAt, r.now()}
	of := make(map[int]beat, len(numbers))
	for i, n := range numbers {
		if b, ok := parseBeat(texts[i].Val()); ok {
			of[n] = b
		}
	}
	r.clock.take(s)
	r.beats.take(s, of)
	return nil
}
