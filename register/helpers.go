package register

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// updateAttemptsMax bounds Update. A hundred writers of one key need about as many attempts each; more is a livelock.
const updateAttemptsMax = 1000

// Put writes value under key whatever is there. It is for keys with one writer; others compare first.
func Put(ctx context.Context, r Register, key string, value []byte) (rev int64, err error) {
	return r.Txn(ctx, Txn{Then: []Op{{Key: key, Value: value}}})
}

// Create writes value under key if key does not exist, else it returns ErrConflict. Repeated after an unknown outcome it
// may return ErrConflict because of itself: put something of your own into the value and compare.
func Create(ctx context.Context, r Register, key string, value []byte) (rev int64, err error) {
	return r.Txn(ctx, Txn{If: []Cond{{Key: key}}, Then: []Op{{Key: key, Value: value}}})
}

// Delete removes key if it was last written at rev, else it returns ErrConflict. There is no blind deletion here, because
// whoever deletes has looked, and what he has not seen is not his to delete.
func Delete(ctx context.Context, r Register, key string, rev int64) error {
	if rev <= 0 {
		return fmt.Errorf("%w: delete %q needs the revision that was read", ErrInvalid, key)
	}
	_, err := r.Txn(ctx, Txn{If: []Cond{{Key: key, Rev: rev}}, Then: []Op{{Key: key, Delete: true}}})
	return err
}

// Update replaces the value of key by change(old), and begins again if somebody else was quicker; old.Rev is 0 if the key
// does not exist. change may run many times and must have no effects; its error ends Update and is returned as it is.
// The returned entry is what was written. The outcome is unknown after the same errors as of Txn.
func Update(ctx context.Context, r Register, key string, change func(old Entry) ([]byte, error)) (Entry, error) {
	for range updateAttemptsMax {
		old, err := r.Get(ctx, key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Entry{}, err
		}
		value, err := change(old)
		if err != nil {
			return Entry{}, err
		}
		rev, err := r.Txn(ctx, Txn{If: []Cond{{Key: key, Rev: old.Rev}}, Then: []Op{{Key: key, Value: value}}})
		if err == nil {
			return Entry{Key: key, Value: value, Rev: rev}, nil
		}
		if !errors.Is(err, ErrConflict) {
			return Entry{}, err
		}
	}
	return Entry{}, fmt.Errorf("update %q, %d attempts: %w", key, updateAttemptsMax, ErrConflict)
}

// pause sleeps for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
