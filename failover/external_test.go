package failover_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// TestNextLeavesExternalAlone: whatever the phase, a controller does nothing to a shard that another tool fails over.
func TestNextLeavesExternalAlone(t *testing.T) {
	t.Parallel()
	for _, phase := range []shard.Phase{shard.PhaseServing, shard.PhaseFencing, shard.PhasePromoting} {
		record := failover.Record{External: true, Run: "tool", Record: shard.Record{
			Epoch: 2, Phase: phase, Primary: "db", Nodes: map[string]shard.Node{"db": {Address: "db:3306"}},
		}}
		state := failover.State{Record: record, Order: failover.Order{Kind: failover.OrderSuspend}, Now: time.Now()}
		if actions := failover.Next(state); len(actions) > 0 {
			t.Errorf("%s: %+v", phase, actions)
		}
	}
}

// TestExternalIsNotTouched: its databases are another tool's, and may not even have the accounts that controllers use.
func TestExternalIsNotTouched(t *testing.T) {
	t.Parallel()
	reg := openRegister(t)
	record := failover.Record{External: true, Record: shard.Record{
		Epoch: 1, Phase: shard.PhaseServing, Primary: "db", Nodes: map[string]shard.Node{"db": {Address: "127.0.0.1:1"}},
	}}
	value, err := record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := register.Put(t.Context(), reg, shard.RecordKey(1), value); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	controller := failover.NewController(failover.ControllerConfig{
		Register: reg, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Open: func(int, string, string) (*failover.Node, error) {
			t.Error("it is opened")
			return nil, errors.New("not ours")
		},
	})
	if err := controller.Lead(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestMarkExternal: a shard with replicas that controllers look after is not given away.
func TestMarkExternal(t *testing.T) {
	t.Parallel()
	reg := openRegister(t)
	record := failover.Record{InSync: map[string]string{"b": "1"}, Record: shard.Record{
		Epoch: 1, Phase: shard.PhaseServing, Primary: "a", Nodes: map[string]shard.Node{"a": {Address: "a:1"}, "b": {Address: "b:1"}},
	}}
	value, err := record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := register.Put(t.Context(), reg, shard.RecordKey(1), value); err != nil {
		t.Fatal(err)
	}
	if err := failover.MarkExternal(t.Context(), reg, 1); err == nil {
		t.Error("it was given away")
	}
	if err := failover.MarkExternal(t.Context(), reg, 2); !errors.Is(err, register.ErrNotFound) {
		t.Errorf("a shard that is not there: %v", err)
	}
	if _, err := failover.BeginExternal(t.Context(), reg, 1, failover.Fencing{By: "x"}); !errors.Is(err, failover.ErrNotExternal) {
		t.Errorf("fenced by another tool: %v", err)
	}
}

// TestRoles: who may become the primary, and who looks after the shard.
func TestRoles(t *testing.T) {
	t.Parallel()
	record := failover.Record{
		PrimaryStart: "1", InSync: map[string]string{"b": "2"}, Joining: map[string]string{"c": "3"},
		Record: shard.Record{Primary: "a", Nodes: map[string]shard.Node{"a": {}, "b": {}, "c": {}, "d": {}}},
	}
	var got []string
	for _, node := range record.NodeNames() {
		role, startID := record.RoleOf(node)
		got = append(got, node+" "+string(role)+" "+startID)
	}
	if want := []string{"a primary 1", "b in-sync 2", "c joining 3", "d out "}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, c := range []struct {
		want   failover.Mode
		record failover.Record
	}{
		{failover.ModeAutomatic, record},
		{failover.ModeSuspended, failover.Record{InSync: record.InSync, Suspended: "x"}},
		{failover.ModeNone, failover.Record{Suspended: "x"}},
		{failover.ModeExternal, failover.Record{External: true}},
	} {
		if got := c.record.Mode(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

func openRegister(t *testing.T) register.Register {
	t.Helper()
	reg, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	return reg
}
