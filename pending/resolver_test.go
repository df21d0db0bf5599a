package pending_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
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

	changed chan struct{} // of the routes; nil: they never change
	logs    slog.Handler  // nil: nobody reads them
}

func (w *world) log() slog.Handler {
	if w.logs == nil {
		return slog.DiscardHandler
	}
	return w.logs
}

// lineCount counts the lines of a log that say a certain thing.
type lineCount struct {
	slog.Handler

	what  string
	lines atomic.Int32
}

func (c *lineCount) Enabled(context.Context, slog.Level) bool { return true }

func (c *lineCount) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, c.what) {
		c.lines.Add(1)
	}
	return nil
}

// A shard that is away is asked many times a second, and spoken of once.
func TestAnOutageIsSaidSeldom(t *testing.T) {
	w, said, asked := newRegister(t), &lineCount{what: "does not say yet"}, atomic.Int32{}
	w.logs = said
	ctx, cancel := context.WithCancel(t.Context())
	in := w.instance("i1", func() error {
		if asked.Add(1) == 6 {
			cancel()
		}
		return errAway
	})
	in.Undecided(ctx, operations("anna", "k1"))
	if n := said.lines.Load(); n != 1 {
		t.Errorf("%d lines about %d questions", n, asked.Load())
	}
}

// newRegister is a world whose shard is never reached, which saves much of the time of a test.
func newRegister(t *testing.T) *world {
	t.Helper()
	return &world{t: t, path: filepath.Join(t.TempDir(), "register")}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := shard.OpenSQLite(filepath.Join(t.TempDir(), "shard.db"), time.Now)
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
	w := newRegister(t)
	w.db = db
	return w
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
	return w.instanceOn(name, func(r register.Register) register.Register { return r }, func(int) error { return primary() })
}

// instanceOn sees the register through what wrap makes of it, and each shard through primary.
func (w *world) instanceOn(name string, wrap func(register.Register) register.Register, primary func(shard int) error) *instance {
	w.t.Helper()
	reg, err := register.OpenFile(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	blocks, err := blacklist.Open(w.t.Context(), wrap(reg), time.Now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		blocks.Close()
		_ = reg.Close()
	})
	in := &instance{blacklist: blocks, register: reg}
	in.Resolver = pending.NewResolver(pending.ResolverConfig{
		Instance: name, Blacklist: blocks, Now: time.Now, Log: slog.New(w.log()),
		Primary: func(number int) (*shard.DB, uint64, error) { return w.db, 1, primary(number) },
		Changed: func() <-chan struct{} { return w.changed },
	})
	return in
}

func reachable() error { return nil }

func away() error { return errAway }

var errAway = errors.New("the shard is away")

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

