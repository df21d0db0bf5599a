package failover

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/testdb"
)

// These tests are of MariaDB: what the steps of a failover rely on, and what they must never do. If one of them fails with a new
// release, the procedure has to be thought through again.

// Commits that wait are invisible but in the binary log; KILL answers them as if they were acknowledged; read_only waits behind them,
// and the loss of the last acker does not release them.
func TestFactsOfWaitingCommits(t *testing.T) {
	x := newTrio(t)
	ctx := t.Context()
	x.fence(t, 1, "c1", 2)
	x.servers[1].Pause(t) // n2 is connected, and acknowledges nothing
	before := x.status(t, 0).Executed
	result := x.waits(t, 0, 1)
	if n := x.text(t, 0, "SELECT COUNT(*) FROM statesvc.marks"); n != "0" {
		t.Errorf("a row that was not acknowledged is visible")
	}
	if after := x.status(t, 0).Executed; after.Seq != before.Seq+1 {
		t.Errorf("the binary log went from %s to %s, want one more", before, after)
	}

	if err := x.nodes[0].ReadOnly(ctx, 1); !isNumber(err, 1205, 1969) { // whichever limit of one second is first
		t.Errorf("read_only behind a waiting commit: %v", err)
	}
	if x.status(t, 0).ReadOnly {
		t.Error("read_only was set although it failed")
	}
	wants(t, x.nodes[0].DisconnectIdle(ctx, 1), ErrWaiting)

	must(t, x.nodes[0].Refuse(ctx, 1, "n2"))
	x.eventually(t, 0, "without ackers", func(s Status) bool { return s.SemiSync.Clients == 0 && s.SemiSync.WaitSessions == 1 })
	stillWaits(t, result)

	// The hazard, which is why nothing here kills a commit: the client believes in a write that one node has.
	id := x.text(t, 0, "SELECT id FROM information_schema.processlist WHERE user='app' AND state LIKE 'Waiting for semi-sync%'")
	x.exec(t, 0, "KILL QUERY "+id)
	if err := <-result; err != nil {
		t.Errorf("KILL QUERY of a waiting commit was answered with %v; it used to be OK", err)
	}
	x.servers[1].Resume(t)
}

// An acknowledgement says that somebody has received a commit, not that he has applied it or ever can.
func TestFactsOfAcknowledgements(t *testing.T) {
	x := newTrio(t)
	ctx := t.Context()
	x.exec(t, 1, "STOP SLAVE SQL_THREAD")
	x.exec(t, 2, "STOP SLAVE SQL_THREAD")
	must(t, x.nodes[0].Beat(ctx, "c1"))
	end := x.status(t, 0).Executed
	if a, b := x.status(t, 1), x.status(t, 2); a.Applied == end || b.Applied == end || a.Received != end && b.Received != end {
		t.Errorf("acknowledged at %s; n2 received %s, applied %s; n3 %s, %s", end, a.Received, a.Applied, b.Received, b.Applied)
	}
	x.exec(t, 1, "START SLAVE SQL_THREAD")
	x.exec(t, 2, "START SLAVE SQL_THREAD")

	// A replica that cannot apply acknowledges on.
	x.fence(t, 1, "c1", 2)
	x.exec(t, 1, "SET sql_log_bin=0; INSERT INTO statesvc.marks VALUES (1,1)")
	app := x.app(t, 0)
	for seq := 1; seq <= 2; seq++ {
		if _, err := app.ExecContext(ctx, markSQL, 1, seq); err != nil {
			t.Fatal(err)
		}
		x.eventually(t, 1, "broken", func(s Status) bool { return !s.SQLRunning && s.SQLErrno == 1062 && s.IORunning == "Yes" })
	}
	fenced := x.fence(t, 2, "c1", 1)[1]
	if fenced.SQLRunning || fenced.SQLErrno != 1062 || fenced.Received == fenced.Applied {
		t.Errorf("fenced: %+v", fenced)
	}
	wants(t, x.nodes[1].Promote(ctx, 2, PromoteOptions{}), ErrNotDrained)
}

