package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/statesvc/statesvc/ledger"
)

// confirm confirms what body says beside the owner, as JSON.
func (c *client) confirm(hold, body string, headers ...header) answer {
	c.t.Helper()
	return c.post("/v1/holds/"+hold+"/confirm", fmt.Sprintf(`{"owner":%q%s}`, c.owner, body), headers...)
}

// refund refunds what body says beside the owner, as JSON, under a reference of its own.
func (c *client) refund(hold, ref, body string, headers ...header) answer {
	c.t.Helper()
	return c.post("/v1/holds/"+hold+"/refunds", fmt.Sprintf(`{"owner":%q,"refund_ref":%q%s}`, c.owner, ref, body), headers...)
}

func holdIn(a answer) ledger.HoldReply {
	a.t.Helper()
	return read[ledger.HoldReply](a.is(http.StatusOK))
}

// TestPartialConfirm: a hold is confirmed in parts, each under a key of its own, and what is left can still be had or given back.
func TestPartialConfirm(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(100)
	hold := c.held("o", cny(100)).HoldID
	key := header{"Idempotency-Key", newKey()}
	first := holdIn(c.confirm(hold, `,"amount":{"amount":60,"currency":"CNY"}`, key))
	if first.Hold.State != "HELD" || first.Hold.Parts[0].Confirmed != 60 || first.Balances[0].Held != 40 {
		t.Errorf("%+v", first)
	}
	if again := c.confirm(hold, `,"amount":{"amount":60,"currency":"CNY"}`, key); again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the same part was confirmed again: %s", again.body)
	}
	p := c.confirm(hold, `,"amount":{"amount":60,"currency":"CNY"}`).refused(409, "insufficient")
	if *p.Asked != 60 || *p.Have != 40 {
		t.Errorf("%+v", p)
	}
	last := holdIn(c.confirm(hold, `,"items":[{"item":0,"amount":{"amount":30,"currency":"CNY"}}],"final":true`))
	if last.Hold.State != "CONFIRMED" || last.Hold.Rest != "RELEASED" || last.Balances[0] != (ledger.Balance{Currency: "CNY", Available: 10}) {
		t.Errorf("%+v", last)
	}
	c.confirm(hold, "").refused(409, "already-confirmed")
	if shown := read[ledger.HoldBody](c.get("/v1/holds/" + hold).is(200)); cmp.Diff(shown, last.Hold) != "" {
		t.Error(cmp.Diff(shown, last.Hold))
	}
}

// TestC28PartsOfNothing: nothing is asked for by an amount of 0, and parts that make no sense change nothing.
func TestC28PartsOfNothing(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(100)
	hold := c.held("o", cny(100)).HoldID
	for body, pointer := range map[string]string{
		`,"amount":{"amount":0,"currency":"CNY"}`:                   "/amount/amount",
		`,"amount":{"amount":-1,"currency":"CNY"}`:                  "/amount/amount",
		`,"amount":{"amount":9223372036854775807,"currency":"CNY"}`: "/amount/amount",
		`,"amount":{"amount":1.5,"currency":"CNY"}`:                 "/amount/amount",
		`,"items":[]`: "/items",
		`,"items":[{"item":0,"amount":{"amount":0,"currency":"CNY"}}]`: "/items/0/amount/amount",
		`,"items":[{"item":0}]`:                                                   "/items/0/amount/amount",
		`,"items":[{"item":0,"all":true},{"item":0,"all":true}]`:                  "/items/1/item",
		`,"items":[{"item":-1,"all":true}]`:                                       "/items/0/item",
		`,"items":[{"item":0,"all":true,"amount":{"amount":1,"currency":"CNY"}}]`: "/items/0/amount",
		`,"items":[{"item":0,"all":true}],"amount":{"amount":1,"currency":"CNY"}`: "/amount",
		`,"final":true`: "/final",
		`,"amount":{"amount":1,"currency":"CNY"},"allow_late":true`: "/allow_late",
	} {
		c.confirm(hold, body).refused(400, "invalid-request").at(pointer)
	}
	c.confirm(hold, `,"items":[{"item":7,"all":true}]`).refused(404, "not-found").at("/items/0/item")
	c.confirm(hold, `,"amount":{"amount":1,"currency":"USD"}`).refused(409, "currency-mismatch").at("/amount/currency")
	c.refund(hold, "r", `,"all":true`).refused(409, "insufficient")
	if held := read[ledger.HoldBody](c.get("/v1/holds/" + hold).is(200)); held.State != "HELD" || held.Parts != nil {
		t.Errorf("%+v", held)
	}
}

