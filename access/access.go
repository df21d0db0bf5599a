package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/statesvc/statesvc/register"
)

const (
	keysPrefix = "keys/"
	keysMax    = 10_000 // all keys are in memory, and each change copies the table
	idAttempts = 3      // of 64 random bits: a second collision is a broken source

	// renewEvery is how often the copy is compared with the register. The watch carries the changes; this is the proof.
	renewEvery = time.Second
)

// Errors of this package. Others come from the register, and say then that the outcome is unknown.
var (
	// ErrUnauthenticated says that the token opens nothing. Callers are told no more than that.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrExpired is an ErrUnauthenticated; the difference is for the log.
	ErrExpired = fmt.Errorf("%w: the key has expired", ErrUnauthenticated)
	// ErrRevoked is an ErrUnauthenticated; the difference is for the log. Update returns it too.
	ErrRevoked = fmt.Errorf("%w: the key is revoked", ErrUnauthenticated)
	// ErrNotFound says that there is no key with this id.
	ErrNotFound = errors.New("no such key")
	// ErrInvalid says that a specification breaks a limit; nothing has happened.
	ErrInvalid = errors.New("invalid key")
	// ErrTooMany says that the limit of keys is reached; nothing has happened.
	ErrTooMany = errors.New("too many keys")
)

// Keys verifies and administers API keys. Its methods may be called concurrently.
type Keys struct {
	reg    register.Register
	now    func() time.Time
	random io.Reader
	mirror *register.Mirror
	byID   atomic.Pointer[map[string]*Key] // immutable, replaced as a whole
}

// Open loads the keys and follows them until Close. ctx bounds the loading only. random is the source of ids and secrets:
// crypto/rand outside of tests.
func Open(ctx context.Context, reg register.Register, now func() time.Time, random io.Reader) (*Keys, error) {
	k := &Keys{reg: reg, now: now, random: random}
	k.byID.Store(&map[string]*Key{})
	mirror, err := register.OpenMirror(ctx, reg, register.MirrorOptions{
		Prefix: keysPrefix, Now: now, RenewEvery: renewEvery, Changed: k.changed,
	})
	if err != nil {
		return nil, fmt.Errorf("open API keys: %w", err)
	}
	k.mirror = mirror
	return k, nil
}

// Close ends the following and waits for it. Verify goes on with the keys known then.
func (k *Keys) Close() { k.mirror.Close() }

// Age returns how long ago the keys were known to be those of the register.
func (k *Keys) Age(now time.Time) time.Duration { return now.Sub(k.mirror.FreshAt()) }

// changed takes over changes of keys/. Mirror calls it in order, one at a time.
func (k *Keys) changed(events []register.Event) {
	next := maps.Clone(*k.byID.Load())
	for _, e := range events {
		id := strings.TrimPrefix(e.Key, keysPrefix)
		if e.Deleted {
			delete(next, id)
			continue
		}
		key, err := decodeKey(id, e.Value)
		if err != nil {
			key = unusable(id)
		}
		next[id] = key
	}
	k.byID.Store(&next)
}

// unusable stands for an entry that cannot be read: no secret has its hash.
func unusable(id string) *Key { return &Key{ID: id} }

// Verify returns the key that token opens at now, or an ErrUnauthenticated. It waits for nothing and does not allocate.
// It does not look at scopes.
func (k *Keys) Verify(token string, now time.Time) (*Key, error) {
	id, hash, ok := parseToken(token)
	if !ok {
		return nil, ErrUnauthenticated
	}
	key, found := (*k.byID.Load())[id]
	if !found || subtle.ConstantTimeCompare(hash[:], key.hash[:]) != 1 {
		return nil, ErrUnauthenticated
	}
	if err := key.refusal(now); err != nil {
		return nil, err
	}
	return key, nil
}

// Create makes a key and returns it with its token, which is not stored and cannot be had again.
func (k *Keys) Create(ctx context.Context, spec Spec) (Key, string, error) {
	now := k.now()
	if err := spec.check(now); err != nil {
		return Key{}, "", err
	}
	if len(*k.byID.Load()) >= keysMax {
		return Key{}, "", fmt.Errorf("%w: %d", ErrTooMany, keysMax)
	}
	for range idAttempts {
		key, token, err := k.draw(spec, now)
		if err == nil {
			err = k.put(ctx, &key, 0)
		}
		if err == nil {
			return key, token, nil
		}
		if !errors.Is(err, register.ErrConflict) {
			return Key{}, "", fmt.Errorf("create API key %q: %w", spec.Name, err)
		}
	}
	return Key{}, "", fmt.Errorf("create API key %q: %w", spec.Name, register.ErrConflict)
}