// Switching a replica's acknowledgements on or off waits for the next start of receiving, and a replica that has it on as a primary
// cannot apply.
func TestFactsOfSwitches(t *testing.T) {
	x := newTrio(t)
	ctx := t.Context()
	x.exec(t, 1, "SET GLOBAL rpl_semi_sync_slave_enabled=0")
	time.Sleep(50 * time.Millisecond)
	if n := x.status(t, 0).SemiSync.Clients; n != 2 {
		t.Errorf("%d clients right after the switch", n)
	}
	x.exec(t, 1, "STOP SLAVE IO_THREAD; START SLAVE IO_THREAD")
	x.eventually(t, 0, "one client", func(s Status) bool { return s.SemiSync.Clients == 1 })
	x.eventually(t, 1, "receiving", func(s Status) bool { return s.IORunning == "Yes" })

	x.exec(t, 2, "SET GLOBAL rpl_semi_sync_master_enabled=1")
	must(t, x.nodes[0].Beat(ctx, "c1"))
	must(t, x.nodes[0].Beat(ctx, "c1"))
	end := x.status(t, 0).Executed
	x.eventually(t, 2, "an applier waits", func(s Status) bool { return s.SemiSync.WaitSessions > 0 })
	x.eventually(t, 1, "applied", func(s Status) bool { return s.Applied == end })
	if s := x.status(t, 2); s.Applied == end {
		t.Errorf("a replica that waits for acknowledgements has applied %s", end)
	}
	x.exec(t, 2, "SET GLOBAL rpl_semi_sync_master_enabled=0")
	x.eventually(t, 2, "applied", func(s Status) bool { return s.Applied == end })

	// Counted clients prove nothing when nobody waits for them.
	x.exec(t, 0, "SET GLOBAL rpl_semi_sync_master_enabled=0")
	must(t, x.nodes[0].Beat(ctx, "c1"))
	if n := x.status(t, 0).SemiSync.Clients; n == 0 {
		t.Log("clients are not counted any more when semi-sync is off")
	}
	wants(t, x.nodes[0].Establish(ctx, 1, trioID(0)), ErrNotEstablished)
	x.readOnly(t)
}

// readOnly: it stops all but those who have READ ONLY ADMIN, SUPER included.
func (x *trio) readOnly(t *testing.T) {
	t.Helper()
	x.exec(t, 1, "SET sql_log_bin=0; CREATE USER boss@'%'; GRANT SUPER ON *.* TO boss@'%'; GRANT INSERT ON statesvc.* TO boss@'%'")
	_, err := x.app(t, 1).ExecContext(t.Context(), markSQL, 7, 1)
	if !isNumber(err, 1290) {
		t.Errorf("app writes to a replica: %v", err)
	}
	boss, err := NewNode(NodeConfig{Name: "n2", Address: x.servers[1].Addr(), User: "boss", Now: time.Now})
	must(t, err)
	defer boss.Close()
	conn, err := boss.pool.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "INSERT INTO statesvc.marks VALUES (7,1)"); !isNumber(err, 1290) {
		t.Errorf("SUPER writes to a read-only server: %v", err)
	}
}

// A replica that was restarted does not know what it had received, and its start throws that away.
func TestFactsOfRestartedReplicas(t *testing.T) {
	x := newTrio(t)
	ctx := t.Context()
	x.exec(t, 1, "STOP SLAVE SQL_THREAD")
	must(t, x.nodes[0].Beat(ctx, "c1"))
	end := x.status(t, 0).Executed
	x.eventually(t, 1, "received", func(s Status) bool { return s.Received == end })
	x.servers[1].Kill(t)
	x.restart(t, 1, BootReplica)
	s := x.status(t, 1)
	if s.Received != (GTID{}) || s.Applied == end || s.IORunning != "No" || s.SQLRunning {
		t.Errorf("after a restart: %+v", s)
	}
	x.exec(t, 1, "START SLAVE SQL_THREAD")
	time.Sleep(100 * time.Millisecond)
	if s := x.status(t, 1); s.Applied == end {
		t.Errorf("the relay log has survived a start; it used to be purged")
	}
	x.fence(t, 1, "c1", 1)
	must(t, x.nodes[1].Follow(ctx, 1, FollowOptions{Address: x.servers[0].Addr(), SemiSync: true}))
	x.same(t, 0)
}

