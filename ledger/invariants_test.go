package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// invariants returns what is wrong with the rows in memory; see docs/invariants.md. It knows the documents of holds, but nothing
// of how apply came to the rows.
func (d *desk) invariants() (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	held, spent := map[string]int64{}, map[string]int64{}
	holder, user := map[string]id.ID{}, map[string]id.ID{}
	for _, h := range d.holds {
		if len(h.doc) == 0 {
			continue
		}
		var body HoldBody
		if err := json.Unmarshal(h.doc, &body); err != nil {
			complain("document of %s: %v", h.id, err)
		}
		wrong = append(wrong, wrongSums(&body)...)
		wrong = append(wrong, d.wrongTakes(h, &body)...)
		wrong = append(wrong, d.wrongParts(h, &body)...)
		if over := overOf(h); over != nil {
			for _, lot := range over.Lots {
				spent[lot.LotID] += lot.Confirmed - lot.Refunded
			}
		}
		for item, it := range body.Items {
			part := partOf(h, &body, item)
			for n, share := range it.Lots {
				if h.state == Held {
					held[share.LotID] += share.Amount - part.Lots[n].Confirmed
				}
				spent[share.LotID] += part.Lots[n].Confirmed - part.Lots[n].Refunded
			}
			if it.Kind != CouponItem {
				continue
			}
			owners := user
			if part.Confirmed == 0 {
				owners = map[State]map[string]id.ID{Held: holder}[h.state]
			}
			if owners != nil && part.Refunded == 0 {
				if _, twice := owners[it.CouponID]; twice {
					complain("coupon %s is in two holds that are %s", it.CouponID, h.state)
				}
				owners[it.CouponID] = h.id
			}
		}
	}
	for _, l := range d.lots {
		text := d.codec.Text(id.Lot, l.id)
		c := l.LotCounters
		if l.issued != c.Available+c.Held+c.Spent+c.Expired+c.Revoked {
			complain("I2: lot %s does not sum up: %+v of %d", text, c, l.issued)
		}
		if min(c.Available, c.Held, c.Spent, c.Expired, c.Revoked) < 0 {
			complain("I1: lot %s: %+v", text, c)
		}
		if c.Held != held[text] || c.Spent != spent[text] || l.planned != 0 {
			complain("lot %s: %+v, but live holds have %d and confirmed ones %d", text, c, held[text], spent[text])
		}
	}
	for _, a := range d.adjustments {
		by := a.notes.DecidedBy
		if a.state == adjustmentDone && ((a.endsAt != 0) != (by != nil) || by != nil && by.KeyID == a.notes.ProposedBy.KeyID) {
			complain("R31: adjustment %s: %+v", a.id, a)
		}
	}
	for _, c := range d.coupons {
		text := d.codec.Text(id.Coupon, c.id)
		wantHold, inHold := holder[text]
		wantUse, inUse := user[text]
		if inHold && inUse || inHold != (c.state == couponHeld) || inUse != (c.state == couponUsed) {
			complain("coupon %s is %s; in a live hold %v, in a confirmed one %v", text, c.state, inHold, inUse)
		}
		if inHold && (c.holdID != wantHold || c.heldUntil != d.holds[wantHold].expiresAt) || inUse && c.holdID != wantUse {
			complain("coupon %s names another hold than the one that has it", text)
		}
		if (c.holdID != id.ID{}) != (inHold || inUse) || (c.heldUntil != 0) != inHold {
			complain("coupon %s: hold %s until %d in state %s", text, c.holdID, c.heldUntil, c.state)
		}
	}
	wrong = append(wrong, d.wrongUnits()...)
	return append(wrong, d.wrongHistory()...)
}

// partOf is what has become of an item, found in other words than contentOf does: a plain hold has parts only in this function.
func partOf(h *holdRow, body *HoldBody, item int) Part {
	if h.progress != nil && len(h.progress.Parts) > 0 {
		return h.progress.Parts[item]
	}
	it := &body.Items[item]
	whole := Part{Lots: make([]LotPart, len(it.Lots))}
	for n, share := range it.Lots {
		whole.Lots[n].LotID = share.LotID
		if h.state == Confirmed {
			whole.Lots[n].Confirmed = share.Amount
		}
	}
	if h.state == Confirmed {
		whole.Confirmed = sizeOf(it)
	}
	return whole
}

