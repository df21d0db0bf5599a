package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

// Mode is what a read promises.
type Mode int

// The modes; doc.go says which copies may answer.
const (
	Bounded Mode = iota
	Strong
	AtLeast
	Eventual
)

// String is the mode as callers write it.
func (m Mode) String() string { return [...]string{"bounded", "strong", "at_least", "eventual"}[m] }

// Ask is what a caller wants of a read.
type Ask struct {
	Mode    Mode
	Version state.Version // AtLeast: what is returned is not older, unless the primary has nothing newer
}

// Result is what a read has found.
type Result struct {
	Document state.Document
	Seen     state.Version // for tokens: the era of the bucket when it was read, and the document's number
	Age      time.Duration // how long ago it was the newest content, at most; negative: nobody knows
	Status   Status

	freshAt time.Time
}

// Status says where the answer of a read comes from, as Cache-Status (RFC 9211) has it.
type Status struct {
	Hit       bool
	Forward   string // why the primary was asked: miss, stale, bypass or request; empty for a hit
	Stored    bool   // what the primary said was stored
	Collapsed bool   // another caller's read has answered
	TTL       int    // of a hit: seconds for which bounded reads may have it
	Detail    string
}

// String is the status as a value of Cache-Status.
func (s Status) String() string {
	if s.Hit {
		return "statesvc; hit; ttl=" + strconv.Itoa(s.TTL) + "; detail=" + s.Detail
	}
	text := "statesvc; fwd=" + s.Forward
	if s.Stored {
		text += "; stored"
	}
	if s.Collapsed {
		text += "; collapsed"
	}
	if s.Detail != "" {
		text += "; detail=" + s.Detail
	}
	return text
}

// Read returns a document, which may not exist. Errors are a *state.Invalid or those of package shard.
func (c *Cache) Read(ctx context.Context, k state.Key, ask Ask) (Result, error) {
	if err := k.Check(); err != nil {
		return Result{}, err
	}
	if r, ok := c.fromMemory(k, &ask); ok {
		return r, nil
	}
	return c.beyond(ctx, k, &ask, c.look(ctx, []state.Key{k}, &ask)[0])
}

// fromMemory begins a read; ok is false if memory may not answer it.
func (c *Cache) fromMemory(k state.Key, ask *Ask) (r Result, ok bool) {
	c.counts.reads.Add(1)
	e := c.l1.get(k)
	if e == nil || c.cfg.NoL1 || !c.satisfies(e, ask) {
		return r, false
	}
	c.counts.l1Hits.Add(1)
	return c.hit(e, "l1"), true
}

// beyond answers a read whom memory has not answered, after a look at Redis.
func (c *Cache) beyond(ctx context.Context, k state.Key, ask *Ask, found looked) (Result, error) {
	switch {
	case ask.Mode == Strong:
		e, err := c.ask(ctx, k)
		return c.result(e, Status{Forward: "request"}), err
	case found.entry != nil:
		return c.hit(found.entry, "redis"), nil
	}
	for {
		r, err := c.join(ctx, k, ask, &found)
		if err != nil || !r.Status.Collapsed || c.satisfies(r.entry(), ask) {
			return r, err
		}
		// The flight was joined late: what it has found has grown too old. The next one begins after this call.
	}
}

// satisfies reports whether an entry may answer.
func (c *Cache) satisfies(e *entry, ask *Ask) bool {
	switch age := c.cfg.Now().Sub(e.freshAt); ask.Mode {
	case AtLeast:
		return e.seen.Compare(ask.Version) >= 0
	case Eventual:
		return age <= deafAge || age <= eventualAge && c.hearing.covers(e.freshAt, c.cfg.Now())
	case Bounded:
		return age <= Bound && e.seen.Era >= c.cfg.Locate(e.document.Key.Bucket()).Era
	case Strong:
	}
	return false
}

func (r *Result) entry() *entry {
	return &entry{document: r.Document, seen: r.Seen, freshAt: r.freshAt}
}

