package ledger

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// errUnchanged ends an operation without a key that had nothing to write. What it tells was read only, so the store certifies it
// like a refusal.
var errUnchanged = errors.New("there is nothing to write")

func unchanged() shard.Reply { return shard.Reply{Err: errUnchanged} }

// done without a body: nobody reads that of an operation without a key.
func moved() shard.Reply { return shard.Reply{Verdict: shard.Done} }

func (s *state) setQuota(o *ownerRow, op *setQuotaOp) shard.Reply {
	h := s.homes[op.Quota]
	if h == nil {
		h = &homeRow{owner: o, quota: op.Quota, currency: op.Currency}
	}
	if h.currency != op.Currency {
		return refuse(refusal(ErrCurrencyMismatch, "/currency", "the quota is in "+cmp.Or(h.currency, "pieces")))
	}
	lowAt := h.lowAt
	h.lowAt = op.LowAt
	r := s.changeTotal(h, op.Total-h.total, entryQuotaSet, op.Reason, "/total", op.gathered)
	if r.Verdict != shard.Done {
		h.lowAt = lowAt
	}
	return r
}

func (s *state) adjustQuota(op *adjustQuotaOp) shard.Reply {
	h := s.homes[op.Quota]
	if h == nil {
		return refuse(refusal(ErrNotFound, "", "there is no quota "+op.Quota))
	}
	if op.Delta > MaxAmount-h.total {
		return shard.Reply{Err: invalid("/delta", wrongTotal)}
	}
	return s.changeTotal(h, op.Delta, entryQuotaAdjusted, op.Reason, "/delta", op.gathered)
}

// changeTotal adds free units, or takes away free units. If there are too few of them, those that slices can spare must come home
// first.
func (s *state) changeTotal(h *homeRow, delta int64, kind, reason, pointer string, gathered bool) shard.Reply {
	if h.free < -delta && !gathered {
		return shard.Reply{Err: &shortage{[]lack{{quota: h.quota, need: -delta - h.free, least: -delta - h.free}}}}
	}
	if h.free < -delta {
		return refuse(insufficient(pointer, -delta, h.free, "the rest is held or sold"))
	}
	s.addHome(h)
	s.changeHome(h)
	before := h.free
	h.total += delta
	h.free += delta
	b := appendQuotaChange(s.openChanges(), h.quota, "", quotaFree, delta)
	s.addEntry(h.owner, kind, id.ID{}, s.closeReasoned(b, reason))
	s.noteLow(h, before)
	return s.homeReply(h)
}

// borrow sends units to a slice, or tells what is under way to it already, or, if they would help nobody there, what there is and who
// may have more. A round for the home itself is always told.
func (s *state) borrow(op *borrowOp) shard.Reply {
	op.told = lent{}
	h := s.homes[op.quota]
	if h == nil {
		op.told.unknown = true
		return unchanged()
	}
	g := h.grant(op.shard)
	if g.out != nil {
		op.told.transfer = g.out.transfer
		return unchanged()
	}
	if h.free < op.least || h.free == 0 || op.shard == home {
		op.told = h.lendsNothing()
		return unchanged()
	}
	amount := lend(h.free, op.need, op.want, op.shards)
	s.changeHome(h)
	s.changeGrant(g)
	h.free -= amount
	g.granted += amount
	g.outSeq++
	g.out = s.send(transfer{
		bucket: h.owner.bucket, id: op.id, kind: transferGrant, quota: h.quota, shard: g.shard, seq: g.outSeq,
		amount: amount, currency: h.currency, createdAt: s.now,
	})
	b := appendQuotaChange(s.openChanges(), h.quota, quotaFree, quotaGranted, amount)
	s.addEntry(h.owner, entryQuotaGranted, id.ID{}, s.closeChanges(b))
	s.noteLow(h, h.free+amount)
	op.told.transfer = g.out.transfer
	return moved()
}

// noteLow says in the history that free units have become few, once until there are more again. Slices may have some left.
func (s *state) noteLow(h *homeRow, before int64) {
	if h.lowAt == 0 || before <= h.lowAt || h.free > h.lowAt {
		return
	}
	b := appendQuotaChange(s.openChanges(), h.quota, "", "", h.free) // nothing has moved
	s.addEntry(h.owner, entryQuotaLow, id.ID{}, s.closeChanges(b))
}

