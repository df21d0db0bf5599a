package feed

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/go-sql-driver/mysql"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/netfault"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/shard"
)

const trioSecret = "secret"

// trio is a shard of three servers with semi-synchronous replication; the first one is its first primary. Replicas reach it over
// proxies, and the feed over another one.
type trio struct {
	*rig
	servers [3]*testdb.Server
	nodes   [3]*failover.Node
	roots   [3]*sql.DB
	links   [3]*netfault.Proxy // from replica i to the first primary
	epoch   uint64
	primary int
	starts  int
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	x := &trio{rig: &rig{T: t, schema: failover.DefaultSchema}, epoch: 1}
	accounts := failover.Accounts{
		AppPassword: trioSecret, HAPassword: trioSecret, FeedPassword: trioSecret, Replicas: map[string]string{},
	}
	for i := range x.servers {
		accounts.Replicas[x.name(i)] = trioSecret
	}
	for i := range x.servers {
		x.servers[i] = testdb.Start(t, mariadb.Options{Settings: append(failover.Settings(failover.NodeSettings{
			ServerID: uint32(101 + i), Domain: 7, StartID: x.startID(),
		}), "max_connections=60", "innodb_buffer_pool_size=32M", "innodb_log_file_size=16M")})
		x.roots[i] = open(t, x.servers[i].AdminDSN("")+"?multiStatements=true")
		x.roots[i].SetMaxIdleConns(-1)
		x.root(i, "SET sql_log_bin=0; DROP USER app@'127.0.0.1'; "+failover.InitialSQL(accounts))
		var err error
		x.nodes[i], err = failover.NewNode(failover.NodeConfig{
			Name: x.name(i), Address: x.servers[i].Addr(), Domain: 7, Password: trioSecret, ReplPassword: trioSecret, Now: time.Now,
		})
		x.must(err)
		t.Cleanup(x.nodes[i].Close)
	}
	x.makeSchema()
	x.server = x.servers[0]
	x.begin()
	x.register(1, x.servers[0].Addr())
	x.dsn = x.login(failover.FeedUser, 0)
	x.db = open(t, x.login(failover.AppUser, 0))
	return x
}

func (x *trio) name(i int) string { return fmt.Sprintf("n%d", i+1) }

func (x *trio) startID() string {
	x.starts++
	return fmt.Sprintf("boot:%d:1", x.starts)
}

func (x *trio) login(user string, i int) string {
	return fmt.Sprintf("%s:%s@tcp(%s)/%s", user, trioSecret, x.servers[i].Addr(), x.schema)
}

func (x *trio) root(i int, statements string) {
	x.Helper()
	if _, err := x.roots[i].ExecContext(x.Context(), statements); err != nil {
		x.Fatalf("%s: %.80q: %v", x.name(i), statements, err)
	}
}

func (x *trio) makeSchema() {
	x.Helper()
	x.root(0, "CREATE DATABASE "+x.schema)
	db := open(x.T, x.servers[0].AdminDSN(x.schema)+"?multiStatements=true&parseTime=true")
	_, err := migrations.Up(x.Context(), db, "mariadb")
	x.must(err)
	x.root(0, "USE "+x.schema+"; "+testSchema)
}

// begin makes the first node the primary, and the others its replicas.
func (x *trio) begin() {
	x.Helper()
	x.fence(1, 0, 1, 2)
	x.must(x.nodes[0].Promote(x.Context(), 1, failover.PromoteOptions{AllowReplicas: []string{"n2", "n3"}}))
	for _, i := range []int{1, 2} {
		x.links[i] = netfault.New(x.T, x.servers[0].Addr())
		x.must(x.nodes[i].Follow(x.Context(), 1, failover.FollowOptions{Address: x.links[i].Addr(), SemiSync: true, Relax: true}))
	}
	x.must(x.nodes[0].Establish(x.Context(), 1, 101))
	x.clients(0, 2)
	x.must(x.nodes[0].Open(x.Context(), 1))
}