// overOf is what was confirmed beyond the items of a hold; nil for most.
func overOf(h *holdRow) *Part {
	if h.progress == nil {
		return nil
	}
	return h.progress.OverCaptured
}

// wrongOver checks it: no more than the hold allows, and no more refunded than confirmed, also lot by lot.
func wrongOver(h *holdRow, body *HoldBody) (refunded int64, wrong []string) {
	over := overOf(h)
	if over == nil {
		return 0, nil
	}
	sum := LotPart{}
	for _, lot := range over.Lots {
		if lot.Confirmed < 1 || lot.Refunded < 0 || lot.Refunded > lot.Confirmed {
			wrong = append(wrong, fmt.Sprintf("hold %s, over-captured: %+v", h.id, lot))
		}
		sum.Confirmed += lot.Confirmed
		sum.Refunded += lot.Refunded
	}
	if body.OverCaptureLimit == nil || over.Confirmed > body.OverCaptureLimit.Amount ||
		sum.Confirmed != over.Confirmed || sum.Refunded != over.Refunded {
		wrong = append(wrong, fmt.Sprintf("hold %s, over-captured: %+v of %v", h.id, over, body.OverCaptureLimit))
	}
	return over.Refunded, wrong
}

// sizeOf is how much of something an item has.
func sizeOf(it *HoldItem) int64 {
	switch it.Kind {
	case MoneyItem, BudgetItem:
		return it.Amount.Amount
	case StockItem:
		return it.Quantity
	case CouponItem:
	}
	return 1
}

// wrongParts checks what has become of a hold: nothing is refunded that was not confirmed, nothing confirmed that was not held, and the
// hold's refunds sum up to what its parts say.
func (d *desk) wrongParts(h *holdRow, body *HoldBody) []string {
	refunded, wrong := wrongOver(h, body)
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	var returned int64
	complete := true
	for item := range body.Items {
		it, part := &body.Items[item], partOf(h, body, item)
		quantity := sizeOf(it)
		if it.Kind == MoneyItem {
			refunded += part.Refunded
		} else {
			returned += part.Refunded // units of quotas never are
		}
		if part.Refunded < 0 || part.Refunded > part.Confirmed || part.Confirmed > quantity {
			complain("hold %s, item %d: %+v of %d", h.id, item, part, quantity)
		}
		complete = complete && part.Confirmed == quantity
		var sum LotPart
		for n, lot := range part.Lots {
			if lot.LotID != it.Lots[n].LotID || lot.Refunded < 0 || lot.Refunded > lot.Confirmed || lot.Confirmed > it.Lots[n].Amount {
				complain("hold %s, item %d: %+v of %+v", h.id, item, lot, it.Lots[n])
			}
			sum.Confirmed += lot.Confirmed
			sum.Refunded += lot.Refunded
		}
		if it.Kind == MoneyItem && (sum.Confirmed != part.Confirmed || sum.Refunded != part.Refunded) {
			complain("hold %s, item %d: the lots sum up to %+v, the part is %+v", h.id, item, sum, part)
		}
	}
	if h.inPart() && (h.state == Confirmed) == (complete == (h.progress.Rest != "")) {
		complain("hold %s is %s, complete %v, and its rest %q", h.id, h.state, complete, h.progress.Rest)
	}
	for _, r := range d.refunds {
		var b RefundBody
		if err := json.Unmarshal(r.doc, &b); err != nil {
			complain("refund %s: %v", r.id, err)
		}
		if r.holdID != h.id {
			continue
		}
		refunded -= b.Amount.Amount
		returned -= int64(len(b.Coupons))
		for _, share := range b.Lots {
			b.Amount.Amount -= share.Amount
		}
		if b.Amount.Amount != 0 {
			complain("refund %s: its lots do not sum up: %s", r.id, r.doc)
		}
	}
	if refunded != 0 || returned != 0 {
		complain("hold %s: its refunds miss %d of money and %d coupons of its parts", h.id, refunded, returned)
	}
	return wrong
}

