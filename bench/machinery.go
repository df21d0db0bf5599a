package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/internal/instance"
)

// MachineryTarget is a running cluster, and the way to run instances beside its machinery.
type MachineryTarget struct {
	Program string
	Folder  string // for the plain instances
	With    DrillTarget
	// Shards are the primaries of the cluster, with an account that may migrate, and App the same with that of instances.
	Shards, App []instance.Shard
	Processes   map[string]int              // whose CPU time is of interest
	Sleep, Wake func(context.Context) error // of the machinery: register, controllers and the instances that use them
}

// MachineryOptions are the shape of the comparison.
type MachineryOptions struct {
	Rounds  int
	Seconds int
	Writers int
}

// Machinery compares the throughput of instances with everything that a failover needs (register, controllers, leases, sessions) with that
// of instances with a register in a file and nothing else, on the same shards, in turns. It returns the ratio of the medians.
func Machinery(ctx context.Context, out io.Writer, t MachineryTarget, o MachineryOptions) (ratio float64, err error) {
	plain, stop, err := startPlain(ctx, t)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var with, without []float64
	for i := range o.Rounds {
		rate, err := writesPerSecond(ctx, out, "with", t.With, o, t.Processes)
		if err != nil {
			return 0, err
		}
		with = append(with, rate)
		if err := t.Sleep(ctx); err != nil {
			return 0, err
		}
		rate, err = writesPerSecond(ctx, out, "without", plain, o, t.Processes)
		if err = errors.Join(err, t.Wake(ctx)); err != nil {
			return 0, err
		}
		without = append(without, rate)
		fmt.Fprintf(out, "round %d of %d: %.0f with, %.0f without, per second\n", i+1, o.Rounds, with[i], without[i])
	}
	return median(with) / median(without), nil
}

func median(list []float64) float64 {
	slices.Sort(list)
	middle := len(list) / 2
	if len(list)%2 == 0 {
		return (list[middle-1] + list[middle]) / 2
	}
	return list[middle]
}

// startPlain starts as many instances as the cluster has, with a register in a file.
func startPlain(ctx context.Context, t MachineryTarget) (target DrillTarget, stop func() error, err error) {
	c := &cluster{folder: t.Folder, shards: t.Shards}
	if err := c.bootstrap(ctx); err != nil {
		return target, nil, err
	}
	c.shards = t.App
	config, err := c.writeConfig()
	if err != nil {
		return target, nil, err
	}
	var children []*child
	stop = func() error {
		var errs []error
		for _, one := range children {
			errs = append(errs, one.stop())
		}
		return errors.Join(errs...)
	}
	if target.Token, err = c.firstKey(ctx); err != nil {
		return target, nil, err
	}
	for i := range t.With.Instances {
		name := fmt.Sprintf("plain-%d", i+1)
		one, err := startChild(ctx, t.Program, t.Folder, name, func(address string) []string {
			return []string{"serve", "--config", config, "--listen", address, "--instance", name, "--drain_delay", "0s"}
		}, nil)
		if err != nil {
			return target, nil, errors.Join(err, stop())
		}
		children = append(children, one)
		t.Processes[name] = one.process.PID()
		target.Instances = append(target.Instances, "http://"+one.address())
	}
	return target, stop, nil
}

// writesPerSecond loads a target for a while, after a moment to warm up, and says which processes used the processors.
func writesPerSecond(ctx context.Context, out io.Writer, name string, t DrillTarget, o MachineryOptions, processes map[string]int,
) (float64, error) {
	load, err := newDrillLoad(t, DrillOptions{Writers: o.Writers})
	if err != nil {
		return 0, err
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	load.start(loading, &group)
	begin := time.Now().Add(warmupSeconds * time.Second)
	end := begin.Add(time.Duration(o.Seconds) * time.Second)
	used := cpuBetween(ctx, begin, end, processes)
	stop()
	if err := group.Wait(); err != nil {
		return 0, err
	}
	done := 0
	for _, writes := range load.history() {
		for _, w := range writes {
			if w.Error != "" {
				return 0, fmt.Errorf("a write %s the machinery: %s", name, w.Error)
			}
			if w.To.After(begin) && w.To.Before(end) {
				done++
			}
		}
	}
	fmt.Fprintf(out, "  %-8s CPU µs per write:", name)
	for _, process := range slices.Sorted(maps.Keys(used)) {
		fmt.Fprintf(out, " %s %.0f", process, float64(used[process].Microseconds())/float64(max(done, 1)))
	}
	fmt.Fprintln(out)
	return float64(done) / float64(o.Seconds), nil
}
