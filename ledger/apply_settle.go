package ledger

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/statesvc/statesvc/shard/id"
)

// settle ends the owner's holds whose time is over, the oldest expiry first. It may be interrupted by an impossible state;
// each hold is settled whole or not at all.
func (s *state) settle(o *ownerRow) error {
	due := s.due(o)
	for _, h := range due {
		if err := s.end(o, h, EventExpire); err != nil {
			return err
		}
	}
	if o.dueAt != 0 && o.dueAt <= s.now && o.dueLoaded { // a clock that steps back may have kept it from being loaded
		s.correctDue(o)
	}
	return nil
}

// correctDue finds the next expiry after dueAt has come and what was due is settled.
func (s *state) correctDue(o *ownerRow) {
	o.dueAt = o.nextDue
	for _, h := range o.live {
		if h.state == Held && (o.dueAt == 0 || h.expiresAt < o.dueAt) {
			o.dueAt = h.expiresAt
		}
	}
	s.writeOwner(o)
}

// due returns the owner's expired holds, and forgets those that were decided since they were loaded.
func (s *state) due(o *ownerRow) []*holdRow {
	var due []*holdRow
	live := o.live[:0]
	for _, h := range o.live {
		switch {
		case h.state != Held:
		case h.expiresAt <= s.now:
			due = append(due, h)
			live = append(live, h) // until it is settled
		default:
			live = append(live, h)
		}
	}
	o.live = live
	slices.SortFunc(due, func(a, b *holdRow) int {
		return cmp.Or(cmp.Compare(a.expiresAt, b.expiresAt), bytes.Compare(a.id[:], b.id[:]))
	})
	return due
}

// settleAssets writes down which of the owner's free assets have expired: the lots of a currency, and the coupons that
// op names. What an operation does not look at is left for the one that does, so that the history of an owner does not
// depend on what else is in a batch.
func (s *state) settleAssets(o *ownerRow, currency string, coupons ...*couponRow) {
	b := s.openChanges()
	none := len(b)
	if currency != "" {
		b = s.expireLots(b, o, currency)
	}
	for _, c := range coupons {
		b = s.expireCoupon(b, o, c)
	}
	if len(b) == none {
		return
	}
	s.addEntry(o, entryAssetExpired, id.ID{}, s.closeChanges(b))
}

func (s *state) expireLots(b []byte, o *ownerRow, currency string) []byte {
	for _, l := range o.sortedLots() {
		if l.expiresAt > s.now {
			break // the later ones end later
		}
		if l.currency != currency || l.Available == 0 {
			continue
		}
		before := l.LotCounters
		s.changeLot(l)
		l.Expired += l.Available
		l.Available = 0
		b = s.appendLotChange(b, l, &before)
	}
	return b
}

func (s *state) expireCoupon(b []byte, o *ownerRow, c *couponRow) []byte {
	if c == nil || c.owner != o || c.state != couponAvailable || c.expiresAt > s.now {
		return b
	}
	s.changeCoupon(c)
	c.state = couponExpired
	return s.appendCouponChange(b, c, couponAvailable)
}
