package shard_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/blacklist"
	"github.com/statesvc/statesvc/internal/netfault"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/pending"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
)

// pair is a shard of two nodes, which are two ways to one server, so what one has acknowledged the other has. The test is the
// controller.
type pair struct {
	*shard.Store
	t       *testing.T
	reg     *stallable
	direct  *shard.DB
	nodes   map[string]*netfault.Proxy
	routes  *shard.Routes
	epoch   uint64
	planned bool
	slow    time.Time
	skew    atomic.Int64 // of the store's clock
	point   atomic.Value // func(string), at each fail point
	closed  chan uint64
	opened  chan *shard.DB
	hints   chan string // what the store suspects
	settled atomic.Int64
}

// stallable is a register that does not answer while it is stalled; what it pushes still arrives.
type stallable struct {
	register.Register
	stalled atomic.Bool
}

func (s *stallable) List(ctx context.Context, prefix string) ([]register.Entry, int64, error) {
	if s.stalled.Load() {
		return nil, 0, errors.New("stalled")
	}
	return s.Register.List(ctx, prefix)
}

func newPair(t *testing.T, lease time.Duration, cfg shard.Config) *pair {
	t.Helper()
	server := testdb.MariaDB(t)
	schema := server.Schema(t)
	direct, err := shard.OpenMariaDB(server.DSN(schema), time.Now)
	p := &pair{
		t: t, direct: prepare(t, direct, err), closed: make(chan uint64, 64), opened: make(chan *shard.DB, 64), hints: make(chan string, 4096),
		nodes: map[string]*netfault.Proxy{"n1": netfault.New(t, server.Addr()), "n2": netfault.New(t, server.Addr())},
	}
	p.point.Store(func(string) {})
	p.openRegister()
	p.record(1, shard.PhaseServing, "n1")
	p.openRoutes()
	cfg.Machine, cfg.Now, cfg.Log = counters{}, p.now, slog.New(slog.DiscardHandler)
	cfg.FailPoints = func(name string) { p.point.Load().(func(string))(name) }
	cfg.Suspect = func(_ int, _ uint64, what string) { p.hints <- what }
	if cfg.Undecided == nil {
		cfg.Undecided = p.resolver()
	}
	p.Store = shard.NewStore(shard.StoreConfig{
		Routes: p.routes, Committer: cfg, ReadLease: lease,
		Closed: func(_ int, epoch uint64) { p.closed <- epoch },
		Open: func(r shard.Route) (*shard.DB, error) {
			db, err := shard.OpenMariaDBAt(server.DSN(schema), r.Address, time.Now)
			p.opened <- db
			return db, err
		},
	})
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *pair) now() time.Time { return time.Now().Add(time.Duration(p.skew.Load())) }

func (p *pair) openRegister() {
	p.t.Helper()
	reg, err := register.OpenFile(filepath.Join(p.t.TempDir(), "register"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = reg.Close() })
	p.reg = &stallable{Register: reg}
	shards, err := shard.NewUniformMap([]string{"one"})
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := shards.Encode()
	if err != nil {
		p.t.Fatal(err)
	}
	p.put(shard.MapKey, text)
}

