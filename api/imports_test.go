package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
)

const imports = "/v1/campaigns/import/imports"

func csvFile() header  { return header{"Content-Type", "text/csv"} }
func jsonFile() header { return header{"Content-Type", "application/jsonl"} }

// counts is a result without its errors.
func counts(r gen.ImportResult) string {
	return fmt.Sprintf("rows %d issued %d existed %d failed %d", r.Rows, r.Issued, r.AlreadyExisted, r.Failed)
}

func (c *client) imported(body string, headers ...header) gen.ImportResult {
	c.t.Helper()
	return read[gen.ImportResult](c.post(imports, body, headers...).is(http.StatusOK))
}

func TestImportCSV(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	until := inAnHour()
	file := "issue_ref,owner,kind,currency,amount,basis_points,cap,min_spend,expires_at\n" +
		"r1," + c.owner + ",FIXED,CNY,1000,,,5000," + until + "\n" +
		"r2," + c.owner + ",PERCENT,CNY,,1500,3000,," + until + "\r\n" +
		"r3," + c.owner + ",PERCENT,CNY,,,,," + until + "\n" + // no basis_points
		"r4," + c.owner + ",FIXED,CNY,1.5,,,," + until + "\n" +
		"r5,a b,FIXED,CNY,1,,,," + until + "\n" +
		"r6," + c.owner + ",FIXED,CNY,1,,," + until + "\n" + // a field is missing
		"r7," + c.owner + ",FIXED,,1,,,," + until + "\n" +
		"r8," + c.owner + ",FIXED,CNY,1,,,,tomorrow\n" +
		`"r9","` + c.owner + `",FIXED,CNY,1,,,,` + until
	result := c.imported(file, csvFile())
	if got := counts(result); got != "rows 9 issued 3 existed 0 failed 6" {
		t.Errorf("%s: %+v", got, result.Errors)
	}
	want := []string{
		"3 invalid-request /discount/basis_points: must be a whole number from 1 to 10000",
		"4 invalid-request /amount: must be a whole number from 1 on",
		"5 invalid-request /owner: must be 1 to 64 of A–Z a–z 0–9 . _ : @ -",
		"6 invalid-request line 7: wrong number of fields",
		"7 invalid-request /discount/currency: is missing, and no amount says it",
		"8 invalid-request /expires_at: is not a time of RFC 3339, such as 2026-11-22T10:00:00Z",
	}
	var got []string
	for _, e := range result.Errors {
		got = append(got, fmt.Sprintf("%d %s %s", e.Row, e.Code, e.Detail))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	coupons := read[struct{ Coupons []ledger.Coupon }](c.get("/v1/owners/" + c.owner + "/coupons?campaign_id=import").is(200)).Coupons
	if len(coupons) != 3 {
		t.Errorf("%+v", coupons)
	}
}

// TestImportAgain: a file is sent again, whole, under the same key and another, and with a row before the others.
func TestImportAgain(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	row := func(ref, amount string) string {
		return fmt.Sprintf(`{"owner":%q,"issue_ref":%q,"discount":{"kind":"FIXED","amount":{"amount":%s,"currency":"CNY"}},`+
			`"expires_at":"2030-01-01T00:00:00Z"}`+"\n", c.owner, ref, amount)
	}
	file := row("a", "1") + "\n  \n" + row("b", "2")
	key := header{"Idempotency-Key", newKey()}
	for i, test := range []struct {
		body, want string
		key        header
	}{
		{file, "rows 2 issued 2 existed 0 failed 0", key},
		{file, "rows 2 issued 0 existed 2 failed 0", key},
		{row("first", "1") + file, "rows 3 issued 1 existed 2 failed 0", key},
		{file, "rows 2 issued 0 existed 2 failed 0", header{"Idempotency-Key", newKey()}},
		{row("a", "9") + row("c", "1") + row("c", "1"), "rows 3 issued 1 existed 1 failed 1", key},
	} {
		result := c.imported(test.body, jsonFile(), test.key)
		if got := counts(result); got != test.want {
			t.Errorf("%d: %s, want %s: %+v", i, got, test.want, result.Errors)
		}
		if result.Failed > 0 && (result.Errors[0].Code != "key-reused" || result.Errors[0].Row != 1) {
			t.Errorf("%+v", result.Errors)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.post(imports, "x").refused(415, "unsupported-media-type")
	c.post(imports, "x", header{"Content-Type", "text/csv; charset=latin1"}).refused(415, "unsupported-media-type")
	c.post(imports, "", csvFile()).refused(400, "invalid-request").at("header")
	c.post(imports, "owner,issue_ref,kind\n", csvFile()).refused(400, "invalid-request").at("header")
	c.post(imports, "owner,owner,issue_ref,kind,expires_at\n", csvFile()).refused(400, "invalid-request").at("header")
	c.post(imports, "owner,issue_ref,kind,expires_at,colour\n", csvFile()).refused(400, "invalid-request").at("header")
	c.post(imports, "", csvFile(), header{"Idempotency-Key", ""}).refused(400, "invalid-request").at("Idempotency-Key")
	if got := counts(c.imported("", jsonFile())); got != "rows 0 issued 0 existed 0 failed 0" {
		t.Error(got)
	}
	c.post(imports, strings.Repeat("\n", 16<<20+1), jsonFile()).refused(413, "too-large")
	result := c.imported(strings.Repeat("x", 70_000)+"\n", jsonFile()) // one line that is too long
	if got := counts(result); got != "rows 1 issued 0 existed 0 failed 1" || result.Errors[0].Code != "too-large" {
		t.Errorf("%s: %+v", got, result.Errors)
	}
}

// TestImportManyErrors: all failed rows are counted, the first 1000 are named, in order.
func TestImportManyErrors(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	result := c.imported(strings.Repeat("{}\n", 1500), jsonFile())
	if got := counts(result); got != "rows 1500 issued 0 existed 0 failed 1500" || len(result.Errors) != 1000 {
		t.Errorf("%s, %d errors", got, len(result.Errors))
	}
	for i, e := range result.Errors {
		if e.Row != int64(i+1) {
			t.Fatalf("error %d is of row %d", i, e.Row)
		}
	}
}

// TestImportRetries: what a shard cannot take now is sent again with the same key, within the row's deadline; rows run side by
// side, but never more than allowed.
func TestImportRetries(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	keys := map[string]int{}
	var running, most atomic.Int64
	c := newEdge(t, func(ctx context.Context, op *shard.Op) shard.Reply {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		time.Sleep(time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		if keys[op.Key]++; keys[op.Key] == 1 {
			return shard.Reply{Err: shard.ErrOverloaded}
		}
		if strings.HasSuffix(op.Owner, "9") {
			return shard.Reply{Err: shard.ErrFailover}
		}
		return shard.Reply{Verdict: shard.Done, Body: []byte(`{"coupon":{},"version":1}`)}
	}, nil)
	var file strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&file, `{"owner":"o%d","issue_ref":"r","discount":{"kind":"PERCENT","basis_points":1,"currency":"CNY"},`+
			`"expires_at":"2030-01-01T00:00:00Z"}`+"\n", i)
	}
	result := c.imported(file.String(), jsonFile(), header{"Deadline-Ms", "1500"})
	if got := counts(result); got != "rows 1000 issued 900 existed 0 failed 100" || result.Errors[0].Code != "failover-in-progress" {
		t.Errorf("%s: %+v", got, result.Errors[0])
	}
	if len(keys) != 1000 || most.Load() < 2 || most.Load() > 128 {
		t.Errorf("%d keys, %d at once", len(keys), most.Load())
	}
	for key := range keys {
		if len(key) > 64 || !strings.HasPrefix(key, "import:") {
			t.Errorf("the key of a row is %q", key)
		}
	}
}
