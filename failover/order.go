package failover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// Order is what a person wants done with a shard. The leading controller carries it out and removes it in the same
// transaction; an order that cannot be carried out yet waits.
type Order struct {
	Kind   OrderKind `json:"kind"`
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Node   string    `json:"node,omitempty"` // of OrderRebuild
}

// OrderKind is what an order wants.
type OrderKind string

// The orders.
const (
	OrderSwitchover OrderKind = "switchover" // another node becomes the primary, without an error for anybody
	OrderSuspend    OrderKind = "suspend"    // no automatic failover
	OrderResume     OrderKind = "resume"     // automatic failover again
	OrderRebuild    OrderKind = "rebuild"    // the data of a node are replaced by a copy of another one's
)

// ErrOrderStands says that an earlier order for the shard waits to be carried out.
var ErrOrderStands = errors.New("an earlier order for this shard has not been carried out yet")

// Give leaves an order for the leading controller.
func Give(ctx context.Context, reg register.Register, number int, o Order) error {
	switch o.Kind {
	case OrderSwitchover, OrderSuspend, OrderResume, OrderRebuild:
	default:
		return fmt.Errorf("no such order: %q", o.Kind)
	}
	value, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if _, err := register.Create(ctx, reg, orderKey(number), value); errors.Is(err, register.ErrConflict) {
		return ErrOrderStands
	} else if err != nil {
		return fmt.Errorf("give an order for shard %d: %w", number, err)
	}
	return nil
}

// obey returns the action that carries out an order, if it can be now.
func (s *State) obey() []Action {
	r := &s.Record
	why := fmt.Sprintf("%s, ordered by %s: %s", s.Order.Kind, s.Order.By, s.Order.Reason)
	switch {
	case s.Order.Kind == OrderSuspend:
		return []Action{{Kind: Suspend, Why: why}}
	case s.Order.Kind == OrderResume && s.asked(r.Primary):
		return []Action{{Kind: Resume, Why: why}}
	case s.Order.Kind == OrderSwitchover && s.answers(r.Primary, r.PrimaryStart) && s.anyMember(s.isReady):
		return []Action{{Kind: SwitchOver, Node: r.Primary, Why: why}}
	case s.Order.Kind == OrderRebuild:
		return s.obeyRebuild(why)
	}
	return nil
}

// asked says that a probe of the node has ended, in whatever way: a controller that has just begun to lead does not know yet what the
// primary has counted.
func (s *State) asked(node string) bool {
	seen := s.Seen[node]
	return s.fresh(node) || !seen.FailingAt.IsZero()
}

// isReady says that a member could take over at once.
func (s *State) isReady(node string) bool {
	seen := s.Seen[node]
	return s.answers(node, s.Record.InSync[node]) && s.attached(seen) && s.caughtUp(seen)
}

// switchOver makes the record one of a planned failover: nobody is killed, and instances end what they have begun.
func (r *Record) switchOver(run string) {
	r.decide(run, true)
	r.Planned = true
}

// nextPlanned is what comes before F3 when the primary is alive and willing: instances end their batches, the primary takes no more
// writes, and its replicas have received all. It is false when F3 may begin.
func (s *State) nextPlanned() ([]Action, bool) {
	switch {
	case !s.Record.Planned || s.Run.Quiesced:
		return nil, false
	case s.leased():
		return nil, true
	case s.Now.Sub(s.Run.DecidedAt) > planMax || s.suspicion() != "":
		return []Action{{Kind: Decide, Node: s.Record.Primary, Why: "the planned switchover did not succeed, so the primary is given up"}}, true
	}
	return []Action{{Kind: Quiesce, Node: s.Record.Primary}}, true
}

// planMax is how long a primary may take to become read-only and empty before it is given up like a dead one.
const planMax = 2 * time.Second

// quiesce makes the old primary read-only and waits until the others have received everything it has.
func (l *loop) quiesce(ctx context.Context, r Record) error {
	primary := l.node(r.Primary)
	if err := primary.Claim(ctx, r.Epoch, l.cfg.holder()); err != nil { // the same who will make it a replica
		return err
	}
	if err := primary.ReadOnly(ctx, r.Epoch); err != nil {
		return err
	}
	if err := primary.DisconnectIdle(ctx, r.Epoch); err != nil {
		return err
	}
	status, err := primary.Probe(ctx)
	if err != nil {
		return err
	}
	for other := range r.InSync {
		if err := l.awaitReceived(ctx, other, r, status.Executed); err != nil {
			return err
		}
	}
	return nil
}

// done removes an order that is carried out; there is none if nobody has ordered anything.
func (o Order) done(number int) []register.Op {
	if o.Kind == "" {
		return nil
	}
	return []register.Op{{Key: orderKey(number), Delete: true}}
}

func orderKey(number int) string {
	return ordersPrefix + shard.RecordKey(number)[len(shard.RecordPrefix):]
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

const catchUpPause = 5 * time.Millisecond
