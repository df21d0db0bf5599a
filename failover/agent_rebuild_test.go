package failover

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/shard"
)

// startGiver starts an agent that gives copies.
func startGiver(t *testing.T) (a *agentUnderTest, url string) {
	t.Helper()
	port, err := scratch.NewPort()
	must(t, err)
	address := port.Addr()
	must(t, port.Close())
	a = startAgent(t, func(cfg *AgentConfig) { cfg.BackupListen, cfg.BackupAddress, cfg.KeepOld = address, address, time.Hour })
	return a, "http://" + address + backupPath
}

func fetchCopy(t *testing.T, url, token string) (status int, bytes int64, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	bytes, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, bytes, err
}

// TestCopiesAreForTheOrdered: whoever has the token of a rebuild that is ordered from this node, while the shard serves, and nobody else.
func TestCopiesAreForTheOrdered(t *testing.T) {
	t.Parallel()
	a, url := startGiver(t)
	first := a.awaitRunning(t, "")
	if first.Backup == "" {
		t.Fatalf("it does not say that it gives copies: %+v", first)
	}
	order := func(donor, token string, ended time.Time) map[string]Rebuild {
		return map[string]Rebuild{"n3": {ID: "id", Token: token, Donor: donor, BeganAt: time.Now(), EndedAt: ended}}
	}
	record := Record{Record: shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "n2"}}
	for _, tc := range []struct {
		name     string
		rebuilds map[string]Rebuild
		phase    shard.Phase
		token    string
		want     int
	}{
		{"none ordered", nil, shard.PhaseServing, "", http.StatusForbidden},
		{"no token", order("n1", "secret", time.Time{}), shard.PhaseServing, "", http.StatusForbidden},
		{"another token", order("n1", "secret", time.Time{}), shard.PhaseServing, "secreT", http.StatusForbidden},
		{"another donor", order("n2", "secret", time.Time{}), shard.PhaseServing, "secret", http.StatusForbidden},
		{"ended", order("n1", "secret", time.Now()), shard.PhaseServing, "secret", http.StatusForbidden},
		{"while failing over", order("n1", "secret", time.Time{}), shard.PhaseFencing, "secret", http.StatusForbidden},
		{"ordered", order("n1", "secret", time.Time{}), shard.PhaseServing, "secret", http.StatusOK},
	} {
		r := record
		r.Rebuilds, r.Phase = tc.rebuilds, tc.phase
		a.write(t, r)
		status, bytes, err := fetchCopy(t, url, tc.token)
		if status != tc.want || err != nil || (tc.want == http.StatusOK) != (bytes > 1<<20) {
			t.Errorf("%s: %d, %d bytes, %v", tc.name, status, bytes, err)
		}
	}
	a.reg.cut(true)
	if status, _, _ := fetchCopy(t, url, "secret"); status != http.StatusServiceUnavailable {
		t.Errorf("without a register: %d", status)
	}
	a.reg.cut(false)

	// What is broken off is seen to be.
	must(t, os.Chmod(filepath.Join(a.data(), "ibdata1"), 0o600))
	must(t, os.Rename(filepath.Join(a.data(), "ibdata1"), filepath.Join(a.data(), "elsewhere")))
	if _, bytes, err := fetchCopy(t, url, "secret"); err == nil {
		t.Errorf("half a copy, %d bytes, passes for a whole one", bytes)
	}
}

// TestLostDataAreNotMadeAnew: an empty database in the place of one that belonged to a shard has lost everything, and does not know.
func TestLostDataAreNotMadeAnew(t *testing.T) {
	t.Parallel()
	a, _ := startGiver(t)
	first := a.awaitRunning(t, "")
	a.write(t, Record{Record: shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "n2"}})
	eventually(t, "it knows that it belongs to a shard", func() bool {
		_, err := os.Stat(a.mark(servedFile))
		return err == nil
	})
	_ = a.halt(t)
	if death := decode[Death](t, a.reg.Register, deadKey(1, first.StartID)); death.Node == "" {
		t.Fatal("its death was not reported")
	}
	must(t, os.RemoveAll(a.data()))
	must(t, a.prepare(t.Context()))
	if _, err := os.Stat(a.data()); err == nil {
		t.Error("a data directory was made")
	}
	if role, _, why := a.order(t.Context()); role != BootNone || !strings.Contains(why, "its data are gone") {
		t.Errorf("it starts as %q: %s", role, why)
	}
	if unfit := a.unfit(); unfit == "" {
		t.Error("nobody is told")
	}

	// An order to rebuild comes before all doubts.
	a.write(t, Record{
		Record:   shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "n2"},
		Rebuilds: map[string]Rebuild{"n1": {ID: "id", Donor: "n3", BeganAt: time.Now()}},
	})
	role, record, _ := a.order(t.Context())
	if role != BootRebuild {
		t.Fatalf("it is told %q", role)
	}
	a.rebuild(t.Context(), record)
	if said := a.report.current().Rebuild; said.ID != "id" || !strings.Contains(said.Error, "gives no copies") {
		t.Errorf("a donor that does not exist: %+v", said)
	}
	for _, one := range []string{draftFolder, "data"} {
		if _, err := os.Stat(a.mark(one)); err == nil {
			t.Errorf("%s is left behind", one)
		}
	}
}

// TestDatabaseThatCannotStart: three ends before it answers are said to be the data's fault, and it is tried all the same.
func TestDatabaseThatCannotStart(t *testing.T) {
	t.Parallel()
	a, _ := startGiver(t)
	first := a.awaitRunning(t, "")
	a.write(t, Record{Record: shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "n2"}})
	file := filepath.Join(a.data(), "ibdata1")
	whole, err := os.ReadFile(file)
	must(t, err)
	a.mu.Lock()
	process := a.current.process
	a.mu.Unlock()
	must(t, process.Kill())
	must(t, os.WriteFile(file, make([]byte, len(whole)), 0o600))
	eventually(t, "it says that its data are unfit", func() bool { return strings.Contains(a.host(t).Unfit, "has ended 3 times") })
	must(t, os.WriteFile(file, whole, 0o600))
	if again := a.awaitRunning(t, first.StartID); again.Unfit != "" {
		t.Errorf("it runs, and says %q", again.Unfit)
	}
}
