package ledger

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/statesvc/statesvc/shard"
)

// An owner may have thousands of live lots of a currency, of which a hold takes from one or two: the first ones to expire (R7). Whoever
// was seen with so many is remembered, and from then on a hold of his loads the first lots and the sums of all, in the same round. Where
// that is not enough, all of them follow in the next round, and more are loaded the next time.
//
// What is remembered saves work and decides nothing: an instance that has just started loads everything once.

const (
	crowded    = 32   // lots of an owner from which not all of them are loaded
	widening   = 4    // so many times as many first lots are loaded after they were not enough
	mostPurses = 4096 // that are remembered; then it begins anew
	mostParts  = 32   // purses of one batch of which a part is loaded: each is two statements
)

// purse is what an owner has in one currency.
type purse struct{ owner, currency string }

// crowds are the purses that were seen with many lots. It is safe for concurrent use.
type crowds struct {
	from  int // see crowded
	mu    sync.Mutex
	first map[purse]int // how many of the first lots are loaded
}

func newCrowds(from int) *crowds { return &crowds{from: from, first: map[purse]int{}} }

// of returns how many of the first lots of a purse a hold loads; 0: all.
func (c *crowds) of(p purse) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first[p]
}

// none reports whether all lots of everybody are loaded.
func (c *crowds) none() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.first) == 0
}

// note is told of a purse of which all lots were loaded.
func (c *crowds) note(p purse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.first) >= mostPurses {
		clear(c.first)
	}
	c.first[p] = max(c.first[p], c.from)
}

// widen is told of a purse whose first lots were not enough.
func (c *crowds) widen(p purse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.first[p]; n > 0 && n < MaxAmount/widening {
		c.first[p] = n * widening
	}
}

// lotPart is what a batch has loaded of a purse: the first lots in the order in which they are spent, and the sums of all live ones.
type lotPart struct {
	currency        string
	limit           int
	loaded          int
	last            *lotRow // of those that are loaded
	available, held int64   // in the table
	asked, free     int64   // what the holds of the batch ask for, and what the loaded lots have that has not expired
}

// covers reports whether a lot is loaded if the owner has it and it is before another one that is. What is not covered must not be taken
// from: there may be earlier lots that are not loaded.
func (p *lotPart) covers(l *lotRow) bool {
	return p == nil || p.loaded < p.limit || inSpendingOrder(l, p.last) <= 0
}

// hides reports whether lots that are not loaded may have expired, too.
func (p *lotPart) hides(now int64) bool {
	return p != nil && p.loaded == p.limit && p.last.expiresAt <= now
}

// inSpendingOrder compares lots by expiry, and then by id (R7).
func inSpendingOrder(a, b *lotRow) int {
	return cmp.Or(cmp.Compare(a.expiresAt, b.expiresAt), bytes.Compare(a.id[:], b.id[:]))
}

// part returns what is loaded of a purse; nil: all of it, or nothing.
func (o *ownerRow) part(currency string) *lotPart {
	for _, p := range o.parts {
		if p.currency == currency {
			return p
		}
	}
	return nil
}

// wantFirst asks for a part of a purse, if that is enough for the operations of the batch and the purse is known to be crowded. The
// others are left to wantLots.
func (b *batch) wantFirst(o *ownerRow, op *shard.Op, currency string) bool {
	hold := newHold(op)
	if hold == nil || b.lookedUp || b.whole[purse{o.name, currency}] {
		return false
	}
	part := o.part(currency)
	if part == nil {
		n := b.crowds.of(purse{o.name, currency})
		if n == 0 || b.parts == mostParts || slices.Contains(o.currencies, currency) {
			return false
		}
		part = &lotPart{currency: currency, limit: n}
		b.parts++
		o.parts = append(o.parts, part)
	}
	for i := range hold.Items {
		if hold.Items[i].Kind == MoneyItem {
			part.asked = min(part.asked+hold.Items[i].Amount.Amount, MaxAmount)
		}
	}
	return true
}

// loadParts reads the first lots and the sums of the purses that wantFirst has found.
func (b *batch) loadParts(p *shard.Packet) {
	if b.parts == 0 {
		return
	}
	for _, o := range b.listed {
		for _, part := range o.parts {
			first := liveLots
			first.Columns += ", expires_at<=" + p.Now()
			first.Tail = fmt.Sprintf(" ORDER BY expires_at, lot_id LIMIT %d", part.limit)
			p.Select(first, b.scanFirst).Row().Bucket(o.bucket).ASCII(o.name).Int(1).ASCII(part.currency)
		}
		if len(o.parts) > 0 {
			p.Select(liveSums, b.scanSums).Row().Bucket(o.bucket).ASCII(o.name)
		}
	}
}

func (b *batch) scanFirst(r *shard.Row) error {
	l := b.addLot(b.scannedLot(r))
	part := l.owner.part(l.currency)
	part.loaded++
	part.last = l
	if expired := r.Int() != 0; !expired {
		part.free += l.Available
	}
	return nil
}

func (b *batch) scanSums(r *shard.Row) error {
	part := b.owners[r.Str()].part(r.Str())
	available, held := r.Int(), r.Int()
	if part != nil {
		part.available, part.held = available, held
	}
	return nil
}

// loadRest reads all lots of the purses of which a part is not enough.
func (b *batch) loadRest(p *shard.Packet) {
	rest := keys(p, liveLots, b.scanLot)
	for _, o := range b.listed {
		for _, part := range slices.Clone(o.parts) {
			if part.loaded == part.limit && part.free < part.asked {
				b.crowds.widen(purse{o.name, part.currency})
				b.wantLots(rest, o, part.currency)
			}
		}
	}
}
