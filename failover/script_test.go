package failover

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/statesvc/statesvc/shard"
)

var update = flag.Bool("update", false, "write what the scripts say into testdata")

// A script tells a failover as Next sees it. Its lines say what happens, and below each stands what the record is then, if it has
// changed, and what may be done:
//
//	at 100ms              time goes on; who is not silent answers
//	dead a#1              an agent reports the end of a process
//	silent a, refuses a   probes get no answer, or are refused
//	unheard a             this controller gets no answer, though the replicas hear it
//	answers a a#2         they are answered again, by this process
//	cut b                 it has lost its primary
//	has b 1-1-9 1-1-7     what it has received, and applied
//	did fence b           an action has succeeded
//	takeover              another controller leads
type script struct {
	state  State
	silent map[string]bool
	cut    map[string]bool
	runs   int
	shown  string

	unheard string
}

var scriptStart = time.Unix(1_000_000, 0)

func newScript() *script {
	sc := &script{silent: map[string]bool{}, cut: map[string]bool{}}
	sc.state = serving()
	sc.shown = sc.record()
	return sc
}

// serving is a shard in good health: a is the primary, b and c are in sync, and each has answered just now.
func serving() State {
	s := State{
		Record: Record{
			Record: shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "a", Nodes: map[string]shard.Node{
				"a": {Address: "a"}, "b": {Address: "b"}, "c": {Address: "c"},
			}},
			PrimaryStart: "a#1", InSync: map[string]string{"b": "b#1", "c": "c#1"},
		},
		Run: newRun("", time.Time{}), Seen: map[string]Seen{}, Dead: map[string]bool{}, Now: scriptStart,
	}
	nine := GTID{1, 1, 9}
	for i, name := range []string{"a", "b", "c"} {
		st := Status{StartID: name + "#1", ServerID: uint32(i + 1), Executed: nine, Applied: nine}
		st.SemiSync.TimeoutMS, st.SemiSync.WaitPoint = waitTimeoutMinMS, waitPoint
		if name == "a" {
			st.SemiSync.PrimaryEnabled, st.SemiSync.PrimaryOn = true, true
		} else {
			st.Received, st.IORunning, st.SQLRunning, st.SemiSync.ReplicaOn, st.SourceAddr, st.ReadOnly = nine, ioRunning, true, true, "a", true
		}
		s.Seen[name] = Seen{Status: st, AnsweredAt: s.Now, ReceivedAt: s.Now}
	}
	return s
}

func (sc *script) record() string {
	r := &sc.state.Record
	text := fmt.Sprintf("epoch %d %s %s (%s), in sync %v", r.Epoch, r.Phase, r.Primary, r.PrimaryStart, r.InSync)
	for _, more := range []struct {
		name  string
		value any
		there bool
	}{
		{"joining", r.Joining, len(r.Joining) > 0},
		{"floor", r.Floor, r.Floor != (GTID{})},
		{"boot", r.Boot, len(r.Boot) > 0},
		{"stuck:", r.Stuck, r.Stuck != ""},
	} {
		if more.there {
			text += fmt.Sprintf(", %s %v", more.name, more.value)
		}
	}
	return strings.ReplaceAll(text, "map[", "[")
}

// line does what a line says, and returns what stands below it.
func (sc *script) line(t *testing.T, line string) (below []string) {
	t.Helper()
	word := append(strings.Fields(line), "", "", "")
	s, name := &sc.state, word[1]
	seen := s.Seen[name]
	switch word[0] {
	case "at":
		d, err := time.ParseDuration(name)
		if err != nil {
			t.Fatal(err)
		}
		s.Now = scriptStart.Add(d)
	case "dead":
		s.Dead[name] = true
		sc.silent[name[:1]] = true
	case "silent", "refuses":
		sc.silent[name] = true
		seen.FailingAt, seen.Misses = s.Now, missesMin
		if word[0] == "refuses" {
			seen.Refused = refusedMin
		}
		s.Seen[name] = seen
	case "unheard": // by this controller; the replicas hear it
		seen.FailingAt, seen.Misses = s.Now, missesMin
		sc.unheard, s.Seen[name] = name, seen
	case "answers":
		delete(sc.silent, name)
		if seen.StartID != word[2] {
			seen.Status = Status{StartID: word[2], ServerID: seen.ServerID, Executed: seen.Executed, Applied: seen.Executed, ReadOnly: true}
			seen.IORunning = "No"
			seen.SemiSync = SemiSync{PrimaryEnabled: name == "a", PrimaryOn: name == "a", TimeoutMS: waitTimeoutMinMS, WaitPoint: waitPoint}
		}
		s.Seen[name] = Seen{Status: seen.Status, AnsweredAt: s.Now}
	case "cut":
		seen.IORunning = "Connecting"
		s.Seen[name] = seen
	case "has":
		seen.Received, seen.Applied = gtid(t, word[2]), gtid(t, word[3])
		seen.Executed = seen.Applied
		s.Seen[name] = seen
	case "did":
		sc.did(t, Kind(name), word[2])
	case "takeover":
		s.Run = newRun("", time.Time{})
	default:
		t.Fatalf("what is %q?", line)
	}
	return sc.next()
}

