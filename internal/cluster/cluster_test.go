package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	s, err := plan(t.TempDir(), 2, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	names, addresses := []string{}, map[string]bool{}
	for _, p := range s.Processes {
		names = append(names, p.Name)
		for _, address := range []string{p.Address, p.Peer, p.Backup} {
			if addresses[address] && address != "" {
				t.Errorf("%s is used twice", address)
			}
			addresses[address] = true
		}
	}
	want := "etcd-1 etcd-2 etcd-3 cache-1 cache-2 cache-3 sentinel-1 sentinel-2 sentinel-3 coordination " +
		"agent-s1n1 agent-s1n2 agent-s1n3 agent-s2n1 agent-s2n2 agent-s2n3 " +
		"controller-1 controller-2 controller-3 instance-1"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("the processes are\n%s\nand not\n%s", got, want)
	}
	for _, wrong := range [][2]int{{0, 1}, {1, 0}, {shardsMax + 1, 1}} {
		if _, err := plan(t.TempDir(), wrong[0], wrong[1], false); err == nil {
			t.Errorf("%v is taken", wrong)
		}
	}
}

// TestRelays: everybody else reaches a node over the relay, and a relay that is started again knows who is cut.
func TestRelays(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s, err := plan(folder, 1, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.configure(), s.save(), s.Cut(t.Context(), "s1n2")); err != nil {
		t.Fatal(err)
	}
	again, err := Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range again.relayConfig(again.relay()).Nodes {
		agent := again.agents(1)[i]
		config := again.agentConfig(agent)
		if n.Cut != (n.Name == "s1n2") || n.Account != "repl_"+n.Name {
			t.Errorf("the relay knows %+v", n)
		}
		if n.Database.Listen != config["address"] || n.Database.Server != config["listen"] || config["address"] == config["listen"] {
			t.Errorf("the relay of %s passes %+v, its agent has %v at %v", n.Name, n.Database, config["listen"], config["address"])
		}
		for j, link := range n.Register {
			if link.Server != again.of(KindEtcd)[j].Address || !strings.Contains(config["register"].(string), link.Listen) {
				t.Errorf("the agent of %s reaches the register at %v, the relay passes %+v", n.Name, config["register"], link)
			}
		}
	}
	if err := again.Heal(t.Context(), "s1n9"); err == nil || !strings.Contains(err.Error(), "there are s1n1, s1n2, s1n3") {
		t.Errorf("an unknown node: %v", err)
	}
	if without, err := plan(t.TempDir(), 1, 1, false); err != nil || !errors.Is(without.Cut(t.Context(), "s1n1"), ErrNoRelays) {
		t.Errorf("a node was cut off without a relay, %v", err)
	}
}

// TestStateFile: it survives, and nobody else reads what is in it, nor in the configurations.
func TestStateFile(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if _, err := Load(folder); !errors.Is(err, ErrNoCluster) {
		t.Errorf("an empty folder: %v", err)
	}
	s, err := plan(folder, 1, 2, false)
	if err != nil {
		t.Fatal(err)
	}
	s.APIKey = "token"
	s.Processes[0].Running = Identity{PID: 1, StartedAt: 2, BootID: "3"}
	if err := errors.Join(s.configure(), s.save()); err != nil {
		t.Fatal(err)
	}
	again, err := Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	if again.Passwords != s.Passwords || again.APIKey != "token" || *again.Processes[0] != *s.Processes[0] || len(again.Processes) != 18 {
		t.Errorf("it came back as %+v", again)
	}
	files := 0
	err = filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files++
		info, err := entry.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil || files != 16 { // the state, and all processes but those of etcd
		t.Errorf("%d files, %v", files, err)
	}
	if err := os.WriteFile(filepath.Join(folder, stateFile), []byte(`{"version": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(folder); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("another version: %v", err)
	}
}

// TestIdentity: only exactly the process that was started is signalled.
func TestIdentity(t *testing.T) {
	t.Parallel()
	id, err := launch("/bin/sleep", []string{"60"}, nil, filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = id.signal(syscall.SIGKILL) })
	if !id.Alive() || id.Paused() {
		t.Errorf("it should run: %+v", id)
	}
	later, otherBoot := id, id
	later.StartedAt++
	otherBoot.BootID = "another"
	for _, other := range []Identity{later, otherBoot, {}} {
		if err := other.signal(syscall.SIGKILL); !errors.Is(err, errNoProcess) {
			t.Errorf("%+v was signalled: %v", other, err)
		}
	}
	s := &State{Processes: []*Process{{Name: "etcd-1", Kind: KindEtcd, Running: id}}}
	if err := s.Pause("etcd-1"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !id.Paused(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not paused")
		}
	}
	if err := errors.Join(s.Resume("etcd-1"), s.Kill("etcd-1")); err != nil {
		t.Fatal(err)
	}
	if !id.awaitEnd(10 * time.Second) {
		t.Error("it lives")
	}
	if err := s.Kill("etcd-1"); !errors.Is(err, errNoProcess) {
		t.Errorf("a second kill: %v", err)
	}
	if err := s.Kill("etcd-9"); err == nil || !strings.Contains(err.Error(), "there are etcd-1") {
		t.Errorf("an unknown name: %v", err)
	}
}
