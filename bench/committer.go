package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	_ "github.com/go-sql-driver/mysql" // the baseline's driver, the same as ours

	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard/id"
)

// The shape of the load.
const (
	owners        = 20_000
	couponsEach   = 40
	hotCoupons    = 600_000 // of the one owner of the hot-row runs
	callers       = 512
	lotMoney      = 1_000_000_000_000
	currency      = "CNY"
	hotOwner      = "hot-owner"
	requestTime   = 30 * time.Second
	warmupSeconds = 2
)

// Ratios is what `bench committer` ends with.
type Ratios struct{ Committer, Hot, Idle float64 }

// Committer compares the committer with the same holds written one by one, on one MariaDB shard with full durability.
// seconds is how long each run takes.
func Committer(ctx context.Context, out io.Writer, seconds int) (Ratios, error) {
	r, err := newRig(ctx, out)
	if err != nil {
		return Ratios{}, err
	}
	defer r.close()
	d := time.Duration(seconds) * time.Second
	var ratios Ratios
	if ratios.Committer, err = r.compareCommitter(ctx, d); err != nil {
		return ratios, err
	}
	if ratios.Hot, err = r.compareHot(ctx, d); err != nil {
		return ratios, err
	}
	ratios.Idle, err = r.compareIdle(ctx, d)
	return ratios, err
}

// rig is one MariaDB server with one shard, seeded with owners who have coupons and money.
type rig struct {
	out    io.Writer
	folder string
	server *mariadb.Server
	reg    *register.File
	in     *instance.Instance
	plain  *sql.DB
	naive  *naive
	next   atomic.Int64 // the next pair of owner and coupon that no run has used
	hot    atomic.Int64
	serial atomic.Int64 // makes ids and keys of the baselines unique
}

