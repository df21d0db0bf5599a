package failover

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// ruinedShard serves with b in sync; c is out and says that it has diverged, long enough ago. All agents give copies.
func ruinedShard() State {
	s := serving()
	delete(s.Record.InSync, "c")
	s.Hosts = map[string]Host{}
	for _, node := range s.Record.names() {
		s.Hosts[node] = Host{StartID: node + "#1", Backup: node}
	}
	seen := s.Seen["c"]
	seen.IOErrno, seen.IORunning, seen.RuinedAt = errDiverged, "No", s.Now.Add(-rebuildAfter)
	s.Seen["c"] = seen
	return s
}

func kinds(actions []Action) (list []string) {
	for _, a := range actions {
		list = append(list, strings.TrimSpace(string(a.Kind)+" "+a.Node))
	}
	return list
}

// TestWhoIsRebuilt: what a controller decides by itself, one circumstance changed at a time.
func TestWhoIsRebuilt(t *testing.T) {
	t.Parallel()
	host := func(s *State, node string, change func(*Host)) {
		h := s.Hosts[node]
		change(&h)
		s.Hosts[node] = h
	}
	see := func(s *State, node string, change func(*Seen)) {
		seen := s.Seen[node]
		change(&seen)
		s.Seen[node] = seen
	}
	before := func(s *State, one Rebuild) { s.Record.Rebuilds = map[string]Rebuild{"c": one} }
	for _, tc := range []struct {
		name   string
		change func(*State)
		donor  string // empty: it is not rebuilt
	}{
		{"diverged", func(*State) {}, "b"},
		{"diverged just now", func(s *State) { see(s, "c", func(x *Seen) { x.RuinedAt = s.Now.Add(-time.Second) }) }, ""},
		{"silent", func(s *State) { see(s, "c", func(x *Seen) { x.AnsweredAt = time.Time{} }) }, ""},
		{"cannot apply", func(s *State) { see(s, "c", func(x *Seen) { x.IOErrno, x.SQLErrno = 0, 1950 }) }, "b"},
		{"no data", func(s *State) {
			see(s, "c", func(x *Seen) { *x = Seen{} })
			host(s, "c", func(h *Host) { h.StartID, h.Unfit = "", "its data are gone" })
		}, "b"},
		{"well", func(s *State) { see(s, "c", func(x *Seen) { x.IOErrno, x.RuinedAt = 0, time.Time{} }) }, ""},
		{"in sync", func(s *State) { s.Record.InSync["c"] = "c#1" }, ""},
		{"joining", func(s *State) { s.Record.Joining = map[string]string{"c": "c#1"} }, ""},
		{"suspended", func(s *State) { s.Record.Suspended = "x" }, ""},
		{"its agent is gone", func(s *State) { delete(s.Hosts, "c") }, ""},
		{"its agent takes no copies", func(s *State) { host(s, "c", func(h *Host) { h.Backup = "" }) }, ""},
		{"has more than its donor", func(s *State) { see(s, "c", func(x *Seen) { x.Executed = GTID{1, 3, 10} }) }, ""},
		{"the replica gives no copies", func(s *State) { host(s, "b", func(h *Host) { h.Backup = "" }) }, "a"},
		{"the replica was restarted", func(s *State) { host(s, "b", func(h *Host) { h.StartID = "b#2" }) }, "a"},
		{"nobody acknowledges", func(s *State) { clear(s.Record.InSync) }, ""},
		{"the replica is behind", func(s *State) { see(s, "b", func(x *Seen) { x.Received = GTID{1, 1, 8} }) }, ""},
		{"the primary is silent", func(s *State) {
			host(s, "b", func(h *Host) { h.Backup = "" })
			see(s, "a", func(x *Seen) { x.AnsweredAt = time.Time{} })
		}, ""},
		{"another one is being rebuilt", func(s *State) {
			s.Record.Nodes["d"], s.Hosts["d"] = shard.Node{Address: "d"}, Host{Backup: "d"}
			s.Record.Rebuilds = map[string]Rebuild{"d": {ID: "x", Donor: "b", BeganAt: s.Now}}
		}, ""},
		{"rests", func(s *State) { before(s, Rebuild{ID: "x", EndedAt: s.Now.Add(-15 * time.Second), Attempts: 2}) }, ""},
		{"has rested", func(s *State) { before(s, Rebuild{ID: "x", EndedAt: s.Now.Add(-21 * time.Second), Attempts: 2}) }, "b"},
		{"rests for an hour at most", func(s *State) { before(s, Rebuild{ID: "x", EndedAt: s.Now.Add(-time.Hour), Attempts: 99}) }, "b"},
		{"ended by a wrong clock", func(s *State) { before(s, Rebuild{ID: "x", EndedAt: s.Now.Add(time.Hour), Attempts: 2}) }, "b"},
	} {
		s := ruinedShard()
		tc.change(&s)
		i := slices.IndexFunc(Next(s), func(a Action) bool { return a.Kind == BeginRebuild })
		switch {
		case i < 0 && tc.donor != "":
			t.Errorf("%s: it is not rebuilt: %v", tc.name, kinds(Next(s)))
		case i >= 0:
			r, err := s.change(Next(s)[i], "token")
			must(t, err)
			if one := r.Rebuilds["c"]; one.Donor != tc.donor || !one.Running() || one.Token != "token" || strings.Contains(one.ID, "token") {
				t.Errorf("%s: rebuilt by %+v, not from %q", tc.name, one, tc.donor)
			}
			if r.BootOf("c") != BootRebuild {
				t.Errorf("%s: its agent is told %q", tc.name, r.BootOf("c"))
			}
		}
	}
}

