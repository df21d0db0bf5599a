package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard/id"
)

// LedgerOptions are the sizes of `bench ledger`.
type LedgerOptions struct {
	Seconds   int // of each load
	Coupons   int // of the large owner
	Lots      int
	LiveHolds int64 // on the one SKU
}

// LedgerResult is what `bench ledger` ends with.
type LedgerResult struct {
	Claims, Grabs, Refunds float64 // per second
	LargeOwnerRatio        float64 // latency of a hold of the large owner to that of one with ten coupons and lots
	LiveHoldsRatio         float64 // latency of a hold of a SKU that very many live holds have to that of one that few have
	ListingsRatio          float64 // the same of what lists holds, and of a read of the quota
}

const (
	smallOwner    = 10  // coupons and lots of the owner that the large one is compared with
	latencyRounds = 200 // holds, one at a time
)

// Ledger measures claims, grabs and refunds under load, and the latency of single holds where there is much beside what they need.
func Ledger(ctx context.Context, out io.Writer, o LedgerOptions) (r LedgerResult, err error) {
	f, err := startFleet(ctx, out, "innodb_buffer_pool_size=1G", "innodb_log_file_size=1G")
	if err != nil {
		return r, err
	}
	defer f.close()
	d := time.Duration(o.Seconds) * time.Second
	if r.Claims, err = f.claims(ctx, out, d); err != nil {
		return r, err
	}
	if r.Grabs, err = f.grabs(ctx, out, d); err != nil {
		return r, err
	}
	if r.Refunds, err = f.refunds(ctx, out, d); err != nil {
		return r, err
	}
	if r.LargeOwnerRatio, err = f.largeOwner(ctx, out, o.Coupons, o.Lots); err != nil {
		return r, err
	}
	r.LiveHoldsRatio, r.ListingsRatio, err = f.liveHolds(ctx, out, o.LiveHolds)
	return r, err
}

// claims lets owners who were never here claim a coupon each.
func (f *fleet) claims(ctx context.Context, out io.Writer, d time.Duration) (float64, error) {
	const campaign = "bench-claims"
	_, err := f.in.Ledger.CreateCampaign(ctx, ledger.Caller{Key: campaign}, ledger.Campaign{
		CampaignID: campaign, TimeZone: "Asia/Shanghai",
		Discount: ledger.DiscountBody{Kind: ledger.Fixed, Currency: currency, Amount: &ledger.Money{Amount: 500, Currency: currency}},
		StartsAt: nextYear().AddDate(-2, 0, 0), EndsAt: nextYear(), Validity: ledger.Validity{Kind: ledger.ForDays, Days: 7},
		TotalLimit: 100 * plenty, OwnerLimit: 3, OwnerDayLimit: 1,
	})
	if err != nil {
		return 0, err
	}
	x, err := load(ctx, callers, d, func(ctx context.Context) error {
		owner := f.unique("claimer")
		_, err := f.in.Ledger.Claim(ctx, ledger.Caller{Key: owner}, ledger.Claim{Owner: owner, CampaignID: campaign, ClaimRef: "one"})
		return err
	})
	fmt.Fprintf(out, "  claims from one campaign, limits in all, per owner and day, %d callers     %v\n", callers, x)
	return x.perSecond, err
}

// grabs empties packets, each of a sender of its own. A grab is two owners' writes and a transfer between them.
func (f *fleet) grabs(ctx context.Context, out io.Writer, d time.Duration) (float64, error) {
	var packets [packetSenders]atomic.Pointer[id.ID]
	for i := range packets {
		packet, err := f.packet(ctx)
		if err != nil {
			return 0, err
		}
		packets[i].Store(&packet)
	}
	var next atomic.Int64
	x, err := load(ctx, callers, d, func(ctx context.Context) error {
		place := &packets[next.Add(1)%packetSenders]
		for packet := place.Load(); ; packet = place.Load() {
			err := f.grab(ctx, *packet)
			if !errors.Is(err, ledger.ErrSoldOut) {
				return err
			}
			another, err := f.packet(ctx)
			if err != nil {
				return err
			}
			place.CompareAndSwap(packet, &another)
		}
	})
	fmt.Fprintf(out, "  grabs of shares of %d, from %d packets at a time, %d callers           %v\n",
		ledger.MaxShares, packetSenders, callers, x)
	return x.perSecond, err
}

