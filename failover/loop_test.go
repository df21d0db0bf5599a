package failover

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

func testLoop(now time.Time) *loop {
	l := newLoop(NewController(ControllerConfig{Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}), 1)
	l.runCtx, l.endRun = context.WithCancel(context.Background())
	return l
}

// An action of an older run ends in nothing: that its node was fenced in an epoch that is over says nothing about this one, and
// its end must not make room for a second action beside the new run's own.
func TestFinishOfAnOlderRun(t *testing.T) {
	l := testLoop(scriptStart)
	l.run = newRun("new", scriptStart)
	establish := Action{Kind: Establish, Node: "b"}
	l.busy[establish.key()] = true
	l.finish(t.Context(), outcome{action: establish, run: "old", fact: establish.fact(result{})})
	if l.run.Proved || !l.busy[establish.key()] {
		t.Errorf("proved %t, busy %t", l.run.Proved, l.busy[establish.key()])
	}
	l.finish(t.Context(), outcome{action: establish, run: "old", err: errors.New("late")})
	if len(l.failed) > 0 || len(l.run.Journal.Steps) > 0 {
		t.Error("the failure of an older run is counted")
	}
	l.finish(t.Context(), outcome{action: establish, run: "new", fact: establish.fact(result{})})
	if !l.run.Proved || l.busy[establish.key()] {
		t.Error("an action of this run leaves no fact")
	}
}

// counted is a handler that counts lines.
type counted struct {
	slog.Handler

	lines int
}

func (c *counted) Handle(context.Context, slog.Record) error { c.lines++; return nil }

func (c *counted) Enabled(context.Context, slog.Level) bool { return true }

// What cannot succeed is tried again and again, and said once in a while.
func TestFailuresAreSaidSeldom(t *testing.T) {
	now, log := scriptStart, &counted{}
	l := newLoop(NewController(ControllerConfig{Now: func() time.Time { return now }, Log: slog.New(log)}), 1)
	for range 100 {
		l.finish(t.Context(), outcome{action: Action{Kind: Fence, Node: "b"}, err: errors.New("refused")})
		l.finish(t.Context(), outcome{action: Action{Kind: Fence, Node: "c"}, err: errors.New("refused")})
		now = now.Add(20 * time.Millisecond)
	}
	if log.lines != 4 {
		t.Errorf("%d lines about two steps in two seconds", log.lines)
	}
}

// An instance that has lost a connection says so once, and the register keeps it; it is no evidence of what happens an hour later.
func TestSuspicionsGrowOld(t *testing.T) {
	now := scriptStart
	reg, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	must(t, err)
	defer reg.Close()
	c := NewController(ControllerConfig{Now: func() time.Time { return now }})
	say := func() {
		_, err := register.Put(t.Context(), reg, suspectsKeyPrefix(1, 2)+"i1", []byte("{}"))
		must(t, err)
		if mirror := c.mirrors[suspectsPrefix]; mirror != nil {
			must(t, mirror.Renew(t.Context()))
		}
	}
	say()
	c.mirrors[suspectsPrefix], err = register.OpenMirror(t.Context(), reg, register.MirrorOptions{
		Prefix: suspectsPrefix, Now: time.Now, RenewEvery: time.Hour, Changed: func([]register.Event) {},
	})
	must(t, err)
	defer c.closeMirrors()
	wantSuspected := func(want bool) {
		t.Helper()
		if c.suspected(1, 2) != want || c.suspected(1, 1) || c.suspected(2, 2) {
			t.Errorf("suspected: %t, want %t", !want, want)
		}
	}
	wantSuspected(true)
	now = now.Add(suspectMemory)
	wantSuspected(true)
	now = now.Add(time.Millisecond)
	wantSuspected(false)
	say()
	wantSuspected(true)
}

// A switchover makes the old primary read-only by the right that makes it a replica afterwards.
func TestQuiescedPrimaryJoins(t *testing.T) {
	x := newTrio(t)
	l := testLoop(time.Now())
	l.cfg.Term, l.cfg.Name = 5, strings.Repeat("a long name ", 9)
	r := Record{PrimaryStart: x.status(t, 0).StartID, InSync: map[string]string{}}
	r.Epoch, r.Primary, r.Run = 2, "n1", "ZZZZ"
	for i, n := range x.nodes {
		l.nodes[n.Name()] = n
		if i > 0 {
			r.InSync[n.Name()] = x.status(t, i).StartID
			l.seen[n.Name()] = Seen{Status: Status{StartID: r.InSync[n.Name()], Received: GTID{Seq: 1 << 40}}}
		}
	}
	must(t, l.quiesce(t.Context(), r))
	if s := x.status(t, 0); !s.ReadOnly {
		t.Errorf("it takes writes: %+v", s)
	}
	_, err := l.speak(t.Context(), x.nodes[0], r, r.PrimaryStart)
	must(t, err)
}

// A new run ends what the old one has under way: an acknowledgement that an old candidate waits for would hold up the new one.
func TestDecisionEndsTheOldRun(t *testing.T) {
	l := testLoop(scriptStart)
	old := l.runCtx
	l.busy["establish b"], l.busy["record"] = true, true
	l.finish(t.Context(), outcome{action: Action{Kind: Decide}, fact: func(run *Run) { *run = newRun("new", scriptStart) }})
	if l.run.ID != "new" || len(l.busy) > 0 || old.Err() == nil || l.runCtx.Err() != nil {
		t.Errorf("run %q, busy %v, old context %v, new %v", l.run.ID, l.busy, old.Err(), l.runCtx.Err())
	}
	l.endRun()
}

// A copy of the register tells of a change while it is locked, and whoever is told locks the controller. So nothing may ask the copy while
// it has the controller locked: agents' reports and changes would wait for each other for ever.
func TestReportsAreReadWhileTheRegisterChanges(t *testing.T) {
	reg, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	must(t, err)
	defer reg.Close()
	c := NewController(ControllerConfig{Now: time.Now})
	told, goOn, asked := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	c.mirrors[hostsPrefix], err = register.OpenMirror(t.Context(), reg, register.MirrorOptions{
		Prefix: hostsPrefix, Now: time.Now, Changed: func([]register.Event) {
			select {
			case told <- struct{}{}:
			default:
			}
			<-goOn
			c.wake()
		},
	})
	must(t, err)
	_, err = register.Put(t.Context(), reg, hostKey("n1"), []byte(`{"start_id":"n1:1:1"}`))
	must(t, err)
	<-told
	found := map[string]Host{}
	go func() {
		defer close(asked)
		found = c.hosts(&Record{Record: shard.Record{Nodes: map[string]shard.Node{"n1": {}}}})
	}()
	time.Sleep(50 * time.Millisecond) // it waits for the copy by now
	close(goOn)
	select {
	case <-asked:
		c.mirrors[hostsPrefix].Close()
	case <-time.After(30 * time.Second):
		t.Fatal("the controller and its copy of the register wait for each other")
	}
	if found["n1"].StartID != "n1:1:1" {
		t.Errorf("found %+v", found)
	}
}
