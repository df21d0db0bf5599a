package blacklist

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/statesvc/statesvc/register"
)

// undecidedChunk is how many records one transaction of the register takes; etcd's default limit is 128 operations.
const undecidedChunk = 100

const undecidedPublic = "the outcome of an earlier write is being decided"

// AllShards makes ListUndecided return the records of all shards; shards are numbered from 1.
const AllShards = 0

// Undecided is the record of an operation whose COMMIT got no answer. While it is in the register, its owner is blocked in
// every instance.
type Undecided struct {
	Shard       uint16    `json:"-"`
	Owner       string    `json:"owner"`
	Bucket      uint16    `json:"bucket"`
	Key         string    `json:"key"`
	Fingerprint []byte    `json:"fingerprint"`
	Epoch       uint64    `json:"epoch"`
	Instance    string    `json:"instance"`
	At          time.Time `json:"at"`
	Rev         int64     `json:"-"` // as ListUndecided found it; DeleteUndecided removes this revision and no other
}

func (u Undecided) key() recordKey { return recordKey{u.Shard, u.Bucket, u.Owner, u.Key} }

// decodeUndecided fails only if the key does not say who is blocked. The value may lack everything else.
func decodeUndecided(e register.Entry) (Undecided, error) {
	k, err := parseRecordKey(e.Key)
	if err != nil {
		return Undecided{}, err
	}
	var u Undecided
	if err := json.Unmarshal(e.Value, &u); err != nil {
		u = Undecided{}
	}
	u.Shard, u.Bucket, u.Owner, u.Key, u.Rev = k.shard, k.bucket, k.owner, k.key, e.Rev
	return u, nil
}

func (u Undecided) block() Block {
	return Block{
		Grain: GrainOwner, ID: u.Owner, Holder: HolderUndecided, Reason: "undecided operation " + u.Key + " on shard " +
			strconv.Itoa(int(u.Shard)), PublicReason: undecidedPublic, By: u.Instance, At: u.At,
	}
}

// PutUndecided puts the records into the register; when it returns, every Check of this process sees their owners blocked.
// It is idempotent. After an error some of the records may be there; the caller keeps his local blocks and tries again.
//
// A record of the same operation with other content is replaced: it belongs to an earlier attempt, and whoever is deciding
// that one must not delete the record of this one. The replacement has a new revision, so his deletion misses. The epoch
// never falls.
func (b *Blacklist) PutUndecided(ctx context.Context, records []Undecided) error {
	wanted := map[string]Undecided{}
	for _, u := range records {
		if err := u.key().check(); err != nil {
			return err
		}
		wanted[u.key().String()] = u
	}
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(wanted)), undecidedChunk) {
		if err := b.putChunk(ctx, chunk, wanted); err != nil {
			return fmt.Errorf("put %d undecided records: %w", len(records), err)
		}
	}
	return nil
}

func (b *Blacklist) putChunk(ctx context.Context, keys []string, wanted map[string]Undecided) error {
	for range attemptsMax {
		var txn register.Txn
		for _, key := range keys {
			old, _ := b.undecided.Get(key)
			if err := addPut(&txn, key, old, wanted[key]); err != nil {
				return err
			}
		}
		if again, err := b.commitUndecided(ctx, txn); !again {
			return err
		}
	}
	return register.ErrConflict
}

// addPut adds the record to txn unless it is there already.
func addPut(txn *register.Txn, key string, old register.Entry, u Undecided) error {
	u.At = u.At.UTC()
	if old.Rev != 0 {
		before, err := decodeUndecided(old)
		if err != nil {
			return err
		}
		u.Epoch = max(u.Epoch, before.Epoch)
	}
	value, err := json.Marshal(u)
	if err != nil {
		return err
	}
	txn.If = append(txn.If, register.Cond{Key: key, Rev: old.Rev})
	if old.Rev == 0 || !bytes.Equal(old.Value, value) {
		txn.Then = append(txn.Then, register.Op{Key: key, Value: value})
	}
	return nil
}

// commitUndecided performs txn and shows it in the view. The conditions come from the view; if they do not hold, it renews
// the view and says that the caller should try again. Conditions alone are still a transaction: they make sure that what
// the view called present is present.
func (b *Blacklist) commitUndecided(ctx context.Context, txn register.Txn) (again bool, err error) {
	rev, err := b.reg.Txn(ctx, txn)
	if errors.Is(err, register.ErrConflict) {
		err = b.undecided.Renew(ctx)
		return err == nil, err
	}
	if err == nil {
		b.undecided.Wrote(rev, txn.Then)
	}
	return false, err
}

// DeleteUndecided removes records that have been decided, each only at the revision that was listed: a record that was
// replaced since belongs to another attempt and stays. Records that are gone are no error. An owner is free when his last
// record is gone and nothing else blocks him. After an error some of the records may be gone.
func (b *Blacklist) DeleteUndecided(ctx context.Context, records []Undecided) error {
	for _, u := range records {
		if err := u.key().check(); err != nil {
			return err
		}
		if u.Rev <= 0 {
			return fmt.Errorf("%w: delete an undecided record at the revision it was listed with", ErrInvalid)
		}
	}
	for chunk := range slices.Chunk(records, undecidedChunk) {
		if err := b.deleteChunk(ctx, chunk); err != nil {
			return fmt.Errorf("delete %d undecided records: %w", len(records), err)
		}
	}
	return nil
}

func (b *Blacklist) deleteChunk(ctx context.Context, records []Undecided) error {
	left := map[string]int64{}
	for _, u := range records {
		left[u.key().String()] = u.Rev
	}
	for range attemptsMax {
		var txn register.Txn
		for key, rev := range left {
			txn.If = append(txn.If, register.Cond{Key: key, Rev: rev})
			txn.Then = append(txn.Then, register.Op{Key: key, Delete: true})
		}
		if again, err := b.commitUndecided(ctx, txn); !again {
			return err
		}
		maps.DeleteFunc(left, func(key string, rev int64) bool {
			entry, _ := b.undecided.Get(key)
			return entry.Rev != rev // gone, or replaced
		})
	}
	return register.ErrConflict
}

// ListUndecided returns the records of a shard, or of AllShards, as the register has them now, the oldest first. Records
// whose keys cannot be read are an error, which comes beside the others, so that one does not stop the deciding of all.
func (b *Blacklist) ListUndecided(ctx context.Context, shard uint16) ([]Undecided, error) {
	prefix := undecidedPrefix
	if shard != AllShards {
		prefix += strconv.Itoa(int(shard)) + "/"
	}
	entries, _, err := b.reg.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list undecided records: %w", err)
	}
	records := make([]Undecided, 0, len(entries))
	for _, e := range entries {
		u, unreadable := decodeUndecided(e)
		if unreadable != nil {
			err = errors.Join(err, fmt.Errorf("list undecided records: %w", unreadable))
			continue
		}
		records = append(records, u)
	}
	slices.SortStableFunc(records, func(a, b Undecided) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Rev, b.Rev)) })
	return records, err
}
