package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/statesvc/statesvc/shard/id"
)

// Progress is what has become of a hold beside being held and decided in one go. Most holds have none of it, and then nothing is
// stored or read for it.
type Progress struct {
	PinnedAt      time.Time `json:"pinned_at,omitzero"`      // the payment was sent, its outcome is unknown; expires_at is until when
	SupersededBy  string    `json:"superseded_by,omitempty"` // the hold that has taken this one's place
	Supersedes    string    `json:"supersedes,omitempty"`    // the hold whose place this one has taken
	Late          bool      `json:"late,omitempty"`          // made and confirmed at once, after the hold that it supersedes had expired
	Rest          string    `json:"rest,omitempty"`          // what became of what was not confirmed, once the hold is CONFIRMED
	Parts         []Part    `json:"parts,omitempty"`         // by item, once a part was confirmed or refunded
	OverCaptured  *Part     `json:"over_captured,omitempty"` // money that was confirmed beyond that of the items
	RefundedLines []string  `json:"refunded_lines,omitempty"`
}

// Part is what has become of one item: minor units of money, or pieces; a coupon counts as 1.
type Part struct {
	Confirmed int64     `json:"confirmed"`
	Refunded  int64     `json:"refunded"`
	Lots      []LotPart `json:"lots,omitempty"` // money: as in the item, lot by lot
}

// LotPart is the part of a Part that is of one lot.
type LotPart struct {
	LotID     string `json:"lot_id"`
	Confirmed int64  `json:"confirmed"`
	Refunded  int64  `json:"refunded"`
}

// What may become of the rest of a hold that was confirmed in part.
const (
	restReleased   = "RELEASED" // by final
	restCancelled  = "CANCELLED"
	restExpired    = "EXPIRED"
	restSuperseded = "SUPERSEDED"
)

// restOf says how an event that ends a hold leaves what was not confirmed.
var restOf = map[Event]string{
	EventRelease: restReleased, EventCancel: restCancelled, EventExpire: restExpired, EventReplace: restSuperseded,
}

// grow changes what has become of a hold.
func (s *state) grow(h *holdRow, change func(p *Progress)) {
	if h.progress == nil {
		h.progress = new(Progress)
	}
	change(h.progress)
	h.progressDoc = nil
	h.takes = nil
	s.changeHold(h)
}

// readProgress reads the column; NULL is none.
func (h *holdRow) readProgress(doc []byte) error {
	if len(doc) == 0 {
		return nil
	}
	h.progress = new(Progress)
	if err := json.Unmarshal(doc, h.progress); err != nil {
		return fmt.Errorf("progress of hold %s: %w", h.id, err)
	}
	h.pinned = !h.progress.PinnedAt.IsZero()
	return nil
}

// writtenProgress is the column, and part of the hold's JSON; nil if there is none.
func (h *holdRow) writtenProgress() []byte {
	if h.progress != nil && h.progressDoc == nil {
		h.progressDoc, _ = json.Marshal(h.progress) // texts, numbers and times of this century cannot fail
	}
	return h.progressDoc
}

// inPart says that some of a live hold was confirmed before.
func (h *holdRow) inPart() bool { return h.progress != nil && len(h.progress.Parts) > 0 }

// successor is the text of the hold that has taken h's place; empty if none has.
func (h *holdRow) successor() string {
	if h.progress == nil {
		return ""
	}
	return h.progress.SupersededBy
}

// late says that the hold shares order, attempt and document with the expired one that it was confirmed for.
func (h *holdRow) late() bool { return h.progress != nil && h.progress.Late }

// growWhole notes that the last part of a hold is confirmed, too.
func (s *state) growWhole(h *holdRow) {
	c, err := s.contentOf(h)
	if err != nil {
		return // takesOf has read the same document
	}
	for i := range c.parts {
		c.confirm(i, c.held(i))
	}
	s.grow(h, c.note)
}

// content is what a hold has, item by item, with what has become of each. It is for operations that look at parts; holding,
// confirming and cancelling as a whole make do with takes. Money that was confirmed beyond that of the items is one more item behind them,
// all of which is confirmed.
type content struct {
	body  HoldBody // of the document only
	items int      // of the document
	parts []Part
}

// note writes down what has become of the items.
func (c *content) note(p *Progress) {
	p.Parts = c.parts[:c.items]
	if len(c.parts) > c.items {
		p.OverCaptured = &c.parts[c.items]
	}
}

// contentOf reads the document of a hold. The parts are a copy.
func (s *state) contentOf(h *holdRow) (*content, error) {
	c := new(content)
	if err := decodeDoc(h.doc, &c.body); err != nil {
		return nil, fmt.Errorf("hold %s: %w", h.id, err)
	}
	c.items = len(c.body.Items)
	c.parts = make([]Part, c.items)
	for i := range c.body.Items {
		if h.inPart() {
			c.parts[i] = h.progress.Parts[i]
			c.parts[i].Lots = slices.Clone(c.parts[i].Lots)
			continue
		}
		for _, share := range c.body.Items[i].Lots {
			c.parts[i].Lots = append(c.parts[i].Lots, LotPart{LotID: share.LotID})
		}
		if h.state == Confirmed {
			c.confirm(i, c.body.Items[i].quantity())
		}
	}
	if h.progress != nil && h.progress.OverCaptured != nil {
		over := *h.progress.OverCaptured
		over.Lots = slices.Clone(over.Lots)
		c.addOver(over)
	}
	return c, nil
}

