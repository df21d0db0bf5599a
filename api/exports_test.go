package api_test

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api"
	"github.com/statesvc/statesvc/ledger"
)

// An export has every entry of the period once, in both formats, with times in the zone; a period that has not ended is refused.
func TestExport(t *testing.T) {
	later := func() time.Time { return time.Now().Add(time.Minute) }
	c := newClient(t, sharedRig(t), func(cfg *api.Config) { cfg.Now = later })
	from := time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano)
	c.money(100)
	h := c.held("o", cny(10))
	c.post("/v1/holds/"+h.HoldID+"/confirm", c.ofOwner()).is(200)
	path := "/v1/exports/entries?from=" + from + "&time_zone=Asia/Kolkata&format="
	all := header{"Authorization", "Bearer " + c.rig.Tokens[access.ScopeEvents]}

	var kinds []string
	for line := range strings.Lines(c.send("GET", path+"jsonl", "", all).is(200).body) {
		var e ledger.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Owner == c.owner {
			kinds = append(kinds, e.Kind)
		}
		if !strings.Contains(line, `+05:30","`) {
			t.Errorf("the time is not of the zone: %s", line)
		}
	}
	if strings.Join(kinds, " ") != "CREDITED CONFIRMED" {
		t.Errorf("%v", kinds)
	}
	rows, err := csv.NewReader(strings.NewReader(c.send("GET", path+"csv", "", all).is(200).body)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var found [][]string
	for _, row := range rows[1:] {
		if row[0] == c.owner {
			found = append(found, row)
		}
	}
	if len(found) != 2 || found[1][2] != "CONFIRMED" || found[1][4] != h.HoldID ||
		strings.Join(found[1][9:19], " ") != "90 10 0 0 0 90 0 10 0 0" {
		t.Errorf("%v", found)
	}
	if body := c.send("GET", "/v1/exports/entries?format=jsonl&to="+from, "", all).is(200).body; strings.Contains(body, c.owner) {
		t.Errorf("the period before has %s", body)
	}
	for query, part := range map[string]string{
		"format=xml": "format", "format=csv&from=x": "from", "format=csv&to=2999-01-01": "to", "format=csv&time_zone=Mars": "time_zone",
		"format=csv&from=2026-01-02&to=2026-01-01": "from",
	} {
		c.send("GET", "/v1/exports/entries?"+query, "", all).refused(400, "invalid-request").at(part)
	}
}

// A dry run says what is wrong and issues nothing.
func TestImportDryRun(t *testing.T) {
	c := newClient(t, sharedRig(t), nil)
	const head = "owner,issue_ref,kind,currency,amount,expires_at\n"
	file := head + c.owner + ",r1,FIXED,CNY,100,2030-01-01T00:00:00Z\n" + c.owner + ",r 2,FIXED,CNY,100,2030-01-01T00:00:00Z\n"
	body := c.post("/v1/campaigns/dry/imports?dry_run=true", file, header{"Content-Type", "text/csv"}).is(200).body
	if !strings.Contains(body, `"rows":2`) || !strings.Contains(body, `"issued":1`) || !strings.Contains(body, `"row":2`) {
		t.Error(body)
	}
	if owner := read[ledger.OwnerBody](c.get("/v1/owners/" + c.owner).is(200)); owner.Version != 0 {
		t.Errorf("a dry run has written: %+v", owner)
	}
}