// TestRefund: money goes back to where it came from, never more than was confirmed, once per reference.
func TestRefund(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(100)
	hold := c.held("o", cny(100)).HoldID
	holdIn(c.confirm(hold, ""))
	made := read[ledger.RefundReply](c.refund(hold, "r1", `,"amount":{"amount":60,"currency":"CNY"},"reason":"too <late>"`).is(201))
	if made.Refund.Amount.Amount != 60 || made.Refund.Left.Amount != 40 || made.Balances[0].Available != 60 || made.Refund.Whole {
		t.Errorf("%+v", made)
	}
	again := read[ledger.RefundReply](c.refund(hold, "r1", `,"amount":{"amount":60,"currency":"CNY"}`).is(200))
	if !again.AlreadyExists || again.Refund.RefundID != made.Refund.RefundID {
		t.Errorf("%+v", again)
	}
	c.refund(hold, "r1", `,"amount":{"amount":10,"currency":"CNY"}`).refused(422, "key-reused").at("/refund_ref")
	p := c.refund(hold, "r2", `,"amount":{"amount":41,"currency":"CNY"}`).refused(409, "insufficient")
	if *p.Asked != 41 || *p.Have != 40 {
		t.Errorf("%+v", p)
	}
	c.refund(made.Refund.RefundID, "r3", `,"all":true`).refused(409, "refund-of-refund")
	c.refund(hold, "r4", `,"amount":{"amount":1,"currency":"USD"}`).refused(409, "currency-mismatch")
	rest := read[ledger.RefundReply](c.refund(hold, "r5", `,"all":true`).is(201))
	if rest.Refund.Amount.Amount != 40 || !rest.Refund.Whole || rest.Balances[0].Available != 100 {
		t.Errorf("%+v", rest)
	}
	c.refund(hold, "r6", `,"all":true`).refused(409, "insufficient")
	list := read[struct{ Refunds []ledger.RefundBody }](c.get("/v1/holds/" + hold + "/refunds").is(200)).Refunds
	if len(list) != 2 || cmp.Diff(list[0], made.Refund) != "" {
		t.Errorf("%+v", list)
	}
	if one := read[ledger.RefundBody](c.get("/v1/refunds/" + rest.Refund.RefundID).is(200)); cmp.Diff(one, rest.Refund) != "" {
		t.Errorf("%+v", one)
	}
	for body, pointer := range map[string]string{
		``: "", `,"all":true,"lines":["l"]`: "", `,"amount":{"amount":0,"currency":"CNY"}`: "/amount/amount", `,"lines":[]`: "/lines",
		`,"lines":["l","l"]`: "/lines/1", `,"all":true,"reason":"` + strings.Repeat("x", 501) + `"`: "/reason",
	} {
		c.refund(hold, "bad", body).refused(400, "invalid-request").at(pointer)
	}
	c.refund(hold, "r7", `,"lines":["nobody"]`).refused(404, "not-found").at("/lines/0")
	c.get("/v1/owners/" + c.owner + "/entries/verify").is(200)
	entries := c.get("/v1/owners/" + c.owner + "/entries").is(200).body
	if !strings.Contains(entries, `"reason":"too \u003clate\u003e"`) || strings.Count(entries, `"kind":"REFUNDED"`) != 2 {
		t.Error(entries)
	}
}

