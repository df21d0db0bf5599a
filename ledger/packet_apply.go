package ledger

import (
	"encoding/json"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// The operations on packets. All but the landing of a share are the sender's, whose row in owners is the lock of his packets. Those
// without a key are safe to repeat.
type (
	createPacketOp struct {
		CreatePacket
		id     id.ID
		shares []int64 // the split: apply has no dice
	}
	grabOp struct {
		Grab
		transferID id.ID
		frozen     bool // the owner was, when his shard was asked
		pending    bool // told by apply: the share is not known to be in the lots of its owner
	}
	landShareOp    struct{ sentShare } // in at the lots of who has grabbed it
	closeShareOp   struct{ sentShare } // known at the packet
	returnPacketOp struct {
		packetID id.ID
		lotID    id.ID // for the rest
	}
)

// sentShare is a share on its way from a packet to the lots of who has grabbed it. (packet, number) names it for ever.
type sentShare struct {
	packetID  id.ID
	sender    string
	number    int64
	owner     string
	amount    int64
	currency  string
	lotsUntil int64
	lotID     id.ID // to be made
}

func (s *state) createPacket(o *ownerRow, op *createPacketOp) shard.Reply {
	s.settleAssets(o, op.Amount.Currency)
	if p := s.packetRefs[packetRef{o.name, op.PacketRef}]; p != nil {
		if p.total != op.Amount.Amount || p.currency != op.Amount.Currency || p.shares != int64(op.Shares) || p.mode != op.Mode {
			return reused("packet_ref")
		}
		return s.packetReply(p, true)
	}
	if o.frozen {
		return refuse(refusal(ErrFrozen, "", "the owner is frozen: he sends nothing"))
	}
	expiresAt := s.now + PacketTTL.Microseconds()
	taken, have := payFrom(o, op.Amount, expiresAt)
	if have < op.Amount.Amount {
		return refuse(insufficient("/amount/amount", op.Amount.Amount, have, "the lots that outlive the packet have less"))
	}
	p := &packetRow{
		owner: o, id: op.id, ref: op.PacketRef, mode: op.Mode, currency: op.Amount.Currency, total: op.Amount.Amount,
		shares: int64(op.Shares), state: packetOpen, dueAt: expiresAt, lotsUntil: taken[0].lot.expiresAt,
		createdAt: s.now, expiresAt: expiresAt,
	}
	b := s.openChanges()
	for _, share := range taken {
		before := share.lot.LotCounters
		s.changeLot(share.lot)
		share.lot.Available -= share.amount
		share.lot.Spent += share.amount
		b = s.appendLotChange(b, share.lot, &before)
	}
	s.addPacket(p)
	s.changePacket(p)
	for i, amount := range op.shares {
		share := s.addShare(&shareRow{packet: p.id, bucket: o.bucket, number: int64(i + 1), amount: amount})
		s.changeShare(share)
	}
	s.addEntry(o, entryPacketMade, id.ID{}, s.closeChanges(s.appendPacketChange(b, p, "", packetOpen, p.total)))
	return s.packetReply(p, false)
}

// payFrom chooses lots that end after an instant, the earliest expiry first (R7), and says how much they have.
func payFrom(o *ownerRow, amount Money, after int64) (taken []planShare, have int64) {
	for _, l := range o.sortedLots() {
		if l.currency != amount.Currency || l.expiresAt <= after || l.Available == 0 {
			continue
		}
		if share := min(l.Available, amount.Amount-have); share > 0 {
			taken = append(taken, planShare{l, share})
			have += share
		}
	}
	return taken, have
}

// grab gives an owner his share, the same one however often he asks. That a packet is empty is not recorded: it stays so (R5).
func (s *state) grab(o *ownerRow, op *grabOp) shard.Reply {
	p := s.packets[op.PacketID]
	if p == nil || p.owner != o {
		return refuse(refusal(ErrNotFound, "/packet_id", "there is no such packet"))
	}
	if share := s.winners[winnerRef{p.id, op.Owner}]; share != nil {
		op.pending = share.sentAt != 0
		return s.grabReply(p, share)
	}
	if op.frozen {
		return refuse(refusal(ErrFrozen, "", "the owner is frozen: he grabs nothing"))
	}
	if p.state == packetReturned || s.now >= p.expiresAt {
		return refuse(refusal(ErrEnded, "", "the packet could be grabbed from until "+instant(p.expiresAt).Format(time.RFC3339Nano)))
	}
	if p.taken == p.shares {
		return shard.Reply{Err: emptyPacket()}
	}
	share := s.shares[shareRef{p.id, p.taken + 1}]
	if share == nil || share.owner != "" {
		return internal(errTornPacket)
	}
	s.changePacket(p)
	s.changeShare(share)
	p.taken++
	p.grabbed += share.amount
	if p.taken == p.shares {
		p.state, p.dueAt = packetEmpty, 0
	}
	share.owner, share.transferID, share.grabbedAt, share.sentAt = op.Owner, op.transferID, s.now, s.now
	s.addWinner(share)
	s.addEntry(o, entryPacketGrabbed, id.ID{}, s.closeChanges(s.appendPacketChange(s.openChanges(), p, packetOpen, "GRABBED", share.amount)))
	op.pending = true
	return s.grabReply(p, share)
}

func emptyPacket() *Refusal { return refusal(ErrSoldOut, "", "every share of the packet was grabbed") }

// landShare makes a share a lot of its owner, once.
func (s *state) landShare(o *ownerRow, op *landShareOp) shard.Reply {
	ref := shareName(s.codec, op.packetID, op.number)
	if s.credits[creditRef{o.name, ref}] != nil {
		return unchanged()
	}
	l := s.receive(o, op.lotID, ref, op.amount, op.currency, op.lotsUntil)
	s.addEntry(o, entryReceived, id.ID{}, s.closeChanges(s.appendLotChange(s.openChanges(), l, nil)))
	return moved()
}

// receive makes a lot of money from a packet. Money that has expired on its way is there as expired.
func (s *state) receive(o *ownerRow, lot id.ID, ref string, amount int64, currency string, until int64) *lotRow {
	l := &lotRow{
		owner: o, id: lot, issueRef: ref, source: packetSource, currency: currency, issued: amount, expiresAt: until, issuedAt: s.now,
	}
	l.Available = amount
	if until <= s.now {
		l.Available, l.Expired = 0, amount
	}
	s.addCredit(l)
	s.changeLot(l)
	return l
}

// packetSource is the source of lots that came out of packets.
const packetSource = "packet"

// closeShare notes that a share is in.
func (s *state) closeShare(op *closeShareOp) shard.Reply {
	share := s.shares[shareRef{op.packetID, op.number}]
	if share == nil || share.sentAt == 0 {
		return unchanged()
	}
	s.changeShare(share)
	share.sentAt = 0
	return moved()
}

// returnPacket gives the rest of a packet whose time is over back to its sender, once.
func (s *state) returnPacket(o *ownerRow, op *returnPacketOp) shard.Reply {
	p := s.packets[op.packetID]
	if p == nil || p.state != packetOpen || s.now < p.expiresAt {
		return unchanged()
	}
	s.changePacket(p)
	p.returned = p.total - p.grabbed
	p.state, p.dueAt = packetReturned, 0
	l := s.receive(o, op.lotID, restName(s.codec, p.id), p.returned, p.currency, p.lotsUntil)
	b := s.appendPacketChange(s.openChanges(), p, packetOpen, packetReturned, p.returned)
	s.addEntry(o, entryPacketReturned, id.ID{}, s.closeChanges(s.appendLotChange(b, l, nil)))
	return moved()
}

func (s *state) appendPacketChange(b []byte, p *packetRow, from, to string, amount int64) []byte {
	b = append(s.appendID(append(b, '{'), "packet_id", id.Packet, p.id), ',')
	if from != "" {
		b = append(appendText(b, "from", from), ',')
	}
	b = append(appendText(b, "to", to), ',')
	return append(appendInt(b, "quantity", amount), "},"...)
}

func (s *state) packetReply(p *packetRow, exists bool) shard.Reply {
	text, err := json.Marshal(PacketReply{
		Packet: p.body(s.codec), Balances: []Balance{s.balance(p.owner, p.currency)}, Version: p.owner.ver, AlreadyExists: exists,
	})
	if err != nil {
		return internal(err)
	}
	return done(text)
}

func (p *packetRow) body(codec *id.Codec) PacketBody {
	return PacketBody{
		PacketID: codec.Text(id.Packet, p.id), Owner: p.owner.name, PacketRef: p.ref, Mode: p.mode, State: p.state,
		Amount: Money{p.total, p.currency}, Shares: p.shares, Taken: p.taken, Grabbed: p.grabbed, Returned: p.returned,
		CreatedAt: instant(p.createdAt), ExpiresAt: instant(p.expiresAt), LotsUntil: instant(p.lotsUntil),
	}
}

func (s *state) grabReply(p *packetRow, share *shareRow) shard.Reply {
	text, err := json.Marshal(GrabReply{Share: share.body(s.codec, p.currency)})
	if err != nil {
		return internal(err)
	}
	return done(text)
}

func (r *shareRow) body(codec *id.Codec, currency string) ShareBody {
	return ShareBody{
		PacketID: codec.Text(id.Packet, r.packet), Number: r.number, Owner: r.owner, Amount: Money{r.amount, currency},
		GrabbedAt: instant(r.grabbedAt), TransferID: codec.Text(id.Transfer, r.transferID),
	}
}

// The rows of packets: add makes one known, change is called before every change.

func (s *state) addPacket(p *packetRow) {
	if s.packets[p.id] != nil {
		return
	}
	if s.packets == nil {
		s.packets, s.packetRefs = map[id.ID]*packetRow{}, map[packetRef]*packetRow{}
	}
	s.packets[p.id] = p
	s.packetRefs[packetRef{p.owner.name, p.ref}] = p
}

func (s *state) changePacket(p *packetRow) {
	p.ver++
	if !p.dirty {
		p.dirty = true
		s.packetRows.changed.packets = append(s.packetRows.changed.packets, p)
	}
}

func (s *state) addShare(r *shareRow) *shareRow {
	ref := shareRef{r.packet, r.number}
	if known := s.shares[ref]; known != nil {
		return known
	}
	if s.shares == nil {
		s.shares, s.winners = map[shareRef]*shareRow{}, map[winnerRef]*shareRow{}
	}
	s.shares[ref] = r
	s.addWinner(r)
	return r
}

func (s *state) addWinner(r *shareRow) {
	if r.owner != "" {
		s.winners[winnerRef{r.packet, r.owner}] = r
	}
}

func (s *state) changeShare(r *shareRow) {
	if !r.dirty {
		r.dirty = true
		s.packetRows.changed.shares = append(s.packetRows.changed.shares, r)
	}
}
