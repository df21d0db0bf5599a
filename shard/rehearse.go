package shard

import (
	"fmt"
	"slices"
)

// rehearse answers the calls that only want to know what would happen, and returns the others. Each dry operation has a transaction of its
// own that ends with ROLLBACK: it is loaded, locked, fenced and decided by the same code as every other, so its reply is what the operation
// would get at that instant, and it leaves nothing behind, not even its key. That the key was used before is not looked at.
//
// A dry operation is not merged with others, and costs a transaction. It is for people and carts, not for every request.
func (l *lane) rehearse(calls []*call) []*call {
	if !slices.ContainsFunc(calls, (*call).dry) {
		return calls
	}
	rest := make([]*call, 0, len(calls))
	for _, c := range calls {
		if !c.dry() {
			rest = append(rest, c)
			continue
		}
		c.answer(l.rehearseOne(c))
	}
	return rest
}

func (c *call) dry() bool { return c.op.Dry }

func (l *lane) rehearseOne(c *call) Reply {
	op := *c.op
	op.Key = "" // neither replayed nor recorded
	var last error
	for range maxBatchRetries {
		if l.abandoned.Load() {
			return Reply{Err: errAbandoned}
		}
		t := newTransaction(l.cfg.DB.Dialect, l.cfg.DB.clock(), "", l.cfg.Epoch, []*call{{op: &op}}, l.cfg.Machine, true)
		err := l.loadWithRetry(t)
		if err == nil {
			l.rollback(nil)
			if t.fence != l.cfg.Epoch {
				return Reply{Err: fmt.Errorf("a dry run at another epoch: %w", ErrStaleRoute)}
			}
			t.decide()
			return t.replies[0]
		}
		l.rollback(err)
		f := classify(err)
		if last = err; !isRetryable(f) {
			l.suspect(err)
			return Reply{Err: fmt.Errorf("%w: %w", refusalOfLoad(f), err)}
		}
	}
	return Reply{Err: fmt.Errorf("%w: %w", ErrOverloaded, last)}
}

// refusalOfLoad says what a fault means to a caller whose operation has had no effect.
func refusalOfLoad(f fault) error {
	switch f {
	case faultBug, faultLarge:
		return ErrInternal
	case faultStale:
		return ErrStaleRoute
	default:
		return errUnreachable
	}
}
