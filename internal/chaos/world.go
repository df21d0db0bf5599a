package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

func (w *world) shards() []int {
	numbers := make([]int, w.state.Shards)
	for i := range numbers {
		numbers[i] = i + 1
	}
	return numbers
}

// record reads the record of a shard, again while the register has no leader.
func (w *world) record(ctx context.Context, number int) (r failover.Record, err error) {
	waitErr := w.await(ctx, registerTimeout, pollEvery, func(ctx context.Context) bool {
		var entry register.Entry
		if entry, err = w.reg.Get(ctx, shard.RecordKey(number)); err == nil {
			r, err = failover.DecodeRecord(entry.Value)
		}
		return err == nil
	})
	if waitErr != nil {
		return r, fmt.Errorf("read the record of shard %d: %w", number, errors.Join(waitErr, err))
	}
	return r, nil
}

// awaitRecord waits for a moment of a shard, closely.
func (w *world) awaitRecord(ctx context.Context, number int, what string, good func(failover.Record) bool) (r failover.Record, err error) {
	if w.await(ctx, wholePatience, fineEvery, func(ctx context.Context) bool {
		var now failover.Record
		if now, err = w.record(ctx, number); err == nil {
			r = now
		}
		return err == nil && good(r)
	}) != nil {
		return r, fmt.Errorf("shard %d is not %s after %s: %s: %w", number, what, wholePatience, describe(r), errors.Join(err, ctx.Err()))
	}
	return r, nil
}

func describe(r failover.Record) string {
	return fmt.Sprintf("epoch %d, %s, primary %s, in sync %v, joining %v, stuck %q, suspended %q, boot %v",
		r.Epoch, r.Phase, r.Primary, r.InSync, r.Joining, r.Stuck, r.Suspended, r.Boot)
}

// awaitWhole waits until every shard serves with both replicas in sync, and every process says so itself: what the record says may
// be about a process that has just been killed.
func (w *world) awaitWhole(ctx context.Context) error {
	for _, number := range w.shards() {
		if _, err := w.awaitRecord(ctx, number, "whole", isWhole); err != nil {
			return err
		}
	}
	why := ""
	if w.await(ctx, wholePatience, pollEvery, func(ctx context.Context) bool {
		why = missing(w.state.Look(ctx))
		return why == ""
	}) != nil {
		return fmt.Errorf("the cluster is not whole after %s: %s", wholePatience, why)
	}
	return nil
}

func isWhole(r failover.Record) bool {
	return r.Phase == shard.PhaseServing && len(r.InSync) == len(r.Nodes)-1
}

// sound are the states of instances and caches that lack nothing.
var sound = []string{"ready", "primary", "replica"}

// missing says what a cluster lacks.
func missing(s cluster.Status) string {
	if s.Register != "" || s.Leader == "" {
		return fmt.Sprintf("register %q, leading controller %q", s.Register, s.Leader)
	}
	for _, one := range s.Shards {
		if one.Record == nil || !isWhole(*one.Record) {
			return one.Name + " has no record, or one of a shard that is not whole"
		}
		for _, n := range one.Nodes {
			if want := map[bool]string{true: "primary", false: "yes"}[n.Name == one.Record.Primary]; n.InSync != want {
				return fmt.Sprintf("%s is %s, in sync: %s; %s", n.Name, n.Role, n.InSync, describe(*one.Record))
			}
		}
	}
	for _, p := range s.Processes {
		if !slices.Contains(sound, p.State) && !strings.HasPrefix(p.State, "running") {
			return p.Name + " is " + p.State
		}
	}
	return ""
}

// await asks until the answer is yes.
func (w *world) await(ctx context.Context, patience, every time.Duration, yes func(ctx context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !yes(ctx) {
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watchEpochs sees every record that is ever written.
func (w *world) watchEpochs(ctx context.Context) {
	for ctx.Err() == nil {
		entries, rev, err := w.reg.List(ctx, shard.RecordPrefix)
		if err != nil {
			_ = pause(ctx, pollEvery)
			continue
		}
		for _, e := range entries {
			w.sawRecord(e)
		}
		for events := range w.reg.Watch(ctx, shard.RecordPrefix, rev) {
			for _, e := range events {
				w.sawRecord(e.Entry)
			}
		}
	}
}

func (w *world) sawRecord(e register.Entry) {
	r, err := failover.DecodeRecord(e.Value)
	if err != nil {
		w.violate("%s is no record: %v", e.Key, err)
		return
	}
	if r.Suspended != "" {
		w.violate("%s was suspended: %s", e.Key, r.Suspended)
	}
	w.mu.Lock()
	before := w.epochs[e.Key]
	w.epochs[e.Key] = r.Epoch
	if before != 0 && r.Epoch > before {
		w.result.Failovers += int(r.Epoch - before)
	}
	w.mu.Unlock()
	if r.Epoch < before {
		w.violate("%s went from epoch %d back to %d", e.Key, before, r.Epoch)
	}
}

// repair heals, wakes and starts all that does not come back by itself.
func (w *world) repair(ctx context.Context) error {
	errs := []error{w.heal(ctx)}
	for _, name := range slices.Sorted(maps.Keys(w.paused)) {
		_ = w.resume(name) // it may have been killed meanwhile
	}
	for _, p := range w.state.Processes {
		if w.killed[p.Name] {
			errs = append(errs, w.state.AwaitEnd(p.Name, endPatience))
		}
		errs = append(errs, w.state.Start(p.Name, w.Program, w.Env))
	}
	clear(w.killed)
	return errors.Join(errs...)
}

// endPatience is for a process that was killed with a lot of memory on a busy machine.
const endPatience = 10 * time.Second

// kill ends processes at the same time, as nearly as that can be done. One that has ended by itself needs no end.
func (w *world) kill(names ...string) {
	for _, name := range names {
		w.killed[name] = true
		_ = w.state.Kill(name)
	}
}

func (w *world) pause(names ...string) {
	for _, name := range names {
		w.paused[name] = true
		_ = w.state.Pause(name)
	}
}

func (w *world) resume(names ...string) error {
	var errs []error
	for _, name := range names {
		delete(w.paused, name)
		errs = append(errs, w.state.Resume(name))
	}
	return errors.Join(errs...)
}

// cut cuts nodes off from all others.
func (w *world) cut(ctx context.Context, names ...string) error {
	var errs []error
	for _, name := range names {
		w.severed[name] = true
		errs = append(errs, w.state.Cut(ctx, name))
	}
	return errors.Join(errs...)
}

// heal undoes every cut.
func (w *world) heal(ctx context.Context) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(w.severed)) {
		delete(w.severed, name)
		errs = append(errs, w.state.Heal(ctx, name))
	}
	return errors.Join(errs...)
}

// during does something else while the first thing goes on, and waits for both.
func (w *world) during(first, second func()) {
	var both sync.WaitGroup
	both.Go(first)
	second()
	both.Wait()
}

// some is a random duration up to a limit.
func (w *world) some(limit time.Duration) time.Duration {
	return time.Duration(w.dice.Int64N(int64(limit)))
}

// ackers are the in-sync replicas of a record, in a random order.
func (w *world) ackers(r failover.Record) []string {
	names := slices.Sorted(maps.Keys(r.InSync))
	w.dice.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

func (w *world) named(kind cluster.Kind) (names []string) {
	for _, p := range w.state.Processes {
		if p.Kind == kind {
			names = append(names, p.Name)
		}
	}
	return names
}

// instance is one of them.
func (w *world) instance() string {
	names := w.named(cluster.KindInstance)
	return names[w.dice.IntN(len(names))]
}

func agentOf(node string) string { return "agent-" + node }
