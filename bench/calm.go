package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/failover"
)

// CalmResult is what happened while nothing was broken.
type CalmResult struct {
	Failovers int // whoever failed over did so for nothing
	Writes    int
	Failed    int // writes that were not acknowledged
	Latency   Quantiles
	Elapsed   time.Duration
}

// Calm writes to a cluster without a pause for as long as it is told to, breaks nothing, and counts the failovers: each was false.
func Calm(ctx context.Context, out io.Writer, target DrillTarget, writers int, duration time.Duration) (CalmResult, error) {
	if err := awaitAll(ctx, target.Register); err != nil {
		return CalmResult{}, err
	}
	before, err := epochs(ctx, target)
	if err != nil {
		return CalmResult{}, err
	}
	load, err := newDrillLoad(target, DrillOptions{Writers: writers})
	if err != nil {
		return CalmResult{}, err
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	began := time.Now()
	load.start(loading, &group)
	err = calmDown(ctx, out, target, began, duration)
	stop()
	result := CalmResult{Elapsed: time.Since(began)}
	if err = errors.Join(err, group.Wait()); err != nil {
		return result, err
	}
	after, err := epochs(ctx, target)
	if err != nil {
		return result, err
	}
	for number, epoch := range after {
		result.Failovers += int(epoch - before[number])
	}
	result.count(load)
	return result, nil
}

// calmDown waits, and says once a minute that it still does.
func calmDown(ctx context.Context, out io.Writer, target DrillTarget, began time.Time, duration time.Duration) error {
	for left := duration; left > 0; left = duration - time.Since(began) {
		if err := pause(ctx, min(left, time.Minute)); err != nil {
			return err
		}
		now, err := epochs(ctx, target)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s of %s, epochs %v\n", time.Since(began).Round(time.Second), duration, now)
	}
	return nil
}

// epochs are those of all shards.
func epochs(ctx context.Context, target DrillTarget) (map[int]uint64, error) {
	shards, err := shardNumbers(ctx, target.Register)
	if err != nil {
		return nil, err
	}
	all := map[int]uint64{}
	for _, number := range shards {
		r, err := awaitRecord(ctx, target.Register, number, recoverPatience, func(failover.Record) bool { return true })
		if err != nil {
			return nil, err
		}
		all[number] = r.Epoch
	}
	return all, nil
}

func (r *CalmResult) count(load *drillLoad) {
	var took []time.Duration
	for _, w := range load.writers {
		for _, one := range w.writes {
			if one.Error != "" {
				r.Failed++
				continue
			}
			took = append(took, one.To.Sub(one.From))
		}
	}
	r.Writes, r.Latency = len(took), quantiles(took)
}
