package failover

import (
	"context"
	"errors"
	"testing"
	"time"
)

// The whole procedure by hand: the primary is killed while clients write, and comes back as a replica.
func TestNodesFailOver(t *testing.T) {
	x := newTrio(t)
	ctx := t.Context()
	done := x.writers(t, 0, 4)
	time.Sleep(700 * time.Millisecond)
	x.servers[0].Kill(t)
	acked := done()
	if _, err := x.nodes[0].Probe(ctx); err == nil {
		t.Error("a dead server answers")
	} else {
		t.Logf("a probe of the dead server: %v", err)
	}

	began := time.Now()
	primary := x.promote(t, 2, x.fence(t, 2, "c1", 1, 2), 0)
	t.Logf("fence to open: %v", time.Since(began))
	x.hasMarks(t, primary, acked)
	if _, err := x.app(t, primary).ExecContext(ctx, markSQL, 50, 1); err != nil {
		t.Fatalf("the new primary takes no writes: %v", err)
	}

	// The old primary comes back, throws away what nobody acknowledged, and catches up.
	id := x.restart(t, 0, BootReplica)
	if got := x.status(t, 0).StartID; got != id {
		t.Errorf("start id %q, want %q", got, id)
	}
	x.fence(t, 2, "c1", 0)
	must(t, x.nodes[primary].Allow(ctx, 2, "n1"))
	must(t, x.nodes[0].Follow(ctx, 2, FollowOptions{Address: x.servers[primary].Addr(), SemiSync: true, Demote: true, Relax: true}))
	x.eventually(t, 0, "receiving", func(s Status) bool { return s.IORunning == "Yes" && s.SemiSync.ReplicaOn })
	x.eventually(t, primary, "two ackers", func(s Status) bool { return s.SemiSync.Clients == 2 })
	must(t, x.nodes[primary].Beat(ctx, "c1"))
	x.same(t, primary)
	x.switchOver(t, primary)
}

// switchOver is the planned change: nobody is killed, and no client gets an error.
func (x *trio) switchOver(t *testing.T, old int) {
	t.Helper()
	ctx := t.Context()
	wants(t, x.nodes[old].DisconnectIdle(ctx, 2), ErrWaiting) // it still takes writes
	_, err := x.nodes[old].Fence(ctx, 3, "c1")
	must(t, err)
	began := time.Now()
	must(t, x.nodes[old].ReadOnly(ctx, 3))
	g := x.status(t, old).Executed
	others := []int{(old + 1) % 3, (old + 2) % 3}
	for _, i := range others {
		must(t, x.nodes[i].Drain(ctx, g))
	}
	all := x.fence(t, 3, "c1", others...)
	must(t, x.nodes[old].DisconnectIdle(ctx, 3))
	if n := x.text(t, old, "SELECT COUNT(*) FROM information_schema.processlist WHERE user='app' AND command='Sleep'"); n != "0" {
		t.Errorf("%s idle sessions are left", n)
	}
	primary := x.promote(t, 3, all, old)
	t.Logf("switchover: %v", time.Since(began))
	must(t, x.nodes[primary].Allow(ctx, 3, trioName(old)))
	must(t, x.nodes[old].Follow(ctx, 3, FollowOptions{Address: x.servers[primary].Addr(), SemiSync: true, Demote: true, Relax: true}))
	x.eventually(t, primary, "two ackers", func(s Status) bool { return s.SemiSync.Clients == 2 })
	if s := x.status(t, old); s.SemiSync.PrimaryEnabled || !s.ReadOnly || s.SourceAddr != x.servers[primary].Addr() {
		t.Errorf("the old primary: %+v", s)
	}
	x.same(t, primary)
}

