package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/internal/testdb"
)

// oneMachine is a cluster of this binary. A shell takes it down when the test ends, however that happens.
type oneMachine struct {
	env    []string
	folder string
}

func newOneMachine(t *testing.T) *oneMachine {
	t.Helper()
	testdb.NeedMariaDB(t)
	m := &oneMachine{env: append(os.Environ(), asProgram+"=1"), folder: filepath.Join(t.TempDir(), "cluster")}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	testdb.TakeDown(t, program, m.env, m.folder)
	return m
}

func (m *oneMachine) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(t, m.env, append([]string{"cluster", "--data", m.folder}, args...)...)
	if err != nil {
		t.Fatalf("cluster %v: %v\n%s", args, err, out)
	}
	return out
}

func (m *oneMachine) process(t *testing.T, state *cluster.State, name string) cluster.Process {
	t.Helper()
	for _, p := range state.Processes {
		if p.Name == name {
			return *p
		}
	}
	t.Fatalf("there is no %s", name)
	return cluster.Process{}
}

func (m *oneMachine) state(t *testing.T) *cluster.State {
	t.Helper()
	state, err := cluster.Load(m.folder)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestClusterUpAndDown makes a cluster, writes to it, takes its primary away, and stops it. Nothing is left running.
func TestClusterUpAndDown(t *testing.T) {
	m := newOneMachine(t)
	printed := m.run(t, "up", "--shards", "1", "--instances", "1")
	state := m.state(t)
	c := caller{"http://" + m.process(t, state, "instance-1").Address, state.APIKey}
	if !strings.Contains(printed, state.APIKey) || !strings.Contains(printed, c.base+"/v1/owners/user-1/lots") {
		t.Errorf("what to try is missing:\n%s", printed)
	}
	c.want(t, http.StatusCreated, "POST", "/v1/owners/user-1/lots", "credit-1", creditBody("r1", 100))
	for _, want := range []string{
		"shard s1: epoch 1, SERVING, primary s1n1", "s1n3  replica", "controller-3", ", leads", "ready", "sentinel-3",
	} {
		if text := m.run(t, "status"); !strings.Contains(text, want) {
			t.Errorf("the status lacks %q:\n%s", want, text)
		}
	}

	eventually(t, "the caches have a primary and replicas", func() bool { return m.primaryCache(t, state) == "cache-1" })
	m.run(t, "kill", "cache-1")

	out, err := command(t, m.env, "cluster", "--data", m.folder, "cut", "s1n1")
	if err == nil || !strings.Contains(out+err.Error(), "without relays") {
		t.Errorf("a node was cut off without a relay: %v\n%s", err, out)
	}

	m.run(t, "kill", "s1n1")
	eventually(t, "the shard takes writes again", func() bool {
		r, err := c.send(t, "POST", "/v1/owners/user-1/lots", "credit-2", creditBody("r2", 100))
		return err == nil && r.status == http.StatusCreated
	})
	eventually(t, "the old primary is back", func() bool {
		text := m.run(t, "status")
		return strings.Contains(text, "epoch 2, SERVING") && strings.Count(text, " yes ") == 2
	})

	eventually(t, "another cache is the primary", func() bool { return strings.HasPrefix(m.primaryCache(t, state), "cache-") })
	m.run(t, "pause", "instance-1")
	eventually(t, "the instance is paused", func() bool { return m.process(t, state, "instance-1").Running.Paused() })
	m.run(t, "resume", "instance-1")
	m.run(t, "kill", "controller-2")
	before := m.process(t, m.state(t), "agent-s1n1").Running
	printed = m.run(t, "up")
	if !strings.Contains(printed, "started controller-2\n") || !strings.Contains(printed, "started cache-1\n") ||
		strings.Contains(printed, "started agent") {
		t.Errorf("only what was killed should be started:\n%s", printed)
	}
	state = m.state(t)
	if after := m.process(t, state, "agent-s1n1").Running; after != before {
		t.Errorf("the agent was %+v and is %+v", before, after)
	}

	// All databases stop at once, and what was written is there afterwards, under a new epoch.
	m.run(t, "down")
	m.run(t, "up")
	r := c.want(t, http.StatusCreated, "POST", "/v1/owners/user-1/lots", "credit-1", creditBody("r1", 100))
	if !r.replayed {
		t.Errorf("the first credit is unknown after the restart: %s", r.body)
	}
	state = m.state(t)

	m.run(t, "down")
	for _, p := range state.Processes {
		if p.Running.Alive() {
			t.Errorf("%s, process %d, still runs", p.Name, p.Running.PID)
		}
	}
	text, err := os.ReadFile(filepath.Join(m.folder, "cluster.json"))
	if err != nil || !json.Valid(text) {
		t.Errorf("the state is gone: %v", err)
	}
	if left := databasesIn(t, m.folder); left != "" {
		t.Errorf("databases still run: %s", left)
	}
	m.run(t, "down", "--purge")
	if _, err := os.Stat(m.folder); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// TestClusterCut cuts a primary off in both directions. Another one takes its place, and it comes back when it is healed.
func TestClusterCut(t *testing.T) {
	m := newOneMachine(t)
	m.run(t, "up", "--shards", "1", "--instances", "1", "--relays")
	state := m.state(t)
	c := caller{"http://" + m.process(t, state, "instance-1").Address, state.APIKey}
	c.want(t, http.StatusCreated, "POST", "/v1/owners/user-1/lots", "credit-1", creditBody("r1", 100))
	m.run(t, "cut", "s1n1")
	if text := m.run(t, "status"); !strings.Contains(text, "s1n1  CUT") {
		t.Errorf("the status does not say that it is cut:\n%s", text)
	}
	eventually(t, "the shard takes writes without it", func() bool {
		r, err := c.send(t, "POST", "/v1/owners/user-1/lots", "credit-2", creditBody("r2", 100))
		return err == nil && r.status == http.StatusCreated
	})
	if r := c.want(t, http.StatusCreated, "POST", "/v1/owners/user-1/lots", "credit-1", creditBody("r1", 100)); !r.replayed {
		t.Errorf("the first credit is unknown: %s", r.body)
	}
	m.run(t, "heal", "s1n1")
	eventually(t, "the old primary is back", func() bool {
		text := m.run(t, "status")
		return strings.Contains(text, "epoch 2, SERVING") && strings.Count(text, " yes ") == 2 && !strings.Contains(text, "CUT")
	})
}

// primaryCache is the cache that the status says is the primary, if there is one and another one follows it.
func (m *oneMachine) primaryCache(t *testing.T, state *cluster.State) (name string) {
	t.Helper()
	replicas := 0
	for _, p := range state.Look(t.Context()).Processes {
		switch {
		case !strings.HasPrefix(p.Name, "cache-"):
		case p.State == "primary":
			name = p.Name
		case p.State == "replica":
			replicas++
		}
	}
	if replicas == 0 {
		return ""
	}
	return name
}

// databasesIn lists the processes whose command line names the folder.
func databasesIn(t *testing.T, folder string) string {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		server := strings.Contains(string(text), "mariadbd") || strings.Contains(string(text), "redis-server")
		if err == nil && server && strings.Contains(string(text), folder) {
			found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return strings.Join(found, "\n")
}