// TestErrorsThatPass: who could not apply for want of memory, disk or a lock has the right data.
func TestErrorsThatPass(t *testing.T) {
	t.Parallel()
	for errno, ruined := range map[int]bool{0: false, 1205: false, 1213: false, 1021: false, 1032: true, 1062: true, 1950: true, 1594: true} {
		st := Status{SQLErrno: errno}
		if (st.ruin() != "") != ruined {
			t.Errorf("%d: %q", errno, st.ruin())
		}
	}
}

// TestRebuildEnds: by what the agent says of this rebuild and no other, and by a failover.
func TestRebuildEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		said   HostRebuild
		gone   bool
		after  time.Duration
		want   string
		failed string
	}{
		{name: "done", said: HostRebuild{ID: "x", Done: true}, want: "rebuilt c"},
		{name: "failed", said: HostRebuild{ID: "x", Error: "no room"}, want: "rebuild-failed c", failed: "no room"},
		{name: "of another one", said: HostRebuild{ID: "y", Done: true}},
		{name: "gone", gone: true, want: "rebuild-failed c", failed: "does not report"},
		{name: "too long", after: rebuildMax + time.Second, want: "rebuild-failed c", failed: "12h"},
	} {
		s := ruinedShard()
		s.Record.Rebuilds = map[string]Rebuild{"c": {ID: "x", Token: "t", Donor: "b", BeganAt: s.Now.Add(-tc.after), Attempts: 1}}
		s.Hosts["c"] = Host{Backup: "c", Rebuild: tc.said}
		if tc.gone {
			delete(s.Hosts, "c")
		}
		actions := Next(s)
		if got := strings.Join(kinds(actions), ", "); got != tc.want {
			t.Errorf("%s: %q is due, not %q", tc.name, got, tc.want)
			continue
		}
		if tc.want == "" {
			continue
		}
		r, err := s.change(actions[0], "")
		must(t, err)
		one := r.Rebuilds["c"]
		if one.Running() || one.Token != "" || !strings.Contains(one.Error, tc.failed) || (one.Error == "") != (tc.failed == "") {
			t.Errorf("%s: %+v", tc.name, one)
		}
	}
	s := ruinedShard()
	s.Record.Rebuilds = map[string]Rebuild{"c": {ID: "x", Token: "t", Donor: "b", BeganAt: s.Now}}
	r, err := s.change(Action{Kind: Decide}, "run")
	must(t, err)
	if one := r.Rebuilds["c"]; one.Running() || one.Error == "" || r.BootOf("c") == BootRebuild {
		t.Errorf("a failover leaves %+v", one)
	}
}