// The role of a restart decides what becomes of commits that nobody acknowledged; one that has kept them is refused for ever.
func TestFactsOfRoles(t *testing.T) {
	x := newTrio(t)
	ctx := t.Context()
	all := x.fence(t, 2, "c1", 1, 2)
	result := x.waits(t, 0, 1)
	x.servers[0].Kill(t)
	if err := <-result; err == nil {
		t.Error("a dying server has acknowledged")
	}
	primary := x.promote(t, 2, all, 0)

	x.restart(t, 0, BootPrimary)
	if n := x.text(t, 0, "SELECT COUNT(*) FROM statesvc.marks WHERE writer=99"); n != "1" {
		t.Errorf("recovered as a primary it has %s of its unacknowledged rows, want 1", n)
	}
	if s := x.status(t, 0); !s.ReadOnly {
		t.Error("it takes writes after a restart")
	}
	x.fence(t, 2, "c1", 0)
	follow := FollowOptions{Address: x.servers[primary].Addr(), SemiSync: true, Demote: true}
	must(t, x.nodes[0].Follow(ctx, 2, follow))
	x.eventually(t, 0, "locked out", func(s Status) bool { return s.IOErrno == 4151 })
	must(t, x.nodes[primary].Allow(ctx, 2, "n1"))
	s := x.eventually(t, 0, "diverged", func(s Status) bool { return s.IOErrno == 1236 })
	t.Logf("diverged: %s", s.IOError)
}

// To stop receiving from a hung primary takes a second, and is quick only if the receiver is killed first.
func TestFactsOfHungPrimaries(t *testing.T) {
	x := newTrio(t)
	x.servers[0].Pause(t)
	defer x.servers[0].Resume(t)
	stopped := make(chan time.Duration, 1)
	go func() {
		began := time.Now()
		if _, err := x.roots[1].ExecContext(context.WithoutCancel(t.Context()), "STOP SLAVE IO_THREAD"); err != nil {
			t.Error(err)
		}
		stopped <- time.Since(began)
	}()
	time.Sleep(50 * time.Millisecond)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s, err := x.nodes[1].Probe(short)
	t.Logf("a probe while STOP hangs: answered %t, %v", s.Answered, err)
	t.Logf("STOP SLAVE IO_THREAD alone: %v", <-stopped)

	time.Sleep(2500 * time.Millisecond) // n3 has given up on the connection by now and tries to make another
	if s := x.status(t, 2); s.IORunning != "Connecting" {
		t.Logf("n3 is %s", s.IORunning)
	}
	x.fence(t, 2, "c1", 1, 2)
}

// A replica that has something of its own stops at the first transaction that has the same place, and does not go on with another history.
func TestFactsOfStrictHistories(t *testing.T) {
	x := newTrio(t)
	x.exec(t, 1, "SET GLOBAL read_only=0; INSERT INTO statesvc.marks (writer, seq) VALUES (7,7)")
	must(t, x.nodes[0].Beat(t.Context(), "c1"))
	end := x.status(t, 0).Executed
	x.eventually(t, 2, "applied "+end.String(), func(s Status) bool { return s.Applied == end })
	x.eventually(t, 1, "decided", func(s Status) bool { return s.SQLErrno != 0 || s.Applied == end })
	if s := x.status(t, 1); s.SQLErrno == 0 || s.SQLRunning {
		t.Errorf("it goes on: %+v", s)
	}
}

// A replica whose appliers have waited for a lock in vain stops, and its fencing starts it again, with all that it has received. It does
// so as well when the primary is dead.
func TestFenceStartsStalledAppliers(t *testing.T) {
	x := newTrio(t)
	end := x.stall(t, 1, 1)
	if fenced := x.fence(t, 2, "c1", 1)[1]; !fenced.SQLRunning || fenced.SQLErrno != 0 || fenced.Received != end {
		t.Errorf("fenced: %+v, must have %s", fenced, end)
	}
	must(t, x.nodes[1].Drain(t.Context(), end))

	x.exec(t, 1, "START SLAVE IO_THREAD")
	x.eventually(t, 0, "n2 acknowledges", func(s Status) bool { return s.SemiSync.Clients == 2 })
	end = x.stall(t, 1, 2)
	x.servers[0].Kill(t)
	x.eventually(t, 1, "it has lost the primary", func(s Status) bool { return s.IORunning != ioRunning })
	if fenced := x.fence(t, 3, "c1", 1)[1]; !fenced.SQLRunning || fenced.Received != end {
		t.Errorf("fenced: %+v, must have %s", fenced, end)
	}
	must(t, x.nodes[1].Drain(t.Context(), end))
}

