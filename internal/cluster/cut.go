package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/relay"
	"github.com/statesvc/statesvc/internal/scratch"
)

// ErrNoRelays says that nothing can be cut.
var ErrNoRelays = errors.New("this cluster was made without relays, so nothing can be cut; make one with `statesvc cluster up --relays`")

// relay is the process that all nodes are reached over; nil: there is none.
func (s *State) relay() *Process {
	if list := s.of(KindRelay); len(list) > 0 {
		return list[0]
	}
	return nil
}

// relayConfig says who is cut as well, so that a relay that was started again does not heal anybody.
func (s *State) relayConfig(p *Process) relay.Config {
	cfg := relay.Config{Control: p.Address}
	for _, agent := range s.of(KindAgent) {
		n := relay.Node{
			Name: agent.Node, Account: failover.ReplicaUser(agent.Node), Cut: agent.Cut,
			Database: relay.Link{Listen: agent.Address, Server: agent.Listen},
		}
		for i, member := range s.of(KindEtcd) {
			n.Register = append(n.Register, relay.Link{Listen: agent.Register[i], Server: member.Address})
		}
		cfg.Nodes = append(cfg.Nodes, n)
	}
	return cfg
}

// Cut cuts a node off from all others, its agent as well: nothing passes, and nobody is told.
func (s *State) Cut(ctx context.Context, node string) error { return s.setCut(ctx, node, true) }

// Heal undoes Cut.
func (s *State) Heal(ctx context.Context, node string) error { return s.setCut(ctx, node, false) }

// setCut writes down what is to be, and then has the relay do it: one that does not run does it when it is started.
func (s *State) setCut(ctx context.Context, node string, cut bool) error {
	if s.relay() == nil {
		return ErrNoRelays
	}
	turn, err := scratch.Lock(s.path(lockFile))
	if err != nil {
		return err
	}
	defer turn.Close()
	now, err := Load(s.folder) // what others have changed since
	if err != nil {
		return err
	}
	*s = *now
	agent, err := s.agentOf(node)
	if err != nil {
		return err
	}
	agent.Cut = cut
	if err := errors.Join(s.save(), s.configure()); err != nil || !s.relay().Running.Alive() {
		return err
	}
	if err := relay.Order(ctx, s.relay().Address, node, cut); err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	return nil
}

func (s *State) agentOf(node string) (*Process, error) {
	names := []string{}
	for _, p := range s.of(KindAgent) {
		if p.Node == node {
			return p, nil
		}
		names = append(names, p.Node)
	}
	return nil, fmt.Errorf("there is no node %q; there are %s", node, strings.Join(names, ", "))
}