// TestC26Thresholds: a partial refund takes the order under what its coupon needs. The preview says the same before.
func TestC26Thresholds(t *testing.T) {
	t.Parallel()
	for policy, returned := range map[string][]int{"WHOLE_ORDER": {0, 1}, "ANY_REFUND": {1, 0}, "NEVER": {0, 0}} {
		c := newClient(t, sharedRig(t), nil)
		c.money(100)
		coupon := read[ledger.CouponReply](c.post("/v1/campaigns/spring/issues", fmt.Sprintf(`{"owner":%q,"issue_ref":"r","discount":`+
			`{"kind":"FIXED","amount":{"amount":31,"currency":"CNY"},"min_spend":{"amount":150,"currency":"CNY"}},"expires_at":%q,`+
			`"refund_policy":%q}`, c.owner, inAnHour(), policy)).is(201)).Coupon
		body := fmt.Sprintf(`{"owner":%q,"order_id":"o","lines":[{"line_id":"a","amount":{"amount":100,"currency":"CNY"}},`+
			`{"line_id":"b","amount":{"amount":50,"currency":"CNY"}}],"items":[{"kind":"coupon","coupon_id":%q},%s]}`,
			c.owner, coupon.CouponID, cny(80))
		preview := read[ledger.HoldReply](c.post("/v1/preview", body).is(200)).Hold
		hold := read[ledger.HoldReply](c.post("/v1/holds", body).is(201)).Hold
		if cmp.Diff(preview.Items, hold.Items) != "" || cmp.Diff(preview.Lines, hold.Lines) != "" || preview.Payable.Amount != 39 {
			t.Errorf("%+v", preview)
		}
		holdIn(c.confirm(hold.HoldID, ""))
		for i, line := range []string{"a", "b"} {
			said := read[ledger.RefundReply](c.post("/v1/holds/"+hold.HoldID+"/refunds/preview",
				fmt.Sprintf(`{"owner":%q,"refund_ref":%q,"lines":[%q]}`, c.owner, line, line)).is(200)).Refund
			made := read[ledger.RefundReply](c.refund(hold.HoldID, line, fmt.Sprintf(`,"lines":[%q]`, line)).is(201)).Refund
			said.RefundID, said.RefundedAt = made.RefundID, made.RefundedAt
			if diff := cmp.Diff(said, made); diff != "" {
				t.Error(diff)
			}
			wants := []ledger.RefundLine{
				{LineID: "a", Amount: 100, Discount: 21, Money: 53, Payable: 26}, {LineID: "b", Amount: 50, Discount: 10, Money: 27, Payable: 13},
			}
			if len(made.Coupons) != returned[i] || made.Lines[0] != wants[i] || made.Whole != (i == 1) {
				t.Errorf("%s, line %s: %+v", policy, line, made)
			}
			if below := len(made.BelowMinSpend) == 1; below != (policy == "NEVER" || policy == "WHOLE_ORDER" && i == 0) {
				t.Errorf("%s, line %s: below the threshold is %v", policy, line, made.BelowMinSpend)
			}
		}
		if owner := read[ledger.OwnerBody](c.get("/v1/owners/" + c.owner).is(200)); owner.Balances[0].Available != 100 {
			t.Errorf("%s: %+v", policy, owner)
		}
	}
}

// TestExtendAndPin: a later expiry, never an earlier one, up to a limit; and the report of what is pinned.
func TestExtendAndPin(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(100)
	coupon := c.coupon(`{"kind":"PERCENT","basis_points":1000,"currency":"CNY"}`)
	hold := read[ledger.HoldReply](c.post("/v1/holds", fmt.Sprintf(`{"owner":%q,"order_id":"o","ttl_ms":60000,"lines":[{"line_id":"a",`+
		`"amount":{"amount":100,"currency":"CNY"}}],"items":[{"kind":"coupon","coupon_id":%q},%s]}`, c.owner, coupon.CouponID, cny(80)))).Hold
	later := func(what string, ms int64) answer {
		return c.post("/v1/holds/"+hold.HoldID+"/"+what, fmt.Sprintf(`{"owner":%q,"ttl_ms":%d}`, c.owner, ms))
	}
	if same := holdIn(later("extend", 1000)).Hold; !same.ExpiresAt.Equal(hold.ExpiresAt) {
		t.Errorf("extended from %s to %s", hold.ExpiresAt, same.ExpiresAt)
	}
	longer := holdIn(later("extend", 3_600_000)).Hold
	if longer.ExpiresAt.Sub(hold.ExpiresAt) < 50*time.Minute {
		t.Errorf("extended from %s to %s", hold.ExpiresAt, longer.ExpiresAt)
	}
	if held := read[ledger.Coupon](c.get("/v1/coupons/" + coupon.CouponID).is(200)); !held.HeldUntil.Equal(longer.ExpiresAt) {
		t.Errorf("%+v", held)
	}
	if p := later("extend", 2_592_000_000).refused(409, "limit-reached"); *p.Have >= 2_592_000_000 {
		t.Errorf("%+v", p)
	}
	pinned := holdIn(later("pin", 7_200_000)).Hold
	if pinned.PinnedAt.IsZero() || !pinned.ExpiresAt.After(longer.ExpiresAt) {
		t.Errorf("%+v", pinned)
	}
	later("pin", 604_800_000).refused(409, "limit-reached")
	later("pin", 604_800_001).refused(400, "invalid-request").at("/ttl_ms")
	report := func() bool {
		return strings.Contains(c.get("/v1/admin/holds?pinned=true&limit=200").is(200).body, hold.HoldID)
	}
	if !report() {
		t.Error("the pinned hold is not in the report")
	}
	holdIn(c.confirm(hold.HoldID, ""))
	if report() {
		t.Error("the confirmed hold is in the report")
	}
	later("extend", 1000).refused(409, "already-confirmed")
	c.get("/v1/admin/holds").refused(400, "invalid-request")
	c.get("/v1/admin/holds?overdue=true").is(200)
	c.get("/v1/admin/holds?pinned=1").refused(400, "invalid-request").at("pinned")
}

