package ledger

import "github.com/statesvc/statesvc/shard"

// What only grown holds, refunds, terms and freezes write. Each is a statement of its own behind the plain ones, so that a batch
// without any sends the same statements with the same bytes as if there were none of this. They come after those that add the rows
// which they change.

// changes is an update that comes after all statements before it.
func changes(p *shard.Packet, table, keys, set string) rows {
	return rows{open: func() shard.Values {
		p.Then()
		return p.Update(table, keys, set)
	}}
}

// writeProgress adds what has become of holds, and the later expiries of live ones.
func (b *batch) writeProgress(p *shard.Packet) {
	later := changes(p, "holds", "bucket, hold_id", "expires_at")
	for _, h := range b.changed.holds {
		if h.state == Held && h.stored {
			later.row().Bucket(h.bucket).Binary(h.id[:]).Int(h.expiresAt)
		}
	}
	live := changes(p, "holds", "bucket, hold_id", "progress")
	for _, h := range b.changed.holds {
		if h.state == Held && h.progress != nil {
			live.row().Bucket(h.bucket).Binary(h.id[:]).Binary(h.writtenProgress())
		}
	}
	decided := changes(p, "decided_holds", "bucket, hold_id", "progress")
	for _, h := range b.changed.holds {
		if h.state != Held && h.progress != nil {
			decided.row().Bucket(h.bucket).Binary(h.id[:]).Binary(h.writtenProgress())
		}
	}
	pinned := rows{open: func() shard.Values { return p.Insert("pins", "bucket, hold_id, owner, pinned_at") }}
	for _, h := range b.changed.holds {
		if h.state == Held && !h.pinned && h.progress != nil && !h.progress.PinnedAt.IsZero() {
			pinned.row().Bucket(h.bucket).Binary(h.id[:]).ASCII(h.owner).Int(h.progress.PinnedAt.UnixMicro())
		}
	}
	unpinned := rows{open: func() shard.Values { return p.Delete("pins", "bucket, hold_id") }}
	for _, h := range b.changed.holds {
		if h.state != Held && !h.filed && h.pinned {
			unpinned.row().Bucket(h.bucket).Binary(h.id[:])
		}
	}
}

func (b *batch) writeRefunds(p *shard.Packet) {
	added := rows{open: func() shard.Values {
		return p.Insert("refunds", "bucket, owner, refund_ref, refund_id, hold_id, request_hash, refunded_at, doc")
	}}
	for _, r := range b.changed.refunds {
		added.row().Bucket(r.owner.bucket).ASCII(r.owner.name).ASCII(r.ref).Binary(r.id[:]).Binary(r.holdID[:]).Binary(r.hash[:]).
			Int(r.at).Binary(r.doc)
	}
}

func (b *batch) writeFrozen(p *shard.Packet) {
	frozen := changes(p, "owners", "bucket, owner", "frozen")
	for _, o := range b.changed.owners {
		if o.refrozen {
			flag := int64(0)
			if o.frozen {
				flag = 1
			}
			o.key(frozen.row()).Int(flag)
		}
	}
}

// writeTerms adds the terms of new coupons that have some, and the expiries that a return has made later, by which it has used a term.
func (b *batch) writeTerms(p *shard.Packet) {
	terms := changes(p, "coupons", "bucket, owner, coupon_id", "terms")
	for _, c := range b.changed.coupons {
		if doc := c.terms.written(); !c.stored && doc != nil {
			c.key(terms.row()).Binary(doc)
		}
	}
	extended := changes(p, "coupons", "bucket, owner, coupon_id", "expires_at, terms")
	for _, c := range b.changed.coupons {
		if !c.stored || !c.extended {
			continue
		}
		if v, doc := c.key(extended.row()).Int(c.expiresAt), c.terms.written(); doc == nil {
			v.Null()
		} else {
			v.Binary(doc)
		}
	}
}

// writeGrace adds the grace of new lots that have some, and the expiries that a refund has made later.
func (b *batch) writeGrace(p *shard.Packet) {
	grace := changes(p, "lots", "bucket, owner, lot_id", "refund_grace")
	for _, l := range b.changed.lots {
		if !l.stored && l.grace > 0 {
			l.key(grace.row()).Int(l.grace)
		}
	}
	extended := changes(p, "lots", "bucket, owner, lot_id", "expires_at")
	for _, l := range b.changed.lots {
		if l.stored && l.extended {
			l.key(extended.row()).Int(l.expiresAt)
		}
	}
}
