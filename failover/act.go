package failover

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// Bounds of single steps. A step that is cut off is tried again, so they only have to be longer than what is normal.
const (
	registerPatience = 2 * time.Second
	fencePatience    = 3 * time.Second
	drainPatience    = time.Second
	promotePatience  = 5 * time.Second
	ackPatience      = time.Minute // an acknowledgement that does not come is waited for, as nothing else can be done
	dropPatience     = 5 * time.Second
	catchUpPause     = 5 * time.Millisecond
	journalsKept     = 100
)

// do runs one action and returns the fact that it leaves.
func (l *loop) do(ctx context.Context, a Action, s State, rev int64) (func(*Run), error) {
	r := s.Record
	if a.writesRecord() && a.Kind != Drop {
		return l.doRecord(ctx, a, s, rev)
	}
	node := l.node(a.Node, r.Nodes[a.Node].Address)
	switch a.Kind {
	case Fence:
		fenced, err := within(ctx, fencePatience, func(ctx context.Context) (Fenced, error) { return node.Fence(ctx, r.Epoch, r.Run) })
		return func(run *Run) { run.Fenced[a.Node] = fenced }, err
	case Quiesce:
		err := bounded(ctx, planMax, func(ctx context.Context) error { return l.quiesce(ctx, r) })
		return func(run *Run) { run.Quiesced = true }, err
	case Drain:
		err := bounded(ctx, drainPatience, func(ctx context.Context) error { return node.Drain(ctx, a.GTID) })
		return func(run *Run) { run.Drained[a.Node] = a.GTID }, err
	case Promote:
		err := bounded(ctx, promotePatience, func(ctx context.Context) error { return l.promote(ctx, node, a, r) })
		return func(run *Run) { run.Promoted = true }, err
	case Follow:
		err := bounded(ctx, promotePatience, func(ctx context.Context) error { return l.follow(ctx, node, r) })
		return func(run *Run) { run.Following[a.Node] = true }, err
	case Establish:
		err := bounded(ctx, ackPatience, func(ctx context.Context) error { return node.Establish(ctx, r.Epoch, s.Run.Fenced[a.Node].ServerID) })
		return func(run *Run) { run.Proved = true }, err
	case Open:
		err := bounded(ctx, promotePatience, node.Open)
		return func(run *Run) { run.Opened = true }, err
	case Attach:
		return nil, bounded(ctx, promotePatience, func(ctx context.Context) error { return l.attach(ctx, node, a.Node, r) })
	case Drop:
		return nil, bounded(ctx, dropPatience, func(ctx context.Context) error { return l.drop(ctx, a.Node, r, rev) })
	}
	return nil, fmt.Errorf("no such action: %q", a.Kind)
}

func bounded(ctx context.Context, patience time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f(ctx)
}

func within[T any](ctx context.Context, patience time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f(ctx)
}

// doRecord makes the change of the record that an action is.
func (l *loop) doRecord(ctx context.Context, a Action, s State, rev int64) (func(*Run), error) {
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	r := s.Record.Clone()
	var further []register.Op
	var fact func(*Run)
	switch a.Kind {
	case Decide, SwitchOver:
		return l.decide(ctx, a, s, rev)
	case Choose:
		r.choose(a.Node, a.GTID, &s.Run)
	case Serve:
		r.serve(&s)
		ops, err := s.Run.Journal.ops(r, l.cfg.Now())
		if err != nil {
			return nil, err
		}
		further = ops
	case OrderBoot:
		r.Boot = map[string]Boot{a.Node: BootPrimary}
		r.Stuck = a.Why
	case ReportStuck:
		r.Stuck = a.Why
	case Suspend:
		r.Suspended = a.Why
		further = s.Order.done(l.number)
	case Resume:
		r.Suspended, r.NoTx = "", s.Seen[r.Primary].NoTx
		further = s.Order.done(l.number)
	case Join:
		r.Joining = with(r.Joining, a.Node, s.Seen[a.Node].StartID)
	case Admit:
		delete(r.Joining, a.Node)
		r.InSync = with(r.InSync, a.Node, s.Seen[a.Node].StartID)
	default:
		return nil, fmt.Errorf("%q does not change the record", a.Kind)
	}
	return fact, l.write(ctx, l.number, rev, r, further...)
}

// decide is F1. The answer of the register is the beginning of the time that instances have to let go of the old epoch.
func (l *loop) decide(ctx context.Context, a Action, s State, rev int64) (func(*Run), error) {
	r := s.Record.Clone()
	var further []register.Op
	if a.Kind == SwitchOver {
		r.switchOver(rand.Text())
		further = s.Order.done(l.number)
	} else {
		r.decide(rand.Text(), s.Dead)
	}
	if err := l.write(ctx, l.number, rev, r, further...); err != nil {
		return nil, err
	}
	now := l.cfg.Now()
	suspected := s.Seen[s.Record.Primary].FailingAt
	return func(run *Run) {
		*run = newRun(r.Run, now)
		run.Journal = newJournal(l.number, r, a.Why, suspected, now)
	}, nil
}

func newRun(id string, at time.Time) Run {
	return Run{ID: id, DecidedAt: at, Fenced: map[string]Fenced{}, Drained: map[string]GTID{}, Following: map[string]bool{}}
}

