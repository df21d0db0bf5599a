package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// errTornPacket: a packet says that a share is free, and the share says otherwise.
var errTornPacket = errors.New("I2: the next share of a packet is not there, or not free")

// CreatePacket takes money from its sender and splits it into shares that others may grab within PacketTTL (R5). The Body is a
// PacketReply. The split is made once, here; that of RANDOM from Config.Random.
func (l *Ledger) CreatePacket(ctx context.Context, c Caller, r CreatePacket) (Answer, error) {
	if err := validatePacket(c, &r); err != nil {
		return Answer{}, err
	}
	op := &createPacketOp{CreatePacket: r}
	if err := l.mint(&op.id, id.Packet, r.Owner); err != nil {
		return Answer{}, err
	}
	var err error
	if op.shares, err = splitPacket(&r, dice{l.cfg.Random}); err != nil {
		return Answer{}, err
	}
	return l.submit(ctx, c, r.Owner, kindCreatePacket, fingerprintPacket(&r), op)
}

// Grab gives an owner a share of a packet, wherever he and the packet live. The Body is a GrabReply, the same one however often he asks
// and under whichever key. The share is decided in one commit where the packet is; the money reaches his lots by a transfer. An Answer
// that is Pending was given before the transfer was known to be in: it will be, exactly once.
//
// A frozen owner grabs nothing that he has not grabbed before; his shard is asked first, so that a freeze that was answered is seen.
//
// A key counts for one packet and one owner. That a packet is empty is not recorded, because it stays so: instances answer from memory.
func (l *Ledger) Grab(ctx context.Context, c Caller, r Grab) (Answer, error) {
	if err := validateCaller(c, r.Owner); err != nil {
		return Answer{}, err
	}
	if l.packets.lost(r.PacketID, r.Owner) {
		return Answer{}, emptyPacket()
	}
	facts, err := l.packetFacts(ctx, r.PacketID)
	if err != nil {
		return Answer{}, err
	}
	op := &grabOp{Grab: r}
	if op.frozen, err = l.frozen(ctx, r.Owner); err != nil {
		return Answer{}, err
	}
	bucket := shard.Bucket(r.PacketID.Bucket())
	if op.transferID, err = l.cfg.Minter.Mint(id.Transfer, uint16(bucket), l.cfg.Store.Placement(bucket)); err != nil {
		return Answer{}, fmt.Errorf("for a share of packet %s: %w", r.PacketID, err)
	}
	c.Key = grabKey(c.Key, r.Owner)
	answer, err := l.submit(ctx, c, facts.Owner, kindGrab, fingerprintGrab(&r), op)
	if errors.Is(err, ErrSoldOut) {
		l.rememberEmpty(ctx, r.PacketID)
	}
	if err != nil {
		return answer, err
	}
	if !answer.Replayed && !op.pending {
		return answer, nil
	}
	answer.Pending = l.sendShare(ctx, facts, answer.Body) != nil
	return answer, nil
}