// wrongTakes compares what our decoder reads in a document with what encoding/json has read.
func (d *desk) wrongTakes(h *holdRow, body *HoldBody) (wrong []string) {
	got := new(takes)
	if err := got.read(h.doc); err != nil {
		return []string{err.Error()}
	}
	var coupons []string
	lots, currency := map[string]int64{}, ""
	for _, it := range body.Items {
		if it.Kind == CouponItem {
			coupons = append(coupons, it.CouponID)
		}
		if it.Kind != MoneyItem {
			continue
		}
		currency = it.Amount.Currency
		for _, share := range it.Lots {
			lots[share.LotID] += share.Amount
		}
	}
	for _, take := range got.lots {
		text := d.codec.Text(id.Lot, take.id)
		if lots[text] != take.amount {
			wrong = append(wrong, fmt.Sprintf("the decoder reads %d of %s in %s", take.amount, text, h.doc))
		}
		delete(lots, text)
	}
	for i, coupon := range got.coupons {
		if len(coupons) != len(got.coupons) || coupons[i] != d.codec.Text(id.Coupon, coupon) {
			wrong = append(wrong, fmt.Sprintf("the decoder reads coupons %v in %s", got.coupons, h.doc))
		}
	}
	if len(lots) > 0 || got.currency != currency || len(coupons) != len(got.coupons) {
		wrong = append(wrong, fmt.Sprintf("the decoder reads %+v in %s", got, h.doc))
	}
	return wrong
}

// wrongSums checks a hold's document by itself: shares, lines and totals.
func wrongSums(h *HoldBody) (wrong []string) {
	perLine, discount, money := map[string]int64{}, int64(0), int64(0)
	for i, it := range h.Items {
		var sum int64
		for _, share := range it.Lines {
			if share.Amount < 1 {
				wrong = append(wrong, fmt.Sprintf("item %d has an empty share", i))
			}
			perLine[share.LineID] += share.Amount
			sum += share.Amount
		}
		want := int64(0)
		if it.Discount != nil {
			want = it.Discount.Amount
			discount += want
		}
		if sum != want {
			wrong = append(wrong, fmt.Sprintf("item %d: the shares sum up to %d, the discount is %d", i, sum, want))
		}
		sum = 0
		for _, share := range it.Lots {
			sum += share.Amount
		}
		if it.Kind == MoneyItem {
			money += it.Amount.Amount
			if sum != it.Amount.Amount || sum < 1 {
				wrong = append(wrong, fmt.Sprintf("item %d: the lots sum up to %d, the amount is %d", i, sum, it.Amount.Amount))
			}
		}
	}
	var total int64
	for _, l := range h.Lines {
		total += l.Amount.Amount
		if l.Discount != perLine[l.LineID] || l.Payable != l.Amount.Amount-l.Discount || l.Payable < 0 {
			wrong = append(wrong, fmt.Sprintf("line %+v, its shares are %d", l, perLine[l.LineID]))
		}
	}
	if len(h.Lines) > 0 && (h.Discount.Amount != discount || h.Payable.Amount != total-discount-money || h.Payable.Amount < 0) {
		wrong = append(wrong, fmt.Sprintf("discount %v and payable %v of %d", h.Discount, h.Payable, total))
	}
	return wrong
}

