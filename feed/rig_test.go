package feed

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

const (
	testShard = 1
	patience  = 30 * time.Second // for what happens at once on an idle machine
)

// testTables are those of a test's schema: documents with versions, and a log that only grows.
var testTables = []Table{{Name: "documents", Version: "ver"}, {Name: "log", AppendOnly: true}}

const testSchema = `CREATE TABLE documents (bucket SMALLINT UNSIGNED NOT NULL, id VARCHAR(64) NOT NULL, ver BIGINT NOT NULL,
  hash BINARY(8) NOT NULL, doc MEDIUMBLOB NULL, PRIMARY KEY (bucket, id)) ENGINE=InnoDB CHARACTER SET ascii;
CREATE TABLE log (writer INT NOT NULL, seq BIGINT UNSIGNED NOT NULL, pad MEDIUMBLOB NOT NULL, PRIMARY KEY (writer, seq)) ENGINE=InnoDB;
CREATE TABLE unwanted (id INT PRIMARY KEY) ENGINE=InnoDB`

// rig is a shard of one server, or of several of which one is the primary.
type rig struct {
	*testing.T
	server *testdb.Server
	schema string
	db     *sql.DB
	reg    register.Register
	routes *shard.Routes
	alarms alarms
	dsn    string // of tailers
}

// tailers numbers them: two on one server must differ.
var tailers atomic.Uint32

func newRig(t *testing.T, server *testdb.Server) *rig {
	t.Helper()
	r := &rig{T: t, server: server, schema: server.Schema(t)}
	r.db = open(t, server.AdminDSN(r.schema)+"?multiStatements=true&parseTime=true")
	if _, err := migrations.Up(t.Context(), r.db, "mariadb"); err != nil {
		t.Fatal(err)
	}
	r.dsn = server.AdminDSN(r.schema)
	r.exec(testSchema)
	r.register(1, server.Addr())
	return r
}

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	c.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// register makes a register that names the primary.
func (r *rig) register(epoch uint64, address string) {
	r.Helper()
	reg, err := register.OpenFile(filepath.Join(r.TempDir(), "register"))
	r.must(err)
	r.Cleanup(func() { _ = reg.Close() })
	r.reg = reg
	m, err := shard.NewUniformMap([]string{"s1"})
	r.must(err)
	text, err := m.Encode()
	r.must(err)
	_, err = register.Put(r.Context(), reg, shard.MapKey, text)
	r.must(err)
	r.route(epoch, shard.PhaseServing, address)
	r.routes, err = shard.OpenRoutes(r.Context(), reg, shard.RoutesOptions{
		Now: time.Now, RenewEvery: time.Hour, Log: slog.New(slog.DiscardHandler),
	})
	r.must(err)
	r.Cleanup(r.routes.Close)
}

// route changes the record of the shard.
func (r *rig) route(epoch uint64, phase shard.Phase, address string) {
	r.Helper()
	record := shard.Record{Epoch: epoch, Phase: phase, Primary: "n1", Nodes: map[string]shard.Node{"n1": {Address: address}}}
	text, err := record.Encode()
	r.must(err)
	_, err = register.Put(r.Context(), r.reg, shard.RecordKey(testShard), text)
	r.must(err)
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) exec(statements string, args ...any) {
	r.Helper()
	if _, err := r.db.ExecContext(r.Context(), statements, args...); err != nil {
		r.Fatalf("%.80s: %v", statements, err)
	}
}

// write adds a row to the log.
func (r *rig) write(writer, seq int) {
	r.Helper()
	r.exec("INSERT INTO log VALUES (?,?,'')", writer, seq)
}

// config is that of a tailer of its own.
func (r *rig) config(c Consumer) TailerConfig {
	id := tailers.Add(1)
	return TailerConfig{
		Shard: testShard, Routes: r.routes, DSN: r.dsn, Tables: testTables, Consumer: c,
		Name: fmt.Sprintf("t%d", id), ServerID: 1<<31 + id, Alarm: r.alarms.add, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(r.Output(), nil)),
	}
}

// tail runs a tailer until stop is called or the test ends.
func (r *rig) tail(cfg TailerConfig) (t *Tailer, stop func()) {
	r.Helper()
	t, err := NewTailer(cfg)
	r.must(err)
	ctx, cancel := context.WithCancel(r.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			r.Error("the tailer does not end")
		}
	})
	r.Cleanup(stop)
	return t, stop
}

