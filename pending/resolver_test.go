package pending_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/blacklist"
	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/pending"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// world is a shard and a register, as several instances see them.
type world struct {
	t    *testing.T
	db   *shard.DB
	path string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	folder := t.TempDir()
	db, err := shard.OpenSQLite(filepath.Join(folder, "shard.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := migrations.Up(t.Context(), db.SQL(), "sqlite"); err != nil {
		t.Fatal(err)
	}
	if err := db.TakeBuckets(t.Context(), 0, shard.Buckets-1); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, db: db, path: filepath.Join(folder, "register")}
}

// record puts a decided operation into the shard.
func (w *world) record(owner, key, reply string) {
	w.t.Helper()
	_, err := w.db.SQL().ExecContext(w.t.Context(), "INSERT INTO operations (bucket, owner, op_key, fingerprint, verdict, epoch, "+
		"decided_at, reply) VALUES (?,?,?,?,'DONE',1,1,?)", int(shard.BucketOf(owner)), owner, key, []byte("print"), []byte(reply))
	if err != nil {
		w.t.Fatal(err)
	}
}

// instance is a resolver with a handle of its own on the register.
type instance struct {
	*pending.Resolver
	blacklist *blacklist.Blacklist
	register  *register.File
}

func (w *world) instance(name string, primary func() error) *instance {
	w.t.Helper()
	reg, err := register.OpenFile(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	blocks, err := blacklist.Open(w.t.Context(), reg, time.Now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		blocks.Close()
		_ = reg.Close()
	})
	in := &instance{blacklist: blocks, register: reg}
	in.Resolver = pending.NewResolver(pending.ResolverConfig{
		Instance: name, Blacklist: blocks, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Primary: func(int) (*shard.DB, uint64, error) { return w.db, 1, primary() },
	})
	return in
}

func reachable() error { return nil }

func (in *instance) blocked(owner string) bool {
	return in.blacklist.Check(blacklist.Target{Owner: owner}, time.Now()) != nil
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func operations(owner string, keys ...string) shard.UndecidedBatch {
	u := shard.UndecidedBatch{Shard: 1, Epoch: 1}
	for _, key := range keys {
		u.Ops = append(u.Ops, &shard.Op{Owner: owner, Bucket: shard.BucketOf(owner), Key: key, Fingerprint: []byte("print")})
	}
	return u
}

func (in *instance) records(t *testing.T) int {
	t.Helper()
	list, err := in.blacklist.ListUndecided(t.Context(), blacklist.AllShards)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestOwnersAreBlockedUntilTheShardHasDecided(t *testing.T) {
	w := newWorld(t)
	w.record("a", "done", "the reply")
	away := errors.New("the shard is away")
	var back atomic.Bool
	here := w.instance("here", func() error {
		if back.Load() {
			return nil
		}
		return away
	})
	other := w.instance("other", func() error { return away })

	fates := make(chan []shard.Fate, 1)
	go func() { fates <- here.Undecided(t.Context(), operations("a", "done", "lost", "")) }()
	eventually(t, "the owner is blocked here and elsewhere", func() bool { return here.blocked("a") && other.blocked("a") })
	if here.blocked("b") {
		t.Error("an owner who has nothing to do with it is blocked")
	}
	back.Store(true)
	got := <-fates
	want := []shard.Verdict{shard.Done, shard.Aborted, shard.Aborted}
	for i, f := range got {
		if f.Verdict != want[i] {
			t.Errorf("operation %d: %v, want %v", i, f.Verdict, want[i])
		}
	}
	if len(got) != 3 || string(got[0].Body) != "the reply" {
		t.Errorf("fates %+v", got)
	}
	if here.blocked("a") || here.records(t) != 0 {
		t.Error("the owner is still blocked after the decision")
	}
	eventually(t, "the owner is free elsewhere", func() bool { return !other.blocked("a") })
}

// Without the register nobody else can be told, but this instance must not let the owner write.
func TestOwnersAreBlockedHereWithoutTheRegister(t *testing.T) {
	w := newWorld(t)
	var back atomic.Bool
	here := w.instance("here", func() error {
		if back.Load() {
			return nil
		}
		return errors.New("the shard is away")
	})
	if err := here.register.Close(); err != nil {
		t.Fatal(err)
	}
	fates := make(chan []shard.Fate, 1)
	go func() { fates <- here.Undecided(t.Context(), operations("a", "lost")) }()
	eventually(t, "the owner is blocked here", func() bool { return here.blocked("a") })
	back.Store(true)
	if got := <-fates; len(got) != 1 || got[0].Verdict != shard.Aborted {
		t.Errorf("fates %+v", got)
	}
	if here.blocked("a") {
		t.Error("the owner is still blocked after the decision")
	}
}

func TestRecordsOfADeadInstanceAreAdopted(t *testing.T) {
	w := newWorld(t)
	w.record("a", "done", "the reply")
	dead := w.instance("dead", func() error { return errors.New("cut off") })
	ctx, kill := context.WithCancel(t.Context())
	ended := make(chan []shard.Fate, 1)
	go func() { ended <- dead.Undecided(ctx, operations("a", "done", "lost")) }()
	other := w.instance("other", reachable)
	eventually(t, "the records are there", func() bool { return other.records(t) == 2 && other.blocked("a") })
	kill()
	if fates := <-ended; len(fates) != 0 {
		t.Errorf("an instance that was cut off claims to know %+v", fates)
	}
	if n, err := other.Resolve(t.Context(), 1); err != nil || n != 2 {
		t.Fatalf("resolved %d: %v", n, err)
	}
	if other.blocked("a") || other.records(t) != 0 {
		t.Error("the owner is still blocked")
	}
	var verdict string
	row := w.db.SQL().QueryRowContext(t.Context(), "SELECT verdict FROM operations WHERE op_key='lost'")
	if err := row.Scan(&verdict); err != nil || verdict != "ABORTED" {
		t.Errorf("the lost operation has %q %v, want a tombstone", verdict, err)
	}
}

func TestRunAdoptsWhatIsOld(t *testing.T) {
	w := newWorld(t)
	in := w.instance("in", reachable)
	err := in.blacklist.PutUndecided(t.Context(), []blacklist.Undecided{{
		Shard: 1, Owner: "a", Bucket: uint16(shard.BucketOf("a")), Key: "k", Fingerprint: []byte("print"), Epoch: 1,
		Instance: "dead", At: time.Now().Add(-time.Minute),
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- in.Run(ctx) }()
	eventually(t, "the owner is free", func() bool { return !in.blocked("a") })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSweeper(t *testing.T) {
	due := map[int][]string{1: {"a", "b"}, 2: {"c"}}
	expired := make(chan string, 16)
	s := pending.NewSweeper(pending.SweeperConfig{
		Shards: func() []int { return []int{1, 2} }, Every: time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Lead: func(_ context.Context, shard int) bool { return shard == 1 },
		Due: func(_ context.Context, shard, _ int) ([]string, error) {
			owners := due[shard]
			due[shard] = nil
			return owners, nil
		},
		Expire: func(_ context.Context, owner string) error {
			expired <- owner
			return nil
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	got := map[string]bool{<-expired: true, <-expired: true}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !got["a"] || !got["b"] || len(expired) != 0 {
		t.Errorf("expired %v and %d more; shard 2 is another instance's", got, len(expired))
	}
}
