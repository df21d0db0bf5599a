package register

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// renewalsPerTTL is how many renewals of a session fit into its time, so that a lost one, or a member that hangs, costs no
// session.
const renewalsPerTTL = 4

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
	var term context.Context
	var endTerm context.CancelFunc = func() {}
	err := e.read(ctx, func(ctx context.Context) error { // repeated: a lease that nobody knows of ends by itself
		endTerm()
		term, endTerm = context.WithTimeout(s.ctx, s.ttl)
		granted, err := e.client.Grant(ctx, seconds)
		if err == nil {
			s.lease = granted.ID
		}
		return err
	})
	if err == nil {
		err = e.start(func() { s.keep(term, endTerm) })
	}
	if err != nil {
		endTerm()
		s.end()
		return nil, fmt.Errorf("begin a session: %w", err)
	}
	return s, nil
}

// Done is closed when the session has ended or may have: its time since the start of the last successful renewal is over, by
// our own clock. The cluster counts from later on, so it ends the session no earlier, unless somebody revokes it.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// keep renews the session until it is lost or closed. term ends when the session may be over; a new one begins before its
// renewal is sent.
func (s *Session) keep(term context.Context, endTerm context.CancelFunc) {
	defer s.end()
	defer func() { endTerm() }()
	for pause(term, s.ttl/renewalsPerTTL) == nil {
		next, endNext := context.WithTimeout(s.ctx, s.ttl)
		switch err := s.renew(term); {
		case err == nil:
			endTerm()
			term, endTerm = next, endNext
			continue
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			endTerm()
		}
		endNext()
	}
	if s.ctx.Err() == nil {
		s.etcd.log.WarnContext(s.ctx, "session lost", "lease", int64(s.lease))
	}
}

// renew asks once. The client's own renewal keeps to one connection, and loses the session if that member hangs.
func (s *Session) renew(term context.Context) error {
	attempt, cancel := context.WithTimeout(term, s.ttl/renewalsPerTTL)
	defer cancel()
	_, err := s.etcd.client.KeepAliveOnce(attempt, s.lease)
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
	err := s.etcd.read(ctx, func(ctx context.Context) error { // repeated: a lease can be revoked only once
		_, err := s.etcd.client.Revoke(ctx, s.lease)
		return err
	})
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("close the session: %w", err)
	}
	return nil
}
