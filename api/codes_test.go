package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
)

// campaign makes a campaign from which coupons of 300 are claimed; rules are more members of it, as JSON.
func (c *client) campaign(rules string) (name string) {
	c.t.Helper()
	name = "campaign-" + newKey()
	now := time.Now().UTC()
	c.post("/v1/campaigns", fmt.Sprintf(`{"campaign_id":%q,"discount":{"kind":"FIXED","amount":{"amount":300,"currency":"CNY"}},`+
		`"time_zone":"Asia/Shanghai","starts_at":%q,"ends_at":%q,"validity":{"kind":"DAYS","days":7}%s}`, name,
		now.Add(-time.Hour).Format(time.RFC3339), now.AddDate(0, 1, 0).Format(time.RFC3339), rules)).is(http.StatusCreated)
	return name
}

// redeem redeems a code, which is part of a JSON text.
func (c *client) redeem(code string, headers ...header) answer {
	c.t.Helper()
	return c.post("/v1/redemptions", fmt.Sprintf(`{"owner":%q,"code":"%s"}`, c.owner, code), headers...)
}

type codePage struct {
	Codes      []ledger.CodeBody
	NextCursor string `json:"next_cursor"`
}

// TestRedemptions: codes are made once, listed, and give their coupon to one owner, however they are typed.
func TestRedemptions(t *testing.T) {
	t.Parallel()
	c, other := newClient(t, sharedRig(t), nil), newClient(t, sharedRig(t), nil)
	campaign := c.campaign(`,"code_required":true`)
	c.post("/v1/campaigns/"+campaign+"/claims", fmt.Sprintf(`{"owner":%q,"claim_ref":"r"}`, c.owner)).refused(409, "code-required")
	const batch = `{"batch_ref":"letters","count":3}`
	made := read[ledger.CodesReply](c.post("/v1/campaigns/"+campaign+"/codes", batch).is(201))
	again := read[ledger.CodesReply](c.post("/v1/campaigns/"+campaign+"/codes", batch).is(200))
	if len(made.Codes) != 3 || strings.Join(made.Codes, " ") != strings.Join(again.Codes, " ") || !again.AlreadyExists {
		t.Fatalf("%+v, then %+v", made, again)
	}
	key := header{"Idempotency-Key", newKey()}
	coupon := read[ledger.CouponReply](c.redeem(strings.ToLower(made.Codes[1]), key).is(201)).Coupon
	if repeat := c.redeem(strings.ReplaceAll(made.Codes[1], "-", ""), key); repeat.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the same code was redeemed again: %s", repeat.body)
	}
	if had := read[ledger.CouponReply](c.redeem(made.Codes[1]).is(200)); had.Coupon.CouponID != coupon.CouponID {
		t.Errorf("%+v", had)
	}
	other.redeem(made.Codes[1]).refused(409, "spent").at("/code")
	other.redeem("NO-SUCH-CODE").refused(404, "not-found").at("/code")
	list := read[codePage](c.get("/v1/campaigns/" + campaign + "/codes?batch_ref=letters&limit=2").is(200))
	if len(list.Codes) != 2 || list.Codes[1].Owner != c.owner || list.Codes[1].State != "REDEEMED" {
		t.Errorf("%+v", list)
	}
	c.get("/v1/campaigns/"+campaign+"/codes?batch_ref=others&cursor="+list.NextCursor).refused(400, "invalid-request").at("cursor")
	c.get("/v1/campaigns/" + campaign + "/codes?batch_ref=letters&cursor=" + list.NextCursor).is(200)
}

// TestBadCodes: what is no code is refused with the place of what is wrong, and costs no attempt.
func TestBadCodes(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	campaign := c.campaign("")
	for body, pointer := range map[string]string{
		`{"batch_ref":"b"}`: "",
		`{"batch_ref":"b","count":1,"shared_code":"SAVE"}`:                  "",
		`{"batch_ref":"b","count":0}`:                                       "/count",
		`{"batch_ref":"b","count":1001}`:                                    "/count",
		`{"batch_ref":"","count":1}`:                                        "/batch_ref",
		`{"batch_ref":"b","codes":["SHORT"]}`:                               "/codes/0",
		`{"batch_ref":"b","codes":["ABCD-EFGH","abcd efgh"]}`:               "/codes/1",
		`{"batch_ref":"b","codes":["ABCDEFG0","ABCDEFGO"]}`:                 "/codes/1",
		`{"batch_ref":"b","shared_code":"S\u0410VE10"}`:                     "/shared_code",
		`{"batch_ref":"b","shared_code":"` + strings.Repeat("A", 33) + `"}`: "/shared_code",
	} {
		c.post("/v1/campaigns/"+campaign+"/codes", body).refused(400, "invalid-request").at(pointer)
	}
	for range 12 {
		c.redeem(`\u0421ODE-1234`).refused(400, "invalid-request").at("/code")
	}
	c.redeem("NO-SUCH-CODE").refused(404, "not-found")
	c.post("/v1/campaigns/"+campaign+"/claims", fmt.Sprintf(`{"owner":%q,"claim_ref":"code:X"}`, c.owner)).
		refused(400, "invalid-request").at("/claim_ref")
}

// TestTooManyGuesses: after ten wrong codes a right one waits, and the reply says for how long.
func TestTooManyGuesses(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	for i := range 10 {
		c.redeem(fmt.Sprintf("WRONG-CODE-%d", i)).refused(404, "not-found")
	}
	p := c.redeem("WRONG-CODE-AGAIN")
	if !p.refused(429, "too-many-guesses").Retryable || p.header.Get("Retry-After") == "" || p.header.Get("Retry-After") == "1" {
		t.Errorf("%v %s", p.header, p.body)
	}
}