// eventually waits until f is true.
func (r *rig) eventually(what string, f func() bool) {
	r.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("not in %v: %s", patience, what)
		}
	}
}

type alarms struct {
	mu   sync.Mutex
	list []Alarm
}

func (a *alarms) add(one Alarm) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, one)
}

func (a *alarms) count(kind AlarmKind) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.list {
		if one.Kind == kind {
			n++
		}
	}
	return n
}

// memory is a consumer that keeps what it gets. It survives its tailers, as something durable would.
type memory struct {
	mu       sync.Mutex
	position Position
	releases []Release
	gaps     []Gap
	taken    map[GTID][]Change // of transactions that are complete; repeats must be equal
	order    []GTID            // as first taken
	repeats  int
	fail     error                // of the next call of Take
	entered  func(Release)        // before a release is taken
	after    func(Release)        // when it is
	newest   map[int64]int64      // row of each writer of the log
	reset    func(g Gap) error    // what Reset does besides
	parts    map[GTID]*bigSummary // of transactions that came in parts
}

// bigSummary is what remains of a transaction in parts.
type bigSummary struct{ parts, changes, maxBytes int }

func newMemory() *memory {
	return &memory{taken: map[GTID][]Change{}, newest: map[int64]int64{}, parts: map[GTID]*bigSummary{}}
}

func (m *memory) Position(context.Context) (Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.position, nil
}

func (m *memory) Take(_ context.Context, r Release) error {
	if m.entered != nil {
		m.entered(r)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail; err != nil {
		m.fail = nil
		return err
	}
	m.releases = append(m.releases, Release{Position: r.Position, CompleteAt: r.CompleteAt, Epoch: r.Epoch})
	for _, t := range r.Transactions {
		if err := m.take(t); err != nil {
			return err
		}
	}
	m.position = r.Position
	if m.after != nil {
		m.after(r)
	}
	return nil
}

func (m *memory) take(t Transaction) error {
	if !t.Complete || t.First > 0 {
		p := m.parts[t.GTID]
		if p == nil || t.First == 0 {
			p = &bigSummary{}
			m.parts[t.GTID] = p
		}
		if t.First != p.changes {
			return fmt.Errorf("a part begins at %d after %d", t.First, p.changes)
		}
		bytes := 0
		for _, c := range t.Changes {
			pad, _ := c.After.Value("pad")
			bytes += len(pad.([]byte))
		}
		p.parts, p.changes, p.maxBytes = p.parts+1, p.changes+len(t.Changes), max(p.maxBytes, bytes)
	}
	for _, c := range t.Changes {
		writer, seq := int64(0), int64(0)
		if c.Table == "log" && c.After.Exists() && c.After.Scan(Into{"writer": &writer, "seq": &seq}) == nil {
			m.newest[writer] = seq
		}
	}
	if _, again := m.taken[t.GTID]; again {
		m.repeats++
		return nil
	}
	if t.Complete {
		m.taken[t.GTID] = t.Changes
		m.order = append(m.order, t.GTID)
	}
	return nil
}

func (m *memory) Reset(_ context.Context, g Gap) error {
	if m.reset != nil {
		if err := m.reset(g); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gaps = append(m.gaps, g)
	m.position = g.Position
	return nil
}

// rows are the rows of the log in the order in which they were taken, as writer and seq.
func (m *memory) rows() (list [][2]int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, gtid := range m.order {
		for _, c := range m.taken[gtid] {
			if c.Table != "log" || !c.After.Exists() {
				continue
			}
			var row [2]int64
			if err := c.After.Scan(Into{"writer": &row[0], "seq": &row[1]}); err != nil {
				panic(err)
			}
			list = append(list, row)
		}
	}
	return list
}

func (m *memory) has(writer, seq int) bool {
	return slices.Contains(m.rows(), [2]int64{int64(writer), int64(seq)})
}

func (m *memory) resets() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.gaps)
}

func (m *memory) reasons() (list []Reason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.gaps {
		list = append(list, g.Reason)
	}
	return list
}

// started waits until a tailer has begun to read.
func (r *rig) started(t *Tailer) {
	r.Helper()
	r.eventually("the feed reads", func() bool { return t.Status().Epoch > 0 })
}

var errConsumer = errors.New("the consumer has a problem")