func (r Run) clone() Run {
	r.Journal.Steps = slices.Clone(r.Journal.Steps)
	r.Fenced, r.Drained, r.Following = maps.Clone(r.Fenced), maps.Clone(r.Drained), maps.Clone(r.Following)
	return r
}

func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

// decide makes the record one of a failover that begins. A candidate that another controller was promoting has acknowledged
// nothing and has everything, so it may be elected like the others; if it is dead, the others do without it.
func (r *Record) decide(run string, dead map[string]bool) {
	if r.Phase == shard.PhasePromoting && r.PrimaryStart != "" && !dead[r.PrimaryStart] {
		r.InSync = with(r.InSync, r.Primary, r.PrimaryStart)
		r.PrimaryStart = "" // nobody is to be killed
	}
	r.Epoch++
	r.Phase, r.Run = shard.PhaseFencing, run
	r.Boot, r.Stuck, r.Planned = nil, "", false
}

// choose makes the record one of a promotion: what was heard of the others stays in sync with the candidate.
func (r *Record) choose(candidate string, position GTID, run *Run) {
	members := map[string]string{}
	for node, startID := range r.InSync {
		if fenced, ok := run.Fenced[node]; ok && node != candidate && fenced.StartID == startID && fenced.SQLErrno == 0 {
			members[node] = startID
		}
	}
	r.Phase, r.Primary, r.PrimaryStart = shard.PhasePromoting, candidate, run.Fenced[candidate].StartID
	r.InSync, r.Joining, r.Boot, r.Stuck, r.Floor, r.Planned = members, nil, nil, "", position, false
}

// serve ends a failover. A member that was not pointed at the new primary is not in sync with it.
func (r *Record) serve(s *State) {
	maps.DeleteFunc(r.InSync, func(node, _ string) bool { return !s.Run.Following[node] })
	r.Phase, r.Floor, r.Stuck, r.Boot = shard.PhaseServing, GTID{}, "", nil
	r.NoTx = s.Seen[r.Primary].NoTx
}

// promote is the candidate's part of F6. Only the members of the in-sync set may acknowledge to it.
func (l *loop) promote(ctx context.Context, node *Node, a Action, r Record) error {
	options := PromoteOptions{Position: a.GTID}
	for _, name := range r.names() {
		if _, member := r.InSync[name]; member {
			options.AllowReplicas = append(options.AllowReplicas, name)
		} else {
			options.LockReplicas = append(options.LockReplicas, name)
		}
	}
	return node.Promote(ctx, options)
}

// follow is the sibling's part of F6. A node that has joined meanwhile has to be let in first, and has made no promise yet.
func (l *loop) follow(ctx context.Context, node *Node, r Record) error {
	primary := l.node(r.Primary, r.Nodes[r.Primary].Address)
	for name := range r.Joining {
		if err := primary.Allow(ctx, name); err != nil {
			return err
		}
	}
	if _, err := node.Fence(ctx, r.Epoch, r.Run); err != nil {
		return err
	}
	return node.Follow(ctx, FollowOptions{Address: r.Nodes[r.Primary].Address, SemiSync: true, Relax: true})
}

// attach makes a node, which may be an old primary, a replica of the primary. It acknowledges from then on.
func (l *loop) attach(ctx context.Context, node *Node, name string, r Record) error {
	primary := l.node(r.Primary, r.Nodes[r.Primary].Address)
	if _, err := primary.Fence(ctx, r.Epoch, r.Run); err != nil {
		return fmt.Errorf("speak for the epoch at the primary: %w", err)
	}
	if err := primary.Allow(ctx, name); err != nil {
		return err
	}
	if _, err := node.Fence(ctx, r.Epoch, r.Run); err != nil {
		return err
	}
	return node.Follow(ctx, FollowOptions{Address: r.Nodes[r.Primary].Address, SemiSync: true, Demote: true, Relax: true})
}

// drop takes a node out of the possible ackers. It is out when it can acknowledge nothing any more and the others have
// received everything that it may have acknowledged.
func (l *loop) drop(ctx context.Context, name string, r Record, rev int64) error {
	primary := l.node(r.Primary, r.Nodes[r.Primary].Address)
	if _, err := primary.Fence(ctx, r.Epoch, r.Run); err != nil {
		return fmt.Errorf("speak for the epoch at the primary: %w", err)
	}
	if err := primary.Refuse(ctx, name); err != nil {
		return err
	}
	status, err := primary.Probe(ctx)
	if err != nil {
		return err
	}
	r = r.Clone()
	delete(r.InSync, name)
	delete(r.Joining, name)
	for other := range r.heard() {
		if err := l.awaitReceived(ctx, other, r, status.Executed); err != nil {
			return err
		}
	}
	return l.write(ctx, l.number, rev, r)
}

// awaitReceived waits until a node has received everything up to a position.
func (l *loop) awaitReceived(ctx context.Context, name string, r Record, position GTID) error {
	for {
		l.mu.Lock()
		seen := l.seen[name]
		l.mu.Unlock()
		if seen.StartID == r.heard()[name] && seen.Received.Compare(position) >= 0 {
			return nil
		}
		select {
		case <-time.After(catchUpPause):
		case <-ctx.Done():
			return fmt.Errorf("%s has received %s, not %s: %w", name, seen.Received, position, ctx.Err())
		}
	}
}
