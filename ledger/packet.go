package ledger

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// PacketTTL is how long a packet can be grabbed from; then the rest goes back to its sender.
const PacketTTL = 24 * time.Hour

// MaxShares bounds the shares of one packet: they are all written in the commit that makes it.
const MaxShares = 500

// PacketMode says how a packet is split.
type PacketMode string

// The modes of packets.
const (
	EqualSplit  PacketMode = "EQUAL"  // shares differ by one minor unit at most
	RandomSplit PacketMode = "RANDOM" // each share is at least one minor unit, and about twice the average at most
)

// CreatePacket takes money from an owner and splits it, for others to grab (R5). (Owner, PacketRef) is unique for ever. Only lots that
// outlive the packet are taken from, and the money in it expires when the first of them would have.
type CreatePacket struct {
	Owner     string
	PacketRef string
	Amount    Money
	Shares    int
	Mode      PacketMode
}

// Grab asks for a share of a packet. An owner gets one share of a packet, and the same one however often he asks.
type Grab struct {
	Owner    string
	PacketID id.ID
}

// The states of packets.
const (
	packetOpen     = "OPEN"
	packetEmpty    = "EMPTY"    // every share was grabbed
	packetReturned = "RETURNED" // the rest went back to the sender
)

// packetRow is a row of packets.
type packetRow struct {
	owner     *ownerRow // the sender: his row is the lock
	id        id.ID
	ref       string
	mode      PacketMode
	currency  string
	total     int64
	shares    int64
	grabbed   int64
	taken     int64
	returned  int64
	state     string
	dueAt     int64
	lotsUntil int64
	createdAt int64
	expiresAt int64
	ver       int64

	stored, dirty bool
}

// shareRow is a row of packet_shares.
type shareRow struct {
	packet     id.ID
	bucket     shard.Bucket
	number     int64
	amount     int64
	owner      string // empty: nobody has grabbed it
	transferID id.ID
	grabbedAt  int64
	sentAt     int64 // 0: it is not grabbed, or known to be in the lots of its owner

	stored, dirty bool
}

type (
	shareRef struct {
		packet id.ID
		number int64
	}
	winnerRef struct {
		packet id.ID
		owner  string
	}
	packetRef struct{ owner, ref string }
)

// packetRows are the rows of packets in memory. The maps are nil until a batch has a packet.
type packetRows struct {
	packets    map[id.ID]*packetRow
	packetRefs map[packetRef]*packetRow
	shares     map[shareRef]*shareRow
	winners    map[winnerRef]*shareRow

	changed struct {
		packets []*packetRow
		shares  []*shareRow
	}
}

// dice throws numbers from bytes.
type dice struct{ bytes io.Reader }

// below is any number from 0 to n−1, each as likely as the others.
func (d dice) below(n int64) (int64, error) {
	limit := ^uint64(0) - ^uint64(0)%uint64(n) // a multiple of n; what is above would favour small numbers
	for {
		var b [8]byte
		if _, err := io.ReadFull(d.bytes, b[:]); err != nil {
			return 0, fmt.Errorf("throw the dice: %w", err)
		}
		if thrown := binary.BigEndian.Uint64(b[:]); thrown < limit {
			return int64(thrown % uint64(n)), nil
		}
	}
}

// splitEqual splits a total into n shares that differ by one at most, the larger ones first.
func splitEqual(total int64, n int) []int64 {
	shares := make([]int64, n)
	for i := range shares {
		shares[i] = total / int64(n)
		if int64(i) < total%int64(n) {
			shares[i]++
		}
	}
	return shares
}

// splitRandom splits a total into n shares of at least 1: each takes from 1 to twice the average of what is left, less one, and never
// what the others need. Then they are shuffled, because those at the end differ more than those at the beginning.
func splitRandom(total int64, n int, d dice) ([]int64, error) {
	shares := make([]int64, n)
	rest := total
	for i := range n - 1 {
		others := int64(n - i - 1)
		most := min(rest-others, max(2*(rest/(others+1))-1, 1))
		thrown, err := d.below(most)
		if err != nil {
			return nil, err
		}
		shares[i] = 1 + thrown
		rest -= shares[i]
	}
	shares[n-1] = rest
	for i := n - 1; i > 0; i-- {
		other, err := d.below(int64(i + 1))
		if err != nil {
			return nil, err
		}
		shares[i], shares[other] = shares[other], shares[i]
	}
	return shares, nil
}

func splitPacket(r *CreatePacket, d dice) ([]int64, error) {
	if r.Mode == RandomSplit {
		return splitRandom(r.Amount.Amount, r.Shares, d)
	}
	return splitEqual(r.Amount.Amount, r.Shares), nil
}

// PacketBody is a packet.
type PacketBody struct {
	PacketID  string     `json:"packet_id"`
	Owner     string     `json:"owner"` // the sender
	PacketRef string     `json:"packet_ref"`
	Mode      PacketMode `json:"mode"`
	State     string     `json:"state"` // OPEN, EMPTY, RETURNED
	Amount    Money      `json:"amount"`
	Shares    int64      `json:"shares"`
	Taken     int64      `json:"taken"`    // shares
	Grabbed   int64      `json:"grabbed"`  // money
	Returned  int64      `json:"returned"` // money
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	LotsUntil time.Time  `json:"lots_expire_at"` // when the money in it expires, wherever it is by then
}

// PacketReply answers a creation.
type PacketReply struct {
	Packet        PacketBody `json:"packet"`
	Balances      []Balance  `json:"balances"`
	Version       int64      `json:"version"` // of the sender
	AlreadyExists bool       `json:"already_exists,omitempty"`
}

// ShareBody is a share that somebody has grabbed.
type ShareBody struct {
	PacketID   string    `json:"packet_id"`
	Number     int64     `json:"number"`
	Owner      string    `json:"owner"`
	Amount     Money     `json:"amount"`
	GrabbedAt  time.Time `json:"grabbed_at"`
	TransferID string    `json:"transfer_id"`
	State      string    `json:"state,omitempty"` // in lists: PENDING until the money is known to be in the lots, then DONE
}

// GrabReply answers a grab.
type GrabReply struct {
	Share ShareBody `json:"share"`
}
