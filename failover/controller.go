package failover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

const (
	mirrorRenew    = time.Second      // the watches tell at once; this bounds what a lost one costs
	instanceMemory = time.Second      // how long an instance counts after it has vanished from the register
	hostMemory     = 30 * time.Second // how long the last report of an agent counts after it has vanished from the register
	suspectMemory  = time.Second      // how long a suspicion counts; who still has it says so several times a second
)

// ControllerConfig is what a controller needs.
type ControllerConfig struct {
	Name string
	// Term is greater than that of every earlier leadership. A node that has heard of it obeys no earlier leader of the same epoch.
	Term uint64
	// Register is written by compare-and-set only, and every write must carry the guard of the leadership; what it returns
	// register.ErrDeposed for was not written.
	Register register.Register
	// Open returns a database as a controller talks to it.
	Open func(shard int, node, address string) (*Node, error)
	Now  func() time.Time
	Log  *slog.Logger
}

// Controller keeps the shards of a cluster writable for as long as it leads.
type Controller struct {
	cfg     ControllerConfig
	mirrors map[string]*register.Mirror // by prefix

	mu      sync.Mutex
	changed chan struct{}        // closed and replaced when a mirror changes
	present map[string]time.Time // instances, when they were last seen
	suspect map[string]suspect   // by key
	reports map[string]report    // by node: what its agent has said last
	leadsAt time.Time
}

// suspect is a suspicion as it came.
type suspect struct {
	rev int64
	at  time.Time
}

// report is what an agent has said last, and when that was still in the register.
type report struct {
	rev  int64
	host Host
	at   time.Time
}

// holder is how nodes know the leadership that a promise was made to. Its order as text is the order of the terms. The name is for
// people, and is cut off where the promise has no room for it.
func (c ControllerConfig) holder() string { return fmt.Sprintf("%020d %.43s", c.Term, c.Name) }

// NewController returns a controller. It does nothing before Lead.
func NewController(cfg ControllerConfig) *Controller {
	return &Controller{
		cfg: cfg, mirrors: map[string]*register.Mirror{}, changed: make(chan struct{}), present: map[string]time.Time{},
		suspect: map[string]suspect{}, reports: map[string]report{},
	}
}

