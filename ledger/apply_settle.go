package ledger

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
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

// takes is what a hold has, each coupon and each lot once.
type takes struct {
	currency string // of its money; empty: it has none
	coupons  []id.ID
	lots     []lotTake
}

type lotTake struct {
	id     id.ID
	amount int64
}

// takesOf reads what a hold has from its document.
func (s *state) takesOf(h *holdRow) (*takes, error) {
	if h.takes != nil {
		return h.takes, nil
	}
	var doc struct{ Items []HoldItem }
	if err := json.Unmarshal(h.doc, &doc); err != nil {
		return nil, fmt.Errorf("document of hold %s: %w", h.id, err)
	}
	t := new(takes)
	for i := range doc.Items {
		if err := t.add(s.codec, &doc.Items[i]); err != nil {
			return nil, fmt.Errorf("document of hold %s, item %d: %w", h.id, i, err)
		}
	}
	h.takes = t
	return t, nil
}

func (t *takes) add(codec *id.Codec, it *HoldItem) error {
	if it.Kind == CouponItem {
		coupon, err := codec.Parse(id.Coupon, it.CouponID)
		t.coupons = append(t.coupons, coupon)
		return err
	}
	if it.Amount != nil {
		t.currency = it.Amount.Currency
	}
	for _, share := range it.Lots {
		lot, err := codec.Parse(id.Lot, share.LotID)
		if err != nil {
			return err
		}
		t.addLot(lot, share.Amount)
	}
	return nil
}

// addLot sums up the shares of a lot that several items take from.
func (t *takes) addLot(lot id.ID, amount int64) {
	for i := range t.lots {
		if t.lots[i].id == lot {
			t.lots[i].amount += amount
			return
		}
	}
	t.lots = append(t.lots, lotTake{lot, amount})
}