// Appliers that are started while nothing is received begin a new relay log. So a fencing leaves them stopped, and only Renew starts them.
func TestRenewForgetsWhatWasReceived(t *testing.T) {
	x := newTrio(t)
	end := x.stall(t, 1, 1)
	x.exec(t, 1, "STOP SLAVE IO_THREAD")
	if fenced := x.fence(t, 2, "c1", 1)[1]; fenced.SQLRunning || fenced.Received != end {
		t.Errorf("fenced: %+v, must have %s", fenced, end)
	}
	must(t, x.nodes[1].Renew(t.Context(), 2))
	if s := x.status(t, 1); !s.SQLRunning || s.Received == end {
		t.Errorf("renewed: running %t, received %s", s.SQLRunning, s.Received)
	}
}

// stall makes the appliers of a replica give up waiting for a lock, which is gone then. It returns what the replica has received.
func (x *trio) stall(t *testing.T, i, seq int) GTID {
	t.Helper()
	ctx := t.Context()
	x.exec(t, i, "SET GLOBAL slave_transaction_retries=0")
	app := x.app(t, 0)
	if _, err := app.ExecContext(ctx, markSQL, 1, seq); err != nil {
		t.Fatal(err)
	}
	end := x.status(t, 0).Executed
	x.eventually(t, i, "applied "+end.String(), func(s Status) bool { return s.Applied == end })
	lock, err := x.roots[i].BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.ExecContext(ctx, "SELECT * FROM statesvc.marks FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	if _, err := app.ExecContext(ctx, "DELETE FROM statesvc.marks"); err != nil {
		t.Fatal(err)
	}
	end = x.status(t, 0).Executed
	s := x.eventually(t, i, "stopped", func(s Status) bool { return !s.SQLRunning && s.Received == end })
	if !s.stalled() || s.cannotApply() {
		t.Errorf("stopped: %d %s", s.SQLErrno, s.SQLError)
	}
	must(t, lock.Rollback())
	return end
}

// Every setting is known to the server under its name and has the value that we gave, and the accounts can be made at its start.
func TestSettingsAreInForce(t *testing.T) {
	list := Settings(NodeSettings{ServerID: 5, Domain: 6, StartID: "a:b:c", Boot: BootReplica})
	server := testdb.Start(t, mariadb.Options{Settings: list})
	path := filepath.Join(t.TempDir(), "initial.sql")
	initial := InitialSQL(Accounts{AppPassword: trioSecret, HAPassword: trioSecret, Replicas: map[string]string{"n1": trioSecret}})
	must(t, os.WriteFile(path, []byte(initial), 0o600))
	server.Restart(t, "init_file="+path)
	n, err := NewNode(NodeConfig{Name: "n1", Address: server.Addr(), Domain: 6, Password: trioSecret, Now: time.Now})
	must(t, err)
	defer n.Close()
	must(t, n.Claim(t.Context(), 1, "c1"))
	s, err := n.Probe(t.Context())
	must(t, err)
	if s.StartID != "a:b:c" || s.ServerID != 5 || !s.ReadOnly || s.Executed != (GTID{}) || s.Epoch != 0 {
		t.Errorf("a fresh node: %+v", s)
	}
	if s.ClockOffset.Abs() > 500*time.Millisecond {
		t.Errorf("the clock of the same machine is off by %v", s.ClockOffset)
	}
	for _, setting := range list {
		checkSetting(t, n, setting)
	}
}

// variableOf names what has another name as a variable; empty: there is none, or it is a path.
var variableOf = map[string]string{
	"skip_slave_start": "", "init_rpl_role": "", "log_bin": "", "relay_log": "",
	"transaction_isolation": "tx_isolation", "default_time_zone": "time_zone",
}

func checkSetting(t *testing.T, n *Node, setting string) {
	t.Helper()
	name, want, _ := strings.Cut(strings.TrimPrefix(setting, "loose_"), "=")
	if other, ok := variableOf[name]; ok {
		name = other
	}
	if name == "" {
		return
	}
	sets, err := n.variable(t.Context(), name)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	switch got := first(sets, 0)["value"]; {
	case got == want, got == want+".000000":
	case want == "OFF" && got == "0", want == "0" && got == "OFF", want == "1" && got == "ON":
	default:
		t.Errorf("%s is %q, want %q", name, got, want)
	}
}

func (n *Node) variable(ctx context.Context, name string) ([][]answer, error) {
	conn, err := n.pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return readSets(ctx, conn, "SELECT @@global."+name+" AS value")
}