// lendsNothing is what a home tells that has too few free units.
func (h *homeRow) lendsNothing() (told lent) {
	told.ver, told.free = h.ver, h.free
	for _, g := range h.grants {
		if g.granted > 0 {
			told.shards = append(told.shards, g.shard)
		}
		if g.out != nil {
			told.others = append(told.others, g.out.transfer)
		}
	}
	return told
}

// giveBack sends units of a slice home, or tells what is under way already, or that there are none.
func (s *state) giveBack(op *giveBackOp) shard.Reply {
	op.told = givenBack{}
	r := s.slices[op.quota]
	if r == nil {
		return unchanged()
	}
	op.told.due, op.told.available = r.due(s.now), r.Available
	if r.out != nil {
		op.told.transfer = r.out.transfer
		return unchanged()
	}
	amount := min(r.Available, op.amount)
	if amount == 0 {
		return unchanged()
	}
	op.told.available -= amount
	s.changeSlice(r)
	r.Available -= amount
	r.granted -= amount
	r.outSeq++
	r.out = s.send(transfer{
		bucket: shard.Bucket(op.id.Bucket()), id: op.id, kind: transferReturn, quota: r.quota, shard: r.shard, seq: r.outSeq,
		amount: amount, currency: r.currency, createdAt: s.now,
	})
	op.told.transfer = r.out.transfer
	return moved()
}

// due says that a hold on the slice has expired, as far as the slice was loaded.
func (r *sliceRow) due(now int64) bool { return r.dueAt != 0 && r.dueAt <= now }

// land takes in what was sent, once.
func (s *state) land(op *landOp) shard.Reply {
	if op.kind == transferGrant {
		return s.landGrant(&op.transfer)
	}
	return s.landReturn(&op.transfer)
}

func (s *state) landGrant(t *transfer) shard.Reply {
	r := s.slices[t.quota]
	if r == nil {
		r = &sliceRow{quota: t.quota, shard: t.shard, currency: t.currency, demand: demand{sinceAt: s.now}, takenAt: s.now}
	}
	if in, err := landed(t, r.inSeq); in || err != nil {
		return isIn(err)
	}
	if r.shard != t.shard {
		return internal(fmt.Errorf("a transfer to shard %d came to the slice of shard %d", t.shard, r.shard))
	}
	s.addSlice(r)
	s.changeSlice(r)
	r.inSeq++
	r.granted += t.amount
	r.Available += t.amount
	return moved()
}

func (s *state) landReturn(t *transfer) shard.Reply {
	h := s.homes[t.quota]
	if h == nil {
		return internal(fmt.Errorf("a transfer came to the home of %s, which has none", t.quota))
	}
	g := h.grant(t.shard)
	if in, err := landed(t, g.inSeq); in || err != nil {
		return isIn(err)
	}
	if g.granted < t.amount {
		return internal(fmt.Errorf("I2: shard %d returns %d of %s and was granted %d", t.shard, t.amount, t.quota, g.granted))
	}
	s.changeHome(h)
	s.changeGrant(g)
	g.inSeq++
	g.granted -= t.amount
	h.free += t.amount
	b := appendQuotaChange(s.openChanges(), h.quota, quotaGranted, quotaFree, t.amount)
	s.addEntry(h.owner, entryQuotaReturned, id.ID{}, s.closeChanges(b))
	return moved()
}

// landed reports whether a transfer is in already, where in are those before. One that is ahead of another would make the other look
// as if it were in, and so is refused.
func landed(t *transfer, in int64) (bool, error) {
	if t.seq > in+1 {
		return false, fmt.Errorf("%s %d of %s came before number %d", t.kind, t.seq, t.quota, in+1)
	}
	return t.seq <= in, nil
}

func isIn(err error) shard.Reply {
	if err != nil {
		return internal(err)
	}
	return unchanged()
}

