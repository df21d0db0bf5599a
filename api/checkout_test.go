package api_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
)

func TestCheckout(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	coupon := c.coupon(`{"kind":"FIXED","amount":{"amount":1000,"currency":"CNY"},"min_spend":{"amount":5000,"currency":"CNY"}}`)
	c.money(2000)
	order := fmt.Sprintf(`{"owner":%q,"order_id":"o1","attempt":2,"ttl_ms":60000,
		"lines":[{"line_id":"a","amount":{"amount":5000,"currency":"CNY"}},{"line_id":"gift","amount":{"amount":0,"currency":"CNY"}}],
		"items":[{"kind":"coupon","coupon_id":%q},{"kind":"money","all":true,"currency":"CNY"}]}`, c.owner, coupon.CouponID)
	made := c.post("/v1/holds", order, header{"X-Request-Id", "mine"}).is(http.StatusCreated)
	if id := made.header.Get("X-Request-Id"); id != "mine" {
		t.Errorf("X-Request-Id %q", id)
	}
	hold := read[ledger.HoldReply](made).Hold
	if hold.State != "HELD" || hold.Attempt != 2 || hold.Payable.Amount != 2000 || hold.Discount.Amount != 1000 {
		t.Errorf("the hold is %+v", hold)
	}
	if shown := read[ledger.HoldBody](c.get("/v1/holds/" + hold.HoldID).is(200)); !cmp.Equal(shown, hold) {
		t.Error(cmp.Diff(hold, shown))
	}
	if coupon := read[ledger.Coupon](c.get("/v1/coupons/" + coupon.CouponID).is(200)); coupon.State != "HELD" || coupon.HoldID != hold.HoldID {
		t.Errorf("the coupon is %+v", coupon)
	}
	confirmed := read[ledger.HoldReply](c.post("/v1/holds/"+hold.HoldID+"/confirm", c.ofOwner()).is(200))
	if confirmed.Hold.State != "CONFIRMED" || confirmed.Balances[0].Available != 0 || confirmed.Balances[0].Held != 0 {
		t.Errorf("confirmed %+v", confirmed)
	}
	c.post("/v1/holds/"+hold.HoldID+"/confirm", c.ofOwner()).refused(409, "already-confirmed")
	c.post("/v1/holds/"+hold.HoldID+"/cancel", c.ofOwner()).refused(409, "already-confirmed")
	owner := read[ledger.OwnerBody](c.get("/v1/owners/" + c.owner).is(200))
	if owner.Coupons != 0 || owner.LiveHolds != 0 || owner.Version < 4 {
		t.Errorf("the owner is %+v", owner)
	}
	history := read[struct{ Entries []ledger.Entry }](c.get("/v1/owners/" + c.owner + "/entries").is(200))
	if n := len(history.Entries); n != 3 || history.Entries[2].Kind != "CONFIRMED" || history.Entries[2].HoldID != hold.HoldID {
		t.Errorf("the history is %+v", history)
	}
	if v := read[ledger.VerifyBody](c.get("/v1/owners/" + c.owner + "/entries/verify").is(200)); !v.Intact || v.Entries != 3 {
		t.Errorf("the chain is %+v", v)
	}
}

