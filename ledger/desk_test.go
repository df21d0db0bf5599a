package ledger

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// desk applies operations to rows in memory, one after the other, at a time that the test sets. It has the rows of all owners,
// as if everything had been loaded.
type desk struct {
	*state
	tb     testing.TB
	at     time.Time
	minter *id.Minter
	ref    int
}

// epoch is when tests begin.
var epoch = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func testCodec() *id.Codec {
	codec, err := id.NewCodec(map[uint8][]byte{1: []byte("statesvc-test-key-0123456789abcd")}, 1)
	if err != nil {
		panic(err)
	}
	return codec
}

func newDesk(tb testing.TB) *desk {
	tb.Helper()
	codec := testCodec()
	minter := id.NewMinter(codec, func() time.Time { return epoch })
	minter.Use(id.Grant{Node: 5, Mark: epoch.Add(time.Hour)})
	d := &desk{state: newState(codec, 16), tb: tb, at: epoch, minter: minter}
	d.lookedUp = true
	return d
}

func (d *desk) mint(kind id.Kind, owner string) id.ID {
	d.tb.Helper()
	minted, err := d.minter.Mint(kind, uint16(shard.BucketOf(owner)), 1)
	if err != nil {
		d.tb.Fatal(err)
	}
	return minted
}

// do applies an operation.
func (d *desk) do(owner string, body any) shard.Reply {
	return d.apply(&shard.Op{Owner: owner, Bucket: shard.BucketOf(owner), Body: body}, d.at)
}

// hold submits a request as Ledger.Hold does.
func (d *desk) hold(h Hold) shard.Reply {
	d.tb.Helper()
	if h.HoldID != (id.ID{}) {
		return d.holdAs(h, h.HoldID)
	}
	return d.holdAs(h, d.mint(id.Hold, h.Owner))
}

// holdAs is hold with the id that a new hold gets.
func (d *desk) holdAs(h Hold, as id.ID) shard.Reply {
	d.tb.Helper()
	if err := validateHold(Caller{Key: "k"}, &h); err != nil {
		d.tb.Fatal(err)
	}
	op := &holdOp{Hold: h, id: as, hash: requestHash(fingerprintHold(&h))}
	op.count(h.Items)
	return d.do(h.Owner, op)
}

// confirm and cancel are those of u1.
func (d *desk) confirm(hold id.ID) shard.Reply {
	return d.do("u1", &confirmOp{Confirm: Confirm{Owner: "u1", Hold: HoldRef{HoldID: hold}}})
}

func (d *desk) cancel(hold id.ID) shard.Reply {
	return d.do("u1", &cancelOp{Cancel: Cancel{Owner: "u1", Hold: HoldRef{HoldID: hold}}, tombstone: hold})
}

// issue gives owner a coupon that ends an hour from now.
func (d *desk) issue(owner string, discount Discount) *couponRow {
	d.tb.Helper()
	d.ref++
	op := &issueOp{
		IssueCoupon: IssueCoupon{
			Owner: owner, CampaignID: "spring", IssueRef: refOf(d.ref), Discount: discount, ExpiresAt: d.at.Add(time.Hour),
		},
		id: d.mint(id.Coupon, owner),
	}
	if r := d.do(owner, op); r.Verdict != shard.Done {
		d.tb.Fatalf("issue: %s %v", r.Body, r.Err)
	}
	return d.coupons[op.id]
}

// credit gives owner CNY that end ttl from now.
func (d *desk) credit(owner string, amount int64, ttl time.Duration, tag string) *lotRow {
	d.tb.Helper()
	d.ref++
	op := &creditOp{
		CreditLot: CreditLot{
			Owner: owner, IssueRef: refOf(d.ref), Source: "spring", Tag: tag, Amount: cny(amount), ExpiresAt: d.at.Add(ttl),
		},
		id: d.mint(id.Lot, owner),
	}
	if r := d.do(owner, op); r.Verdict != shard.Done {
		d.tb.Fatalf("credit: %s %v", r.Body, r.Err)
	}
	return d.lots[op.id]
}

func refOf(n int) string { return "ref-" + string(rune('a'+n/26)) + string(rune('a'+n%26)) }

// take returns a hold of owner for an order that costs 100 and 50.
func (d *desk) take(owner string, items ...Item) Hold {
	d.ref++
	return Hold{
		Owner: owner, OrderID: refOf(d.ref), Attempt: 1, HoldID: d.mint(id.Hold, owner), TTL: time.Minute, Items: items,
		Lines: []Line{{"l1", cny(100)}, {"l2", cny(50)}},
	}
}

func cny(amount int64) Money { return Money{amount, "CNY"} }

func money(amount int64) Item { return Item{Kind: MoneyItem, Amount: cny(amount)} }

func allMoney() Item { return Item{Kind: MoneyItem, Amount: cny(0), All: true} }

func (c *couponRow) item() Item { return Item{Kind: CouponItem, CouponID: c.id} }

func fixed(amount int64) Discount { return Discount{Kind: Fixed, Currency: "CNY", Amount: amount} }

func percent(points, limit int64) Discount {
	return Discount{Kind: Percent, Currency: "CNY", BasisPoints: points, Cap: limit}
}

// refusalOf reads a refusal, pinned or not; nil if the operation was done.
func refusalOf(tb testing.TB, r shard.Reply) *Refusal {
	tb.Helper()
	if refused, ok := r.Err.(*Refusal); ok { //nolint:errorlint // apply does not wrap it
		return refused
	}
	if r.Verdict != shard.Refused {
		return nil
	}
	refused, err := decodeRefusal(r.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return refused
}

func wantCode(tb testing.TB, r shard.Reply, want error) {
	tb.Helper()
	refused := refusalOf(tb, r)
	if refused == nil || refused.Reason != want { //nolint:errorlint // the sentinels themselves
		tb.Fatalf("%v %s %v, want %v", r.Verdict, r.Body, r.Err, want)
	}
}

func wantDone[T any](tb testing.TB, r shard.Reply) (body T) {
	tb.Helper()
	if r.Verdict != shard.Done {
		tb.Fatalf("%v %s %v, want DONE", r.Verdict, r.Body, r.Err)
	}
	if err := json.Unmarshal(r.Body, &body); err != nil {
		tb.Fatalf("%s: %v", r.Body, err)
	}
	return body
}