// join reads together with everybody who asks for the same now. The read goes on if its first caller leaves.
func (c *Cache) join(ctx context.Context, k state.Key, ask *Ask, found *looked) (Result, error) {
	own := false
	done := c.flights.DoChan(c.flight(k, ask), func() (any, error) {
		own = true
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightPatience)
		defer cancel()
		if found.around.Forward != "" {
			return c.fromPrimary(ctx, k, found.around)
		}
		return c.fetch(ctx, k, ask, found.luck)
	})
	select {
	case f := <-done:
		if f.Err != nil {
			return c.lastResort(k, ask, f.Err)
		}
		r := f.Val.(Result)
		if !own {
			r.Status.Collapsed = true
		}
		return r, nil
	case <-ctx.Done():
		return c.lastResort(k, ask, fmt.Errorf("%w: wait for a document: %w", shard.ErrOverloaded, ctx.Err()))
	}
}

// lastResort answers an eventual read with whatever there is when the primary is not to be had.
func (c *Cache) lastResort(k state.Key, ask *Ask, err error) (Result, error) {
	if e := c.l1.get(k); ask.Mode == Eventual && e != nil && isOverload(err) {
		c.counts.staleHits.Add(1)
		return c.hit(e, "stale"), nil
	}
	return Result{}, err
}

// withoutRedis is the status of what the primary has answered because Redis did not.
var withoutRedis = Status{Forward: "bypass", Detail: "breaker"}

