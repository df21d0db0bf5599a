package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api/apitest"
	"github.com/statesvc/statesvc/ledger"
)

type bulkReply struct {
	Results []struct {
		Status   int
		Replayed bool
		Reply    json.RawMessage
		Problem  problem
	}
	Done, Refused int
}

// bulk sends operations with a key that may do everything.
func (c *client) bulk(operations ...string) bulkReply {
	c.t.Helper()
	body := `{"operations":[` + strings.Join(operations, ",") + `]}`
	all := header{"Authorization", "Bearer " + c.rig.Tokens[apitest.All]}
	return read[bulkReply](c.post("/v1/bulk", body, all, header{"Deadline-Ms", "30000"}).is(200))
}

// operation is an operation of a bulk.
func operation(key, kind, body string) string {
	return fmt.Sprintf(`{"idempotency_key":%q,%q:%s}`, key, kind, body)
}

func (c *client) holdOf(order string, amount int) string {
	return fmt.Sprintf(`{"owner":%q,"order_id":%q,"items":[%s]}`, c.owner, order, cny(amount))
}

// Every operation has the status, the reply and the code of its single call, and the same key under a single call is its replay.
func TestBulk(t *testing.T) {
	c := newClient(t, sharedRig(t), nil)
	lot := fmt.Sprintf(`{"owner":%q,"lot":{"issue_ref":"r","source":"s","amount":{"amount":100,"currency":"CNY"},"expires_at":%q}}`,
		c.owner, inAnHour())
	coupon := fmt.Sprintf(`{"campaign_id":"spring","issue":{"owner":%q,"issue_ref":"r","discount":{"kind":"FIXED",`+
		`"amount":{"amount":1,"currency":"CNY"}},"expires_at":%q}}`, c.owner, inAnHour())
	byOrder := fmt.Sprintf(`{"owner":%q,"order_id":"o1"}`, c.owner)
	k := func(n int) string { return fmt.Sprintf("%s-bulk-%d", c.owner, n) }
	unchecked := *c // some operations are not what the contract allows
	unchecked.handler = c.bare
	got := unchecked.bulk(
		operation(k(0), "credit", lot), operation(k(1), "issue", coupon), operation(k(2), "hold", c.holdOf("o1", 60)),
		operation(k(2), "hold", c.holdOf("o1", 60)), operation(k(2), "hold", c.holdOf("o1", 61)), operation(k(3), "hold", c.holdOf("o2", 60)),
		operation(k(4), "confirm", byOrder), operation(k(5), "cancel", byOrder), operation("a b", "cancel", byOrder),
		operation(k(6), "confirm", fmt.Sprintf(`{"owner":%q}`, c.owner)), fmt.Sprintf(`{"idempotency_key":%q}`, k(7)),
		operation(k(8), "cancel", fmt.Sprintf(`{"owner":%q,"hold_id":"hold_x"}`, c.owner)),
	)
	want := []string{
		"201", "201", "201", "201 replayed", "422 key-reused", "409 insufficient", "200", "409 already-confirmed", "400 invalid-request",
		"400 invalid-request", "400 invalid-request", "404 not-found",
	}
	for i, r := range got.Results {
		verdict := strings.TrimSpace(fmt.Sprint(r.Status, " ", r.Problem.Code))
		if r.Replayed {
			verdict += " replayed"
		}
		if verdict != want[i] {
			t.Errorf("operation %d: %s, want %s: %+v", i, verdict, want[i], r.Problem)
		}
	}
	if got.Done != 5 || got.Refused != 7 {
		t.Errorf("%d done and %d refused", got.Done, got.Refused)
	}
	single := c.post("/v1/holds", c.holdOf("o1", 60), header{"Idempotency-Key", k(2)}).is(201)
	if single.header.Get("Idempotency-Replayed") != "true" || single.body != string(got.Results[2].Reply) {
		t.Errorf("the single call answers %s, the bulk %s", single.body, got.Results[2].Reply)
	}
	if owner := read[ledger.OwnerBody](c.get("/v1/owners/" + c.owner).is(200)); owner.Balances[0].Available != 40 {
		t.Errorf("%+v", owner)
	}
}

// A thousand operations are done, of one owner in their order; one more is refused as a whole.
func TestBulkSize(t *testing.T) {
	c := newClient(t, sharedRig(t), nil)
	c.money(1_000_000)
	var operations []string
	for i := range 1000 {
		one := c
		if i%2 == 1 {
			one = c.with(fmt.Sprintf("%s-%d", c.owner, i)) // who has no money
		}
		operations = append(operations, operation(fmt.Sprint("k", i), "hold", one.holdOf(fmt.Sprint("o", i), 1)))
	}
	got := c.bulk(operations...)
	if got.Done != 500 || got.Refused != 500 {
		t.Fatalf("%d done and %d refused", got.Done, got.Refused)
	}
	last := int64(0)
	for i := 0; i < 1000; i += 2 {
		var reply ledger.HoldReply
		if err := json.Unmarshal(got.Results[i].Reply, &reply); err != nil || reply.Version <= last {
			t.Fatalf("operation %d has version %d after %d: %v", i, reply.Version, last, err)
		}
		last = reply.Version
	}
	all := header{"Authorization", "Bearer " + c.rig.Tokens[apitest.All]}
	tooMany := `{"operations":[` + strings.Join(append(operations, operations[0]), ",") + `]}`
	c.post("/v1/bulk", tooMany, all).refused(400, "invalid-request").at("/operations")
	c.post("/v1/bulk", `{"operations":[]}`, all).refused(400, "invalid-request").at("/operations")
	c.post("/v1/bulk", `{"operations":[{"hold":{}}]}`, all).refused(400, "invalid-request")
}

// Each operation needs the scope of its single call, and counts as a request for the rate.
func TestBulkScopes(t *testing.T) {
	r := sharedRig(t)
	c := newClient(t, r, nil)
	spec := access.Spec{Name: "x", Scopes: access.ScopeHold, Rate: access.Rate{PerSecond: 1, Burst: 3}}
	_, token, err := r.Keys.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	lot := fmt.Sprintf(`{"owner":%q,"lot":{"issue_ref":"r","source":"s","amount":{"amount":1,"currency":"CNY"},"expires_at":%q}}`,
		c.owner, inAnHour())
	body := `{"operations":[` + operation("a", "credit", lot) + "," + operation("b", "hold", c.holdOf("o", 1)) + `]}`
	got := read[bulkReply](c.post("/v1/bulk", body, header{"Authorization", "Bearer " + token}).is(200))
	if got.Results[0].Problem.Code != "forbidden" || got.Results[1].Problem.Code != "insufficient" {
		t.Errorf("%+v", got)
	}
	c.post("/v1/bulk", body, header{"Authorization", "Bearer " + token}).refused(429, "rate-limited")
	c.post("/v1/bulk", body, header{"Authorization", ""}).refused(401, "unauthenticated")
}
