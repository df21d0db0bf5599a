package shard_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// routed is a store that reaches one shard by the routes of a register.
type routed struct {
	*shard.Store
	t   *testing.T
	db  *shard.DB
	reg register.Register
}

func newRouted(t *testing.T, open func() (*shard.DB, error), db *shard.DB, cfg shard.Config, more ...func(*shard.StoreConfig)) *routed {
	t.Helper()
	cfg.Machine, cfg.Now = counters{}, time.Now
	reg, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	r := &routed{t: t, db: db, reg: reg}
	shards, err := shard.NewUniformMap([]string{"one"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := shards.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r.put(shard.MapKey, text)
	r.route(1)
	routes, err := shard.OpenRoutes(t.Context(), reg, shard.RoutesOptions{
		Now: time.Now, RenewEvery: time.Hour, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(routes.Close)
	of := shard.StoreConfig{Routes: routes, Open: func(shard.Route) (*shard.DB, error) { return open() }, Committer: cfg}
	for _, change := range more {
		change(&of)
	}
	r.Store = shard.NewStore(of)
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *routed) put(key string, value []byte) {
	r.t.Helper()
	if _, err := register.Put(r.t.Context(), r.reg, key, value); err != nil {
		r.t.Fatal(err)
	}
}

// route says in the register under which epoch the shard is written to.
func (r *routed) route(epoch uint64) { r.t.Helper(); r.record(epoch, shard.PhaseServing) }

func (r *routed) record(epoch uint64, phase shard.Phase) {
	r.t.Helper()
	record := shard.Record{Epoch: epoch, Phase: phase, Primary: "n1", Nodes: map[string]shard.Node{"n1": {Address: "here"}}}
	text, err := record.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	r.put(shard.RecordKey(1), text)
}

// read reads a as a caller does who waits for a moment.
func (r *routed) read() (n int64, err error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	err = r.Read(ctx, shard.BucketOf("a"), func(tx *gorm.DB, _ time.Time) error {
		return tx.Raw("SELECT COALESCE(SUM(n),0) FROM counters WHERE owner='a'").Scan(&n).Error
	})
	return n, err
}

func (r *routed) submit(key string) shard.Reply {
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	return r.Submit(ctx, op("a", key, 1))
}

// stores runs a test on both databases.
func stores(t *testing.T, f func(t *testing.T, r *routed)) {
	engines(t, func(t *testing.T, db *shard.DB) {
		f(t, newRouted(t, func() (*shard.DB, error) { return again(t, db) }, db, shard.Config{}))
	})
}

// again opens the database of a test once more, since a store closes what it has opened.
func again(t *testing.T, db *shard.DB) (*shard.DB, error) {
	t.Helper()
	var where string
	if db.Dialect == shard.SQLite {
		var seq int
		var name string
		if err := db.SQL().QueryRowContext(t.Context(), "PRAGMA database_list").Scan(&seq, &name, &where); err != nil {
			return nil, err
		}
		return shard.OpenSQLite(where, time.Now)
	}
	if err := db.SQL().QueryRowContext(t.Context(), "SELECT CONCAT('app@tcp(127.0.0.1:', @@port, ')/', DATABASE())").Scan(&where); err != nil {
		return nil, err
	}
	return shard.OpenMariaDB(where, time.Now)
}

// A read asks the fences in its own snapshot: what an old route shows would be of another epoch, or of a bucket that lives
// elsewhere by now.
func TestReadsAreFenced(t *testing.T) {
	stores(t, func(t *testing.T, r *routed) {
		want(t, r.submit("k1"), shard.Done, "1")
		if n, err := r.read(); n != 1 || err != nil {
			t.Fatalf("read %d %v", n, err)
		}
		exec(t, r.db, "UPDATE bucket_owner SET state='GONE' WHERE bucket=?", int(shard.BucketOf("a")))
		if n, err := r.read(); !errors.Is(err, shard.ErrFailover) {
			t.Errorf("a bucket that moved away was read: %d %v", n, err)
		}
		exec(t, r.db, "UPDATE bucket_owner SET state='SERVING' WHERE bucket=?", int(shard.BucketOf("a")))
		exec(t, r.db, "UPDATE fence SET epoch=2 WHERE id=1")
		if n, err := r.read(); !errors.Is(err, shard.ErrFailover) {
			t.Errorf("another epoch was read: %d %v", n, err)
		}
	})
}

// While the epoch rises, callers wait for the new route and then go on.
func TestStoreFollowsTheEpoch(t *testing.T) {
	stores(t, func(t *testing.T, r *routed) {
		want(t, r.submit("k1"), shard.Done, "1")
		exec(t, r.db, "UPDATE fence SET epoch=2 WHERE id=1")
		if reply := r.submit("k2"); !errors.Is(reply.Err, shard.ErrFailover) {
			t.Errorf("without a newer route: %v %v", reply.Verdict, reply.Err)
		}
		news := time.AfterFunc(50*time.Millisecond, func() { r.route(2) })
		defer news.Stop()
		want(t, r.submit("k2"), shard.Done, "2")
		if n, err := r.read(); n != 2 || err != nil {
			t.Errorf("read %d %v", n, err)
		}
	})
}
