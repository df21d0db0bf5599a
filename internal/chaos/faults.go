package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/shard"
)

const (
	blink     = 600 * time.Millisecond // a pause about as long as what counts as a death
	nap       = 4 * time.Second        // longer than all leases and sessions
	dirtyTime = time.Second            // in which a primary of an old epoch may try to write
)

// fault is something that breaks. What it has killed or paused is started and woken afterwards, if it was not before.
type fault struct {
	name     string
	promotes bool // the epoch of its shard must have risen
	act      func(ctx context.Context, w *world, number int) error
}

// faults are all that a run draws from, and with relays also those of the network.
var faults = slices.Concat(databaseFaults, pauseFaults, agentFaults, stepFaults, controlFaults, operatorFaults, careFaults)

// Databases are killed. Their agents start them again.
var databaseFaults = []fault{
	{"kill-primary", true, onRecord(func(w *world, r failover.Record) { w.kill(r.Primary) })},
	{"kill-replica", false, onRecord(func(w *world, r failover.Record) { w.kill(w.ackers(r)[0]) })},
	{"kill-primary-and-replica", true, onRecord(func(w *world, r failover.Record) { w.kill(r.Primary, w.ackers(r)[0]) })},
	{"kill-replica-then-primary", true, onRecord(func(w *world, r failover.Record) {
		w.kill(w.ackers(r)[0])
		time.Sleep(w.some(blink / 2))
		w.kill(r.Primary)
	})},
	{"kill-replicas-in-turn", false, onRecord(func(w *world, r failover.Record) {
		for _, name := range w.ackers(r) {
			w.kill(name)
			time.Sleep(w.some(2 * blink))
		}
	})},
	{"kill-shard", true, onRecord(func(w *world, r failover.Record) { w.kill(append(w.ackers(r), r.Primary)...) })},
	{"kill-primary-twice", true, func(ctx context.Context, w *world, number int) error {
		for range 2 {
			r, err := w.record(ctx, number)
			if err != nil {
				return err
			}
			w.kill(r.Primary)
			if err := w.awaitServing(ctx, number, r.Epoch); err != nil {
				return err
			}
		}
		return nil
	}},
	{"kill-all-primaries", true, func(ctx context.Context, w *world, _ int) error {
		var names []string
		for _, number := range w.shards() {
			r, err := w.record(ctx, number)
			if err != nil {
				return err
			}
			names = append(names, r.Primary)
		}
		w.kill(names...)
		return nil
	}},
}

// Databases are stopped, and go on.
var pauseFaults = []fault{
	{"pause-primary", true, func(ctx context.Context, w *world, number int) error {
		r, err := w.record(ctx, number)
		if err != nil {
			return err
		}
		w.pause(r.Primary)
		return w.awaitServing(ctx, number, r.Epoch)
	}},
	{"pause-primary-and-agent", true, wakeOldPrimary},
	{"pause-primary-wake-in-failover", true, func(ctx context.Context, w *world, number int) error {
		r, err := w.record(ctx, number)
		if err != nil {
			return err
		}
		w.pause(r.Primary, agentOf(r.Primary))
		if _, err := w.awaitRecord(ctx, number, "fenced", func(now failover.Record) bool { return now.Epoch > r.Epoch }); err != nil {
			return err
		}
		time.Sleep(w.some(blink / 2))
		err = w.resume(r.Primary)
		return errors.Join(err, w.awaitServing(ctx, number, r.Epoch))
	}},
	{"blink-primary", false, onRecord(func(w *world, r failover.Record) {
		w.pause(r.Primary)
		time.Sleep(w.some(blink))
	})},
	{"pause-replica", false, onRecord(func(w *world, r failover.Record) {
		w.pause(w.ackers(r)[0])
		time.Sleep(nap)
	})},
	{"pause-replicas", false, onRecord(func(w *world, r failover.Record) {
		w.pause(w.ackers(r)...)
		time.Sleep(w.some(nap))
	})},
	{"pause-replica-kill-primary", true, onRecord(func(w *world, r failover.Record) {
		w.pause(w.ackers(r)[0])
		time.Sleep(w.some(blink))
		w.kill(r.Primary)
		time.Sleep(w.some(nap))
	})},
}

