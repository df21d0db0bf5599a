package bench

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard/id"
)

// plainUpdates is the statement that everybody writes first, on one row, at several numbers of connections.
func (f *fleet) plainUpdates(ctx context.Context, out io.Writer, d time.Duration) error {
	if _, err := f.server.Admin().ExecContext(ctx, "CREATE DATABASE plain"); err != nil {
		return err
	}
	db, err := sql.Open("mysql", f.server.DSN("plain"))
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxIdleConns(plainMost)
	for _, statement := range []string{
		"CREATE TABLE stock (sku INT PRIMARY KEY, available BIGINT NOT NULL, held BIGINT NOT NULL) ENGINE=InnoDB",
		"INSERT INTO stock VALUES (1, 1000000000, 0)",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	for _, n := range []int{1, 8, plainMost} {
		r, err := load(ctx, n, d, func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, "UPDATE stock SET available=available-1, held=held+1 WHERE sku=1 AND available>=1")
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  plain UPDATE of one row, %3d connections              %v\n", n, r)
	}
	return nil
}

const plainMost = 64 // connections on one row; more are slower

// holdCost is the durable commits of a hold of one coupon, money and two SKUs, when the stock of both is sold on all shards: its own,
// and those of the transfers that holds begin now and then.
func (f *fleet) holdCost(ctx context.Context, out io.Writer, holds int) (float64, error) {
	if err := f.sellPairs(ctx); err != nil {
		return 0, err
	}
	used, err := f.costOf(ctx, holds)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "  %d holds of a coupon, money and two SKUs, one caller: %d durable commits, %d transfers (%d COMMITs)\n",
		holds, used.durable, used.transfers, used.commits)
	return float64(used.durable) / float64(holds), nil
}

const firstOfPair, secondOfPair = "pair-1", "pair-2"