// TestReplace: the owner's own older hold is not in the way, and stays if the new one cannot be made.
func TestReplace(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(100)
	old := c.held("o", cny(100)).HoldID
	replace := func(order string, attempt int, items string, headers ...header) answer {
		return c.post("/v1/holds/"+old+"/replace",
			fmt.Sprintf(`{"owner":%q,"order_id":%q,"attempt":%d,"items":[%s]}`, c.owner, order, attempt, items), headers...)
	}
	replace("o", 2, cny(101)).refused(409, "insufficient")
	replace("p", 1, cny(50)).refused(400, "invalid-request").at("/order_id")
	if still := read[ledger.HoldBody](c.get("/v1/holds/" + old).is(200)); still.State != "HELD" {
		t.Errorf("%+v", still)
	}
	made := read[ledger.HoldReply](replace("o", 2, cny(70)).is(201))
	if made.Hold.Supersedes != old || made.Balances[0] != (ledger.Balance{Currency: "CNY", Available: 30, Held: 70}) {
		t.Errorf("%+v", made)
	}
	if again := read[ledger.HoldReply](replace("o", 2, cny(70)).is(200)); !again.AlreadyExists || again.Hold.HoldID != made.Hold.HoldID {
		t.Errorf("%+v", again)
	}
	if was := read[ledger.HoldBody](c.get("/v1/holds/" + old).is(200)); was.State != "CANCELLED" || was.SupersededBy != made.Hold.HoldID {
		t.Errorf("%+v", was)
	}
	if p := c.confirm(old, "").refused(409, "superseded"); p.HoldID != made.Hold.HoldID {
		t.Errorf("%+v", p)
	}
	replace("o", 3, cny(1)).refused(409, "superseded")
}

// TestC11Late: a payment that comes after its hold has expired is confirmed with the same assets, or told what is gone.
func TestC11Late(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(100)
	short := func(order string) ledger.HoldBody {
		body := fmt.Sprintf(`{"owner":%q,"order_id":%q,"ttl_ms":1000,"items":[%s]}`, c.owner, order, cny(50))
		return read[ledger.HoldReply](c.post("/v1/holds", body).is(201)).Hold
	}
	first, second := short("a"), short("b")
	time.Sleep(time.Until(second.ExpiresAt)) // the shard's clock cannot be moved
	c.confirm(first.HoldID, "").refused(409, "hold-expired")
	late := holdIn(c.confirm(first.HoldID, `,"allow_late":true`)).Hold
	if late.State != "CONFIRMED" || !late.Late || late.Supersedes != first.HoldID || late.OrderID != "a" || late.HoldID == first.HoldID {
		t.Errorf("%+v", late)
	}
	if p := c.confirm(first.HoldID, `,"allow_late":true`).refused(409, "superseded"); p.HoldID != late.HoldID {
		t.Errorf("%+v", p)
	}
	c.held("other", cny(20))
	refused := c.confirm(second.HoldID, `,"allow_late":true`)
	refused.refused(409, "late-unfulfillable")
	if gone := read[struct{ Gone []ledger.GoneAsset }](refused).Gone; len(gone) != 1 || gone[0].Asked != 50 || gone[0].Have != 30 {
		t.Errorf("%+v", gone)
	}
	if shown := read[ledger.HoldBody](c.get("/v1/holds/" + late.HoldID).is(200)); cmp.Diff(shown, late) != "" {
		t.Error(cmp.Diff(shown, late))
	}
	read[ledger.RefundReply](c.refund(late.HoldID, "r", `,"all":true`).is(201))
	c.refund(first.HoldID, "r2", `,"all":true`).refused(409, "superseded")
}