// wrongHistory checks that the entries of each owner are a chain, and that they tell where all money and coupons went.
func (d *desk) wrongHistory() (wrong []string) {
	chains := map[string]*chain{}
	last := map[string]LotCounters{}
	states := map[string]string{}
	used := map[string]int64{}
	for _, e := range d.changed.entries {
		c := chains[e.owner.name]
		if c == nil {
			c = &chain{owner: e.owner.name}
			chains[e.owner.name] = c
		}
		record := entryRecord{Owner: e.owner.name, Seq: e.seq, Kind: e.kind, At: e.at, Doc: e.doc, Hash: e.hash[:]}
		if e.holdID != (id.ID{}) {
			record.HoldID = e.holdID[:]
		}
		c.add(&record)
		var entry Entry
		if err := record.body(d.codec, &entry); err != nil || len(entry.Changes) == 0 && !mayMoveNothing[e.kind] {
			wrong = append(wrong, fmt.Sprintf("entry %d of %s: %s %v", e.seq, e.owner.name, e.doc, err))
		}
		for _, change := range entry.Changes {
			switch {
			case change.After != nil:
				last[change.LotID] = *change.After
			case change.QuotaID == "":
				states[change.CouponID] = change.To
			case change.To == quotaUsed:
				used[change.QuotaID] += change.Quantity
			}
		}
	}
	for name, o := range d.owners {
		if c := chains[name]; c != nil {
			c.end(o.entrySeq, o.head[:])
			if c.brokenAt != 0 {
				wrong = append(wrong, fmt.Sprintf("the chain of %s breaks at %d", name, c.brokenAt))
			}
		}
	}
	for _, l := range d.lots {
		if told := last[d.codec.Text(id.Lot, l.id)]; told.Spent != l.Spent || told.Expired != l.Expired || told.Revoked != l.Revoked {
			wrong = append(wrong, fmt.Sprintf("the history says %+v, the lot %+v", told, l.LotCounters))
		}
	}
	for quota, r := range d.slices {
		if used[quota] != r.Used {
			wrong = append(wrong, fmt.Sprintf("the history says that %d of %s are used, the slice says %d", used[quota], quota, r.Used))
		}
	}
	for _, c := range d.coupons {
		told := states[d.codec.Text(id.Coupon, c.id)]
		if c.state != couponHeld && told != c.state {
			wrong = append(wrong, fmt.Sprintf("the history says %s, the coupon is %s", told, c.state))
		}
	}
	return wrong
}

// mayMoveNothing are the kinds of entries without a change of an asset: a line whose money share is nothing can be refunded, and what is
// only proposed has moved nothing.
var mayMoveNothing = map[string]bool{
	entryFrozen: true, entryUnfrozen: true, entryRefunded: true,
	entryAdjustmentProposed: true, entryAdjustmentRejected: true, entryAdjustmentExpired: true,
}

// walk draws operations on two owners: few assets, few orders and few distinct times, so that they meet.
type walk struct {
	*desk
	coupons []id.ID
	holds   []Hold
	refs    []any // issues and credits made before, to be sent again
	dice    *rand.Rand
	frozen  map[string]bool // owners, as far as the operations say that were drawn
	next    func() any      // what follows for the same owner: most checkouts go on
	of      string          // whose
	lotIDs  []id.ID
	changes []id.ID // adjustments
	units   bool    // holds take stock, too; see drawUnits
	seqs    map[string]int64
}

func newWalk(t *rapid.T, d *desk) *walk {
	return &walk{
		desk: d, dice: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), frozen: map[string]bool{},
	}
}

func (w *walk) draw() (owner string, body any) {
	owner = pick(w, "u1", "u1", "u1", "u2")
	w.at = w.at.Add(pick(w, 0, 0, 0, 0, 0, 0, 0, 0, time.Second, time.Second, time.Second, 10*time.Second))
	if next := w.next; next != nil {
		w.next = nil
		return w.of, next()
	}
	w.of = owner
	if w.units && pick(w, true, false, false) {
		return w.drawUnits()
	}
	if w.frozen[owner] && pick(w, true, false, false) {
		return owner, w.drawFreeze(owner)
	}
	switch pick(w, often...) {
	case "issue":
		return owner, w.drawIssue(owner)
	case "credit":
		return owner, w.drawCredit(owner)
	case "again":
		if len(w.refs) > 0 {
			return w.again(pick(w, w.refs...))
		}
		return owner, expireOp{}
	case "hold":
		op := w.drawHold(owner)
		w.next = w.checkout(owner, refOfHold(&op.Hold))
		return owner, op
	case "confirm":
		return owner, &confirmOp{Confirm: Confirm{Owner: owner, Hold: w.drawRef(owner)}}
	case "cancel":
		op := &cancelOp{Cancel: Cancel{owner, w.drawRef(owner)}}
		if op.tombstone = op.Hold.HoldID; op.tombstone == (id.ID{}) {
			op.tombstone = w.mint(id.Hold, owner)
		}
		return owner, op
	case "grown":
		return owner, w.drawGrown(owner)
	}
	return owner, expireOp{}
}

