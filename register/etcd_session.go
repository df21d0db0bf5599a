package register

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A session is renewed long before its end, so that lost renewals, or a member that hangs, cost no session: after a quarter of
// its time, and with five attempts in the rest.
const (
	renewAfter = 4 // parts of the TTL
	renewLimit = 7
)

// Session is a lease in an etcd register: what is put with it goes away with it. The cluster ends it when it hears nothing
// for its time.
type Session struct {
	etcd  *Etcd
	lease clientv3.LeaseID
	ttl   time.Duration
	ctx   context.Context // ends with the session
	end   context.CancelFunc
}

// NewSession begins a session that ends by itself ttl after its holder has died. Whole seconds count, upwards, and etcd
// grants no less than 1.5 times its election timeout. ctx bounds the beginning only; Close ends the session.
func (e *Etcd) NewSession(ctx context.Context, ttl time.Duration) (*Session, error) {
	seconds := int64((ttl + time.Second - 1) / time.Second)
	if seconds < 1 {
		return nil, fmt.Errorf("%w: a session of %s", ErrInvalid, ttl)
	}
	s := &Session{etcd: e, ttl: time.Duration(seconds) * time.Second}
	s.ctx, s.end = context.WithCancel(e.ctx)
	first := s.newTerm() // before the lease is asked for, and a lease that nobody knows of ends by itself
	granted, err := read(ctx, e, func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) { return e.client.Grant(ctx, seconds) })
	if err == nil {
		s.lease = granted.ID
		err = e.start(func() { s.keep(first) })
	}
	if err != nil {
		first.end()
		s.end()
		return nil, fmt.Errorf("begin a session: %w", err)
	}
	return s, nil
}

// Done is closed when the session has ended or may have: its time since the start of the last successful renewal is over, by
// our own clock. The cluster counts from later on, so it ends the session no earlier, unless somebody revokes it.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// term is the time for which the session certainly lives. It begins before its renewal is sent.
type term struct {
	ctx context.Context
	end context.CancelFunc
}

func (s *Session) newTerm() term {
	ctx, end := context.WithTimeout(s.ctx, s.ttl)
	return term{ctx, end}
}

// keep renews the session until it is lost or closed.
func (s *Session) keep(current term) {
	defer s.end()
	defer func() { current.end() }()
	members, wait := 1, s.ttl/renewAfter
	for pause(current.ctx, wait) == nil {
		next := s.newTerm()
		err := s.renew(current.ctx, members)
		if err == nil {
			current, next = next, current
			members, wait = 1, s.ttl/renewAfter
		} else {
			members, wait = len(s.etcd.client.Endpoints()), readPause
		}
		next.end() // the one that does not count
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			break
		}
	}
	if s.ctx.Err() == nil {
		s.etcd.log.WarnContext(s.ctx, "session lost", "lease", int64(s.lease))
	}
}

// renew asks so many members. The client's own renewal keeps to one connection, and loses the session if that member hangs.
func (s *Session) renew(ctx context.Context, members int) error {
	attempt, cancel := context.WithTimeout(ctx, s.ttl/renewLimit)
	defer cancel()
	_, err := ask(attempt, members, func(ctx context.Context) (*clientv3.LeaseKeepAliveResponse, error) {
		return s.etcd.client.KeepAliveOnce(ctx, s.lease)
	})
	return err
}

// Put writes value under key, whatever is there, until the session ends.
func (s *Session) Put(ctx context.Context, key string, value []byte) (rev int64, err error) {
	return s.Txn(ctx, Txn{Then: []Op{{Key: key, Value: value}}})
}

// Txn is Register.Txn; what it puts goes away with the session. After ErrSessionLost nothing has happened. A transaction
// without puts does not notice that the session has ended.
func (s *Session) Txn(ctx context.Context, txn Txn) (rev int64, err error) {
	return s.etcd.commit(ctx, txn, s.lease, nil)
}

// Close ends the session and removes its keys. After an error they may stay until the session's time is over.
func (s *Session) Close(ctx context.Context) error {
	s.end()
	_, err := read(ctx, s.etcd, func(ctx context.Context) (*clientv3.LeaseRevokeResponse, error) { // a second time it is gone
		return s.etcd.client.Revoke(ctx, s.lease)
	})
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("close the session: %w", err)
	}
	return nil
}
