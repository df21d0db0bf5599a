package failover

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/migrations"
)

const (
	trioDomain  = 7
	trioPatient = 20 * time.Second // for what happens at once on an idle machine
	trioSecret  = `it's a \ secret`
)

// trio is a shard of three real servers; n1 is its first primary.
type trio struct {
	servers [3]*testdb.Server
	nodes   [3]*Node
	roots   [3]*sql.DB
	starts  atomic.Int64
}

func trioID(i int) uint32 { return uint32(101 + i) }

func trioName(i int) string { return fmt.Sprintf("n%d", i+1) }

// newTrio starts a shard at epoch 1 that takes writes, with two replicas that acknowledge.
func newTrio(t *testing.T) *trio {
	t.Helper()
	began := time.Now()
	x := &trio{}
	passwords := map[string]string{}
	for i := range x.servers {
		passwords[trioName(i)] = trioSecret + trioName(i)
	}
	for i := range x.servers {
		x.start(t, i, InitialSQL(Accounts{AppPassword: trioSecret, HAPassword: trioSecret, Replicas: passwords}))
		x.nodes[i] = x.node(t, i)
	}
	x.schema(t)
	x.firstPrimary(t)
	t.Logf("a trio started in %v", time.Since(began))
	return x
}

func (x *trio) startID() string { return fmt.Sprintf("boot:%d:1", x.starts.Add(1)) }

func (x *trio) start(t *testing.T, i int, initial string) {
	t.Helper()
	x.servers[i] = testdb.Start(t, mariadb.Options{Settings: append(Settings(NodeSettings{
		ServerID: trioID(i), Domain: trioDomain, StartID: x.startID(),
	}), "max_connections=60", "innodb_buffer_pool_size=32M", "innodb_log_file_size=16M")})
	dsn := x.servers[i].AdminDSN("")
	root, err := sql.Open("mysql", dsn+"?multiStatements=true")
	if err != nil {
		t.Fatal(err)
	}
	root.SetMaxIdleConns(-1)
	t.Cleanup(func() { root.Close() })
	x.roots[i] = root
	// The test servers' own app may do more than ours.
	x.exec(t, i, "SET sql_log_bin=0; DROP USER app@'127.0.0.1'; "+initial)
}

// node is another controller's way to the same server.
func (x *trio) node(t *testing.T, i int) *Node {
	t.Helper()
	n, err := NewNode(NodeConfig{
		Name: trioName(i), Address: x.servers[i].Addr(), Domain: trioDomain, Password: trioSecret,
		ReplPassword: trioSecret + trioName(i), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func (x *trio) schema(t *testing.T) {
	t.Helper()
	x.exec(t, 0, "CREATE DATABASE statesvc")
	db, err := sql.Open("mysql", x.servers[0].AdminDSN("statesvc")+"?multiStatements=true&parseTime=true")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := migrations.Up(t.Context(), db, "mariadb"); err != nil {
		t.Fatal(err)
	}
	x.exec(t, 0, "CREATE TABLE statesvc.marks (writer INT, seq INT, PRIMARY KEY (writer, seq)) ENGINE=InnoDB")
}

func (x *trio) firstPrimary(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	x.fence(t, 1, "c1", 0, 1, 2)
	must(t, x.nodes[0].Promote(ctx, 1, PromoteOptions{AllowReplicas: []string{"n2", "n3"}}))
	for _, i := range []int{1, 2} {
		must(t, x.nodes[i].Follow(ctx, 1, FollowOptions{Address: x.servers[0].Addr(), SemiSync: true, Relax: true}))
	}
	must(t, x.nodes[0].Establish(ctx, 1, trioID(0)))
	x.eventually(t, 0, "two replicas acknowledge", func(s Status) bool { return s.SemiSync.Clients == 2 })
	must(t, x.nodes[0].Open(ctx, 1))
	x.same(t, 0)
}

// restart is what an agent does when it is told to.
func (x *trio) restart(t *testing.T, i int, boot Boot) string {
	t.Helper()
	id := x.startID()
	x.servers[i].Restart(t, StartSettings(id, boot)...)
	return id
}

// fence fences nodes side by side, as a controller does, and returns what they said.
func (x *trio) fence(t *testing.T, epoch uint64, holder string, which ...int) map[int]Fenced {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), trioPatient)
	defer cancel()
	var mu sync.Mutex
	all, errs := map[int]Fenced{}, []error(nil)
	var group sync.WaitGroup
	for _, i := range which {
		group.Go(func() {
			began := time.Now()
			fenced, err := x.nodes[i].Fence(ctx, epoch, holder)
			mu.Lock()
			defer mu.Unlock()
			all[i], errs = fenced, append(errs, err)
			t.Logf("fence %s at epoch %d: %v", trioName(i), epoch, time.Since(began).Round(100*time.Microsecond))
		})
	}
	group.Wait()
	must(t, errors.Join(errs...))
	for i, fenced := range all {
		if !fenced.IOStopped {
			t.Fatalf("%s still receives: %+v", trioName(i), fenced)
		}
	}
	return all
}

// promote does F4 to F9 with the replicas that were fenced, and returns who is the new primary.
func (x *trio) promote(t *testing.T, epoch uint64, all map[int]Fenced, old int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), trioPatient)
	defer cancel()
	began := time.Now()
	lap := func(step string) {
		t.Logf("%s: %v", step, time.Since(began).Round(100*time.Microsecond))
		began = time.Now()
	}
	candidate, sibling := x.elect(all)
	p := all[candidate].Received
	must(t, x.nodes[candidate].Drain(ctx, p))
	must(t, x.nodes[sibling].Drain(ctx, all[sibling].Received))
	lap("drain")
	must(t, x.nodes[candidate].Promote(ctx, epoch, PromoteOptions{
		Applied: p, LockReplicas: []string{trioName(old)}, AllowReplicas: []string{trioName(sibling)},
	}))
	lap("promote")
	must(t, x.nodes[sibling].Follow(ctx, epoch, FollowOptions{Address: x.servers[candidate].Addr(), SemiSync: true, Relax: true}))
	lap("follow")
	must(t, x.nodes[candidate].Establish(ctx, epoch, trioID(candidate)))
	lap("establish")
	must(t, x.nodes[candidate].Open(ctx, epoch))
	lap("open")
	return candidate
}

