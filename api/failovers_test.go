package api_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/api"
	"github.com/statesvc/statesvc/api/apitest"
	"github.com/statesvc/statesvc/api/gen"
)

// The shards of replicatedRig beyond those of the map.
const (
	replicatedShard = 2
	externalShard   = 4
	unknownShard    = 9
)

func replicatedRig(t *testing.T, at time.Time) *rig {
	t.Helper()
	r, err := apitest.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(t.Context()) })
	for _, err := range []error{
		r.Replicate(t.Context(), 3, at.Add(-time.Hour)), r.Replicate(t.Context(), replicatedShard, at),
		r.Externalise(t.Context(), externalShard, "10.0.0.1:3306"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func reason(text string) string { return fmt.Sprintf(`{"reason":%q}`, text) }

func onShard(number int, what string) string {
	return fmt.Sprintf("/v1/admin/shards/%d/%s", number, what)
}

// TestShardsInDetail: the list shows who fails over, the part of each node, and what its agent said.
func TestShardsInDetail(t *testing.T) {
	t.Parallel()
	c := newClient(t, replicatedRig(t, time.Now().Add(-time.Minute)), nil)
	shards := read[gen.ShardList](c.get("/v1/admin/shards").is(200)).Shards
	if shards[0].Failover != "none" || shards[0].Nodes[0].Role != "primary" || shards[0].Name != "s1" {
		t.Errorf("%+v", shards[0])
	}
	got := shards[1]
	if got.Failover != "automatic" || got.Primary != "db-1" || got.Number != 2 || got.Name != "s2" || len(got.Nodes) != 4 {
		t.Fatalf("%+v", got)
	}
	for i, want := range []string{"primary b1:10:1", "in-sync b2:20:1", "joining b3:30:2", "out "} {
		if n := got.Nodes[i]; n.Role+" "+n.StartID != want {
			t.Errorf("%s is %s %s, not %s", n.Name, n.Role, n.StartID, want)
		}
	}
	host := got.Nodes[1].Host
	if !host.Running || host.BootID != "b2" || host.FreeBytes != 1<<30 || host.Zone != "z2" || host.Doing != "running" {
		t.Errorf("%+v", host)
	}
	if age := time.Duration(host.ReportAgeMs) * time.Millisecond; age < time.Minute || age > 2*time.Minute {
		t.Errorf("a report of a minute ago is %s old", age)
	}
	if got.Nodes[0].Host != (gen.Host{}) {
		t.Errorf("nobody has reported %+v", got.Nodes[0].Host)
	}
}

func rebuildOf(node string) string { return fmt.Sprintf(`{"node":%q,"reason":"x"}`, node) }

// TestOrders: an order stands until it is carried out; the same one is the same, another one is refused, and all are logged.
func TestOrders(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := replicatedRig(t, time.Now())
	c := newClient(t, r, func(cfg *api.Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	order := read[gen.ShardOrder](c.post(onShard(replicatedShard, "suspend"), reason("maintenance")).is(202))
	if order.Kind != "suspend" || order.Reason != "maintenance" || !strings.HasSuffix(order.By, " (test)") || order.At.IsZero() {
		t.Errorf("%+v", order)
	}
	again := read[gen.ShardOrder](c.post(onShard(replicatedShard, "suspend"), reason("maintenance")).is(202))
	if again != order {
		t.Errorf("the same order is now %+v", again)
	}
	if shards := read[gen.ShardList](c.get("/v1/admin/shards").is(200)).Shards; shards[1].Order != order {
		t.Errorf("the list shows %+v", shards[1].Order)
	}
	for _, path := range []string{"switchover", "resume"} {
		if p := c.post(onShard(replicatedShard, path), reason("x")).refused(409, "order-stands"); p.Outcome != "none" {
			t.Errorf("%+v", p)
		}
	}
	for number, text := range map[int]string{1: "single node", externalShard: "another tool"} {
		for _, path := range []string{"switchover", "suspend", "resume"} {
			if p := c.post(onShard(number, path), reason("x")).refused(409, "no-failover"); !strings.Contains(p.Detail, text) {
				t.Errorf("%s of shard %d: %s", path, number, p.Detail)
			}
		}
	}
	for node, text := range map[string]string{"db-1": "is the primary", "db-2": "last copy"} {
		if p := c.post(onShard(3, "rebuild"), rebuildOf(node)).refused(409, "no-failover"); !strings.Contains(p.Detail, text) {
			t.Errorf("rebuild of %s: %s", node, p.Detail)
		}
	}
	c.post(onShard(3, "rebuild"), rebuildOf("db-9")).refused(404, "not-found")
	rebuild := read[gen.ShardOrder](c.post(onShard(3, "rebuild"), rebuildOf("db-4")).is(202))
	if rebuild.Kind != "rebuild" || rebuild.Node != "db-4" {
		t.Errorf("%+v", rebuild)
	}
	c.post(onShard(3, "rebuild"), rebuildOf("db-3")).refused(409, "order-stands") // the same, of another node
	for _, body := range []string{`{"reason":"x"}`, `{"node":"","reason":"x"}`, `{"node":"db-4"}`} {
		c.post(onShard(3, "rebuild"), body).refused(400, "invalid-request")
	}
	c.post(onShard(unknownShard, "resume"), reason("x")).refused(404, "not-found")
	c.post(onShard(0, "resume"), reason("x")).refused(404, "not-found")
	for _, body := range []string{`{}`, `{"reason":""}`, reason(strings.Repeat("a", 501)), `{"reason":"x","force":true}`} {
		c.post(onShard(1, "switchover"), body).refused(400, "invalid-request")
	}
	for _, text := range []string{"an operator's request", "action=suspend", "reason=maintenance", "(test)", "refused=", "action=resume"} {
		if !strings.Contains(log.String(), text) {
			t.Errorf("the log lacks %q:\n%s", text, log.String())
		}
	}
}

// TestFailovers: the newest comes first, also from page to page, and a cursor is good for its own list only.
func TestFailovers(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	c := newClient(t, replicatedRig(t, at), nil)
	page := read[gen.FailoverList](c.get("/v1/admin/failovers?limit=1").is(200))
	if len(page.Failovers) != 1 || page.NextCursor == "" {
		t.Fatalf("%+v", page)
	}
	got := page.Failovers[0]
	if got.Shard != 2 || got.From != "db-2" || got.To != "db-1" || got.DurationMs != 180 {
		t.Errorf("%+v", got)
	}
	if !got.DecidedAt.Equal(at) || !got.SuspectedAt.IsZero() {
		t.Errorf("%+v", got)
	}
	if len(got.Steps) != 2 || got.Steps[0] != (gen.FailoverStep{Step: "fence", Node: "db-3", FromMs: 1.5, TookMs: 20, Error: "refused"}) {
		t.Errorf("%+v", got.Steps)
	}
	older := read[gen.FailoverList](c.get("/v1/admin/failovers?limit=1&cursor=" + page.NextCursor).is(200))
	if len(older.Failovers) != 1 || older.Failovers[0].Shard != 3 || older.NextCursor != "" {
		t.Errorf("%+v", older)
	}
	if of := read[gen.FailoverList](c.get("/v1/admin/failovers?shard=3").is(200)).Failovers; len(of) != 1 || of[0].Shard != 3 {
		t.Errorf("%+v", of)
	}
	if of := read[gen.FailoverList](c.get("/v1/admin/failovers?shard=1").is(200)).Failovers; len(of) != 0 {
		t.Errorf("%+v", of)
	}
	c.get("/v1/admin/failovers?shard=3&cursor="+page.NextCursor).refused(400, "invalid-request").at("cursor")
	c.get("/v1/admin/failovers?shard=4096").refused(400, "invalid-request").at("shard")
	c.get("/v1/admin/failovers?limit=0").refused(400, "invalid-request").at("limit")
}

// TestExternal: what another tool may say of its shards, and of no others. Announcing at a real server is tested in internal/operators.
func TestExternal(t *testing.T) {
	t.Parallel()
	c := newClient(t, replicatedRig(t, time.Now()), nil)
	announce := func(epoch int64, address string) answer {
		return c.post(onShard(externalShard, "primary"), fmt.Sprintf(`{"epoch":%d,"address":%q}`, epoch, address))
	}
	served := read[gen.ShardFence](announce(1, "10.0.0.1:3306").is(200))
	if served != (gen.ShardFence{Shard: externalShard, Epoch: 1, Phase: "SERVING", Address: "10.0.0.1:3306"}) {
		t.Errorf("%+v", served)
	}
	announce(1, "10.0.0.2:3306").refused(409, "stale-epoch")
	fenced := read[gen.ShardFence](c.post(onShard(externalShard, "fence"), reason("it is dead")).is(200))
	if fenced.Epoch != 2 || fenced.Phase != "FENCING" {
		t.Errorf("%+v", fenced)
	}
	if again := read[gen.ShardFence](c.post(onShard(externalShard, "fence"), reason("it is dead")).is(200)); again != fenced {
		t.Errorf("%+v", again)
	}
	other := header{"Authorization", "Bearer " + c.rig.Tokens[apitest.All]}
	if taken := read[gen.ShardFence](c.post(onShard(externalShard, "fence"), reason("mine"), other).is(200)); taken.Epoch != 3 {
		t.Errorf("another caller gets %+v", taken)
	}
	if p := announce(2, "10.0.0.2:3306").refused(409, "stale-epoch"); !strings.Contains(p.Detail, "it is 3") {
		t.Error(p.Detail)
	}
	announce(4, "10.0.0.2:3306").refused(409, "stale-epoch")
	c.post(onShard(1, "fence"), reason("x")).refused(409, "no-failover")
	c.post(onShard(1, "primary"), `{"epoch":1,"address":"db:3306"}`).refused(409, "no-failover")
	c.post(onShard(unknownShard, "fence"), reason("x")).refused(404, "not-found")
	for _, body := range []string{
		`{"epoch":0,"address":"db:1"}`, `{"epoch":1,"address":"db"}`, `{"epoch":1,"address":"d b:1"}`, `{"epoch":1}`, `{"address":"db:1"}`,
	} {
		c.post(onShard(externalShard, "primary"), body).refused(400, "invalid-request")
	}
}

// TestNoFailovers: an instance without failovers shows what it knows, and refuses the rest.
func TestNoFailovers(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), func(cfg *api.Config) { cfg.Failovers = nil })
	if one := read[gen.ShardList](c.get("/v1/admin/shards").is(200)).Shards[0]; one.Phase != "SERVING" || one.Failover != "" {
		t.Errorf("%+v", one)
	}
	if found := read[gen.FailoverList](c.get("/v1/admin/failovers").is(200)).Failovers; len(found) != 0 {
		t.Errorf("%+v", found)
	}
	c.post(onShard(1, "switchover"), reason("x")).refused(409, "no-failover")
}
