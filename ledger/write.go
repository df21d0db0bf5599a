package ledger

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Write adds the changed rows, table by table and sorted by key: the same operations give the same statements, whichever maps
// they went through, and pages are visited in order.
func (b *batch) Write(p *shard.Packet) {
	b.writeOwners(p)
	b.writeCoupons(p)
	b.writeLots(p)
	b.writeHolds(p)
	b.writeProgress(p)
	b.writeOrders(p)
	b.writeRefunds(p)
	b.writeEntries(p)
	b.writeOutbox(p)
	b.writeQuotas(p)
	b.writeCampaigns(p)
	b.writePackets(p)
	b.writeCodes(p)
	b.writeAdjustments(p)
}

func (o *ownerRow) compare(other *ownerRow) int {
	return cmp.Or(cmp.Compare(o.bucket, other.bucket), cmp.Compare(o.name, other.name))
}

func compareIDs(a, b id.ID) int { return bytes.Compare(a[:], b[:]) }

// rows is a statement that is added with its first row, and not at all without one. Statements follow each other: all rows of
// one come before the first row of the next.
type rows struct {
	open  func() shard.Values
	v     shard.Values
	begun bool
}

func (w *rows) row() shard.Values {
	if !w.begun {
		w.v, w.begun = w.open(), true
	}
	return w.v.Row()
}

func (b *batch) writeOwners(p *shard.Packet) {
	changed := b.changed.owners
	slices.SortFunc(changed, (*ownerRow).compare)
	added := rows{open: func() shard.Values {
		return p.Insert("owners", "bucket, owner, entry_seq, head, ver, live_holds, due_at")
	}}
	for _, o := range changed {
		if !o.stored {
			o.counters(o.history(o.key(added.row())))
		}
	}
	updated := rows{open: func() shard.Values {
		return p.Update("owners", "bucket, owner", "ver, live_holds, due_at")
	}}
	for _, o := range changed {
		if o.stored && o.entrySeq == o.storedSeq {
			o.counters(o.key(updated.row()))
		}
	}
	appended := rows{open: func() shard.Values {
		return p.Update("owners", "bucket, owner", "entry_seq, head, ver, live_holds, due_at")
	}}
	for _, o := range changed {
		if o.stored && o.entrySeq != o.storedSeq {
			o.counters(o.history(o.key(appended.row())))
		}
	}
	b.writeFrozen(p)
}

func (o *ownerRow) key(v shard.Values) shard.Values { return v.Bucket(o.bucket).ASCII(o.name) }

func (o *ownerRow) history(v shard.Values) shard.Values { return v.Int(o.entrySeq).Binary(o.head[:]) }

// counters adds ver, live_holds and due_at.
func (o *ownerRow) counters(v shard.Values) { v.Int(o.ver).Int(o.liveHolds).Int(o.dueAt) }

func (b *batch) writeCoupons(p *shard.Packet) {
	changed := b.changed.coupons
	slices.SortFunc(changed, func(x, y *couponRow) int { return cmp.Or(x.owner.compare(y.owner), compareIDs(x.id, y.id)) })
	added := rows{open: func() shard.Values {
		return p.Insert("coupons", "bucket, owner, coupon_id, campaign_id, issue_ref, state, ver, discount, currency, amount, "+
			"basis_points, cap, min_spend, valid_from, expires_at, hold_id, held_until, issued_at")
	}}
	for _, c := range changed {
		if !c.stored {
			b.insertCoupon(added.row(), c)
		}
	}
	b.writeTerms(p)
	updated := rows{open: func() shard.Values {
		return p.Update("coupons", "bucket, owner, coupon_id", "state, ver, hold_id, held_until")
	}}
	for _, c := range changed {
		if c.stored {
			c.holder(c.key(updated.row()).ASCII(c.state).Int(c.ver))
		}
	}
}

func (c *couponRow) key(v shard.Values) shard.Values {
	return v.Bucket(c.owner.bucket).ASCII(c.owner.name).Binary(c.id[:])
}

func (b *batch) insertCoupon(v shard.Values, c *couponRow) {
	d := &c.discount
	c.key(v).ASCII(c.campaignID).ASCII(c.issueRef).ASCII(c.state).Int(c.ver)
	v.ASCII(string(d.Kind)).ASCII(d.Currency).Int(d.Amount).Int(d.BasisPoints).Int(d.Cap).Int(d.MinSpend)
	c.holder(v.Int(c.validFrom).Int(c.expiresAt)).Int(c.issuedAt)
}

// holder adds hold_id and held_until. They are zero and not NULL without a hold, because a row that grows has to be moved.
func (c *couponRow) holder(v shard.Values) shard.Values {
	v.Binary(c.holdID[:])
	if c.state != couponHeld {
		return v.Int(0)
	}
	return v.Int(c.heldUntil)
}

func (b *batch) writeLots(p *shard.Packet) {
	changed := b.changed.lots
	slices.SortFunc(changed, func(x, y *lotRow) int { return cmp.Or(x.owner.compare(y.owner), compareIDs(x.id, y.id)) })
	added := rows{open: func() shard.Values {
		return p.Insert("lots", "bucket, owner, lot_id, issue_ref, source, tag, currency, issued, expires_at, issued_at, "+
			"available, held, ver, live, spent, expired, revoked")
	}}
	for _, l := range changed {
		if !l.stored {
			v := added.row().Bucket(l.owner.bucket).ASCII(l.owner.name).Binary(l.id[:]).ASCII(l.issueRef).ASCII(l.source).ASCII(l.tag)
			l.ended(l.counters(v.ASCII(l.currency).Int(l.issued).Int(l.expiresAt).Int(l.issuedAt)))
		}
	}
	b.writeGrace(p)
	moved := rows{open: func() shard.Values {
		return p.Update("lots", "bucket, owner, lot_id", "available, held, ver")
	}}
	for _, l := range changed {
		if l.stored && l.moved() {
			l.counters(l.key(moved.row()))
		}
	}
	ended := rows{open: func() shard.Values {
		return p.Update("lots", "bucket, owner, lot_id", "available, held, ver, live, spent, expired, revoked")
	}}
	for _, l := range changed {
		if l.stored && !l.moved() {
			l.ended(l.counters(l.key(ended.row())))
		}
	}
}

