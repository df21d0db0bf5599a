package failover

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// after is a healthy shard, changed, some time later. Who is named in silent has not answered since.
func after(d time.Duration, silent string, change func(*State)) *State {
	s := serving()
	s.Now = s.Now.Add(d)
	for name, seen := range s.Seen {
		if strings.Contains(silent, name) {
			seen.FailingAt, seen.Misses = scriptStart.Add(10*time.Millisecond), missesMin
		} else {
			seen.AnsweredAt, seen.ReceivedAt = s.Now, s.Now
		}
		s.Seen[name] = seen
	}
	if change != nil {
		change(&s)
	}
	return &s
}

func see(s *State, node string, change func(*Seen)) {
	seen := s.Seen[node]
	change(&seen)
	s.Seen[node] = seen
}

// lose makes the replicas lose the primary, long ago.
func lose(s *State, io string) {
	for _, node := range []string{"b", "c"} {
		see(s, node, func(seen *Seen) { seen.IORunning, seen.ReceivedAt = io, scriptStart })
	}
}

// TestAnswers: who was silent answers anew.
func TestAnswers(t *testing.T) {
	t.Parallel()
	var seen Seen
	for i, step := range []struct {
		err  error
		want int // the step since which it answers
	}{{nil, 0}, {nil, 0}, {errAnswer, 0}, {nil, 3}, {nil, 3}} {
		now := scriptStart.Add(time.Duration(i) * time.Second)
		seen = seen.noted(probed{began: now, now: now, err: step.err})
		if want := scriptStart.Add(time.Duration(step.want) * time.Second); !seen.AnswersAt.Equal(want) {
			t.Errorf("step %d: it answers since %v, want %v", i, seen.AnswersAt, want)
		}
	}
}

// TestStalls: only a primary on which commits wait, and none goes on, from one answer to the next.
func TestStalls(t *testing.T) {
	t.Parallel()
	answer := func(startID string, waits int, acknowledged uint64) (s Status) {
		s.StartID, s.SemiSync.WaitSessions, s.SemiSync.YesTx = startID, waits, acknowledged
		return s
	}
	var seen Seen
	for i, step := range []struct {
		status Status
		want   int // the step since which it stalls; 0: it does not
	}{
		{answer("a#1", 0, 5), 0},
		{answer("a#1", 1, 5), 0},
		{answer("a#1", 1, 5), 2},
		{answer("a#1", 2, 5), 2},
		{answer("a#1", 2, 6), 0},
		{answer("a#1", 1, 6), 5},
		{answer("a#1", 0, 6), 0},
		{answer("a#1", 1, 6), 0},
		{answer("a#1", 1, 6), 8},
		{answer("a#2", 1, 6), 0},
	} {
		now := scriptStart.Add(time.Duration(i) * time.Second)
		seen = seen.noted(probed{began: now, now: now, status: step.status})
		want := time.Time{}
		if step.want > 0 {
			want = scriptStart.Add(time.Duration(step.want) * time.Second)
		}
		if !seen.StallsAt.Equal(want) {
			t.Errorf("step %d: it stalls since %v, want %v", i, seen.StallsAt, want)
		}
	}
}