// addOver adds the item behind the others.
func (c *content) addOver(over Part) {
	it := HoldItem{Kind: MoneyItem, Amount: &Money{over.Confirmed, c.currency()}}
	for _, lot := range over.Lots {
		it.Lots = append(it.Lots, LotShare{lot.LotID, lot.Confirmed})
	}
	c.body.Items, c.parts = append(c.body.Items[:c.items], it), append(c.parts[:c.items], over)
}

// quantity is how much of something an item has: minor units of money, or pieces; a coupon is one.
func (it *HoldItem) quantity() int64 {
	switch {
	case it.Amount != nil:
		return it.Amount.Amount
	case it.Kind == StockItem:
		return it.Quantity
	}
	return 1
}

// quota is what amount of an item is of a quota; false if the item is of another kind.
func (it *HoldItem) quota(amount int64) (take quotaTake, ok bool) {
	take, ok = quotaOf(&Item{Kind: it.Kind, SKU: it.SKU, Location: it.Location, CampaignID: it.CampaignID})
	take.amount = amount
	return take, ok
}

// currency is that of the hold's money; empty if it has none.
func (c *content) currency() string {
	for i := range c.body.Items {
		if it := &c.body.Items[i]; it.Kind == MoneyItem {
			return it.Amount.Currency
		}
	}
	return ""
}

// anyCurrency is that of the hold: of its money, or else of its lines.
func (c *content) anyCurrency() string {
	if currency := c.currency(); currency != "" || c.body.Discount == nil {
		return currency
	}
	return c.body.Discount.Currency
}

// held is how much of an item is neither confirmed nor released, while the hold is live.
func (c *content) held(item int) int64 {
	return c.body.Items[item].quantity() - c.parts[item].Confirmed
}

// spent is how much of an item was confirmed and not refunded.
func (c *content) spent(item int) int64 { return c.parts[item].Confirmed - c.parts[item].Refunded }

// money sums up what of is of all money items.
func (c *content) money(of func(item int) int64) (sum int64) {
	for i := range c.body.Items {
		if c.body.Items[i].Kind == MoneyItem {
			sum += of(i)
		}
	}
	return sum
}

// confirm notes that amount of an item is confirmed, from its first lots on, and returns their shares.
func (c *content) confirm(item int, amount int64) (shares []LotShare) {
	part := &c.parts[item]
	part.Confirmed += amount
	for i, share := range c.body.Items[item].Lots {
		lot := &part.Lots[i]
		taken := min(amount, share.Amount-lot.Confirmed)
		if taken > 0 {
			lot.Confirmed += taken
			amount -= taken
			shares = append(shares, LotShare{share.LotID, taken})
		}
	}
	return shares
}

// refund notes that amount of an item is refunded, from its last lots on: what ends last was spent last, and comes back first.
func (c *content) refund(item int, amount int64) (shares []LotShare) {
	part := &c.parts[item]
	part.Refunded += amount
	for i := len(part.Lots) - 1; i >= 0; i-- {
		lot := &part.Lots[i]
		given := min(amount, lot.Confirmed-lot.Refunded)
		if given > 0 {
			lot.Refunded += given
			amount -= given
			shares = append(shares, LotShare{lot.LotID, given})
		}
	}
	return shares
}

// nothing says that nothing is left.
func (t *takes) nothing() bool { return len(t.coupons)+len(t.lots)+len(t.quotas) == 0 }

// move adds what was moved of an item to what a hold takes: an amount, which for money is that of the shares.
func (t *takes) move(it *HoldItem, amount int64, shares []LotShare) error {
	if take, ok := it.quota(amount); ok {
		t.quotas = addTake(t.quotas, take)
		return nil
	}
	if it.Kind == CouponItem {
		coupon, err := id.ParseOwn(id.Coupon, it.CouponID)
		t.coupons = append(t.coupons, coupon)
		return err
	}
	for _, share := range shares {
		lot, err := id.ParseOwn(id.Lot, share.LotID)
		if err != nil {
			return err
		}
		t.addLot(lotTake{lot, share.Amount})
	}
	return nil
}

// withoutParts takes away what is confirmed already. The parts are those of the items in the document.
func (t *takes) withoutParts(doc []byte, parts []Part) error {
	var body HoldBody
	if err := decodeDoc(doc, &body); err != nil {
		return err
	}
	t.coupons, t.lots, t.quotas = nil, nil, nil
	for i := range body.Items {
		it := &body.Items[i]
		var left []LotShare
		for j, share := range it.Lots {
			if rest := share.Amount - parts[i].Lots[j].Confirmed; rest > 0 {
				left = append(left, LotShare{share.LotID, rest})
			}
		}
		rest := it.quantity() - parts[i].Confirmed
		if rest == 0 {
			continue
		}
		if err := t.move(it, rest, left); err != nil {
			return err
		}
	}
	return nil
}
