package register

import (
	"context"
	"errors"
	"time"
)

// manyLister is a register that lists several prefixes as of one moment, for the price of one.
type manyLister interface {
	Lists(ctx context.Context, prefixes []string) (lists [][]Entry, rev int64, err error)
}

// RenewTogether renews mirrors of reg in place of their own loops, until ctx ends; then nobody renews them any more. A process that
// has to know how fresh it is many times a second asks a cluster once for all that it mirrors, where it can.
func RenewTogether(ctx context.Context, reg Register, every time.Duration, mirrors ...*Mirror) {
	for _, m := range mirrors {
		m.stopRenewing()
	}
	for pause(ctx, every) == nil {
		limited, cancel := context.WithTimeout(ctx, renewTTL)
		_ = renewAll(limited, reg, mirrors) // an error lets FreshAt stand still, which is what its readers look at
		cancel()
	}
}

func renewAll(ctx context.Context, reg Register, mirrors []*Mirror) error {
	lister, ok := reg.(manyLister)
	if !ok {
		var errs []error
		for _, m := range mirrors {
			errs = append(errs, m.Renew(ctx))
		}
		return errors.Join(errs...)
	}
	prefixes := make([]string, len(mirrors))
	asked := make([]time.Time, len(mirrors))
	for i, m := range mirrors {
		prefixes[i], asked[i] = m.opts.Prefix, m.opts.Now()
	}
	lists, rev, err := lister.Lists(ctx, prefixes)
	if err != nil {
		return err
	}
	for i, m := range mirrors {
		m.reconcile(lists[i], rev)
		m.proved(asked[i])
	}
	return nil
}
