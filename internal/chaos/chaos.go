package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/register"
)

// Options say what to break, and how long.
type Options struct {
	Folder            string // of the cluster; removed after a run without a violation
	Program           string
	Env               []string
	Shards, Instances int
	Owners            int
	Seed              uint64
	Duration          time.Duration // rounds begin until then
	Faults            []string      // exactly these, by name, one after the other; none: at random for Duration
	Relays            bool          // nodes are reached over a relay and can be cut off; implied by Faults that do so
	Keep              bool
	Print             func(format string, args ...any)
}

// Result is what a run found.
type Result struct {
	Faults, Failovers, Writes, Unknown    int
	Lost, Duplicated, Contradicted, Dirty int
	MaxGap                                time.Duration   // the longest wait of a caller for his answer
	Recovery                              []time.Duration // from each fault until everything was as before
	Violations                            []string
}

// Median is how long a fault and the recovery from it took, usually.
func (r Result) Median() time.Duration {
	if len(r.Recovery) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(r.Recovery))[len(r.Recovery)/2]
}

// Longest is how long they took at most.
func (r Result) Longest() time.Duration {
	if len(r.Recovery) == 0 {
		return 0
	}
	return slices.Max(r.Recovery)
}

const (
	settle          = 400 * time.Millisecond // of load before and after each fault
	registerTimeout = 30 * time.Second
	upTTL           = 3 * time.Minute
	wholePatience   = 90 * time.Second
	violationsMax   = 20 // a run that goes wrong must end
	fineEvery       = 2 * time.Millisecond
)

// ErrViolated says that a promise was not kept.
var ErrViolated = errors.New("a promise was not kept")

// world is a run.
type world struct {
	Options
	state     *cluster.State
	reg       *register.Etcd
	transport *http.Transport
	dice      *rand.Rand // of the schedule
	paused    map[string]bool
	killed    map[string]bool // in this round
	severed   map[string]bool // cut off from all others
	round     string          // for messages

	mu     sync.Mutex
	epochs map[string]uint64
	result Result
}

// Run makes a cluster, plays the rounds, and stops it. The error is ErrViolated if a promise was not kept; the folder is left then.
func Run(ctx context.Context, o Options) (result Result, err error) {
	if err := known(o.Faults); err != nil {
		return Result{}, err
	}
	o.Relays = o.Relays || needRelays(o.Faults)
	w := &world{
		Options: o, dice: rand.New(rand.NewPCG(o.Seed, 1)), paused: map[string]bool{}, killed: map[string]bool{},
		severed: map[string]bool{}, epochs: map[string]uint64{},
		transport: &http.Transport{MaxIdleConnsPerHost: 2 * o.Owners * callersPerOwner},
	}
	defer w.transport.CloseIdleConnections()
	defer func() { err = errors.Join(err, cluster.Down(o.Folder, err == nil && !o.Keep, o.say)) }()
	starting, cancel := context.WithTimeout(ctx, upTTL)
	defer cancel()
	if w.state, err = cluster.Up(starting, cluster.Options{
		Folder: o.Folder, Shards: o.Shards, Instances: o.Instances, Program: o.Program, Env: o.Env, Controllers: true, Relays: o.Relays,
		Say: o.say,
	}); err != nil {
		return Result{}, err
	}
	if w.reg, err = w.state.OpenRegister(ctx, registerTimeout); err != nil {
		return Result{}, err
	}
	defer w.reg.Close() //nolint:errcheck // nothing is lost
	err = w.run(ctx)
	w.readLogs()
	if len(w.result.Violations) > 0 {
		err = errors.Join(err, fmt.Errorf("%w (seed %d): see %s", ErrViolated, o.Seed, o.Folder))
	}
	return w.result, err
}

func (o Options) say(format string, args ...any) { o.Print("%s\n", fmt.Sprintf(format, args...)) }

func (w *world) run(ctx context.Context) error {
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { w.watchEpochs(watching) })
	defer func() {
		stop()
		watch.Wait()
	}()
	if err := w.awaitWhole(ctx); err != nil {
		return err
	}
	for i, end := 0, time.Now().Add(w.Duration); len(w.result.Violations) < violationsMax; i++ {
		if w.Faults == nil && time.Now().After(end) || w.Faults != nil && i == len(w.Faults) {
			break
		}
		f := w.draw()
		if w.Faults != nil {
			f = named(w.Faults[i])
		}
		if err := w.play(ctx, i, f); err != nil {
			w.violate("%v", err)
			w.keep("status.txt", w.look(ctx))
			return err
		}
	}
	return nil
}