// often has operations as often as they should be drawn.
var often = shuffled(map[string]int{
	"issue": 4, "credit": 4, "again": 1, "hold": 8, "confirm": 4, "cancel": 1, "grown": 14, "expire": 1,
})

// pick draws one of a list, each as likely as the others. What rapid draws by itself prefers what is simple, and then whole operations
// never come.
func pick[T any](w *walk, of ...T) T { return of[w.dice.IntN(len(of))] }

// shuffled lists words as often as the map says.
func shuffled(often map[string]int) (words []string) {
	for len(often) > 0 {
		for _, word := range slices.Sorted(maps.Keys(often)) {
			words = append(words, word)
			if often[word]--; often[word] == 0 {
				delete(often, word)
			}
		}
	}
	return words
}

// again sends a request once more under another key: it gets another id.
func (w *walk) again(body any) (string, any) {
	switch op := body.(type) {
	case *issueOp:
		again := *op
		again.id = w.mint(id.Coupon, op.Owner)
		return op.Owner, &again
	case *creditOp:
		again := *op
		again.id = w.mint(id.Lot, op.Owner)
		return op.Owner, &again
	}
	panic("only issues and credits are kept")
}

func (w *walk) drawIssue(owner string) *issueOp {
	w.ref++
	d := fixed(1 + w.dice.Int64N(40))
	if pick(w, true, false) {
		d = percent(1+w.dice.Int64N(wholeBasisPoints), w.dice.Int64N(51))
	}
	d.MinSpend = w.dice.Int64N(60)
	if w.dice.IntN(10) == 0 {
		d.Currency = "USD"
	}
	op := &issueOp{id: w.mint(id.Coupon, owner), IssueCoupon: IssueCoupon{
		Owner: owner, CampaignID: "spring", IssueRef: fmt.Sprintf("r%d", w.ref), Discount: d, ExpiresAt: w.drawEnd(),
		Terms: w.drawTerms(),
	}}
	if w.dice.IntN(6) == 0 {
		op.ValidFrom = w.at.Add(5 * time.Second)
	}
	w.coupons = append(w.coupons, op.id)
	w.refs = append(w.refs, op)
	return op
}

func (w *walk) drawCredit(owner string) *creditOp {
	w.ref++
	op := &creditOp{id: w.mint(id.Lot, owner), CreditLot: CreditLot{
		Owner: owner, IssueRef: fmt.Sprintf("r%d", w.ref), Source: "spring", Tag: pick(w, "", "x"),
		Amount:      Money{1 + w.dice.Int64N(200), pick(w, "CNY", "CNY", "CNY", "CNY", "USD")},
		ExpiresAt:   w.drawEnd(),
		RefundGrace: pick(w, 0, 0, time.Minute),
	}}
	w.lotIDs = append(w.lotIDs, op.id)
	w.refs = append(w.refs, op)
	return op
}

func (w *walk) drawEnd() time.Time {
	return w.at.Add(pick(w, time.Hour, time.Hour, time.Hour, time.Hour, time.Minute, time.Minute, 10*time.Second, 0))
}

func (w *walk) drawHold(owner string) *holdOp {
	h := Hold{
		Owner: owner, OrderID: fmt.Sprintf("o%d", w.dice.IntN(30)),
		Attempt: 1 + w.dice.IntN(3),
		TTL:     pick(w, time.Minute, time.Minute, 10*time.Second, time.Second),
	}
	if pick(w, true, false) {
		h.HoldID = w.mint(id.Hold, owner)
	}
	for i := range pick(w, 0, 2, 3, 4) {
		h.Lines = append(h.Lines, Line{fmt.Sprintf("l%d", i), cny(w.dice.Int64N(61))})
	}
	for range 1 + w.dice.IntN(3) {
		h.Items = append(h.Items, w.drawItem())
	}
	h.OverCapture = pick(w, int64(0), 10, 40)
	if validateHold(Caller{Key: "k"}, &h) != nil { // e.g. a coupon without lines, or one twice
		h.Lines, h.Items, h.OverCapture = nil, []Item{money(5)}, 0
	}
	w.holds = append(w.holds, h)
	op := &holdOp{Hold: h, id: h.HoldID, hash: requestHash(fingerprintHold(&h))}
	op.count(h.Items)
	if op.id == (id.ID{}) {
		op.id = w.mint(id.Hold, owner)
	}
	return op
}