// frozen asks the shard of an owner whether he is frozen.
func (l *Ledger) frozen(ctx context.Context, owner string) (frozen bool, err error) {
	bucket := shard.BucketOf(owner)
	err = l.read(ctx, bucket, func(tx *gorm.DB, _ time.Time) error {
		var flags []bool
		if err := tx.Table("owners").Where("bucket = ? AND owner = ?", bucket, owner).Limit(1).Pluck("frozen", &flags).Error; err != nil {
			return err
		}
		frozen = len(flags) > 0 && flags[0]
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("ask whether %s is frozen: %w", owner, err)
	}
	return frozen, nil
}

// grabKey is the key of a grab among the keys of the packet's sender, where grabs are recorded. No caller's own key looks like it by
// chance.
func grabKey(key, owner string) string {
	sum := sha256.Sum256([]byte(owner + "\x00" + key))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// sendShare brings a grabbed share to the lots of its owner.
func (l *Ledger) sendShare(ctx context.Context, facts *packetRecord, grabbed []byte) error {
	var reply GrabReply
	if err := json.Unmarshal(grabbed, &reply); err != nil {
		return fmt.Errorf("read the reply of a grab: %w", err)
	}
	share := &reply.Share
	return l.finishShare(ctx, &sentShare{
		packetID: toID(facts.PacketID), sender: facts.Owner, number: share.Number, owner: share.Owner, amount: share.Amount.Amount,
		currency: facts.Currency, lotsUntil: facts.LotsUntil,
	})
}

// finishShare lands a share and closes it. Each step may have been done before, by whomever.
func (l *Ledger) finishShare(ctx context.Context, t *sentShare) error {
	if err := l.mint(&t.lotID, id.Lot, t.owner); err != nil {
		return err
	}
	land := &shard.Op{Owner: t.owner, Bucket: shard.BucketOf(t.owner), Kind: kindLandShare, Body: &landShareOp{*t}}
	if err := l.broker.submit(ctx, land); err != nil {
		return err
	}
	return l.broker.submit(ctx, &shard.Op{
		Owner: t.sender, Bucket: shard.BucketOf(t.sender), Kind: kindCloseShare, Body: &closeShareOp{*t},
	})
}

// sentSQL and dueSQL list what is left to do for packets; they take no locks.
const (
	sentSQL = "SELECT s.packet_id, p.owner AS sender, s.number, s.owner, s.amount, p.currency, p.lots_until FROM packet_shares s " +
		"JOIN packets p ON p.bucket=s.bucket AND p.packet_id=s.packet_id WHERE s.sent_at <= ? ORDER BY s.sent_at LIMIT ?"
	duePacketsSQL = "SELECT packet_id, owner FROM packets WHERE due_at > 0 AND due_at <= ? ORDER BY due_at LIMIT ?"
)

type sentRecord struct {
	PacketID  []byte
	Sender    string
	Number    int64
	Owner     string
	Amount    int64
	Currency  string
	LotsUntil int64
}

// TendPackets finishes the shares that are on their way from a shard, and returns the rest of its packets whose time is over. It is for a
// sweeper.
func (l *Ledger) TendPackets(ctx context.Context, number int) error {
	door, err := l.broker.door(number)
	if err != nil {
		return err
	}
	var sent []sentRecord
	var due []packetRecord
	err = l.cfg.Store.Read(ctx, door, func(tx *gorm.DB, now time.Time) error {
		sent, due = nil, nil
		if err := tx.Raw(sentSQL, now.Add(-finishAfter).UnixMicro(), finishBatch).Scan(&sent).Error; err != nil {
			return err
		}
		return tx.Raw(duePacketsSQL, now.UnixMicro(), finishBatch).Scan(&due).Error
	})
	for i := range sent {
		s := &sent[i]
		err = errors.Join(err, l.finishShare(ctx, &sentShare{
			packetID: toID(s.PacketID), sender: s.Sender, number: s.Number, owner: s.Owner, amount: s.Amount, currency: s.Currency,
			lotsUntil: s.LotsUntil,
		}))
	}
	for i := range due {
		err = errors.Join(err, l.returnRest(ctx, due[i].Owner, toID(due[i].PacketID)))
	}
	if err != nil {
		return fmt.Errorf("tend the packets of shard %d: %w", number, err)
	}
	return nil
}

func (l *Ledger) returnRest(ctx context.Context, sender string, packet id.ID) error {
	op := &returnPacketOp{packetID: packet}
	if err := l.mint(&op.lotID, id.Lot, sender); err != nil {
		return err
	}
	return l.broker.submit(ctx, &shard.Op{Owner: sender, Bucket: shard.BucketOf(sender), Kind: kindReturnPacket, Body: op})
}

// Limits of what an instance remembers of packets; beyond them, it begins anew.
const (
	memoryOfFacts = 100_000 // packets of which it knows sender and currency
	memoryOfEmpty = 2_000   // packets of which it knows the winners: MaxShares owners each
)

// packetMemory keeps what never changes any more: who has sent a packet, and that it is empty.
type packetMemory struct {
	mu    sync.Mutex
	facts map[id.ID]*packetRecord
	empty map[id.ID]map[string]bool // the winners of packets that are empty
}

// lost says that a packet is known to be empty, and that an owner has no share of it.
func (m *packetMemory) lost(packet id.ID, owner string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	winners := m.empty[packet]
	return winners != nil && !winners[owner]
}

func (m *packetMemory) get(packet id.ID) *packetRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.facts[packet]
}

func (m *packetMemory) put(packet id.ID, facts *packetRecord) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.facts == nil || len(m.facts) >= memoryOfFacts {
		m.facts = map[id.ID]*packetRecord{}
	}
	m.facts[packet] = facts
}

func (m *packetMemory) putEmpty(packet id.ID, winners map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.empty == nil || len(m.empty) >= memoryOfEmpty {
		m.empty = map[id.ID]map[string]bool{}
	}
	m.empty[packet] = winners
}

// rememberEmpty notes who has the shares of an empty packet, so that all others need no database. Without it, they do.
func (l *Ledger) rememberEmpty(ctx context.Context, packet id.ID) {
	shares, err := l.PacketShares(ctx, packet)
	if err != nil || int64(len(shares)) < l.sharesOf(packet) {
		return
	}
	winners := make(map[string]bool, len(shares))
	for i := range shares {
		winners[shares[i].Owner] = true
	}
	l.packets.putEmpty(packet, winners)
}

