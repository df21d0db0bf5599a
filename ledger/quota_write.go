package ledger

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/statesvc/statesvc/shard"
)

// writeQuotas adds the changed rows of quotas. Batches without quotas have none.
func (b *batch) writeQuotas(p *shard.Packet) {
	b.writeHomes(p)
	b.writeGrants(p)
	b.writeSlices(p)
	b.writeTransfers(p)
	b.writeItems(p)
}

func (h *homeRow) compare(other *homeRow) int { return h.owner.compare(other.owner) }

func (b *batch) writeHomes(p *shard.Packet) {
	changed := b.quotaRows.changed.homes
	slices.SortFunc(changed, (*homeRow).compare)
	added := rows{open: func() shard.Values { return p.Insert("quotas", "bucket, quota, currency, total, free, low_at, ver") }}
	for _, h := range changed {
		if !h.stored {
			added.row().Bucket(h.owner.bucket).ASCII(h.quota).ASCII(h.currency).Int(h.total).Int(h.free).Int(h.lowAt).Int(h.ver)
		}
	}
	updated := rows{open: func() shard.Values { return p.Update("quotas", "bucket, quota", "total, free, low_at, ver") }}
	for _, h := range changed {
		if h.stored {
			updated.row().Bucket(h.owner.bucket).ASCII(h.quota).Int(h.total).Int(h.free).Int(h.lowAt).Int(h.ver)
		}
	}
}

func (b *batch) writeGrants(p *shard.Packet) {
	changed := b.quotaRows.changed.grants
	slices.SortFunc(changed, func(x, y *grantRow) int { return cmp.Or(x.home.compare(y.home), cmp.Compare(x.shard, y.shard)) })
	added := rows{open: func() shard.Values { return p.Insert("grants", "bucket, quota, shard, granted, out_seq, in_seq, ver") }}
	for _, g := range changed {
		if !g.stored {
			g.counters(g.key(added.row()))
		}
	}
	updated := rows{open: func() shard.Values {
		return p.Update("grants", "bucket, quota, shard", "granted, out_seq, in_seq, ver")
	}}
	for _, g := range changed {
		if g.stored {
			g.counters(g.key(updated.row()))
		}
	}
}

func (g *grantRow) key(v shard.Values) shard.Values {
	return v.Bucket(g.home.owner.bucket).ASCII(g.home.quota).Int(int64(g.shard))
}

func (g *grantRow) counters(v shard.Values) { v.Int(g.granted).Int(g.outSeq).Int(g.inSeq).Int(g.ver) }

func (b *batch) writeSlices(p *shard.Packet) {
	changed := b.quotaRows.changed.slices
	slices.SortFunc(changed, func(x, y *sliceRow) int { return cmp.Compare(x.quota, y.quota) })
	const counters = "granted, available, held, used, taken, since_at, taken_at, out_seq, in_seq, ver"
	added := rows{open: func() shard.Values { return p.Insert("slices", "quota, shard, currency, "+counters) }}
	for _, r := range changed {
		if !r.stored {
			r.counters(added.row().ASCII(r.quota).Int(int64(r.shard)).ASCII(r.currency))
		}
	}
	updated := rows{open: func() shard.Values { return p.Update("slices", "quota", counters) }}
	for _, r := range changed {
		if r.stored {
			r.counters(updated.row().ASCII(r.quota))
		}
	}
}

func (r *sliceRow) counters(v shard.Values) {
	v.Int(r.granted).Int(r.Available).Int(r.Held).Int(r.Used).Int(r.taken).Int(r.sinceAt).Int(r.takenAt)
	v.Int(r.outSeq).Int(r.inSeq).Int(r.ver)
}

// writeTransfers removes closed transfers before it adds new ones, for there is one at a time between two ends. One that was made and
// closed in the same batch leaves no row.
func (b *batch) writeTransfers(p *shard.Packet) {
	changed := b.quotaRows.changed.transfers
	slices.SortFunc(changed, func(x, y *transferRow) int {
		return cmp.Or(cmp.Compare(x.bucket, y.bucket), bytes.Compare(x.id[:], y.id[:]))
	})
	removed := rows{open: func() shard.Values { return p.Delete("transfers", "bucket, transfer_id") }}
	for _, t := range changed {
		if t.stored && t.closed {
			removed.row().Bucket(t.bucket).Binary(t.id[:])
		}
	}
	added := rows{open: func() shard.Values {
		p.Then()
		return p.Insert("transfers", "bucket, transfer_id, kind, quota, shard, seq, amount, currency, created_at")
	}}
	for _, t := range changed {
		if !t.stored && !t.closed {
			added.row().Bucket(t.bucket).Binary(t.id[:]).ASCII(t.kind).ASCII(t.quota).Int(int64(t.shard)).Int(t.seq).
				Int(t.amount).ASCII(t.currency).Int(t.createdAt)
		}
	}
}

// writeItems keeps what pending holds have of quotas in step with the holds.
func (b *batch) writeItems(p *shard.Packet) {
	changed := b.changed.holds // writeHolds has sorted them
	added := rows{open: func() shard.Values {
		return p.Insert("hold_items", "bucket, hold_id, quota, owner, amount, expires_at")
	}}
	for _, h := range changed {
		if !h.stored {
			for _, take := range h.pendingUnits() {
				h.item(added.row(), take).ASCII(h.owner).Int(take.amount).Int(h.expiresAt)
			}
		}
	}
	updated := rows{open: func() shard.Values { return p.Update("hold_items", "bucket, hold_id, quota", "amount, expires_at") }}
	for _, h := range changed {
		if h.stored {
			for _, take := range h.pendingUnits() {
				h.item(updated.row(), take).Int(take.amount).Int(h.expiresAt)
			}
		}
	}
	removed := rows{open: func() shard.Values { return p.Delete("hold_items", "bucket, hold_id, quota") }}
	for _, h := range changed {
		for _, take := range h.storedUnits() {
			if sumOf(h.pendingUnits(), take.quota) == 0 {
				h.item(removed.row(), take)
			}
		}
	}
}

// pendingUnits are the rows that a hold should have in hold_items: none once it is decided.
func (h *holdRow) pendingUnits() []quotaTake {
	if h.state != Held {
		return nil
	}
	return h.quotas
}

// storedUnits are the rows that it had when it was loaded.
func (h *holdRow) storedUnits() []quotaTake {
	if !h.stored || h.filed {
		return nil
	}
	return h.loaded
}

func (h *holdRow) item(v shard.Values, take quotaTake) shard.Values {
	return v.Bucket(h.bucket).Binary(h.id[:]).ASCII(take.quota)
}
