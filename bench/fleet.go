package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// fleetShards is how many shards share the one server of a fleet.
const fleetShards = 4

// durable are the settings of a server that keeps what it has acknowledged, whatever happens.
var durable = []string{"innodb_flush_log_at_trx_commit=1", "sync_binlog=1", "binlog_format=ROW"}

// fleet is one MariaDB server with several shards, and one instance in this process in front of them.
type fleet struct {
	folder string
	server *mariadb.Server
	shards []instance.Shard
	reg    *register.File
	in     *instance.Instance
	serial atomic.Int64 // makes owners, orders and keys unique
}

// startFleet starts a server with these settings in addition to those of durability.
func startFleet(ctx context.Context, out io.Writer, settings ...string) (f *fleet, err error) {
	f = &fleet{}
	defer func() {
		if err != nil {
			f.close()
			f = nil
		}
	}()
	if f.folder, err = os.MkdirTemp("", "statesvc-bench-"); err != nil {
		return f, err
	}
	fmt.Fprintf(out, "starting MariaDB with %d shards (%s) …\n", fleetShards, strings.Join(durable, ", "))
	if f.server, err = mariadb.Start(ctx, mariadb.Options{Settings: append(settings, durable...)}); err != nil {
		return f, err
	}
	for i := range fleetShards {
		name := fmt.Sprintf("s%d", i+1)
		if _, err = f.server.Admin().ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
			return f, err
		}
		f.shards = append(f.shards, instance.Shard{Name: name, DSN: f.server.DSN(name)})
	}
	if f.reg, err = register.OpenFile(filepath.Join(f.folder, "register")); err != nil {
		return f, err
	}
	if err = instance.Bootstrap(ctx, f.reg, f.shards, time.Now, func(string) {}); err != nil {
		return f, err
	}
	f.in, err = instance.Open(ctx, instance.Config{
		Name: "bench", Register: f.reg, Shards: f.shards, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	return f, err
}

func (f *fleet) close() {
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	if f.in != nil {
		_ = f.in.Close(ctx)
	}
	if f.reg != nil {
		_ = f.reg.Close()
	}
	if f.server != nil {
		_ = f.server.Stop()
	}
	_ = os.RemoveAll(f.folder)
}

// unique makes a name that no call before has had.
func (f *fleet) unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, f.serial.Add(1)) }

const warehouse = "main"

// stock makes a SKU.
func (f *fleet) stock(ctx context.Context, sku string, units int64) error {
	return f.quota(ctx, ledger.SetQuota{Quota: ledger.StockID(sku, warehouse), Total: units})
}

func (f *fleet) quota(ctx context.Context, r ledger.SetQuota) error {
	_, err := f.in.Ledger.SetQuota(ctx, ledger.Caller{Key: f.unique("set")}, r)
	return err
}

// buy is what one buyer in a sale does: an owner who was never here takes one piece.
func (f *fleet) buy(ctx context.Context, sku string) error {
	return f.hold(ctx, f.unique("buyer"), ledger.Item{Kind: ledger.StockItem, SKU: sku, Location: warehouse, Quantity: 1})
}

// hold takes items for an order of its own, with the same key until there is a verdict.
func (f *fleet) hold(ctx context.Context, owner string, items ...ledger.Item) error {
	order := f.unique("order")
	request := ledger.Hold{Owner: owner, OrderID: order, Attempt: 1, TTL: 24 * time.Hour, Items: items}
	for _, it := range items {
		if it.Kind == ledger.CouponItem {
			request.Lines = []ledger.Line{{LineID: "l1", Amount: ledger.Money{Amount: 10_000, Currency: currency}}}
		}
	}
	return untilDecided(ctx, func() error {
		_, err := f.in.Ledger.Hold(ctx, ledger.Caller{Key: order}, request)
		return err
	})
}

// untilDecided makes a call, with the same key, until there is a verdict.
func untilDecided(ctx context.Context, call func() error) error {
	for {
		if err := call(); ctx.Err() != nil || !slices.ContainsFunc(undecided, func(e error) bool { return errors.Is(err, e) }) {
			return err
		}
	}
}

// undecided are the answers after which a client sends the same key again.
var undecided = []error{ledger.ErrQuotaUnavailable, shard.ErrOverloaded, shard.ErrOutcomeUnknown}

// counters are what the server and the shards have counted.
type counters struct {
	durable   int64 // commits that went to the binary log: those that have written
	commits   int64 // COMMIT statements; reads on a snapshot have one, too
	transfers int64 // of units, from a home or back to it: three commits each
}

func (c counters) since(before counters) counters {
	return counters{c.durable - before.durable, c.commits - before.commits, c.transfers - before.transfers}
}

func (f *fleet) count(ctx context.Context) (c counters, err error) {
	row := f.server.Admin().QueryRowContext(ctx, `SELECT
(SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='BINLOG_COMMITS'),
(SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='COM_COMMIT')`)
	if err := row.Scan(&c.durable, &c.commits); err != nil {
		return c, err
	}
	c.transfers, err = f.sum(ctx, "COALESCE(SUM(out_seq+in_seq),0) FROM %s.grants")
	return c, err
}

// sum adds up one number of every shard. %s in the query is the shard's database.
func (f *fleet) sum(ctx context.Context, query string, args ...any) (all int64, err error) {
	for _, s := range f.shards {
		var one int64
		err := f.server.Admin().QueryRowContext(ctx, "SELECT "+fmt.Sprintf(query, s.Name), args...).Scan(&one)
		if err != nil {
			return 0, fmt.Errorf("shard %s: %w", s.Name, err)
		}
		all += one
	}
	return all, nil
}
