package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/statesvc/statesvc/client"
)

// A flash sale: 40 buyers at once, 15 pieces. Every piece is sold once, and whoever is too late hears it for good. Nobody tries again under
// another key: sold-out is final.
func Example_flashSale() {
	ctx := context.Background()
	const pieces, buyers = 15, 40
	value(c.SetStock(ctx, client.NewKey(), "phone-x", "berlin", client.QuotaRequest{Total: pieces}))
	var sold, tooLate atomic.Int64
	var sale sync.WaitGroup
	for n := range buyers {
		sale.Go(func() {
			buyer := fmt.Sprintf("flash-%d", n)
			key := client.NewKey() // a shop stores it with the order, before the first attempt
			reply, err := c.Hold(ctx, key, client.HoldRequest{
				Owner: buyer, OrderID: "sale", TTLMs: 300_000, // the piece waits five minutes for the payment
				Items: []client.HoldItemRequest{{Kind: client.StockItem, Sku: "phone-x", Location: "berlin", Quantity: 1}},
			})
			if errors.Is(err, client.ErrSoldOut) {
				tooLate.Add(1)
				return
			}
			must(err)
			// … the payment …
			value(c.Confirm(ctx, client.NewKey(), buyer, reply.Hold.HoldID))
			sold.Add(1)
		})
	}
	sale.Wait()
	stock := value(c.Stock(ctx, "phone-x", "berlin"))
	fmt.Println(sold.Load(), "sold,", tooLate.Load(), "too late")
	fmt.Println("stock:", stock.Used, "used,", stock.Held, "held,", stock.Available, "available")
	// Output:
	// 15 sold, 25 too late
	// stock: 15 used, 0 held, 0 available
}

// A whole checkout: a coupon that was claimed, money from a red packet, and two pairs from the stock, all or nothing. One pair leaves at
// once, the other one cannot be found and goes back, and in the end a line is returned.
func Example_checkout() {
	ctx := context.Background()
	prepareCheckout(ctx)
	coupon := value(c.Claim(ctx, client.NewKey(), "checkout-2026", client.ClaimRequest{Owner: "wilma", ClaimRef: "banner"})).Coupon
	packet := value(c.CreatePacket(ctx, client.NewKey(), client.PacketRequest{
		Owner: "viktor", PacketRef: "birthday", Amount: client.Money{Amount: 2000, Currency: "CNY"}, Shares: 2, Mode: client.EqualSplit,
	})).Packet
	share := value(c.Grab(ctx, client.NewKey(), packet.PacketID, "wilma")).Share
	fmt.Println("a coupon, and a share of", share.Amount.Amount)

	hold := value(c.Hold(ctx, client.NewKey(), client.HoldRequest{
		Owner: "wilma", OrderID: "order-1",
		Lines: []client.LineRequest{
			{LineID: "boots", Amount: client.Money{Amount: 8000, Currency: "CNY"}},
			{LineID: "socks", Amount: client.Money{Amount: 2000, Currency: "CNY"}},
		},
		Items: []client.HoldItemRequest{
			{Kind: client.CouponItem, CouponID: coupon.CouponID},
			{Kind: client.MoneyItem, All: true, Currency: "CNY"},
			{Kind: client.StockItem, Sku: "boots-39", Location: "berlin", Quantity: 2},
		},
	})).Hold
	fmt.Println(hold.State, "discount", hold.Discount.Amount, "left to pay", hold.Payable.Amount)

	// The first parcel: the coupon, most of the money, and one pair.
	hold = value(c.ConfirmPart(ctx, client.NewKey(), hold.HoldID, client.ConfirmRequest{Owner: "wilma", Items: []client.PartRequest{
		{Item: 0, All: true}, {Item: 1, Amount: client.Money{Amount: 800, Currency: "CNY"}}, {Item: 2, Quantity: 1},
	}})).Hold
	fmt.Println(hold.State, "after the first parcel")
	// The other pair is not there: what is left goes back.
	hold = value(c.ConfirmPart(ctx, client.NewKey(), hold.HoldID, client.ConfirmRequest{
		Owner: "wilma", Final: true, Items: []client.PartRequest{{Item: 1, Amount: client.Money{Amount: 100, Currency: "CNY"}}},
	})).Hold
	stock := value(c.Stock(ctx, "boots-39", "berlin"))
	fmt.Println(hold.State, "rest", hold.Rest+",", stock.Used, "used,", stock.Available, "available")

	refund := value(c.Refund(ctx, client.NewKey(), hold.HoldID, client.RefundRequest{
		Owner: "wilma", RefundRef: "return-1", Lines: []string{"socks"},
	})).Refund
	owner := value(c.Owner(ctx, "wilma"))
	fmt.Println("refunded", refund.Amount.Amount, "of", refund.Amount.Amount+refund.Left.Amount)
	fmt.Println("money:", owner.Balances[0].Available, "available,", owner.Balances[0].Held, "held")
	// Output:
	// a coupon, and a share of 1000
	// HELD discount 500 left to pay 8500
	// HELD after the first parcel
	// CONFIRMED rest RELEASED, 1 used, 4 available
	// refunded 180 of 900
	// money: 280 available, 0 held
}

// prepareCheckout makes what the shop has: a campaign, a friend with money, and boots.
func prepareCheckout(ctx context.Context) {
	value(c.CreateCampaign(ctx, client.NewKey(), client.CampaignRequest{
		CampaignID: "checkout-2026", TimeZone: "Europe/Berlin",
		Discount: client.DiscountRequest{Kind: client.Fixed, Amount: client.Money{Amount: 500, Currency: "CNY"}},
		StartsAt: time.Now().Add(-time.Hour), EndsAt: time.Now().AddDate(0, 0, 14),
		Validity: client.Validity{Kind: client.Days, Days: 30}, TotalLimit: 100, OwnerLimit: 1,
	}))
	value(c.CreditLot(ctx, client.NewKey(), "viktor", client.CreditRequest{
		IssueRef: "gift", Source: "spring-2026", Amount: client.Money{Amount: 5000, Currency: "CNY"}, ExpiresAt: time.Now().AddDate(0, 1, 0),
	}))
	value(c.SetStock(ctx, client.NewKey(), "boots-39", "berlin", client.QuotaRequest{Total: 5}))
}