// A hung primary costs no more time than a dead one, and what it has not had acknowledged it never acknowledges.
func TestFenceOfHungPrimary(t *testing.T) {
	x := newTrio(t)
	ctx := t.Context()
	must(t, x.nodes[0].Beat(ctx, "c1"))
	x.servers[0].Pause(t)
	before := []Status{x.status(t, 1), x.status(t, 2)}
	quick, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	_, err := x.nodes[0].Probe(quick)
	wants(t, err, context.DeadlineExceeded)
	wants(t, x.nodes[0].Beat(quick, "c1"), ErrUnacknowledged)
	cancel()
	began := time.Now()
	quick, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
	_, err = x.nodes[0].Probe(quick) // on a new connection: the kernel of a hung server still accepts
	wants(t, err, context.DeadlineExceeded)
	cancel()
	t.Logf("a second probe of the hung server: %v", time.Since(began))
	time.Sleep(300 * time.Millisecond)
	for i, b := range before {
		if s := x.status(t, i+1); s.ReceivedMark != b.ReceivedMark {
			t.Errorf("%s has received something of a stopped server: %s, then %s", trioName(i+1), b.ReceivedMark, s.ReceivedMark)
		}
	}
	all := x.fence(t, 2, "c1", 1, 2)
	x.servers[0].Resume(t)

	// Awake again, the old primary takes a commit and waits for ever.
	result := x.waits(t, 0, 1)
	primary := x.promote(t, 2, all, 0)
	stillWaits(t, result)
	if got := x.text(t, primary, "SELECT COUNT(*) FROM statesvc.marks WHERE writer=99"); got != "0" {
		t.Errorf("the new primary has %s rows that were never acknowledged", got)
	}
	// Not even a controller can make it acknowledge: it claims the node, which writes, and makes it follow.
	x.fence(t, 2, "c1", 0)
	wants(t, x.nodes[0].Follow(ctx, 2, FollowOptions{Address: x.servers[primary].Addr(), Demote: true}), ErrWaiting)
	stillWaits(t, result)

	// It is killed; its tail goes, and it follows.
	x.servers[0].Kill(t)
	if err := <-result; err == nil {
		t.Error("the commit was acknowledged by a dying server")
	}
	x.restart(t, 0, BootReplica)
	if n := x.text(t, 0, "SELECT COUNT(*) FROM statesvc.marks WHERE writer=99"); n != "0" {
		t.Errorf("recovered as a replica it has %s of its unacknowledged rows", n)
	}
	x.fence(t, 2, "c1", 0)
	must(t, x.nodes[primary].Allow(ctx, 2, "n1"))
	must(t, x.nodes[0].Follow(ctx, 2, FollowOptions{Address: x.servers[primary].Addr(), SemiSync: true, Demote: true}))
	x.same(t, primary)
	x.hungAgain(t, primary)
}

// hungAgain measures the fence a few times more: the replicas are caught at different moments of receiving.
func (x *trio) hungAgain(t *testing.T, primary int) {
	t.Helper()
	others := []int{(primary + 1) % 3, (primary + 2) % 3}
	for epoch := uint64(3); epoch < 8; epoch++ {
		x.servers[primary].Pause(t)
		time.Sleep(50 * time.Millisecond * time.Duration(epoch))
		x.fence(t, epoch, "c1", others...)
		x.servers[primary].Resume(t)
		for _, i := range others {
			must(t, x.nodes[i].Follow(t.Context(), epoch, FollowOptions{Address: x.servers[primary].Addr(), SemiSync: true}))
		}
		x.eventually(t, primary, "two ackers", func(s Status) bool { return s.SemiSync.Clients == 2 })
	}
}

