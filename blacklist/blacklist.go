package blacklist

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/statesvc/statesvc/register"
)

const (
	// renewEvery is how often the view is compared with the register.
	renewEvery = 60 * time.Millisecond
	// viewTTL is how old the view may be for the clock to end a block: three renewals may fail.
	viewTTL = 200 * time.Millisecond
	// staleAfter is the age at which somebody should be told. Writes go on: other layers hold without the register.
	staleAfter = 2 * time.Second
	// expireEvery is how long an entry may stay in the register after its end. It blocks nobody then.
	expireEvery = 250 * time.Millisecond
)

// Errors of this package. Others come from the register, and say then that the outcome is unknown.
var (
	// ErrBlocked says that the target is blocked; nothing has happened. It is always a *BlockedError.
	ErrBlocked = errors.New("blocked")
	// ErrBlockInForce says that the block is held by a cause that an admin cannot end: wait for its holder.
	ErrBlockInForce = errors.New("the cause of the block stands")
	// ErrNotBlocked says that there is no such block to remove.
	ErrNotBlocked = errors.New("not blocked")
	// ErrInvalid says that a block or record is malformed; nothing has happened.
	ErrInvalid = errors.New("invalid block")
	// ErrStale says that the view is too old, or that it lacks an entry that could not be read.
	ErrStale = errors.New("the view of the blacklist is stale")
)

// Grain is what a block is about.
type Grain string

// The grains, from the coarsest to the finest.
const (
	GrainNode   Grain = "node"   // a database host; no connections to it
	GrainShard  Grain = "shard"  // a decimal number, from 1
	GrainBucket Grain = "bucket" // a decimal number
	GrainOwner  Grain = "owner"
)

// Holders that have a meaning here; the others are names of programs.
const (
	HolderAdmin     = "admin"
	HolderUndecided = "undecided"
)

// Target is where a request wants to go. Every field is looked at; an empty Node and a Shard of 0 are never blocked.
type Target struct {
	Owner  string
	Bucket uint16
	Shard  uint16
	Node   string
}

// BlockedError says what is blocked and for how long. It is shared between callers and must not be changed.
type BlockedError struct {
	Grain   Grain
	ID      string
	Holder  string    // of several holders the one that lasts longest
	Reason  string    // the public one, made for callers; may be empty
	RetryAt time.Time // when the block ends if nobody prolongs it; zero if that is not known
}

// Error does not name the id, because owners are hashed in logs.
func (e *BlockedError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s blocked by %s", e.Grain, e.Holder)
	}
	return fmt.Sprintf("%s blocked by %s: %s", e.Grain, e.Holder, e.Reason)
}

// Is makes errors.Is(err, ErrBlocked) true.
func (e *BlockedError) Is(target error) bool { return target == ErrBlocked }

// Mirrors are what the blacklist has in memory, for whoever renews them together with others.
func (b *Blacklist) Mirrors() []*register.Mirror { return []*register.Mirror{b.blocks, b.undecided} }

// Blacklist answers whether a target is blocked, and changes what is. Its methods may be called concurrently.
type Blacklist struct {
	reg       register.Register
	now       func() time.Time
	seed      maphash.Seed
	blocks    *register.Mirror // blocks/
	undecided *register.Mirror // undecided/
	view      atomic.Pointer[view]
	stop      context.CancelFunc
	loops     sync.WaitGroup

	mu         sync.Mutex
	causes     map[place]map[string]Block // by key in the register, or by a name of our own for local ones
	ends       map[string]time.Time       // of entries that end by themselves, by key
	unreadable map[string]error           // by key
	locals     int64                      // how many local blocks were ever made; names the next
}

