package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api"
	"github.com/statesvc/statesvc/api/apitest"
	"github.com/statesvc/statesvc/client"
)

// The examples run against a whole instance over SQLite. Together they call every operation of openapi.yaml; TestMain fails
// if one is missing. Every request and every reply must be as openapi.yaml says.

// c is the client of all examples; its key may do everything.
var c *client.Client

// colleague is another administrator, with another key.
var colleague *client.Client

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "statesvc-client-")
	must(err)
	defer func() { must(os.RemoveAll(folder)) }()
	service, err := apitest.Open(folder)
	must(err)
	defer func() { must(service.Close(context.Background())) }()
	must(service.Replicate(context.Background(), 3, time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)))
	must(service.Externalise(context.Background(), 4, "db-1:3306"))
	handler, err := api.New(service.Config)
	must(err)
	calls := newCalls()
	server := httptest.NewServer(calls.note(handler))
	defer server.Close()
	watched := &http.Client{Transport: apitest.Transport(http.DefaultTransport, log.Fatalf)}
	c, err = client.New(client.Options{BaseURL: server.URL, Token: service.Tokens[apitest.All], HTTP: watched})
	must(err)
	colleague, err = client.New(client.Options{BaseURL: server.URL, Token: service.Tokens[access.ScopeAdmin], HTTP: watched})
	must(err)
	code := m.Run()
	if missing := calls.missing(); code == 0 && flag.Lookup("test.run").Value.String() == "" && len(missing) > 0 {
		log.Println("no example calls", missing)
		return 1
	}
	return code
}

// must ends the program: an example has no test to fail.
func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func value[T any](v T, err error) T {
	must(err)
	return v
}

// calls remembers which operations of openapi.yaml were called.
type calls struct {
	mu         sync.Mutex
	operations map[string]*regexp.Regexp // "METHOD path" → what requests look like
	seen       map[string]bool
}

func newCalls() *calls {
	var document struct {
		Paths map[string]map[string]yaml.Node
	}
	must(yaml.Unmarshal(value(os.ReadFile("../openapi.yaml")), &document))
	found := &calls{operations: map[string]*regexp.Regexp{}, seen: map[string]bool{}}
	parameter := regexp.MustCompile(`\{\w+\}`)
	for path, methods := range document.Paths {
		for method := range methods {
			if method != "parameters" {
				name := strings.ToUpper(method) + " " + path
				found.operations[name] = regexp.MustCompile("^" + parameter.ReplaceAllString(name, "[^/]+") + "$")
			}
		}
	}
	return found
}