func (w *walk) drawItem() Item {
	switch {
	case w.units && pick(w, true, false, false):
		return Item{Kind: StockItem, SKU: pick(w, "cup", "mug"), Location: "here", Quantity: 1 + w.dice.Int64N(3)}
	case w.units && pick(w, true, false, false):
		return Item{Kind: BudgetItem, CampaignID: "spring", Amount: w.drawAmount()}
	}
	if len(w.coupons) > 0 && pick(w, true, false) {
		return Item{Kind: CouponItem, CouponID: pick(w, w.coupons[max(0, len(w.coupons)-4):]...)}
	}
	it := money(1 + w.dice.Int64N(40))
	it.Tag = pick(w, "", "", "", "x")
	if it.All = pick(w, true, false, false); it.All {
		it.Amount.Amount = 0
	}
	return it
}

// drawRef names a hold that was asked for before, by any owner, or one that nobody has asked for.
func (w *walk) drawRef(owner string) HoldRef {
	if len(w.holds) == 0 || w.dice.IntN(20) == 0 {
		return HoldRef{HoldID: w.mint(id.Hold, owner)}
	}
	of := slices.DeleteFunc(slices.Clone(w.holds), func(h Hold) bool { return h.Owner != owner })
	if len(of) == 0 || w.dice.IntN(20) == 0 {
		of = w.holds
	}
	h := pick(w, of[max(0, len(of)-5):]...)
	return refOfHold(&h)
}

// TestC31Walk applies random operations and checks every invariant after each.
func TestC31Walk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { newWalk(t, newDesk(tbOf(t))).check(t) })
}

// TestC31WalkOfUnits does so with holds of stock and budgets, while units come and go.
func TestC31WalkOfUnits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { walkOfUnits(newDesk(tbOf(t)), rapid.Uint64().Draw(t, "seed")).check(t) })
}

func (w *walk) check(t *rapid.T) {
	final := map[id.ID]State{}
	for range rapid.IntRange(1, 120).Draw(t, "steps") {
		owner, body := w.draw()
		before := w.picture()
		version := w.owner(shard.BucketOf(owner), owner).ver
		r := w.do(owner, body)
		w.checkReply(t, owner, body, r, version, before)
		if wrong := w.invariants(); len(wrong) > 0 {
			t.Fatalf("after %T %+v: %s", body, body, strings.Join(wrong, "\n"))
		}
		for _, h := range w.state.holds {
			if was, ok := final[h.id]; ok && was != h.state {
				t.Fatalf("I3: hold %s was %s and is %s", h.id, was, h.state)
			}
			if h.state != Held {
				final[h.id] = h.state
			}
		}
	}
}

// tbOf lets a rapid test use helpers of the desk, which only fail.
func tbOf(t *rapid.T) testing.TB { return rapidTB{TB: &testing.T{}, t: t} }

type rapidTB struct {
	testing.TB
	t *rapid.T
}

func (r rapidTB) Helper()                      {}
func (r rapidTB) Fatal(args ...any)            { r.t.Fatal(args...) }
func (r rapidTB) Fatalf(f string, args ...any) { r.t.Fatalf(f, args...) }

// picture is what of the assets a refused operation must not touch: it may only write down what has expired.
type picture struct {
	lots    map[id.ID]LotCounters
	coupons map[id.ID]string
}

func (d *desk) picture() picture {
	p := picture{map[id.ID]LotCounters{}, map[id.ID]string{}}
	for i, l := range d.lots {
		p.lots[i] = l.LotCounters
	}
	for i, c := range d.coupons {
		p.coupons[i] = c.state
	}
	return p
}