func (sc *script) next() (below []string) {
	s := &sc.state
	for name, seen := range s.Seen {
		if !sc.silent[name] && name != sc.unheard {
			seen.AnsweredAt = s.Now
			if seen.IORunning == ioRunning && !sc.silent[s.Record.Primary] {
				seen.ReceivedAt = s.Now
			}
			s.Seen[name] = seen
		}
	}
	if now := sc.record(); now != sc.shown {
		sc.shown = now
		below = append(below, "----  record: "+now)
	}
	for _, a := range Next(*s) {
		words := []string{"----  " + string(a.Kind), a.Node, a.GTID.String(), a.Why}
		below = append(below, strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "))
	}
	return below
}

// did ends one of the actions that Next has named.
func (sc *script) did(t *testing.T, kind Kind, node string) {
	t.Helper()
	s := &sc.state
	i := slices.IndexFunc(Next(*s), func(a Action) bool { return a.Kind == kind && (node == "" || a.Node == node) })
	if i < 0 {
		t.Fatalf("%s %s is not due", kind, node)
	}
	a := Next(*s)[i]
	a.begun(&s.Run)
	if a.writesRecord() {
		sc.runs++
		r, err := s.change(a, fmt.Sprint("run", sc.runs))
		if err != nil {
			t.Fatal(err)
		}
		if s.Record = r; kind == Decide {
			s.Run = newRun(r.Run, s.Now)
		}
		s.Run.forget(&s.Record)
		return
	}
	seen := s.Seen[node]
	found := result{link: s.Record.link(node), position: s.Seen[s.Record.Primary].Executed}
	found.fenced = Fenced{
		StartID: seen.StartID, ServerID: seen.ServerID, Received: seen.Received, Applied: seen.Applied, Executed: seen.Executed,
		IOStopped: true, SQLRunning: seen.SQLRunning, ReadOnly: seen.ReadOnly,
	}
	if kind == Promote || kind == Point {
		ahead := s.ahead()
		found.link = ahead.link(node)
	}
	a.fact(found)(&s.Run)
	switch kind {
	case Drain:
		seen.Executed, seen.Applied = a.GTID, a.GTID
	case Promote:
		seen.IORunning, seen.SourceAddr, seen.Received = "", "", GTID{}
		seen.SemiSync.PrimaryEnabled, seen.SemiSync.PrimaryOn = true, true
	case Follow:
		seen.IORunning, seen.SQLRunning, seen.SemiSync.ReplicaOn, seen.SourceAddr = ioRunning, true, true, s.Record.Primary
		seen.Received, seen.Executed, seen.Applied = s.Record.Floor, s.Record.Floor, s.Record.Floor
	default: // the others change nothing that is seen
	}
	s.Seen[node] = seen
}

func gtid(t *testing.T, text string) (g GTID) {
	t.Helper()
	if err := g.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestScripts plays testdata/*.txt. With -update the answers are written, for the reader of the diff to judge.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sc := newScript()
			var got []string
			for line := range strings.SplitSeq(strings.TrimRight(string(want), "\n"), "\n") {
				if strings.HasPrefix(line, "----") {
					continue
				}
				got = append(got, line)
				if line != "" && line[0] != '#' {
					got = append(got, sc.line(t, line)...)
				}
			}
			text := strings.Join(got, "\n") + "\n"
			if *update {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), text); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
