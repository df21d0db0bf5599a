package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/statesvc/statesvc/feed"
	"github.com/statesvc/statesvc/state"
)

// Tables are those whose changes a Follower takes.
var Tables = []feed.Table{{Name: "state", Version: "ver"}}

// Follower keeps the copies of a shard's documents as the shard has them, by what the change feed tells it: it is a feed.Consumer.
//
// It talks to Redis over one connection, which is never replaced: everything that it has said since it asked for its position, and the
// beat at the end, is in one server, in that order, and in its replicas in that order too. So whatever dataset one meets, after a
// failover, a restart or a restore, the beat in it is not ahead of the changes in it. When the connection breaks, the feed begins again
// from the beat of the dataset that there is then.
type Follower struct {
	cache *Cache
	shard int
	conn  *redis.Conn // nil: there is none
	run   string      // run_id of the server that it leads to
}

// errNoRedis says that there is nothing to keep.
var errNoRedis = errors.New("there is no Redis of the cache role")

// errHungUp says that a call came before Position, or after an error.
var errHungUp = errors.New("the follower has no connection to Redis")

// Follower returns the consumer of a shard's feed.
func (c *Cache) Follower(shard int) *Follower { return &Follower{cache: c, shard: shard} }

// Position implements feed.Consumer. It is what the dataset says that it has; nothing is kept beside it.
func (f *Follower) Position(ctx context.Context) (feed.Position, error) {
	if f.cache.remote == nil {
		return "", errNoRedis
	}
	f.hangUp()
	conn := f.cache.remote.pool().client.Conn()
	run, err := runOf(ctx, conn)
	if err == nil {
		err = putScript.Load(ctx, conn).Err()
	}
	text := ""
	if err == nil {
		text, err = conn.Get(ctx, beatKey(f.shard)).Result()
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", errors.Join(fmt.Errorf("ask Redis what it has: %w", err), conn.Close())
	}
	f.conn, f.run = conn, run
	b, _ := parseBeat(text) // what cannot be read is no beat
	return b.position, nil
}

// Take implements feed.Consumer.
func (f *Follower) Take(ctx context.Context, r feed.Release) error {
	var lines []*command
	for _, t := range r.Transactions {
		for i := range t.Changes {
			of, err := commandsOf(&t.Changes[i])
			if err != nil {
				return fmt.Errorf("read a change of transaction %s: %w", t.GTID, err)
			}
			lines = append(lines, of...)
		}
	}
	f.cache.cfg.Points.hit(BeforeApply)
	err := f.send(ctx, lines)
	if err == nil {
		f.cache.cfg.Points.hit(BeforeBeat)
		err = f.vouch(ctx, r.Epoch, r.CompleteAt, r.Position)
	}
	if err != nil {
		f.hangUp()
		return fmt.Errorf("tell Redis of %d transactions: %w", len(r.Transactions), err)
	}
	return nil
}

// Reset implements feed.Consumer. It forgets the shard's documents: a lease goes with the entry, so whatever is there afterwards was
// read from the primary after this began.
func (f *Follower) Reset(ctx context.Context, g feed.Gap) error {
	err := f.forgetAll(ctx)
	if err == nil {
		err = f.vouch(ctx, g.Epoch, time.Time{}, g.Position)
	}
	if err != nil {
		f.hangUp()
		return fmt.Errorf("forget the documents of shard %d: %w", f.shard, err)
	}
	return nil
}

func (f *Follower) hangUp() {
	if f.conn != nil {
		_ = f.conn.Close()
		f.conn = nil
	}
}

// scanned is how many names one look at the names of Redis asks for.
const scanned = 1000

// forgetAll removes the shard's documents, and those only: the others' are as good as they were.
func (f *Follower) forgetAll(ctx context.Context) error {
	if f.conn == nil {
		return errHungUp
	}
	for cursor := uint64(0); ; {
		names, next, err := f.conn.Scan(ctx, cursor, redisPrefix+"*", scanned).Result()
		if err != nil {
			return err
		}
		if own := f.own(names); len(own) > 0 {
			if err := f.conn.Unlink(ctx, own...).Err(); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func (f *Follower) own(names []string) (own []string) {
	for _, name := range names {
		k, ok := keyOf(name)
		if !ok || f.cache.cfg.Locate(k.Bucket()).Shard == f.shard {
			own = append(own, name)
		}
	}
	return own
}

// send runs commands in their order, a round trip for each part.
func (f *Follower) send(ctx context.Context, lines []*command) error {
	for len(lines) > 0 {
		part := lines[:min(len(lines), mostCommands)]
		lines = lines[len(part):]
		if f.conn == nil {
			return errHungUp
		}
		pipe := f.conn.Pipeline()
		for _, c := range part {
			c.enter(ctx, pipe, f.run)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// vouch says that everything up to a position was applied, which has everything that was acknowledged before completeAt; zero if that is
// not known.
//
// The server's clock is read after that instant, so its time then is known, at the latest by how long the reading took.
func (f *Follower) vouch(ctx context.Context, epoch uint64, completeAt time.Time, position feed.Position) error {
	if f.conn == nil {
		return errHungUp
	}
	sentAt := f.cache.cfg.Now()
	at, err := f.conn.Time(ctx).Result()
	if err != nil {
		return err
	}
	read := &sample{f.run, at.UnixMilli(), sentAt, f.cache.cfg.Now()}
	b := beat{epoch: epoch, run: f.run, position: position}
	if !completeAt.IsZero() {
		b.at = read.stampAt(completeAt)
	}
	return f.conn.Set(ctx, beatKey(f.shard), b.String(), beatTTL).Err()
}

// commandsOf is what Redis and the memories of all instances are told of a change.
func commandsOf(c *feed.Change) ([]*command, error) {
	before, err := documentOf(c.Before)
	if err != nil {
		return nil, err
	}
	after, err := documentOf(c.After)
	if err != nil {
		return nil, err
	}
	if !c.After.Exists() {
		return forgetting(before.Key), nil
	}
	var lines []*command
	if c.Before.Exists() && before.Key != after.Key { // somebody has renamed it, which only SQL can
		lines = forgetting(before.Key)
	}
	if c.Unversioned {
		return append(lines, forgetting(after.Key)...), nil
	}
	return append(lines, putOf(&after, true, nil, 0, ""), messageOf(&after, false, nil, 0)), nil
}

// newest is later than every version.
var newest = state.Version{Era: math.MaxInt64, Number: math.MaxInt64}

// forgetting removes what copies have of a document that was changed by hand: its versions say nothing. A lease goes too; announced
// writes stay.
func forgetting(k state.Key) []*command {
	return []*command{
		{words: []any{"hdel", redisKey(k), "v", "e", "n", "g", "m", "s", "u", "fe", "fn", "t", "x"}},
		messageOf(&state.Document{Key: k, Version: newest}, false, nil, 0),
	}
}

// documentOf reads a row of the table state; the zero Document if there is none.
func documentOf(row feed.Row) (d state.Document, err error) {
	if !row.Exists() {
		return d, nil
	}
	var updatedAt int64
	if err := row.Scan(feed.Into{
		"kind": &d.Key.Kind, "id": &d.Key.ID, "era": &d.Version.Era, "ver": &d.Version.Number, "updated_at": &updatedAt, "doc": &d.Body,
	}); err != nil {
		return d, err
	}
	d.UpdatedAt = time.UnixMicro(updatedAt).UTC()
	if len(d.Body) == 0 {
		d.Body = nil
	}
	return d, nil
}