// note remembers every request. A template that fits is the longest, for /v1/holds/{hold_id} fits /v1/holds/cancel too.
func (f *calls) note(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		for name, pattern := range f.operations {
			exact := f.operations[r.Method+" "+r.URL.Path] != nil
			if pattern.MatchString(r.Method+" "+r.URL.Path) && (!exact || name == r.Method+" "+r.URL.Path) {
				f.seen[name] = true
			}
		}
		f.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func (f *calls) missing() (names []string) {
	for name := range f.operations {
		if !f.seen[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// credit gives an owner 20 yuan.
func credit(ctx context.Context, owner string) {
	value(c.CreditLot(ctx, client.NewKey(), owner, client.CreditRequest{
		IssueRef: "gift", Source: "spring-2026", Amount: client.Money{Amount: 2000, Currency: "CNY"}, ExpiresAt: time.Now().Add(24 * time.Hour),
	}))
}

// five takes five yuan for an order.
func five(owner, order string) client.HoldRequest {
	return client.HoldRequest{Owner: owner, OrderID: order, Items: []client.HoldItemRequest{
		{Kind: client.MoneyItem, Amount: client.Money{Amount: 500, Currency: "CNY"}},
	}}
}

// A whole checkout: a coupon of 10 and all the money that is left to pay, held for an order, then spent.
func Example() {
	ctx := context.Background()
	until := time.Now().Add(24 * time.Hour)
	coupon := value(c.IssueCoupon(ctx, client.NewKey(), "spring-2026", client.IssueRequest{
		Owner: "alice", IssueRef: "welcome", ExpiresAt: until,
		Discount: client.DiscountRequest{
			Kind: client.Fixed, Amount: client.Money{Amount: 1000, Currency: "CNY"}, MinSpend: client.Money{Amount: 5000, Currency: "CNY"},
		},
	}))
	credit(ctx, "alice")

	key := client.NewKey() // stored with the order before the first attempt
	reply := value(c.Hold(ctx, key, client.HoldRequest{
		Owner: "alice", OrderID: "order-1",
		Lines: []client.LineRequest{{LineID: "1", Amount: client.Money{Amount: 5999, Currency: "CNY"}}},
		Items: []client.HoldItemRequest{
			{Kind: client.CouponItem, CouponID: coupon.Coupon.CouponID},
			{Kind: client.MoneyItem, All: true, Currency: "CNY"},
		},
	}))
	fmt.Println("left to pay:", reply.Hold.Payable.Amount)

	confirmed := value(c.Confirm(ctx, client.NewKey(), "alice", reply.Hold.HoldID))
	fmt.Println(confirmed.Hold.State, "with", confirmed.Balances[0].Available, "left")
	// Output:
	// left to pay: 2999
	// CONFIRMED with 0 left
}

// The same key gets the same reply, however often it is sent.
func ExampleClient_Hold() {
	ctx := context.Background()
	credit(ctx, "bob")
	key := client.NewKey()
	first := value(c.Hold(ctx, key, five("bob", "order-1")))
	again := value(c.Hold(ctx, key, five("bob", "order-1")))
	fmt.Println(first.Hold.HoldID == again.Hold.HoldID, again.Balances[0].Held)

	_, err := c.Hold(ctx, key, five("bob", "order-2"))
	problem, _ := errors.AsType[*client.Problem](err)
	fmt.Println(errors.Is(err, client.ErrKeyReused), problem.Errors[0].Pointer)
	// Output:
	// true 500
	// true /order_id
}

func ExampleClient_GetHold() {
	ctx := context.Background()
	credit(ctx, "carol")
	made := value(c.Hold(ctx, client.NewKey(), five("carol", "order-1")))
	hold := value(c.GetHold(ctx, made.Hold.HoldID))
	fmt.Println(hold.State, hold.Items[0].Amount.Amount, "of", len(hold.Items[0].Lots), "lot")
	fmt.Println(len(value(c.Holds(ctx, "carol", ""))), "live,", len(value(c.Holds(ctx, "carol", "order-2"))), "for order-2")
	// Output:
	// HELD 500 of 1 lot
	// 1 live, 0 for order-2
}

func ExampleClient_Cancel() {
	ctx := context.Background()
	credit(ctx, "dora")
	made := value(c.Hold(ctx, client.NewKey(), five("dora", "order-1")))
	cancelled := value(c.Cancel(ctx, client.NewKey(), "dora", made.Hold.HoldID))
	fmt.Println(cancelled.Hold.State, cancelled.Balances[0].Available)
	_, err := c.Confirm(ctx, client.NewKey(), "dora", made.Hold.HoldID)
	fmt.Println(errors.Is(err, client.ErrAlreadyCancelled))
	// Output:
	// CANCELLED 2000
	// true
}

// A caller who knows the order only confirms and cancels by it. A cancel that comes first leaves a tombstone.
func ExampleClient_CancelOrder() {
	ctx := context.Background()
	credit(ctx, "emil")
	value(c.Hold(ctx, client.NewKey(), five("emil", "order-1")))
	confirmed := value(c.ConfirmOrder(ctx, client.NewKey(), client.OrderRequest{Owner: "emil", OrderID: "order-1"}))
	cancelled := value(c.CancelOrder(ctx, client.NewKey(), client.OrderRequest{Owner: "emil", OrderID: "order-2"}))
	fmt.Println(confirmed.Hold.State, cancelled.Hold.Tombstone)
	_, err := c.Hold(ctx, client.NewKey(), five("emil", "order-2"))
	fmt.Println(errors.Is(err, client.ErrAlreadyCancelled))
	// Output:
	// CONFIRMED true
	// true
}

// An id that is minted in advance lets a caller cancel, whatever happened to the hold.
func ExampleClient_MintIDs() {
	ctx := context.Background()
	credit(ctx, "fritz")
	ids := value(c.MintIDs(ctx, "fritz", 2))
	request := five("fritz", "order-1")
	request.HoldID = ids[0]
	made := value(c.Hold(ctx, client.NewKey(), request))
	fmt.Println(len(ids), made.Hold.HoldID == ids[0])
	// Output:
	// 2 true
}

// What became of a key, and how to make sure that it never happens.
func ExampleClient_Seal() {
	ctx := context.Background()
	credit(ctx, "greta")
	done, lost := client.NewKey(), client.NewKey()
	value(c.Hold(ctx, done, five("greta", "order-1")))
	fmt.Println(value(c.Operation(ctx, "greta", done)).Status, value(c.Operation(ctx, "greta", lost)).Status)
	fmt.Println(value(c.Seal(ctx, "greta", done)).Status, value(c.Seal(ctx, "greta", lost)).Status)
	_, err := c.Hold(ctx, lost, five("greta", "order-2"))
	fmt.Println(errors.Is(err, client.ErrKeyReused))
	// Output:
	// DONE NOT_SEEN
	// DONE SEALED
	// true
}

// Two parcels: the first is confirmed when it leaves, the last one with what it takes, and the rest is given back. A line that comes back
// is refunded with its share, after a look at what that would be.
func ExampleClient_ConfirmPart() {
	ctx := context.Background()
	credit(ctx, "mia")
	request := five("mia", "order-1")
	request.Lines = []client.LineRequest{
		{LineID: "shoe", Amount: client.Money{Amount: 400, Currency: "CNY"}},
		{LineID: "sock", Amount: client.Money{Amount: 100, Currency: "CNY"}},
	}
	fmt.Println("a preview:", value(c.Preview(ctx, request)).Balances[0].Held, "held")
	hold := value(c.Hold(ctx, client.NewKey(), request)).Hold
	hold = value(c.ConfirmPart(ctx, client.NewKey(), hold.HoldID, client.ConfirmRequest{
		Owner: "mia", Amount: client.Money{Amount: 300, Currency: "CNY"},
	})).Hold
	fmt.Println(hold.State, hold.Parts[0].Confirmed)
	hold = value(c.ConfirmPart(ctx, client.NewKey(), hold.HoldID, client.ConfirmRequest{
		Owner: "mia", Final: true, Items: []client.PartRequest{{Item: 0, Amount: client.Money{Amount: 150, Currency: "CNY"}}},
	})).Hold
	fmt.Println(hold.State, hold.Parts[0].Confirmed, hold.Rest)

	back := client.RefundRequest{Owner: "mia", RefundRef: "return-1", Lines: []string{"sock"}}
	fmt.Println("would return", value(c.PreviewRefund(ctx, hold.HoldID, back)).Refund.Amount.Amount)
	refund := value(c.Refund(ctx, client.NewKey(), hold.HoldID, back)).Refund
	fmt.Println("returned", value(c.GetRefund(ctx, refund.RefundID)).Amount.Amount, "left", refund.Left.Amount)
	_, err := c.Refund(ctx, client.NewKey(), refund.RefundID, client.RefundRequest{Owner: "mia", RefundRef: "return-2", All: true})
	fmt.Println(len(value(c.Refunds(ctx, hold.HoldID))), errors.Is(err, client.ErrRefundOfRefund))
	// Output:
	// a preview: 500 held
	// HELD 300
	// CONFIRMED 450 RELEASED
	// would return 90
	// returned 90 left 360
	// 1 true
}

// The payment is under way: the hold gets more time, is pinned while nobody knows, and is replaced by one with other items.
func ExampleClient_Pin() {
	ctx := context.Background()
	credit(ctx, "nora")
	made := value(c.Hold(ctx, client.NewKey(), five("nora", "order-1"))).Hold
	longer := value(c.Extend(ctx, client.NewKey(), "nora", made.HoldID, 3_600_000)).Hold
	pinned := value(c.Pin(ctx, client.NewKey(), "nora", made.HoldID, 86_400_000)).Hold
	fmt.Println(longer.ExpiresAt.After(made.ExpiresAt), pinned.ExpiresAt.After(longer.ExpiresAt))
	fmt.Println(slices.ContainsFunc(value(c.PinnedHolds(ctx)), func(h client.Hold) bool { return h.HoldID == made.HoldID }))
	other := five("nora", "order-1")
	other.Attempt, other.Items[0].Amount.Amount = 2, 700
	fmt.Println(value(c.Replace(client.DryRun(ctx), client.NewKey(), made.HoldID, other)).Balances[0])
	replaced := value(c.Replace(ctx, client.NewKey(), made.HoldID, other))
	fmt.Println(replaced.Balances[0], replaced.Hold.Supersedes == made.HoldID)
	// Output:
	// true true
	// true
	// {1300 CNY 700}
	// {1300 CNY 700} true
}

// Money by hand, which needs a second API key here, because it is more than the policy lets one key do alone.
func ExampleClient_AdjustMoney() {
	ctx := context.Background()
	made := value(c.AdjustMoney(ctx, client.NewKey(), "paula", client.AdjustmentRequest{
		AdjustmentRef: "case-4711", Delta: 5000, Currency: "CNY", ExpiresAt: time.Now().AddDate(0, 6, 0), Reason: "a parcel that never came",
	})).Adjustment
	fmt.Println(made.State, value(c.GetAdjustment(ctx, made.AdjustmentID)).ProposedBy.Name)
	why := client.DecisionRequest{Owner: "paula", Reason: "the carrier has confirmed it"}
	_, err := c.ApproveAdjustment(ctx, client.NewKey(), made.AdjustmentID, why)
	fmt.Println(errors.Is(err, client.ErrForbidden))
	for waiting, err := range c.Proposals(ctx) {
		must(err)
		if waiting.AdjustmentID == made.AdjustmentID {
			done := value(colleague.ApproveAdjustment(ctx, client.NewKey(), waiting.AdjustmentID, why))
			fmt.Println(done.Adjustment.State, done.Balances[0].Available)
		}
	}
	taken := value(c.AdjustMoney(ctx, client.NewKey(), "paula", client.AdjustmentRequest{
		AdjustmentRef: "case-4712", Delta: -2000, Currency: "CNY", Reason: "the parcel came",
	})).Adjustment
	value(c.RejectAdjustment(ctx, client.NewKey(), taken.AdjustmentID, client.DecisionRequest{Owner: "paula", Reason: "she may keep it"}))
	for adjustment, err := range c.Adjustments(ctx, "paula") {
		must(err)
		fmt.Println(adjustment.AdjustmentRef, adjustment.Delta, adjustment.State)
	}
	// Output:
	// PROPOSED test
	// true
	// DONE 5000
	// case-4711 5000 DONE
	// case-4712 -2000 REJECTED
}

// What an administrator does about an owner: freeze him, and take away what was given by mistake.
func ExampleClient_Freeze() {
	ctx := context.Background()
	credit(ctx, "otto")
	coupon := value(c.IssueCoupon(ctx, client.NewKey(), "spring-2026", client.IssueRequest{
		Owner: "otto", IssueRef: "welcome", ExpiresAt: time.Now().Add(time.Hour),
		Discount: client.DiscountRequest{Kind: client.Percent, BasisPoints: 1000, Currency: "CNY"},
	})).Coupon
	fmt.Println(value(c.Freeze(ctx, client.NewKey(), "otto", "case 4711")))
	_, err := c.Hold(ctx, client.NewKey(), five("otto", "order-1"))
	fmt.Println(errors.Is(err, client.ErrFrozen))
	why := client.RevokeRequest{Owner: "otto", Reason: "case 4711"}
	fmt.Println(value(c.RevokeCoupon(ctx, client.NewKey(), coupon.CouponID, why)).Coupon.State)
	for lot, err := range c.Lots(ctx, "otto", client.LotFilter{}) {
		must(err)
		fmt.Println(value(c.RevokeLot(ctx, client.NewKey(), lot.LotID, why)).Lot.Revoked)
	}
	fmt.Println(value(c.Unfreeze(ctx, client.NewKey(), "otto", "solved")))
	// Output:
	// true
	// true
	// REVOKED
	// 2000
	// false
}

func ExampleClient_Owner() {
	ctx := context.Background()
	credit(ctx, "hans")
	value(c.Hold(ctx, client.NewKey(), five("hans", "order-1")))
	owner := value(c.Owner(ctx, "hans"))
	fmt.Println(owner.Balances[0], owner.LiveHolds, owner.Version)
	for lot, err := range c.Lots(ctx, "hans", client.LotFilter{State: "LIVE", Currency: "CNY"}) {
		must(err)
		same := value(c.GetLot(ctx, lot.LotID))
		fmt.Println(lot.IssueRef, lot.Available, lot.Held, same.Issued)
	}
	// Output:
	// {1500 CNY 500} 1 2
	// gift 1500 500 2000
}

// A hold takes pieces of a SKU together with everything else, and never more than there are.
func ExampleClient_SetStock() {
	ctx := context.Background()
	value(c.SetStock(ctx, client.NewKey(), "mug-blue", "berlin", client.QuotaRequest{Total: 3}))
	mugs := func(order string, quantity int64) (client.HoldReply, error) {
		return c.Hold(ctx, client.NewKey(), client.HoldRequest{Owner: "petra", OrderID: order, Items: []client.HoldItemRequest{
			{Kind: client.StockItem, Sku: "mug-blue", Location: "berlin", Quantity: quantity},
		}})
	}
	made := value(mugs("order-1", 2))
	_, err := mugs("order-2", 2)
	fmt.Println(errors.Is(err, client.ErrSoldOut))
	value(c.Confirm(ctx, client.NewKey(), "petra", made.Hold.HoldID))
	value(c.AdjustStock(ctx, client.NewKey(), "mug-blue", "berlin", client.QuotaAdjustment{Delta: 10, Reason: "delivery 17"}))
	stock := value(c.Stock(ctx, "mug-blue", "berlin"))
	fmt.Println(stock.Total, "in all:", stock.Available, "available,", stock.Held, "held,", stock.Used, "used")
	for quota, err := range c.Quotas(ctx, "stock:mug-") {
		must(err)
		fmt.Println(quota.QuotaID, quota.Used)
	}
	// Output:
	// true
	// 13 in all: 11 available, 0 held, 2 used
	// stock:mug-blue:berlin 2
}

// The budget of a campaign is a quota in minor units of its currency.
func ExampleClient_SetQuota() {
	ctx := context.Background()
	value(c.SetQuota(ctx, client.NewKey(), "budget:spring-2026", client.QuotaRequest{Total: 1000, Currency: "CNY"}))
	value(c.AdjustQuota(ctx, client.NewKey(), "budget:spring-2026", client.QuotaAdjustment{Delta: -400, Reason: "cut"}))
	value(c.Hold(ctx, client.NewKey(), client.HoldRequest{Owner: "rosa", OrderID: "order-1", Items: []client.HoldItemRequest{
		{Kind: client.BudgetItem, CampaignID: "spring-2026", Amount: client.Money{Amount: 250, Currency: "CNY"}},
	}}))
	budget := value(c.Quota(ctx, "budget:spring-2026"))
	fmt.Println(budget.Available, budget.Held, budget.Currency)
	for entry, err := range c.Entries(ctx, "budget:spring-2026", client.EntryFilter{}) {
		must(err)
		if entry.Reason != "" {
			fmt.Println(entry.Kind, entry.Changes[0].Quantity, entry.Reason)
		}
	}
	// Output:
	// 350 250 CNY
	// QUOTA_ADJUSTED 400 cut
}

// A campaign gives each owner so many coupons, and all of them together no more than its total and its budget.
func ExampleClient_Claim() {
	ctx := context.Background()
	value(c.CreateCampaign(ctx, client.NewKey(), client.CampaignRequest{
		CampaignID: "lantern-2026", TimeZone: "Asia/Shanghai",
		Discount: client.DiscountRequest{Kind: client.Fixed, Amount: client.Money{Amount: 500, Currency: "CNY"}},
		StartsAt: time.Now().Add(-time.Hour), EndsAt: time.Now().AddDate(0, 0, 14),
		Validity:   client.Validity{Kind: client.EndOfDay, Days: 7},
		TotalLimit: 100, OwnerLimit: 1, Budget: client.Money{Amount: 50_000, Currency: "CNY"},
	}))
	claimed := value(c.Claim(ctx, client.NewKey(), "lantern-2026", client.ClaimRequest{Owner: "olga", ClaimRef: "banner"}))
	_, err := c.Claim(ctx, client.NewKey(), "lantern-2026", client.ClaimRequest{Owner: "olga", ClaimRef: "mail"})
	fmt.Println(claimed.Coupon.State, errors.Is(err, client.ErrAlreadyClaimed))
	budget := value(c.Quota(ctx, "budget:lantern-2026"))
	fmt.Println(budget.Used, "of", budget.Total)
	// Output:
	// AVAILABLE true
	// 500 of 50000
}

// A code is redeemed once, however often and wherever it is sent; case, spaces and dashes do not count.
func ExampleClient_Redeem() {
	ctx := context.Background()
	value(c.CreateCampaign(ctx, client.NewKey(), client.CampaignRequest{
		CampaignID: "codes-2026", TimeZone: "Europe/Berlin", CodeRequired: true,
		Discount: client.DiscountRequest{Kind: client.Fixed, Amount: client.Money{Amount: 500, Currency: "EUR"}},
		StartsAt: time.Now().Add(-time.Hour), EndsAt: time.Now().AddDate(0, 0, 14),
		Validity: client.Validity{Kind: client.Days, Days: 30}, TotalLimit: 100, OwnerLimit: 1,
	}))
	made := value(c.MakeCodes(ctx, client.NewKey(), "codes-2026", client.CodesRequest{BatchRef: "flyer", Count: 2}))
	first := made.Codes[0]
	coupon := value(c.Redeem(ctx, client.NewKey(), "rita", strings.ToLower(first[:4])+" - "+first[4:])).Coupon
	_, err := c.Redeem(ctx, client.NewKey(), "ralf", first)
	fmt.Println(coupon.State, errors.Is(err, client.ErrSpent))
	for code, err := range c.Codes(ctx, "codes-2026", "flyer") {
		fmt.Println(code.State, code.Owner, err)
	}
	// Output:
	// AVAILABLE true
	// REDEEMED rita <nil>
	// FREE  <nil>
}

// When a pause is answered, no shard grants a claim any more; a freeze also stops new holds of the coupons.
func ExampleClient_PauseCampaign() {
	ctx := context.Background()
	const campaign = "dragon-2026"
	value(c.CreateCampaign(ctx, client.NewKey(), client.CampaignRequest{
		CampaignID: campaign, TimeZone: "Europe/Berlin",
		Discount: client.DiscountRequest{Kind: client.Percent, Currency: "EUR", BasisPoints: 1000},
		StartsAt: time.Now().Add(-time.Hour), EndsAt: time.Now().AddDate(0, 0, 14),
		Validity: client.Validity{Kind: client.Days, Days: 30},
	}))
	value(c.PauseCampaign(ctx, client.NewKey(), campaign, "a wrong text in the shop"))
	_, err := c.Claim(ctx, client.NewKey(), campaign, client.ClaimRequest{Owner: "paul", ClaimRef: "banner"})
	fmt.Println(errors.Is(err, client.ErrFrozen))
	value(c.ResumeCampaign(ctx, client.NewKey(), campaign, ""))
	value(c.FreezeCampaign(ctx, client.NewKey(), campaign, "somebody sells the coupons"))
	value(c.UnfreezeCampaign(ctx, client.NewKey(), campaign, ""))
	value(c.EndCampaign(ctx, client.NewKey(), campaign, ""))
	for listed, err := range c.Campaigns(ctx) {
		must(err)
		if listed.CampaignID == campaign {
			fmt.Println(listed.State, value(c.Campaign(ctx, campaign)).Version)
		}
	}
	// Output:
	// true
	// ENDED 6
}

// A packet of three shares: whoever grabs first gets one, and the same one when he asks again.
func ExampleClient_Grab() {
	ctx := context.Background()
	value(c.CreditLot(ctx, client.NewKey(), "quentin", client.CreditRequest{
		IssueRef: "gift", Source: "spring-2026", Amount: client.Money{Amount: 1000, Currency: "CNY"}, ExpiresAt: time.Now().AddDate(0, 1, 0),
	}))
	made := value(c.CreatePacket(ctx, client.NewKey(), client.PacketRequest{
		Owner: "quentin", PacketRef: "new-year", Amount: client.Money{Amount: 100, Currency: "CNY"}, Shares: 3, Mode: client.EqualSplit,
	})).Packet
	first := value(c.Grab(ctx, client.NewKey(), made.PacketID, "rosa"))
	again := value(c.Grab(ctx, client.NewKey(), made.PacketID, "rosa"))
	fmt.Println(first.Share.Amount.Amount, again.Share == first.Share)
	value(c.Grab(ctx, client.NewKey(), made.PacketID, "sam"))
	value(c.Grab(ctx, client.NewKey(), made.PacketID, "tina"))
	_, err := c.Grab(ctx, client.NewKey(), made.PacketID, "uwe")
	fmt.Println(errors.Is(err, client.ErrSoldOut), value(c.Packet(ctx, made.PacketID)).State)
	for _, share := range value(c.Shares(ctx, made.PacketID)) {
		fmt.Println(share.Owner, share.Amount.Amount, share.State)
	}
	// Output:
	// 34 true
	// true EMPTY
	// rosa 34 DONE
	// sam 33 DONE
	// tina 33 DONE
}

// Lists are iterated; the next page is fetched when it is needed.
func ExampleClient_Entries() {
	ctx := context.Background()
	credit(ctx, "ida")
	made := value(c.Hold(ctx, client.NewKey(), five("ida", "order-1")))
	value(c.Confirm(ctx, client.NewKey(), "ida", made.Hold.HoldID))
	for entry, err := range c.Entries(ctx, "ida", client.EntryFilter{From: time.Now().Add(-time.Hour)}) {
		must(err)
		fmt.Println(entry.Seq, entry.Kind)
	}
	fmt.Println(value(c.Verify(ctx, "ida")).Intact)
	// Output:
	// 1 CREDITED
	// 2 CONFIRMED
	// true
}

// Every row of a file is issued once, however often the file is sent.
func ExampleClient_ImportCoupons() {
	ctx := context.Background()
	file := []byte("owner,issue_ref,kind,currency,amount,expires_at\n" +
		"jan,winter,FIXED,CNY,100,2030-01-01T00:00:00Z\n" +
		"kim,winter,FIXED,CNY,nothing,2030-01-01T00:00:00Z\n")
	for range 2 {
		result := value(c.ImportCoupons(ctx, client.NewKey(), "winter", client.CSV, file))
		fmt.Println(result.Issued, result.AlreadyExisted, result.Failed, result.Errors[0].Detail)
	}
	for coupon, err := range c.Coupons(ctx, "jan", client.CouponFilter{CampaignID: "winter"}) {
		must(err)
		fmt.Println(value(c.GetCoupon(ctx, coupon.CouponID)).State)
	}
	// Output:
	// 1 0 1 /amount: must be a whole number from 1 on
	// 0 1 1 /amount: must be a whole number from 1 on
	// AVAILABLE
}

func ExampleClient_Block() {
	ctx := context.Background()
	value(c.Block(ctx, "owner", "lena", client.BlockRequest{Reason: "case 4711", UntilRemoved: true}))
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err := c.Hold(short, client.NewKey(), five("lena", "order-1"))
	fmt.Println(errors.Is(err, client.ErrBlocked))
	fmt.Println(len(value(c.Blocks(ctx, client.BlockFilter{Grain: "owner", ID: "lena"}))))
	must(c.Unblock(ctx, "owner", "lena", "solved"))
	for change, err := range c.BlockAudit(ctx) {
		must(err)
		fmt.Println(change.Action, change.ID, change.Reason)
	}
	// Output:
	// true
	// 1
	// unblock lena solved
	// block lena case 4711
}

// A product is declared, made, changed by whoever has seen its newest version, and read back.
func ExampleClient_PutDocument() {
	ctx := context.Background()
	value(c.DeclareKind(ctx, "product", client.KindRequest{
		Schema: json.RawMessage(`{"type":"object","required":["price"],"properties":{"price":{"type":"integer"}}}`),
	}))
	made := value(c.PutDocument(ctx, client.NewKey(), "product", "sku-1", client.IfAbsent(), json.RawMessage(`{"price": 1999}`)))
	newest := client.IfVersion(made.Version)
	changed := value(c.PatchDocument(ctx, client.NewKey(), "product", "sku-1", newest, json.RawMessage(`{"tag":"new"}`)))
	fmt.Println(string(value(c.GetDocument(ctx, "product", "sku-1", client.ReadOptions{Token: changed.Token})).Body))
	_, err := c.PutDocument(ctx, client.NewKey(), "product", "sku-1", client.IfVersion(made.Version), json.RawMessage(`{"price": 1}`))
	fmt.Println(errors.Is(err, client.ErrPreconditionFailed))
	_, err = c.PutDocument(ctx, client.NewKey(), "product", "sku-2", client.IfAbsent(), json.RawMessage(`{"price": "free"}`))
	fmt.Println(errors.Is(err, client.ErrInvalidRequest))
	fmt.Println(len(value(c.GetDocuments(ctx, "product", []string{"sku-1", "sku-2"}, client.Strong))))
	for d, err := range c.Documents(ctx, "product") {
		must(err)
		fmt.Println(d.ID, d.Version == changed.Version)
	}
	fmt.Println(value(c.DeleteDocument(ctx, client.NewKey(), "product", "sku-1", client.IfExists())).Deleted)
	fmt.Println(value(c.Kinds(ctx))[0].Kind)
	// Output:
	// {"price":1999,"tag":"new"}
	// true
	// true
	// 1
	// sku-1 true
	// true
	// product
}

func ExampleClient_CreateKey() {
	ctx := context.Background()
	made := value(c.CreateKey(ctx, client.APIKeyRequest{
		Name: "checkout", Scopes: []string{"read", "hold"}, Rate: client.Rate{PerSecond: 2000, Burst: 4000},
	}))
	fmt.Println(strings.HasPrefix(made.Token, "ss_"+made.Key.KeyID))
	fmt.Println(value(c.UpdateKey(ctx, made.Key.KeyID, client.APIKeyChange{Scopes: []string{"read"}})).Scopes)
	fmt.Println(!value(c.RevokeKey(ctx, made.Key.KeyID)).RevokedAt.IsZero())
	fmt.Println(slices.ContainsFunc(value(c.Keys(ctx)), func(k client.APIKey) bool { return k.KeyID == made.Key.KeyID }))
	// Output:
	// true
	// [read]
	// true
	// true
}

func ExampleClient_LocateOwner() {
	ctx := context.Background()
	at := value(c.LocateOwner(ctx, "user-1"))
	hold := value(c.MintIDs(ctx, "user-1", 1))[0]
	same := value(c.LocateID(ctx, hold))
	fmt.Println(at.Bucket, same.Kind, same.Bucket == at.Bucket)
	fmt.Println(len(value(c.Map(ctx)).Shards), value(c.Shards(ctx))[0].Phase)
	// Output:
	// 12720 hold true
	// 2 SERVING
}

// Shard 3 has replicas and shard 4 is failed over by another tool, but nobody carries out orders here.
func ExampleClient_Switchover() {
	ctx := context.Background()
	order := value(c.Switchover(ctx, 3, "the host of db-1 is replaced"))
	fmt.Println(order.Kind, "because", order.Reason)
	_, err := c.Suspend(ctx, 3, "network maintenance")
	fmt.Println(errors.Is(err, client.ErrOrderStands))
	_, err = c.Resume(ctx, 1, "a shard with a single node")
	fmt.Println(errors.Is(err, client.ErrNoFailover))
	_, err = c.Rebuild(ctx, 3, "db-1", "a node that is the primary")
	fmt.Println(errors.Is(err, client.ErrNoFailover))
	for f, err := range c.Failovers(ctx, 3) {
		must(err)
		fmt.Println("from", f.From, "to", f.To, "in", f.DurationMs, "ms:", f.Why)
	}
	// Output:
	// switchover because the host of db-1 is replaced
	// true
	// true
	// true
	// from db-2 to db-1 in 180 ms: its process has ended
}

// Another tool fences a shard, promotes a server, and announces it under the epoch of the fence.
func ExampleClient_Fence() {
	ctx := context.Background()
	serving := value(c.AnnouncePrimary(ctx, 4, 1, "db-1:3306"))
	fenced := value(c.Fence(ctx, 4, "db-1 is dead"))
	fmt.Println(serving.Epoch, serving.Phase, fenced.Epoch, fenced.Phase)
	_, err := c.AnnouncePrimary(ctx, 4, 1, "db-2:3306")
	fmt.Println(errors.Is(err, client.ErrStaleEpoch))
	// Output:
	// 1 SERVING 2 FENCING
	// true
}

// Each operation of a bulk has its own verdict; one that is sent again under its key gets the same.
func ExampleClient_Bulk() {
	ctx := context.Background()
	credit(ctx, "bruno")
	key, hold := client.NewKey(), five("bruno", "order-1")
	reply := value(c.Bulk(ctx, []client.BulkOperation{
		{IdempotencyKey: key, Hold: &hold},
		{IdempotencyKey: key, Hold: &hold},
		{IdempotencyKey: client.NewKey(), Confirm: &client.BulkDecision{Owner: "bruno", OrderID: "order-1"}},
		{IdempotencyKey: client.NewKey(), Cancel: &client.BulkDecision{Owner: "bruno", OrderID: "order-1"}},
	}))
	fmt.Println(reply.Done, reply.Refused)
	for _, r := range reply.Results {
		code := "done"
		if r.Problem != nil {
			code = r.Problem.Code
		}
		fmt.Println(r.Status, r.Replayed, code)
	}
	// Output:
	// 3 1
	// 201 false done
	// 201 true done
	// 200 false done
	// 409 false already-confirmed
}

// A follower stores the position with what it has done, and goes on from there.
func ExampleClient_Follow() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	before := value(c.ListEvents(ctx, client.Now, 0))
	credit(ctx, "mona")
	made := value(c.Hold(ctx, client.NewKey(), five("mona", "order-1")))
	value(c.Confirm(ctx, client.NewKey(), "mona", made.Hold.HoldID))
	position := before.Position
	for event, err := range c.Follow(ctx, before.Position) {
		must(err)
		if event.Owner != "mona" {
			continue // of another example
		}
		fmt.Println(event.Type, event.HoldID == made.Hold.HoldID)
		if position = event.Position; event.Type == "CONFIRMED" {
			break
		}
	}
	left := slices.DeleteFunc(value(c.ListEvents(ctx, position, 100)).Events, func(e client.Event) bool { return e.Owner != "mona" })
	fmt.Println(len(left))
	// Output:
	// CREDITED false
	// CONFIRMED true
	// 0
}

// A webhook checks what it receives.
func ExampleReadWebhook() {
	ctx := context.Background()
	var secret atomic.Value
	received := make(chan client.Event, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := value(io.ReadAll(r.Body))
		message, err := client.ReadWebhook(fmt.Sprint(secret.Load()), r.Header, body, time.Now())
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized) // it is sent again
			return
		}
		for _, e := range message.Events {
			if e.Owner == "wanda" { // others are of other examples
				received <- e
			}
		}
	}))
	defer receiver.Close()
	made := value(c.CreateWebhook(ctx, client.WebhookRequest{URL: receiver.URL}))
	secret.Store(made.Secret)
	credit(ctx, "wanda")
	event := <-received
	fmt.Println(event.Type)

	value(c.ReplayWebhook(ctx, made.Webhook.WebhookID, fmt.Sprintf("%d-%d", event.Shard, event.Sequence-1)))
	again := <-received
	fmt.Println(again.EventID == event.EventID)
	fmt.Println(len(value(c.GetWebhook(ctx, made.Webhook.WebhookID)).Deliveries), len(value(c.Webhooks(ctx))))
	must(c.DeleteWebhook(ctx, made.Webhook.WebhookID))
	// Output:
	// CREDITED
	// true
	// 2 1
}