func (p *pair) openRoutes() {
	p.t.Helper()
	routes, err := shard.OpenRoutes(p.t.Context(), p.reg, shard.RoutesOptions{
		Now: p.now, RenewEvery: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(routes.Close)
	p.routes = routes
}

// resolver is the one of production.
func (p *pair) resolver() func(context.Context, shard.UndecidedBatch) []shard.Fate {
	p.t.Helper()
	blocks, err := blacklist.Open(p.t.Context(), p.reg, time.Now)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(blocks.Close)
	r := pending.NewResolver(pending.ResolverConfig{
		Instance: "test", Blacklist: blocks, Now: time.Now, Log: slog.New(slog.DiscardHandler), Changed: p.routes.Changed,
		Primary: func(number int) (*shard.DB, uint64, error) { return p.Primary(number) },
	})
	return func(ctx context.Context, u shard.UndecidedBatch) []shard.Fate {
		p.settled.Add(1)
		return r.Undecided(ctx, u)
	}
}

func (p *pair) put(key string, value []byte) {
	p.t.Helper()
	if _, err := register.Put(p.t.Context(), p.reg, key, value); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) record(epoch uint64, phase shard.Phase, primary string) {
	p.t.Helper()
	p.epoch = epoch
	record := shard.Record{Epoch: epoch, Phase: phase, Primary: primary, Planned: p.planned, Slow: p.slow, Nodes: map[string]shard.Node{}}
	for name, proxy := range p.nodes {
		record.Nodes[name] = shard.Node{Address: proxy.Addr()}
	}
	text, err := record.Encode()
	if err != nil {
		p.t.Fatal(err)
	}
	p.put(shard.RecordKey(1), text)
}

// fence takes the shard from its primary.
func (p *pair) fence(primary string) { p.t.Helper(); p.record(p.epoch+1, shard.PhaseFencing, primary) }

// promote gives it to another one, which serves when promote returns.
func (p *pair) promote(to string) {
	p.t.Helper()
	p.record(p.epoch, shard.PhasePromoting, to)
	exec(p.t, p.direct, "UPDATE fence SET epoch=?", p.epoch)
	p.record(p.epoch, shard.PhaseServing, to)
}

func (p *pair) awaitClosed(epoch uint64) {
	p.t.Helper()
	for {
		select {
		case got := <-p.closed:
			if got == epoch {
				return
			}
		case <-time.After(10 * time.Second):
			p.t.Fatalf("the store is not closed to epochs below %d", epoch)
		}
	}
}

func (p *pair) submit(o *shard.Op) shard.Reply {
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	return p.Submit(ctx, o)
}

// later submits and returns where the reply will be.
func (p *pair) later(o *shard.Op) <-chan shard.Reply {
	reply := make(chan shard.Reply, 1)
	go func() { reply <- p.submit(o) }()
	return reply
}

// once calls f the next time that a batch passes the point.
func (p *pair) once(point string, f func()) {
	var done atomic.Bool
	p.point.Store(func(name string) {
		if name == point && done.CompareAndSwap(false, true) {
			f()
		}
	})
}

func (p *pair) read(f func()) (n int64, err error) {
	err = p.Read(p.t.Context(), shard.BucketOf("a"), func(tx *gorm.DB, _ time.Time) error {
		f()
		return tx.Raw("SELECT COALESCE(SUM(n),0) FROM counters WHERE owner='a'").Scan(&n).Error
	})
	return n, err
}

// What the record says of replicas reaches the lanes, of a committer that is there and of one that is not yet.
func TestRecordSlowsLanes(t *testing.T) {
	const rest = 20 * time.Millisecond
	p := newPair(t, time.Minute, shard.Config{Lanes: 1})
	write := func(key string) {
		t.Helper()
		if r := p.submit(op("a", key, 1)); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	rests := func(key string) bool { // ten batches have nine rests between them, and take a tenth of that without
		began := time.Now()
		for i := range 10 {
			write(fmt.Sprintf("%s%d", key, i))
		}
		return time.Since(began) >= 9*rest
	}
	p.slow = time.Now()
	p.record(1, shard.PhaseServing, "n1")
	for i := 0; !rests(fmt.Sprintf("there%d.", i)); i++ { // the record may not have been heard yet
		if i == 1000 {
			t.Fatal("the lanes do not rest")
		}
	}
	p.fence("n1")
	p.promote("n2")
	write("first")
	if !rests("new") {
		t.Error("the lanes of the next primary do not rest")
	}
}

// Primaries change under load. Nobody hears of it but by a moment of silence: what was acknowledged is there, once.
func TestFailoverUnderLoad(t *testing.T) {
	p := newPair(t, shard.ReadLease, shard.Config{})
	stop := make(chan struct{})
	var acked atomic.Int64
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if r := p.submit(op(fmt.Sprint("o", i), fmt.Sprint("k", n), 1)); r.Err != nil || string(r.Body) != fmt.Sprint(n+1) {
					t.Errorf("operation %d: %v %q %v", n, r.Verdict, r.Body, r.Err)
					return
				}
				acked.Add(1)
			}
		})
	}
	from, to := "n1", "n2"
	for range 4 {
		time.Sleep(100 * time.Millisecond) // under load
		p.fence(from)
		p.nodes[from].Down()
		p.awaitClosed(p.epoch)
		time.Sleep(100 * time.Millisecond) // what a controller takes
		p.promote(to)
		p.nodes[from].Up()
		from, to = to, from
	}
	close(stop)
	callers.Wait()
	if got := total(t, p.direct); got != acked.Load() || got == 0 {
		t.Errorf("%d operations were acknowledged, the counters hold %d", acked.Load(), got)
	}
	t.Logf("%d operations, %d batches were undecided", acked.Load(), p.settled.Load())
}

