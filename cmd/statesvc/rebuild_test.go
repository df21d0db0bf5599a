package main

import (
	"context"
	"database/sql"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/register"
)

// rebuildPatience is for what takes ten seconds on an idle machine, and the pause after an attempt that has failed.
const rebuildPatience = 2 * time.Minute

// rebuilds is a cluster of one shard whose nodes lose their data.
type rebuilds struct {
	*oneMachine
	*testing.T

	state *cluster.State
	reg   *register.Etcd
}

// TestRebuild: a replica with a transaction of its own, one without data, one whose agent is killed while it is rebuilt, and one whose
// donor is killed meanwhile come back by themselves, and then all three nodes have the same rows.
func TestRebuild(t *testing.T) {
	m := newOneMachine(t)
	m.run(t, "up", "--shards", "1", "--instances", "1")
	w := &rebuilds{oneMachine: m, T: t, state: m.state(t)}
	reg, err := w.state.OpenRegister(t.Context(), rebuildPatience)
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	w.reg = reg
	c := caller{"http://" + w.process(t, w.state, "instance-1").Address, w.state.APIKey}
	c.want(t, http.StatusCreated, "POST", "/v1/owners/user-1/lots", "credit-1", creditBody("r1", 100))

	w.errant("s1n2")
	one := w.rebuilt("s1n2", "")
	if one.Donor != "s1n3" || !strings.Contains(one.Why, "1950") {
		t.Errorf("it was rebuilt by %+v", one)
	}
	if n := w.number("s1n2", "SELECT COUNT(*) FROM statesvc_local.promise WHERE server_id=999"); n != 0 {
		t.Error("the transaction that nobody else has is still there")
	}
	if _, err := os.Stat(filepath.Join(w.folder, "s1n2", "data.old", "ibdata1")); err != nil {
		t.Errorf("the old data are not kept: %v", err)
	}
	c.want(t, http.StatusCreated, "POST", "/v1/owners/user-1/lots", "credit-2", creditBody("r2", 100))
	w.same()

	w.wipe("s1n3")
	one = w.rebuilt("s1n3", "")
	if one.Donor != "s1n2" || !strings.Contains(one.Why, "its data are gone") {
		t.Errorf("it was rebuilt by %+v", one)
	}
	w.same()

	before := w.record().Rebuilds["s1n2"].ID
	address := []string{"--address", c.base, "--key", w.state.APIKey, "--reason", "a test"}
	must(t, append([]string{"shards", "rebuild", "1", "--node", "s1n2"}, address...)...)
	refused(t, append([]string{"shards", "rebuild", "1", "--node", "s1n1"}, address...), "no-failover", "is the primary")
	refused(t, append([]string{"shards", "rebuild", "1", "--node", "s1n9"}, address...), "not-found")
	w.await("s1n2 is being rebuilt", func(r *failover.Record) bool {
		one := r.Rebuilds["s1n2"]
		return one.Running() && one.ID != before
	})
	if err := w.state.Kill("agent-s1n2"); err != nil {
		t.Fatal(err)
	}
	w.run(t, "up")
	w.state = w.oneMachine.state(t)
	w.rebuilt("s1n2", before)
	w.same()

	before = w.record().Rebuilds["s1n3"].ID
	w.wipe("s1n3")
	w.await("s1n3 is being rebuilt", func(r *failover.Record) bool {
		one := r.Rebuilds["s1n3"]
		return one.Running() && one.ID != before
	})
	first := w.record().Rebuilds["s1n3"]
	if err := w.state.Kill(first.Donor); err != nil {
		t.Fatal(err)
	}
	w.await("the attempt has failed", func(r *failover.Record) bool {
		one := r.Rebuilds["s1n3"]
		return one.ID == first.ID && one.Error != ""
	})
	w.rebuilt("s1n3", first.ID)
	w.same()
	if text := w.run(t, "status"); !strings.Contains(text, "rebuild of s1n3 from s1n2, done") {
		t.Errorf("the status says nothing of it:\n%s", text)
	}
}

// errant writes on a replica alone, as nobody should.
func (w *rebuilds) errant(node string) {
	w.Helper()
	if _, err := w.open(node).ExecContext(w.Context(), "INSERT INTO statesvc_local.promise VALUES (999, 0, 'errant')"); err != nil {
		w.Fatal(err)
	}
}

// wipe takes the data directory of a database and then kills it, so that no file is left for the next start.
func (w *rebuilds) wipe(node string) {
	w.Helper()
	pid := w.state.PIDs()[node]
	if pid == 0 {
		w.Fatalf("%s does not run", node)
	}
	if err := os.Rename(filepath.Join(w.folder, node, "data"), filepath.Join(w.TempDir(), "gone")); err != nil {
		w.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		w.Fatal(err)
	}
}

// open is the account of controllers, which read_only does not stop.
func (w *rebuilds) open(node string) *sql.DB {
	w.Helper()
	address := w.process(w.T, w.state, cluster.AgentName(node)).Address
	db, err := sql.Open("mysql", failover.HAUser+":"+w.state.Passwords.HA+"@tcp("+address+")/statesvc")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = db.Close() })
	return db
}

func (w *rebuilds) number(node, query string) (n int) {
	w.Helper()
	if err := w.open(node).QueryRowContext(w.Context(), query).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}

func (w *rebuilds) record() *failover.Record {
	w.Helper()
	r, _, err := failover.ReadRecord(w.Context(), w.reg, 1)
	if err != nil {
		w.Fatal(err)
	}
	return &r
}

func (w *rebuilds) await(what string, holds func(*failover.Record) bool) {
	w.Helper()
	for deadline := time.Now().Add(rebuildPatience); !holds(w.record()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("never: %s; %+v\n%s", what, w.record(), w.run(w.T, "status"))
		}
	}
}

// rebuilt waits until a node is in sync with the data of another rebuild than before.
func (w *rebuilds) rebuilt(node, before string) failover.Rebuild {
	w.Helper()
	w.await(node+" is rebuilt and in sync", func(r *failover.Record) bool {
		one, member := r.Rebuilds[node], r.InSync[node] != ""
		return member && one.ID != "" && one.ID != before && !one.Running() && one.Error == ""
	})
	one := w.record().Rebuilds[node]
	w.Logf("%s was rebuilt from %s in %s: %s", node, one.Donor, one.EndedAt.Sub(one.BeganAt).Round(time.Millisecond), one.Why)
	return one
}

// same waits until all nodes have the same rows, which they must have soon, as nothing is written.
func (w *rebuilds) same() {
	w.Helper()
	var sums [3]map[string]string
	for deadline := time.Now().Add(rebuildPatience); ; time.Sleep(100 * time.Millisecond) {
		for i, node := range []string{"s1n1", "s1n2", "s1n3"} {
			sums[i] = w.checksums(node)
		}
		if maps.Equal(sums[0], sums[1]) && maps.Equal(sums[0], sums[2]) && len(sums[0]) > 0 {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("the nodes differ: %v", sums)
		}
	}
}

func (w *rebuilds) checksums(node string) map[string]string {
	ctx, cancel := context.WithTimeout(w.Context(), time.Second)
	defer cancel()
	db, err := sql.Open("mysql", w.state.DSN(node))
	if err != nil {
		w.Fatal(err)
	}
	defer db.Close()
	sums, err := cluster.Checksums(ctx, db)
	if err != nil {
		return nil // it is just being started
	}
	return sums
}