// fetch asks Redis for a copy or the lease to fill it, and the primary if there is nothing that may answer.
func (c *Cache) fetch(ctx context.Context, k state.Key, ask *Ask, luck float64) (Result, error) {
	until := c.cfg.Now().Add(fillTTL)
	for attempt := 0; ; attempt++ {
		got, err := c.remote.get(ctx, k, ask, luck, c)
		switch {
		case errors.Is(err, errRemote):
			return c.fromPrimary(ctx, k, withoutRedis)
		case err != nil:
			return Result{}, err
		}
		switch got.code {
		case "hit":
			c.counts.redisHits.Add(1)
			c.remember(got.entry)
			return c.hit(got.entry, "redis"), nil
		case "refresh":
			if r, err := c.fill(ctx, k, got.token, Status{Forward: "stale", Detail: "early"}); err == nil {
				return r, nil
			}
			return c.hit(got.entry, "redis"), nil
		case "lease":
			return c.fill(ctx, k, got.token, Status{Forward: got.why})
		case "bypass":
			return c.fromPrimary(ctx, k, Status{Forward: "bypass", Detail: "intent"})
		}
		c.counts.waits.Add(1)
		if !c.cfg.Now().Before(until) || !pause(ctx, waits[min(attempt, len(waits)-1)]) {
			return c.fromPrimary(ctx, k, Status{Forward: "miss", Detail: "waited"})
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// ask reads a document from its primary, at an instant after the call.
func (c *Cache) ask(ctx context.Context, k state.Key) (*entry, error) {
	beganAt, moved := c.cfg.Now(), c.l1.moved(k)
	snapshot, err := c.primaries.one(ctx, c.cfg.Locate(k.Bucket()).Shard, k)
	if err != nil {
		return &entry{}, err
	}
	return &entry{snapshot.Document, state.Version{Era: snapshot.Era, Number: snapshot.Version.Number}, beganAt, moved}, nil
}

func (c *Cache) fromPrimary(ctx context.Context, k state.Key, s Status) (Result, error) {
	c.counts.misses.Add(1)
	e, err := c.ask(ctx, k)
	if err != nil {
		return Result{}, err
	}
	c.remember(e)
	return c.result(e, s), nil
}

// fill reads from the primary and stores that in Redis under the lease. A lease that was lost means that something newer is about; what
// was read is still the newest content of an instant after the call.
func (c *Cache) fill(ctx context.Context, k state.Key, token string, s Status) (Result, error) {
	c.counts.misses.Add(1)
	e, err := c.ask(ctx, k)
	if err != nil {
		return Result{}, err
	}
	c.remember(e)
	c.cfg.Points.hit(BeforeFill)
	took := c.cfg.Now().Sub(e.freshAt)
	a := c.remote.do(ctx, &command{script: fillScript, key: redisKey(k), args: func(run string) []any {
		return []any{
			token, e.seen.Era, e.seen.Number, e.document.Version.Era, e.document.UpdatedAt.UnixMicro(), e.document.Body, run,
			timeToLive(&e.document, token).Milliseconds(), took.Milliseconds() + 1, fillTTL.Milliseconds(),
		}
	}})
	s.Stored = a.err == nil && a.value == "stored"
	return c.result(e, s), nil
}

func (c *Cache) remember(e *entry) {
	if !c.cfg.NoL1 {
		c.l1.put(e)
	}
}

func (c *Cache) hit(e *entry, detail string) Result {
	left := Bound - c.cfg.Now().Sub(e.freshAt)
	return c.result(e, Status{Hit: true, Detail: detail, TTL: int(max(left, 0) / time.Second)})
}

func (c *Cache) result(e *entry, s Status) Result {
	age := time.Duration(-1)
	if !e.freshAt.IsZero() {
		age = c.cfg.Now().Sub(e.freshAt)
	}
	return Result{Document: e.document, Seen: e.seen, Age: age, Status: s, freshAt: e.freshAt}
}

// got is what Redis says to a read.
type got struct {
	code  string // hit, refresh, lease, wait or bypass
	token string // of refresh and lease
	why   string // of lease: there was something that may not answer (stale), or nothing (miss)
	entry *entry // of hit and refresh
}

// get asks Redis for a document.
func (r *remote) get(ctx context.Context, k state.Key, ask *Ask, luck float64, c *Cache) (got, error) {
	place, moved := c.cfg.Locate(k.Bucket()), c.l1.moved(k)
	token := c.cfg.NewToken()
	var vouchedAt time.Time
	var vouched bool
	a := r.do(ctx, &command{script: getScript, key: redisKey(k), args: func(run string) []any {
		flag, age := 0, trusted.Milliseconds()
		if vouchedAt, vouched = r.beats.last.Load().vouchedAt(place.Shard, place.Epoch, run, r.now()); vouched {
			flag = 1
		}
		if !r.clock.believes() {
			age = -1
		}
		return []any{
			ask.Mode.String(), place.Era, ask.Version.Era, ask.Version.Number, age, flag, run, token, fillTTL.Milliseconds(), luck,
		}
	}})
	if a.err != nil {
		return got{}, fmt.Errorf("%w: %w", errRemote, a.err)
	}
	found, err := parseGot(k, &a, vouchedAt, vouched, r.clock.believes())
	if found.entry != nil {
		found.entry.moved = moved
	}
	return found, err
}

// parseGot reads the reply of the script get.
func parseGot(k state.Key, a *answered, vouchedAt time.Time, vouched, believed bool) (g got, err error) {
	row := reply{values: a.value}
	g.code = row.text()
	if g.code == "wait" || g.code == "bypass" {
		return g, row.err
	}
	g.token, g.why = row.text(), "miss"
	if row.number() == 1 {
		g.why = "stale"
	}
	if g.code == "lease" {
		return g, row.err
	}
	e := &entry{seen: state.Version{Era: row.number(), Number: row.number()}}
	e.document = state.Document{Key: k, Version: state.Version{Era: row.number(), Number: e.seen.Number}}
	e.document.UpdatedAt = time.UnixMicro(row.number()).UTC()
	if body := row.text(); body != "" {
		e.document.Body = []byte(body)
	}
	age, own := row.number(), row.number() == 1
	if own && believed && age >= 0 {
		e.freshAt = a.sentAt.Add(-time.Duration(age) * time.Millisecond)
	}
	if vouched && vouchedAt.After(e.freshAt) {
		e.freshAt = vouchedAt
	}
	g.entry = e
	return g, row.err
}

// reply reads the values of a script's reply in order.
type reply struct {
	values any
	i      int
	err    error
}

func (r *reply) next() any {
	list, ok := r.values.([]any)
	if !ok || r.i >= len(list) {
		r.err = fmt.Errorf("%w: a script's reply is too short: %v", errRemote, r.values)
		return nil
	}
	r.i++
	return list[r.i-1]
}

func (r *reply) text() string {
	s, _ := r.next().(string)
	return s
}

// number reads an integer, which fields of a hash are as text.
func (r *reply) number() int64 {
	switch v := r.next().(type) {
	case int64:
		return v
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		r.err = errors.Join(r.err, err)
		return n
	}
	return 0
}
