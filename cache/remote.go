package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// How commands are gathered.
const (
	senders      = 2    // round trips under way; the commands of one are what waited while the others were under way
	mostCommands = 256  // of one round trip
	mostQueued   = 8192 // callers who wait for one
)

// errRemote says that Redis did not answer, or was not asked because it has not answered before. Nobody outside sees it.
var errRemote = errors.New("redis is not to be had")

// remote is a Redis of the cache role: one server at a time, and another one after a restart or a failover.
type remote struct {
	place     Server
	timeout   time.Duration // for a server to be reached, and again to answer
	now       func() time.Time
	sentinels *sentinels      // nil: it has an address
	queue     chan []*command // each is what one caller wants of the same round trip
	breaker   breaker
	trips     atomic.Int64
	clock     clock
	beats     beats

	mu      sync.Mutex // over changes of current
	current atomic.Pointer[pool]
	closed  bool
	closing sync.WaitGroup // of pools that were replaced
}

func newRemote(place Server, timeout time.Duration, now func() time.Time) *remote {
	r := &remote{place: place, now: now, timeout: timeout, queue: make(chan []*command, mostQueued)}
	if place.Address == "" {
		r.sentinels = newSentinels(place, timeout)
	}
	r.current.Store(newPool(place.Address, timeout, r.strayed))
	return r
}

// pool is that of the server in use.
func (r *remote) pool() *pool { return r.current.Load() }

// strayed replaces a pool whose address leads to another process now.
func (r *remote) strayed(p *pool) { r.replace(p, p.address) }

// replace begins to use the server at an address instead of old's. It does nothing if old is not in use any more.
func (r *remote) replace(old *pool, address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.pool() != old {
		return
	}
	r.current.Store(newPool(address, r.timeout, r.strayed))
	close(old.replaced)
	r.closing.Go(func() { _ = old.client.Close() }) // what is under way ends with an error
}

// follow asks the sentinels where the primary is, until ctx ends. What they say is a hint: whether an entry may be believed depends on
// stamps and beats alone. So it does not matter how late it is heard, nor whether it was true.
func (r *remote) follow(ctx context.Context) {
	for {
		p := r.pool()
		if address, err := r.sentinels.primary(ctx, p.address); err == nil && address != p.address {
			r.replace(p, address)
		}
		if !pause(ctx, listenEvery) {
			return
		}
	}
}

func (r *remote) close() error {
	r.mu.Lock()
	r.closed = true
	err := r.pool().client.Close()
	r.mu.Unlock()
	r.closing.Wait()
	if r.sentinels != nil {
		err = errors.Join(err, r.sentinels.close())
	}
	return err
}

// command is a script to run on a key, or, without one, a message to publish; or just what its words say. Without any of that it is a
// peek at a key.
type command struct {
	script *redis.Script
	key    string
	args   func(run string) []any // for the server with this run_id
	words  []any
	reply  chan answered // has room for the reply
}

func (c *command) peeks() bool { return c.words == nil && c.args == nil }

// enter adds a command to a pipeline to the server with this run_id.
func (c *command) enter(ctx context.Context, pipe redis.Pipeliner, run string) redis.Cmder {
	switch {
	case c.words != nil:
		return pipe.Do(ctx, c.words...)
	case c.peeks():
		peek := redis.NewRawCmd(ctx, peekWords(c.key)...)
		_ = pipe.Process(ctx, peek) // it is only queued
		return peek
	case c.script == nil:
		return pipe.Do(ctx, append([]any{"publish", c.key}, c.args(run)...)...)
	}
	return c.script.EvalSha(ctx, pipe, []string{c.key}, c.args(run)...)
}

// answered is what became of a command.
type answered struct {
	value any
	err   error // errRemote, or what the server says
	*trip
}

// trip is what the commands of a round trip have in common.
type trip struct {
	run      string    // run_id of the server
	sentAt   time.Time // before it began
	at       int64     // ms of the server's clock, after it began and before the server did anything else
	heard    *heard    // what feeds had vouched for when it began
	believed bool      // whether stamps proved anything then
}

// do sends a command with whatever waits at the same time, and waits for its reply.
func (r *remote) do(ctx context.Context, c *command) answered {
	c.reply = make(chan answered, 1)
	if err := r.enqueue(c); err != nil {
		return answered{err: err}
	}
	return c.wait(ctx)
}

// enqueue has commands sent in one round trip. Their replies have room for one each.
func (r *remote) enqueue(commands ...*command) error {
	select {
	case r.queue <- commands:
		return nil
	default:
		return fmt.Errorf("%w: %d callers wait", errRemote, mostQueued)
	}
}

func (c *command) wait(ctx context.Context) answered {
	select {
	case a := <-c.reply:
		return a
	case <-ctx.Done():
		return answered{err: fmt.Errorf("%w: %w", errRemote, ctx.Err())}
	}
}