// TestReplay: the same key is answered with the same bytes and the same status, for every write that there is.
func TestReplay(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(1000)
	spent := c.held("spent", cny(100))
	for name, request := range map[string]struct {
		path, body string
		status     int
	}{
		"issue": {"/v1/campaigns/x/issues", fmt.Sprintf(`{"owner":%q,"issue_ref":"r","discount":{"kind":"PERCENT","basis_points":1500,`+
			`"cap":{"amount":3000,"currency":"CNY"}},"expires_at":%q}`, c.owner, inAnHour()), 201},
		"credit": {"/v1/owners/" + c.owner + "/lots", fmt.Sprintf(`{"issue_ref":"r","source":"s","tag":"t",`+
			`"amount":{"amount":1,"currency":"USD"},"expires_at":%q}`, inAnHour()), 201},
		"hold":    {"/v1/holds", fmt.Sprintf(`{"owner":%q,"order_id":"o","items":[%s]}`, c.owner, cny(10)), 201},
		"confirm": {"/v1/holds/" + spent.HoldID + "/confirm", c.ofOwner(), 200},
		"cancel":  {"/v1/holds/cancel", fmt.Sprintf(`{"owner":%q,"order_id":"never"}`, c.owner), 200},
		"refused": {"/v1/holds", fmt.Sprintf(`{"owner":%q,"order_id":"poor","items":[%s]}`, c.owner, cny(1_000_000)), 409},
	} {
		key := header{"Idempotency-Key", newKey()}
		first := c.post(request.path, request.body, key).is(request.status)
		quoted := header{"Idempotency-Key", `"` + key.value + `"`}
		again := c.post(request.path, request.body, quoted, header{"X-Request-Id", first.header.Get("X-Request-Id")}).is(request.status)
		if first.body != again.body {
			t.Errorf("%s:\nfirst %s\nagain %s", name, first.body, again.body)
		}
		if replayed := first.header.Get("Idempotency-Replayed") + again.header.Get("Idempotency-Replayed"); replayed != "true" {
			t.Errorf("%s: Idempotency-Replayed %q", name, replayed)
		}
	}
}

// TestAlreadyExists: another key with the same reference finds what there is, and is not a creation.
func TestAlreadyExists(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(1000)
	c.held("o", cny(10))
	if !read[ledger.HoldReply](c.hold("o", cny(10)).is(http.StatusOK)).AlreadyExists {
		t.Error("the second hold is a new one")
	}
	c.hold("o", cny(11)).refused(422, "key-reused").at("/order_id") // the order names a hold with other content
}

