package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// A home never lends more than it has, what is needed comes first, and without need a shard gets no more than a share.
func TestLend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.OneOf(rapid.Int64Range(0, 20), rapid.Int64Range(0, MaxAmount))
		free, need, want := number.Draw(t, "free")+1, number.Draw(t, "need"), number.Draw(t, "want")
		shards := rapid.IntRange(1, 100).Draw(t, "shards")
		got := lend(free, need, want, shards)
		switch {
		case got < 0 || got > free:
			t.Errorf("%d of %d", got, free)
		case got < min(need, free):
			t.Errorf("%d though %d are needed and %d free", got, need, free)
		case got > max(need, want):
			t.Errorf("%d though %d are needed and %d wanted", got, need, want)
		case got > need && (got-1)*2*int64(shards) >= free:
			t.Errorf("%d is more than a share of %d among %d", got, free, shards)
		}
	})
}

// Demand is about what was taken per time lately, and stays a number whatever happens.
func TestDemand(t *testing.T) {
	at := epoch.UnixMicro()
	d := demand{sinceAt: at}
	if d.within(time.Second, at) != 0 {
		t.Error("a slice that nobody took from has demand")
	}
	for range 1000 { // a hundred per second, for ten seconds
		at += 10_000
		d.add(1, at)
	}
	if n := d.within(time.Second, at); n < 95 || n > 105 {
		t.Errorf("%d a second, not 100", n)
	}
	at += time.Minute.Microseconds()
	if n := d.within(time.Second, at); n > 10 {
		t.Errorf("%d a second after a minute without", n)
	}
	rapid.Check(t, func(t *rapid.T) {
		d, at := demand{}, int64(0)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			at += rapid.Int64Range(-1000, time.Hour.Microseconds()).Draw(t, "later")
			d.add(rapid.Int64Range(1, MaxAmount).Draw(t, "units"), at)
			if n := d.within(time.Second, at); n < 0 || n > MaxAmount || d.taken < 0 || d.taken > MaxAmount {
				t.Fatalf("%+v shows %d", d, n)
			}
		}
	})
}

func TestQuotaIDs(t *testing.T) {
	for text, kind := range map[string]QuotaKind{
		"stock:a:b": StockQuota, "budget:c": BudgetQuota, "coupons:c:1": CountQuota,
		"stock:a": "", "stock::b": "", "stock:a:": "", "stock:a:b:c": "", "budget:": "", "money:c": "", "budget": "", "stock:a/b:c": "", "": "",
	} {
		got, _, ok := ParseQuotaID(text)
		if ok != (kind != "") || ok && got != kind {
			t.Errorf("%q: %q %v", text, got, ok)
		}
	}
}

const mugs = "stock:mug:here"

// lending returns a desk whose home has 100 mugs, and the transfer of 10 to shard 2.
func lending(t *testing.T) (*desk, transfer) {
	t.Helper()
	d := newDesk(t)
	set := &setQuotaOp{SetQuota: SetQuota{Quota: mugs, Total: 100}}
	if r := d.do(mugs, set); r.Verdict != shard.Done {
		t.Fatalf("%+v", r)
	}
	op := d.borrow(10)
	if op.told.transfer.amount != 10 || op.told.transfer.seq != 1 {
		t.Fatalf("%+v", op.told)
	}
	return d, op.told.transfer
}

func (d *desk) borrow(need int64) *borrowOp {
	d.tb.Helper()
	op := &borrowOp{lack: lack{quota: mugs, need: need, least: need}, shard: 2, shards: 4, id: d.mint(id.Transfer, mugs)}
	d.do(mugs, op)
	return op
}

func (d *desk) onSlice(body any) shard.Reply {
	return d.apply(&shard.Op{Owner: slicesOwner, Bucket: 7, Body: body}, d.at)
}

// A transfer is in once, however often it comes, and not before the one before it: what is missing would look as if it were in.
func TestTransfersLandOnce(t *testing.T) {
	d, first := lending(t)
	second := first
	second.seq = 2
	if r := d.onSlice(&landOp{second}); !errors.Is(r.Err, shard.ErrInternal) || d.slices[mugs] != nil {
		t.Errorf("the second came first: %+v %+v", r, d.slices[mugs])
	}
	for range 3 {
		d.onSlice(&landOp{first})
	}
	if r := d.slices[mugs]; r.Available != 10 || r.granted != 10 || r.inSeq != 1 {
		t.Errorf("%+v", r)
	}
	back := &giveBackOp{quota: mugs, shard: 2, amount: 4, id: d.mint(id.Transfer, "x")}
	d.onSlice(back)
	for range 3 {
		d.do(mugs, &landOp{back.told.transfer})
	}
	if h := d.homes[mugs]; h.free != 94 || h.grant(2).granted != 6 || d.slices[mugs].Available != 6 {
		t.Errorf("%+v %+v", h, d.slices[mugs])
	}
}