// draw makes a key of random bits.
func (k *Keys) draw(spec Spec, now time.Time) (Key, string, error) {
	var bits [idBytes + secretBytes]byte
	if _, err := io.ReadFull(k.random, bits[:]); err != nil {
		return Key{}, "", err
	}
	id, secret := formatHex(bits[:idBytes]), bits[idBytes:]
	key := Key{ID: id, Spec: spec, CreatedAt: now.UTC(), hash: sha256.Sum256(secret)}
	return key, formatToken(id, secret), nil
}

// put writes key if its entry is at rev, and shows it to Verify.
func (k *Keys) put(ctx context.Context, key *Key, rev int64) error {
	value, err := key.encode()
	if err != nil {
		return err
	}
	txn := register.Txn{
		If:   []register.Cond{{Key: keysPrefix + key.ID, Rev: rev}},
		Then: []register.Op{{Key: keysPrefix + key.ID, Value: value}},
	}
	written, err := k.reg.Txn(ctx, txn)
	if err != nil {
		return err
	}
	k.mirror.Wrote(written, txn.Then)
	return nil
}

// List returns all keys, revoked and expired ones too, the oldest first.
func (k *Keys) List() []Key {
	keys := make([]Key, 0)
	for _, key := range *k.byID.Load() {
		keys = append(keys, *key)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return keys
}

// Get returns one key, or ErrNotFound.
func (k *Keys) Get(id string) (Key, error) {
	key, found := (*k.byID.Load())[id]
	if !found {
		return Key{}, fmt.Errorf("%w: %q", ErrNotFound, id)
	}
	return *key, nil
}

// Update applies patch and returns the key as it is then. A revoked key cannot be changed: ErrRevoked. An expired one can,
// and lives again if its expiry is moved.
func (k *Keys) Update(ctx context.Context, id string, patch Patch) (Key, error) {
	now := k.now()
	key, err := k.change(ctx, id, func(key *Key) error {
		if !key.RevokedAt.IsZero() {
			return ErrRevoked
		}
		next := patch.apply(key.Spec)
		check := next
		if patch.ExpiresAt == nil {
			check.ExpiresAt = time.Time{} // an expiry that is not touched may lie in the past
		}
		key.Spec = next
		return check.check(now)
	})
	if err != nil {
		return Key{}, fmt.Errorf("update API key %s: %w", id, err)
	}
	return key, nil
}

// Revoke ends a key for ever; when it returns, Verify of this process refuses it. The entry stays, with the time of the
// first revocation. Revoking again is no error.
func (k *Keys) Revoke(ctx context.Context, id string) (Key, error) {
	now := k.now().UTC()
	key, err := k.change(ctx, id, func(key *Key) error {
		if key.RevokedAt.IsZero() {
			key.RevokedAt = now
		}
		return nil
	})
	if err != nil {
		return Key{}, fmt.Errorf("revoke API key %s: %w", id, err)
	}
	return key, nil
}

// change replaces the entry of a key by what edit makes of it, and tries again if somebody else was quicker. An entry that
// cannot be read becomes one that can, and opens nothing either.
func (k *Keys) change(ctx context.Context, id string, edit func(*Key) error) (Key, error) {
	if !validID(id) {
		return Key{}, fmt.Errorf("%w: %q", ErrNotFound, id)
	}
	var changed Key
	entry, err := register.Update(ctx, k.reg, keysPrefix+id, func(old register.Entry) ([]byte, error) {
		if old.Rev == 0 {
			return nil, fmt.Errorf("%w: %q", ErrNotFound, id)
		}
		key, err := decodeKey(id, old.Value)
		if err != nil {
			key = unusable(id)
		}
		changed = *key
		if err := edit(&changed); err != nil {
			return nil, err
		}
		return changed.encode()
	})
	if err != nil {
		return Key{}, err
	}
	k.mirror.Wrote(entry.Rev, []register.Op{{Key: entry.Key, Value: entry.Value}})
	return changed, nil
}