// A lane waits for the answer to COMMIT, which will not come. The register takes the shard from the primary: the lane is free at once,
// and its batch is undecided until the next primary says what became of it. Meanwhile whoever waited behind it is served.
func TestCutFreesALaneInCommit(t *testing.T) {
	decide := make(chan struct{})
	undecided := make(chan time.Time, 1)
	var p *pair
	var once sync.Once
	var resolve func(context.Context, shard.UndecidedBatch) []shard.Fate
	p = newPair(t, shard.ReadLease, shard.Config{Lanes: 1, Undecided: func(ctx context.Context, u shard.UndecidedBatch) []shard.Fate {
		once.Do(func() { undecided <- time.Now() })
		<-decide
		return resolve(ctx, u)
	}})
	resolve = p.resolver()
	want(t, p.submit(op("a", "k0", 1)), shard.Done, "1")
	sent := make(chan struct{})
	p.once(failpoint.BeforeCommit, func() { p.nodes["n1"].Swallow(netfault.ToClient); close(sent) })
	stuck := p.later(op("a", "k1", 1))
	<-sent
	time.Sleep(50 * time.Millisecond) // the packet is on its way
	behind := p.later(op("b", "k1", 5))
	fencedAt := time.Now()
	p.fence("n1")
	select {
	case at := <-undecided:
		t.Logf("undecided %s after the fence", at.Sub(fencedAt))
	case <-time.After(time.Second): // the driver would wait for 3 s
		t.Fatal("the lane still waits for the answer")
	}
	p.awaitClosed(2)
	p.promote("n2")
	want(t, <-behind, shard.Done, "5")
	close(decide)
	want(t, <-stuck, shard.Done, "2")
	if got := total(t, p.direct); got != 7 {
		t.Errorf("the counters hold %d", got)
	}
}

// The resolver hears from the routes that there is a primary to ask, and need not find out in its own time.
func TestUndecidedIsDecidedWhenTheShardServesAgain(t *testing.T) {
	p := newPair(t, shard.ReadLease, shard.Config{Lanes: 1})
	want(t, p.submit(op("a", "k0", 1)), shard.Done, "1")
	sent := make(chan struct{})
	p.once(failpoint.BeforeCommit, func() { p.nodes["n1"].Swallow(netfault.ToClient); close(sent) })
	stuck := p.later(op("a", "k1", 1))
	<-sent
	time.Sleep(50 * time.Millisecond)
	p.fence("n1")
	p.awaitClosed(2)
	time.Sleep(1200 * time.Millisecond) // by now the resolver's own pauses have grown to half a second
	p.promote("n2")
	servingAt := time.Now()
	want(t, <-stuck, shard.Done, "2")
	took := time.Since(servingAt)
	if t.Logf("decided after %s", took); took > 250*time.Millisecond {
		t.Errorf("it took %s after the shard served again", took)
	}
	if p.settled.Load() != 1 {
		t.Errorf("%d undecided batches", p.settled.Load())
	}
}

// A batch is decided and about to send COMMIT when its epoch ends. It does not; its caller's operation is done under the next.
func TestNoCommitIsSentAfterTheEpochEnded(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		var packets atomic.Int64
		arrived, release, closed := make(chan struct{}), make(chan struct{}), make(chan uint64, 8)
		r := newRouted(t, func() (*shard.DB, error) { return again(t, db) }, db, shard.Config{
			FailPoints: func(name string) {
				if name == failpoint.BeforeCommit && packets.Add(1) == 1 {
					close(arrived)
					<-release
				}
			},
			Undecided: func(context.Context, shard.UndecidedBatch) []shard.Fate {
				t.Error("an outcome is undecided though no COMMIT was sent")
				return nil
			},
		}, func(cfg *shard.StoreConfig) { cfg.Closed = func(_ int, epoch uint64) { closed <- epoch } })
		reply := make(chan shard.Reply, 1)
		go func() { reply <- r.submit("k1") }()
		<-arrived
		r.record(2, shard.PhaseFencing)
		for epoch := uint64(0); epoch < 2; epoch = <-closed { //nolint:revive // it waits
		}
		close(release)
		exec(t, db, "UPDATE fence SET epoch=2")
		r.record(2, shard.PhaseServing)
		want(t, <-reply, shard.Done, "1")
		var epoch int
		if err := db.SQL().QueryRowContext(t.Context(), "SELECT epoch FROM operations").Scan(&epoch); err != nil || epoch != 2 {
			t.Errorf("it was committed under epoch %d %v", epoch, err)
		}
	})
}

