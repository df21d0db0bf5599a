package apitest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// Replicate writes into the register what controllers and agents would say of a shard with a primary db-1, which is the shard's one
// database if it has one, a replica db-2 in sync, db-3 that joins, db-4 that is out, and one failover in its past. Nobody carries out
// orders. A shard that is not in the map gets a record all the same, and nothing else.
func (s *Service) Replicate(ctx context.Context, number int, at time.Time) error {
	address := "db-1:3306"
	if entry, err := s.reg.Get(ctx, shard.RecordKey(number)); err == nil {
		old, err := shard.DecodeRecord(entry.Value)
		if err != nil {
			return err
		}
		address = old.Nodes[old.Primary].Address
	}
	record := failover.Record{
		Record: shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: "db-1", Nodes: map[string]shard.Node{
			"db-1": {Address: address}, "db-2": {Address: "db-2:3306"}, "db-3": {Address: "db-3:3306"}, "db-4": {Address: "db-4:3306"},
		}},
		PrimaryStart: "b1:10:1", InSync: map[string]string{"db-2": "b2:20:1"}, Joining: map[string]string{"db-3": "b3:30:2"},
	}
	host := failover.Host{
		Shard: number, Address: "db-2:3306", Zone: "z2", StartID: "b2:20:1", BootID: "b2", Doing: "running", Free: 1 << 30, At: at,
	}
	journal := failover.Journal{
		Shard: number, Epoch: 1, From: "db-2", To: "db-1", Why: "its process has ended", DecidedAt: at, ServingAt: at.Add(180 * time.Millisecond),
		Steps: []failover.Step{
			{Kind: failover.Fence, Node: "db-3", FromMS: 1.5, TookMS: 20, Error: "refused"}, {Kind: failover.Serve, FromMS: 170, TookMS: 10},
		},
	}
	if err := s.putRecord(ctx, number, &record); err != nil {
		return err
	}
	if err := s.put(ctx, "hosts/db-2", host); err != nil {
		return err
	}
	return s.put(ctx, fmt.Sprintf("failovers/%d/%020d", number, 1), journal)
}

// Externalise writes the record of a shard that another tool fails over, with a single node at an address.
func (s *Service) Externalise(ctx context.Context, number int, address string) error {
	return s.putRecord(ctx, number, &failover.Record{External: true, Record: shard.Record{
		Epoch: 1, Phase: shard.PhaseServing, Primary: "db", Nodes: map[string]shard.Node{"db": {Address: address}},
	}})
}

func (s *Service) putRecord(ctx context.Context, number int, r *failover.Record) error {
	value, err := r.Encode()
	if err == nil {
		_, err = register.Put(ctx, s.reg, shard.RecordKey(number), value)
	}
	return err
}

func (s *Service) put(ctx context.Context, key string, value any) error {
	text, err := json.Marshal(value)
	if err == nil {
		_, err = register.Put(ctx, s.reg, key, text)
	}
	return err
}