// wakeOldPrimary lets a primary sleep through a failover and wakes it while nobody can kill it: its transactions, its pools and its
// read_only=0 are as they were.
func wakeOldPrimary(ctx context.Context, w *world, number int) error {
	r, err := w.record(ctx, number)
	if err != nil {
		return err
	}
	w.pause(r.Primary, agentOf(r.Primary))
	if err := w.awaitServing(ctx, number, r.Epoch); err != nil {
		return err
	}
	if err := w.resume(r.Primary); err != nil {
		return err
	}
	w.soilPrimary(ctx, r.Primary)
	return pause(ctx, dirtyTime)
}

// Agents end or stop. A database ends with its agent.
var agentFaults = []fault{
	{"kill-agent-of-primary", true, onRecord(func(w *world, r failover.Record) {
		w.kill(agentOf(r.Primary))
		time.Sleep(w.some(nap))
	})},
	{"kill-agent-of-replica", false, onRecord(func(w *world, r failover.Record) {
		w.kill(agentOf(w.ackers(r)[0]))
		time.Sleep(w.some(nap))
	})},
	{"pause-agent-of-primary", false, onRecord(func(w *world, r failover.Record) {
		w.pause(agentOf(r.Primary))
		time.Sleep(nap)
	})},
	{"pause-agent-kill-primary", true, onRecord(func(w *world, r failover.Record) {
		w.pause(agentOf(r.Primary))
		w.kill(r.Primary)
		time.Sleep(nap)
	})},
}

// Somebody is killed at a step of a failover.
var stepFaults = []fault{
	{"kill-controller-in-fencing", true, atPhase(shard.PhaseFencing, func(ctx context.Context, w *world, _ failover.Record) {
		w.kill(w.state.LeadingController(ctx, w.reg))
	})},
	{"kill-controller-in-promoting", true, atPhase(shard.PhasePromoting, func(ctx context.Context, w *world, _ failover.Record) {
		w.kill(w.state.LeadingController(ctx, w.reg))
	})},
	{"pause-controller-in-fencing", true, atPhase(shard.PhaseFencing, func(ctx context.Context, w *world, _ failover.Record) {
		w.pause(w.state.LeadingController(ctx, w.reg))
		time.Sleep(nap)
	})},
	{"kill-replica-in-fencing", true, atPhase(shard.PhaseFencing, func(_ context.Context, w *world, r failover.Record) {
		w.kill(w.ackers(r)[0])
	})},
	{"kill-candidate", true, atPhase(shard.PhasePromoting, func(_ context.Context, w *world, r failover.Record) { w.kill(r.Primary) })},
	{"kill-sibling", true, atPhase(shard.PhasePromoting, func(_ context.Context, w *world, r failover.Record) { w.kill(w.ackers(r)...) })},
	{"pause-candidate", true, atPhase(shard.PhasePromoting, func(_ context.Context, w *world, r failover.Record) {
		w.pause(r.Primary)
		time.Sleep(w.some(nap))
	})},
	{"kill-instance-in-fencing", true, atPhase(shard.PhaseFencing, func(_ context.Context, w *world, _ failover.Record) {
		w.kill(w.instance())
	})},
	{"kill-member-in-fencing", true, atPhase(shard.PhaseFencing, func(ctx context.Context, w *world, _ failover.Record) {
		w.kill(w.state.LeadingMember(ctx))
	})},
}

