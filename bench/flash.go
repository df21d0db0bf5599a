package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/statesvc/statesvc/ledger"
)

// The shape of a flash sale.
const (
	spreadSKUs  = 512       // what the same load buys when it is spread
	plenty      = 1_000_000 // units of a SKU that must not run out
	warmHolds   = 8         // of each of them, before anything is measured
	calmSKUs    = 8         // what the others buy meanwhile
	calmPause   = 20 * time.Millisecond
	hotSKU      = "hot"
	afterLast   = 2 * time.Second // how long buyers go on asking when everything is sold
	costSamples = 200             // holds whose commits are counted
)

// FlashOptions say how large the sale is.
type FlashOptions struct {
	Units   int64 // of the one SKU
	Seconds int   // of each of the other runs
}

// FlashResult is what `bench flash` ends with.
type FlashResult struct {
	Granted        int64   // units of the sale that buyers got
	Ratio          float64 // throughput of the sale to that of the same load on many SKUs
	OthersP99Ratio float64 // p99 of calm SKUs during the sale to that during the same load on many SKUs
	CommitsPerHold float64 // of a hold of a coupon, money and two SKUs at low load, with what it has made others commit
}

// errOversold is the worst that a flash sale can do; errUndersold the second worst.
var (
	errOversold  = errors.New("more was granted than there was")
	errUndersold = errors.New("less was granted than there was, and the rest refused")
)

// Flash sells all units of one SKU to 512 callers over four shards, compares that with the same load on 512 SKUs, and counts what a hold
// costs. It fails if one unit too many or too few is granted.
func Flash(ctx context.Context, out io.Writer, o FlashOptions) (r FlashResult, err error) {
	f, err := startFleet(ctx, out, "innodb_buffer_pool_size=1G", "innodb_log_file_size=1G")
	if err != nil {
		return r, err
	}
	defer f.close()
	d := time.Duration(o.Seconds) * time.Second
	if err := f.compareSale(ctx, out, o.Units, d, &r); err != nil {
		return r, err
	}
	if err := f.plainUpdates(ctx, out, d/3); err != nil {
		return r, err
	}
	if r.CommitsPerHold, err = f.holdCost(ctx, out, costSamples); err != nil {
		return r, err
	}
	if err := f.skewed(ctx, out, d); err != nil {
		return r, err
	}
	return r, f.drainBudget(ctx, out, budgetTotal)
}

// compareSale runs the spread load before and after the sale, so that both see the same noise.
func (f *fleet) compareSale(ctx context.Context, out io.Writer, units int64, d time.Duration, r *FlashResult) error {
	if err := f.stockSKUs(ctx, units); err != nil {
		return err
	}
	idle, err := f.calm(ctx, func() error { sleepUntil(ctx, time.Now().Add(d/2)); return nil })
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  %d calm SKUs, nothing else                              p99 %7.2f ms\n", calmSKUs, ms(idle))
	before, calmBefore, err := f.spread(ctx, out, d/2)
	if err != nil {
		return err
	}
	var s saleResult
	calm, err := f.calm(ctx, func() (err error) {
		s, err = f.sell(ctx, callers, units)
		return err
	})
	if err != nil {
		return err
	}
	rate := float64(s.granted) / s.last.Seconds()
	fmt.Fprintf(out, "  one SKU, %d callers: %d granted in %.1f s         %8.0f/s   p50 %7.2f ms   p99 %7.2f ms   calm p99 %7.2f ms\n",
		callers, s.granted, s.last.Seconds(), rate, ms(s.p50), ms(s.p99), ms(calm))
	fmt.Fprintf(out, "  when it was sold out: %d refusals, %.0f/s; the first %v before the last unit was granted\n",
		s.refused, float64(s.refused)/s.asking.Seconds(), max(0, s.last-s.firstRefusal).Round(time.Millisecond))
	after, calmAfter, err := f.spread(ctx, out, d/2)
	if err != nil {
		return err
	}
	r.Granted = s.granted
	r.Ratio = rate / ((before.perSecond + after.perSecond) / 2)
	r.OthersP99Ratio = 2 * float64(calm) / float64(calmBefore+calmAfter)
	fmt.Fprintf(out, "  calm SKUs during the sale: p99 %.2f of that during the spread load, %.1f of that without a load\n",
		r.OthersP99Ratio, float64(calm)/float64(idle))
	return f.checkSale(ctx, units, s.granted)
}

func spreadSKU(n int64) string { return fmt.Sprintf("sku-%d", n%spreadSKUs) }
func calmSKU(n int) string     { return fmt.Sprintf("calm-%d", n) }

// stockSKUs makes all SKUs, and sells some of those that are compared with the hot one, so that all shards have them.
func (f *fleet) stockSKUs(ctx context.Context, units int64) error {
	err := times(ctx, spreadSKUs, func(ctx context.Context, n int64) error { return f.stock(ctx, spreadSKU(n), plenty) })
	for n := range calmSKUs {
		err = errors.Join(err, f.stock(ctx, calmSKU(n), plenty))
	}
	if err = errors.Join(err, f.stock(ctx, hotSKU, units)); err != nil {
		return err
	}
	return times(ctx, warmHolds*spreadSKUs, func(ctx context.Context, n int64) error {
		return errors.Join(f.buy(ctx, spreadSKU(n)), f.buy(ctx, calmSKU(int(n%calmSKUs))))
	})
}

