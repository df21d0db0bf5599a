package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

const (
	// Bound is how old a bounded read may be: what it returns was the newest content at some instant of the last Bound.
	Bound = 2 * time.Second
	// trusted is the part of Bound for which an entry of Redis is believed. The rest is for copies of it in memory.
	trusted = 1500 * time.Millisecond
	// eventualAge is how old a copy in memory may be that answers an eventual read, if this instance would have heard of a newer one.
	eventualAge = time.Minute
	// deafAge is the same if it would not, and how long it takes to notice that.
	deafAge = 600 * time.Millisecond

	fillTTL        = 2 * time.Second // for a reader who is to fill; who waits for him asks the primary after that
	flightPatience = 5 * time.Second // of reads that several callers wait for: longer than the statement's own timeouts
	listenEvery    = 200 * time.Millisecond

	liveTTL     = time.Hour        // of entries: only bounds garbage
	negativeTTL = 15 * time.Second // of what does not exist, which callers can name without end
	jitter      = 4                // lifetimes differ by up to a quarter, so that what came together does not leave together

	// DefaultL1Bytes is the default of Config.L1Bytes.
	DefaultL1Bytes = 64 << 20
)

// waits are the pauses of a reader who waits for another instance to fill; the last is repeated.
var waits = []time.Duration{5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond}

// Place is where a document lives, as the routes have it.
type Place struct {
	Shard int
	Epoch uint64 // of the shard; 0: it does not serve just now
	Era   int64  // of the document's bucket; 0: it is not known
}

// Config is what a Cache needs.
type Config struct {
	Documents *state.Documents
	Locate    func(b shard.Bucket) Place
	Shards    func() []int // the numbers of all shards
	Now       func() time.Time
	Random    func() float64 // from 0 to 1
	NewToken  func() string  // letters and digits that nobody else draws

	Redis string // of the cache role, as ParseServer reads it; empty: there is none
	// RedisTimeout is how long Redis may take to be reached, and again to answer; 0: 100 ms. A round trip takes at most twice as long.
	RedisTimeout time.Duration
	L1Bytes      uint64 // most memory of copies; 0: DefaultL1Bytes
	// NoL1 leaves copies out of memory, to measure Redis.
	NoL1   bool
	Points Points
}

// Cache reads and writes state data. It is safe for concurrent use.
type Cache struct {
	cfg       Config
	l1        *l1
	remote    *remote // nil: there is none
	primaries *primaries
	hearing   hearing
	flights   singleflight.Group
	counts    counts

	stop context.CancelFunc
	work sync.WaitGroup
}

// counts are what tests and measurements ask for.
type counts struct {
	primaryReads, l1Hits, redisHits, staleHits, misses, waits, reads atomic.Int64
}

// Counts say what reads were answered by, since the start. Those that waited for each other count once in RedisHits and Misses.
type Counts struct {
	Reads, L1Hits, RedisHits int64
	StaleHits                int64 // of memory, when nothing else was to be had
	Misses                   int64 // no copy could answer
	Waits                    int64 // pauses while another instance had the lease to fill
	PrimaryReads             int64 // statements, of up to state.MaxRead documents each
	Trips                    int64 // to Redis, of reads and writes; many share one
}

// Counts returns them.
func (c *Cache) Counts() Counts {
	all := Counts{
		Reads: c.counts.reads.Load(), L1Hits: c.counts.l1Hits.Load(), RedisHits: c.counts.redisHits.Load(),
		StaleHits: c.counts.staleHits.Load(), Misses: c.counts.misses.Load(), Waits: c.counts.waits.Load(),
		PrimaryReads: c.counts.primaryReads.Load(),
	}
	if c.remote != nil {
		all.Trips = c.remote.trips.Load()
	}
	return all
}

