package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// DrillTarget is a running cluster as a drill needs it.
type DrillTarget struct {
	Instances []string // URLs
	Token     string   // of a key that may issue
	Register  register.Register
	// Break breaks the primary of a shard, and returns what repairs it; nil: it repairs itself.
	Break func(ctx context.Context, shard int, node string) (repair func() error, err error)
	// DSN is a data source name for reading the tables of a node, OperatorDSN one for changing its settings.
	DSN, OperatorDSN func(node string) string
}

// DrillOptions are the shape of a drill.
type DrillOptions struct {
	Kills    int
	Writers  int           // each with an owner of his own
	Pause    time.Duration // of a writer between two writes
	Settle   time.Duration // of load between a recovery and the next kill
	Folder   string        // for the raw history
	Together bool          // break the primaries of all shards at once, each time
	Strict   bool          // replicas sync each transaction, so they fall behind
}

// DrillResult is what a drill found.
type DrillResult struct {
	Kills       int
	Gaps        Quantiles // between two acknowledged writes of a client whose last write was decided
	Undecided   Quantiles // how much later clients of undecided owners went on
	Server      Quantiles // from the first failed probe or the decision to SERVING, as the journals say
	Writes      int
	Lost        int // acknowledged, and not there
	Duplicated  int // one key, more than one effect
	Contradicts int // one key, two answers
	Dirty       int // there, and nobody has sent it; or nodes that differ
}

// Drill breaks primaries under load, one shard after the other, and then compares what clients were told with what
// every node has.
func Drill(ctx context.Context, out io.Writer, target DrillTarget, options DrillOptions) (DrillResult, error) {
	load, err := newDrillLoad(target, options)
	if err != nil {
		return DrillResult{}, err
	}
	watch, err := watchUndecided(ctx, target.Register)
	if err != nil {
		return DrillResult{}, err
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	load.start(loading, &group)
	kills, err := breakAll(ctx, out, target, options)
	stop()
	err = errors.Join(err, group.Wait())
	watch.stop()
	if err != nil {
		return DrillResult{}, err
	}
	history := load.history()
	if err := history.place(ctx, target, kills); err != nil {
		return DrillResult{}, err
	}
	journals, err := failover.Journals(ctx, target.Register, 0, journalsMax, 0)
	if err != nil {
		return DrillResult{}, err
	}
	if err := history.save(options.Folder, kills, watch.owners, journals); err != nil {
		return DrillResult{}, err
	}
	printSteps(out, journals, kills)
	result := analyse(history, kills, watch.owners)
	if result.Gaps.N == 0 {
		return result, fmt.Errorf("no client got an acknowledgement around a break; see %s", options.Folder)
	}
	fmt.Fprintln(out, "comparing what clients were told with what the nodes have …")
	if err := awaitAll(ctx, target.Register); err != nil {
		return result, err
	}
	if result.Contradicts, err = load.replay(ctx, kills); err != nil {
		return result, err
	}
	return result, result.compare(ctx, target, history)
}

// kill is one break and what came of it.
type kill struct {
	Shard     int       `json:"shard"`
	Node      string    `json:"node"`
	Epoch     uint64    `json:"epoch"` // of the shard afterwards
	At        time.Time `json:"at"`
	ServingAt time.Time `json:"serving_at"`

	owners map[string]bool // of the shard; nil: all
}

const (
	recoverPatience = time.Minute
	joinPatience    = 2 * time.Minute
	drillPoll       = 5 * time.Millisecond
	journalsMax     = 100
)

func breakAll(ctx context.Context, out io.Writer, target DrillTarget, options DrillOptions) ([]kill, error) {
	shards, err := shardNumbers(ctx, target.Register)
	if err != nil {
		return nil, err
	}
	var kills []kill
	for i := range options.Kills {
		if err := awaitAll(ctx, target.Register); err != nil {
			return kills, err
		}
		if options.Strict {
			if err := beStrict(ctx, target, shards); err != nil {
				return kills, err
			}
		}
		if err := pause(ctx, options.Settle); err != nil {
			return kills, err
		}
		victims := []int{shards[i%len(shards)]}
		if options.Together {
			victims = shards
		}
		broken, err := breakShards(ctx, target, victims)
		if err != nil {
			return kills, fmt.Errorf("kill %d of %d: %w", i+1, options.Kills, err)
		}
		for _, k := range broken {
			fmt.Fprintf(out, "%3d of %d  shard %d  %s broken, epoch %d serves after %.0f ms\n", i+1, options.Kills, k.Shard, k.Node, k.Epoch,
				ms(k.ServingAt.Sub(k.At)))
		}
		kills = append(kills, broken...)
		if err := pause(ctx, options.Settle); err != nil {
			return kills, err
		}
	}
	return kills, nil
}

// beStrict makes all replicas as durable as a primary, which controllers do not ask of them.
func beStrict(ctx context.Context, target DrillTarget, shards []int) error {
	for _, number := range shards {
		r, err := readRecord(ctx, target.Register, number)
		if err != nil {
			return err
		}
		for node := range r.InSync {
			db, err := sql.Open("mysql", target.OperatorDSN(node))
			if err != nil {
				return err
			}
			_, err = db.ExecContext(ctx, "SET GLOBAL sync_binlog=1, innodb_flush_log_at_trx_commit=1")
			if err = errors.Join(err, db.Close()); err != nil {
				return fmt.Errorf("make %s strict: %w", node, err)
			}
		}
	}
	return nil
}

// breakShards breaks the primaries of shards at the same time.
func breakShards(ctx context.Context, target DrillTarget, shards []int) ([]kill, error) {
	kills := make([]kill, len(shards))
	var group errgroup.Group
	for i, number := range shards {
		group.Go(func() (err error) {
			kills[i], err = breakOne(ctx, target, number)
			return err
		})
	}
	return kills, group.Wait()
}

func breakOne(ctx context.Context, target DrillTarget, number int) (kill, error) {
	before, err := readRecord(ctx, target.Register, number)
	if err != nil {
		return kill{}, err
	}
	k := kill{Shard: number, Node: before.Primary, At: time.Now()}
	repair, err := target.Break(ctx, number, before.Primary)
	if err != nil {
		return k, fmt.Errorf("break %s: %w", before.Primary, err)
	}
	after, err := awaitRecord(ctx, target.Register, number, recoverPatience, func(r failover.Record) bool {
		return r.Epoch > before.Epoch && r.Phase == shard.PhaseServing
	})
	k.ServingAt, k.Epoch = time.Now(), after.Epoch
	if repair != nil {
		err = errors.Join(err, repair())
	}
	return k, err
}

// awaitAll waits until every shard serves and all its replicas are in sync: a drill shows what one loss does.
func awaitAll(ctx context.Context, reg register.Register) error {
	shards, err := shardNumbers(ctx, reg)
	if err != nil {
		return err
	}
	for _, number := range shards {
		if _, err := awaitRecord(ctx, reg, number, joinPatience, func(r failover.Record) bool {
			return r.Phase == shard.PhaseServing && len(r.InSync) == len(r.Nodes)-1
		}); err != nil {
			return err
		}
	}
	return nil
}

func awaitRecord(ctx context.Context, reg register.Register, number int, patience time.Duration, good func(failover.Record) bool,
) (failover.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		r, err := readRecord(ctx, reg, number)
		if err == nil && good(r) {
			return r, nil
		}
		if pauseErr := pause(ctx, drillPoll); pauseErr != nil {
			return r, fmt.Errorf("shard %d did not get there in %s: epoch %d, %s, primary %s, in sync %v, joining %v, stuck %q, suspended %q: %w",
				number, patience, r.Epoch, r.Phase, r.Primary, r.InSync, r.Joining, r.Stuck, r.Suspended, errors.Join(err, pauseErr))
		}
	}
}

func readRecord(ctx context.Context, reg register.Register, number int) (failover.Record, error) {
	entry, err := reg.Get(ctx, shard.RecordKey(number))
	if err != nil {
		return failover.Record{}, err
	}
	return failover.DecodeRecord(entry.Value)
}

func shardNumbers(ctx context.Context, reg register.Register) ([]int, error) {
	entry, err := reg.Get(ctx, shard.MapKey)
	if err != nil {
		return nil, fmt.Errorf("read the shard map: %w", err)
	}
	m, err := shard.DecodeMap(entry.Value)
	if err != nil {
		return nil, err
	}
	numbers := make([]int, len(m.Shards))
	for i, s := range m.Shards {
		numbers[i] = s.Number
	}
	return numbers, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