// play is one round.
func (w *world) play(ctx context.Context, round int, f fault) error {
	shards := w.shards()
	number := shards[w.dice.IntN(len(shards))]
	w.round = fmt.Sprintf("round %d, seed %d, %s on shard %d", round+1, w.Seed, f.name, number)
	l, err := w.newLoad(round)
	if err != nil {
		return err
	}
	before, err := w.record(ctx, number)
	if err != nil {
		return err
	}
	l.start(ctx)
	_ = pause(ctx, settle)
	broken := time.Now()
	err = f.act(ctx, w, number)
	if repairErr := w.repair(ctx); repairErr != nil || err != nil {
		l.stop()
		return errors.Join(err, repairErr)
	}
	repaired := time.Now()
	if f.promotes {
		_, err = w.awaitRecord(ctx, number, "failed over", func(r failover.Record) bool { return r.Epoch > before.Epoch })
	}
	err = errors.Join(err, w.awaitWhole(ctx))
	whole := time.Now()
	_ = pause(ctx, settle)
	l.stop()
	if err != nil {
		return err
	}
	after, err := w.record(ctx, number)
	if err != nil {
		return err
	}
	if err := w.check(ctx, l, broken, whole); err != nil {
		return err
	}
	gap := w.count(l, whole.Sub(broken))
	w.Print("%4d  shard %d  %-28s epoch %3d → %3d  longest answer %6d ms  done after %6d ms, whole %6d ms later\n", round+1, number, f.name,
		before.Epoch, after.Epoch, gap.Milliseconds(), repaired.Sub(broken).Milliseconds(), whole.Sub(repaired).Milliseconds())
	return ctx.Err()
}

// count adds a round to the result, and returns the longest wait for an answer.
func (w *world) count(l *load, recovery time.Duration) (gap time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range l.histories {
		w.result.Writes += len(h.dones)
		for _, d := range h.dones {
			gap = max(gap, d.to.Sub(d.from))
		}
	}
	w.result.Faults++
	w.result.MaxGap = max(w.result.MaxGap, gap)
	w.result.Recovery = append(w.result.Recovery, recovery)
	return gap
}

// Each kind of violation has its count and its line.

func (w *world) violate(format string, args ...any) { w.note(nil, format, args...) }

func (w *world) lose(format string, args ...any) { w.note(&w.result.Lost, format, args...) }

func (w *world) duplicate(format string, args ...any) { w.note(&w.result.Duplicated, format, args...) }

func (w *world) contradict(format string, args ...any) {
	w.note(&w.result.Contradicted, format, args...)
}

func (w *world) soil(format string, args ...any) { w.note(&w.result.Dirty, format, args...) }

func (w *world) note(count *int, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if count != nil {
		*count++
	}
	line := w.round + ": " + fmt.Sprintf(format, args...)
	if len(w.result.Violations) < violationsMax {
		w.result.Violations = append(w.result.Violations, line)
		w.Print("VIOLATION %s\n", line)
	}
}

func (w *world) addUnknown() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Unknown++
}

// look is what everybody says now, for people.
func (w *world) look(ctx context.Context) string {
	var text strings.Builder
	if err := w.state.Look(ctx).Write(&text); err != nil {
		return err.Error()
	}
	return text.String()
}

// keep leaves a text beside the logs.
func (w *world) keep(name, text string) {
	if err := os.WriteFile(filepath.Join(w.Folder, name), []byte(text), 0o600); err != nil {
		w.violate("keep %s: %v", name, err)
	}
}

// blunders are lines of logs that no fault from outside excuses.
var blunders = []string{"DATA RACE", "panic:", "fatal error:", "this is a bug", "a handler panicked", "I1:", "I2:", "I3:", "split brain"}

func (w *world) readLogs() {
	for _, p := range w.state.Processes {
		text, err := os.ReadFile(w.state.Log(p))
		if err != nil {
			w.violate("%v", err)
		}
		for line := range strings.Lines(string(text)) {
			if slices.ContainsFunc(blunders, func(blunder string) bool { return strings.Contains(line, blunder) }) {
				w.violate("the log of %s says %.300s", p.Name, line)
				break
			}
		}
	}
}
