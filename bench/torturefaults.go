package bench

import (
	"context"
	"time"
)

const (
	cutMax        = 40_000 // bytes: somewhere in the next few batches
	tortureOutage = 1500 * time.Millisecond
)

// tortureFault breaks something and makes it whole again.
type tortureFault struct {
	name string
	play func(ctx context.Context, r *tortureRig) error
}

var tortureFaults = []tortureFault{
	{"connections are cut", playCut},
	{"connections are cut within a batch", playCutWithin},
	{"a database is killed", playDatabaseKilled},
	{"a database is paused", playDatabasePaused},
	{"a process is killed", playProcessKilled},
	{"a process is paused", playProcessPaused},
	{"a database and a process are killed", playBothKilled},
}

// anyWire is between some process and some shard.
func (r *tortureRig) anyWire() *wire {
	return r.wires[r.dice.IntN(tortureInstances)][r.dice.IntN(tortureShards)]
}

func (r *tortureRig) outage() time.Duration {
	return time.Duration(r.dice.Int64N(int64(tortureOutage)))
}

func playCut(ctx context.Context, r *tortureRig) error {
	for range 1 + r.dice.IntN(5) {
		r.anyWire().cut()
		sleepUntil(ctx, time.Now().Add(r.outage()/5))
	}
	return nil
}

func playCutWithin(ctx context.Context, r *tortureRig) error {
	for range 1 + r.dice.IntN(5) {
		r.anyWire().cutAfter(r.dice.Int64N(cutMax))
		sleepUntil(ctx, time.Now().Add(r.outage()/3))
	}
	return nil
}

func playDatabaseKilled(ctx context.Context, r *tortureRig) error {
	server := r.servers[r.dice.IntN(tortureShards)]
	if err := server.Kill(); err != nil {
		return err
	}
	sleepUntil(ctx, time.Now().Add(r.outage()))
	return server.Restart(ctx)
}

func playDatabasePaused(ctx context.Context, r *tortureRig) error {
	server := r.servers[r.dice.IntN(tortureShards)]
	if err := server.Pause(); err != nil {
		return err
	}
	sleepUntil(ctx, time.Now().Add(2*r.outage()))
	return server.Resume()
}

func playProcessKilled(ctx context.Context, r *tortureRig) error {
	i := r.dice.IntN(tortureInstances)
	if err := r.killInstance(i); err != nil {
		return err
	}
	sleepUntil(ctx, time.Now().Add(r.outage()))
	return r.startInstance(ctx, i)
}

func playProcessPaused(ctx context.Context, r *tortureRig) error {
	process := r.instances[r.dice.IntN(tortureInstances)].process
	if err := process.Pause(); err != nil {
		return err
	}
	sleepUntil(ctx, time.Now().Add(2*r.outage()))
	return process.Resume()
}

func playBothKilled(ctx context.Context, r *tortureRig) error {
	i := r.dice.IntN(tortureInstances)
	if err := r.killInstance(i); err != nil {
		return err
	}
	if err := playDatabaseKilled(ctx, r); err != nil {
		return err
	}
	return r.startInstance(ctx, i)
}

// killInstance ends a process at once, and gives its port back.
func (r *tortureRig) killInstance(i int) error {
	c := r.instances[i]
	r.instances[i] = nil
	if err := c.process.Kill(); err != nil {
		return err
	}
	return c.port.Close()
}
