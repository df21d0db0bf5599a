package register

import (
	"context"
	"errors"
	"fmt"
)

// The limits are the same for every implementation. They stay below etcd's defaults (128 operations, 1.5 MiB a request), so
// that what works on a file works in a cluster.
const (
	MaxOps      = 128     // conditions, and operations, of one transaction
	MaxKeyBytes = 512     // the longest key in use is an undecided record's, below 400
	MaxTxnBytes = 1 << 20 // keys and values of one transaction together
)

// Errors of every implementation. After any error of Txn that is not one of ErrConflict, ErrInvalid, ErrFull, ErrClosed,
// ErrDeposed and ErrSessionLost its outcome is unknown.
var (
	// ErrNotFound says that the key does not exist.
	ErrNotFound = errors.New("register: key not found")
	// ErrConflict says that a condition did not hold; nothing has happened. Read again and decide again.
	ErrConflict = errors.New("register: conflict")
	// ErrInvalid says that the request breaks a limit or names a key twice; nothing has happened.
	ErrInvalid = errors.New("register: invalid request")
	// ErrFull says that the register would grow beyond its limit; nothing has happened. Deleting and replacing still work.
	ErrFull = errors.New("register: full")
	// ErrCorrupt says that the stored content contradicts itself. It needs a human; nothing is served from it.
	ErrCorrupt = errors.New("register: corrupt")
	// ErrClosed says that the handle was closed before the call; nothing has happened.
	ErrClosed = errors.New("register: closed")
	// ErrDeposed says that who asked does not lead any more; nothing has happened. Somebody else leads, or nobody.
	ErrDeposed = errors.New("register: deposed")
	// ErrSessionLost says that the session has ended, and its keys with it; nothing has happened. Begin another one.
	ErrSessionLost = errors.New("register: session lost")
)

// Register is a small consistent store. It is implemented by File, for one machine, and by Etcd, for a cluster.
//
// Get, List and Txn are linearizable: each sees every transaction acknowledged before it was called, by whichever process.
// None of them promises to return quickly; the context is the limit.
type Register interface {
	// Get returns the entry of key, or ErrNotFound.
	Get(ctx context.Context, key string) (Entry, error)

	// List returns all entries whose keys begin with prefix, sorted by key, and the revision of the register at that
	// moment. A Watch after that revision continues without a gap.
	List(ctx context.Context, prefix string) (entries []Entry, rev int64, err error)

	// Txn performs all of txn.Then if all of txn.If holds, else it returns ErrConflict. All its changes carry the returned
	// revision. A transaction that changes nothing (no operations, or only deletions of absent keys) returns the current
	// revision and is not seen by watchers.
	Txn(ctx context.Context, txn Txn) (rev int64, err error)

	// Watch delivers every change below prefix with a revision above afterRev, in order and without gaps. The changes of
	// one transaction always come in one batch. The channel is closed when ctx ends, when the register is closed, or when
	// the next change cannot be delivered any more (afterRev is too old or unknown, the consumer was too slow): then
	// List and watch again. A quiet channel does not prove that the register is reachable.
	Watch(ctx context.Context, prefix string, afterRev int64) <-chan []Event
}

// Entry is a key with its value. Rev is the revision of the transaction that wrote it last, and is never 0.
type Entry struct {
	Key   string
	Value []byte // shared: read-only
	Rev   int64
}

// Event is one change. Of a deletion the entry has the key and the revision of the deletion, and no value.
type Event struct {
	Entry
	Deleted bool
}

// Txn is a transaction: Then happens if all of If holds. A key may appear once in each list.
type Txn struct {
	If   []Cond
	Then []Op
}

// Cond holds if the entry of Key was last written at Rev; Rev 0 means that the key must not exist.
type Cond struct {
	Key string
	Rev int64
}

// Op puts Value under Key or, with Delete, removes Key. Removing an absent key is no error.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// check refuses a transaction that no implementation would take. It does not look at the content of the register.
func (t Txn) check() error {
	if len(t.If) > MaxOps || len(t.Then) > MaxOps {
		return fmt.Errorf("%w: more than %d conditions or operations", ErrInvalid, MaxOps)
	}
	seen := make(map[string]bool, len(t.If))
	for _, c := range t.If {
		if err := checkOnce(seen, c.Key); err != nil {
			return err
		}
		if c.Rev < 0 {
			return fmt.Errorf("%w: revision %d of %q", ErrInvalid, c.Rev, c.Key)
		}
	}
	clear(seen)
	size := 0
	for _, op := range t.Then {
		if err := checkOnce(seen, op.Key); err != nil {
			return err
		}
		size += len(op.Key) + len(op.Value)
	}
	if size > MaxTxnBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, size, MaxTxnBytes)
	}
	return nil
}

func checkOnce(seen map[string]bool, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if seen[key] {
		return fmt.Errorf("%w: %q appears twice", ErrInvalid, key)
	}
	seen[key] = true
	return nil
}

// checkKey accepts visible ASCII, so that keys look the same in every shell, log and store.
func checkKey(key string) error {
	if key == "" || len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: a key has 1 to %d bytes, not %d", ErrInvalid, MaxKeyBytes, len(key))
	}
	for i := range len(key) {
		if key[i] < '!' || key[i] > '~' {
			return fmt.Errorf("%w: key %q is not visible ASCII", ErrInvalid, key)
		}
	}
	return nil
}