// moved says that money of the lot has only become held, or free again.
func (l *lotRow) moved() bool {
	return l.Available+l.Held == l.was.Available+l.was.Held && l.Spent == l.was.Spent && l.Expired == l.was.Expired &&
		l.Revoked == l.was.Revoked
}

func (l *lotRow) key(v shard.Values) shard.Values {
	return v.Bucket(l.owner.bucket).ASCII(l.owner.name).Binary(l.id[:])
}

// counters adds available, held and ver.
func (l *lotRow) counters(v shard.Values) shard.Values {
	return v.Int(l.Available).Int(l.Held).Int(l.ver)
}

// ended adds live and the counters of what has left the lot.
func (l *lotRow) ended(v shard.Values) {
	live := int64(0)
	if l.live() {
		live = 1
	}
	v.Int(live).Int(l.Spent).Int(l.Expired).Int(l.Revoked)
}

// writeHolds moves holds from the pending ledger to the decided one. A hold that was made and decided in one batch is never
// pending.
func (b *batch) writeHolds(p *shard.Packet) {
	changed := b.changed.holds
	slices.SortFunc(changed, func(x, y *holdRow) int {
		return cmp.Or(cmp.Compare(x.bucket, y.bucket), compareIDs(x.id, y.id))
	})
	added := rows{open: func() shard.Values {
		return p.Insert("holds", "bucket, hold_id, owner, order_id, attempt, created_at, expires_at")
	}}
	for _, h := range changed {
		if h.state == Held && !h.stored {
			added.row().Bucket(h.bucket).Binary(h.id[:]).ASCII(h.owner).ASCII(h.orderID).Int(int64(h.attempt)).
				Int(h.createdAt).Int(h.expiresAt)
		}
	}
	removed := rows{open: func() shard.Values { return p.Delete("holds", "bucket, hold_id") }}
	for _, h := range changed {
		if h.state != Held && h.stored && !h.filed {
			removed.row().Bucket(h.bucket).Binary(h.id[:])
		}
	}
	decided := rows{open: func() shard.Values {
		return p.Insert("decided_holds", "bucket, hold_id, owner, order_id, attempt, state, created_at, expires_at, decided_at")
	}}
	for _, h := range changed {
		if h.state != Held && !h.filed {
			h.order(decided.row().Bucket(h.bucket).Binary(h.id[:]).ASCII(h.owner)).ASCII(string(h.state)).
				Int(h.createdAt).Int(h.expiresAt).Int(h.decidedAt)
		}
	}
}

// writeOrders adds the references of new holds with their documents. A duplicate key says that an order has its hold already.
func (b *batch) writeOrders(p *shard.Packet) {
	added := rows{open: func() shard.Values {
		return p.Insert("orders", "bucket, owner, order_id, attempt, hold_id, request_hash, doc")
	}}
	for _, h := range b.changed.holds {
		if !h.stored && h.orderID != "" && !h.late() {
			added.row().Bucket(h.bucket).ASCII(h.owner).ASCII(h.orderID).Int(int64(h.attempt)).
				Binary(h.id[:]).Binary(h.hash[:]).Binary(h.doc)
		}
	}
}

// order adds order_id and attempt.
func (h *holdRow) order(v shard.Values) shard.Values {
	if h.orderID == "" {
		return v.Null().Null()
	}
	return v.ASCII(h.orderID).Int(int64(h.attempt))
}

func (b *batch) writeEntries(p *shard.Packet) {
	entries := b.changed.entries
	slices.SortStableFunc(entries, func(x, y entryRow) int { return x.owner.compare(y.owner) })
	added := rows{open: func() shard.Values {
		return p.Insert("entries", "bucket, owner, seq, kind, at, hold_id, doc, hash")
	}}
	for i := range entries {
		e := &entries[i]
		v := added.row().Bucket(e.owner.bucket).ASCII(e.owner.name).Int(e.seq).ASCII(e.kind).Int(e.at)
		if e.holdID == (id.ID{}) {
			v.Null()
		} else {
			v.Binary(e.holdID[:])
		}
		v.Binary(e.doc).Binary(e.hash[:])
	}
}

// writeOutbox says in one row which entries the batch has added, so that they become events; see outbox.go. The entries are sorted.
func (b *batch) writeOutbox(p *shard.Packet) {
	entries := b.changed.entries
	if len(entries) == 0 {
		return
	}
	doc := append(b.buf[:0], '[')
	for from := 0; from < len(entries); {
		to := from
		for to+1 < len(entries) && entries[to+1].owner == entries[from].owner {
			to++
		}
		doc = appendRun(doc, entries[from].owner.name, entries[from].seq, entries[to].seq)
		from = to + 1
	}
	doc[len(doc)-1] = ']' // the comma after the last run
	v := p.Insert("outbox", "events, at, doc").Row()
	v.Int(int64(len(entries))).Int(entries[0].at).Binary(b.keep(doc))
}
