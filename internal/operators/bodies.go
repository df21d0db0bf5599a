package operators

import (
	"math"
	"time"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/failover"
)

func orderBody(o failover.Order) gen.ShardOrder {
	return gen.ShardOrder{Kind: string(o.Kind), Node: o.Node, Reason: o.Reason, By: o.By, At: o.At.UTC()}
}

func fenceBody(number int, r *failover.Record) gen.ShardFence {
	return gen.ShardFence{Shard: number, Epoch: int64(r.Epoch), Phase: string(r.Phase), Address: r.Nodes[r.Primary].Address}
}

func shardBody(r *failover.Record, hosts map[string]failover.Host, now time.Time) gen.Shard {
	body := gen.Shard{
		Epoch: int64(r.Epoch), Phase: string(r.Phase), Planned: r.Planned, Primary: r.Primary,
		Failover: string(r.Mode()), Stuck: r.Stuck, Suspended: r.Suspended,
	}
	if r.Floor != (failover.GTID{}) {
		body.FloorGtid = r.Floor.String()
	}
	for _, name := range r.NodeNames() {
		role, startID := r.RoleOf(name)
		node := gen.Node{Name: name, Address: r.Nodes[name].Address, Role: string(role), StartID: startID}
		if host, reported := hosts[name]; reported {
			node.Host = hostBody(&host, now)
		}
		if rebuild, ok := r.Rebuilds[name]; ok {
			node.Rebuild = rebuildBody(&rebuild)
		}
		body.Nodes = append(body.Nodes, node)
	}
	return body
}

func hostBody(h *failover.Host, now time.Time) gen.Host {
	return gen.Host{
		Running: h.StartID != "", StartID: h.StartID, BootID: h.BootID, Doing: h.Doing, Unfit: h.Unfit, Zone: h.Zone,
		FreeBytes:  int64(min(h.Free, math.MaxInt64)),
		ReportedAt: h.At.UTC(), ReportAgeMs: max(0, now.Sub(h.At).Milliseconds()),
	}
}

func rebuildBody(one *failover.Rebuild) gen.Rebuild {
	body := gen.Rebuild{
		State: "done", Donor: one.Donor, Why: one.Why, Error: one.Error, Attempts: one.Attempts,
		BeganAt: one.BeganAt.UTC(), EndedAt: one.EndedAt.UTC(),
	}
	switch {
	case one.Running():
		body.State = "running"
	case one.Error != "":
		body.State = "failed"
	}
	return body
}

func journalBody(j *failover.Journal) gen.Failover {
	body := gen.Failover{
		Shard: j.Shard, Epoch: int64(j.Epoch), From: j.From, To: j.To, Why: j.Why, Steps: make([]gen.FailoverStep, len(j.Steps)),
		SuspectedAt: j.SuspectedAt.UTC(), DecidedAt: j.DecidedAt.UTC(), ServingAt: j.ServingAt.UTC(),
	}
	began := j.SuspectedAt
	if began.IsZero() {
		began = j.DecidedAt
	}
	body.DurationMs = float64(j.ServingAt.Sub(began).Microseconds()) / 1000
	for i, step := range j.Steps {
		body.Steps[i] = gen.FailoverStep{
			Step: string(step.Kind), Node: step.Node, FromMs: step.FromMS, TookMs: step.TookMS, Error: step.Error,
		}
	}
	return body
}