// spread is the load of the sale on many SKUs, with the calm ones beside it.
func (f *fleet) spread(ctx context.Context, out io.Writer, d time.Duration) (r result, calm time.Duration, err error) {
	var next atomic.Int64
	calm, err = f.calm(ctx, func() (err error) {
		r, err = load(ctx, callers, d, func(ctx context.Context) error { return f.buy(ctx, spreadSKU(next.Add(1))) })
		return err
	})
	if err == nil {
		fmt.Fprintf(out, "  %d SKUs, %d callers                            %v   calm p99 %7.2f ms\n", spreadSKUs, callers, r, ms(calm))
	}
	return r, calm, err
}

// calm measures buyers of other SKUs, each of whom comes after a pause, while work goes on. It returns their p99.
func (f *fleet) calm(ctx context.Context, work func() error) (p99 time.Duration, err error) {
	stop := make(chan struct{})
	histograms := make([]*hdrhistogram.Histogram, calmSKUs)
	failures := make([]error, calmSKUs)
	var wg sync.WaitGroup
	for n := range calmSKUs {
		histograms[n] = newHistogram()
		wg.Go(func() { failures[n] = f.buyCalmly(ctx, calmSKU(n), histograms[n], stop) })
	}
	err = work()
	close(stop)
	wg.Wait()
	for _, h := range histograms[1:] {
		histograms[0].Merge(h)
	}
	return quantile(histograms[0], 99), errors.Join(err, errors.Join(failures...))
}

func (f *fleet) buyCalmly(ctx context.Context, sku string, h *hdrhistogram.Histogram, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-time.After(calmPause):
		}
		start := time.Now()
		if err := f.buy(ctx, sku); err != nil {
			return err
		}
		_ = h.RecordValue(time.Since(start).Microseconds())
	}
}

// saleResult is how a sale went. Durations are since its begin, but for the quantiles of single holds and for asking.
type saleResult struct {
	granted, refused   int64
	last, firstRefusal time.Duration
	asking             time.Duration // how long everything was sold and buyers still asked
	p50, p99           time.Duration // of granted holds
}

// sell lets callers buy until there is nothing left, and each of them a little longer.
func (f *fleet) sell(ctx context.Context, callers int, units int64) (s saleResult, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	buyers := make([]buyer, callers)
	var granted atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for i := range buyers {
		b := &buyers[i]
		b.granted = newHistogram()
		wg.Go(func() {
			for !b.done(time.Since(start), granted.Load() >= units) {
				if b.buy(ctx, f, start) {
					granted.Add(1)
				}
			}
			if b.err != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	s = summary(buyers, &err)
	s.granted = granted.Load()
	s.asking = time.Since(start) - s.last
	return s, err
}

// buyer is one caller of a sale.
type buyer struct {
	granted            *hdrhistogram.Histogram
	refused            int64
	last, firstRefusal time.Duration
	err                error
}

// done says whether it stops: some time after it was refused first, and not while others still get units.
func (b *buyer) done(now time.Duration, soldOut bool) bool {
	return b.err != nil || b.refused > 0 && now > b.firstRefusal+afterLast && (soldOut || now > b.firstRefusal+requestTime)
}

// buy tells whether it got a unit.
func (b *buyer) buy(ctx context.Context, f *fleet, start time.Time) bool {
	begin := time.Since(start)
	err := f.buy(ctx, hotSKU)
	now := time.Since(start)
	switch {
	case err == nil:
		b.last = now
		_ = b.granted.RecordValue((now - begin).Microseconds())
		return true
	case errors.Is(err, ledger.ErrSoldOut):
		if b.refused == 0 {
			b.firstRefusal = now
		}
		b.refused++
	default:
		b.err = err
	}
	return false
}

func summary(buyers []buyer, err *error) (s saleResult) {
	all := newHistogram()
	for i := range buyers {
		b := &buyers[i]
		*err = errors.Join(*err, b.err)
		all.Merge(b.granted)
		s.refused += b.refused
		s.last = max(s.last, b.last)
		if b.refused > 0 && (s.firstRefusal == 0 || b.firstRefusal < s.firstRefusal) {
			s.firstRefusal = b.firstRefusal
		}
	}
	s.p50, s.p99 = quantile(all, 50), quantile(all, 99)
	return s
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
}

func quantile(h *hdrhistogram.Histogram, q float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond
}

// checkSale compares what buyers were told with what the shards have.
func (f *fleet) checkSale(ctx context.Context, units, granted int64) error {
	held, err := f.sum(ctx, "COALESCE(SUM(held),0) FROM %s.slices WHERE quota = ?", ledger.StockID(hotSKU, warehouse))
	if err != nil {
		return err
	}
	items, err := f.sum(ctx, "COALESCE(SUM(amount),0) FROM %s.hold_items WHERE quota = ?", ledger.StockID(hotSKU, warehouse))
	switch {
	case err != nil:
		return err
	case held != granted || items != granted:
		return fmt.Errorf("%w: buyers were told of %d units, slices hold %d, and holds %d", errViolation, granted, held, items)
	case granted > units:
		return fmt.Errorf("%w: %d of %d", errOversold, granted, units)
	case granted < units:
		return fmt.Errorf("%w: %d of %d", errUndersold, granted, units)
	}
	return nil
}
