package id

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	// leaseAhead is how far the high-water mark runs ahead of the clock, and so how long ids can be minted while the
	// register does not answer. The ids of that time are lost when a node changes hands without being given back.
	leaseAhead = 10 * time.Second
	// extendEvery leaves room for three failed attempts before the mark is reached.
	extendEvery = leaseAhead / 4
	// retryEvery is the pause after a failed attempt. It also bounds how often an impatient minter asks the register.
	retryEvery = 500 * time.Millisecond
	// callTimeout bounds one attempt, so that a silent register costs one turn and not the lease.
	callTimeout = 2 * time.Second
)

// LeaseStore keeps a record for each node: its high-water mark, and the term of its present holder. The marks alone make
// ids unique. Each holder mints from the mark that it found to the mark that it wrote, so the spans of two holders cannot
// overlap, and taking a node from a holder that is alive is rude but safe. Instants are kept in whole milliseconds.
type LeaseStore interface {
	// Acquire takes a node whose mark is not after now, begins a new term with the given mark, and grants the span between
	// the two marks, which nobody else can get. The holder is a name for people to read; it decides nothing.
	Acquire(ctx context.Context, holder string, now, mark time.Time) (Grant, error)
	// Extend moves the mark of the granted node to mark, never backwards. It fails with ErrLeaseLost if the term is over.
	// After any other error the mark may have been moved or not.
	Extend(ctx context.Context, grant Grant, mark time.Time) error
	// Release gives the granted node back and moves its mark backwards to unused, which no id of this term has reached. It
	// fails with ErrLeaseLost if the term is over.
	Release(ctx context.Context, grant Grant, unused time.Time) error
}

// Lease keeps a Minter supplied with a node: it acquires one, moves the mark ahead of the clock, takes another node when
// this one is lost, and gives it back at the end. While the store does not answer, the minter goes on until the mark,
// which lies at least seven seconds ahead, and then refuses.
type Lease struct {
	store  LeaseStore
	minter *Minter
	holder string
	log    *slog.Logger

	held  bool
	grant Grant
}

// NewLease returns a lease that supplies minter. The holder is the name under which operators see it in the register.
func NewLease(store LeaseStore, minter *Minter, holder string, log *slog.Logger) *Lease {
	return &Lease{store: store, minter: minter, holder: holder, log: log}
}

// Start takes the first node, so that a service learns at once whether it can make ids. It is optional: Run takes a node
// by itself. After Start has succeeded Run must be called, or the node is not given back.
func (l *Lease) Start(ctx context.Context) error { return l.renew(ctx) }

// Run keeps the lease until ctx ends, then stops the minter and gives the node back. It tries for ever and returns nil;
// what fails is logged, and meanwhile the minter's own errors tell the callers. Run must be called once.
func (l *Lease) Run(ctx context.Context) error {
	defer l.release(context.WithoutCancel(ctx))
	pause, short := extendEvery, l.minter.short
	if !l.held {
		pause = 0
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		case <-short:
		}
		pause, short = extendEvery, l.minter.short
		if err := l.renew(ctx); err != nil && ctx.Err() == nil {
			l.log.WarnContext(ctx, "cannot renew the lease of an id node", "holder", l.holder, "error", err)
			pause, short = retryEvery, nil
		}
	}
}

// renew moves the mark ahead of the clock, on a new node if none is held any more. When the clock has gone backwards the
// minter gets an earlier mark than before, which is harmless: the store keeps the later one for the next holder, and ids
// that far ahead of the clock are not made anyway.
func (l *Lease) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := l.minter.now()
	mark := now.Add(leaseAhead).Truncate(time.Millisecond)
	if l.held {
		err := l.extend(ctx, mark)
		if !errors.Is(err, ErrLeaseLost) {
			return err
		}
		l.log.WarnContext(ctx, "lost an id node, taking another", "holder", l.holder, "node", l.grant.Node)
	}
	grant, err := l.store.Acquire(ctx, l.holder, now, mark)
	if err != nil {
		return fmt.Errorf("acquire: %w", err)
	}
	l.use(grant)
	return nil
}

func (l *Lease) extend(ctx context.Context, mark time.Time) error {
	err := l.store.Extend(ctx, l.grant, mark)
	if errors.Is(err, ErrLeaseLost) {
		l.held = false
		l.minter.Use(Grant{})
	}
	if err != nil {
		return fmt.Errorf("extend node %d: %w", l.grant.Node, err)
	}
	longer := l.grant
	longer.Mark = mark
	l.use(longer)
	return nil
}

func (l *Lease) use(grant Grant) {
	l.held, l.grant = true, grant
	l.minter.Use(grant)
}

// release stops the minter first: the mark may come down only when no id can follow.
func (l *Lease) release(ctx context.Context) {
	unused := l.minter.Use(Grant{})
	if !l.held {
		return
	}
	l.held = false
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := l.store.Release(ctx, l.grant, unused); err != nil {
		l.log.WarnContext(ctx, "cannot give an id node back", "holder", l.holder, "node", l.grant.Node, "error", err)
	}
}
