package bench

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// seed gives every owner money and the coupons their turn, writes the coupons' ids to a file, and returns a token. Money is
// credited through an instance. Coupons are too many for that: they are written as rows, with genuine ids.
func (c *cluster) seed(ctx context.Context, coupons int64, file string) (token string, err error) {
	err = c.withRegister(func(reg register.Register) error {
		in, err := instance.Open(ctx, c.seeding(reg))
		if err != nil {
			return err
		}
		token, err = createKey(ctx, in.Keys)
		if err == nil {
			err = creditOwners(ctx, in.Ledger)
		}
		if err == nil {
			err = c.writeCoupons(ctx, in, coupons, file)
		}
		return errors.Join(err, in.Close(context.WithoutCancel(ctx)))
	})
	return token, err
}

// nextYear is when everything ends that is issued.
func nextYear() time.Time { return time.Now().UTC().AddDate(1, 0, 0).Truncate(time.Hour) }

func creditOwners(ctx context.Context, l *ledger.Ledger) error {
	end := nextYear()
	return times(ctx, httpOwners, func(ctx context.Context, n int64) error {
		_, err := l.CreditLot(ctx, ledger.Caller{Key: "seed"}, ledger.CreditLot{
			Owner: httpOwner(n), IssueRef: "seed", Source: "bench", ExpiresAt: end,
			Amount: ledger.Money{Amount: lotMoney, Currency: currency},
		})
		return err
	})
}

// couponRows is how many rows an INSERT has. SQLite takes 32 766 parameters.
const couponRows = 500

// insertCoupons has the columns of a coupon that was just issued; only the first five differ from row to row.
const (
	insertCoupons = `INSERT INTO coupons (bucket, owner, coupon_id, issue_ref, expires_at, campaign_id, state, ver, discount, currency,
amount, basis_points, cap, min_spend, valid_from, issued_at) VALUES `
	couponValues = "(?,?,?,?,?,'bench','AVAILABLE',1,'FIXED','" + currency + "',500,0,0,0,0,0)"
)

// writeCoupons writes the rows shard by shard and bucket by bucket, as the primary key has them: that is the fastest way.
func (c *cluster) writeCoupons(ctx context.Context, in *instance.Instance, count int64, file string) error {
	minter := id.NewMinter(in.Codec, time.Now)
	lease := id.NewLease(id.NewRegisterStore(in.Register), minter, "seed-coupons", slog.New(slog.DiscardHandler))
	if err := lease.Start(ctx); err != nil {
		return err
	}
	text, parameters, err := c.mintCoupons(in, minter, count)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err = errors.Join(err, lease.Run(ended)); err != nil { // gives the node back
		return err
	}
	for i, s := range c.shards {
		if err := insertAll(ctx, s, parameters[i]); err != nil {
			return fmt.Errorf("shard %s: %w", s.Name, err)
		}
	}
	return os.WriteFile(file, text, 0o600)
}

// mintCoupons returns the file of ids, and for each shard the parameters of all its rows.
func (c *cluster) mintCoupons(in *instance.Instance, minter *id.Minter, count int64) (text []byte, parameters [][]any, err error) {
	text = make([]byte, count*int64(couponLength+1))
	parameters = make([][]any, len(c.shards))
	for _, first := range ownersByBucket() {
		owner := httpOwner(first)
		bucket := shard.BucketOf(owner)
		number, _ := in.Routes.Lookup(bucket) // there is a map: an instance has started with it
		of := &parameters[number-1]
		for n := first; n < count; n += httpOwners {
			coupon, err := minter.Mint(id.Coupon, uint16(bucket), in.Store.Placement(bucket))
			if err != nil {
				return nil, nil, err
			}
			copy(text[n*int64(couponLength+1):], in.Codec.Text(id.Coupon, coupon)+"\n")
			*of = append(*of, int(bucket), owner, coupon[:], "seed-"+strconv.FormatInt(n, 10), nextYear().UnixMicro())
		}
	}
	return text, parameters, nil
}

func ownersByBucket() []int64 {
	owners := make([]int64, httpOwners)
	for i := range owners {
		owners[i] = int64(i)
	}
	slices.SortFunc(owners, func(a, b int64) int {
		return cmp.Compare(shard.BucketOf(httpOwner(a)), shard.BucketOf(httpOwner(b)))
	})
	return owners
}

// insertAll writes the rows of a shard in one transaction.
func insertAll(ctx context.Context, s instance.Shard, parameters []any) error {
	db, err := s.Open(time.Now)
	if err != nil {
		return err
	}
	return errors.Join(insertRows(ctx, db.SQL(), parameters), db.Close())
}

func insertRows(ctx context.Context, db *sql.DB, parameters []any) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after the commit
	width := strings.Count(couponValues, "?")
	for rows := range slices.Chunk(parameters, couponRows*width) {
		values := strings.Repeat(","+couponValues, len(rows)/width)[1:]
		if _, err := tx.ExecContext(ctx, insertCoupons+values, rows...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// times calls f with 0 to count-1 from many goroutines, so that the committer has batches to make.
func times(ctx context.Context, count int64, f func(context.Context, int64) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range callers {
		group.Go(func() error {
			for n := next.Add(1) - 1; n < count; n = next.Add(1) - 1 {
				if err := f(ctx, n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
