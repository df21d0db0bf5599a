package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/statesvc/statesvc/state"
)

// A peek reads what Redis has of a document and changes nothing there. Peeks of all who read at the same time share a round trip, which
// begins with the server's clock: so what they find was there at that time or later. Whether it may answer is decided here, by the rules
// of scripts/get.lua; a test holds the two together. Only a reader whom a peek does not answer runs that script, which gives leases.

// peekFields are the fields of a document that a peek reads, in the order in which parseSight takes them. The body comes first because
// the reply is read into memory that grows.
var peekFields = [...]any{"v", "e", "n", "fe", "fn", "g", "m", "s", "u", "w", "d"}

func peekWords(key string) []any {
	words := make([]any, 2, 2+len(peekFields))
	words[0], words[1] = "hmget", key
	return append(words, peekFields[:]...)
}

// sight is what a peek has found.
type sight struct {
	document state.Document
	seen     state.Version // zero if there is nothing
	floor    state.Version
	stored   bool   // there is an entry, even if it says that there is no document
	stamp    int64  // ms of the clock of the server run
	run      string // run_id
	writes   string // announced ones
	cost     int64  // of the last fill, in ms
}

// parseSight reads the reply to a peek at a document.
func parseSight(k state.Key, raw []byte) (s sight, err error) {
	row := rawRow{rest: raw}
	row.head('*')
	s.document.Key = k
	if s.document.Body, s.stored = row.next(); len(s.document.Body) == 0 {
		s.document.Body = nil
	}
	s.seen = state.Version{Era: row.number(), Number: row.number()}
	s.floor = state.Version{Era: row.number(), Number: row.number()}
	s.document.Version = state.Version{Era: row.number(), Number: s.seen.Number}
	s.document.UpdatedAt = time.UnixMicro(row.number()).UTC()
	s.stamp, s.run, s.writes, s.cost = row.number(), row.text(), row.text(), row.number()
	return s, row.err
}

// rawRow reads an array of strings as the protocol of Redis has it. A peek's reply is read so because it is on the way of every read:
// as values of any type it would be twenty small objects.
type rawRow struct {
	rest []byte
	err  error
}

// head reads the length that begins a value of a type; ok is false if there is no value.
func (r *rawRow) head(of byte) (length int, ok bool) {
	line, rest, _ := bytes.Cut(r.rest, []byte("\r\n"))
	r.rest = rest
	switch {
	case len(line) == 0:
		r.err = fmt.Errorf("%w: a reply is too short", errRemote)
	case line[0] == '_': // that there is none, in version 3 of the protocol
	case line[0] != of:
		r.err = fmt.Errorf("%w: a reply has %.32q instead of %c", errRemote, line, of)
	default:
		length, err := strconv.Atoi(string(line[1:]))
		r.err = errors.Join(r.err, err)
		return length, length >= 0
	}
	return 0, false
}

// next is the next string; ok is false if the field does not exist.
func (r *rawRow) next() (value []byte, ok bool) {
	n, ok := r.head('$')
	if !ok || len(r.rest) < n+2 {
		return nil, false
	}
	value, r.rest = r.rest[:n:n], r.rest[n+2:]
	return value, true
}

func (r *rawRow) text() string {
	value, _ := r.next()
	return string(value)
}

// number reads an integer; 0 if there is none.
func (r *rawRow) number() int64 {
	value, ok := r.next()
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	r.err = errors.Join(r.err, err)
	return n
}

// terms are what a sight is judged by.
type terms struct {
	ask     *Ask
	era     int64   // of the bucket
	vouched bool    // a feed vouches for what the server has of the shard
	luck    float64 // -ln of a random number from 0 to 1
}

// age is how old an entry is by its stamp, at the time of the trip; ok is false if the stamp proves nothing.
func (s *sight) age(t *trip) (age time.Duration, ok bool) {
	age = time.Duration(t.at-s.stamp) * time.Millisecond
	return age, t.believed && s.run == t.run && age >= 0
}

