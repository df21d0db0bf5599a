package register

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	leadersPrefix = "leaders/"  // leaders/<name>/<lease>: who campaigns for name; the oldest key leads
	recheckTTL    = time.Second // how long a silent watch is believed: the member that holds it may be paused
	withdrawTTL   = time.Second // for taking back a candidacy whose context has ended; the session takes it back otherwise
)

// Leadership is one term of leading under a name. That it is over is known to the cluster first, and to its holder some time
// later (Done); what he must not do any more is stopped by Guarded, not by looking at Done.
type Leadership struct {
	session *Session
	key     string
	rev     int64
	ctx     context.Context // ends with the leadership
	end     context.CancelFunc
}

// Campaign waits until this session leads under name. The value tells others who leads, and how to reach him. A session has
// one candidacy per name: campaigning again with another value is ErrConflict. When ctx ends the candidacy is taken back as
// well as possible; after an error close the session, or it may be elected without anybody noticing.
func (s *Session) Campaign(ctx context.Context, name, value string) (*Leadership, error) {
	prefix, err := candidates(name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	own, err := s.stand(ctx, fmt.Sprintf("%s%016x", prefix, int64(s.lease)), value)
	if err == nil {
		err = s.etcd.awaitTurn(ctx, prefix, own)
	}
	if err != nil {
		s.withdraw(ctx, own)
		return nil, fmt.Errorf("campaign for %s: %w", name, s.orLost(err))
	}
	return s.lead(own)
}

// candidates is the prefix of the keys of all who campaign for name.
func candidates(name string) (string, error) {
	if err := checkKey(name); err != nil || strings.Contains(name, "/") {
		return "", fmt.Errorf("%w: %q is not the name of a leadership", ErrInvalid, name)
	}
	return leadersPrefix + name + "/", nil
}

// orLost says of an error after the end of the session that this was the cause.
func (s *Session) orLost(err error) error {
	if s.ctx.Err() != nil {
		return ErrSessionLost
	}
	return err
}

// stand makes the key of a candidate. It is never rewritten, so it keeps its place, and its revision stays that of its birth.
func (s *Session) stand(ctx context.Context, key, value string) (Entry, error) {
	rev, err := s.Txn(ctx, Txn{If: []Cond{{Key: key}}, Then: []Op{{Key: key, Value: []byte(value)}}})
	if err == nil {
		return Entry{Key: key, Value: []byte(value), Rev: rev}, nil
	}
	// A conflict, or an unknown outcome: the key has the lease in its name, so whatever is there is ours.
	own, errGet := s.etcd.Get(ctx, key)
	switch {
	case errGet != nil:
		return Entry{Key: key}, err
	case string(own.Value) != value:
		return Entry{}, ErrConflict
	default:
		return own, nil
	}
}

// awaitTurn returns when own is the oldest of the candidates, and with ErrDeposed when it is not among them any more.
func (e *Etcd) awaitTurn(ctx context.Context, prefix string, own Entry) error {
	for {
		list, rev, err := e.listByAge(ctx, prefix)
		if err != nil {
			return err
		}
		place := slices.IndexFunc(list, func(other Entry) bool { return other.Key == own.Key && other.Rev == own.Rev })
		switch {
		case place < 0:
			return ErrDeposed
		case place == 0:
			return nil
		}
		// Only the next older one is watched, so the end of one leader does not wake all.
		e.awaitChange(ctx, list[place-1].Key, rev)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// awaitChange returns when key has changed after rev, and sometimes earlier: look again.
func (e *Etcd) awaitChange(ctx context.Context, key string, rev int64) {
	ctx, cancel := context.WithTimeout(ctx, recheckTTL)
	defer cancel()
	if _, open := <-e.Watch(ctx, key, rev); !open {
		_ = pause(ctx, afterLoss)
	}
}

func (e *Etcd) listByAge(ctx context.Context, prefix string) ([]Entry, int64, error) {
	list, rev, err := e.List(ctx, prefix)
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Rev, b.Rev) })
	return list, rev, err
}