// sellPairs makes two SKUs and sells one of each until every shard has some.
func (f *fleet) sellPairs(ctx context.Context) error {
	if err := errors.Join(f.stock(ctx, firstOfPair, plenty), f.stock(ctx, secondOfPair, plenty)); err != nil {
		return err
	}
	for selling := int64(0); selling < fleetShards; {
		c, err := f.fill(ctx)
		if err == nil {
			err = f.hold(ctx, c.owner, c.items...)
		}
		if err == nil {
			selling, err = f.sum(ctx, "COUNT(*) FROM %s.slices WHERE quota = ?", ledger.StockID(secondOfPair, warehouse))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// costOf counts what so many holds cost, one after the other. What made their owners ready is not counted.
func (f *fleet) costOf(ctx context.Context, holds int) (counters, error) {
	carts := make([]cart, holds)
	for i := range carts {
		var err error
		if carts[i], err = f.fill(ctx); err != nil {
			return counters{}, err
		}
	}
	before, err := f.quiet(ctx)
	if err != nil {
		return counters{}, err
	}
	for _, c := range carts {
		if err := f.hold(ctx, c.owner, c.items...); err != nil {
			return counters{}, err
		}
	}
	after, err := f.quiet(ctx)
	return after.since(before), err
}

// cart is what an owner is about to hold.
type cart struct {
	owner string
	items []ledger.Item
}

// fill gives a new owner a coupon and money, and puts them and the pair of SKUs into a cart.
func (f *fleet) fill(ctx context.Context) (c cart, err error) {
	c.owner = f.unique("owner")
	coupon, err := f.issue(ctx, c.owner)
	if err != nil {
		return c, err
	}
	if err := f.credit(ctx, c.owner, lotMoney); err != nil {
		return c, err
	}
	c.items = []ledger.Item{
		{Kind: ledger.CouponItem, CouponID: coupon},
		{Kind: ledger.MoneyItem, Amount: ledger.Money{Amount: 500, Currency: currency}},
	}
	for _, sku := range []string{firstOfPair, secondOfPair} {
		c.items = append(c.items, ledger.Item{Kind: ledger.StockItem, SKU: sku, Location: warehouse, Quantity: 1})
	}
	return c, nil
}

func (f *fleet) credit(ctx context.Context, owner string, amount int64) error {
	ref := f.unique("lot")
	return untilDecided(ctx, func() error {
		_, err := f.in.Ledger.CreditLot(ctx, ledger.Caller{Key: ref}, ledger.CreditLot{
			Owner: owner, IssueRef: ref, Source: "bench", ExpiresAt: nextYear(), Amount: ledger.Money{Amount: amount, Currency: currency},
		})
		return err
	})
}

func (f *fleet) issue(ctx context.Context, owner string) (id.ID, error) {
	ref := f.unique("coupon")
	var answer ledger.Answer
	err := untilDecided(ctx, func() (err error) {
		answer, err = f.in.Ledger.IssueCoupon(ctx, ledger.Caller{Key: ref}, ledger.IssueCoupon{
			Owner: owner, CampaignID: "bench", IssueRef: ref, ExpiresAt: nextYear(),
			Discount: ledger.Discount{Kind: ledger.Fixed, Currency: currency, Amount: 500},
		})
		return err
	})
	if err != nil {
		return id.ID{}, err
	}
	var reply ledger.CouponReply
	if err := json.Unmarshal(answer.Body, &reply); err != nil {
		return id.ID{}, fmt.Errorf("read the reply of an issue: %w", err)
	}
	return f.in.Codec.Parse(id.Coupon, reply.Coupon.CouponID)
}

// quiet waits until nothing is left to do in the background: transfers have landed, and events have their numbers. It returns what was
// counted then.
func (f *fleet) quiet(ctx context.Context) (c counters, err error) {
	const quietFor = 200 * time.Millisecond // so long a transfer may take to begin
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	for since := time.Now(); time.Since(since) < quietFor; time.Sleep(10 * time.Millisecond) {
		now, err := f.count(ctx)
		if err != nil {
			return c, err
		}
		left, err := f.sum(ctx, "(SELECT COUNT(*) FROM %[1]s.transfers) + (SELECT COUNT(*) FROM %[1]s.outbox WHERE first IS NULL)")
		if err != nil {
			return c, err
		}
		if left > 0 || now.durable != c.durable {
			c, since = now, time.Now()
		}
	}
	return c, nil
}

// skewed buys SKUs of which few are bought often and many seldom, and tells how often units had to travel.
func (f *fleet) skewed(ctx context.Context, out io.Writer, d time.Duration) error {
	before, err := f.count(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	dice := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, spreadSKUs-1)
	next := func() int64 {
		mu.Lock()
		defer mu.Unlock()
		return int64(dice.Uint64())
	}
	r, err := load(ctx, skewedCallers, d, func(ctx context.Context) error { return f.buy(ctx, spreadSKU(next())) })
	if err != nil {
		return err
	}
	after, err := f.count(ctx)
	if err != nil {
		return err
	}
	used := after.since(before)
	fmt.Fprintf(out, "  %d SKUs, skewed (Zipf 1.1), %d callers              %v   %.4f transfers for each hold, %.2f durable commits\n",
		spreadSKUs, skewedCallers, r, float64(used.transfers)/float64(r.operations), float64(used.durable)/float64(r.operations))
	return nil
}

const (
	skewedCallers = 64
	budgetCallers = 256
	budgetTotal   = 10_000_000 // minor units
	budgetMost    = 9_973      // of one hold
	budgetTries   = 3          // refusals after which a caller gives up
)

// errStranded says that a hold was refused for which there was enough.
var errStranded = errors.New("more was left than a refused hold had asked for")

// drainBudget takes mixed amounts from one budget until nothing fits any more. What was granted must not exceed it, and what is left
// must be less than anything that was refused.
func (f *fleet) drainBudget(ctx context.Context, out io.Writer, total int64) error {
	campaign := f.unique("budget")
	if err := f.quota(ctx, ledger.SetQuota{Quota: ledger.BudgetID(campaign), Total: total, Currency: currency}); err != nil {
		return err
	}
	drains := make([]drain, budgetCallers)
	var wg sync.WaitGroup
	for i := range drains {
		drains[i] = drain{smallest: total, dice: rand.New(rand.NewPCG(3, uint64(i)))}
		wg.Go(func() { drains[i].run(ctx, f, campaign) })
	}
	wg.Wait()
	all := drain{smallest: total}
	for i := range drains {
		all.err = errors.Join(all.err, drains[i].err)
		all.granted += drains[i].granted
		all.holds += drains[i].holds
		all.smallest = min(all.smallest, drains[i].smallest)
	}
	if all.err != nil {
		return all.err
	}
	held, err := f.sum(ctx, "COALESCE(SUM(held),0) FROM %s.slices WHERE quota = ?", ledger.BudgetID(campaign))
	if err != nil {
		return err
	}
	left := total - all.granted
	fmt.Fprintf(out, "  a budget of %d in amounts up to %d: %d holds took %d, %d are left, the smallest refused hold asked for %d\n",
		total, budgetMost, all.holds, all.granted, left, all.smallest)
	switch {
	case held != all.granted:
		return fmt.Errorf("%w: callers were told of %d minor units, slices hold %d", errViolation, all.granted, held)
	case left < 0:
		return fmt.Errorf("%w: %d of %d minor units", errOversold, all.granted, total)
	case left >= all.smallest:
		return fmt.Errorf("%w: %d are left, %d were refused", errStranded, left, all.smallest)
	}
	return nil
}

// drain is one caller of drainBudget.
type drain struct {
	dice                     *rand.Rand
	granted, holds, smallest int64 // smallest of what was refused
	err                      error
}

func (x *drain) run(ctx context.Context, f *fleet, campaign string) {
	for refused := 0; refused < budgetTries && x.err == nil; {
		amount := x.dice.Int64N(budgetMost) + 1
		err := f.hold(ctx, f.unique("spender"), ledger.Item{
			Kind: ledger.BudgetItem, CampaignID: campaign, Amount: ledger.Money{Amount: amount, Currency: currency},
		})
		switch {
		case err == nil:
			x.granted += amount
			x.holds++
		case errors.Is(err, ledger.ErrSoldOut):
			x.smallest = min(x.smallest, amount)
			refused++
		default:
			x.err = err
		}
	}
}