// TestDryRun: what a write would answer, and nothing of it written, not even under its key.
func TestDryRun(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(100)
	before := c.get("/v1/owners/" + c.owner).is(200).body
	key := header{"Idempotency-Key", newKey()}
	body := func(amount int) string {
		return fmt.Sprintf(`{"owner":%q,"order_id":"o","items":[%s]}`, c.owner, cny(amount))
	}
	dry := read[ledger.HoldReply](c.post("/v1/holds?dry_run=true", body(70), key).is(200))
	if dry.Hold.State != "HELD" || dry.Balances[0].Held != 70 {
		t.Errorf("%+v", dry)
	}
	c.post("/v1/holds?dry_run=true", body(101), key).refused(409, "insufficient")
	c.get("/v1/holds/"+dry.Hold.HoldID).refused(404, "not-found")
	if after := c.get("/v1/owners/" + c.owner).is(200).body; after != before {
		t.Errorf("a dry run has changed the owner: %s, %s", before, after)
	}
	if status := c.get("/v1/owners/" + c.owner + "/operations/" + key.value).is(200).body; !strings.Contains(status, "NOT_SEEN") {
		t.Error(status)
	}
	hold := read[ledger.HoldReply](c.post("/v1/holds?dry_run=false", body(70), key).is(201)).Hold
	if spent := holdIn(c.post("/v1/holds/"+hold.HoldID+"/confirm?dry_run=true", c.ofOwner())); spent.Hold.State != "CONFIRMED" {
		t.Errorf("%+v", spent)
	}
	if still := read[ledger.HoldBody](c.get("/v1/holds/" + hold.HoldID).is(200)); still.State != "HELD" {
		t.Errorf("%+v", still)
	}
	c.post("/v1/holds?dry_run=yes", body(1)).refused(400, "invalid-request").at("dry_run")
	c.get("/v1/owners/"+c.owner+"?dry_run=true").refused(400, "invalid-request")
}

// TestFreeze: no new holds, in whatever way, and live ones still confirm (C40).
func TestFreeze(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(100)
	hold := c.held("o", cny(10)).HoldID
	other := c.held("p", cny(10)).HoldID
	freeze := func(what string) answer { return c.post("/v1/owners/"+c.owner+"/"+what, `{"reason":"case 4711"}`) }
	for range 2 {
		if reply := read[ledger.FreezeReply](freeze("freeze").is(200)); !reply.Frozen || reply.Version != 4 {
			t.Errorf("%+v", reply)
		}
	}
	c.hold("q", cny(1)).refused(409, "frozen")
	c.post("/v1/preview", fmt.Sprintf(`{"owner":%q,"order_id":"q","items":[%s]}`, c.owner, cny(1))).refused(409, "frozen")
	c.post("/v1/holds/"+other+"/replace", fmt.Sprintf(`{"owner":%q,"order_id":"p","attempt":2,"items":[%s]}`, c.owner, cny(1))).
		refused(409, "frozen")
	holdIn(c.confirm(hold, ""))
	read[ledger.RefundReply](c.refund(hold, "r", `,"all":true`).is(201))
	if owner := read[ledger.OwnerBody](c.get("/v1/owners/" + c.owner).is(200)); !owner.Frozen {
		t.Errorf("%+v", owner)
	}
	freeze("unfreeze").is(200)
	c.held("q", cny(1))
	entries := c.get("/v1/owners/" + c.owner + "/entries").is(200).body
	if strings.Count(entries, "FROZEN") != 2 || strings.Count(entries, "case 4711") != 2 {
		t.Error(entries)
	}
	c.post("/v1/owners/"+c.owner+"/freeze", `{"reason":""}`).refused(400, "invalid-request").at("/reason")
}

