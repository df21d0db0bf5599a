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

	"github.com/statesvc/statesvc/state"
)

// Change is what the feed tells of a row of table state, after a commit that cannot be lost any more.
type Change struct {
	Document state.Document // Body is nil for a tombstone
}

// Moment is an instant of the clock of the Redis server that was asked.
type Moment struct {
	Run string // run_id of the server
	At  int64  // ms
}

// ErrReplaced says that the Redis server is another one than a Moment is of. What the feed has applied since is on neither for certain.
var ErrReplaced = errors.New("the Redis server was replaced")

// errNoRedis is the error of the feed's calls where there is no Redis.
var errNoRedis = errors.New("there is no Redis of the cache role")

// The calls of the feed, in the order in which it makes them: Moment, then it has a marker committed, then Apply with everything before
// the marker, then Vouch.

// Moment asks the server for its clock.
func (c *Cache) Moment(ctx context.Context) (Moment, error) {
	if c.remote == nil {
		return Moment{}, errNoRedis
	}
	s, err := c.remote.sample(ctx)
	if err != nil {
		return Moment{}, err
	}
	return Moment{s.run, s.redis}, nil
}

// Apply tells Redis and the memories of all instances of changes. It may be repeated, and changes may be older than what is known. After
// an error some of them may have been applied.
func (c *Cache) Apply(ctx context.Context, changes []Change) error {
	if c.remote == nil {
		return errNoRedis
	}
	replies := make([]*command, 0, 2*len(changes))
	for i := range changes {
		d := &changes[i].Document
		c.l1.outdated(d.Key, d.Version, nil)
		replies = append(replies, putOf(d, true, nil, 0, ""), messageOf(d, true, nil, 0))
	}
	for _, reply := range replies {
		reply.reply = make(chan answered, 1)
		select {
		case c.remote.queue <- reply:
		case <-ctx.Done():
			return fmt.Errorf("apply %d changes: %w", len(changes), ctx.Err())
		}
	}
	for _, reply := range replies {
		select {
		case a := <-reply.reply:
			if a.err != nil {
				return fmt.Errorf("apply %d changes: %w", len(changes), a.err)
			}
		case <-ctx.Done():
			return fmt.Errorf("apply %d changes: %w", len(changes), ctx.Err())
		}
	}
	return nil
}

// Vouch says that everything which a shard had acknowledged before a moment was applied. epoch is that in which the shard has
// acknowledged the feed's marker; gtid is where the feed is.
func (c *Cache) Vouch(ctx context.Context, number int, epoch uint64, gtid string, m Moment) error {
	if c.remote == nil {
		return errNoRedis
	}
	value := fmt.Sprintf("%d %d %s %s", epoch, m.At, m.Run, gtid)
	if err := c.remote.client.Set(ctx, beatKey(number), value, beatTTL).Err(); err != nil {
		return fmt.Errorf("vouch for shard %d: %w", number, err)
	}
	if c.remote.running() != m.Run {
		return ErrReplaced
	}
	return nil
}

// beat is what the feed of a shard has vouched for.
type beat struct {
	epoch uint64
	at    int64 // ms of the server's clock
	run   string
}

// beatTTL only clears away what nobody renews; whether a beat is believed depends on its age.
const beatTTL = time.Hour

func beatKey(number int) string { return "hb:" + strconv.Itoa(number) }

func parseBeat(text string) (b beat, ok bool) {
	parts := strings.SplitN(text, " ", 4)
	if len(parts) != 4 {
		return b, false
	}
	epoch, err := strconv.ParseUint(parts[0], 10, 64)
	at, failed := strconv.ParseInt(parts[1], 10, 64)
	return beat{epoch, at, parts[2]}, err == nil && failed == nil
}

// beats are the newest beats of all shards, with the sample that they were read with.
type beats struct{ last atomic.Pointer[heard] }

type heard struct {
	sample *sample
	of     map[int]beat
}

// vouchedAt is an instant before which everything that a shard has acknowledged is in the Redis server with this run_id, for reads of it
// from now on. ok is false if nobody vouches for the shard in this epoch, or not lately enough.
func (b *beats) vouchedAt(number int, epoch uint64, run string, now time.Time) (at time.Time, ok bool) {
	h := b.last.Load()
	if h == nil || epoch == 0 || h.sample.run != run {
		return at, false
	}
	beat, found := h.of[number]
	if !found || beat.run != run || beat.epoch != epoch {
		return at, false
	}
	at = h.sample.instantOf(beat.at)
	return at, now.Sub(at) <= trusted
}

// sample reads the server's clock.
func (r *remote) sample(ctx context.Context) (*sample, error) {
	sentAt := r.now()
	at, err := r.client.Time(ctx).Result()
	heardAt := r.now()
	if err != nil {
		return nil, fmt.Errorf("ask Redis for its time: %w", err)
	}
	return &sample{r.running(), at.UnixMilli(), sentAt, heardAt}, nil
}

// listen reads the server's clock and the beats of shards.
func (r *remote) listen(ctx context.Context, numbers []int) error {
	before, sentAt := r.running(), r.now()
	pipe := r.client.Pipeline()
	at := pipe.Time(ctx)
	texts := make([]*redis.StringCmd, len(numbers))
	for i, n := range numbers {
		texts[i] = pipe.Get(ctx, beatKey(n))
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	run := r.running()
	if before != "" && before != run {
		return ErrReplaced
	}
	s := &sample{run, at.Val().UnixMilli(), sentAt, r.now()}
	h := &heard{s, make(map[int]beat, len(numbers))}
	for i, n := range numbers {
		if b, ok := parseBeat(texts[i].Val()); ok {
			h.of[n] = b
		}
	}
	r.clock.take(s)
	r.beats.last.Store(h)
	return nil
}