func (x *trio) fence(epoch uint64, which ...int) map[int]failover.Fenced {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	all := map[int]failover.Fenced{}
	for _, i := range which {
		fenced, err := x.nodes[i].Fence(ctx, epoch, "c1")
		x.must(err)
		all[i] = fenced
	}
	return all
}

func (x *trio) clients(i, want int) {
	x.Helper()
	x.eventually(fmt.Sprintf("%d replicas acknowledge", want), func() bool {
		status, err := x.nodes[i].Probe(x.Context())
		return err == nil && status.SemiSync.Clients == want
	})
}

// failOver makes one of the other nodes the primary under the next epoch, and lets the register say so at the end.
func (x *trio) failOver() {
	x.Helper()
	ctx := x.Context()
	old := x.primary
	x.epoch++
	x.route(x.epoch, shard.PhaseFencing, x.servers[old].Addr())
	all := x.fence(x.epoch, (old+1)%3, (old+2)%3)
	candidate, sibling := (old+1)%3, (old+2)%3
	if all[sibling].Received.Compare(all[candidate].Received) > 0 {
		candidate, sibling = sibling, candidate
	}
	for _, i := range []int{candidate, sibling} {
		x.eventually(x.name(i)+" is drained", func() bool { return x.nodes[i].Drain(ctx, all[i].Received) == nil })
	}
	x.must(x.nodes[candidate].Promote(ctx, x.epoch, failover.PromoteOptions{
		Applied: all[candidate].Received, LockReplicas: []string{x.name(old)}, AllowReplicas: []string{x.name(sibling)},
	}))
	x.must(x.nodes[sibling].Follow(ctx, x.epoch, failover.FollowOptions{Address: x.servers[candidate].Addr(), SemiSync: true, Relax: true}))
	x.must(x.nodes[candidate].Establish(ctx, x.epoch, uint32(101+candidate)))
	x.must(x.nodes[candidate].Open(ctx, x.epoch))
	x.primary = candidate
	x.db = open(x.T, x.login(failover.AppUser, candidate))
	x.route(x.epoch, shard.PhaseServing, x.servers[candidate].Addr())
}

// rejoin makes a node that was killed a replica.
func (x *trio) rejoin(i int) {
	x.Helper()
	x.servers[i].Restart(x.T, failover.StartSettings(x.startID(), failover.BootReplica)...)
	x.fence(x.epoch, i)
	x.must(x.nodes[x.primary].Allow(x.Context(), x.epoch, x.name(i)))
	x.must(x.nodes[i].Follow(x.Context(), x.epoch, failover.FollowOptions{
		Address: x.servers[x.primary].Addr(), SemiSync: true, Demote: true, Relax: true,
	}))
	x.clients(x.primary, 2)
}

// switchOver is failOver of a primary that lives: it is made read-only first.
func (x *trio) switchOver() {
	x.Helper()
	ctx := x.Context()
	old := x.primary
	_, err := x.nodes[old].Fence(ctx, x.epoch+1, "c1")
	x.must(err)
	x.must(x.nodes[old].ReadOnly(ctx, x.epoch+1))
	status, err := x.nodes[old].Probe(ctx)
	x.must(err)
	for _, i := range []int{(old + 1) % 3, (old + 2) % 3} {
		x.must(x.nodes[i].Drain(ctx, status.Executed))
	}
	x.failOver()
	x.must(x.nodes[x.primary].Allow(ctx, x.epoch, x.name(old)))
	x.must(x.nodes[old].Follow(ctx, x.epoch, failover.FollowOptions{
		Address: x.servers[x.primary].Addr(), SemiSync: true, Demote: true, Relax: true,
	}))
	x.clients(x.primary, 2)
}