// TestRevoke: what is free is taken, and what is held only if the request says so.
func TestRevoke(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	lot := c.money(100).Lot.LotID
	coupon := c.coupon(`{"kind":"PERCENT","basis_points":1000,"currency":"CNY"}`)
	hold := read[ledger.HoldReply](c.post("/v1/holds", fmt.Sprintf(`{"owner":%q,"order_id":"o","lines":[{"line_id":"a",`+
		`"amount":{"amount":100,"currency":"CNY"}}],"items":[{"kind":"coupon","coupon_id":%q},%s]}`, c.owner, coupon.CouponID, cny(60)))).Hold
	revoke := func(what string, held bool) answer {
		return c.post("/v1/"+what+"/revoke", fmt.Sprintf(`{"owner":%q,"reason":"a mistake","include_held":%v}`, c.owner, held))
	}
	if p := revoke("coupons/"+coupon.CouponID, false).refused(409, "held-by-other"); p.HoldID != hold.HoldID || !p.Retryable {
		t.Errorf("%+v", p)
	}
	free := read[ledger.LotReply](revoke("lots/"+lot, false).is(200)).Lot
	if free.Revoked != 40 || free.Held != 60 {
		t.Errorf("%+v", free)
	}
	revoke("lots/"+lot, false).refused(409, "insufficient")
	if gone := read[ledger.CouponReply](revoke("coupons/"+coupon.CouponID, true).is(200)).Coupon; gone.State != "REVOKED" {
		t.Errorf("%+v", gone)
	}
	c.confirm(hold.HoldID, "").refused(409, "already-cancelled")
	revoke("coupons/"+coupon.CouponID, true).refused(409, "asset-expired")
	again := c.held("p", cny(60)).HoldID
	if all := read[ledger.LotReply](revoke("lots/"+lot, true).is(200)).Lot; all.Revoked != 100 || all.Held != 0 {
		t.Errorf("%+v", all)
	}
	if was := read[ledger.HoldBody](c.get("/v1/holds/" + again).is(200)); was.State != "CANCELLED" {
		t.Errorf("%+v", was)
	}
	if v := read[ledger.VerifyBody](c.get("/v1/owners/" + c.owner + "/entries/verify").is(200)); !v.Intact {
		t.Errorf("%+v", v)
	}
	c.with("somebody-else").post("/v1/lots/"+lot+"/revoke", `{"owner":"somebody-else","reason":"x"}`).refused(404, "not-found")
}

// TestStacking: priorities, groups, and the most that all coupons give.
func TestStacking(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	issue := func(discount, terms string) string {
		body := fmt.Sprintf(`{"owner":%q,"issue_ref":"ref-%d","discount":%s,"expires_at":%q,%s}`,
			c.owner, numbers.Add(1), discount, inAnHour(), terms)
		coupon := read[ledger.CouponReply](c.post("/v1/campaigns/spring/issues", body).is(201)).Coupon
		return fmt.Sprintf(`{"kind":"coupon","coupon_id":%q}`, coupon.CouponID)
	}
	half := issue(`{"kind":"PERCENT","basis_points":5000,"currency":"CNY"}`, `"priority":1`)
	fifty := issue(`{"kind":"FIXED","amount":{"amount":50,"currency":"CNY"}}`, `"priority":0,"stack_group":"g","max_per_group":1`)
	ten := issue(`{"kind":"FIXED","amount":{"amount":10,"currency":"CNY"}}`, `"stack_group":"g","max_per_group":1`)
	preview := func(more string, items ...string) answer {
		return c.post("/v1/preview", fmt.Sprintf(`{"owner":%q,"order_id":"o","lines":[{"line_id":"a","amount":{"amount":100,"currency":"CNY"}}],`+
			`"items":[%s]%s}`, c.owner, strings.Join(items, ","), more))
	}
	for _, items := range [][]string{{half, ten}, {ten, half}} { // half of 100, then 10
		if hold := holdIn(preview("", items...)).Hold; hold.Discount.Amount != 60 {
			t.Errorf("%+v", hold)
		}
	}
	if hold := holdIn(preview(`,"max_discount":{"amount":55,"currency":"CNY"}`, half, ten)).Hold; hold.Discount.Amount != 55 {
		t.Errorf("%+v", hold)
	}
	if p := preview("", fifty, half, ten).refused(409, "not-stackable"); *p.Asked != 2 || *p.Have != 1 {
		t.Errorf("%+v", p)
	} else {
		p.at("/items/2/coupon_id")
	}
	preview(`,"max_discount":{"amount":55,"currency":"USD"}`, half).refused(400, "invalid-request").at("/max_discount/currency")
	preview(`,"over_capture_limit":{"amount":55,"currency":"CNY"}`, half).refused(400, "invalid-request").at("/over_capture_limit")
	more := `{"kind":"money","amount":{"amount":1,"currency":"CNY"}}`
	preview(`,"over_capture_limit":{"amount":55,"currency":"USD"}`, more).refused(400, "invalid-request").at("/over_capture_limit/currency")
	c.money(10)
	over := holdIn(preview(`,"over_capture_limit":{"amount":55,"currency":"CNY"}`, more)).Hold
	if over.OverCaptureLimit == nil || *over.OverCaptureLimit != (ledger.Money{Amount: 55, Currency: "CNY"}) {
		t.Errorf("%+v", over)
	}
	bad := fmt.Sprintf(`{"owner":%q,"issue_ref":"x","discount":{"kind":"PERCENT","basis_points":1,"currency":"CNY"},"expires_at":%q,`,
		c.owner, inAnHour())
	c.post("/v1/campaigns/spring/issues", bad+`"max_per_group":1}`).refused(400, "invalid-request").at("/max_per_group")
	c.post("/v1/campaigns/spring/issues", bad+`"refund_policy":"SOMETIMES"}`).refused(400, "invalid-request").at("/refund_policy")
	c.post("/v1/campaigns/spring/issues", bad+`"max_discount":{"amount":1,"currency":"USD"}}`).
		refused(400, "invalid-request").at("/max_discount/currency")
	c.post("/v1/campaigns/spring/issues", bad+`"return_grace_ms":0.5}`).refused(400, "invalid-request").at("/return_grace_ms")
}