// Controllers, members of the register and instances end or stop; or a switchover is ordered.
var controlFaults = []fault{
	{"switchover", true, func(ctx context.Context, w *world, number int) error { return w.switchOver(ctx, number, func() {}) }},
	{"switchover-kill-primary", true, func(ctx context.Context, w *world, number int) error {
		r, err := w.record(ctx, number)
		if err != nil {
			return err
		}
		return w.switchOver(ctx, number, func() {
			time.Sleep(w.some(blink / 2))
			w.kill(r.Primary)
		})
	}},
	{"switchover-kill-controller", true, func(ctx context.Context, w *world, number int) error {
		leader := w.state.LeadingController(ctx, w.reg)
		return w.switchOver(ctx, number, func() {
			time.Sleep(w.some(blink / 2))
			w.kill(leader)
		})
	}},
	{"kill-controller", false, func(ctx context.Context, w *world, _ int) error {
		w.kill(w.state.LeadingController(ctx, w.reg))
		return pause(ctx, w.some(nap))
	}},
	{"kill-controller-and-primary", true, onLeaders(func(w *world, r failover.Record, controller, _ string) {
		w.kill(controller, r.Primary)
	})},
	{"pause-controller", false, onLeaders(func(w *world, _ failover.Record, controller, _ string) {
		w.pause(controller)
		time.Sleep(nap)
	})},
	{"pause-controller-kill-primary", true, onLeaders(func(w *world, r failover.Record, controller, _ string) {
		w.pause(controller)
		w.kill(r.Primary)
		time.Sleep(nap)
	})},
	{"kill-member", false, onLeaders(func(w *world, _ failover.Record, _, member string) {
		w.kill(member)
		time.Sleep(w.some(nap))
	})},
	{"kill-member-and-primary", true, onLeaders(func(w *world, r failover.Record, _, member string) {
		w.kill(member, r.Primary)
		time.Sleep(w.some(nap))
	})},
	{"pause-member", false, onLeaders(func(w *world, _ failover.Record, _, member string) {
		w.pause(member)
		time.Sleep(w.some(nap))
	})},
	{"restart-register", false, func(_ context.Context, w *world, _ int) error {
		w.kill(w.named(cluster.KindEtcd)...)
		time.Sleep(w.some(nap))
		return nil
	}},
	{"restart-register-kill-primary", true, onRecord(func(w *world, r failover.Record) {
		w.kill(w.named(cluster.KindEtcd)...)
		w.kill(r.Primary)
		time.Sleep(w.some(nap))
	})},
	{"kill-instance", false, func(_ context.Context, w *world, _ int) error {
		w.kill(w.instance())
		time.Sleep(w.some(nap))
		return nil
	}},
	{"pause-instance", false, func(_ context.Context, w *world, _ int) error {
		w.pause(w.instance())
		time.Sleep(nap)
		return nil
	}},
	{"pause-instance-kill-primary", true, onRecord(func(w *world, r failover.Record) {
		w.pause(w.instance())
		time.Sleep(w.some(blink))
		w.kill(r.Primary)
		time.Sleep(nap)
	})},
}

// Somebody stops a part of replication by hand.
var operatorFaults = []fault{
	{"stop-applier", false, onRecord(func(w *world, r failover.Record) {
		w.tell(w.ackers(r)[0], "STOP SLAVE SQL_THREAD")
		time.Sleep(w.some(nap))
	})},
	{"stop-applier-kill-primary", true, onRecord(func(w *world, r failover.Record) {
		w.tell(w.ackers(r)[0], "STOP SLAVE SQL_THREAD")
		time.Sleep(w.some(blink / 2))
		w.kill(r.Primary)
	})},
	{"stop-receivers", false, onRecord(func(w *world, r failover.Record) {
		for _, name := range w.ackers(r) {
			w.tell(name, "STOP SLAVE IO_THREAD")
		}
	})},
	{"stop-replica", false, onRecord(func(w *world, r failover.Record) {
		w.tell(w.ackers(r)[0], "STOP SLAVE")
		time.Sleep(w.some(blink))
	})},
}

// Somebody does what is done to databases now and then, at a bad time.
var careFaults = []fault{
	{"large-transaction-kill-primary", true, onRecord(func(w *world, r failover.Record) {
		w.during(func() { w.tell(r.Primary, largeSQL) }, func() {
			time.Sleep(w.some(blink)) // a replica may have received a part of it
			w.kill(r.Primary)
		})
	})},
	{"schema-change-kill-primary", true, onRecord(func(w *world, r failover.Record) {
		w.during(func() { w.tell(r.Primary, "ALTER TABLE decided_holds FORCE, ALGORITHM=COPY") }, func() {
			time.Sleep(w.some(blink))
			w.kill(r.Primary)
		})
	})},
	{"backup-of-replica-kill-primary", true, onRecord(func(w *world, r failover.Record) {
		w.during(func() { w.lockTables(w.ackers(r)[0], nap/2) }, func() {
			time.Sleep(blink)
			w.kill(r.Primary)
		})
	})},
}

// largeSQL is one transaction of some megabytes, always of the same rows, which nobody reads.
const largeSQL = "REPLACE INTO clock (source, at) SELECT CONCAT('chaos-large-', seq), 1 FROM seq_1_to_100000"