// start begins to send commands, until ctx ends.
func (r *remote) start(ctx context.Context, work *sync.WaitGroup) {
	for range senders {
		work.Go(func() { r.send(ctx) })
	}
	if r.sentinels != nil {
		work.Go(func() { r.follow(ctx) })
	}
}

func (r *remote) send(ctx context.Context) {
	for {
		select {
		case first := <-r.queue:
			r.trip(ctx, r.gather(first))
		case <-ctx.Done():
			return
		}
	}
}

// gather takes what waits. Who is about to ask comes along.
func (r *remote) gather(batch []*command) []*command {
	runtime.Gosched()
	for len(batch) < mostCommands {
		select {
		case next := <-r.queue:
			batch = append(batch, next...)
		default:
			return batch
		}
	}
	return batch
}

// trip sends a batch in one round trip and answers its commands.
func (r *remote) trip(ctx context.Context, batch []*command) {
	if !r.breaker.allow(r.now()) {
		for _, c := range batch {
			c.reply <- answered{err: errRemote}
		}
		return
	}
	r.trips.Add(1)
	answers, err := r.exchange(ctx, batch)
	r.breaker.done(r.now(), err)
	for i, c := range batch {
		if err != nil {
			answers[i] = answered{err: fmt.Errorf("%w: %w", errRemote, err)}
		}
		c.reply <- answers[i]
	}
}

// exchange runs a batch. Its error is that of the whole batch; nobody knows then what of it the server has done. A server that was
// replaced in between counts as one: its answers may be of a time when it was the primary no longer.
func (r *remote) exchange(ctx context.Context, batch []*command) ([]answered, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*r.timeout) // for a connection, and for an answer
	defer cancel()
	answers := make([]answered, len(batch))
	p := r.pool()
	if _, err := p.reach(ctx); err != nil {
		return answers, err
	}
	todo := make([]int, len(batch))
	for i := range todo {
		todo[i] = i
	}
	again, err := r.pipeline(ctx, p, batch, todo, answers)
	if err == nil && len(again) > 0 { // the server has forgotten the scripts
		if err = loadScripts(ctx, p); err == nil {
			_, err = r.pipeline(ctx, p, batch, again, answers)
		}
	}
	if err == nil && r.pool() != p {
		err = errReplaced
	}
	return answers, err
}

// loadScripts gives the server the scripts, one by one: Load keeps the hash that it is answered, which there is not yet in a pipeline.
func loadScripts(ctx context.Context, p *pool) error {
	for _, s := range scripts {
		if err := s.Load(ctx, p.client).Err(); err != nil {
			return err
		}
	}
	return nil
}

// pipeline runs some commands of a batch, and returns those whose scripts the server does not know.
func (r *remote) pipeline(ctx context.Context, p *pool, batch []*command, todo []int, answers []answered) (unknown []int, err error) {
	t := &trip{run: p.running(), sentAt: r.now(), heard: r.beats.last.Load(), believed: r.clock.believes()}
	pipe := p.client.Pipeline()
	at := pipe.Time(ctx)
	sent, peeks := make([]redis.Cmder, len(todo)), map[string]redis.Cmder{}
	for n, i := range todo {
		c := batch[i]
		if !c.peeks() {
			sent[n] = c.enter(ctx, pipe, t.run)
			continue
		}
		if peeks[c.key] == nil { // several who peek at a document differ in what they want, not in what is there
			peeks[c.key] = c.enter(ctx, pipe, t.run)
		}
		sent[n] = peeks[c.key]
	}
	if _, err := pipe.Exec(ctx); err != nil && !isReply(err) {
		return nil, err
	}
	t.at, t.believed = at.Val().UnixMilli(), t.believed && r.clock.believes()
	for n, i := range todo {
		value, err := valueOf(sent[n])
		switch {
		case err != nil && redis.HasErrorPrefix(err, "NOSCRIPT"):
			unknown = append(unknown, i)
		case err != nil && unusable(err):
			return nil, err
		}
		answers[i] = answered{value, err, t}
	}
	return unknown, nil
}

// valueOf is what the server has answered: to a peek the bytes of its reply, else a value.
func valueOf(sent redis.Cmder) (any, error) {
	peek, ok := sent.(*redis.RawCmd)
	if !ok {
		return sent.(*redis.Cmd).Result()
	}
	raw, err := peek.Result()
	if text, refused := bytes.CutPrefix(raw, []byte("-")); refused {
		return nil, refusal(text)
	}
	return raw, err
}

// refusal is what the server says of a peek that it refuses.
type refusal string

// Error is what it says.
func (r refusal) Error() string { return string(r) }

// RedisError marks it as a reply of the server.
func (r refusal) RedisError() {}

// isReply reports that an error is what the server says of a command.
func isReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// unusable reports that a server answers, but cannot be used for anything now.
func unusable(err error) bool {
	if !isReply(err) {
		return true
	}
	for _, prefix := range []string{"LOADING", "READONLY", "MASTERDOWN", "NOAUTH", "NOPERM"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}
