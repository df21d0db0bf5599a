package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

const (
	intentTTL = time.Second // of an announced write: longer than nearly every commit
	smallBody = 4 << 10     // bytes; larger bodies are not put into Redis by writers, nor pushed to other instances
)

// Put is Documents.Put, and brings the copies up to date.
func (c *Cache) Put(ctx context.Context, r state.Request, body []byte) (state.Answer, error) {
	return c.write(ctx, r.Key, func() (state.Answer, error) { return c.cfg.Documents.Put(ctx, r, body) })
}

// Patch is Documents.Patch, and brings the copies up to date.
func (c *Cache) Patch(ctx context.Context, r state.Request, changes []byte) (state.Answer, error) {
	return c.write(ctx, r.Key, func() (state.Answer, error) { return c.cfg.Documents.Patch(ctx, r, changes) })
}

// Delete is Documents.Delete, and brings the copies up to date.
func (c *Cache) Delete(ctx context.Context, r state.Request) (state.Answer, error) {
	return c.write(ctx, r.Key, func() (state.Answer, error) { return c.cfg.Documents.Delete(ctx, r) })
}

// write submits a write. What becomes of the copies never changes its answer. A write whose outcome is not known tells nobody: the feed
// will, or the age of the copies.
func (c *Cache) write(ctx context.Context, k state.Key, submit func() (state.Answer, error)) (state.Answer, error) {
	beganAt := c.cfg.Now() // the commit is later, so what it wrote was the newest content after this
	wid := c.announce(ctx, k)
	answer, err := submit()
	switch {
	case err == nil:
		c.cfg.Points.hit(AfterCommit)
		c.wrote(ctx, k, &answer, beganAt, wid)
	case wid != "" && !errors.Is(err, shard.ErrOutcomeUnknown):
		c.remote.do(ctx, &command{script: retractScript, key: redisKey(k), args: func(string) []any { return []any{wid} }})
	}
	return answer, err
}

// announce tells Redis of a write that is to be committed, if its kind asks for that. It returns the name of the write.
func (c *Cache) announce(ctx context.Context, k state.Key) string {
	if c.remote == nil {
		return ""
	}
	kind, err := c.cfg.Documents.Kind(k)
	if err != nil || !kind.Intent {
		return ""
	}
	wid := c.cfg.NewToken()
	c.remote.do(ctx, &command{script: intentScript, key: redisKey(k), args: func(string) []any {
		return []any{wid, intentTTL.Milliseconds()}
	}})
	return wid
}

// wrote brings the copies up to date with a write that is committed.
func (c *Cache) wrote(ctx context.Context, k state.Key, answer *state.Answer, beganAt time.Time, wid string) {
	document := state.Document{Key: k, Version: answer.Version}
	known := answer.Wrote != nil
	c.l1.move(k)
	if known {
		document = *answer.Wrote
		c.remember(&entry{document, document.Version, beganAt, c.l1.moved(k)})
	} else {
		c.l1.outdated(k, document.Version, nil)
	}
	if c.remote == nil {
		return
	}
	clock := c.remote.clock.last.Load()
	stamp := clock.stampAt(beganAt)
	message := messageOf(&document, known, clock, stamp)
	message.reply = make(chan answered, 1) // nobody waits for it
	c.remote.do(ctx, putOf(&document, known, clock, stamp, wid))
	_ = c.remote.enqueue(message) // instances notice by the age of what they have
}

// putOf is the command that tells Redis of a committed version of a document. stamp is 0 if it is not known when that was the newest
// content; it is worth something only to the server that the clock is of.
func putOf(d *state.Document, known bool, clock *sample, stamp int64, wid string) *command {
	known = known && len(d.Body) <= smallBody
	return &command{script: putScript, key: redisKey(d.Key), args: func(run string) []any {
		if clock == nil || clock.run != run {
			stamp = 0
		}
		body, flag := d.Body, 1
		if !known {
			body, flag = nil, 0
		}
		return []any{
			d.Version.Era, d.Version.Number, d.UpdatedAt.UnixMicro(), body, flag, stamp, run, timeToLive(d, wid).Milliseconds(), wid,
		}
	}}
}

// channel is where instances tell each other of writes.
const channel = "statesvc:state"

// messageOf is the message that tells other instances of a version: version, stamp and its server, time of the row, whether the body
// comes with it, name, and the body after a line feed.
func messageOf(d *state.Document, known bool, clock *sample, stamp int64) *command {
	known = known && len(d.Body) <= smallBody
	return &command{key: channel, args: func(run string) []any {
		if clock == nil || clock.run != run {
			stamp = 0
		}
		head := fmt.Sprintf("%d %d %d %s %d %t %s\n", d.Version.Era, d.Version.Number, stamp, run, d.UpdatedAt.UnixMicro(), known, d.Key)
		if !known {
			return []any{head}
		}
		return []any{head + string(d.Body)}
	}}
}

// message is what messageOf has sent.
type message struct {
	document state.Document
	stamp    int64
	run      string
	known    bool
}

func parseMessage(text string) (m message, ok bool) {
	head, body, _ := strings.Cut(text, "\n")
	parts := strings.Split(head, " ")
	if len(parts) != 7 {
		return m, false
	}
	var numbers [4]int64
	for i, at := range []int{0, 1, 2, 4} {
		n, err := strconv.ParseInt(parts[at], 10, 64)
		if err != nil {
			return m, false
		}
		numbers[i] = n
	}
	m.document.Version = state.Version{Era: numbers[0], Number: numbers[1]}
	m.stamp, m.run, m.known = numbers[2], parts[3], parts[5] == "true"
	m.document.UpdatedAt = time.UnixMicro(numbers[3]).UTC()
	m.document.Key.Kind, m.document.Key.ID, ok = strings.Cut(parts[6], "/")
	if body != "" {
		m.document.Body = []byte(body)
	}
	return m, ok
}

// hear takes a message of another instance, or of this one. What is not in memory stays out of it.
func (c *Cache) hear(text string) {
	m, ok := parseMessage(text)
	if !ok {
		return
	}
	var e *entry
	clock := c.remote.clock.last.Load()
	if m.known && m.stamp > 0 && clock != nil && clock.run == m.run && c.remote.clock.believes() {
		e = &entry{document: m.document, seen: m.document.Version, freshAt: clock.instantOf(m.stamp)}
	}
	c.l1.outdated(m.document.Key, m.document.Version, e)
}
