package failover

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	refusePatience   = 2 * time.Second
	journalsKept     = 100
)

// do runs one action and returns the fact that it leaves.
func (l *loop) do(ctx context.Context, a Action, s State, rev int64) (func(*Run), error) {
	r := s.Record
	if a.writesRecord() {
		return l.doRecord(ctx, a, s, rev)
	}
	node := l.node(a.Node)
	var err error
	if a.Kind == Promote || a.Kind == Point {
		r = s.ahead()
	}
	found := result{link: r.link(a.Node)}
	step := func(patience time.Duration, f func(context.Context) error) {
		err = l.spoken(ctx, patience, node, r, s.startOf(a.Node), f)
	}
	switch a.Kind {
	case Fence:
		found.fenced, err = within(ctx, fencePatience, func(ctx context.Context) (Fenced, error) {
			return node.Fence(ctx, r.Epoch, l.cfg.holder())
		})
	case Quiesce:
		err = bounded(ctx, planMax, func(ctx context.Context) error { return l.quiesce(ctx, r) })
	case Drain:
		step(drainPatience, func(ctx context.Context) error { return node.Drain(ctx, a.GTID) })
	case Promote:
		step(promotePatience, func(ctx context.Context) error { return l.promote(ctx, node, a, r) })
	case Point:
		err = bounded(ctx, drainPatience, func(ctx context.Context) error { return l.point(ctx, node, a.Node, r) })
	case Follow:
		err = bounded(ctx, promotePatience, func(ctx context.Context) error {
			_, joining := r.Joining[a.Node] // was heard too late for the choice, so it was told whom to follow but not let in
			if !joining && s.Run.Pointed[a.Node] == r.link(a.Node) && node.Start(ctx, r.Epoch, r.heard()[a.Node]) == nil {
				return nil
			}
			return l.follow(ctx, node, a.Node, r)
		})
	case Establish:
		step(ackPatience, func(ctx context.Context) error {
			found.noTx, err = establish(ctx, node, r.Epoch, s.Run.Fenced[a.Node].ServerID)
			return err
		})
	case Open:
		step(promotePatience, func(ctx context.Context) error { return node.Open(ctx, r.Epoch) })
	case Attach:
		err = bounded(ctx, promotePatience, func(ctx context.Context) error { return l.attach(ctx, node, a.Node, r) })
	case Renew:
		err = bounded(ctx, promotePatience, func(ctx context.Context) error { return l.renew(ctx, node, r, s.Seen[a.Node].StartID) })
	case Refuse:
		found.position, err = within(ctx, refusePatience, func(ctx context.Context) (GTID, error) { return l.refuse(ctx, a.Node, r) })
	default:
		err = fmt.Errorf("no such action: %q", a.Kind)
	}
	return a.fact(found), err
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

// doRecord makes the change of the record that an action is. The answer of the register to a decision is the beginning of the
// time that instances have to let go of the old epoch.
func (l *loop) doRecord(ctx context.Context, a Action, s State, rev int64) (func(*Run), error) {
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	r, err := s.change(a, rand.Text())
	if err != nil {
		return nil, err
	}
	var further []register.Op
	if s.carriesOut(a) {
		further = s.Order.done(l.number)
	}
	if a.Kind == Serve {
		if further, err = s.Run.Journal.ops(r, l.cfg.Now()); err != nil {
			return nil, err
		}
	}
	if err := l.write(ctx, l.number, rev, r, further...); err != nil || !a.begins() {
		return nil, err
	}
	now := l.cfg.Now()
	suspected := s.Seen[s.Record.Primary].FailingAt
	return func(run *Run) {
		*run = newRun(r.Run, now)
		run.Journal = newJournal(l.number, r, a.Why, suspected, now)
	}, nil
}

// promote is the candidate's part of F6. Only the members of the in-sync set may acknowledge to it.
func (l *loop) promote(ctx context.Context, node *Node, a Action, r Record) error {
	options := PromoteOptions{Applied: a.GTID}
	for _, name := range r.names() {
		if _, member := r.InSync[name]; member {
			options.AllowReplicas = append(options.AllowReplicas, name)
		} else {
			options.LockReplicas = append(options.LockReplicas, name)
		}
	}
	return node.Promote(ctx, r.Epoch, options)
}

// establish is F7. What the primary has counted as unacknowledged so far, no client was told of: a wait that was killed, for one. An
// older probe may not have seen it, and a tripwire would take it for news.
func establish(ctx context.Context, node *Node, epoch uint64, serverID uint32) (noTx uint64, err error) {
	if err := node.Establish(ctx, epoch, serverID); err != nil {
		return 0, err
	}
	status, err := within(ctx, fencePatience, node.Probe)
	return status.SemiSync.NoTx, err
}

// follow is the sibling's part of F6. A node that has joined meanwhile has to be let in first, and has made no promise yet.
func (l *loop) follow(ctx context.Context, node *Node, name string, r Record) error {
	if _, joining := r.Joining[name]; joining {
		if err := l.allow(ctx, name, r); err != nil {
			return err
		}
	}
	return l.lead(ctx, node, name, r)
}

// allow lets a node in at the primary. If the session with the primary is gone it is taken again, once: a lost answer must not keep
// everybody out.
func (l *loop) allow(ctx context.Context, name string, r Record) error {
	primary := l.node(r.Primary)
	err := primary.Allow(ctx, r.Epoch, name)
	if !errors.Is(err, ErrNotFenced) {
		return err
	}
	if _, err := l.speak(ctx, primary, r, r.PrimaryStart); err != nil {
		return err
	}
	return primary.Allow(ctx, r.Epoch, name)
}

// attach makes a node, which may be an old primary, a replica of the primary. It acknowledges from then on.
func (l *loop) attach(ctx context.Context, node *Node, name string, r Record) error {
	primary := l.node(r.Primary)
	if _, err := l.speak(ctx, primary, r, r.PrimaryStart); err != nil {
		return err
	}
	if err := primary.Allow(ctx, r.Epoch, name); err != nil {
		return err
	}
	return l.lead(ctx, node, name, r)
}

// renew makes the appliers of a node that nobody counts on begin again, at what they have applied.
func (l *loop) renew(ctx context.Context, node *Node, r Record, startID string) error {
	if _, err := l.speak(ctx, node, r, startID); err != nil {
		return err
	}
	return node.Renew(ctx, r.Epoch)
}

// point tells a sibling whom it will follow. It applies what it has before, because the candidate may still fail, and then it is the
// sibling that has everything.
func (l *loop) point(ctx context.Context, node *Node, name string, r Record) error {
	fenced, err := l.applied(ctx, node, name, r)
	if err != nil {
		return fmt.Errorf("apply what it has received, %s: %w", fenced.Received, err)
	}
	o := followOptions(r)
	o.Wait = true
	return node.Follow(ctx, r.Epoch, o)
}

// lead makes a node follow the record's primary. To follow throws away what was received and not applied, which may be
// all that is left of something acknowledged; while the shard serves, no floor tells what is missing then, so it is applied first.
func (l *loop) lead(ctx context.Context, node *Node, name string, r Record) error {
	o := followOptions(r)
	if o.Discard = r.Phase == shard.PhasePromoting; o.Discard {
		if _, err := l.speak(ctx, node, r, r.heard()[name]); err != nil {
			return err
		}
	} else if _, err := l.applied(ctx, node, name, r); err != nil {
		return err
	}
	return node.Follow(ctx, r.Epoch, o)
}

func followOptions(r Record) FollowOptions {
	return FollowOptions{Address: r.Nodes[r.Primary].Address, SemiSync: true, Demote: true, Relax: true}
}

// applied waits until a node that receives nothing any more has applied what it has.
func (l *loop) applied(ctx context.Context, node *Node, name string, r Record) (Fenced, error) {
	fenced, err := l.speak(ctx, node, r, r.heard()[name])
	if err != nil || fenced.Received.Compare(fenced.Executed) <= 0 {
		return fenced, err
	}
	return fenced, node.Drain(ctx, fenced.Received)
}

// speak takes the right to act on a node in the record's epoch, from an earlier self or an earlier leader. The process must be
// the one that the record means.
func (l *loop) speak(ctx context.Context, node *Node, r Record, startID string) (Fenced, error) {
	fenced, err := node.Fence(ctx, r.Epoch, l.cfg.holder())
	if err != nil {
		return fenced, fmt.Errorf("speak for epoch %d: %w", r.Epoch, err)
	}
	if fenced.StartID != startID {
		return fenced, fmt.Errorf("speak for epoch %d: the process is %q, the record means %q", r.Epoch, fenced.StartID, startID)
	}
	return fenced, nil
}

// spoken runs a step on the session that a fencing has left. If it fails the session may be gone, so it is taken again
// for the next attempt; that is not done before, as it takes a disk's time of the failover.
func (l *loop) spoken(ctx context.Context, patience time.Duration, node *Node, r Record, startID string,
	step func(context.Context) error,
) error {
	err := bounded(ctx, patience, step)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, bounded(ctx, fencePatience, func(ctx context.Context) error {
		_, err := l.speak(ctx, node, r, startID)
		return err
	}))
}

// refuse locks a node out at the primary. What the primary has after that is all that the node may have acknowledged.
func (l *loop) refuse(ctx context.Context, name string, r Record) (GTID, error) {
	primary := l.node(r.Primary)
	if _, err := l.speak(ctx, primary, r, r.PrimaryStart); err != nil {
		return GTID{}, err
	}
	if err := primary.Refuse(ctx, r.Epoch, name); err != nil {
		return GTID{}, err
	}
	status, err := primary.Probe(ctx)
	if err == nil && status.StartID != r.PrimaryStart {
		err = fmt.Errorf("the primary was restarted")
	}
	return status.Executed, err
}