// When the store says that it is closed to an epoch, nothing of it can be sent any more, by whomever.
func TestClosedIsSaidAfterTheCut(t *testing.T) {
	p := newPair(t, shard.ReadLease, shard.Config{})
	want(t, p.submit(op("a", "k0", 1)), shard.Done, "1")
	old := <-p.opened
	o := op("a", "k1", 1)
	if _, err := old.Settle(t.Context(), 1, []shard.Unsettled{unsettled(o)}); err != nil {
		t.Fatal(err)
	}
	conn, err := old.SQL().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p.fence("n1")
	p.awaitClosed(2)
	if _, err := conn.ExecContext(t.Context(), "DO 1"); err == nil {
		t.Error("a connection of the old epoch can be used")
	}
	if _, err := old.Settle(t.Context(), 1, []shard.Unsettled{unsettled(o)}); err == nil {
		t.Error("the pool of the old epoch connects")
	}
	if _, _, err := p.Primary(1); !errors.Is(err, shard.ErrStaleRoute) {
		t.Errorf("there is a primary while the shard is fenced: %v", err)
	}
	p.promote("n2")
	want(t, p.submit(o), shard.Done, "2")
}

// A primary that is replaced by plan lives, so what it was sent is answered before the store says that it is closed, and nothing is
// undecided.
func TestPlannedFencingLetsAnswersArrive(t *testing.T) {
	p := newPair(t, shard.ReadLease, shard.Config{Lanes: 1})
	want(t, p.submit(op("a", "k0", 1)), shard.Done, "1")
	proxy, sent := p.nodes["n1"], make(chan struct{})
	p.once(failpoint.BeforeCommit, func() { proxy.Delay(netfault.ToClient, 50*time.Millisecond); close(sent) })
	reply := p.later(op("a", "k1", 1))
	<-sent
	time.Sleep(10 * time.Millisecond) // the packet is on its way
	p.planned = true
	p.fence("n1")
	p.awaitClosed(2)
	select {
	case r := <-reply:
		want(t, r, shard.Done, "2")
	case <-time.After(5 * time.Second):
		t.Fatal("no answer")
	}
	if n := p.settled.Load(); n > 0 {
		t.Errorf("%d batches were undecided", n)
	}
}

// A switchover that is given up has another epoch when the last answer is no longer waited for; that one is said to be closed.
func TestSwitchoverIsGivenUp(t *testing.T) {
	p := newPair(t, shard.ReadLease, shard.Config{Lanes: 1})
	want(t, p.submit(op("a", "k0", 1)), shard.Done, "1")
	sent := make(chan struct{})
	p.once(failpoint.BeforeCommit, func() { p.nodes["n1"].Swallow(netfault.ToClient); close(sent) })
	stuck := p.later(op("a", "k1", 1))
	<-sent
	time.Sleep(10 * time.Millisecond)
	p.planned = true
	p.fence("n1")
	p.planned = false
	p.fence("n1")
	p.awaitClosed(3)
	p.promote("n2")
	want(t, <-stuck, shard.Done, "2")
}

// Nobody is promoted. Whoever waits hears so in time, and that nothing has happened.
func TestHeldNoLongerThanAMoment(t *testing.T) {
	p := newPair(t, shard.ReadLease, shard.Config{})
	want(t, p.submit(op("a", "k0", 1)), shard.Done, "1")
	p.fence("n1")
	p.awaitClosed(2)
	begun := time.Now()
	reply := p.later(op("a", "k1", 1))
	if _, err := p.read(func() {}); !errors.Is(err, shard.ErrFailover) {
		t.Errorf("read: %v", err)
	}
	if r := <-reply; !errors.Is(r.Err, shard.ErrFailover) {
		t.Errorf("write: %v %v", r.Verdict, r.Err)
	}
	if took := time.Since(begun); took < 700*time.Millisecond || took > 5*time.Second {
		t.Errorf("they were held for %s", took)
	}
	p.promote("n2")
	want(t, p.submit(op("a", "k1", 1)), shard.Done, "2")
}

// The primary dies, and the controller has not noticed. Callers wait for what it will do about it, and the store says what it has
// seen. Where nobody will do anything, they hear at once.
func TestDeadPrimary(t *testing.T) {
	p := newPair(t, shard.ReadLease, shard.Config{})
	want(t, p.submit(op("a", "k0", 1)), shard.Done, "1")
	p.nodes["n1"].Down()
	write := p.later(op("a", "k1", 1))
	read := make(chan error, 1)
	go func() {
		_, err := p.read(func() {})
		read <- err
	}()
	for what := ""; what != "refused"; what = <-p.hints { //nolint:revive // it waits
	}
	p.fence("n1")
	p.promote("n2")
	want(t, <-write, shard.Done, "2")
	if err := <-read; err != nil {
		t.Errorf("read: %v", err)
	}

	alone := newPair(t, 0, shard.Config{})
	want(t, alone.submit(op("a", "k0", 1)), shard.Done, "1")
	alone.nodes["n1"].Down()
	begun := time.Now()
	if r := alone.submit(op("a", "k1", 1)); !errors.Is(r.Err, shard.ErrFailover) || time.Since(begun) > 700*time.Millisecond {
		t.Errorf("without failover: %v %v after %s", r.Verdict, r.Err, time.Since(begun))
	}
}

