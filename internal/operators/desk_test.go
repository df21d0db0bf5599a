package operators_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/api"
	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/operators"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// patience is how long a test waits for what takes milliseconds on an idle machine.
const patience = 30 * time.Second

// world is an instance over one MariaDB shard that another tool fails over.
type world struct {
	*testing.T

	server   *testdb.Server
	dsn      string
	reg      register.Register
	instance *instance.Instance
	desk     *operators.Desk
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server := testdb.Start(t, mariadb.Options{})
	w := &world{T: t, server: server, dsn: server.DSN(server.Schema(t))}
	reg, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	w.reg = reg
	shards := []instance.Shard{{Name: "s1", DSN: w.dsn}}
	if err := instance.Bootstrap(t.Context(), reg, shards, time.Now, func(string) {}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it may be done again
		if err := failover.MarkExternal(t.Context(), reg, 1); err != nil {
			t.Fatal(err)
		}
	}
	w.instance, err = instance.Open(t.Context(), instance.Config{
		Name: "test", Register: reg, Shards: shards, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.instance.Close(context.WithoutCancel(t.Context())) })
	w.desk = operators.New(operators.Config{Register: reg, DSN: func(int) string { return w.dsn }, Now: time.Now})
	return w
}

// write credits an owner under a key of its own, within a second.
func (w *world) write(key string) error {
	ctx, cancel := context.WithTimeout(w.Context(), time.Second)
	defer cancel()
	_, err := w.instance.Ledger.CreditLot(ctx, ledger.Caller{Key: key}, ledger.CreditLot{
		Owner: "user-1", IssueRef: key, Source: "test", Amount: ledger.Money{Amount: 1, Currency: "CNY"}, ExpiresAt: time.Now().Add(time.Hour),
	})
	return err
}

// writes waits until writes go on; a shard may take a moment to be found again.
func (w *world) writes(key string) {
	w.Helper()
	deadline := time.Now().Add(patience)
	for err := w.write(key); err != nil; err = w.write(key) {
		if time.Now().After(deadline) {
			w.Fatalf("%s: %v", key, err)
		}
	}
}

func (w *world) fence(by string) gen.ShardFence {
	w.Helper()
	fenced, err := w.desk.Fence(w.Context(), 1, by, "test")
	if err != nil {
		w.Fatal(err)
	}
	return fenced
}

func (w *world) announce(epoch int64, address string, want error) gen.ShardFence {
	w.Helper()
	served, err := w.desk.Announce(w.Context(), 1, uint64(epoch), address)
	if !errors.Is(err, want) || want == nil && err != nil {
		w.Fatalf("announcing %s under epoch %d: %v, want %v", address, epoch, err, want)
	}
	return served
}

func (w *world) epochAt(dsn string) (epoch int64) {
	w.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		w.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(w.Context(), "SELECT epoch FROM fence WHERE id=1").Scan(&epoch); err != nil {
		w.Fatal(err)
	}
	return epoch
}

// TestExternalFailover: between the fence and the announcement nothing is written; after it writes go on, in the new epoch. An old
// epoch is refused, and saying the same again changes nothing.
func TestExternalFailover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.writes("before")
	fenced := w.fence("tool")
	if again := w.fence("tool"); fenced.Epoch != 2 || fenced.Phase != "FENCING" || again != fenced {
		t.Errorf("%+v, then %+v", fenced, again)
	}
	if err := w.untilRefused(); !errors.Is(err, shard.ErrFailover) && !errors.Is(err, shard.ErrOutcomeUnknown) { // or it was under way
		t.Errorf("a write while fenced: %v", err)
	}
	w.announce(1, w.server.Addr(), api.ErrStaleEpoch)
	served := w.announce(2, w.server.Addr(), nil)
	if want := (gen.ShardFence{Shard: 1, Epoch: 2, Phase: "SERVING", Address: w.server.Addr()}); served != want {
		t.Errorf("%+v", served)
	}
	if epoch := w.epochAt(w.dsn); epoch != 2 {
		t.Errorf("the server is at epoch %d", epoch)
	}
	w.writes("after")
	if again := w.announce(2, w.server.Addr(), nil); again != served {
		t.Errorf("%+v", again)
	}
	w.announce(2, "127.0.0.1:1", api.ErrStaleEpoch)
	found, next, err := w.desk.Failovers(t.Context(), 1, 10, 0)
	if err != nil || next != 0 || len(found) != 1 {
		t.Fatalf("%+v, %d, %v", found, next, err)
	}
	if f := found[0]; f.Epoch != 2 || f.To != w.server.Addr() || !strings.Contains(f.Why, "tool") || f.DurationMs <= 0 {
		t.Errorf("%+v", f)
	}
}