// Money as of an instant comes from the history; entries are exported when they are ten seconds old.
func ExampleClient_MoneyAt() {
	ctx := context.Background()
	credit(ctx, "paul")
	value(c.Hold(ctx, client.NewKey(), five("paul", "order-1")))
	now := time.Now()
	before, today := value(c.MoneyAt(ctx, "paul", now.Add(-time.Hour))), value(c.MoneyAt(ctx, "paul", now))
	fmt.Println(before.Balances, today.Balances)
	var file strings.Builder
	value(c.ExportEntries(ctx, &file, client.Export{Format: client.CSV, To: "2026-01-01", TimeZone: "Asia/Shanghai"}))
	fmt.Println(file.String()[:26])
	_, err := c.ExportEntries(ctx, &file, client.Export{Format: client.JSONLines, To: "2999-01-01"})
	fmt.Println(errors.Is(err, client.ErrInvalidRequest))
	checked := value(c.CheckCoupons(ctx, "winter", client.CSV, []byte("owner,issue_ref,kind,currency,amount,expires_at\n"+
		"paul,dry,FIXED,CNY,100,2030-01-01T00:00:00Z\n")))
	fmt.Println(checked.Issued, checked.Failed)
	// Output:
	// [] [{1500 CNY 500}]
	// owner,seq,kind,at,hold_id,
	// true
	// 1 0
}

// The auditor compares the tables with each other; before its first pass it has found nothing.
func ExampleClient_Audit() {
	for _, shard := range value(c.Audit(context.Background())).Shards {
		fmt.Println(shard.Shard, shard.Drift)
	}
	// Output:
	// 1 0
	// 2 0
}

func ExampleClient_ListUndecided() {
	ctx := context.Background()
	fmt.Println(len(value(c.ListUndecided(ctx))))
	_, err := c.ResolveUndecided(ctx, client.Undecided{Shard: 1, Key: "bm9ib2R5.a2V5"})
	fmt.Println(errors.Is(err, client.ErrNotFound))
	// Output:
	// 0
	// true
}
