package failover

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// Some shards are failed over by another tool: a managed database, group replication, an orchestrator. It calls BeginExternal before it
// promotes a server and AnnounceExternal after that. What is kept then is that no batch of an old epoch commits on the new primary.
// What is not: that the old primary is fenced, that no acknowledged write is lost, and that strong reads are strong; all three are
// the other tool's.

// Errors of shards that another tool fails over.
var (
	// ErrNotExternal says that no other tool fails this shard over.
	ErrNotExternal = errors.New("no other tool fails this shard over")
	// ErrStaleEpoch says that the epoch is not the newest of the shard, or is served by another primary.
	ErrStaleEpoch = errors.New("the epoch is not the newest of the shard")
	// ErrNotWritable says that the announced primary does not take writes, or does not answer; it may do so later.
	ErrNotWritable = errors.New("the announced primary does not take writes")
)

// Fencing is who has fenced a shard that another tool fails over, until a primary was announced.
type Fencing struct {
	By     string    `json:"by"` // the same one may ask again
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// errUnchanged ends an update that has nothing to do.
var errUnchanged = errors.New("there is nothing to change")

// MarkExternal makes another tool the one that fails a shard over. A shard that has replicas of ours is refused.
func MarkExternal(ctx context.Context, reg register.Register, number int) error {
	_, err := change(ctx, reg, number, func(r *Record) error {
		switch {
		case r.External:
			return errUnchanged
		case len(r.Nodes) > 1 || len(r.heard()) > 0:
			return fmt.Errorf("shard %d has replicas that the controllers look after, so no other tool may fail it over", number)
		}
		r.External = true
		return nil
	})
	return err
}

// BeginExternal begins a new epoch in which nothing is written before a primary is announced. Until then the same caller gets the
// same epoch, however often it asks; another caller takes over with an epoch of its own. The old primary is not touched.
func BeginExternal(ctx context.Context, reg register.Register, number int, f Fencing) (Record, error) {
	return change(ctx, reg, number, func(r *Record) error {
		switch {
		case !r.External:
			return ErrNotExternal
		case r.Phase == shard.PhaseFencing && r.Fencing.By == f.By:
			return errUnchanged
		}
		r.Epoch++
		r.Phase, r.Run, r.Fencing = shard.PhaseFencing, rand.Text(), f
		r.Stuck = fmt.Sprintf("fenced by %s: %s; waits for a primary to be announced", f.By, f.Reason)
		return nil
	})
}

// Announcement says where the new primary of a shard is.
type Announcement struct {
	Shard   int
	Epoch   uint64 // that BeginExternal has returned
	Address string // host:port
}

// announceAttempts bounds AnnounceExternal: a record of a fenced shard changes when somebody else takes over, and hardly ever else.
const announceAttempts = 3

// AnnounceExternal lets the writes of a fenced shard go on at a new address. raise is RaiseFence on a connection to that address. The
// same announcement again is answered as before; any other of an epoch that is not the newest, or is served, is ErrStaleEpoch.
func AnnounceExternal(
	ctx context.Context, reg register.Register, a Announcement, now func() time.Time, raise func(context.Context) error,
) (Record, error) {
	for range announceAttempts {
		r, rev, err := ReadRecord(ctx, reg, a.Shard)
		if err != nil {
			return r, err
		}
		if done, err := a.check(&r); done || err != nil {
			return r, err
		}
		// The register has said FENCING before this moment, so all read leases of older epochs end within leaseWait of it.
		leased := time.NewTimer(leaseWait)
		defer leased.Stop()
		if err := raise(ctx); err != nil {
			return r, err
		}
		select {
		case <-leased.C:
		case <-ctx.Done():
			return r, ctx.Err()
		}
		ops, err := a.serve(&r, now().UTC())
		if err != nil {
			return r, err
		}
		_, err = reg.Txn(ctx, register.Txn{If: []register.Cond{{Key: shard.RecordKey(a.Shard), Rev: rev}}, Then: ops})
		if !errors.Is(err, register.ErrConflict) {
			return r, err
		}
	}
	return Record{}, fmt.Errorf("announce a primary of shard %d: %w", a.Shard, register.ErrConflict)
}

// check says whether the announcement was carried out already, or why it is refused.
func (a Announcement) check(r *Record) (done bool, err error) {
	switch {
	case !r.External:
		return false, ErrNotExternal
	case a.Epoch != r.Epoch:
		return false, fmt.Errorf("%w: it is %d", ErrStaleEpoch, r.Epoch)
	case r.Phase == shard.PhaseFencing:
		return false, nil
	case r.Nodes[r.Primary].Address == a.Address:
		return true, nil
	}
	return false, fmt.Errorf("%w: %s serves it already", ErrStaleEpoch, r.Nodes[r.Primary].Address)
}

// serve makes the record one of a serving shard, and returns what is to be written, the journal included.
func (a Announcement) serve(r *Record, at time.Time) ([]register.Op, error) {
	journal := Journal{
		Shard: a.Shard, Epoch: r.Epoch, From: r.Nodes[r.Primary].Address, To: a.Address, Steps: []Step{},
		Why: fmt.Sprintf("fenced by %s: %s", r.Fencing.By, r.Fencing.Reason), DecidedAt: r.Fencing.At, ServingAt: at,
	}
	story, err := json.Marshal(journal)
	if err != nil {
		return nil, err
	}
	*r = r.Clone()
	// The node is named by its address. A single node that has the name of its shard is looked for where the configuration says.
	r.Primary, r.Nodes = a.Address, map[string]shard.Node{a.Address: {Address: a.Address}}
	r.Phase, r.Fencing, r.Stuck = shard.PhaseServing, Fencing{}, ""
	value, err := r.Encode()
	if err != nil {
		return nil, err
	}
	ops := []register.Op{{Key: shard.RecordKey(a.Shard), Value: value}, {Key: journalKey(a.Shard, r.Epoch), Value: story}}
	if r.Epoch > journalsKept {
		ops = append(ops, register.Op{Key: journalKey(a.Shard, r.Epoch-journalsKept), Delete: true})
	}
	return ops, nil
}

// change replaces the record of a shard by compare-and-set. Whoever may write must see to it that no controller does.
func change(ctx context.Context, reg register.Register, number int, f func(*Record) error) (r Record, err error) {
	_, err = register.Update(ctx, reg, shard.RecordKey(number), func(old register.Entry) ([]byte, error) {
		if old.Rev == 0 {
			return nil, fmt.Errorf("shard %d: %w", number, register.ErrNotFound)
		}
		if r, err = DecodeRecord(old.Value); err != nil {
			return nil, err
		}
		if err := f(&r); err != nil {
			return nil, err
		}
		return r.Encode()
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return r, err
}

// The statements of RaiseFence. The update locks the fence row, so it waits for the batches of older epochs that hold it, and the ones
// after it see the new epoch. primary_id is for people.
const (
	isReadOnly = `SELECT @@read_only`
	raiseFence = `UPDATE fence SET epoch=?, primary_id=@@server_id WHERE id=1 AND epoch<?`
	readFence  = `SELECT epoch FROM fence WHERE id=1`
)

// RaiseFence sees that a server takes writes, and makes epoch the one in which it takes them. It may be done again.
func RaiseFence(ctx context.Context, db *sql.DB, epoch uint64) error {
	var readOnly bool
	if err := db.QueryRowContext(ctx, isReadOnly).Scan(&readOnly); err != nil {
		return fmt.Errorf("%w: %w", ErrNotWritable, err)
	}
	if readOnly {
		return fmt.Errorf("%w: it is read-only", ErrNotWritable)
	}
	if _, err := db.ExecContext(ctx, raiseFence, epoch, epoch); err != nil { // 1290 or 1836 if it became read-only meanwhile
		return fmt.Errorf("%w: %w", ErrNotWritable, err)
	}
	var found uint64
	if err := db.QueryRowContext(ctx, readFence).Scan(&found); err != nil {
		return fmt.Errorf("%w: %w", ErrNotWritable, err)
	}
	if found != epoch {
		return fmt.Errorf("%w: the server is at %d", ErrStaleEpoch, found)
	}
	return nil
}
