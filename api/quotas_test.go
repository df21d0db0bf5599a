package api_test

import (
	"fmt"
	"testing"

	"github.com/statesvc/statesvc/ledger"
)

// TestQuotasAreListed: by prefix, in pages, with what is sold.
func TestQuotasAreListed(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	prefix := "stock:cup-" + newKey()
	for _, colour := range []string{"blue", "green", "red"} {
		c.send("PUT", "/v1/quotas/"+prefix+colour+":berlin", `{"total":3}`).is(200)
	}
	c.held("o", fmt.Sprintf(`{"kind":"stock","sku":%q,"location":"berlin","quantity":2}`, prefix[len("stock:"):]+"green"))
	type list struct {
		Quotas     []ledger.QuotaBody
		NextCursor string `json:"next_cursor"`
	}
	path := "/v1/quotas?limit=2&prefix=" + prefix
	first := read[list](c.get(path).is(200))
	if len(first.Quotas) != 2 || first.Quotas[1].QuotaID != prefix+"green:berlin" || first.Quotas[1].Held != 2 ||
		first.Quotas[1].Available != 1 {
		t.Errorf("%+v", first)
	}
	rest := read[list](c.get(path + "&cursor=" + first.NextCursor).is(200))
	if len(rest.Quotas) != 1 || rest.Quotas[0].QuotaID != prefix+"red:berlin" || rest.NextCursor != "" {
		t.Errorf("%+v", rest)
	}
	c.get("/v1/quotas?limit=2&prefix=stock:&cursor="+first.NextCursor).refused(400, "invalid-request").at("cursor")
	c.get("/v1/quotas?prefix=stock%25").refused(400, "invalid-request").at("prefix")
}

func TestStock(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	sku := "mug-" + newKey()
	path := "/v1/stock/" + sku + "/berlin"
	item := func(quantity int) string {
		return fmt.Sprintf(`{"kind":"stock","sku":%q,"location":"berlin","quantity":%d}`, sku, quantity)
	}
	c.get(path).refused(404, "not-found")
	c.hold("early", item(1)).refused(404, "not-found").at("/items/0")
	set := read[ledger.QuotaReply](c.send("PUT", path, `{"total":3,"reason":"counted \"twice\""}`).is(200))
	if set.QuotaID != "stock:"+sku+":berlin" || set.Total != 3 || set.Free != 3 {
		t.Errorf("%+v", set)
	}
	c.held("o1", item(2))
	p := c.hold("o2", item(1)+","+item(1)).refused(409, "sold-out")
	if p.at("/items/0"); *p.Asked != 2 || *p.Have > 1 { // the last one may still be at home
		t.Errorf("%+v", p)
	}
	c.post(path+"/adjustments", `{"delta":-2}`).refused(409, "insufficient").at("/delta")
	c.post(path+"/adjustments", `{"delta":5,"reason":"delivery"}`).is(200)
	stock := read[ledger.QuotaBody](c.get(path).is(200))
	if same := read[ledger.QuotaBody](c.get("/v1/quotas/" + set.QuotaID).is(200)); same.Available != stock.Available {
		t.Errorf("%+v, but %+v", stock, same)
	}
	if stock.Total != 8 || stock.Held != 2 || stock.Available != 6 || len(stock.Slices) == 0 {
		t.Errorf("%+v", stock)
	}
	entries := read[struct{ Entries []ledger.Entry }](c.get("/v1/owners/" + set.QuotaID + "/entries").is(200)).Entries
	if entries[0].Kind != "QUOTA_SET" || entries[0].Reason != `counted "twice"` {
		t.Errorf("%+v", entries[0])
	}
}

func TestMalformedQuotas(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	for path, pointer := range map[string]string{
		"/v1/stock/a:b/c": "sku", "/v1/quotas/stock:a": "quota_id", "/v1/quotas/money:a": "quota_id", "/v1/quotas/budget:": "quota_id",
	} {
		c.get(path).refused(400, "invalid-request").at(pointer)
		c.send("PUT", path, `{"total":1}`).refused(400, "invalid-request").at(pointer)
		c.post(path+"/adjustments", `{"delta":1}`).refused(400, "invalid-request").at(pointer)
	}
	for body, pointer := range map[string]string{
		`{}`: "/total", `{"total":-1}`: "/total", `{"total":9007199254740992}`: "/total", `{"total":1,"currency":"CNY"}`: "/currency",
		`{"total":1,"reason":"\n"}`: "/reason",
	} {
		c.send("PUT", "/v1/stock/a/b", body).refused(400, "invalid-request").at(pointer)
	}
	c.send("PUT", "/v1/quotas/budget:a", `{"total":1}`).refused(400, "invalid-request").at("/currency")
	c.post("/v1/stock/a/b/adjustments", `{"delta":0}`).refused(400, "invalid-request").at("/delta")
	for item, pointer := range map[string]string{
		`{"kind":"stock","sku":"a","location":"b"}`:                                               "/items/0/quantity",
		`{"kind":"stock","sku":"a","quantity":1}`:                                                 "/items/0/sku",
		`{"kind":"stock","sku":"a","location":"b","quantity":0}`:                                  "/items/0/quantity",
		`{"kind":"stock","sku":"a","location":"b","quantity":1,"tag":"x"}`:                        "/items/0",
		`{"kind":"budget","campaign_id":"a"}`:                                                     "/items/0/amount/amount",
		`{"kind":"budget","campaign_id":"a","amount":{"amount":1,"currency":"CNY"},"quantity":1}`: "/items/0",
		`{"kind":"money","amount":{"amount":1,"currency":"CNY"},"sku":"a"}`:                       "/items/0",
		`{"kind":"stock","sku":"a","location":"b","quantity":9007199254740991},` +
			`{"kind":"stock","sku":"a","location":"b","quantity":1}`: "/items/1",
	} {
		c.hold("o", item).refused(400, "invalid-request").at(pointer)
	}
}

// Stock is confirmed by quantity, and shows in the parts of its hold; what is left can be given back, and is not refunded.
func TestStockInParts(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	sku := "cup-" + newKey()
	path := "/v1/stock/" + sku + "/berlin"
	c.send("PUT", path, `{"total":5}`).is(200)
	hold := c.held("o", fmt.Sprintf(`{"kind":"stock","sku":%q,"location":"berlin","quantity":5}`, sku)).HoldID
	c.confirm(hold, `,"items":[{"item":0,"quantity":0}]`).refused(400, "invalid-request").at("/items/0/quantity")
	c.confirm(hold, `,"items":[{"item":0,"amount":{"amount":1,"currency":"CNY"}}]`).refused(400, "invalid-request").at("/items/0/amount")
	c.confirm(hold, `,"items":[{"item":0,"quantity":6}]`).refused(409, "insufficient").at("/items/0")
	part := holdIn(c.confirm(hold, `,"items":[{"item":0,"quantity":2}]`))
	if part.Hold.State != "HELD" || part.Hold.Parts[0].Confirmed != 2 {
		t.Errorf("%+v", part.Hold)
	}
	c.refund(hold, "r", `,"items":[{"item":0,"quantity":1}]`).refused(409, "insufficient")
	c.post("/v1/holds/"+hold+"/cancel", fmt.Sprintf(`{"owner":%q}`, c.owner)).is(200)
	if stock := read[ledger.QuotaBody](c.get(path).is(200)); stock.Used != 2 || stock.Held != 0 || stock.Available+stock.Free != 3 {
		t.Errorf("%+v", stock)
	}
}
