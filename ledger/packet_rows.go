package ledger

import (
	"cmp"
	"slices"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Packets and shares are locked by the row in owners of their sender. Batches without packets have none of these statements.
var (
	packetLookup = shard.Lookup{
		Columns: "packet_id, owner, packet_ref, mode, currency, total, shares, grabbed, taken, returned, state, due_at, lots_until, " +
			"created_at, expires_at, ver",
		From: "packets",
	}
	shareLookup = shard.Lookup{
		Columns: "packet_id, bucket, number, amount, owner, transfer_id, grabbed_at, sent_at", From: "packet_shares",
	}

	packetByID   = by(packetLookup, "PRIMARY", "bucket, packet_id")
	packetByRef  = by(packetLookup, "packets_ref", "bucket, owner, packet_ref")
	shareByOwner = by(shareLookup, "packet_shares_owner", "bucket, packet_id, owner")
	shareByID    = by(shareLookup, "PRIMARY", "bucket, packet_id, number")
)

func (b *batch) loadPackets(p *shard.Packet) {
	byRef := keys(p, packetByRef, b.scanPacket)
	for _, op := range b.ops {
		if body, ok := op.Body.(*createPacketOp); ok {
			byRef.row(op.Bucket).ASCII(op.Owner).ASCII(body.PacketRef)
		}
	}
	byID := keys(p, packetByID, b.scanPacket)
	for _, op := range b.ops {
		switch body := op.Body.(type) {
		case *grabOp:
			byID.row(op.Bucket).Binary(body.PacketID[:])
		case *returnPacketOp:
			byID.row(op.Bucket).Binary(body.packetID[:])
		}
	}
	b.loadShares(p)
	landing := keys(p, lotByRef, b.scanCredit)
	for _, op := range b.ops {
		if body, ok := op.Body.(*landShareOp); ok {
			landing.row(op.Bucket).ASCII(op.Owner).ASCII(shareName(b.codec, body.packetID, body.number))
		}
	}
}

// loadShares reads the shares that operations name, and those that grabbers have already.
func (b *batch) loadShares(p *shard.Packet) {
	had := keys(p, shareByOwner, b.scanShare)
	for _, op := range b.ops {
		if body, ok := op.Body.(*grabOp); ok {
			had.row(op.Bucket).Binary(body.PacketID[:]).ASCII(body.Owner)
		}
	}
	closing := keys(p, shareByID, b.scanShare)
	for _, op := range b.ops {
		if body, ok := op.Body.(*closeShareOp); ok {
			closing.row(op.Bucket).Binary(body.packetID[:]).Int(body.number)
		}
	}
}

// loadNextShares reads the shares that the grabs of the batch will take: as many as there are grabs, from the first free one on.
func (b *batch) loadNextShares(p *shard.Packet) {
	q := keys(p, shareByID, b.scanShare)
	asked := map[id.ID]int64{}
	for _, op := range b.ops {
		body, ok := op.Body.(*grabOp)
		if !ok {
			continue
		}
		row := b.packets[body.PacketID]
		if row == nil || b.winners[winnerRef{body.PacketID, body.Owner}] != nil {
			continue
		}
		asked[row.id]++
		if number := row.taken + asked[row.id]; number <= row.shares {
			q.row(op.Bucket).Binary(row.id[:]).Int(number)
		}
	}
}

func (b *batch) scanPacket(r *shard.Row) error {
	p := &packetRow{id: r.Array16(), owner: b.owners[r.Str()], ref: r.Str(), mode: PacketMode(r.Str()), currency: r.Str(), stored: true}
	if p.owner == nil {
		return nil // it is not the sender's who was named
	}
	p.total, p.shares, p.grabbed, p.taken, p.returned, p.state = r.Int(), r.Int(), r.Int(), r.Int(), r.Int(), r.Str()
	p.dueAt, p.lotsUntil, p.createdAt, p.expiresAt, p.ver = r.Int(), r.Int(), r.Int(), r.Int(), r.Int()
	b.addPacket(p)
	return nil
}

func (b *batch) scanShare(r *shard.Row) error {
	b.addShare(&shareRow{
		packet: r.Array16(), bucket: bucketIn(r), number: r.Int(), amount: r.Int(), owner: r.Str(), transferID: r.Array16(),
		grabbedAt: r.Int(), sentAt: r.Int(), stored: true,
	})
	return nil
}

// writePackets adds the changed rows. Batches without packets have none.
func (b *batch) writePackets(p *shard.Packet) {
	changed := b.packetRows.changed.packets
	slices.SortFunc(changed, func(x, y *packetRow) int { return cmp.Or(x.owner.compare(y.owner), compareIDs(x.id, y.id)) })
	const counters = "grabbed, taken, returned, state, due_at, ver"
	added := rows{open: func() shard.Values {
		return p.Insert("packets", "bucket, packet_id, owner, packet_ref, mode, currency, total, shares, lots_until, created_at, "+
			"expires_at, "+counters)
	}}
	for _, r := range changed {
		if !r.stored {
			v := added.row().Bucket(r.owner.bucket).Binary(r.id[:]).ASCII(r.owner.name).ASCII(r.ref).ASCII(string(r.mode)).ASCII(r.currency)
			r.counters(v.Int(r.total).Int(r.shares).Int(r.lotsUntil).Int(r.createdAt).Int(r.expiresAt))
		}
	}
	updated := rows{open: func() shard.Values { return p.Update("packets", "bucket, packet_id", counters) }}
	for _, r := range changed {
		if r.stored {
			r.counters(updated.row().Bucket(r.owner.bucket).Binary(r.id[:]))
		}
	}
	b.writeShares(p)
}

func (p *packetRow) counters(v shard.Values) {
	v.Int(p.grabbed).Int(p.taken).Int(p.returned).ASCII(p.state).Int(p.dueAt).Int(p.ver)
}

func (b *batch) writeShares(p *shard.Packet) {
	changed := b.packetRows.changed.shares
	slices.SortFunc(changed, func(x, y *shareRow) int {
		return cmp.Or(cmp.Compare(x.bucket, y.bucket), compareIDs(x.packet, y.packet), cmp.Compare(x.number, y.number))
	})
	added := rows{open: func() shard.Values {
		return p.Insert("packet_shares", "bucket, packet_id, number, amount, owner, transfer_id, grabbed_at, sent_at")
	}}
	for _, r := range changed {
		if !r.stored {
			r.holder(r.key(added.row()).Int(r.amount))
		}
	}
	updated := rows{open: func() shard.Values {
		return p.Update("packet_shares", "bucket, packet_id, number", "owner, transfer_id, grabbed_at, sent_at")
	}}
	for _, r := range changed {
		if r.stored {
			r.holder(r.key(updated.row()))
		}
	}
}

func (r *shareRow) key(v shard.Values) shard.Values {
	return v.Bucket(r.bucket).Binary(r.packet[:]).Int(r.number)
}

// holder adds owner, transfer_id, grabbed_at and sent_at.
func (r *shareRow) holder(v shard.Values) {
	if r.owner == "" {
		v.Null().Null().Null().Null()
		return
	}
	v.ASCII(r.owner).Binary(r.transferID[:]).Int(r.grabbedAt)
	if r.sentAt == 0 {
		v.Null()
		return
	}
	v.Int(r.sentAt)
}
