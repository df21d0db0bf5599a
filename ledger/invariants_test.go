package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
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
		for _, it := range body.Items {
			for _, share := range it.Lots {
				switch h.state {
				case Held:
					held[share.LotID] += share.Amount
				case Confirmed:
					spent[share.LotID] += share.Amount
				case None, Cancelled, Expired:
				}
			}
			if it.Kind != CouponItem {
				continue
			}
			owners := map[State]map[string]id.ID{Held: holder, Confirmed: user}[h.state]
			if owners != nil {
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
	return append(wrong, d.wrongHistory()...)
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
		if it.Amount != nil {
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
		if err := record.body(d.codec, &entry); err != nil || len(entry.Changes) == 0 {
			wrong = append(wrong, fmt.Sprintf("entry %d of %s: %s %v", e.seq, e.owner.name, e.doc, err))
		}
		for _, change := range entry.Changes {
			if change.After != nil {
				last[change.LotID] = *change.After
			} else {
				states[change.CouponID] = change.To
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
		if told := last[d.codec.Text(id.Lot, l.id)]; told.Spent != l.Spent || told.Expired != l.Expired {
			wrong = append(wrong, fmt.Sprintf("the history says %+v, the lot %+v", told, l.LotCounters))
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

// walk draws operations on two owners: few assets, few orders and few distinct times, so that they meet.
type walk struct {
	*desk
	coupons []id.ID
	holds   []Hold
	refs    []any // issues and credits made before, to be sent again
	units   bool  // holds take stock, too; see drawUnits
	seqs    map[string]int64
}

func (w *walk) draw(t *rapid.T) (owner string, body any) {
	owner = rapid.SampledFrom([]string{"u1", "u2"}).Draw(t, "owner")
	w.at = w.at.Add(rapid.SampledFrom([]time.Duration{0, 0, time.Second, 10 * time.Second}).Draw(t, "later"))
	switch rapid.IntRange(0, 9).Draw(t, "operation") {
	case 0, 1:
		return owner, w.drawIssue(t, owner)
	case 2:
		return owner, w.drawCredit(t, owner)
	case 3:
		if len(w.refs) > 0 {
			return w.again(rapid.SampledFrom(w.refs).Draw(t, "again"))
		}
		return owner, expireOp{}
	case 4, 5, 6:
		return owner, w.drawHold(t, owner)
	case 7:
		return owner, &confirmOp{Confirm{owner, w.drawRef(t, owner)}}
	case 8:
		op := &cancelOp{Cancel: Cancel{owner, w.drawRef(t, owner)}}
		if op.tombstone = op.Hold.HoldID; op.tombstone == (id.ID{}) {
			op.tombstone = w.mint(id.Hold, owner)
		}
		return owner, op
	}
	if w.units {
		return w.drawUnits(t)
	}
	return owner, expireOp{}
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

func (w *walk) drawIssue(t *rapid.T, owner string) *issueOp {
	w.ref++
	d := fixed(rapid.Int64Range(1, 200).Draw(t, "amount"))
	if rapid.Bool().Draw(t, "percent") {
		d = percent(rapid.Int64Range(1, wholeBasisPoints).Draw(t, "points"), rapid.Int64Range(0, 50).Draw(t, "cap"))
	}
	d.MinSpend = rapid.Int64Range(0, 60).Draw(t, "min")
	if rapid.IntRange(0, 9).Draw(t, "currency") == 0 {
		d.Currency = "USD"
	}
	op := &issueOp{id: w.mint(id.Coupon, owner), IssueCoupon: IssueCoupon{
		Owner: owner, CampaignID: "spring", IssueRef: fmt.Sprintf("r%d", w.ref), Discount: d, ExpiresAt: w.drawEnd(t),
	}}
	if rapid.IntRange(0, 5).Draw(t, "from") == 0 {
		op.ValidFrom = w.at.Add(5 * time.Second)
	}
	w.coupons = append(w.coupons, op.id)
	w.refs = append(w.refs, op)
	return op
}

func (w *walk) drawCredit(t *rapid.T, owner string) *creditOp {
	w.ref++
	op := &creditOp{id: w.mint(id.Lot, owner), CreditLot: CreditLot{
		Owner: owner, IssueRef: fmt.Sprintf("r%d", w.ref), Source: "spring", Tag: rapid.SampledFrom([]string{"", "x"}).Draw(t, "tag"),
		Amount:    Money{rapid.Int64Range(1, 50).Draw(t, "amount"), rapid.SampledFrom([]string{"CNY", "CNY", "USD"}).Draw(t, "currency")},
		ExpiresAt: w.drawEnd(t),
	}}
	w.refs = append(w.refs, op)
	return op
}

func (w *walk) drawEnd(t *rapid.T) time.Time {
	return w.at.Add(rapid.SampledFrom([]time.Duration{0, 10 * time.Second, time.Minute, time.Hour}).Draw(t, "ends"))
}

func (w *walk) drawHold(t *rapid.T, owner string) *holdOp {
	h := Hold{
		Owner: owner, OrderID: rapid.SampledFrom([]string{"o1", "o2", "o3", "o4"}).Draw(t, "order"),
		Attempt: rapid.IntRange(1, 3).Draw(t, "attempt"),
		TTL:     rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Second, time.Minute}).Draw(t, "ttl"),
	}
	if rapid.Bool().Draw(t, "minted") {
		h.HoldID = w.mint(id.Hold, owner)
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "lines") {
		h.Lines = append(h.Lines, Line{fmt.Sprintf("l%d", i), cny(rapid.Int64Range(0, 40).Draw(t, "line"))})
	}
	for range rapid.IntRange(1, 3).Draw(t, "items") {
		h.Items = append(h.Items, w.drawItem(t))
	}
	if validateHold(Caller{Key: "k"}, &h) != nil { // e.g. a coupon without lines, or one twice
		h.Lines, h.Items = nil, []Item{money(5)}
	}
	w.holds = append(w.holds, h)
	op := &holdOp{Hold: h, id: h.HoldID, hash: requestHash(fingerprintHold(&h))}
	op.count(h.Items)
	if op.id == (id.ID{}) {
		op.id = w.mint(id.Hold, owner)
	}
	return op
}

func (w *walk) drawItem(t *rapid.T) Item {
	if len(w.coupons) > 0 && rapid.Bool().Draw(t, "coupon item") {
		return Item{Kind: CouponItem, CouponID: rapid.SampledFrom(w.coupons).Draw(t, "coupon")}
	}
	if w.units && rapid.Bool().Draw(t, "stock item") {
		return Item{
			Kind: StockItem, SKU: rapid.SampledFrom([]string{"cup", "mug"}).Draw(t, "sku"), Location: "here",
			Quantity: rapid.Int64Range(1, 3).Draw(t, "quantity"),
		}
	}
	it := money(rapid.Int64Range(1, 60).Draw(t, "money"))
	it.Tag = rapid.SampledFrom([]string{"", "", "x"}).Draw(t, "of tag")
	if it.All = rapid.IntRange(0, 2).Draw(t, "all") == 0; it.All {
		it.Amount.Amount = 0
	}
	return it
}

// drawRef names a hold that was asked for before, by any owner, or one that nobody has asked for.
func (w *walk) drawRef(t *rapid.T, owner string) HoldRef {
	if len(w.holds) == 0 || rapid.IntRange(0, 9).Draw(t, "unknown") == 0 {
		return HoldRef{HoldID: w.mint(id.Hold, owner)}
	}
	h := rapid.SampledFrom(w.holds).Draw(t, "hold")
	if h.HoldID != (id.ID{}) {
		return HoldRef{HoldID: h.HoldID}
	}
	return HoldRef{OrderID: h.OrderID, Attempt: h.Attempt}
}

// TestC31Walk applies random operations and checks every invariant after each.
func TestC31Walk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &walk{desk: newDesk(tbOf(t))}
		final := map[id.ID]State{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			owner, body := w.draw(t)
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
	})
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
	if refusalOf(w.tb, r) == nil && !strings.Contains(fmt.Sprint(r.Err), "the key belongs to a request") {
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
	case expireOp:
		return
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
