package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// How commands are gathered.
const (
	senders      = 4    // round trips under way; the commands of one are what waited while the others were under way
	mostCommands = 256  // of one round trip
	mostQueued   = 8192 // commands that wait for one
)

// errRemote says that Redis did not answer, or was not asked because it has not answered before. Nobody outside sees it.
var errRemote = errors.New("redis is not to be had")

// remote is a Redis of the cache role.
type remote struct {
	client  *redis.Client
	now     func() time.Time
	timeout time.Duration // of a round trip
	queue   chan *command
	breaker breaker
	run     atomic.Pointer[string] // run_id of the server of the newest connection; nil: there was none
	clock   clock
	beats   beats
}

func newRemote(addr string, timeout time.Duration, now func() time.Time) *remote {
	r := &remote{now: now, timeout: 2 * timeout, queue: make(chan *command, mostQueued)}
	r.client = connect(addr, timeout, r.greet)
	return r
}

// inMemory is the run_id of a Redis that has none because it is a part of this process, and ends with it.
const inMemory = "in-memory"

// greet learns on each new connection which server it leads to.
func (r *remote) greet(ctx context.Context, conn *redis.Conn) error {
	run, err := runOf(ctx, conn)
	if err != nil {
		return err
	}
	if old := r.run.Load(); old == nil || *old != run {
		r.run.Store(&run)
	}
	return nil
}

// runOf asks a connection for the run_id of the server that it leads to.
func runOf(ctx context.Context, conn *redis.Conn) (string, error) {
	info, err := conn.Info(ctx, "server").Result()
	if err != nil && strings.Contains(err.Error(), "is not supported") {
		info, err = "run_id:"+inMemory, nil
	}
	if err != nil {
		return "", fmt.Errorf("ask Redis for its run_id: %w", err)
	}
	_, rest, _ := strings.Cut(info, "run_id:")
	run, _, _ := strings.Cut(rest, "\r\n")
	if run == "" {
		return "", fmt.Errorf("%w: it does not say its run_id", errRemote)
	}
	return run, nil
}

// running returns the run_id of the server in use; "" if none was reached yet.
func (r *remote) running() string {
	if run := r.run.Load(); run != nil {
		return *run
	}
	return ""
}

// command is a script to run on a key, or, without one, a message to publish; or just what its words say.
type command struct {
	script *redis.Script
	key    string
	args   func(run string) []any // for the server with this run_id
	words  []any
	reply  chan answered // has room for the reply
}

// enter adds a command to a pipeline to the server with this run_id.
func (c *command) enter(ctx context.Context, pipe redis.Pipeliner, run string) redis.Cmder {
	switch {
	case c.words != nil:
		return pipe.Do(ctx, c.words...)
	case c.script == nil:
		return pipe.Do(ctx, append([]any{"publish", c.key}, c.args(run)...)...)
	}
	return c.script.EvalSha(ctx, pipe, []string{c.key}, c.args(run)...)
}

// answered is what became of a command.
type answered struct {
	value  any
	err    error // errRemote, or what the server says
	run    string
	sentAt time.Time // before it was sent
}

// do sends a command with whatever waits at the same time, and waits for its reply.
func (r *remote) do(ctx context.Context, c *command) answered {
	c.reply = make(chan answered, 1)
	select {
	case r.queue <- c:
	default:
		return answered{err: fmt.Errorf("%w: %d commands wait", errRemote, mostQueued)}
	}
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

func (r *remote) gather(first *command) []*command {
	batch := []*command{first}
	for len(batch) < mostCommands {
		select {
		case next := <-r.queue:
			batch = append(batch, next)
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
// replaced in between counts as one: which of them has answered is not known.
func (r *remote) exchange(ctx context.Context, batch []*command) ([]answered, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	answers := make([]answered, len(batch))
	run := r.running()
	if run == "" {
		if err := r.client.Ping(ctx).Err(); err != nil { // it makes a connection, which tells
			return answers, err
		}
		run = r.running()
	}
	todo := make([]int, len(batch))
	for i := range todo {
		todo[i] = i
	}
	again, err := r.pipeline(ctx, run, batch, todo, answers)
	if err == nil && len(again) > 0 { // the server has forgotten the scripts
		if err = r.loadScripts(ctx); err == nil {
			_, err = r.pipeline(ctx, run, batch, again, answers)
		}
	}
	if err == nil && r.running() != run {
		err = errReplaced
	}
	return answers, err
}

// loadScripts gives the server the scripts, one by one: Load keeps the hash that it is answered, which there is not yet in a pipeline.
func (r *remote) loadScripts(ctx context.Context) error {
	for _, s := range scripts {
		if err := s.Load(ctx, r.client).Err(); err != nil {
			return err
		}
	}
	return nil
}

// pipeline runs some commands of a batch, and returns those whose scripts the server does not know.
func (r *remote) pipeline(ctx context.Context, run string, batch []*command, todo []int, answers []answered) (unknown []int, err error) {
	sentAt := r.now()
	pipe := r.client.Pipeline()
	sent := make([]redis.Cmder, len(todo))
	for n, i := range todo {
		sent[n] = batch[i].enter(ctx, pipe, run)
	}
	if _, err := pipe.Exec(ctx); err != nil && !isReply(err) {
		return nil, err
	}
	for n, i := range todo {
		value, err := sent[n].(*redis.Cmd).Result()
		switch {
		case err != nil && redis.HasErrorPrefix(err, "NOSCRIPT"):
			unknown = append(unknown, i)
		case err != nil && unusable(err):
			return nil, err
		}
		answers[i] = answered{value, err, run, sentAt}
	}
	return unknown, nil
}

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