func TestC19KeyReused(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(1000)
	key := header{"Idempotency-Key", newKey()}
	c.hold("o", cny(10), key).is(201)
	p := c.hold("other", cny(11), key).refused(422, "key-reused")
	p.at("/order_id")
	p.at("/items")
	if len(p.Errors) != 2 || p.Retryable {
		t.Errorf("%+v", p)
	}
	c.post("/v1/holds/cancel", fmt.Sprintf(`{"owner":%q,"order_id":"o"}`, c.owner), key).refused(422, "key-reused")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(1000)
	p := c.hold("rich", cny(2000)).refused(409, "insufficient")
	if p.Retryable || p.Outcome != "none" || *p.Asked != 2000 || *p.Have != 1000 {
		t.Errorf("%+v", p)
	}
	coupon := c.coupon(`{"kind":"FIXED","amount":{"amount":100,"currency":"CNY"},"min_spend":{"amount":5000,"currency":"CNY"}}`)
	with := func(order string, amount int, currency string) answer {
		return c.post("/v1/holds", fmt.Sprintf(`{"owner":%q,"order_id":%q,"lines":[{"line_id":"l","amount":{"amount":%d,"currency":%q}}],`+
			`"items":[{"kind":"coupon","coupon_id":%q}]}`, c.owner, order, amount, currency, coupon.CouponID))
	}
	with("small", 4999, "CNY").refused(409, "min-spend")
	with("dollars", 5000, "USD").refused(409, "currency-mismatch")
	with("held", 5000, "CNY").is(201)
	p = with("other", 5000, "CNY").refused(409, "held-by-other")
	wait, _ := strconv.Atoi(with("another", 5000, "CNY").header.Get("Retry-After"))
	if !p.Retryable || p.RetryAt.Before(time.Now()) || wait < 60 || wait > 15*60+1 {
		t.Errorf("Retry-After %d: %+v", wait, p)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(1000)
	hold := c.held("o", cny(300))
	cancelled := read[ledger.HoldReply](c.post("/v1/holds/"+hold.HoldID+"/cancel", c.ofOwner()).is(200))
	if cancelled.Hold.State != "CANCELLED" || cancelled.Balances[0].Available != 1000 {
		t.Errorf("%+v", cancelled)
	}
	c.post("/v1/holds/"+hold.HoldID+"/confirm", c.ofOwner()).refused(409, "already-cancelled")
}

// TestTombstone: a cancel that comes first refuses its hold, by order and by an id minted in advance.
func TestTombstone(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(1000)
	tombstone := read[ledger.HoldReply](c.post("/v1/holds/cancel", fmt.Sprintf(`{"owner":%q,"order_id":"o","attempt":3}`, c.owner)).is(200))
	if !tombstone.Hold.Tombstone {
		t.Errorf("%+v", tombstone)
	}
	c.post("/v1/holds", fmt.Sprintf(`{"owner":%q,"order_id":"o","attempt":3,"items":[%s]}`, c.owner, cny(1))).refused(409, "already-cancelled")
	minted := read[struct{ IDs []string }](c.post("/v1/ids", fmt.Sprintf(`{"owner":%q,"count":2}`, c.owner)).is(200))
	c.post("/v1/holds/"+minted.IDs[0]+"/cancel", c.ofOwner()).is(200)
	c.post("/v1/holds", fmt.Sprintf(`{"owner":%q,"order_id":"p","hold_id":%q,"items":[%s]}`, c.owner, minted.IDs[0], cny(1))).
		refused(409, "already-cancelled")
	hold := read[ledger.HoldReply](c.post("/v1/holds", fmt.Sprintf(`{"owner":%q,"order_id":"q","hold_id":%q,"items":[%s]}`,
		c.owner, minted.IDs[1], cny(1))).is(201)).Hold
	if hold.HoldID != minted.IDs[1] {
		t.Errorf("the hold has the id %s, and not %s", hold.HoldID, minted.IDs[1])
	}
	c.post("/v1/holds/confirm", fmt.Sprintf(`{"owner":%q,"order_id":"q"}`, c.owner)).is(200)
}

// TestExpiry: a hold that has expired is refused, and free, without any sweeper (C04, C05).
func TestExpiry(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(1000)
	body := fmt.Sprintf(`{"owner":%q,"order_id":"o","ttl_ms":1000,"items":[%s]}`, c.owner, cny(1000))
	hold := read[ledger.HoldReply](c.post("/v1/holds", body)).Hold
	time.Sleep(time.Until(hold.ExpiresAt)) // the shard's clock cannot be moved, and no shorter hold can be asked for
	c.post("/v1/holds/"+hold.HoldID+"/confirm", c.ofOwner()).refused(409, "hold-expired")
	c.held("p", cny(1000))
	if shown := read[ledger.HoldBody](c.get("/v1/holds/" + hold.HoldID).is(200)); shown.State != "EXPIRED" {
		t.Errorf("%+v", shown)
	}
}

func TestOperations(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(1000)
	status := func(key string) ledger.OperationBody {
		return read[ledger.OperationBody](c.get("/v1/owners/" + c.owner + "/operations/" + key).is(200))
	}
	done, refused, unseen := newKey(), newKey(), newKey()
	made := c.hold("o", cny(1), header{"Idempotency-Key", done}).is(201)
	c.hold("p", cny(5000), header{"Idempotency-Key", refused}).is(409)
	body := c.get("/v1/owners/" + c.owner + "/operations/" + done).is(200).body
	if !strings.Contains(body, `"status":"DONE"`) || !strings.Contains(body, made.body) {
		t.Errorf("the operation does not show the reply as it was:\n%s\n%s", body, made.body)
	}
	if got := status(refused); got.Status != "REFUSED" {
		t.Errorf("%+v", got)
	}
	if got := status(unseen); got.Status != "NOT_SEEN" {
		t.Errorf("%+v", got)
	}
	seal := func(key string) string {
		path := "/v1/owners/" + c.owner + "/operations/" + key + "/seal"
		return read[ledger.OperationBody](c.post(path, "", header{"Idempotency-Key", ""}).is(200)).Status
	}
	if got := seal(unseen) + seal(unseen) + seal(done); got != "SEALEDSEALEDDONE" {
		t.Error(got)
	}
	c.hold("q", cny(1), header{"Idempotency-Key", unseen}).refused(422, "key-reused")
}

func TestListHolds(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(1000)
	c.held("a", cny(1))
	b := c.held("b", cny(2))
	c.post("/v1/holds/"+b.HoldID+"/cancel", c.ofOwner()).is(200)
	list := func(query string) string {
		var orders []string
		for _, hold := range read[struct{ Holds []ledger.HoldBody }](c.get("/v1/holds?owner=" + c.owner + query).is(200)).Holds {
			orders = append(orders, hold.OrderID+" "+hold.State)
		}
		return strings.Join(orders, ",")
	}
	if got := list("") + "; " + list("&order_id=b"); got != "a HELD; b CANCELLED" {
		t.Error(got)
	}
}

// TestPages walks through lists in small pages, and tries cursors where they do not belong.
func TestPages(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	for range 5 {
		c.money(100)
		c.coupon(`{"kind":"PERCENT","basis_points":10,"currency":"CNY"}`)
	}
	type page struct {
		Coupons, Lots, Entries []struct{}
		NextCursor             string `json:"next_cursor"`
	}
	owner := "/v1/owners/" + c.owner
	for path, want := range map[string][]int{
		owner + "/coupons?state=AVAILABLE&limit=2": {2, 2, 1}, owner + "/coupons?state=USED&limit=2": {0}, owner + "/coupons?limit=5": {5},
		owner + "/coupons?campaign_id=spring&limit=4": {4, 1}, owner + "/lots?limit=3&currency=CNY": {3, 2},
		owner + "/lots?limit=200&state=LIVE": {5}, owner + "/lots?state=ENDED": {0}, owner + "/entries?limit=4": {4, 4, 2},
		owner + "/entries?limit=6&from=2020-01-01T00:00:00Z": {6, 4}, owner + "/entries?to=2020-01-01T00:00:00%2B08:00": {0},
	} {
		var got []int
		for next := ""; ; {
			p := read[page](c.get(path + next).is(200))
			got = append(got, len(p.Coupons)+len(p.Lots)+len(p.Entries))
			if p.NextCursor == "" {
				break
			}
			next = "&cursor=" + p.NextCursor
		}
		if !cmp.Equal(got, want) {
			t.Errorf("%s: pages of %v, want %v", path, got, want)
		}
	}
	cursor := read[page](c.get(owner + "/coupons?limit=2").is(200)).NextCursor
	for _, path := range []string{
		owner + "/lots?cursor=" + cursor, owner + "/entries?cursor=" + cursor, owner + "/coupons?state=USED&cursor=" + cursor,
		"/v1/owners/other/coupons?cursor=" + cursor, owner + "/coupons?cursor=" + cursor[1:], owner + "/coupons?cursor=x" + cursor[1:],
		owner + "/coupons?cursor=!", owner + "/coupons?cursor=" + strings.Repeat("A", 1<<20),
	} {
		c.get(path).refused(400, "invalid-request").at("cursor")
	}
}

// TestPastExpiry: what would have ended already is not given to anybody.
func TestPastExpiry(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	const past = `"expires_at":"2020-01-01T00:00:00Z"`
	lot := `{"issue_ref":"r","source":"s","amount":{"amount":1,"currency":"CNY"},` + past + `}`
	c.post("/v1/owners/"+c.owner+"/lots", lot).refused(409, "asset-expired").at("/expires_at")
	coupon := fmt.Sprintf(`{"owner":%q,"issue_ref":"r","discount":{"kind":"PERCENT","currency":"CNY","basis_points":1},%s}`, c.owner, past)
	c.post("/v1/campaigns/spring/issues", coupon).refused(409, "asset-expired").at("/expires_at")
	rows := c.post("/v1/campaigns/spring/imports", coupon, header{"Content-Type", "application/jsonl"}).is(200)
	if result := read[gen.ImportResult](rows); result.Failed != 1 || result.Errors[0].Code != "asset-expired" {
		t.Errorf("%s", rows.body)
	}
}

// TestMalformedRequestsKeepTheirKeys: nothing is recorded of a request that nobody could understand, or that was too much.
func TestMalformedRequestsKeepTheirKeys(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(1)
	credit := func(amount string, key header) answer {
		return c.post("/v1/owners/"+c.owner+"/lots", fmt.Sprintf(`{"issue_ref":%q,"source":"s","amount":{"amount":%s,"currency":"CNY"},`+
			`"expires_at":%q}`, key.value, amount, inAnHour()), key)
	}
	for _, bad := range []string{"1.5", "9007199254740991"} {
		key := header{"Idempotency-Key", newKey()}
		credit(bad, key).refused(400, "invalid-request").at("/amount/amount")
		credit("2", key).is(http.StatusCreated)
	}
}