// A candidate is connected to before it serves, once, and by as many as will use it.
func TestCandidateIsConnectedBeforehand(t *testing.T) {
	p := newPair(t, shard.ReadLease, shard.Config{Lanes: 2})
	p.fence("n1")
	p.awaitClosed(2)
	connections := func() (n int) {
		query := "SELECT COUNT(*) FROM information_schema.processlist WHERE db=DATABASE() AND id<>CONNECTION_ID()"
		if err := p.direct.SQL().QueryRowContext(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := connections()
	p.record(2, shard.PhasePromoting, "n2")
	for deadline := time.Now().Add(10 * time.Second); connections() < before+4; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections, want %d", connections(), before+4)
		}
	}
	p.promote("n2")
	want(t, p.submit(op("a", "k0", 1)), shard.Done, "1")
	if n := len(p.opened); n != 1 {
		t.Errorf("%d databases were opened", n)
	}
}

// A read begins while the routes are fresh, and ends when they are so no more: meanwhile another primary may have begun to serve,
// so what was read is not shown. The same goes for what the rules refuse without a trace.
func TestReadsOutliveTheirLease(t *testing.T) {
	p := newPair(t, shard.ReadLease, shard.Config{})
	want(t, p.submit(op("a", "k1", 1)), shard.Done, "1")
	if n, err := p.read(func() {}); n != 1 || err != nil {
		t.Fatalf("read %d %v", n, err)
	}
	late := func() {
		p.reg.stalled.Store(true)
		p.skew.Add(int64(shard.ReadLease))
	}
	if n, err := p.read(late); !errors.Is(err, shard.ErrFailover) {
		t.Errorf("read %d %v after the end of the lease", n, err)
	}
	if r := p.submit(op("a", "k1", 2)); !errors.Is(r.Err, shard.ErrFailover) {
		t.Errorf("%v %v after the end of the lease", r.Verdict, r.Err)
	}
	want(t, p.submit(op("a", "k2", 1)), shard.Done, "2") // its COMMIT proves more than a lease
	p.reg.stalled.Store(false)
	if n, err := p.read(func() { p.skew.Add(int64(shard.ReadLease)) }); n != 2 || err != nil { // a renewal comes in time
		t.Errorf("read %d %v", n, err)
	}
	var reused *shard.KeyReusedError
	if r := p.submit(op("a", "k1", 2)); !errors.As(r.Err, &reused) {
		t.Errorf("%v %v", r.Verdict, r.Err)
	}
}

// A read is under way when its epoch ends; another one serves when it is done. It is read again.
func TestReadsOutliveTheirEpoch(t *testing.T) {
	p := newPair(t, shard.ReadLease, shard.Config{})
	want(t, p.submit(op("a", "k1", 1)), shard.Done, "1")
	reads := 0
	n, err := p.read(func() {
		if reads++; reads == 1 {
			p.fence("n1")
			p.awaitClosed(2)
			p.promote("n2")
			want(t, p.submit(op("a", "k2", 1)), shard.Done, "2")
		}
	})
	if n != 2 || err != nil || reads != 2 {
		t.Errorf("read %d %v in %d attempts", n, err, reads)
	}
}

// The next primary must decide nothing earlier than the last batch of this one, whatever its clock says, so each batch writes its
// time down where a controller finds it.
func TestBatchesWriteTheirTimeDown(t *testing.T) {
	p := newPair(t, shard.ReadLease, shard.Config{Source: "it's mine"})
	if r := p.submit(op("a", "k1", 1)); r.Err != nil {
		t.Fatal(r.Err)
	}
	var written, decided int64
	row := p.direct.SQL().QueryRow(`SELECT (SELECT MAX(at) FROM clock WHERE source LIKE 'it''s mine/%'), decided_at FROM operations`)
	if err := row.Scan(&written, &decided); err != nil || written != decided {
		t.Fatalf("the batch was decided at %d and has written %d: %v", decided, written, err)
	}
}
