package id

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Mint refuses with one of these. Both pass by themselves, so the caller's client may try again.
var (
	// ErrClockBackwards says that the clock stands more than five seconds before the newest id.
	ErrClockBackwards = errors.New("the clock went backwards")
	// ErrLeaseLost says that no node is leased, or that the high-water mark of the lease has been reached because it could
	// not be moved in time.
	ErrLeaseLost = errors.New("no lease to mint ids")
)

// backwardsMax is how far an id may lie ahead of the clock. It covers the steps of a corrected clock and bursts of more
// than 16,384 ids in a millisecond; a larger gap means that the clock is wrong, and ids would stop telling the time.
const backwardsMax = 5 * time.Second

// Grant is the right to mint as one node, at most MaxNode, from Floor until just before Mark. Nobody else ever mints as
// this node between the two: see LeaseStore. The zero Grant covers nothing.
type Grant struct {
	Node        uint16
	Term        int64 // counts the holders of the node, so that an earlier one cannot extend or end a later one's grant
	Floor, Mark time.Time
}

// Minter makes ids under the grant of one node. It is safe for concurrent use. Its ids never repeat, and each one is
// later, by (Time, Seq), than all that it made before, whatever the clock does and whatever the node is.
type Minter struct {
	codec *Codec
	now   func() time.Time
	short chan struct{} // has an element when Mint met the mark; the Lease empties it

	mu    sync.Mutex
	grant Grant
	last  uint64 // the newest tick given out: the millisecond, then 14 bits of seq, so that a full seq carries over
}

// NewMinter returns a minter without a grant, so one that refuses. Its grants come from a Lease, or by hand in tests and
// tools. It reads no clock but now.
func NewMinter(codec *Codec, now func() time.Time) *Minter {
	return &Minter{codec: codec, now: now, short: make(chan struct{}, 1)}
}

// Use replaces the grant; the zero Grant stops minting. It returns the first instant of the old grant that no id has
// reached or will reach, for handing the node back.
func (m *Minter) Use(grant Grant) (unused time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	unused = m.grant.Floor // an earlier instant belongs to the node's former holders, used or not
	if next := time.UnixMilli(int64(m.last>>seqBits) + 1); next.After(unused) {
		unused = next
	}
	m.grant = grant
	return unused
}

// Mint makes the id of a new document of the given kind in bucket, born on shard placement. It fails with
// ErrClockBackwards or ErrLeaseLost, and never waits. Neither bucket nor placement is looked up: they are the caller's
// word. An id that is not used is lost, which costs nothing.
func (m *Minter) Mint(kind Kind, bucket, placement uint16) (ID, error) {
	if !kind.valid() || bucket > MaxBucket || placement > MaxPlacement {
		return ID{}, fmt.Errorf("mint %s in bucket %d, placement %d: out of range", kind, bucket, placement)
	}
	tick, node, err := m.take()
	if err != nil {
		return ID{}, fmt.Errorf("mint %s: %w", kind, err)
	}
	return m.codec.seal(kind, parts{
		ms:        tick >> seqBits,
		bucket:    bucket,
		placement: placement,
		node:      node,
		seq:       uint16(tick & (1<<seqBits - 1)),
	}), nil
}

// take gives out the next tick: the clock's, or the one after the newest if the clock has not passed it.
func (m *Minter) take() (tick uint64, node uint16, err error) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	tick = max(m.last+1, firstTick(now), firstTick(m.grant.Floor))
	if tick>>seqBits > firstTick(now.Add(backwardsMax))>>seqBits {
		return 0, 0, ErrClockBackwards
	}
	if tick >= firstTick(m.grant.Mark) {
		m.askForMore()
		return 0, 0, ErrLeaseLost
	}
	m.last = tick
	return tick, m.grant.Node, nil
}

// askForMore wakes the lease before its time. A jump of the clock, or a machine that slept, would otherwise stop minting
// until the next regular extension.
func (m *Minter) askForMore() {
	select {
	case m.short <- struct{}{}:
	default: // it has been asked already
	}
}

// firstTick returns the first tick of the millisecond of t, rounded into the range of ids.
func firstTick(t time.Time) uint64 {
	ms := min(max(t.UnixMilli(), 0), maxMS)
	return uint64(ms) << seqBits
}