// sharesOf is how many shares a packet has; more than any, if this instance does not know it.
func (l *Ledger) sharesOf(packet id.ID) int64 {
	if facts := l.packets.get(packet); facts != nil {
		return facts.Shares
	}
	return MaxShares + 1
}

type packetRecord struct {
	PacketID  []byte
	Owner     string
	PacketRef string
	Mode      PacketMode
	Currency  string
	Total     int64
	Shares    int64
	Grabbed   int64
	Taken     int64
	Returned  int64
	State     string
	LotsUntil int64
	CreatedAt int64
	ExpiresAt int64
}

// packetFacts returns what never changes of a packet, from memory if this instance has seen it.
func (l *Ledger) packetFacts(ctx context.Context, packet id.ID) (*packetRecord, error) {
	if known := l.packets.get(packet); known != nil {
		return known, nil
	}
	record, err := l.readPacket(ctx, packet)
	if err != nil {
		return nil, err
	}
	l.packets.put(packet, record)
	return record, nil
}

func (l *Ledger) readPacket(ctx context.Context, packet id.ID) (*packetRecord, error) {
	record := new(packetRecord)
	bucket := packet.Bucket()
	err := l.read(ctx, shard.Bucket(bucket), func(tx *gorm.DB, _ time.Time) error {
		*record = packetRecord{}
		return first(tx.Table("packets").Where("bucket = ? AND packet_id = ?", bucket, packet[:]), record)
	})
	if err != nil {
		return nil, fmt.Errorf("read packet %s: %w", packet, err)
	}
	return record, nil
}

// Packet shows a packet. It returns ErrNotFound if there is none.
func (l *Ledger) Packet(ctx context.Context, packet id.ID) (PacketBody, error) {
	r, err := l.readPacket(ctx, packet)
	if err != nil {
		return PacketBody{}, err
	}
	row := packetRow{
		owner: &ownerRow{name: r.Owner}, id: packet, ref: r.PacketRef, mode: r.Mode, currency: r.Currency, total: r.Total, shares: r.Shares,
		grabbed: r.Grabbed, taken: r.Taken, returned: r.Returned, state: r.State, lotsUntil: r.LotsUntil, createdAt: r.CreatedAt,
		expiresAt: r.ExpiresAt,
	}
	return row.body(l.cfg.Codec), nil
}

type shareRecord struct {
	Number     int64
	Amount     int64
	Owner      string
	TransferID []byte
	GrabbedAt  int64
	SentAt     *int64
}

// PacketShares lists the shares of a packet that were grabbed, in the order in which they were. There are at most MaxShares.
func (l *Ledger) PacketShares(ctx context.Context, packet id.ID) ([]ShareBody, error) {
	facts, err := l.packetFacts(ctx, packet)
	if err != nil {
		return nil, err
	}
	shares := []ShareBody{}
	bucket := packet.Bucket()
	err = l.read(ctx, shard.Bucket(bucket), func(tx *gorm.DB, _ time.Time) error {
		shares = shares[:0]
		var records []shareRecord
		err := tx.Table("packet_shares").Where("bucket = ? AND packet_id = ? AND owner IS NOT NULL", bucket, packet[:]).
			Order("number").Find(&records).Error
		for i := range records {
			shares = append(shares, l.shareBody(packet, facts.Currency, &records[i]))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the shares of packet %s: %w", packet, err)
	}
	return shares, nil
}

func (l *Ledger) shareBody(packet id.ID, currency string, r *shareRecord) ShareBody {
	row := shareRow{packet: packet, number: r.Number, amount: r.Amount, owner: r.Owner, transferID: toID(r.TransferID), grabbedAt: r.GrabbedAt}
	body := row.body(l.cfg.Codec, currency)
	body.State = "DONE"
	if r.SentAt != nil {
		body.State = "PENDING"
	}
	return body
}

func validatePacket(c Caller, r *CreatePacket) error {
	var p problems
	p.caller(c, r.Owner)
	if !validRef(r.PacketRef) {
		p.add("/packet_ref", wrongRef)
	}
	if r.Amount.Amount < 1 || r.Amount.Amount > MaxAmount {
		p.add("/amount/amount", wrongMoney)
	}
	if !validCurrency(r.Amount.Currency) {
		p.add("/amount/currency", wrongCode)
	}
	switch {
	case r.Shares < 1 || r.Shares > MaxShares:
		p.add("/shares", fmt.Sprintf("must be from 1 to %d", MaxShares))
	case int64(r.Shares) > r.Amount.Amount:
		p.add("/shares", "is more than the minor units: each share has at least one")
	}
	if r.Mode != EqualSplit && r.Mode != RandomSplit {
		p.add("/mode", `must be "EQUAL" or "RANDOM"`)
	}
	return p.err()
}
