package failover

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

const agentTestPatience = 60 * time.Second // for what takes a second or two on an idle machine

var smallSettings = []string{
	"bind_address=127.0.0.1", "innodb_buffer_pool_size=32M", "innodb_log_file_size=8M", "performance_schema=OFF", "skip_name_resolve=1",
}

// fileSession stands for a lease on a register that has none.
type fileSession struct{ reg register.Register }

func (s fileSession) Put(ctx context.Context, key string, value []byte) (int64, error) {
	return register.Put(ctx, s.reg, key, value)
}
func (fileSession) Done() <-chan struct{}       { return nil }
func (fileSession) Close(context.Context) error { return nil }

// agentUnderTest is an agent with a real database, and a test that plays the controller.
type agentUnderTest struct {
	*Agent
	reg  *flakyRegister
	stop context.CancelFunc
	end  chan error
}

// flakyRegister can be cut off.
type flakyRegister struct {
	register.Register
	mu  sync.Mutex
	off bool
}

var errCutOff = errors.New("cut off")

func (f *flakyRegister) cut(off bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = off
}

func (f *flakyRegister) cutOff() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.off
}

func (f *flakyRegister) Get(ctx context.Context, key string) (register.Entry, error) {
	if f.cutOff() {
		return register.Entry{}, errCutOff
	}
	return f.Register.Get(ctx, key)
}

func (f *flakyRegister) List(ctx context.Context, prefix string) ([]register.Entry, int64, error) {
	if f.cutOff() {
		return nil, 0, errCutOff
	}
	return f.Register.List(ctx, prefix)
}

func startAgent(t *testing.T, change func(*AgentConfig)) *agentUnderTest {
	t.Helper()
	testdb.NeedMariaDB(t)
	file, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	folder, err := scratch.NewFolder("agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folder.Remove() })
	port, err := scratch.NewPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Close() })
	reg := &flakyRegister{Register: file}
	cfg := AgentConfig{
		Verify: Verify(Settings(NodeSettings{ServerID: 101, Domain: 1}), "app:app@tcp("+port.Addr()+")/"),
		Node:   "n1", Shard: 1, Address: port.Addr(), Folder: folder.Path,
		Settings: append(Settings(NodeSettings{ServerID: 101, Domain: 1, Port: port.Number}), smallSettings...),
		Script:   "CREATE DATABASE statesvc;\n" + InitialSQL(Accounts{AppPassword: "app", HAPassword: "secret"}),
		DSN:      "ha:secret@tcp(" + port.Addr() + ")/",
		Register: reg, OpenSession: func(context.Context) (Session, error) { return fileSession{reg}, nil },
		Now: time.Now, Random: rand.Reader, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&cfg)
	}
	agent, err := NewAgent(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	a := &agentUnderTest{Agent: agent, reg: reg, stop: stop, end: make(chan error, 1)}
	go func() { a.end <- agent.Run(ctx) }()
	t.Cleanup(func() { _ = a.halt(t) })
	return a
}

// halt stops the agent and returns how it ended. It may be called again.
func (a *agentUnderTest) halt(t *testing.T) error {
	t.Helper()
	a.stop()
	select {
	case err := <-a.end:
		a.end <- err
		return err
	case <-time.After(agentTestPatience):
		t.Fatal("the agent does not stop")
		return nil
	}
}

func (a *agentUnderTest) host(t *testing.T) Host {
	t.Helper()
	select {
	case err := <-a.end:
		a.end <- err
		t.Fatalf("the agent has ended: %v", err)
	default:
	}
	return decode[Host](t, a.reg.Register, hostKey("n1"))
}