func TestSuspicion(t *testing.T) {
	long := 400 * time.Millisecond
	refused := func(n int) func(*State) {
		return func(s *State) {
			see(s, "a", func(seen *Seen) { seen.Refused = n })
			lose(s, "Connecting")
		}
	}
	for _, tc := range []struct {
		name  string
		state *State
		want  string
	}{
		{"all is well", after(long, "", nil), ""},
		{"the agent reports the death", after(0, "", func(s *State) { s.Dead["a#1"] = true }), "ended"},
		{"it reports another", after(0, "", func(s *State) { s.Dead["a#0"] = true }), ""},
		{"restarted", after(0, "", func(s *State) { see(s, "a", func(seen *Seen) { seen.StartID = "a#2" }) }), "restarted"},
		{"refused twice", after(50*time.Millisecond, "a", refused(2)), "refused 2"},
		{"refused once", after(50*time.Millisecond, "a", refused(1)), ""},
		{"refused, but the replicas have it", after(50*time.Millisecond, "a", func(s *State) {
			see(s, "a", func(seen *Seen) { seen.Refused = 5 })
		}), ""},
		{"refused, and nobody is in sync", after(2*time.Second, "a", func(s *State) {
			see(s, "a", func(seen *Seen) { seen.Refused = 5 })
			s.Record.InSync = nil
		}), "is alone"},
		{"refused for a moment, and nobody is in sync", after(long, "a", func(s *State) {
			see(s, "a", func(seen *Seen) { seen.Refused = 5 })
			s.Record.InSync = nil
		}), ""},
		{"hangs", after(long, "a", func(s *State) { lose(s, ioRunning) }), "no replica received"},
		{"not for long enough", after(hangAfter, "a", func(s *State) { lose(s, ioRunning) }), ""},
		{"two misses", after(long, "a", func(s *State) {
			lose(s, ioRunning)
			see(s, "a", func(seen *Seen) { seen.Misses = 2 })
		}), ""},
		{"one replica receives", after(long, "a", func(s *State) {
			see(s, "b", func(seen *Seen) { seen.ReceivedAt = scriptStart })
		}), ""},
		{"nobody answers", after(long, "abc", nil), ""},
		{"an acknowledgement was lost", after(stallAfter, "", func(s *State) {
			see(s, "a", func(seen *Seen) { seen.StallsAt = scriptStart })
		}), "was lost"},
		{"an acknowledgement comes when the replica wakes", after(stallAfter, "", func(s *State) {
			see(s, "a", func(seen *Seen) { seen.StallsAt = scriptStart })
			for _, node := range []string{"b", "c"} {
				see(s, node, func(seen *Seen) { seen.AnswersAt = scriptStart.Add(time.Second) })
			}
		}), ""},
		{"an acknowledgement is late", after(stallAfter-1, "", func(s *State) {
			see(s, "a", func(seen *Seen) { seen.StallsAt = scriptStart })
		}), ""},
		{"an acknowledgement has yet to be given", after(stallAfter, "", func(s *State) {
			see(s, "a", func(seen *Seen) { seen.StallsAt, seen.Executed.Seq = scriptStart, seen.Executed.Seq+1 })
		}), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.state.suspicion(); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("suspicion %q, want %q", got, tc.want)
			}
		})
	}
}

// fencing is a shard whose primary is dead, and whose others have promised: b has received more, c has applied more.
func fencing(change func(*State)) *State {
	s := after(0, "", nil)
	s.Dead["a#1"] = true
	s.Record.decide("run", true)
	s.Run = newRun("run", s.Now)
	promised := Fenced{IOStopped: true, SQLRunning: true, ReadOnly: true}
	s.Run.Fenced["b"], s.Run.Fenced["c"] = promised, promised
	fenced(s, "b", func(f *Fenced) { f.StartID, f.Received, f.Executed = "b#1", GTID{1, 1, 12}, GTID{1, 1, 8} })
	fenced(s, "c", func(f *Fenced) { f.StartID, f.Received, f.Executed = "c#1", GTID{1, 1, 10}, GTID{1, 1, 10} })
	if change != nil {
		change(s)
	}
	return s
}

func fenced(s *State, node string, change func(*Fenced)) {
	f := s.Run.Fenced[node]
	change(&f)
	s.Run.Fenced[node] = f
}

