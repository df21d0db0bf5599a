package failover

import "context"

type (
	Node           struct{}
	PromoteOptions struct {
		Position                    GTID
		AllowReplicas, LockReplicas []string
	}
	FollowOptions struct {
		Address                 string
		SemiSync, Demote, Relax bool
	}
)

func (*Node) Probe(context.Context) (Status, error)                 { return Status{}, nil }
func (*Node) Beat(context.Context, string) error                    { return nil }
func (*Node) Fence(context.Context, uint64, string) (Fenced, error) { return Fenced{}, nil }
func (*Node) Drain(context.Context, GTID) error                     { return nil }
func (*Node) Promote(context.Context, PromoteOptions) error         { return nil }
func (*Node) Follow(context.Context, FollowOptions) error           { return nil }
func (*Node) Establish(context.Context, uint64, uint32) error       { return nil }
func (*Node) Open(context.Context) error                            { return nil }
func (*Node) Allow(context.Context, string) error                   { return nil }
func (*Node) Refuse(context.Context, string) error                  { return nil }
func (*Node) Close() error                                          { return nil }
func (*Node) Claim(context.Context, uint64, string) error           { return nil }
func (*Node) ReadOnly(context.Context, uint64) error                { return nil }
func (*Node) DisconnectIdle(context.Context, uint64) error          { return nil }