// While a transfer is under way, whoever wants another one is told of it. Closing is safe to repeat.
func TestOneTransferAtATime(t *testing.T) {
	d, first := lending(t)
	if again := d.borrow(5); again.told.transfer != first || d.homes[mugs].free != 90 {
		t.Errorf("%+v, %d free", again.told, d.homes[mugs].free)
	}
	d.onSlice(&landOp{first})
	for range 2 {
		d.do(mugs, &closeOp{first})
	}
	if next := d.borrow(5); next.told.transfer.seq != 2 || d.homes[mugs].free != 85 {
		t.Errorf("%+v", next.told)
	}
	one := &giveBackOp{quota: mugs, shard: 2, amount: 4, id: d.mint(id.Transfer, "x")}
	two := &giveBackOp{quota: mugs, shard: 2, amount: 4, id: d.mint(id.Transfer, "x")}
	d.onSlice(one)
	d.onSlice(two)
	if two.told.transfer != one.told.transfer || d.slices[mugs].Available != 6 {
		t.Errorf("%+v %+v", two.told, d.slices[mugs])
	}
}

// A home does not lend what helps nobody: it tells what there is instead.
func TestTooLittleStaysHome(t *testing.T) {
	d, _ := lending(t)
	d.homes[mugs].grants[0].out = nil
	if op := d.borrow(91); op.told.transfer.seq != 0 || op.told.free != 90 || len(op.told.shards) != 1 || d.homes[mugs].free != 90 {
		t.Errorf("%+v", op.told)
	}
	if op := (&borrowOp{lack: lack{quota: "stock:no:where"}, shard: 2, shards: 1}); d.do("stock:no:where", op).Err == nil || !op.told.unknown {
		t.Errorf("%+v", op.told)
	}
}

// walkOfUnits is a walk whose holds take units of quotas, too.
func walkOfUnits(d *desk, seed uint64) *walk {
	return &walk{
		desk: d, dice: rand.New(rand.NewPCG(seed, 0)), frozen: map[string]bool{}, units: true, seqs: map[string]int64{},
	}
}

// drawUnits draws an operation on the home or on the slice of a quota, both on one shard. The transfers are made up: what lands here is
// sent nowhere.
func (w *walk) drawUnits() (owner string, body any) {
	quota, currency := StockID(pick(w, "cup", "mug"), "here"), ""
	if pick(w, true, false, false) {
		quota, currency = BudgetID("spring"), "CNY"
	}
	amount := 1 + w.dice.Int64N(9)
	minted := w.mint(id.Transfer, quota)
	switch w.dice.IntN(8) {
	case 0:
		return quota, &setQuotaOp{
			SetQuota: SetQuota{Quota: quota, Total: 10 * amount, Currency: currency, Reason: "\"counted\""}, gathered: amount > 4,
		}
	case 1:
		return quota, &adjustQuotaOp{AdjustQuota: AdjustQuota{Quota: quota, Delta: amount - 5}, gathered: true}
	case 2:
		return quota, &borrowOp{lack: lack{quota: quota, need: amount, least: 1}, shard: int(amount) % 3, shards: 2, id: minted}
	case 3:
		return slicesOwner, &giveBackOp{quota: quota, shard: 1, amount: amount - 1, id: minted}
	}
	if amount > 2 { // or else it comes again
		w.seqs[quota]++
	}
	return slicesOwner, &landOp{transfer{
		id: minted, kind: transferGrant, quota: quota, shard: 1, seq: max(w.seqs[quota], 1), amount: 3 * amount, currency: currency,
	}}
}

// wrongUnits checks the books of homes and slices against the documents of the holds.
func (d *desk) wrongUnits() (wrong []string) {
	held, used := map[string]int64{}, map[string]int64{}
	for _, h := range d.holds {
		var body HoldBody
		if len(h.doc) == 0 || json.Unmarshal(h.doc, &body) != nil {
			continue
		}
		for i := range body.Items {
			it, part := &body.Items[i], partOf(h, &body, i)
			quota := map[ItemKind]string{StockItem: "stock:" + it.SKU + ":" + it.Location, BudgetItem: "budget:" + it.CampaignID}[it.Kind]
			if used[quota] += part.Confirmed; h.state == Held {
				held[quota] += sizeOf(it) - part.Confirmed
			}
		}
	}
	for quota, r := range d.slices {
		if r.granted != r.Available+r.Held+r.Used || min(r.Available, r.Held, r.Used) < 0 || r.Held != held[quota] || r.Used != used[quota] {
			wrong = append(wrong, fmt.Sprintf("I2: %+v, but live holds have %d and confirmed ones %d", r, held[quota], used[quota]))
		}
	}
	for _, h := range d.homes {
		sum := h.free
		for _, g := range h.grants {
			sum += g.granted
		}
		if sum != h.total || h.free < 0 {
			wrong = append(wrong, fmt.Sprintf("I2: %+v sums up to %d", h, sum))
		}
	}
	return wrong
}