func TestElect(t *testing.T) {
	for _, tc := range []struct {
		name      string
		change    func(*State)
		candidate string
		waits     string
	}{
		{"who has received most, applied or not", nil, "b", ""},
		{"the same, less to apply", func(s *State) { fenced(s, "c", func(f *Fenced) { f.Received = GTID{1, 1, 12} }) }, "c", ""},
		{"the same, and the clock of the better one is wrong", func(s *State) {
			fenced(s, "c", func(f *Fenced) { f.Received = GTID{1, 1, 12} })
			see(s, "c", func(seen *Seen) { seen.ClockOffset = -2 * skewMax })
		}, "b", ""},
		{"all clocks are as wrong", func(s *State) {
			fenced(s, "c", func(f *Fenced) { f.Received = GTID{1, 1, 12} })
			see(s, "b", func(seen *Seen) { seen.ClockOffset = 2 * skewMax })
			see(s, "c", func(seen *Seen) { seen.ClockOffset = 2 * skewMax })
		}, "c", ""},
		{"the clock of who has more is wrong", func(s *State) {
			see(s, "b", func(seen *Seen) { seen.ClockOffset = 2 * skewMax })
		}, "b", ""},
		{"one is not heard", func(s *State) { delete(s.Run.Fenced, "c") }, "", "not heard"},
		{"one was restarted", func(s *State) { fenced(s, "c", func(f *Fenced) { f.StartID = "c#2" }) }, "", "not heard"},
		{"one still receives", func(s *State) { fenced(s, "c", func(f *Fenced) { f.IOStopped = false }) }, "", "not heard"},
		{"a joining one is not heard", func(s *State) { s.Record.Joining = map[string]string{"a": "a#9"} }, "", "not heard"},
		{"the best is only joining", func(s *State) {
			s.Record.Joining = map[string]string{"b": "b#1"}
			delete(s.Record.InSync, "b")
		}, "", "nobody who may be elected"},
		{"nobody is in sync", func(s *State) { s.Record.InSync = nil }, "", "nobody"},
		{"the best cannot apply", func(s *State) { fenced(s, "b", func(f *Fenced) { f.SQLRunning = false }) }, "", "nobody who may be elected"},
		{"it cannot, and need not", func(s *State) {
			fenced(s, "b", func(f *Fenced) { f.SQLRunning, f.Executed = false, GTID{1, 1, 12} })
		}, "b", ""},
		{"the best has stopped applying since", func(s *State) {
			see(s, "b", stalled)
			see(s, "b", func(seen *Seen) { seen.IORunning = ioStopped })
		}, "", "nobody who may be elected"},
		{"somebody with another history was never let in", func(s *State) {
			s.Record.Joining = map[string]string{"a": "a#2"}
			s.Run.Fenced["a"] = Fenced{StartID: "a#2", Executed: GTID{1, 9, 14}, IOStopped: true, IOErrno: errDiverged}
		}, "b", ""},
		{"somebody with more may have been let in", func(s *State) {
			s.Record.Joining = map[string]string{"a": "a#2"}
			s.Run.Fenced["a"] = Fenced{StartID: "a#2", Executed: GTID{1, 9, 14}, IOStopped: true}
		}, "", "nobody who may be elected"},
		{"the best has died since", func(s *State) { s.Dead["b#1"] = true }, "", "nobody who may be elected"},
		{"the other has died since", func(s *State) { s.Dead["c#1"] = true }, "b", ""},
		{"two histories", func(s *State) { fenced(s, "c", func(f *Fenced) { f.Received = GTID{1, 3, 12} }) }, "", "split history"},
		{"below the floor", func(s *State) { s.Record.Floor = GTID{1, 1, 13} }, "", "below the floor"},
		{"the floor makes up for who is not heard, after a while", func(s *State) {
			s.Record.Floor, s.Now = GTID{1, 1, 11}, s.Now.Add(stuckAfter)
			delete(s.Run.Fenced, "c")
		}, "b", ""},
		{"not at once", func(s *State) {
			s.Record.Floor = GTID{1, 1, 11}
			delete(s.Run.Fenced, "c")
		}, "", "not heard"},
		{"not if it is the candidate of before", func(s *State) {
			s.Record.Floor, s.Now = GTID{1, 1, 11}, s.Now.Add(stuckAfter)
			s.Record.Primary, s.Record.PrimaryStart = "c", ""
			delete(s.Run.Fenced, "c")
		}, "", "not heard"},
		{"the old primary, started by order", func(s *State) {
			s.Record.Boot = map[string]Boot{"a": BootPrimary}
			s.Run.Fenced["a"] = Fenced{StartID: "a#2", Executed: GTID{1, 1, 13}, ReadOnly: true}
			delete(s.Run.Fenced, "c")
		}, "a", ""},
		{"not started again yet", func(s *State) {
			s.Record.Boot = map[string]Boot{"a": BootPrimary}
			s.Run.Fenced["a"] = Fenced{StartID: "a#1", Executed: GTID{1, 1, 13}, ReadOnly: true}
			delete(s.Run.Fenced, "c")
		}, "", "not heard"},
		{"not started again yet, and all others are heard", func(s *State) {
			s.Record.Boot = map[string]Boot{"a": BootPrimary}
		}, "", "was told to start"},
		{"it does not start", func(s *State) {
			s.Record.Boot, s.Now = map[string]Boot{"a": BootPrimary}, s.Now.Add(bootPatience)
		}, "b", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := fencing(tc.change).elect()
			if got.candidate != tc.candidate || !strings.Contains(got.waits, tc.waits) || (got.waits == "") != (tc.waits == "") {
				t.Errorf("%+v, want %q %q", got, tc.candidate, tc.waits)
			}
		})
	}
}