// Open loads the blacklist and follows it until Close. ctx bounds the loading only. It fails if an entry cannot be read,
// because then it is not known what must be blocked.
func Open(ctx context.Context, reg register.Register, now func() time.Time) (*Blacklist, error) {
	b := &Blacklist{
		reg: reg, now: now, seed: maphash.MakeSeed(),
		causes: map[place]map[string]Block{}, ends: map[string]time.Time{}, unreadable: map[string]error{},
	}
	b.view.Store(&view{})
	if err := b.openMirrors(ctx); err != nil {
		return nil, fmt.Errorf("open blacklist: %w", err)
	}
	if err := b.Err(now()); err != nil {
		b.closeMirrors()
		return nil, fmt.Errorf("open blacklist: %w", err)
	}
	expiring, stop := context.WithCancel(context.WithoutCancel(ctx))
	b.stop = stop
	b.loops.Go(func() { b.expireLoop(expiring) })
	return b, nil
}

func (b *Blacklist) openMirrors(ctx context.Context) (err error) {
	b.blocks, err = register.OpenMirror(ctx, b.reg, register.MirrorOptions{
		Prefix: blocksPrefix, Now: b.now, RenewEvery: renewEvery, Changed: b.blocksChanged,
	})
	if err != nil {
		return err
	}
	b.undecided, err = register.OpenMirror(ctx, b.reg, register.MirrorOptions{
		Prefix: undecidedPrefix, Now: b.now, RenewEvery: renewEvery, Changed: b.undecidedChanged,
	})
	if err != nil {
		b.blocks.Close()
	}
	return err
}

func (b *Blacklist) closeMirrors() {
	b.blocks.Close()
	b.undecided.Close()
}

// Close ends the following and waits for it. Check goes on answering from the last view.
func (b *Blacklist) Close() {
	b.stop()
	b.loops.Wait()
	b.closeMirrors()
}

// Check returns nil if nothing of t is blocked at now, else a *BlockedError. It takes no lock and allocates nothing.
// A nil answer does not promise that the target stays free: whatever must not be passed by a block that comes later has
// to be checked where it is decided.
func (b *Blacklist) Check(t Target, now time.Time) error {
	v := b.view.Load()
	if m, found := v.nodes[t.Node]; found && b.inForce(m, now) {
		return m.blocked
	}
	if m, found := v.shards[t.Shard]; found && b.inForce(m, now) {
		return m.blocked
	}
	if m, found := v.buckets[t.Bucket]; found && b.inForce(m, now) {
		return m.blocked
	}
	if m, found := v.owners[b.segment(t.Owner)][t.Owner]; found && b.inForce(m, now) {
		return m.blocked
	}
	return nil
}

// CheckNode is Check for a node alone, as when connecting to it.
func (b *Blacklist) CheckNode(node string, now time.Time) error {
	if m, found := b.view.Load().nodes[node]; found && b.inForce(m, now) {
		return m.blocked
	}
	return nil
}

// CheckShard is Check for a shard alone, as in background work that goes over all of its buckets.
func (b *Blacklist) CheckShard(shard uint16, now time.Time) error {
	if m, found := b.view.Load().shards[shard]; found && b.inForce(m, now) {
		return m.blocked
	}
	return nil
}

// inForce ends a block by the clock only if the view is young enough to know of a prolongation.
func (b *Blacklist) inForce(m mark, now time.Time) bool {
	until := m.blocked.RetryAt
	return until.IsZero() || now.Before(until) || now.Sub(b.blocks.FreshAt()).Abs() > viewTTL
}

// Age returns how long ago the view was known to be equal to the register.
func (b *Blacklist) Age(now time.Time) time.Duration {
	return max(now.Sub(b.blocks.FreshAt()), now.Sub(b.undecided.FreshAt()))
}

// Err returns ErrStale with the reason if the view should not be relied on, for readiness and alarms.
func (b *Blacklist) Err(now time.Time) error {
	if age := b.Age(now); age > staleAfter {
		return fmt.Errorf("%w: not compared with the register for %s", ErrStale, age)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, err := range b.unreadable {
		return fmt.Errorf("%w: entry %q: %w", ErrStale, key, err)
	}
	return nil
}