// TestOrderedRebuild: who may acknowledge leaves the set first, does not come back before he is rebuilt, and never leaves a primary alone.
func TestOrderedRebuild(t *testing.T) {
	t.Parallel()
	s := ruinedShard()
	s.Seen["c"], s.Record.InSync["c"] = serving().Seen["c"], "c#1"
	s.Order = Order{Kind: OrderRebuild, Node: "c", Reason: "r", By: "somebody"}
	step := func(want string) Action {
		t.Helper()
		actions := Next(s)
		if got := strings.Join(kinds(actions), ", "); got != want {
			t.Fatalf("%q is due, not %q", got, want)
		}
		return actions[0]
	}
	step("refuse c")
	s.Run.Refused["c"] = Refused{"c#1", GTID{1, 1, 9}}
	drop := step("drop c")
	r, err := s.change(drop, "")
	must(t, err)
	s.Record = r
	begin := step("rebuild c")
	if !s.carriesOut(begin) || !strings.Contains(begin.Why, "somebody") {
		t.Errorf("the order is not carried out by %+v", begin)
	}
	other := s
	other.Order.Node = "b"
	if other.carriesOut(begin) {
		t.Error("another node's order is")
	}
	r, err = s.change(begin, "token")
	must(t, err)
	s.Record, s.Order = r, Order{}
	if got := kinds(Next(s)); len(got) > 0 {
		t.Errorf("while it is rebuilt %v is due", got)
	}

	alone := ruinedShard()
	alone.Order = Order{Kind: OrderRebuild, Node: "b"}
	if got := kinds(Next(alone)); slices.Contains(got, "refuse b") {
		t.Error("the only node in sync is put out")
	}
	alone.Order.Node = "a"
	if got := kinds(Next(alone)); !slices.Equal(got, []string{"dismiss a"}) {
		t.Errorf("the order to rebuild the primary: %v", got)
	}
}

// TestSwap: what is put aside is what a person may want to see, and a swap that was cut in two is finished by the next start.
func TestSwap(t *testing.T) {
	t.Parallel()
	a := &Agent{cfg: AgentConfig{Folder: t.TempDir()}}
	write := func(folder, name, text string) {
		t.Helper()
		must(t, os.MkdirAll(a.mark(folder), 0o700))
		must(t, os.WriteFile(filepath.Join(a.mark(folder), name), []byte(text), 0o600))
	}
	has := func(folder, want string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(a.mark(folder), "ibdata1"))
		if err != nil && want != "" || string(text) != want {
			t.Errorf("%s holds %q, not %q", folder, text, want)
		}
	}
	draft := func(text string) {
		write(draftFolder, "ibdata1", text)
		write(draftFolder, rebuiltFile, text)
	}
	write("data", "ibdata1", "first")
	write(".", relaxedFile, "boot")
	draft("second")
	must(t, a.swap())
	has("data", "second")
	has(oldFolder, "first")
	if _, err := os.Stat(a.mark(relaxedFile)); err == nil {
		t.Error("new data are said to be unsynced")
	}
	draft("third") // the second were never of use
	must(t, a.swap())
	has("data", "third")
	has(oldFolder, "first")
	write(oldFolder, servedSince, "")
	draft("fourth")
	must(t, a.swap())
	has("data", "fourth")
	has(oldFolder, "third")

	draft("fifth")
	must(t, os.RemoveAll(a.mark(oldFolder)))
	must(t, os.Rename(a.data(), a.mark(oldFolder)))
	must(t, a.finishSwap())
	has("data", "fifth")
	must(t, os.RemoveAll(a.data()))
	write(draftFolder, "ibdata1", "half")
	must(t, a.finishSwap())
	has("data", "")
}