// left puts a record of an instance that is gone into the register.
func (in *instance) left(t *testing.T, number uint16, owner string, at time.Time) {
	t.Helper()
	err := in.blacklist.PutUndecided(t.Context(), []blacklist.Undecided{{
		Shard: number, Owner: owner, Bucket: uint16(shard.BucketOf(owner)), Key: "k", Fingerprint: []byte("print"), Epoch: 1,
		Instance: "dead", At: at,
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// A record from the future was written by a wrong clock, and nobody can wait until that time comes.
func TestRunAdoptsWhatIsOld(t *testing.T) {
	w := newWorld(t)
	in := w.instance("in", reachable)
	in.left(t, 1, "a", time.Now().Add(-time.Minute))
	in.left(t, 1, "b", time.Now().Add(time.Hour))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- in.Run(ctx) }()
	eventually(t, "the owners are free", func() bool { return !in.blocked("a") && !in.blocked("b") })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// unreadable puts something into the register that no record can be.
func (in *instance) unreadable(t *testing.T) {
	t.Helper()
	if _, err := register.Create(t.Context(), in.register, "undecided/1/nonsense", nil); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCannotBeDecidedDoesNotHoldTheRestUp(t *testing.T) {
	w := newWorld(t)
	in := w.instanceOn("in", func(r register.Register) register.Register { return r }, func(number int) error {
		if number == 1 {
			return nil
		}
		return errAway
	})
	in.unreadable(t)
	owners := []string{"a", "b", "c", "d", "e"}
	for i, owner := range owners {
		in.left(t, uint16(i+1), owner, time.Now())
	}
	decided, err := in.Resolve(t.Context(), blacklist.AllShards)
	if decided != 1 || !errors.Is(err, errAway) || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("decided %d: %v", decided, err)
	}
	for i, owner := range owners {
		if blocked := in.blocked(owner); blocked != (i > 0) {
			t.Errorf("owner %s of shard %d is blocked: %v", owner, i+1, blocked)
		}
	}
}

func TestMoreRecordsThanATransactionTakes(t *testing.T) {
	in := newWorld(t).instance("in", reachable)
	const count = 450
	for i := range count {
		in.left(t, 1, fmt.Sprintf("owner-%d", i), time.Now())
	}
	if decided, err := in.Resolve(t.Context(), 1); err != nil || decided != count || in.records(t) != 0 {
		t.Errorf("decided %d, %d are left: %v", decided, in.records(t), err)
	}
}

// What an instance has decided it removes, and nothing else: not what stands beside it, nor a later attempt at the same key.
func TestALaterAttemptStaysRecorded(t *testing.T) {
	w := newWorld(t)
	var back atomic.Bool
	here := w.instance("here", func() error {
		if back.Load() {
			return nil
		}
		return errAway
	})
	here.unreadable(t)
	fates := make(chan []shard.Fate, 1)
	go func() { fates <- here.Undecided(t.Context(), operations("a", "again", "once")) }()
	eventually(t, "the records are there", func() bool { return here.blacklist.IsUndecided(1, bucketOf("a"), "a", "once") })
	err := here.blacklist.PutUndecided(t.Context(), []blacklist.Undecided{{
		Shard: 1, Owner: "a", Bucket: bucketOf("a"), Key: "again", Fingerprint: []byte("print"), Epoch: 1, Instance: "here", At: time.Now(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	back.Store(true)
	if got := <-fates; len(got) != 2 {
		t.Errorf("fates %+v", got)
	}
	if here.blacklist.IsUndecided(1, bucketOf("a"), "a", "once") {
		t.Error("the decided record is still there")
	}
	if !here.blacklist.IsUndecided(1, bucketOf("a"), "a", "again") {
		t.Error("the record of the later attempt is gone")
	}
}

func bucketOf(owner string) uint16 { return uint16(shard.BucketOf(owner)) }

// deaf is a register that takes no transactions while it is away.
type deaf struct {
	register.Register
	away *atomic.Bool
}

func (d deaf) Txn(ctx context.Context, txn register.Txn) (int64, error) {
	if d.away.Load() {
		return 0, errors.New("the register is away")
	}
	return d.Register.Txn(ctx, txn)
}

// The register may come back earlier than the shard, and then the other instances have to be told after all.
func TestTheRegisterIsToldWhenItIsBack(t *testing.T) {
	w := newRegister(t)
	var silent atomic.Bool
	here := w.instanceOn("here", func(r register.Register) register.Register { return deaf{r, &silent} },
		func(int) error { return errAway })
	other := w.instance("other", away)
	silent.Store(true)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan []shard.Fate, 1)
	go func() { ended <- here.Undecided(ctx, operations("a", "lost")) }()
	eventually(t, "the owner is blocked here", func() bool { return here.blocked("a") })
	if other.blocked("a") {
		t.Fatal("the owner is blocked elsewhere, though nobody could tell")
	}
	silent.Store(false)
	eventually(t, "the owner is blocked elsewhere", func() bool { return other.blocked("a") })
	stop()
	<-ended
}

// Whoever is stopped before he knows leaves his records to the others.
func TestRecordsAreLeftByAStoppedInstance(t *testing.T) {
	w := newRegister(t)
	here := w.instance("here", away)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if fates := here.Undecided(stopped, operations("a", "lost")); len(fates) != 0 {
		t.Errorf("fates %+v", fates)
	}
	if n := here.records(t); n != 1 {
		t.Errorf("%d records are left", n)
	}
}

// The reason of a block is shown to every caller of the owner.
func TestBlocksDoNotTellKeys(t *testing.T) {
	w := newRegister(t)
	here := w.instance("here", away)
	if err := here.register.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan []shard.Fate, 1)
	go func() { ended <- here.Undecided(ctx, operations("a", "secret")) }()
	eventually(t, "the owner is blocked", func() bool { return here.blocked("a") })
	err := here.blacklist.Check(blacklist.Target{Owner: "a"}, time.Now())
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("callers hear %v", err)
	}
	stop()
	<-ended
}
