package events

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// rig is a cluster of one shard, and instances that follow its events. The clock of senders is the test's.
type rig struct {
	t      *testing.T
	reg    register.Register
	stores []*shard.Store // of the instances
	ledger *ledger.Ledger // of the first instance
	feeds  []*Feed
	hooks  *Webhooks
	now    atomic.Int64 // microseconds
	number atomic.Int64
}

// engines are the databases that tests run on, with the number of instances that share one.
var engines = []struct {
	name      string
	instances int
	open      func(t *testing.T) func() (*shard.DB, error)
}{
	{"mariadb", 2, func(t *testing.T) func() (*shard.DB, error) {
		t.Helper()
		server := testdb.MariaDB(t)
		dsn := server.DSN(server.Schema(t))
		return func() (*shard.DB, error) { return shard.OpenMariaDB(dsn, time.Now) }
	}},
	{"sqlite", 1, func(t *testing.T) func() (*shard.DB, error) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "shard.db")
		return func() (*shard.DB, error) { return shard.OpenSQLite(path, time.Now) }
	}},
}

func onEngines(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { test(t, newRig(t, e.instances, e.open(t))) })
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err.Error())
	}
	return v
}

func newRig(t *testing.T, instances int, open func() (*shard.DB, error)) *rig {
	t.Helper()
	r := &rig{t: t, reg: must(register.OpenFile(filepath.Join(t.TempDir(), "register")))}
	t.Cleanup(func() { _ = r.reg.(*register.File).Close() })
	r.now.Store(time.Now().UnixMicro())
	db := must(open())
	t.Cleanup(func() { _ = db.Close() })
	must(migrations.Up(t.Context(), db.SQL(), db.Dialect.String()))
	if err := db.TakeBuckets(t.Context(), 0, shard.Buckets-1); err != nil {
		t.Fatal(err)
	}
	record := shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "n1", Nodes: map[string]shard.Node{"n1": {Address: "here"}}}
	shards := must(shard.NewUniformMap([]string{"one"}))
	must(register.Put(t.Context(), r.reg, shard.MapKey, must(shards.Encode())))
	must(register.Put(t.Context(), r.reg, shard.RecordKey(1), must(record.Encode())))
	codec := must(id.NewCodec(map[uint8][]byte{1: []byte("statesvc-test-key-0123456789abcd")}, 1))
	for range instances {
		r.start(codec, open)
	}
	r.hooks = NewWebhooks(r.reg, r.clock, rand.Reader)
	return r
}

// start adds an instance.
func (r *rig) start(codec *id.Codec, open func() (*shard.DB, error)) {
	r.t.Helper()
	routes := must(shard.OpenRoutes(r.t.Context(), r.reg, shard.RoutesOptions{
		Now: time.Now, RenewEvery: time.Hour, Log: slog.New(slog.DiscardHandler),
	}))
	r.t.Cleanup(routes.Close)
	store := shard.NewStore(shard.StoreConfig{
		Routes: routes, Open: func(shard.Route) (*shard.DB, error) { return open() },
		Committer: shard.Config{Machine: ledger.NewMachine(codec), Now: time.Now},
	})
	r.t.Cleanup(func() { _ = store.Close(context.Background()) })
	minter := id.NewMinter(codec, time.Now)
	minter.Use(id.Grant{Node: uint16(len(r.stores) + 1), Mark: time.Now().Add(time.Hour)})
	l := ledger.New(ledger.Config{Store: store, Codec: codec, Minter: minter, Now: time.Now})
	if r.ledger == nil {
		r.ledger = l
	}
	r.stores = append(r.stores, store)
	r.feeds = append(r.feeds, NewFeed(Config{
		Ledger: l, Shards: func() []int { return []int{1} }, Bucket: func(int) (shard.Bucket, bool) { return 0, true },
		Primary: store.Primary, Now: r.clock, Log: slog.New(slog.DiscardHandler),
	}))
}

func (r *rig) clock() time.Time { return time.UnixMicro(r.now.Load()) }

func (r *rig) advance(d time.Duration) { r.now.Add(d.Microseconds()) }

// decide makes n events, each of an owner of its own, and gives them numbers.
func (r *rig) decide(n int) {
	r.t.Helper()
	for range n {
		owner := fmt.Sprintf("owner-%d", r.number.Add(1))
		_, err := r.ledger.CreditLot(r.t.Context(), ledger.Caller{Key: "k"}, ledger.CreditLot{
			Owner: owner, IssueRef: "r", Source: "test", Amount: ledger.Money{Amount: 5, Currency: "CNY"},
			ExpiresAt: time.Now().Add(time.Hour),
		})
		if err != nil {
			r.t.Error(err)
		}
	}
	if err := r.feeds[0].look(r.t.Context(), 1); err != nil {
		r.t.Error(err)
	}
}

// sender is a sender of an instance.
func (r *rig) sender(name string, instance int) *Sender {
	return NewSender(SenderConfig{
		Feed: r.feeds[instance%len(r.feeds)], Register: r.reg, Instance: name, Now: r.clock, Log: slog.New(slog.DiscardHandler),
	})
}

// delivery is the way of a webhook through the events, as one instance sees it.
func (r *rig) delivery(name string, instance int, hook Webhook) *delivery {
	return &delivery{Sender: r.sender(name, instance), hook: hook, shard: 1}
}

// step is a step that must not fail.
func (d *delivery) mustStep(t *testing.T) time.Duration {
	t.Helper()
	wait, err := d.step(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return wait
}
