package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/statesvc/statesvc/failover"
	whole "github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/shard"
)

// Quantiles are of a list of durations.
type Quantiles struct {
	N                  int
	P50, P95, P99, Max time.Duration
}

func quantiles(all []time.Duration) Quantiles {
	if len(all) == 0 {
		return Quantiles{}
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(int(q*float64(len(all))), len(all)-1)] }
	return Quantiles{N: len(all), P50: at(0.50), P95: at(0.95), P99: at(0.99), Max: all[len(all)-1]}
}

func (q Quantiles) String() string {
	return fmt.Sprintf("n=%d p50=%.0f p95=%.0f p99=%.0f max=%.0f ms", q.N, ms(q.P50), ms(q.P95), ms(q.P99), ms(q.Max))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// window is how long after a break an owner may become undecided by it.
const window = 10 * time.Second

// analyse finds, for every kill and every client of its shard, how long the client had to wait for an acknowledgement around the kill.
func analyse(h drillHistory, kills []kill, undecided map[string][]time.Time) DrillResult {
	result := DrillResult{Kills: len(kills)}
	var gaps, late []time.Duration
	for _, k := range kills {
		others, blocked := h.around(k, undecided)
		gaps = append(gaps, durations(others)...)
		if len(others) == 0 {
			continue
		}
		first := quantiles(ends(others, k.At)).P50
		for _, g := range blocked {
			late = append(late, max(0, g.end.Sub(k.At)-first))
		}
	}
	for _, writes := range h {
		result.Writes += len(writes)
	}
	result.Gaps, result.Undecided = quantiles(gaps), quantiles(late)
	return result
}

// gap is the time in which a client got no acknowledgement.
type gap struct{ begin, end time.Time }

func durations(gaps []gap) []time.Duration {
	all := make([]time.Duration, len(gaps))
	for i, g := range gaps {
		all[i] = g.end.Sub(g.begin)
	}
	return all
}

func ends(gaps []gap, since time.Time) []time.Duration {
	all := make([]time.Duration, len(gaps))
	for i, g := range gaps {
		all[i] = g.end.Sub(since)
	}
	return all
}

// around returns the longest gap of each client whose owner lives on the broken shard, those of undecided owners apart.
func (h drillHistory) around(k kill, undecided map[string][]time.Time) (others, blocked []gap) {
	for owner, writes := range h {
		if k.owners != nil && !k.owners[owner] {
			continue
		}
		g, ok := longest(writes, k)
		if !ok {
			continue
		}
		wasBlocked := slices.ContainsFunc(undecided[owner], func(at time.Time) bool { return at.After(k.At) && at.Sub(k.At) < window })
		if wasBlocked {
			blocked = append(blocked, g)
		} else {
			others = append(others, g)
		}
	}
	return others, blocked
}

// longest is the longest write of a client that was under way in the outage. What a client pauses by himself is not counted.
func longest(writes []write, k kill) (longest gap, ok bool) {
	for _, w := range writes {
		if w.Error == "" && w.spans(k) && w.To.Sub(w.From) > longest.end.Sub(longest.begin) {
			longest, ok = gap{w.From, w.To}, true
		}
	}
	return longest, ok
}

// stored is an operation as a node has it.
type stored struct{ owner, key string }

// compare reads all operations and lots of the drill's owners from every node.
func (r *DrillResult) compare(ctx context.Context, target DrillTarget, h drillHistory) error {
	m, err := readMap(ctx, target)
	if err != nil {
		return err
	}
	for _, s := range m.Shards {
		record, err := readRecord(ctx, target.Register, s.Number)
		if err != nil {
			return err
		}
		if err := r.compareShard(ctx, target, h, h.ownersOf(m, s.Number), record); err != nil {
			return fmt.Errorf("shard %d: %w", s.Number, err)
		}
	}
	return nil
}

func readMap(ctx context.Context, target DrillTarget) (shard.Map, error) {
	entry, err := target.Register.Get(ctx, shard.MapKey)
	if err != nil {
		return shard.Map{}, fmt.Errorf("read the shard map: %w", err)
	}
	return shard.DecodeMap(entry.Value)
}

func (r *DrillResult) compareShard(ctx context.Context, target DrillTarget, h drillHistory, owners []string, record failover.Record) error {
	primary, err := readNode(ctx, target.DSN(record.Primary))
	if err != nil {
		return fmt.Errorf("%s: %w", record.Primary, err)
	}
	r.compareOwners(h, owners, primary)
	for _, name := range slices.Sorted(maps.Keys(record.Nodes)) {
		if name == record.Primary {
			continue
		}
		if err := r.compareNode(ctx, target.DSN(record.Primary), target.DSN(name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (r *DrillResult) compareOwners(h drillHistory, owners []string, n node) {
	known := map[stored]bool{}
	for _, owner := range owners {
		refs := map[string]bool{}
		for _, w := range h[owner] {
			known[stored{owner, w.Key}] = true
			verdict, there := n.operations[stored{owner, w.Key}]
			lot, credited := n.lots[stored{owner, w.Ref}]
			switch {
			case w.Error == "" && (!there || verdict != "DONE" || !credited):
				r.Lost++
			case w.Error == "" && lot != 1:
				r.Duplicated++
			case w.Error != "" && verdict != "DONE" && credited:
				r.Contradicts++
			}
			refs[w.Ref] = true
		}
		for s := range n.lots {
			if s.owner == owner && !refs[s.key] {
				r.Dirty++
			}
		}
	}
	for s := range n.operations {
		if _, ours := h[s.owner]; ours && !known[s] {
			r.Dirty++
		}
	}
}

// compareNode waits a moment for a replica to apply what it has; then it must have what the primary has.
func (r *DrillResult) compareNode(ctx context.Context, primary, node string) error {
	for attempt := 0; ; attempt++ {
		differing, err := whole.Differing(ctx, primary, node)
		if err != nil || len(differing) == 0 {
			return err
		}
		if attempt == compareAttempts {
			r.Dirty++
			return nil
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

const compareAttempts = 20

// node is what a node has.
type node struct {
	operations map[stored]string // verdicts
	lots       map[stored]int    // by reference
}

func readNode(ctx context.Context, dsn string) (n node, err error) {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return n, err
	}
	defer db.Close()
	n = node{operations: map[stored]string{}, lots: map[stored]int{}}
	err = each(ctx, db, "SELECT owner, op_key, verdict FROM operations WHERE owner LIKE 'drill-%'", func(owner, key, verdict string) {
		n.operations[stored{owner, key}] = verdict
	})
	return n, errors.Join(err, each(ctx, db, "SELECT owner, issue_ref, source FROM lots WHERE owner LIKE 'drill-%'",
		func(owner, ref, _ string) { n.lots[stored{owner, ref}]++ }))
}

func each(ctx context.Context, db *sql.DB, query string, f func(a, b, c string)) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a, b, c string
		if err := rows.Scan(&a, &b, &c); err != nil {
			return err
		}
		f(a, b, c)
	}
	return rows.Err()
}

// printSteps shows where the time of the failovers went: when each kind of step began and how long it took, in the median.
func printSteps(out io.Writer, journals []failover.Journal, kills []kill) {
	type times struct{ from, took []time.Duration }
	steps := map[failover.Kind]*times{}
	var order []failover.Kind
	var decided, served []time.Duration
	for _, j := range journals {
		for _, k := range kills {
			if k.Shard == j.Shard && k.Epoch == j.Epoch {
				decided, served = append(decided, j.DecidedAt.Sub(k.At)), append(served, j.ServingAt.Sub(k.At))
			}
		}
		for _, s := range j.Steps {
			if steps[s.Kind] == nil {
				steps[s.Kind] = &times{}
				order = append(order, s.Kind)
			}
			steps[s.Kind].from = append(steps[s.Kind].from, milliseconds(s.FromMS))
			steps[s.Kind].took = append(steps[s.Kind].took, milliseconds(s.TookMS))
		}
	}
	fmt.Fprintf(out, "\nfrom the break to the decision: %s\nfrom the break to SERVING:      %s\n", quantiles(decided), quantiles(served))
	fmt.Fprintf(out, "%-14s %5s %14s %14s %10s   ms\n", "step", "n", "begins, median", "takes, median", "takes, max")
	for _, kind := range order {
		from, took := quantiles(steps[kind].from), quantiles(steps[kind].took)
		fmt.Fprintf(out, "%-14s %5d %14.1f %14.1f %10.1f\n", kind, took.N, ms(from.P50), ms(took.P50), ms(took.Max))
	}
}

func milliseconds(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }
