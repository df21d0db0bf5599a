package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// TortureTarget is a running cluster as torture needs it.
type TortureTarget struct {
	Instances []string // URLs of two
	Token     string   // of a key that may do everything
	Register  register.Register
	Shards    []instance.Shard
	Breaks    []PrimaryBreak
	DSN       func(node string) string // for reading the tables of a node
	Restart   func(instance int, outage time.Duration) error
	Logs      []string // files of the instances
}

// PrimaryBreak is a way to break a primary. What Break returns repairs it; nil: it repairs itself.
type PrimaryBreak struct {
	Name  string
	Break func(ctx context.Context, shard int, node string) (repair func() error, err error)
}

var errTwoInstances = fmt.Errorf("the cluster must have %d instances", tortureInstances)

// TortureCluster is Torture on a cluster, where what breaks are primaries and instances, so that shards fail over in the middle of
// everything.
func TortureCluster(ctx context.Context, out io.Writer, target TortureTarget, o TortureOptions) (TortureResult, error) {
	return torture(ctx, out, o, &tortureCluster{target})
}

// tortureCluster is a cluster that somebody else has started.
type tortureCluster struct{ TortureTarget }

func (s *tortureCluster) start(_ context.Context, load *tortureLoad) error {
	if len(s.Instances) != tortureInstances {
		return errTwoInstances
	}
	load.token = s.Token
	for i, url := range s.Instances {
		load.address[i].Store(url)
	}
	return nil
}

func (s *tortureCluster) faults() []tortureFault {
	faults := []tortureFault{{"an instance is killed", s.instanceKilled}}
	for _, b := range s.Breaks {
		faults = append(
			faults,
			tortureFault{b.Name + " of a primary", func(ctx context.Context, dice *rand.Rand) error { return s.primaryBroken(ctx, dice, b) }},
			tortureFault{b.Name + " of all primaries", func(ctx context.Context, _ *rand.Rand) error { return s.primariesBroken(ctx, b) }},
		)
	}
	return append(faults, tortureFault{"an instance and a primary are killed", func(ctx context.Context, dice *rand.Rand) error {
		return errors.Join(s.instanceKilled(ctx, dice), s.primaryBroken(ctx, dice, s.Breaks[0]))
	}})
}

func (s *tortureCluster) instanceKilled(_ context.Context, dice *rand.Rand) error {
	return s.Restart(dice.IntN(tortureInstances), outage(dice))
}

func (s *tortureCluster) primaryBroken(ctx context.Context, dice *rand.Rand, b PrimaryBreak) error {
	shards, err := shardNumbers(ctx, s.Register)
	if err != nil {
		return err
	}
	_, err = breakOne(ctx, s.drill(b), shards[dice.IntN(len(shards))])
	return err
}

func (s *tortureCluster) primariesBroken(ctx context.Context, b PrimaryBreak) error {
	shards, err := shardNumbers(ctx, s.Register)
	if err != nil {
		return err
	}
	_, err = breakShards(ctx, s.drill(b), shards)
	return err
}

func (s *tortureCluster) drill(b PrimaryBreak) DrillTarget {
	return DrillTarget{Register: s.Register, Break: b.Break}
}

func (s *tortureCluster) whole(ctx context.Context) error { return awaitAll(ctx, s.Register) }

func (s *tortureCluster) books(ctx context.Context, f func(db *sql.DB, schema string) error) error {
	shards, err := shardNumbers(ctx, s.Register)
	if err != nil {
		return err
	}
	for _, number := range shards {
		record, err := readRecord(ctx, s.Register, number)
		if err != nil {
			return err
		}
		db, err := sql.Open("mysql", s.DSN(record.Primary))
		if err != nil {
			return err
		}
		if err := errors.Join(f(db, failover.DefaultSchema), db.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (s *tortureCluster) audit(ctx context.Context, each func(ledger.Drift)) (ledger.AuditPass, error) {
	return instance.Audit(ctx, instance.Config{
		Name: "audit", Register: s.Register, Shards: s.Shards, ReadLease: shard.ReadLease, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}, 0, each)
}

func (s *tortureCluster) logs() ([]string, error) { return s.Logs, nil }

// close leaves the cluster to those who have started it.
func (s *tortureCluster) close() error { return nil }