// New returns a cache that runs until Close. It waits for nothing.
func New(cfg Config) (*Cache, error) {
	if cfg.L1Bytes == 0 {
		cfg.L1Bytes = DefaultL1Bytes
	}
	if cfg.RedisTimeout == 0 {
		cfg.RedisTimeout = answerTimeout
	}
	memory, err := newL1(cfg.L1Bytes)
	if err != nil {
		return nil, fmt.Errorf("make the memory of the cache: %w", err)
	}
	c := &Cache{cfg: cfg, l1: memory}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.primaries = &primaries{read: c.readPrimary, ctx: ctx, work: &c.work, shards: map[int]*gathering{}}
	if cfg.Redis != "" {
		place, err := ParseServer(cfg.Redis)
		if err != nil {
			stop()
			return nil, fmt.Errorf("the Redis of the cache: %w", err)
		}
		c.remote = newRemote(place, cfg.RedisTimeout, cfg.Now)
		c.remote.start(ctx, &c.work)
		c.work.Go(func() { c.listen(ctx) })
		c.work.Go(func() { c.subscribe(ctx) })
	}
	return c, nil
}

// Close ends what New has started and waits for it. Reads and writes still work, without Redis.
func (c *Cache) Close() error {
	c.primaries.close()
	c.stop()
	c.work.Wait()
	if c.remote == nil {
		return nil
	}
	return c.remote.close()
}

func (c *Cache) readPrimary(ctx context.Context, keys []state.Key) ([]state.Snapshot, error) {
	c.counts.primaryReads.Add(1)
	ctx, cancel := context.WithTimeout(ctx, flightPatience)
	defer cancel()
	c.cfg.Points.hit(BeforePrimary)
	snapshots, err := c.cfg.Documents.Read(ctx, keys)
	c.cfg.Points.hit(AfterPrimary)
	return snapshots, err
}

// listen follows the clock of Redis and what the feeds vouch for.
func (c *Cache) listen(ctx context.Context) {
	for {
		limited, cancel := context.WithTimeout(ctx, 2*c.remote.timeout)
		askedAt := c.cfg.Now()
		if c.remote.listen(limited, c.cfg.Shards()) == nil { // what is not heard grows old
			c.hearing.at.Store(&askedAt)
		}
		cancel()
		select {
		case <-time.After(listenEvery):
		case <-ctx.Done():
			return
		}
	}
}

// HearsRedis reports whether Redis was heard lately, so that writes can be stamped, and whether those of others are heard.
func (c *Cache) HearsRedis() bool {
	return c.remote != nil && c.remote.clock.last.Load().stampAt(c.cfg.Now()) > 0 && c.hearing.since.Load() != nil
}

const redisPrefix = "s:"

func redisKey(k state.Key) string { return redisPrefix + k.String() }

// keyOf is the inverse of redisKey.
func keyOf(name string) (k state.Key, ok bool) {
	k.Kind, k.ID, ok = strings.Cut(strings.TrimPrefix(name, redisPrefix), "/")
	return k, ok
}

// timeToLive differs from document to document. salt makes it differ for the same document too.
func timeToLive(d *state.Document, salt string) time.Duration {
	ttl := liveTTL
	if !d.Exists() {
		ttl = negativeTTL
	}
	hash := keyHash(state.Key{Kind: d.Key.String(), ID: salt + d.Version.String()})
	return ttl + ttl*time.Duration(hash[0])/(jitter*math.MaxUint8)
}

// flight names what callers may read together: nothing that was written or pushed in between, and nothing below what they need.
func (c *Cache) flight(k state.Key, ask *Ask) string {
	b := append([]byte(k.String()), ' ')
	b = strconv.AppendUint(b, c.l1.moved(k), 36)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(ask.Mode), 10)
	b = append(b, ' ')
	return string(append(b, ask.Version.String()...))
}

// isOverload reports an error after which an old copy is better than none.
func isOverload(err error) bool {
	return errors.Is(err, shard.ErrOverloaded) || errors.Is(err, shard.ErrFailover) || errors.Is(err, shard.ErrStaleRoute)
}