// judge says whether what was found may answer, and whether it is so old that this reader should renew it before it may not.
func (s *sight) judge(t *trip, by *terms) (hit, due bool) {
	switch {
	case !s.stored || s.seen.Compare(s.floor) < 0:
		return false, false
	case by.ask.Mode == Eventual:
		return true, false
	case announced(s.writes, t.at):
		return false, false
	case by.ask.Mode == AtLeast:
		return s.seen.Compare(by.ask.Version) >= 0, false
	case by.ask.Mode != Bounded || s.seen.Era < by.era:
		return false, false
	case by.vouched:
		return true, false
	}
	age, ok := s.age(t)
	left := trusted - age
	return ok && left >= 0, float64(s.cost)*by.luck >= float64(left.Milliseconds())
}

// announced reports whether one of the announced writes may still happen.
func announced(writes string, now int64) bool {
	for write := range strings.FieldsSeq(writes) {
		_, end, _ := strings.Cut(write, ":")
		if at, err := strconv.ParseInt(end, 10, 64); err != nil || now < at {
			return true
		}
	}
	return false
}

// entry is the copy that was found.
func (s *sight) entry(t *trip, vouchedAt time.Time, vouched bool) *entry {
	e := &entry{document: s.document, seen: s.seen}
	if age, ok := s.age(t); ok {
		e.freshAt = t.sentAt.Add(-age)
	}
	if vouched && vouchedAt.After(e.freshAt) {
		e.freshAt = vouchedAt
	}
	return e
}

// looked is what a reader knows after a look at Redis.
type looked struct {
	entry  *entry  // that may answer; nil: he has to go on
	luck   float64 // of one whose copy is due to be renewed: with this he is to be given the lease
	around Status  // of what the primary has answered because there was no asking Redis; zero if there was
}

// look asks Redis for documents, all in one round trip.
func (c *Cache) look(ctx context.Context, keys []state.Key, ask *Ask) []looked {
	found := make([]looked, len(keys))
	switch {
	case ask.Mode == Strong || len(keys) == 0:
		return found
	case c.remote == nil:
		return passed(found, Status{Forward: "miss"})
	}
	peeks, moved := make([]*command, len(keys)), make([]uint64, len(keys))
	for i, k := range keys {
		peeks[i] = &command{key: redisKey(k), reply: make(chan answered, 1)}
		moved[i] = c.l1.moved(k)
	}
	if c.remote.enqueue(peeks...) != nil {
		return passed(found, withoutRedis)
	}
	answers := make([]answered, len(keys))
	for i, peek := range peeks {
		answers[i] = peek.wait(ctx)
	}
	c.cfg.Points.hit(AfterPeek)
	for i, k := range keys {
		found[i] = c.sighted(k, ask, &answers[i])
		if e := found[i].entry; e != nil {
			c.counts.redisHits.Add(1)
			e.moved = moved[i]
			c.remember(e)
		}
	}
	return found
}

// passed says that Redis was passed over.
func passed(found []looked, s Status) []looked {
	for i := range found {
		found[i].around = s
	}
	return found
}

// sighted is what a reader learns from the answer to a peek.
func (c *Cache) sighted(k state.Key, ask *Ask, a *answered) looked {
	if a.err != nil {
		return looked{around: withoutRedis}
	}
	raw, _ := a.value.([]byte)
	s, err := parseSight(k, raw)
	if err != nil {
		return looked{around: withoutRedis}
	}
	place := c.cfg.Locate(k.Bucket())
	vouchedAt, vouched := a.heard.vouchedAt(place.Shard, place.Epoch, a.run, a.sentAt)
	luck := -math.Log(max(c.cfg.Random(), math.SmallestNonzeroFloat64))
	switch hit, due := s.judge(a.trip, &terms{ask, place.Era, vouched, luck}); {
	case !hit:
		return looked{}
	case due:
		return looked{luck: luck}
	}
	return looked{entry: s.entry(a.trip, vouchedAt, vouched)}
}