// grab takes a share for an owner who was never here.
func (f *fleet) grab(ctx context.Context, packet id.ID) error {
	owner := f.unique("grabber")
	answer, err := f.in.Ledger.Grab(ctx, ledger.Caller{Key: owner}, ledger.Grab{Owner: owner, PacketID: packet})
	if err == nil && answer.Pending {
		return fmt.Errorf("the share of %s is still on its way", owner)
	}
	return err
}

const packetSenders = 64

// packet makes a packet of a sender who was never here.
func (f *fleet) packet(ctx context.Context) (id.ID, error) {
	owner := f.unique("sender")
	if err := f.credit(ctx, owner, lotMoney); err != nil {
		return id.ID{}, err
	}
	answer, err := f.in.Ledger.CreatePacket(ctx, ledger.Caller{Key: "packet"}, ledger.CreatePacket{
		Owner: owner, PacketRef: "packet", Amount: ledger.Money{Amount: 100_000, Currency: currency},
		Shares: ledger.MaxShares, Mode: ledger.RandomSplit,
	})
	if err != nil {
		return id.ID{}, err
	}
	var reply ledger.PacketReply
	if err := json.Unmarshal(answer.Body, &reply); err != nil {
		return id.ID{}, fmt.Errorf("read the reply of a packet: %w", err)
	}
	return f.in.Codec.Parse(id.Packet, reply.Packet.PacketID)
}

// refunds gives back, part by part, what holds have confirmed before.
func (f *fleet) refunds(ctx context.Context, out io.Writer, d time.Duration) (float64, error) {
	const parts = 10
	holds := 1_000 * int64(d/time.Second)
	owners := make([]string, holds)
	err := times(ctx, holds, func(ctx context.Context, n int64) (err error) {
		owners[n], err = f.spend(ctx, parts)
		return err
	})
	if err != nil {
		return 0, err
	}
	var next atomic.Int64
	x, err := load(ctx, callers, d, func(ctx context.Context) error {
		n := next.Add(1) - 1
		if n >= holds*parts {
			return errUsedUp
		}
		ref := fmt.Sprintf("part-%d", n/holds)
		_, err := f.in.Ledger.Refund(ctx, ledger.Caller{Key: ref}, ledger.Refund{
			Owner: owners[n%holds], Hold: ledger.HoldRef{OrderID: "order", Attempt: 1}, RefundRef: ref,
			Amount: ledger.Money{Amount: 1, Currency: currency},
		})
		return err
	})
	fmt.Fprintf(out, "  refunds of a part of a confirmed hold, %d callers                        %v\n", callers, x)
	return x.perSecond, err
}

// spend lets an owner who was never here confirm a hold of so much money.
func (f *fleet) spend(ctx context.Context, amount int64) (owner string, err error) {
	owner = f.unique("spender")
	if err := f.credit(ctx, owner, lotMoney); err != nil {
		return owner, err
	}
	_, err = f.in.Ledger.Hold(ctx, ledger.Caller{Key: "hold"}, ledger.Hold{
		Owner: owner, OrderID: "order", Attempt: 1,
		Items: []ledger.Item{{Kind: ledger.MoneyItem, Amount: ledger.Money{Amount: amount, Currency: currency}}},
	})
	if err != nil {
		return owner, err
	}
	_, err = f.in.Ledger.Confirm(ctx, ledger.Caller{Key: "confirm"}, ledger.Confirm{
		Owner: owner, Hold: ledger.HoldRef{OrderID: "order", Attempt: 1},
	})
	return owner, err
}

// largeOwner compares holds of a coupon and money, one at a time and in turns.
func (f *fleet) largeOwner(ctx context.Context, out io.Writer, coupons, lots int) (float64, error) {
	large, ofLarge, err := f.rich(ctx, coupons, lots)
	if err != nil {
		return 0, err
	}
	var of [2][]time.Duration
	for round := 0; round < latencyRounds; {
		small, ofSmall, err := f.rich(ctx, smallOwner, smallOwner)
		if err != nil {
			return 0, err
		}
		for _, coupon := range ofSmall {
			for i, c := range []cart{couponAndMoney(small, coupon), couponAndMoney(large, ofLarge[round])} {
				took, err := took(func() error { return f.hold(ctx, c.owner, c.items...) })
				if err != nil {
					return 0, err
				}
				of[i] = append(of[i], took)
			}
			round++
		}
	}
	few, many := middle(of[0]), middle(of[1])
	fmt.Fprintf(out, "  a hold of an owner with %d coupons and %d lots: p50 %.2f ms; with %d and %d: %.2f ms\n",
		coupons, lots, ms(many), smallOwner, smallOwner, ms(few))
	return float64(many) / float64(few), nil
}