// withdraw takes a candidacy back, also if nobody knows whether it was made.
func (s *Session) withdraw(ctx context.Context, own Entry) {
	if own.Key == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTTL)
	defer cancel()
	_, _ = s.etcd.Txn(ctx, Txn{Then: []Op{{Key: own.Key, Delete: true}}}) // the caller has an error, and is told to close the session
}

func (s *Session) lead(own Entry) (*Leadership, error) {
	l := &Leadership{session: s, key: own.Key, rev: own.Rev}
	l.ctx, l.end = context.WithCancel(s.ctx)
	if err := s.etcd.start(l.follow); err != nil {
		l.end()
		return nil, err
	}
	return l, nil
}

// follow ends the leadership when its key is gone; the end of the session ends it as well.
func (l *Leadership) follow() {
	defer l.end()
	for l.ctx.Err() == nil {
		list, rev, err := l.session.etcd.List(l.ctx, l.key)
		if err != nil || len(list) != 1 || list[0].Rev != l.rev {
			return
		}
		l.session.etcd.awaitChange(l.ctx, l.key, rev)
	}
}

// Key is the leader's key, and Rev the revision at which it was made.
func (l *Leadership) Key() string { return l.key }

// Rev is the revision at which this term began to stand; a later term has a higher one.
func (l *Leadership) Rev() int64 { return l.rev }

// Done is closed when the leadership is over or may be.
func (l *Leadership) Done() <-chan struct{} { return l.ctx.Done() }

// Resign ends the leadership; the session goes on. It is no error that it was over already.
func (l *Leadership) Resign(ctx context.Context) error {
	l.end()
	err := Delete(ctx, l.session.etcd, l.key, l.rev)
	if err != nil && !errors.Is(err, ErrConflict) {
		return fmt.Errorf("resign: %w", err)
	}
	return nil
}

// cond is what every guarded transaction requires.
func (l *Leadership) cond() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(l.session.etcd.prefix+l.key), "=", l.rev)
}

// isIn tells whether the leader's key, as it was read, is still that of this term.
func (l *Leadership) isIn(kvs []*mvccpb.KeyValue) bool {
	return len(kvs) == 1 && kvs[0].CreateRevision == l.rev
}

// Guarded returns the register as the leader may use it: each Txn requires that he still leads, and returns ErrDeposed
// otherwise; nothing has happened then. It takes one condition fewer than MaxOps. Get, List and Watch are not guarded.
func (l *Leadership) Guarded() Register { return guarded{l.session.etcd, l} }

type guarded struct {
	*Etcd

	leadership *Leadership
}

// Txn implements Register.
func (g guarded) Txn(ctx context.Context, txn Txn) (rev int64, err error) {
	return g.commit(ctx, txn, clientv3.NoLease, g.leadership)
}

// Leader returns the key of who leads under name, with what he campaigned with, or ErrNotFound.
func (e *Etcd) Leader(ctx context.Context, name string) (Entry, error) {
	prefix, err := candidates(name)
	if err != nil {
		return Entry{}, err
	}
	list, _, err := e.listByAge(ctx, prefix)
	if err != nil {
		return Entry{}, err
	}
	if len(list) == 0 {
		return Entry{}, fmt.Errorf("%w: nobody leads under %s", ErrNotFound, name)
	}
	return list[0], nil
}

// Depose ends the term of whoever leads under name, so that the next one need not wait for the end of his session. It returns
// ErrNotFound if nobody leads, and ErrConflict if his term ended meanwhile. It is safe if wrong: the guard stops him. A caller
// who has seen a certain leader dead had better Delete the entry that Leader gave him: Depose may hit the successor.
func (e *Etcd) Depose(ctx context.Context, name string) error {
	leader, err := e.Leader(ctx, name)
	if err != nil {
		return err
	}
	return Delete(ctx, e, leader.Key, leader.Rev)
}