func newRig(ctx context.Context, out io.Writer) (r *rig, err error) {
	r = &rig{out: out}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.folder, err = os.MkdirTemp("", "statesvc-bench-"); err != nil {
		return r, err
	}
	fmt.Fprintln(out, "starting MariaDB (innodb_flush_log_at_trx_commit=1, sync_binlog=1, ROW binlog) …")
	r.server, err = mariadb.Start(ctx, mariadb.Options{Settings: []string{
		"innodb_buffer_pool_size=2G", "innodb_log_file_size=1G",
		"innodb_flush_log_at_trx_commit=1", "sync_binlog=1", "binlog_format=ROW",
	}})
	if err != nil {
		return r, err
	}
	if _, err = r.server.Admin().ExecContext(ctx, "CREATE DATABASE bench"); err != nil {
		return r, err
	}
	if r.reg, err = register.OpenFile(filepath.Join(r.folder, "register")); err != nil {
		return r, err
	}
	shards := []instance.Shard{{Name: "s1", DSN: r.server.DSN("bench")}}
	if err = instance.Bootstrap(ctx, r.reg, shards, time.Now, func(string) {}); err != nil {
		return r, err
	}
	r.in, err = instance.Open(ctx, instance.Config{
		Name: "bench", Register: r.reg, Shards: shards, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return r, err
	}
	r.plain, err = sql.Open("mysql", r.server.DSN("bench")+"?multiStatements=true&clientFoundRows=true&tx_isolation='READ-COMMITTED'")
	if err != nil {
		return r, err
	}
	r.plain.SetMaxOpenConns(callers)
	r.plain.SetMaxIdleConns(callers)
	fmt.Fprintf(out, "seeding %d owners with %d coupons each, one with %d …\n", owners, couponsEach, hotCoupons)
	if err = r.seed(ctx); err != nil {
		return r, err
	}
	if err = r.settle(ctx); err != nil {
		return r, err
	}
	r.naive = &naive{db: r.plain}
	return r, r.measureDocuments(ctx)
}

func (r *rig) close() {
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	if r.in != nil {
		_ = r.in.Close(ctx)
	}
	if r.plain != nil {
		_ = r.plain.Close()
	}
	if r.reg != nil {
		_ = r.reg.Close()
	}
	if r.server != nil {
		_ = r.server.Stop()
	}
	_ = os.RemoveAll(r.folder)
}

// seed writes the assets by SQL. Coupon n of owner o has the id o·2³² + n, lots have the id of their owner.
func (r *rig) seed(ctx context.Context) error {
	const bucket = "CONV(LEFT(SHA2(%s,256),4),16,10) >> 2"
	ownerOf := fmt.Sprintf("IF(o.seq=0,'%s',CONCAT('u-',o.seq))", hotOwner)
	b := fmt.Sprintf(bucket, ownerOf)
	end := time.Now().AddDate(1, 0, 0).UnixMicro()
	from := "seq_0_to_" + fmt.Sprint(owners)
	coupons := `INSERT INTO coupons (bucket, owner, coupon_id, campaign_id, issue_ref, state, ver, discount, currency, amount,
basis_points, cap, min_spend, valid_from, expires_at, issued_at) SELECT %s, %s,
UNHEX(LPAD(HEX(o.seq*4294967296+n.seq),32,'0')), 'bench',
CONCAT('b-',n.seq), 'AVAILABLE', 1, 'FIXED', '%s', 500, 0, 0, 0, 0, %d, 0 FROM %s o JOIN %s n`
	statements := []string{
		fmt.Sprintf("INSERT INTO owners (bucket, owner, ver, entry_seq, head, live_holds, due_at) "+
			"SELECT %s, %s, 1, 0, REPEAT('\\0',32), 0, 0 FROM %s o",
			b, ownerOf, from),
		fmt.Sprintf(`INSERT INTO lots (bucket, owner, lot_id, issue_ref, source, tag, currency, live, issued, available, held, spent, expired,
revoked, ver, expires_at, issued_at) SELECT %s, %s, UNHEX(LPAD(HEX(o.seq),32,'0')), 'b', 'bench', '', '%s', 1, %d, %d, 0, 0,
0, 0, 1, %d, 0 FROM %s o`, b, ownerOf, currency, lotMoney, lotMoney, end, from),
		fmt.Sprintf(coupons, b, ownerOf, currency, end, "seq_1_to_"+fmt.Sprint(owners), "seq_1_to_"+fmt.Sprint(couponsEach)),
		fmt.Sprintf(coupons, b, ownerOf, currency, end, "seq_0_to_0", "seq_1_to_"+fmt.Sprint(hotCoupons)),
	}
	for _, s := range statements {
		if _, err := r.server.Admin().ExecContext(ctx, "USE bench"); err != nil {
			return err
		}
		if _, err := r.plain.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	_, err := r.plain.ExecContext(ctx, "ANALYZE TABLE owners, lots, coupons, operations, holds")
	return err
}

// settle waits until the server has written the seeded pages, which would otherwise take CPU and disk from the first runs.
func (r *rig) settle(ctx context.Context) error {
	if _, err := r.server.Admin().ExecContext(ctx, "SET GLOBAL innodb_max_dirty_pages_pct=0"); err != nil {
		return err
	}
	deadline := time.Now().Add(requestTime)
	for dirty := settledPages + 1; dirty > settledPages && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		row := r.server.Admin().QueryRowContext(ctx, "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS "+
			"WHERE VARIABLE_NAME='INNODB_BUFFER_POOL_PAGES_DIRTY'")
		if err := row.Scan(&dirty); err != nil {
			return err
		}
	}
	_, err := r.server.Admin().ExecContext(ctx, "SET GLOBAL innodb_max_dirty_pages_pct=90")
	return err
}

// settledPages is how many dirty pages a quiet server may keep.
const settledPages = 200

// asset is what one hold takes.
type asset struct {
	owner       string
	coupon, lot id.ID
}

func (a asset) couponHex() string { return a.coupon.String() }
func (a asset) lotHex() string    { return a.lot.String() }

func newAsset(owner string, number, n int64) asset {
	a := asset{owner: owner}
	put := func(to *id.ID, v int64) {
		for i := range 8 {
			to[15-i] = byte(v >> (8 * i))
		}
	}
	put(&a.coupon, number<<32+n)
	put(&a.lot, number)
	return a
}

var errUsedUp = errors.New("the seeded coupons are used up; seed more or run shorter")

// take gives every call another owner than the calls before it, and another coupon each time an owner's turn comes.
func (r *rig) take() (asset, error) {
	n := r.next.Add(1) - 1
	if n >= owners*couponsEach {
		return asset{}, errUsedUp
	}
	number := n%owners + 1
	return newAsset(fmt.Sprintf("u-%d", number), number, n/owners+1), nil
}

func (r *rig) takeHot() (asset, error) {
	n := r.hot.Add(1)
	if n > hotCoupons {
		return asset{}, errUsedUp
	}
	return newAsset(hotOwner, 0, n), nil
}

func (r *rig) holdRequest(a asset, order string) ledger.Hold {
	return ledger.Hold{
		Owner: a.owner, OrderID: order, Attempt: 1, TTL: 24 * time.Hour,
		Lines: []ledger.Line{{LineID: "l1", Amount: ledger.Money{Amount: 10_000, Currency: currency}}},
		Items: []ledger.Item{
			{Kind: ledger.CouponItem, CouponID: a.coupon},
			{Kind: ledger.MoneyItem, Amount: ledger.Money{Amount: 1, Currency: currency}},
		},
	}
}

func (r *rig) committerHold(ctx context.Context, a asset) error {
	order := fmt.Sprintf("o-%d", r.serial.Add(1))
	_, err := r.in.Ledger.Hold(ctx, ledger.Caller{Key: order}, r.holdRequest(a, order))
	return err
}

func (r *rig) naiveHold(ctx context.Context, a asset) error {
	n := r.serial.Add(1)
	return r.naive.hold(ctx, a.owner, a.couponHex(), a.lotHex(), fmt.Sprintf("%032x", n), n)
}

// measureDocuments makes the baseline's rows as long as the real ones.
func (r *rig) measureDocuments(ctx context.Context) error {
	a, err := r.take()
	if err != nil {
		return err
	}
	if err := r.committerHold(ctx, a); err != nil {
		return err
	}
	var doc, reply int
	row := r.plain.QueryRowContext(ctx, "SELECT (SELECT LENGTH(doc) FROM orders LIMIT 1), (SELECT LENGTH(reply) FROM operations LIMIT 1)")
	if err := row.Scan(&doc, &reply); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "a hold writes a document of %d bytes and a reply of %d bytes\n", doc, reply)
	r.naive.doc, r.naive.reply = strings.Repeat("d", doc), strings.Repeat("r", reply)
	return nil
}