// Lead works until ctx ends, which it must with the leadership. It returns when nothing of it runs any more.
func (c *Controller) Lead(ctx context.Context) error {
	defer c.closeMirrors()
	c.leadsAt = c.cfg.Now()
	for _, prefix := range []string{shard.RecordPrefix, deadPrefix, instancesPrefix, closedPrefix, suspectsPrefix, ordersPrefix, hostsPrefix} {
		mirror, err := register.OpenMirror(ctx, c.cfg.Register, register.MirrorOptions{
			Prefix: prefix, Now: c.cfg.Now, RenewEvery: mirrorRenew, Changed: func([]register.Event) { c.wake() },
		})
		if err != nil {
			return fmt.Errorf("follow %s: %w", prefix, err)
		}
		c.mirrors[prefix] = mirror
	}
	var loops sync.WaitGroup
	defer loops.Wait()
	running := map[int]bool{}
	for {
		changed := c.changes()
		for _, number := range c.shards() {
			if !running[number] {
				running[number] = true
				loops.Go(func() { newLoop(c, number).keep(ctx) })
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *Controller) closeMirrors() {
	for _, mirror := range c.mirrors {
		mirror.Close()
	}
}

// wake tells all loops that the register has changed.
func (c *Controller) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Controller) changes() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *Controller) shards() []int {
	var numbers []int
	for _, e := range c.mirrors[shard.RecordPrefix].Entries() {
		if n, err := strconv.Atoi(strings.TrimPrefix(e.Key, shard.RecordPrefix)); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// record returns the newest record of a shard that this controller knows of, and its revision.
func (c *Controller) record(number int) (Record, int64, error) {
	entry, ok := c.mirrors[shard.RecordPrefix].Get(shard.RecordKey(number))
	if !ok {
		return Record{}, 0, register.ErrNotFound
	}
	r, err := DecodeRecord(entry.Value)
	return r, entry.Rev, err
}

// write replaces the record if nobody else has, together with further operations.
func (c *Controller) write(ctx context.Context, number int, rev int64, r Record, further ...register.Op) error {
	value, err := r.Encode()
	if err != nil {
		return err
	}
	key := shard.RecordKey(number)
	then := append([]register.Op{{Key: key, Value: value}}, further...)
	written, err := c.cfg.Register.Txn(ctx, register.Txn{If: []register.Cond{{Key: key, Rev: rev}}, Then: then})
	if err != nil {
		// It may have happened all the same. The record says so when it is read again: it has our run.
		return errors.Join(fmt.Errorf("write the record of shard %d: %w", number, err), c.mirrors[shard.RecordPrefix].Renew(ctx))
	}
	c.mirrors[shard.RecordPrefix].Wrote(written, then[:1])
	return nil
}

// order is what a person wants done with a shard; what cannot be read is no order.
func (c *Controller) order(number int) (o Order) {
	if entry, ok := c.mirrors[ordersPrefix].Get(orderKey(number)); ok {
		_ = json.Unmarshal(entry.Value, &o)
	}
	return o
}

// hosts are what the agents of a shard's nodes say. The copy of the register is read first: it tells of its changes while it is locked, and
// whoever is told locks mu.
func (c *Controller) hosts(r *Record) map[string]Host {
	now, entries := c.cfg.Now(), map[string]register.Entry{}
	for node := range r.Nodes {
		if entry, ok := c.mirrors[hostsPrefix].Get(hostKey(node)); ok {
			entries[node] = entry
		}
	}
	found := map[string]Host{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for node := range r.Nodes {
		last := c.reports[node]
		if entry, ok := entries[node]; ok {
			if last.at = now; entry.Rev != last.rev {
				last.rev, last.host = entry.Rev, Host{}
				_ = json.Unmarshal(entry.Value, &last.host) // what cannot be read says nothing
			}
			c.reports[node] = last
		}
		if !last.at.IsZero() && now.Sub(last.at) <= hostMemory {
			found[node] = last.host
		}
	}
	return found
}

// suspected says whether an instance has lost the primary of an epoch just now. What it says stays in the register for as long as it
// lives, and a connection that was lost an hour ago is no evidence.
func (c *Controller) suspected(number int, epoch uint64) bool {
	now, prefix, lately := c.cfg.Now(), suspectsKeyPrefix(number, epoch), false
	entries := c.mirrors[suspectsPrefix].Entries()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		if !strings.HasPrefix(e.Key, prefix) {
			continue
		}
		if c.suspect[e.Key].rev != e.Rev {
			c.suspect[e.Key] = suspect{e.Rev, now}
		}
		lately = lately || now.Sub(c.suspect[e.Key].at) <= suspectMemory
	}
	return lately
}

// dead are the start ids of a shard whose processes have ended.
func (c *Controller) dead(number int) map[string]bool {
	dead := map[string]bool{}
	prefix := deadPrefix + strconv.Itoa(number) + "/"
	for _, e := range c.mirrors[deadPrefix].Entries() {
		if strings.HasPrefix(e.Key, prefix) {
			dead[lastPart(e.Key)] = true
		}
	}
	return dead
}

// holding are the instances that may still release reads of an epoch before the given one.
func (c *Controller) holding(number int, epoch uint64) []string {
	now, there := c.cfg.Now(), c.mirrors[instancesPrefix].Entries()
	c.mu.Lock()
	for _, e := range there {
		c.present[lastPart(e.Key)] = now
	}
	maps.DeleteFunc(c.present, func(_ string, at time.Time) bool { return now.Sub(at) > instanceMemory })
	names := slices.Sorted(maps.Keys(c.present))
	c.mu.Unlock()
	prefix := closedKeyPrefix(number, epoch)
	closed := map[string]bool{}
	for _, e := range c.mirrors[closedPrefix].Entries() {
		if strings.HasPrefix(e.Key, prefix) {
			closed[lastPart(e.Key)] = true
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return closed[name] })
	if now.Sub(c.leadsAt) <= instanceMemory {
		names = append(names, "any that vanished before this controller led")
	}
	return names
}