// A campaign is created with terms, and its coupons have them; what makes no sense is refused where it stands.
func TestTermsOfACampaign(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	name := fmt.Sprintf("terms-%d", numbers.Add(1))
	create := func(terms string) answer {
		return c.post("/v1/campaigns", fmt.Sprintf(`{"campaign_id":%q,"discount":{"kind":"FIXED","amount":{"amount":300,"currency":"CNY"}},`+
			`"time_zone":"UTC","starts_at":%q,"ends_at":%q,"validity":{"kind":"DAYS","days":7},%s}`,
			name, time.Now().Add(-time.Hour).Format(time.RFC3339), inAnHour(), terms))
	}
	for wrong, at := range map[string]string{
		`"refund_policy":"SOMETIMES"`:                                   "/refund_policy",
		`"stack_group":"g","max_per_group":51`:                          "/max_per_group",
		`"max_per_group":1`:                                             "/max_per_group",
		`"priority":1001`:                                               "/priority",
		`"max_discount":{"amount":0,"currency":"CNY"}`:                  "/max_discount/amount",
		`"max_discount":{"amount":1,"currency":"USD"}`:                  "/max_discount/currency",
		`"return_grace_ms":0`:                                           "/return_grace_ms",
		`"stack_group":"a group","max_per_group":1,"return_grace_ms":5`: "/stack_group",
	} {
		create(wrong).refused(400, "invalid-request").at(at)
	}
	want := ledger.Terms{
		Refund: ledger.NoRefund, StackGroup: "g", MaxPerGroup: 1, Priority: 2, MaxDiscount: ledger.Money{Amount: 500, Currency: "CNY"},
		ReturnGraceMs: 5000,
	}
	made := read[ledger.CampaignReply](create(`"refund_policy":"NEVER","stack_group":"g","max_per_group":1,"priority":2,` +
		`"max_discount":{"amount":500,"currency":"CNY"},"return_grace_ms":5000`).is(201)).Campaign
	claim := fmt.Sprintf(`{"owner":%q,"claim_ref":"r"}`, c.owner)
	coupon := read[ledger.CouponReply](c.post("/v1/campaigns/"+name+"/claims", claim).is(201)).Coupon
	shown := read[ledger.Campaign](c.get("/v1/campaigns/" + name).is(200))
	if made.Terms != want || coupon.Terms != want || shown.Terms != want {
		t.Errorf("%+v %+v %+v", made, coupon, shown)
	}
}