// untilRefused writes until the instance has heard of the fence.
func (w *world) untilRefused() error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err := w.write("while-fenced"); err != nil {
			return err
		}
	}
	return nil
}

// TestPrimaryMustTakeWrites: a server that is read-only, or away, or of a later epoch, does not become the primary.
func TestPrimaryMustTakeWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	epoch := w.fence("tool").Epoch
	w.announce(epoch, "127.0.0.1:1", shard.ErrFailover)
	w.server.Exec(t, "SET GLOBAL read_only=1")
	w.announce(epoch, w.server.Addr(), shard.ErrFailover)
	if r, _, err := failover.ReadRecord(t.Context(), w.reg, 1); err != nil || r.Phase != shard.PhaseFencing || r.Stuck == "" {
		t.Errorf("%+v, %v", r, err)
	}
	w.server.Exec(t, "SET GLOBAL read_only=0")
	w.server.Exec(t, "UPDATE "+w.dsn[strings.LastIndex(w.dsn, "/")+1:]+".fence SET epoch=9")
	w.announce(epoch, w.server.Addr(), api.ErrStaleEpoch)
	w.server.Exec(t, "UPDATE "+w.dsn[strings.LastIndex(w.dsn, "/")+1:]+".fence SET epoch=1")
	w.announce(epoch, w.server.Addr(), nil)
	w.writes("after")
}

// TestTakenOver: whoever fences last is the one who may announce.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.fence("first"), w.fence("second")
	if second.Epoch != first.Epoch+1 {
		t.Errorf("%+v, then %+v", first, second)
	}
	w.announce(first.Epoch, w.server.Addr(), api.ErrStaleEpoch)
	w.announce(second.Epoch, w.server.Addr(), nil)
	if third := w.fence("first"); third.Epoch != second.Epoch+1 {
		t.Errorf("after serving: %+v", third)
	}
}

// TestPrimaryElsewhere: instances follow an announcement to another server, and the old one hears nothing more.
func TestPrimaryElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.writes("before")
	schema := w.dsn[strings.LastIndex(w.dsn, "/")+1:]
	other := testdb.Start(t, mariadb.Options{})
	other.Exec(t, "CREATE DATABASE "+schema+" CHARACTER SET utf8mb4")
	w.prepare(other.DSN(schema))
	epoch := w.fence("tool").Epoch
	w.announce(epoch, other.Addr(), nil)
	w.writes("after")
	if there, here := w.epochAt(other.DSN(schema)), w.epochAt(w.dsn); there != epoch || here != 1 {
		t.Errorf("the new primary is at epoch %d, the old one at %d", there, here)
	}
	for dsn, want := range map[string]int{w.dsn: 1, other.DSN(schema): 1} {
		if got := w.count(dsn); got != want {
			t.Errorf("%s has %d lots, want %d", dsn, got, want)
		}
	}
}

// prepare makes the schema of the shard somewhere else, without what was written meanwhile.
func (w *world) prepare(dsn string) {
	w.Helper()
	reg, err := register.OpenFile(filepath.Join(w.TempDir(), "register"))
	if err != nil {
		w.Fatal(err)
	}
	defer reg.Close()
	if err := instance.Bootstrap(w.Context(), reg, []instance.Shard{{Name: "s1", DSN: dsn}}, time.Now, func(string) {}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) count(dsn string) (lots int) {
	w.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		w.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(w.Context(), "SELECT COUNT(*) FROM lots").Scan(&lots); err != nil {
		w.Fatal(err)
	}
	return lots
}