func TestHeal(t *testing.T) {
	long := 2 * time.Second
	refused := func(s *State, nodes ...string) {
		for _, node := range nodes {
			s.Run.Refused[node] = Refused{node + "#1", GTID{1, 1, 9}}
		}
	}
	for _, tc := range []struct {
		name  string
		state *State
		want  string
	}{
		{"all is well", after(long, "", nil), ""},
		{"the primary is silent", after(long, "ab", nil), ""},
		{"a member is silent", after(long, "b", nil), "refuse b"},
		{"for a moment", after(dropAfter, "b", nil), ""},
		{"a member has died", after(0, "", func(s *State) { s.Dead["b#1"] = true }), "refuse b"},
		{"a member was restarted", after(0, "", func(s *State) { see(s, "b", func(seen *Seen) { seen.StartID = "b#2" }) }), "refuse b"},
		{"a member cannot apply", after(0, "", func(s *State) { see(s, "b", func(seen *Seen) { seen.SQLErrno = 1032 }) }), "refuse b"},
		{"a member has waited for a lock", after(0, "", func(s *State) { see(s, "b", stalled) }), "attach b"},
		{"a member has waited for a lock, and receives no more", after(0, "", func(s *State) {
			see(s, "b", stalled)
			see(s, "b", func(seen *Seen) { seen.IORunning = ioStopped })
		}), "refuse b"},
		{"a member has diverged", after(0, "", func(s *State) { see(s, "b", func(seen *Seen) { seen.IOErrno = errDiverged }) }), "refuse b"},
		{"locked out, the other has it all", after(long, "b", func(s *State) { refused(s, "b") }), "drop b"},
		{"the other lacks something", after(long, "b", func(s *State) {
			refused(s, "b")
			see(s, "c", func(seen *Seen) { seen.Received.Seq = 8 })
		}), ""},
		{"the other is silent too", after(long, "bc", func(s *State) { refused(s, "b") }), "refuse c"},
		{"both are locked out", after(long, "bc", func(s *State) { refused(s, "b", "c") }), "drop b"},
		{"locked out, and back: no way back", after(0, "", func(s *State) { refused(s, "b") }), "drop b"},
		{"a member has much to apply", after(0, "", func(s *State) {
			see(s, "b", func(seen *Seen) { seen.Received.Seq = seen.Applied.Seq + behindMax + 1 })
		}), "pace "},
		{"not so much", after(0, "", func(s *State) {
			see(s, "b", func(seen *Seen) { seen.Received.Seq = seen.Applied.Seq + behindMax })
		}), ""},
		{"it is slowed down already", after(long, "", func(s *State) {
			s.Record.Slow = scriptStart
			see(s, "b", func(seen *Seen) { seen.Received.Seq = seen.Applied.Seq + behindMin })
		}), ""},
		{"slowed down, and caught up", after(long, "", func(s *State) { s.Record.Slow = scriptStart }), "pace "},
		{"slowed down a moment ago", after(long-1, "", func(s *State) { s.Record.Slow = scriptStart }), ""},
		{"not attached", after(0, "", func(s *State) { see(s, "b", func(seen *Seen) { seen.IORunning = "No" }) }), "attach b"},
		{"outside", after(0, "", func(s *State) { delete(s.Record.InSync, "b") }), "join b"},
		{"outside and dead", after(0, "", func(s *State) {
			delete(s.Record.InSync, "b")
			s.Dead["b#1"] = true
		}), ""},
		{"outside and diverged", after(0, "", func(s *State) {
			delete(s.Record.InSync, "b")
			see(s, "b", func(seen *Seen) { seen.IOErrno = errDiverged })
		}), ""},
		{"outside, with what nobody else has", after(0, "", func(s *State) {
			delete(s.Record.InSync, "b")
			see(s, "b", func(seen *Seen) { seen.Executed.Seq = s.Seen["c"].Received.Seq + 1 })
		}), ""},
		{"outside, with another history", after(0, "", func(s *State) {
			delete(s.Record.InSync, "b")
			see(s, "b", func(seen *Seen) { seen.Executed = GTID{1, 2, s.Seen["c"].Received.Seq} })
		}), ""},
		{"outside and cannot apply", after(0, "", func(s *State) {
			delete(s.Record.InSync, "b")
			see(s, "b", func(seen *Seen) { seen.SQLErrno = 1950 })
		}), ""},
		{"outside, has waited for a lock", after(0, "", func(s *State) {
			delete(s.Record.InSync, "b")
			see(s, "b", stalled)
		}), "renew b"},
		{"joining, has waited for a lock", after(0, "", func(s *State) {
			joining(9, 1)(s)
			see(s, "b", stalled)
		}), "attach b"},
		{"outside, a primary that was replaced by order", after(0, "", outside(true, 0)), "join b"},
		{"outside, an old primary that takes writes", after(0, "", outside(false, 0)), ""},
		{"outside, an old primary with commits that wait", after(0, "", outside(true, 1)), ""},
		{"joining, caught up", after(0, "", joining(9, 1)), "admit b"},
		{"joining, something not received", after(0, "", joining(8, 8)), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, a := range tc.state.heal() {
				got = append(got, string(a.Kind)+" "+a.Node)
			}
			if strings.Join(got, ", ") != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// stalled is a node whose appliers have met a lock.
func stalled(seen *Seen) { seen.SQLRunning, seen.SQLErrno = false, 1205 }

// outside makes b a primary of an epoch that is over.
func outside(readOnly bool, waiting int) func(*State) {
	return func(s *State) {
		delete(s.Record.InSync, "b")
		see(s, "b", func(seen *Seen) {
			seen.SemiSync.PrimaryEnabled, seen.ReadOnly, seen.SemiSync.WaitSessions = true, readOnly, waiting
		})
	}
}

func joining(received, applied uint64) func(*State) {
	return func(s *State) {
		delete(s.Record.InSync, "b")
		s.Record.Joining = map[string]string{"b": "b#1"}
		see(s, "b", func(seen *Seen) { seen.Received.Seq, seen.Applied.Seq = received, applied })
	}
}

// What a controller has not seen answered since it changed a node says nothing: a new primary has its semi-synchronous replication on,
// whatever a probe from before its promotion says.
func TestLateAnswer(t *testing.T) {
	changed := scriptStart.Add(time.Second)
	seen := Seen{FailingAt: scriptStart, Misses: 9}.changed(changed, true)
	if seen.Misses != 0 || !seen.FailingAt.IsZero() {
		t.Error("a node that does what it is told is not silent")
	}
	late := probed{began: changed.Add(-time.Millisecond), now: changed.Add(time.Millisecond), status: Status{StartID: "a#1"}}
	if got := seen.noted(late); got != seen {
		t.Errorf("an answer to an older question counts: %+v", got)
	}
	late.began = changed
	if got := seen.noted(late); got.StartID != "a#1" || got.AnsweredAt != late.now {
		t.Errorf("a new answer does not count: %+v", got)
	}
}

// Who was not pointed at the new primary for certain may follow it all the same, so it stays among those who have to be heard.
func TestServeKeepsPossibleAckers(t *testing.T) {
	s := fencing(nil)
	s.Record.choose("b", GTID{1, 1, 12}, &s.Run)
	if r, err := s.change(Action{Kind: Serve}, ""); err != nil || r.Joining["c"] != "c#1" || len(r.InSync) > 0 {
		t.Errorf("in sync %v, joining %v, error %v", r.InSync, r.Joining, err)
	}
}

// Once a candidate is being made a primary nobody else is, whoever is heard of meanwhile: the register may know it already.
func TestRunChoosesOnce(t *testing.T) {
	s := fencing(func(s *State) { s.Run.Drained["b"] = GTID{1, 1, 12} })
	concerns := func() (promoted string, lost bool) {
		for _, a := range Next(*s) {
			if a.Kind == Promote {
				promoted = a.Node
			}
			lost = lost || a.Kind == Decide
			a.begun(&s.Run)
		}
		return promoted, lost
	}
	if promoted, _ := concerns(); promoted != "b" {
		t.Fatalf("%q is promoted", promoted)
	}
	s.Record.Boot = map[string]Boot{"a": BootPrimary}
	s.Run.Fenced["a"] = Fenced{StartID: "a#2", Executed: GTID{1, 1, 13}, ReadOnly: true}
	if promoted, lost := concerns(); promoted != "b" || lost {
		t.Errorf("%q is promoted when the old primary is back, lost %t", promoted, lost)
	}
	s.Dead["b#1"] = true
	if promoted, lost := concerns(); promoted != "" || !lost {
		t.Errorf("%q is promoted when the candidate is dead, lost %t", promoted, lost)
	}
}

// What a run knows of a process says nothing about the next one of the same node.
func TestFollowersAreProcesses(t *testing.T) {
	s := fencing(nil)
	s.Record.choose("b", GTID{1, 1, 12}, &s.Run)
	s.Run.Promoted, s.Run.Following["c"] = s.Record.PrimaryStart, s.Record.link("c")
	follow := func(a Action) bool { return a.Kind == Follow }
	if actions := Next(*s); slices.ContainsFunc(actions, follow) {
		t.Errorf("c follows: %v", actions)
	}
	s.Record.InSync["c"] = "c#2"
	see(s, "c", func(seen *Seen) { seen.StartID = "c#2" })
	if actions := Next(*s); !slices.ContainsFunc(actions, follow) {
		t.Errorf("c was restarted: %v", actions)
	}
}

// A primary that has proved its epoch is not opened while an instance may still release a read of the old one.
func TestReadLeasesAreWaitedFor(t *testing.T) {
	s := fencing(nil)
	s.Record.choose("b", GTID{1, 1, 12}, &s.Run)
	s.Run.Promoted, s.Run.Proved, s.Run.Following["c"] = s.Record.PrimaryStart, true, s.Record.link("c")
	s.Holding = []string{"i1"}
	opens := func() bool {
		return slices.ContainsFunc(Next(*s), func(a Action) bool { return a.Kind == Open })
	}
	if s.Now = s.Run.DecidedAt.Add(readLease); opens() {
		t.Error("opened while i1 has a lease")
	}
	if s.Now = s.Run.DecidedAt.Add(leaseWait); !opens() {
		t.Error("not opened when all leases have ended")
	}
	if s.Now, s.Holding = s.Run.DecidedAt, nil; !opens() {
		t.Error("not opened although all have let go")
	}
}

// tripped is a healthy shard on whose primary something was done by hand.
func tripped(change func(*SemiSync)) *State {
	return after(0, "", func(s *State) { see(s, "a", func(seen *Seen) { change(&seen.SemiSync) }) })
}

func TestTripwire(t *testing.T) {
	for want, s := range map[string]*State{
		"":                           after(0, "", nil),
		"2 transactions were":        tripped(func(sync *SemiSync) { sync.NoTx = 2 }),
		"was switched off":           tripped(func(sync *SemiSync) { sync.PrimaryEnabled = false }),
		"has stopped waiting":        tripped(func(sync *SemiSync) { sync.PrimaryOn = false }),
		"waits 100 ms for a replica": tripped(func(sync *SemiSync) { sync.TimeoutMS = 100 }),
		"transactions before a rep":  tripped(func(sync *SemiSync) { sync.WaitPoint = "AFTER_COMMIT" }),
	} {
		actions := Next(*s)
		if want == "" && len(actions) > 0 || want != "" && (len(actions) != 1 || !strings.Contains(actions[0].Why, want)) {
			t.Errorf("%q: %v", want, actions)
		}
		if len(actions) > 0 && actions[0].Kind != Suspend {
			t.Error(actions)
		}
	}
}

// A wait that was killed before the epoch was proved is counted as unacknowledged, and was told to nobody. A probe from before that
// must not make it look like something new.
func TestServeCountsFromTheProof(t *testing.T) {
	s := fencing(nil)
	s.Record.choose("b", GTID{1, 1, 12}, &s.Run)
	Action{Kind: Establish, Node: "b"}.fact(result{noTx: 3})(&s.Run)
	see(s, "b", func(seen *Seen) { seen.SemiSync.NoTx = 2 })
	if r, err := s.change(Action{Kind: Serve}, ""); err != nil || r.NoTx != 3 {
		t.Errorf("it counts from %d, error %v", r.NoTx, err)
	}
}

// A controller that has just begun to lead has not asked the primary yet, and would resume from a count of nought.
func TestResumeAsksFirst(t *testing.T) {
	s := serving()
	s.Record.Suspended, s.Order = "by hand", Order{Kind: OrderResume}
	asked := s
	asked.Seen = map[string]Seen{}
	if actions := Next(asked); len(actions) > 0 {
		t.Errorf("nobody has answered, and it does %v", actions)
	}
	see(&s, "a", func(seen *Seen) { seen.SemiSync.NoTx = 5 })
	actions := Next(s)
	if len(actions) != 1 || actions[0].Kind != Resume {
		t.Fatal(actions)
	}
	if r, err := s.change(actions[0], ""); err != nil || r.NoTx != 5 || r.Suspended != "" {
		t.Errorf("%+v, error %v", r, err)
	}
}

// What is between a node and its right to acknowledge is done one at a time.
func TestKeys(t *testing.T) {
	keys := []string{Action{Kind: Follow, Node: "b"}.key(), Action{Kind: Attach, Node: "b"}.key(), Action{Kind: Refuse, Node: "b"}.key()}
	if len(slices.Compact(keys)) != 1 {
		t.Error(keys)
	}
}
