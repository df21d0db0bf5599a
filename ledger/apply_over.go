package ledger

import (
	"slices"

	"github.com/statesvc/statesvc/shard/id"
)

// over splits an amount to confirm into what the money items have left and what goes beyond, if the hold was made with a limit for that.
// Otherwise it is left as it is, and portions refuses what is too much.
func (c *content) over(amount Money) (within Money, over int64) {
	limit := c.body.OverCaptureLimit
	if limit == nil || amount.Currency != limit.Currency {
		return amount, 0
	}
	within = Money{min(amount.Amount, c.money(c.held)), amount.Currency}
	return within, amount.Amount - within.Amount
}

// planOver finds free lots of the owner for what goes beyond, as a new hold would: the earliest expiry first, those that an item of the
// hold may take from. What the hold has is his whatever happens; this is not, so freezing him or an empty purse refuses it.
func (s *state) planOver(o *ownerRow, c *content, asked, over int64) (*takes, *Refusal) {
	beyond := new(takes)
	if over == 0 {
		return beyond, nil
	}
	if o.frozen {
		return nil, frozenOwner()
	}
	if room := c.body.OverCaptureLimit.Amount - c.overCaptured(); over > room {
		refused := limited("the hold allows less beyond its money", asked, asked-over+room)
		refused.Pointer = "/amount"
		return nil, refused
	}
	left := over
	for _, l := range o.sortedLots() {
		if amount := min(l.Available, left); amount > 0 && c.mayTake(l) {
			beyond.addLot(lotTake{l.id, amount})
			left -= amount
		}
	}
	if left > 0 {
		return nil, insufficient("/amount", asked, asked-left, "the hold and the lots that match have less")
	}
	return beyond, nil
}

// mayTake says whether one of the money items may take from a lot.
func (c *content) mayTake(l *lotRow) bool {
	return slices.ContainsFunc(c.body.Items[:c.items], func(it HoldItem) bool {
		return it.Kind == MoneyItem && it.Amount.Currency == l.currency && (it.Tag == "" || it.Tag == l.tag)
	})
}

// overCaptured is how much was confirmed beyond the items so far.
func (c *content) overCaptured() int64 {
	if len(c.parts) == c.items {
		return 0
	}
	return c.parts[c.items].Confirmed
}

// overCapture notes what was confirmed beyond the items.
func (c *content) overCapture(codec *id.Codec, beyond *takes) {
	if len(beyond.lots) == 0 {
		return
	}
	var over Part
	if len(c.parts) > c.items {
		over = c.parts[c.items]
	}
	for _, take := range beyond.lots {
		text := codec.Text(id.Lot, take.id)
		at := slices.IndexFunc(over.Lots, func(lot LotPart) bool { return lot.LotID == text })
		if at < 0 {
			at = len(over.Lots)
			over.Lots = append(over.Lots, LotPart{LotID: text})
		}
		over.Lots[at].Confirmed += take.amount
		over.Confirmed += take.amount
	}
	c.addOver(over)
}