// Of several controllers, the one of the newest epoch has the node, and the others notice before they do anything.
func TestPromises(t *testing.T) {
	x := newTrio(t)
	ctx := t.Context()
	first, second := x.nodes[1], x.node(t, 1)
	_, err := first.Fence(ctx, 5, "1 c1")
	must(t, err)
	_, err = first.Fence(ctx, 5, "1 c1")
	must(t, err)

	_, err = second.Fence(ctx, 5, "0 c2") // of an earlier leadership
	wants(t, err, ErrPromised)
	_, err = second.Fence(ctx, 4, "2 c2")
	var promised *PromisedError
	if !errors.As(err, &promised) || promised.Epoch != 5 || promised.Holder != "1 c1" {
		t.Errorf("an older epoch: %v", err)
	}
	must(t, first.Claim(ctx, 5, "1 c1"))
	must(t, first.Relax(ctx, 5)) // nobody has taken its session
	wants(t, first.Relax(ctx, 4), ErrNotFenced)

	_, err = second.Fence(ctx, 6, "2 c2")
	must(t, err)
	err = first.Promote(ctx, 5, PromoteOptions{})
	wants(t, err, ErrNotFenced)
	wants(t, first.Allow(ctx, 5, "n3"), ErrPromised) // not even beside the session
	wants(t, first.Relax(ctx, 5), ErrNotFenced)      // nor is the session opened again
	_, err = first.Fence(ctx, 5, "1 c1")
	wants(t, err, ErrPromised)
	must(t, second.Strict(ctx, 6))

	must(t, first.Claim(ctx, 6, "3 c1")) // of a later leadership, in the same epoch
	wants(t, second.Strict(ctx, 6), ErrNotFenced)
	wants(t, second.Claim(ctx, 6, "2 c2"), ErrPromised)

	must(t, second.Claim(ctx, 6, "4 c2"))
	must(t, second.Release(ctx))
	wants(t, second.Strict(ctx, 6), ErrNotFenced)
	must(t, second.Claim(ctx, 6, "4 c2"))
	must(t, second.Strict(ctx, 6))

	// A restarted node keeps its promise, and has lost the session.
	x.restart(t, 1, BootReplica)
	wants(t, second.Strict(ctx, 6), ErrNotFenced)
	_, err = first.Fence(ctx, 5, "1 c1")
	wants(t, err, ErrPromised)
	x.notApplied(t, second)
}