// result is one run.
type result struct {
	perSecond  float64
	p50, p99   time.Duration
	operations int64 // with the warm-up
}

func (x result) String() string {
	return fmt.Sprintf("%8.0f/s   p50 %7.2f ms   p99 %7.2f ms", x.perSecond, float64(x.p50)/1e6, float64(x.p99)/1e6)
}

// load runs f from n callers at once for d, after a short warm-up that is not counted.
func load(ctx context.Context, n int, d time.Duration, f func(context.Context) error) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, d+requestTime)
	defer cancel()
	begin := time.Now().Add(min(warmupSeconds*time.Second, d/3))
	end := begin.Add(d)
	histograms := make([]*hdrhistogram.Histogram, n)
	var failed atomic.Pointer[error]
	var operations atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		histograms[i] = hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
		wg.Go(func() {
			for failed.Load() == nil {
				start := time.Now()
				if start.After(end) {
					return
				}
				if err := f(ctx); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				operations.Add(1)
				if now := time.Now(); start.After(begin) && now.Before(end) {
					_ = histograms[i].RecordValue(now.Sub(start).Microseconds())
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return result{}, *err
	}
	all := histograms[0]
	for _, h := range histograms[1:] {
		all.Merge(h)
	}
	quantile := func(q float64) time.Duration { return time.Duration(all.ValueAtQuantile(q)) * time.Microsecond }
	return result{float64(all.TotalCount()) / d.Seconds(), quantile(50), quantile(99), operations.Load()}, nil
}

func (r *rig) processes() map[string]int {
	return map[string]int{"client": os.Getpid(), "server": r.server.PID()}
}

// perOperation is CPU time in microseconds; the warm-up counts on both sides of the division.
func perOperation(cpu time.Duration, x result) float64 {
	return float64(cpu.Microseconds()) / float64(x.operations)
}

// best runs f at several concurrencies and returns the fastest.
func (r *rig) best(ctx context.Context, name string, d time.Duration, concurrency []int, f func(context.Context) error) (result, error) {
	var best result
	for _, n := range concurrency {
		before := cpuTimes(r.processes())
		x, err := load(ctx, n, d, f)
		if err != nil {
			return best, fmt.Errorf("%s: %w", name, err)
		}
		after := cpuTimes(r.processes())
		fmt.Fprintf(r.out, "  %-34s %4d callers %v   CPU per operation: client %4.0f µs, MariaDB %4.0f µs\n", name, n, x,
			perOperation(after["client"]-before["client"], x), perOperation(after["server"]-before["server"], x))
		if x.perSecond > best.perSecond {
			best = x
		}
	}
	return best, nil
}

func (r *rig) compareCommitter(ctx context.Context, d time.Duration) (float64, error) {
	fmt.Fprintln(r.out, "\nholds of one coupon and one money item, spread over owners")
	base, err := r.best(ctx, "five round trips", d/2, []int{8, 16, 32, 64}, func(ctx context.Context) error {
		a, err := r.take()
		if err != nil {
			return err
		}
		return r.naiveHold(ctx, a)
	})
	if err != nil {
		return 0, err
	}
	ours, err := r.best(ctx, "committer", d, []int{callers}, func(ctx context.Context) error {
		a, err := r.take()
		if err != nil {
			return err
		}
		return r.committerHold(ctx, a)
	})
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(r.out, "  p99 of the committer / p99 of the baseline: %.2f\n", float64(ours.p99)/float64(base.p99))
	return ours.perSecond / base.perSecond, nil
}

func (r *rig) compareHot(ctx context.Context, d time.Duration) (float64, error) {
	fmt.Fprintln(r.out, "\nall callers on one hot row")
	base, err := r.best(ctx, "plain UPDATE of one lot", d/2, []int{1, 8, 64}, func(ctx context.Context) error {
		return r.naive.plainUpdate(ctx, hotOwner, newAsset(hotOwner, 0, 0).lotHex())
	})
	if err != nil {
		return 0, err
	}
	ours, err := r.best(ctx, "committer, full holds of one owner", d, []int{callers}, func(ctx context.Context) error {
		a, err := r.takeHot()
		if err != nil {
			return err
		}
		return r.committerHold(ctx, a)
	})
	return ours.perSecond / base.perSecond, err
}

func (r *rig) compareIdle(ctx context.Context, d time.Duration) (float64, error) {
	fmt.Fprintln(r.out, "\none caller, nothing else")
	conn, err := r.plain.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	var base, ours result
	for range 3 { // in turns, so that both see the same noise
		b, err := r.best(ctx, "two round trips, the same writes", d/4, []int{1}, func(ctx context.Context) error {
			a, err := r.take()
			if err != nil {
				return err
			}
			n := r.serial.Add(1)
			return r.naive.twoTrips(ctx, conn, a.owner, a.couponHex(), a.lotHex(), fmt.Sprintf("%032x", n), n)
		})
		if err != nil {
			return 0, err
		}
		o, err := r.best(ctx, "committer", d/4, []int{1}, func(ctx context.Context) error {
			a, err := r.take()
			if err != nil {
				return err
			}
			return r.committerHold(ctx, a)
		})
		if err != nil {
			return 0, err
		}
		base.p50 += b.p50
		ours.p50 += o.p50
	}
	return float64(ours.p50) / float64(base.p50), nil
}