func (x *trio) elect(all map[int]Fenced) (candidate, sibling int) {
	var order []int
	for i := range all {
		order = append(order, i)
	}
	slices.SortFunc(order, func(a, b int) int { return all[b].Received.Compare(all[a].Received) })
	return order[0], order[1]
}

// exec runs statements as root.
func (x *trio) exec(t *testing.T, i int, statements string) {
	t.Helper()
	if _, err := x.roots[i].ExecContext(t.Context(), statements); err != nil {
		t.Fatalf("%s: %q: %v", trioName(i), statements, err)
	}
}

// text asks one value as root.
func (x *trio) text(t *testing.T, i int, query string) string {
	t.Helper()
	var value sql.NullString
	if err := x.roots[i].QueryRowContext(t.Context(), query).Scan(&value); err != nil {
		t.Fatalf("%s: %q: %v", trioName(i), query, err)
	}
	return value.String
}

func (x *trio) status(t *testing.T, i int) Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), trioPatient)
	defer cancel()
	status, err := x.nodes[i].Probe(ctx)
	must(t, err)
	return status
}

func (x *trio) eventually(t *testing.T, i int, what string, f func(Status) bool) Status {
	t.Helper()
	for end := time.Now().Add(trioPatient); ; time.Sleep(5 * time.Millisecond) {
		status := x.status(t, i)
		if f(status) {
			return status
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not %s: %+v", trioName(i), what, status)
		}
	}
}

// app is an instance's pool.
func (x *trio) app(t *testing.T, i int) *sql.DB {
	t.Helper()
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName = AppUser, trioSecret, "tcp", x.servers[i].Addr(), "statesvc"
	c.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

const markSQL = "INSERT INTO marks (writer, seq) VALUES (?,?)"

// writers write marks until the first error, each one after the other; done returns what was acknowledged by writer.
func (x *trio) writers(t *testing.T, i, count int) (done func() []int) {
	t.Helper()
	db, acked := x.app(t, i), make([]int, count)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for w := range count {
		group.Go(func() {
			for seq := 1; ; seq++ {
				if _, err := db.ExecContext(ctx, markSQL, w, seq); err != nil {
					return
				}
				acked[w] = seq
			}
		})
	}
	return func() []int {
		cancel()
		group.Wait()
		return acked
	}
}

// hasMarks fails if a mark that was acknowledged is not there.
func (x *trio) hasMarks(t *testing.T, i int, acked []int) {
	t.Helper()
	total := 0
	for w, seq := range acked {
		total += seq
		if got := x.text(t, i, fmt.Sprintf("SELECT COUNT(*) FROM statesvc.marks WHERE writer=%d AND seq<=%d", w, seq)); got != fmt.Sprint(seq) {
			t.Errorf("%s has %s of %d acknowledged marks of writer %d", trioName(i), got, seq, w)
		}
	}
	t.Logf("%d marks were acknowledged", total)
}

// same fails unless all three have the same rows once the replicas have caught up with the primary.
func (x *trio) same(t *testing.T, primary int) {
	t.Helper()
	end := x.status(t, primary).Executed
	for i := range x.nodes {
		if i != primary {
			x.eventually(t, i, "caught up with "+end.String(), func(s Status) bool { return s.Applied.Compare(end) >= 0 })
		}
	}
	sums := map[string]bool{}
	for i := range x.nodes {
		var parts []string
		for _, table := range []string{"fence", "clock", "marks", "operations"} {
			var name, sum string
			must(t, x.roots[i].QueryRowContext(t.Context(), "CHECKSUM TABLE statesvc."+table).Scan(&name, &sum))
			parts = append(parts, name+"="+sum)
		}
		sums[strings.Join(parts, " ")] = true
	}
	if len(sums) != 1 {
		t.Errorf("the nodes differ: %v", sums)
	}
}

// waits begins a commit that nobody will acknowledge, and returns when the server says that it waits.
func (x *trio) waits(t *testing.T, i int, seq int) <-chan error {
	t.Helper()
	result := make(chan error, 1)
	db := x.app(t, i)
	go func() {
		_, err := db.ExecContext(context.Background(), markSQL, 99, seq)
		result <- err
	}()
	x.eventually(t, i, "a commit waits", func(s Status) bool { return s.SemiSync.WaitSessions > 0 })
	return result
}

func stillWaits(t *testing.T, result <-chan error) {
	t.Helper()
	select {
	case err := <-result:
		t.Fatalf("a commit that nobody acknowledged has ended: %v", err)
	default:
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}