// Nodes are cut off from all others, and their agents as well: nothing passes, and nobody is told.
var networkFaults = []fault{
	{"cut-primary", true, func(ctx context.Context, w *world, number int) error {
		r, err := w.record(ctx, number)
		if err != nil {
			return err
		}
		return errors.Join(w.cut(ctx, r.Primary), w.awaitServing(ctx, number, r.Epoch))
	}},
	{"cut-primary-heal-in-failover", true, func(ctx context.Context, w *world, number int) error {
		r, err := w.record(ctx, number)
		if err != nil {
			return err
		}
		if err := w.cut(ctx, r.Primary); err != nil {
			return err
		}
		_, err = w.awaitRecord(ctx, number, "fenced", func(now failover.Record) bool { return now.Epoch > r.Epoch })
		time.Sleep(w.some(blink / 2))
		return errors.Join(err, w.heal(ctx))
	}},
	{"cut-replica", false, func(ctx context.Context, w *world, number int) error {
		r, err := w.record(ctx, number)
		if err == nil {
			err = w.cut(ctx, w.ackers(r)[0])
		}
		return errors.Join(err, pause(ctx, nap))
	}},
	{"cut-replicas", false, func(ctx context.Context, w *world, number int) error {
		r, err := w.record(ctx, number)
		if err == nil {
			err = w.cut(ctx, w.ackers(r)...)
		}
		return errors.Join(err, pause(ctx, w.some(nap)))
	}},
	{"cut-replica-kill-primary", true, func(ctx context.Context, w *world, number int) error {
		r, err := w.record(ctx, number)
		if err == nil {
			err = w.cut(ctx, w.ackers(r)[0]) // it may be the only one that has acknowledged something
		}
		if err == nil {
			err = pause(ctx, w.some(2*blink)) // and may have been let go of meanwhile
			w.kill(r.Primary)
		}
		return errors.Join(err, pause(ctx, w.some(nap)))
	}},
}

// onRecord breaks something as the record has it.
func onRecord(act func(w *world, r failover.Record)) func(context.Context, *world, int) error {
	return func(ctx context.Context, w *world, number int) error {
		r, err := w.record(ctx, number)
		if err == nil {
			act(w, r)
		}
		return err
	}
}

// onLeaders breaks something, as the record has it, and who leads.
func onLeaders(act func(w *world, r failover.Record, controller, member string)) func(context.Context, *world, int) error {
	return func(ctx context.Context, w *world, number int) error {
		r, err := w.record(ctx, number)
		controller, member := w.state.LeadingController(ctx, w.reg), w.state.LeadingMember(ctx)
		if err == nil && (controller == "" || member == "") {
			err = fmt.Errorf("it is not known who leads: controller %q, member %q", controller, member)
		}
		if err == nil {
			act(w, r, controller, member)
		}
		return err
	}
}

// atPhase kills the primary, and breaks more as soon as the failover has come to a phase, or has passed it.
func atPhase(phase shard.Phase, act func(context.Context, *world, failover.Record)) func(context.Context, *world, int) error {
	return func(ctx context.Context, w *world, number int) error {
		before, err := w.record(ctx, number)
		if err != nil {
			return err
		}
		w.kill(before.Primary)
		r, err := w.awaitRecord(ctx, number, string(phase), func(r failover.Record) bool {
			return r.Epoch > before.Epoch && (r.Phase == phase || r.Phase == shard.PhaseServing)
		})
		if err == nil {
			act(ctx, w, r)
		}
		return err
	}
}

func (w *world) awaitServing(ctx context.Context, number int, after uint64) error {
	_, err := w.awaitRecord(ctx, number, "served by another primary", func(r failover.Record) bool {
		return r.Epoch > after && r.Phase == shard.PhaseServing
	})
	return err
}

// switchOver orders another primary, and disturbs that.
func (w *world) switchOver(ctx context.Context, number int, disturb func()) error {
	r, err := w.record(ctx, number)
	if err != nil {
		return err
	}
	if err := failover.Give(ctx, w.reg, number, failover.Order{
		Kind: failover.OrderSwitchover, Reason: "chaos", By: "chaos", At: time.Now().UTC(),
	}); err != nil {
		return err
	}
	disturb()
	return w.awaitServing(ctx, number, r.Epoch)
}

// draw picks the next fault.
func (w *world) draw() fault {
	from := faults
	if w.Relays {
		from = slices.Concat(faults, networkFaults)
	}
	return from[w.dice.IntN(len(from))]
}

func named(name string) fault {
	all := slices.Concat(faults, networkFaults)
	return all[slices.IndexFunc(all, func(f fault) bool { return f.name == name })]
}

// Names lists all faults.
func Names() (names []string) {
	for _, f := range slices.Concat(faults, networkFaults) {
		names = append(names, f.name)
	}
	return names
}

// needRelays says that one of the names is that of a fault of the network.
func needRelays(names []string) bool {
	return slices.ContainsFunc(networkFaults, func(f fault) bool { return slices.Contains(names, f.name) })
}

func known(names []string) error {
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("there is no fault %q; there are %v", name, Names())
		}
	}
	return nil
}