// checkReply checks what can be said of a reply without knowing what it should be.
func (w *walk) checkReply(t *rapid.T, owner string, body any, r shard.Reply, version int64, before picture) {
	o := w.owners[owner]
	if o.ver != version && o.ver != version+1 {
		t.Fatalf("the version went from %d to %d in one operation", version, o.ver)
	}
	if r.Verdict == shard.Done {
		w.checkBytes(t, o, body, r)
		return
	}
	_, known := errors.AsType[*shortage](r.Err)
	for _, one := range []error{errUnchanged, ErrKeyReused, ErrInvalid} {
		known = known || errors.Is(r.Err, one)
	}
	if refusalOf(w.tb, r) == nil && !known {
		t.Fatalf("%T %+v: %v %s %v", body, body, r.Verdict, r.Body, r.Err)
	}
	for i, was := range before.lots {
		is := w.lots[i].LotCounters
		if is.Spent != was.Spent || is.Held > was.Held || is.Available+is.Expired != was.Available+was.Expired+was.Held-is.Held {
			t.Fatalf("refused, but lot %s went from %+v to %+v", i, was, is)
		}
	}
	for i, was := range before.coupons {
		is := w.state.coupons[i].state
		if is != was && is != couponExpired && (was != couponHeld || is != couponAvailable) {
			t.Fatalf("refused, but coupon %s went from %s to %s", i, was, is)
		}
	}
	if len(w.lots) != len(before.lots) || len(w.state.coupons) != len(before.coupons) {
		t.Fatal("refused, but there is a new asset")
	}
}

// checkBytes compares a reply byte by byte with what encoding/json makes of the same reply.
func (w *walk) checkBytes(t *rapid.T, o *ownerRow, body any, r shard.Reply) {
	var version int64
	switch body.(type) {
	case *issueOp:
		version = reencode[CouponReply](t, r.Body).Version
	case *creditOp:
		reply := reencode[LotReply](t, r.Body)
		version = reply.Version
		w.checkBalances(t, o, reply.Balances)
	case expireOp, *borrowOp, *giveBackOp, *landOp:
		return
	case *setQuotaOp, *adjustQuotaOp:
		version = reencode[QuotaReply](t, r.Body).Version
	case *refundOp:
		reply := reencode[RefundReply](t, r.Body)
		version = reply.Version
		w.checkBalances(t, o, reply.Balances)
	case *adjustOp, *decideAdjustmentOp:
		reply := reencode[AdjustmentReply](t, r.Body)
		version = reply.Version
		w.checkBalances(t, o, reply.Balances)
	case *freezeOp:
		version = reencode[FreezeReply](t, r.Body).Version
	case *revokeOp:
		if bytes.HasPrefix(r.Body, []byte(`{"coupon"`)) {
			version = reencode[CouponReply](t, r.Body).Version
		} else {
			version = reencode[LotReply](t, r.Body).Version
		}
	default:
		reply := reencode[HoldReply](t, r.Body)
		version = reply.Version
		w.checkBalances(t, o, reply.Balances)
	}
	if version != o.ver {
		t.Fatalf("the reply has version %d, the owner %d", version, o.ver)
	}
}

func reencode[T any](t *rapid.T, body []byte) (reply T) {
	if err := json.Unmarshal(body, &reply); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	want, err := json.Marshal(reply)
	if err != nil || !bytes.Equal(want, body) {
		t.Fatalf("%s\nis not what encoding/json writes:\n%s %v", body, want, err)
	}
	return reply
}

// checkBalances computes a balance anew: what has expired is not available, written down or not.
func (w *walk) checkBalances(t *rapid.T, o *ownerRow, balances []Balance) {
	for _, b := range balances {
		want := Balance{Currency: b.Currency}
		for _, i := range slices.SortedFunc(maps.Keys(w.lots), compareIDs) {
			l := w.lots[i]
			if l.owner != o || l.currency != b.Currency {
				continue
			}
			want.Held += l.Held
			if l.expiresAt > w.now {
				want.Available += l.Available
			}
		}
		if b != want {
			t.Fatalf("balance %+v, want %+v", b, want)
		}
	}
}