// couponAndMoney takes more money than one lot of rich has.
func couponAndMoney(owner string, coupon id.ID) cart {
	return cart{owner, []ledger.Item{
		{Kind: ledger.CouponItem, CouponID: coupon},
		{Kind: ledger.MoneyItem, Amount: ledger.Money{Amount: 3, Currency: currency}},
	}}
}

// rich makes an owner with coupons and lots, each lot of which has a little more than two holds need.
func (f *fleet) rich(ctx context.Context, coupons, lots int) (owner string, ids []id.ID, err error) {
	owner, ids = f.unique("rich"), make([]id.ID, coupons)
	err = times(ctx, int64(coupons), func(ctx context.Context, n int64) (err error) {
		ids[n], err = f.issue(ctx, owner)
		return err
	})
	return owner, ids, errors.Join(err, times(ctx, int64(lots), func(ctx context.Context, _ int64) error {
		return f.credit(ctx, owner, 7)
	}))
}

func took(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

func middle(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// liveHolds compares single holds of a SKU, and what lists them, before and after very many live holds have some of it.
func (f *fleet) liveHolds(ctx context.Context, out io.Writer, count int64) (holdRatio, listRatio float64, err error) {
	const sku = "many-holds"
	if err := f.stock(ctx, sku, 100*plenty); err != nil {
		return 0, 0, err
	}
	fill := func(count int64) error {
		return times(ctx, count, func(ctx context.Context, _ int64) error { return f.buy(ctx, sku) })
	}
	if err := fill(callers); err != nil {
		return 0, 0, err
	}
	fewHold, fewList, err := f.latencies(ctx, sku)
	if err != nil {
		return 0, 0, err
	}
	if err := fill(count); err != nil {
		return 0, 0, err
	}
	manyHold, manyList, err := f.latencies(ctx, sku)
	if err != nil {
		return 0, 0, err
	}
	fmt.Fprintf(out, "  a hold of a SKU that %d live holds have: p50 %.2f ms; that %d have: %.2f ms\n",
		count, ms(manyHold), callers, ms(fewHold))
	fmt.Fprintf(out, "  its quota, a buyer's holds, and what can be reclaimed of it: p50 %.2f ms; %.2f ms\n", ms(manyList), ms(fewList))
	return float64(manyHold) / float64(fewHold), float64(manyList) / float64(fewList), nil
}

// latencies are those of a hold of a SKU, one at a time, and of what lists its holds.
func (f *fleet) latencies(ctx context.Context, sku string) (hold, list time.Duration, err error) {
	var holds, lists []time.Duration
	piece := ledger.Item{Kind: ledger.StockItem, SKU: sku, Location: warehouse, Quantity: 1}
	for range latencyRounds {
		buyer := f.unique("buyer")
		t, err := took(func() error { return f.hold(ctx, buyer, piece) })
		if err != nil {
			return 0, 0, err
		}
		holds = append(holds, t)
		if t, err = took(func() error { return f.list(ctx, buyer, ledger.StockID(sku, warehouse)) }); err != nil {
			return 0, 0, err
		}
		lists = append(lists, t)
	}
	return middle(holds), middle(lists), nil
}

// list is what operators, buyers and a dry slice ask for.
func (f *fleet) list(ctx context.Context, buyer, quota string) error {
	if _, err := f.in.Ledger.Quota(ctx, quota); err != nil {
		return err
	}
	if _, err := f.in.Ledger.Holds(ctx, buyer, ""); err != nil {
		return err
	}
	const reclaimable = "COUNT(*) FROM (SELECT DISTINCT owner FROM %s.hold_items WHERE quota = ? AND expires_at <= ? LIMIT 256) AS due"
	_, err := f.sum(ctx, reclaimable, quota, time.Now().UnixMicro())
	return err
}