// close forgets a transfer that is in. It may have been forgotten before.
func (s *state) close(op *closeOp) shard.Reply {
	t := s.transfers[op.id]
	if t == nil || t.closed {
		return unchanged()
	}
	s.changeTransfer(t)
	t.closed = true
	if h := s.homes[t.quota]; h != nil && t.kind == transferGrant {
		h.grant(t.shard).out = nil
	}
	if r := s.slices[t.quota]; r != nil && t.kind == transferReturn {
		r.out = nil
	}
	return moved()
}

// send writes a transfer down at its source.
func (s *state) send(t transfer) *transferRow {
	row := s.addTransfer(&transferRow{transfer: t})
	s.changeTransfer(row)
	return row
}

// grant returns what a shard was given, a new row if it was never given anything.
func (h *homeRow) grant(number int) *grantRow {
	at, found := slices.BinarySearchFunc(h.grants, number, func(g *grantRow, number int) int { return cmp.Compare(g.shard, number) })
	if !found {
		h.grants = slices.Insert(h.grants, at, &grantRow{home: h, shard: number})
	}
	return h.grants[at]
}

// The rows of quotas: add makes one known, change is called before every change.

func (s *state) addHome(h *homeRow) *homeRow {
	if known := s.homes[h.quota]; known != nil {
		return known
	}
	if s.homes == nil {
		s.homes = map[string]*homeRow{}
	}
	s.homes[h.quota] = h
	return h
}

func (s *state) changeHome(h *homeRow) {
	h.ver++
	if !h.dirty {
		h.dirty = true
		s.quotaRows.changed.homes = append(s.quotaRows.changed.homes, h)
	}
}

func (s *state) changeGrant(g *grantRow) {
	g.ver++
	if !g.dirty {
		g.dirty = true
		s.quotaRows.changed.grants = append(s.quotaRows.changed.grants, g)
	}
}

func (s *state) addSlice(r *sliceRow) {
	if s.slices == nil {
		s.slices = map[string]*sliceRow{}
	}
	s.slices[r.quota] = r
}

func (s *state) changeSlice(r *sliceRow) {
	r.ver++
	if !r.dirty {
		r.dirty = true
		s.quotaRows.changed.slices = append(s.quotaRows.changed.slices, r)
	}
}

func (s *state) addTransfer(t *transferRow) *transferRow {
	if known := s.transfers[t.id]; known != nil {
		return known
	}
	if s.transfers == nil {
		s.transfers = map[id.ID]*transferRow{}
	}
	s.transfers[t.id] = t
	return t
}

func (s *state) changeTransfer(t *transferRow) {
	if !t.dirty {
		t.dirty = true
		s.quotaRows.changed.transfers = append(s.quotaRows.changed.transfers, t)
	}
}

// The places of units, as entries name them.
const (
	quotaFree      = "FREE"
	quotaGranted   = "GRANTED"
	quotaHeld      = "HELD"
	quotaUsed      = "USED"
	quotaAvailable = "AVAILABLE"
)

// appendQuotaChange writes an EntryChange. A negative quantity goes the other way.
func appendQuotaChange(b []byte, quota, from, to string, quantity int64) []byte {
	if quantity < 0 {
		from, to, quantity = to, from, -quantity
	}
	b = append(appendText(append(b, '{'), "quota_id", quota), ',')
	if from != "" {
		b = append(appendText(b, "from", from), ',')
	}
	if to != "" {
		b = append(appendText(b, "to", to), ',')
	}
	return append(appendInt(b, "quantity", quantity), "},"...)
}

// closeReasoned is closeChanges with a reason, which is free text.
func (s *state) closeReasoned(b []byte, reason string) []byte {
	if reason == "" {
		return s.closeChanges(b)
	}
	quoted, _ := json.Marshal(reason) // a text always can
	b[len(b)-1] = ']'
	b = append(append(b, `,"reason":`...), quoted...)
	return s.keep(append(b, '}'))
}

// homeReply writes a QuotaReply.
func (s *state) homeReply(h *homeRow) shard.Reply {
	b := append(appendText(append(s.buf[:0], '{'), "quota_id", h.quota), ',')
	if h.currency != "" {
		b = append(appendText(b, "currency", h.currency), ',')
	}
	b = append(appendInt(b, "total", h.total), ',')
	b = append(appendInt(b, "free", h.free), ',')
	return done(s.finish(b, h.owner, false))
}