// shows waits until the binary log of a server shows a row of a writer that nobody has to have acknowledged.
func (x *trio) shows(i int, from Position, writer int64) {
	x.Helper()
	cfg, err := mysql.ParseDSN(x.login(failover.FeedUser, i))
	x.must(err)
	a := newAssembler(x.schema, testTables)
	wants := func(e *replication.TableMapEvent) bool { return a.wants(e) }
	s, err := openStream(x.Context(), cfg, TailerConfig{ServerID: 1<<31 + tailers.Add(1), Name: "look", Now: time.Now}, from, wants)
	x.must(err)
	defer s.close()
	for late := time.After(patience); ; {
		select {
		case e := <-s.events:
			p, err := a.add(e)
			x.must(err)
			if p == nil {
				continue
			}
			for _, c := range p.changes {
				if w, _ := c.After.Value("writer"); fmt.Sprint(w) == fmt.Sprint(writer) {
					return
				}
			}
		case err := <-s.broken:
			x.Fatal(err)
		case <-late:
			x.Fatal("the log does not show the row")
		}
	}
}

// What no replica has acknowledged is in the binary log, and is not released: the primary dies, and it has never been.
// Neither does a tailer release it that has not heard of the failover.
func TestNothingReleasedVanishes(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	m, deaf := newMemory(), newMemory()
	tailer, _ := x.tail(x.config(m))
	cfg := x.config(deaf)
	cfg.Routes = x.deafRoutes()
	deafTailer, _ := x.tail(cfg)
	x.started(tailer)
	x.started(deafTailer)
	x.write(0, 1)
	x.eventually("the row has come", func() bool { return m.has(0, 1) && deaf.has(0, 1) })
	from, _ := m.Position(t.Context())

	x.links[1].Swallow(netfault.ToClient)
	x.links[2].Swallow(netfault.ToClient)
	lost := make(chan error, 1)
	go func() { lost <- insert(context.Background(), x.db, 66, 1, 1) }()
	x.shows(0, from, 66)
	time.Sleep(3 * markEvery) // time enough to release it
	if m.has(66, 1) || deaf.has(66, 1) {
		t.Error("a transaction was released that nobody has acknowledged")
	}
	complete := tailer.Status().CompleteAt
	if time.Since(complete) < 2*markEvery {
		t.Errorf("without acknowledgements it is complete up to %v ago", time.Since(complete))
	}

	x.failOver()
	opened := time.Now()
	x.write(1, 1)
	x.eventually("the feed goes on", func() bool { return m.has(1, 1) })
	time.Sleep(2 * markEvery)
	if at := deafTailer.Status().CompleteAt; !at.Before(opened) || deaf.has(66, 1) {
		t.Errorf("a tailer at the deposed primary is complete up to %v after the failover, and has %v", at.Sub(opened), deaf.rows())
	}
	x.servers[0].Kill(t)
	if err := <-lost; err == nil {
		t.Error("the write was acknowledged")
	}
	x.write(1, 2)
	x.complete(m, []int{1, 2})
	if m.has(66, 1) || !slices.Equal(m.reasons(), []Reason{ReasonNew}) || x.alarms.count(AlarmVanished) > 0 {
		t.Errorf("the feed had %v, began anew for %v, and has raised %v", m.rows(), m.reasons(), x.alarms.list)
	}
}

// deafRoutes are the routes of now, for ever.
func (x *trio) deafRoutes() *shard.Routes {
	x.Helper()
	other := &rig{T: x.T}
	other.register(1, x.servers[0].Addr())
	return other.routes
}

// The feed goes on across failovers: every acknowledged row, in order, from whichever primary; the old one comes back as a replica
// each time.
func TestFeedAcrossFailovers(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	m := newMemory()
	tailer, _ := x.tail(x.config(m))
	x.started(tailer)
	acked := []int{}
	for round := range 3 {
		first := len(acked)
		done := x.writers(x.db, 3, first)
		time.Sleep(300 * time.Millisecond)
		if round == 1 {
			x.switchOver()
		} else {
			old := x.primary
			x.servers[old].Kill(t)
			x.failOver()
			x.rejoin(old)
		}
		acked = append(acked, done()...)
		x.started(tailer)
	}
	x.write(99, 1)
	x.complete(m, acked)
	x.eventually("the last row has come", func() bool { return m.has(99, 1) })
	if !slices.Equal(m.reasons(), []Reason{ReasonNew}) || x.alarms.count(AlarmVanished) > 0 {
		t.Errorf("began anew for %v, and has raised %v", m.reasons(), x.alarms.list)
	}
}
