package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api/apitest"
	"github.com/statesvc/statesvc/ledger"
)

// adjust asks for a change of the owner's money by hand. The policy of the rig lets one key do 1000 CNY.
func (c *client) adjust(ref string, delta int64, headers ...header) answer {
	c.t.Helper()
	until := ""
	if delta > 0 {
		until = fmt.Sprintf(`,"expires_at":%q`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}
	body := fmt.Sprintf(`{"adjustment_ref":%q,"delta":%d,"currency":"CNY","reason":"case \u0022 4711"%s}`, ref, delta, until)
	return c.post("/v1/owners/"+c.owner+"/adjustments", body, headers...)
}

func (c *client) decide(adjustment, what string, headers ...header) answer {
	c.t.Helper()
	return c.post("/v1/adjustments/"+adjustment+"/"+what, fmt.Sprintf(`{"owner":%q,"reason":"looked at it"}`, c.owner), headers...)
}

// TestAdjustAlone: small changes need one key, and are made once per reference and once per key.
func TestAdjustAlone(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	key := header{"Idempotency-Key", newKey()}
	given := read[ledger.AdjustmentReply](c.adjust("a", 1000, key).is(201))
	if given.Adjustment.State != "DONE" || given.Balances[0].Available != 1000 || given.Adjustment.ProposedBy.Name != "test" {
		t.Errorf("%+v", given)
	}
	if again := c.adjust("a", 1000, key).is(201); again.header.Get("Idempotency-Replayed") != "true" {
		t.Error("it was done again")
	}
	c.adjust("a", 1000).is(200)
	c.adjust("a", 999).refused(422, "key-reused").at("/adjustment_ref")
	if p := c.adjust("b", -1001).refused(409, "insufficient"); *p.Asked != 1001 || *p.Have != 1000 {
		t.Errorf("%+v", p)
	}
	if taken := read[ledger.AdjustmentReply](c.adjust("c", -400).is(201)); taken.Balances[0].Available != 600 {
		t.Errorf("%+v", taken)
	}
	c.adjust("d", 0).refused(400, "invalid-request").at("/delta")
	unreasoned := c.post("/v1/owners/"+c.owner+"/adjustments", `{"adjustment_ref":"d","delta":-1,"currency":"CNY"}`)
	unreasoned.refused(400, "invalid-request").at("/reason")
}

// TestSecondKey: what is more is done when another key with the scope approves it, and not before; both are in the history.
func TestSecondKey(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	c := newClient(t, r, nil)
	proposed := read[ledger.AdjustmentReply](c.adjust("a", 1001).is(201))
	id := proposed.Adjustment.AdjustmentID
	if proposed.Adjustment.State != "PROPOSED" || proposed.Balances[0].Available != 0 {
		t.Errorf("%+v", proposed)
	}
	c.decide(id, "approve").refused(403, "forbidden")
	for _, scope := range []access.Scopes{access.ScopeIssue, access.ScopeHold} {
		c.decide(id, "approve", header{"Authorization", "Bearer " + r.Tokens[scope]}).refused(403, "forbidden")
	}
	c.with("somebody-else").decide(id, "approve", header{"Authorization", "Bearer " + r.Tokens[apitest.All]}).refused(404, "not-found")
	other := header{"Authorization", "Bearer " + r.Tokens[apitest.All]}
	done := read[ledger.AdjustmentReply](c.decide(id, "approve", other).is(200))
	if done.Adjustment.State != "DONE" || done.Balances[0].Available != 1001 || done.Adjustment.Decision != "looked at it" {
		t.Errorf("%+v", done)
	}
	c.decide(id, "approve", other).refused(409, "already-decided")
	c.decide(id, "reject").refused(409, "already-decided")
	entries := read[struct{ Entries []ledger.Entry }](c.get("/v1/owners/" + c.owner + "/entries").is(200)).Entries
	if a := entries[1].Adjustment; a == nil || a.DecidedBy == nil || a.DecidedBy.KeyID == a.ProposedBy.KeyID || a.ProposedBy.KeyID == "" {
		t.Errorf("%+v", entries)
	}
	if shown := read[ledger.AdjustmentBody](c.get("/v1/adjustments/" + id).is(200)); shown.State != "DONE" {
		t.Errorf("%+v", shown)
	}
	c.get("/v1/adjustments/"+id, header{"Authorization", "Bearer " + r.Tokens[access.ScopeRead]}).refused(403, "forbidden")
}

// TestProposalsAreListed in pages, of all owners and of one; a rejected one is not any more.
func TestProposalsAreListed(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	waiting := map[string]bool{}
	for n := range 3 {
		waiting[read[ledger.AdjustmentReply](c.adjust(fmt.Sprint(n), 2000).is(201)).Adjustment.AdjustmentID] = true
	}
	rejected := read[ledger.AdjustmentReply](c.adjust("no", 2000).is(201)).Adjustment.AdjustmentID
	c.decide(rejected, "reject").is(http.StatusOK)
	type list struct {
		Adjustments []ledger.AdjustmentBody
		NextCursor  string `json:"next_cursor"`
	}
	page := read[list](c.get("/v1/owners/" + c.owner + "/adjustments?limit=3").is(200))
	if len(page.Adjustments) != 3 || page.NextCursor == "" {
		t.Errorf("%+v", page)
	}
	for cursor := ""; ; {
		page := read[list](c.get("/v1/admin/adjustments?limit=2" + cursor).is(200))
		for _, a := range page.Adjustments {
			if delete(waiting, a.AdjustmentID); a.AdjustmentID == rejected {
				t.Error("a rejected adjustment waits for a key")
			}
		}
		if page.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + page.NextCursor
	}
	if len(waiting) > 0 {
		t.Errorf("never listed: %v", waiting)
	}
}
