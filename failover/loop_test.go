package failover

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
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