// decode reads a value of the register; it is zero if there is none.
func decode[T any](t *testing.T, reg register.Register, key string) (value T) {
	t.Helper()
	entry, err := reg.Get(t.Context(), key)
	if errors.Is(err, register.ErrNotFound) {
		return value
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(entry.Value, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// awaitRunning returns the report of the first run with another start id than before.
func (a *agentUnderTest) awaitRunning(t *testing.T, before string) Host {
	t.Helper()
	var host Host
	eventually(t, "the database runs", func() bool {
		host = a.host(t)
		return host.StartID != "" && host.StartID != before && strings.HasPrefix(host.Doing, "running")
	})
	return host
}

func (a *agentUnderTest) awaitDoing(t *testing.T, doing string) Host {
	t.Helper()
	var host Host
	eventually(t, "the agent says: "+doing, func() bool {
		host = a.host(t)
		return host.StartID == "" && strings.Contains(host.Doing, doing)
	})
	return host
}

func (a *agentUnderTest) write(t *testing.T, record Record) {
	t.Helper()
	record.Nodes = map[string]shard.Node{"n1": {Address: "a:1"}, "n2": {Address: "a:2"}, "n3": {Address: "a:3"}}
	value, err := record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := register.Put(t.Context(), a.reg.Register, shard.RecordKey(1), value); err != nil {
		t.Fatal(err)
	}
}

// variable asks the database itself.
func (a *agentUnderTest) variable(t *testing.T, name string) (value string) {
	t.Helper()
	if err := a.db.QueryRowContext(t.Context(), "SELECT @@global."+name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func (a *agentUnderTest) exec(t *testing.T, statement string) {
	t.Helper()
	if _, err := a.db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	soon(t, agentTestPatience, what, holds)
}

func soon(t *testing.T, patience time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestAgentKeepsItsRole is the life of a primary as its agent sees it: made without a record, opened, fenced, and back as a replica only
// when another node was named.
func TestAgentKeepsItsRole(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	first := a.awaitRunning(t, "")
	for name, want := range map[string]string{"read_only": "1", "report_user": first.StartID} {
		if got := a.variable(t, name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if first.Free == 0 || first.BootID == "" || first.Address == "" {
		t.Errorf("the report lacks something: %+v", first)
	}
	a.exec(t, "SET GLOBAL read_only=0")
	serving := Record{Record: shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "n1"}, PrimaryStart: first.StartID}
	a.write(t, serving)

	// The fencing of another run, and of another node, is nothing to this one, nor is a switchover, which has made it read-only.
	a.exec(t, "SET GLOBAL read_only=1")
	other := serving
	other.Epoch, other.Phase, other.PrimaryStart = 2, shard.PhaseFencing, "another"
	a.write(t, other)
	other.Primary, other.PrimaryStart = "n2", first.StartID
	a.write(t, other)
	other.Primary, other.Planned = "n1", true
	a.write(t, other)
	other.Primary, other.Phase, other.Planned, other.PrimaryStart = "n2", shard.PhaseServing, false, "n2's"
	a.write(t, other)
	time.Sleep(2 * isolationEvery)
	if death := decode[Death](t, a.reg.Register, deadKey(1, first.StartID)); death.Node != "" {
		t.Fatalf("it was killed without a reason: %+v", death)
	}

	fencing := serving
	fencing.Epoch, fencing.Phase = 3, shard.PhaseFencing
	began := time.Now()
	a.write(t, fencing)
	var death Death
	eventually(t, "the death is reported", func() bool {
		death = decode[Death](t, a.reg.Register, deadKey(1, first.StartID))
		return death.Node == "n1"
	})
	t.Logf("fenced, killed and reported after %v: %s", time.Since(began), death.How)
	if !strings.Contains(death.How, "killed") || !strings.Contains(death.How, "epoch 3") {
		t.Errorf("it ended by %q", death.How)
	}
	a.awaitDoing(t, "waiting for an order: epoch 3 is FENCING")

	promoting := Record{
		Record: shard.Record{Epoch: 3, Phase: shard.PhasePromoting, Primary: "n2"}, InSync: map[string]string{"n3": "x"},
	}
	a.write(t, promoting)
	second := a.awaitRunning(t, first.StartID)
	if !strings.Contains(second.Doing, "SLAVE") || a.variable(t, "read_only") != "1" || a.variable(t, "report_user") != second.StartID {
		t.Errorf("it came back as %+v", second)
	}
	if err := a.halt(t); !errors.Is(err, context.Canceled) {
		t.Errorf("the agent ended with %v", err)
	}
	if death := decode[Death](t, a.reg.Register, deadKey(1, second.StartID)); death.How != "exit status 0" {
		t.Errorf("a replica should shut down, and ended by %q", death.How)
	}
}

// TestJudge: which records are the end of a run that was open in epoch 3.
func TestJudge(t *testing.T) {
	t.Parallel()
	record := func(epoch uint64, phase shard.Phase, primary, start string, planned bool) *Record {
		return &Record{PrimaryStart: start, Record: shard.Record{Epoch: epoch, Phase: phase, Primary: primary, Planned: planned}}
	}
	for _, tc := range []struct {
		name   string
		record *Record
		killed bool
	}{
		{"fenced", record(4, shard.PhaseFencing, "n1", "mine", false), true},
		{"fenced by plan", record(4, shard.PhaseFencing, "n1", "mine", true), false},
		{"fenced before", record(3, shard.PhaseFencing, "n1", "mine", false), false},
		{"another run", record(4, shard.PhaseFencing, "n1", "another", false), false},
		{"another node", record(4, shard.PhaseFencing, "n2", "mine", false), false},
		{"serves", record(4, shard.PhaseServing, "n1", "mine", false), false},
	} {
		process, err := scratch.StartProcess(exec.Command("sleep", "60"))
		must(t, err)
		one := &life{startID: "mine", process: process, opened: 3}
		a := &Agent{cfg: AgentConfig{Node: "n1", Log: slog.New(slog.DiscardHandler)}, current: one}
		a.fence(tc.record)
		killed := one.fenced > 0
		if killed != tc.killed {
			t.Errorf("%s: killed %t", tc.name, killed)
		}
		if killed {
			<-process.Done()
		}
		must(t, process.Kill())
	}
}

// TestAgentMissesTheFencing: when it hears of the register again another node serves already, and its own database is still open.
// Nobody can make a replica of a primary that takes writes.
func TestAgentMissesTheFencing(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	first := a.awaitRunning(t, "")
	a.exec(t, "SET GLOBAL read_only=0")
	record := Record{Record: shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "n1"}, PrimaryStart: first.StartID}
	a.write(t, record)
	record.Epoch, record.Primary, record.PrimaryStart = 2, "n2", "n2's"
	a.write(t, record)
	soon(t, 10*time.Second, "the former primary is killed", func() bool {
		return decode[Death](t, a.reg.Register, deadKey(1, first.StartID)).Node == "n1"
	})
	if again := a.awaitRunning(t, first.StartID); !strings.Contains(again.Doing, "SLAVE") || a.variable(t, "read_only") != "1" {
		t.Errorf("it came back as %+v", again)
	}
}

// TestAgentReportsACrash: a primary that dies by itself is reported within moments, waits, and comes back as what the order says.
func TestAgentReportsACrash(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	first := a.awaitRunning(t, "")
	a.exec(t, "SET GLOBAL read_only=0")
	record := Record{Record: shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "n1"}, PrimaryStart: first.StartID}
	a.write(t, record)
	began := time.Now()
	a.kill(t)
	eventually(t, "the death is reported", func() bool {
		return decode[Death](t, a.reg.Register, deadKey(1, first.StartID)).Node == "n1"
	})
	t.Logf("reported %v after the kill", time.Since(began))
	a.awaitDoing(t, "waiting for an order: epoch 1 is SERVING, primary n1")
	record.Epoch, record.Phase, record.Boot = 2, shard.PhaseFencing, map[string]Boot{"n1": BootPrimary}
	a.write(t, record)
	second := a.awaitRunning(t, first.StartID)
	if !strings.Contains(second.Doing, "MASTER") || a.variable(t, "read_only") != "1" {
		t.Errorf("it came back as %+v", second)
	}
	a.exec(t, "SET GLOBAL read_only=0")
	if err := a.halt(t); !errors.Is(err, context.Canceled) {
		t.Errorf("the agent ended with %v", err)
	}
	if death := decode[Death](t, a.reg.Register, deadKey(1, second.StartID)); !strings.Contains(death.How, "killed") {
		t.Errorf("a primary should be killed, and ended by %q", death.How)
	}
}

// TestAgentOfAReplacedPrimary: a primary whose agent was told nothing of its end, because it was cut off or stopped, is killed when the
// record names another one; one that was demoted by order, and takes no writes any more, is left alone.
func TestAgentOfAReplacedPrimary(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	first := a.awaitRunning(t, "")
	a.exec(t, "SET GLOBAL rpl_semi_sync_master_enabled=1")
	record := Record{Record: shard.Record{Epoch: 2, Phase: shard.PhaseServing, Primary: "n2"}}
	a.write(t, record)
	time.Sleep(2 * isolationEvery)
	if got := a.variable(t, "report_user"); got != first.StartID {
		t.Fatal("a primary that was demoted by order was ended")
	}
	record.InSync = map[string]string{"n1": first.StartID}
	a.write(t, record)
	a.exec(t, "SET GLOBAL read_only=0")
	time.Sleep(2 * isolationEvery)
	if got := a.variable(t, "report_user"); got != first.StartID {
		t.Fatal("a member was ended")
	}
	record.Epoch, record.InSync = 3, nil
	a.write(t, record)
	eventually(t, "the replaced primary is killed", func() bool {
		return decode[Death](t, a.reg.Register, deadKey(1, first.StartID)).Node == "n1"
	})
	if second := a.awaitRunning(t, first.StartID); !strings.Contains(second.Doing, "SLAVE") {
		t.Errorf("it came back as %+v", second)
	}
}

// TestAgentWithoutRegister: a primary that has neither register nor replica is killed, and one that lost its record stays down.
func TestAgentWithoutRegister(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	first := a.awaitRunning(t, "")
	record := Record{Record: shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "n2"}}
	a.write(t, record)
	a.reg.cut(true)
	time.Sleep(isolationLimit + 2*isolationEvery)
	if got := a.variable(t, "report_user"); got != first.StartID {
		t.Fatalf("a replica without register was ended")
	}
	a.exec(t, "SET GLOBAL read_only=0")
	eventually(t, "the isolated primary is killed", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.current == nil
	})
	entry, err := a.reg.Register.Get(t.Context(), shard.RecordKey(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := register.Delete(t.Context(), a.reg.Register, entry.Key, entry.Rev); err != nil {
		t.Fatal(err)
	}
	a.reg.cut(false)
	a.awaitDoing(t, "no record of this shard any more")
}

// TestAgentRefuses: a full disk keeps the database from starting, and a deviation ends the agent.
func TestAgentRefuses(t *testing.T) {
	t.Parallel()
	full := startAgent(t, func(cfg *AgentConfig) { cfg.FreeFloor = 1 << 62 })
	full.awaitDoing(t, "bytes of disk space are free")
	wrong := startAgent(t, func(cfg *AgentConfig) {
		cfg.Verify = func(ctx context.Context, db *sql.DB) error {
			return fmt.Errorf("%w: sync_binlog is 0", ErrDeviation)
		}
	})
	select {
	case err := <-wrong.end:
		wrong.end <- err
		if !errors.Is(err, ErrDeviation) || !strings.Contains(err.Error(), "sync_binlog") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(agentTestPatience):
		t.Error("it has not ended")
	}
}

func TestDeviations(t *testing.T) {
	t.Parallel()
	has := map[string]string{
		"log_slave_updates": "OFF", "sync_binlog": "0", "log_bin": "ON", "time_zone": "+00:00", "gtid_strict_mode": "ON",
		"max_statement_time":  "0.000000",
		"slave_parallel_mode": "optimistic",
	}
	errs := deviations([]string{
		"log_slave_updates=0", "log_slave_updates=1", "sync_binlog=1", "log_bin=binlog", "default_time_zone=+00:00",
		"gtid_strict_mode=1", "max_statement_time=0",
		"loose_innodb_snapshot_isolation=OFF", "relay_log=relay", "slave_parallel_mode=OPTIMISTIC", "no_such_thing=1",
	}, has)
	text := fmt.Sprint(errors.Join(errs...))
	if len(errs) != 2 || !strings.Contains(text, `log_slave_updates is "OFF" and must be "1"`) || !strings.Contains(text, "no_such_thing") {
		t.Error(text)
	}
}

// TestAgentAfterAPowerFailure: a replica that did not sync everything is started again after its process has died, and after a shutdown,
// but not after the machine has.
func TestAgentAfterAPowerFailure(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	first := a.awaitRunning(t, "")
	a.write(t, Record{Record: shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "n2"}})
	a.exec(t, "SET GLOBAL sync_binlog=0")
	mark := a.mark(relaxedFile)
	eventually(t, "the agent has noticed", func() bool {
		boot, err := os.ReadFile(mark)
		return err == nil && string(boot) == bootID()
	})
	a.kill(t)
	second := a.awaitRunning(t, first.StartID)
	if err := os.WriteFile(mark, []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.kill(t)
	a.awaitDoing(t, "the machine has ended while the database left files unsynced")
	if err := os.WriteFile(mark, []byte(bootID()), 0o600); err != nil {
		t.Fatal(err)
	}
	a.awaitRunning(t, second.StartID)
	if err := a.halt(t); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a database that was shut down is still believed to be relaxed: %v", err)
	}
}

func (a *agentUnderTest) kill(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	process := a.current.process
	a.mu.Unlock()
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// TestAgentIsRefused: a wrong password is not waited out.
func TestAgentIsRefused(t *testing.T) {
	t.Parallel()
	a := startAgent(t, func(cfg *AgentConfig) { cfg.DSN = "ha:wrong@tcp(" + cfg.Address + ")/" })
	select {
	case err := <-a.end:
		a.end <- err
		if !errors.Is(err, ErrDeviation) || !strings.Contains(err.Error(), "Access denied") {
			t.Error(err)
		}
	case <-time.After(agentTestPatience):
		t.Error("it has not ended")
	}
}
