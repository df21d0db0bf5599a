package shard

import (
	"bytes"
	"context"
	"database/sql/driver"
	"fmt"
)

// Unsettled names an operation whose COMMIT got no answer.
type Unsettled struct {
	Owner       string
	Bucket      Bucket
	Key         string
	Fingerprint []byte
}

// Settled is what the shard says of an operation, now and for ever: it was done or refused, or it was not executed and
// never will be by that attempt, because its key is taken by a tombstone (ABORTED).
type Settled struct {
	Verdict Verdict
	Body    []byte
}

// Settle decides operations whose COMMIT got no answer, in one transaction: it inserts a tombstone for each key. The insert
// waits for a transaction that still holds the key, finds what it has left, or takes the place so that it can
// never commit. A bare SELECT would decide nothing, since the lost transaction may still be on its way.
//
// The answer is in the order of us. After an error nothing is known, and Settle may be called again: it is idempotent.
// ErrStaleRoute means that another shard or epoch must be asked.
func (db *DB) Settle(ctx context.Context, epoch uint64, us []Unsettled) ([]Settled, error) {
	conn, err := db.writes.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("settle %d operations: %w", len(us), err)
	}
	defer conn.Close()
	var settled []Settled
	err = conn.Raw(func(c any) error {
		s := &settling{db: db, epoch: epoch, us: us, found: make(map[opKey]*operation, len(us)), serving: map[Bucket]bool{}}
		if err := s.run(ctx, c.(driver.Conn)); err != nil {
			return s.abandon(ctx, c.(driver.Conn), err)
		}
		settled, err = s.answers()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settle %d operations: %w", len(us), err)
	}
	return settled, nil
}

type settling struct {
	db      *DB
	epoch   uint64
	us      []Unsettled
	fence   uint64
	serving map[Bucket]bool
	found   map[opKey]*operation
}

func (s *settling) run(ctx context.Context, c driver.Conn) error {
	p := newPacket(s.db.Dialect)
	p.exec(s.db.Dialect.begin)
	s.loadFences(p)
	if err := p.send(ctx, c, nil); err != nil {
		return err
	}
	for _, u := range s.us {
		if !s.serving[u.Bucket] {
			return fmt.Errorf("%w: bucket %d is not served here", ErrStaleRoute, u.Bucket)
		}
	}
	if s.fence != s.epoch {
		return fmt.Errorf("%w: the shard is at epoch %d, the resolver at %d", ErrStaleRoute, s.fence, s.epoch)
	}
	p.reset()
	s.tombstones(p)
	s.read(p)
	if err := p.send(ctx, c, nil); err != nil {
		return err
	}
	p.reset()
	p.exec("COMMIT")
	return p.send(ctx, c, nil)
}

// loadFences takes the same locks as a batch, so that a tombstone is never written to a bucket that moved away.
func (s *settling) loadFences(p *Packet) {
	buckets := make([]Bucket, len(s.us))
	for i, u := range s.us {
		buckets[i] = u.Bucket
	}
	p.lockFences(fenceLookup, buckets, func(r *Row) error {
		s.serving[Bucket(r.Int())] = true
		s.fence = uint64(r.Int())
		return nil
	})
}

// tombstones also renews the tombstone of an earlier attempt: the attempt in question may be about to take it over, which it then
// cannot any more (transaction.takeOver).
func (s *settling) tombstones(p *Packet) {
	v := p.insertNew("operations", "bucket, owner, op_key, fingerprint, verdict, epoch, decided_at, reply", s.db.Dialect.renewTombstone)
	for _, u := range s.us {
		v.Row().Bucket(u.Bucket).ASCII(u.Owner).ASCII(u.Key).Binary(u.Fingerprint).ASCII(Aborted.String()).
			Int(int64(s.epoch)).Int(s.db.now().UnixMicro()).Binary(nil)
	}
}

// read follows the tombstones in the same transaction, with a lock: a plain read could be older than the insert's wait.
func (s *settling) read(p *Packet) {
	p.Then()
	v := p.selectShared(operationLookup, s.scan)
	for _, u := range s.us {
		v.Row().Bucket(u.Bucket).ASCII(u.Owner).ASCII(u.Key)
	}
}

func (s *settling) scan(r *Row) error {
	o := scanOperation(r)
	s.found[o.key] = o
	return nil
}

func (s *settling) answers() ([]Settled, error) {
	out := make([]Settled, len(s.us))
	for i, u := range s.us {
		found := s.found[opKey{u.Owner, u.Key}]
		switch {
		case found == nil:
			return nil, fmt.Errorf("a tombstone of bucket %d was not read back: %w", u.Bucket, ErrInternal)
		case found.verdict == Sealed:
			out[i] = Settled{Verdict: Sealed} // whoever asks: the key is burned
		case !bytes.Equal(u.Fingerprint, found.fingerprint):
			out[i] = Settled{Verdict: Aborted} // another request has the key: this one did not happen
		default:
			out[i] = Settled{Verdict: found.verdict, Body: found.reply}
		}
	}
	return out, nil
}

// abandon rolls back and, when even that fails, tells database/sql to throw the connection away.
func (s *settling) abandon(ctx context.Context, c driver.Conn, cause error) error {
	p := newPacket(s.db.Dialect)
	p.exec("ROLLBACK")
	if connectionGone(cause) || p.send(context.WithoutCancel(ctx), c, nil) != nil {
		return fmt.Errorf("%w: %w", driver.ErrBadConn, cause)
	}
	return cause
}