// notApplied: nobody is promoted, and no relay log is thrown away, before everything is applied.
func (x *trio) notApplied(t *testing.T, n *Node) {
	t.Helper()
	ctx := t.Context()
	follow := FollowOptions{Address: x.servers[0].Addr(), SemiSync: true}
	_, err := n.Fence(ctx, 6, "4 c2")
	must(t, err)
	must(t, n.Follow(ctx, 6, follow))
	x.eventually(t, 1, "following", func(s Status) bool { return s.IORunning == "Yes" })
	wants(t, n.Promote(ctx, 6, PromoteOptions{}), ErrNotFenced) // it is ours, but it receives
	must(t, n.Relax(ctx, 6))                                    // and stays ours
	x.exec(t, 1, "STOP SLAVE SQL_THREAD")
	must(t, x.nodes[0].Beat(ctx, "c1"))
	end := x.status(t, 0).Executed
	x.eventually(t, 1, "received", func(s Status) bool { return s.Received == end })
	x.exec(t, 1, "STOP SLAVE IO_THREAD") // else it is started again
	fenced, err := n.Fence(ctx, 6, "4 c2")
	must(t, err)
	if fenced.Received != end || fenced.Applied == end || fenced.SQLRunning {
		t.Errorf("fenced: %+v", fenced)
	}
	must(t, n.Beat(ctx, "c1")) // a late one, to what was the primary once
	if s := x.status(t, 1); s.Executed != fenced.Executed {
		t.Errorf("a heartbeat was written on a replica: %s after %s", s.Executed, fenced.Executed)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	wants(t, n.Drain(short, end), ErrNotDrained)
	wants(t, n.Promote(ctx, 6, PromoteOptions{Applied: end}), ErrNotDrained)
	wants(t, n.Promote(ctx, 6, PromoteOptions{}), ErrNotDrained) // whatever the caller believes
	wants(t, n.Follow(ctx, 6, follow), ErrNotDrained)
	if s := x.status(t, 1); s.Received != end || s.SourceAddr == "" {
		t.Errorf("something was thrown away: %+v", s)
	}
	follow.Discard = true
	must(t, n.Follow(ctx, 6, follow))
	must(t, n.Drain(ctx, end))
}

// Without an acker nobody is established, and the wait ends with the first one.
func TestEstablishWaitsForAnAcker(t *testing.T) {
	x := newTrio(t)
	ctx := t.Context()
	x.servers[0].Kill(t)
	all := x.fence(t, 2, "c1", 1, 2)
	candidate, sibling := x.elect(all)
	n := x.nodes[candidate]
	wants(t, n.Open(ctx, 2), ErrNotEstablished)
	wants(t, n.Establish(ctx, 2, trioID(candidate)), ErrNotEstablished) // semi-sync is off
	must(t, n.Drain(ctx, all[candidate].Received))
	for range 2 { // idempotent
		must(t, n.Promote(ctx, 2, PromoteOptions{
			Applied: all[candidate].Received, LockReplicas: []string{"n1"}, AllowReplicas: []string{trioName(sibling)},
		}))
	}
	wants(t, n.Establish(ctx, 2, 999), ErrNotEstablished)
	wants(t, n.Open(ctx, 2), ErrNotEstablished) // the fence is still of epoch 1

	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	wants(t, n.Establish(short, 2, trioID(candidate)), ErrUnacknowledged)
	if s := x.status(t, candidate); s.Epoch == 2 || s.SemiSync.WaitSessions != 1 {
		t.Errorf("the fence is visible without an acknowledgement: %+v", s)
	}
	// Another controller cannot wait for the session: it takes it.
	wants(t, n.Open(short, 2), context.DeadlineExceeded)
	noTx := x.status(t, candidate).SemiSync.NoTx
	_, err := n.Fence(ctx, 2, "c1")
	must(t, err)
	s := x.status(t, candidate)
	t.Logf("after the wait was killed: epoch %d, no_tx %d → %d", s.Epoch, noTx, s.SemiSync.NoTx)
	must(t, n.Promote(ctx, 2, PromoteOptions{Applied: all[candidate].Received, LockReplicas: []string{trioName(sibling)}}))
	wait := make(chan error, 1)
	go func() { wait <- n.Establish(ctx, 2, trioID(candidate)) }()
	x.eventually(t, candidate, "waiting", func(s Status) bool { return s.SemiSync.WaitSessions == 1 })
	must(t, x.nodes[sibling].Drain(ctx, all[sibling].Received))
	must(t, x.nodes[sibling].Follow(ctx, 2, FollowOptions{Address: x.servers[candidate].Addr(), SemiSync: true}))
	// Who is let in now ends the wait, so the wait must not be in the way.
	short, cancel = context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	must(t, n.Refuse(short, 2, "n1"))
	must(t, n.Allow(short, 2, trioName(sibling)))
	must(t, <-wait)
	must(t, n.Establish(ctx, 2, trioID(candidate))) // again: proved by another commit
	must(t, n.Open(ctx, 2))
	must(t, n.Beat(ctx, "c1"))
	if s := x.status(t, candidate); s.Epoch != 2 || s.PrimaryID != trioID(candidate) || s.ReadOnly {
		t.Errorf("established: %+v", s)
	}
}

// While nobody was promoted, the old primary itself may be elected: it has everything, and what nobody acknowledged besides.
func TestOldPrimaryIsElected(t *testing.T) {
	x := newTrio(t)
	ctx := t.Context()
	all := x.fence(t, 2, "c1", 1, 2)
	result := x.waits(t, 0, 1)
	x.servers[0].Kill(t)
	if err := <-result; err == nil {
		t.Error("a dying server has acknowledged")
	}
	x.restart(t, 0, BootPrimary)
	old := x.fence(t, 2, "c1", 0)[0]
	candidate, _ := x.elect(all)
	p := all[candidate].Received
	if old.Executed.Compare(p) <= 0 || !old.ReadOnly {
		t.Errorf("the old primary: %+v, the replicas have %s", old, p)
	}
	must(t, x.nodes[0].Drain(ctx, p))
	must(t, x.nodes[0].Promote(ctx, 2, PromoteOptions{Applied: p, AllowReplicas: []string{"n2", "n3"}}))
	for _, i := range []int{1, 2} {
		must(t, x.nodes[i].Drain(ctx, all[i].Received))
		must(t, x.nodes[i].Follow(ctx, 2, FollowOptions{Address: x.servers[0].Addr(), SemiSync: true, Relax: true}))
	}
	must(t, x.nodes[0].Establish(ctx, 2, trioID(0)))
	must(t, x.nodes[0].Open(ctx, 2))
	x.same(t, 0)
	if n := x.text(t, 2, "SELECT COUNT(*) FROM statesvc.marks WHERE writer=99"); n != "1" {
		t.Errorf("%s rows of the old primary's tail arrived, want 1", n)
	}
}
