package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

const (
	tortureOwners    = 12
	tortureSKUs      = 3 // scarce: units travel all the time
	tortureCampaigns = 2
	tortureRemember  = 200 // of each kind of thing that callers know
)

// tortureKnown is what callers have heard of.
type tortureKnown struct {
	mu      sync.Mutex
	holds   []heldThing
	coupons []heldThing
	lots    []heldThing
	packets []heldThing
}

// heldThing is something of an owner.
type heldThing struct {
	owner, id, order string
	items            int
}

func (k *tortureKnown) learn(list *[]heldThing, thing heldThing) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if thing.id == "" {
		return
	}
	*list = append(*list, thing)
	if len(*list) > tortureRemember {
		*list = (*list)[1:]
	}
}

// some is one of the newest things in a list, of an owner if he is named.
func (k *tortureKnown) some(list *[]heldThing, owner string, dice *rand.Rand) (thing heldThing, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for range min(len(*list), 20) {
		if thing = (*list)[dice.IntN(len(*list))]; owner == "" || thing.owner == owner {
			return thing, true
		}
	}
	return heldThing{}, false
}

func tortureOwner(n int) string { return fmt.Sprintf("tortured-%d", n) }

func tortureCampaign(n int) string { return fmt.Sprintf("torture-%d", n) }

// prepare makes what there is but once.
func (l *tortureLoad) prepare(ctx context.Context) error {
	dice := rand.New(rand.NewPCG(l.seed, 0))
	var calls []*tortureCall
	for n := range tortureSKUs {
		call := l.newCall(fmt.Sprintf("/v1/stock/sku-%d/x", n), `{"total": 20}`, bookEntry{})
		call.put = true
		calls = append(calls, call)
	}
	for n := range tortureCampaigns {
		calls = append(calls, l.newCall("/v1/campaigns", fmt.Sprintf(`{"campaign_id":%q,"time_zone":"Asia/Shanghai",`+
			`"starts_at":%q,"ends_at":%q,"discount":{"kind":"FIXED","amount":{"amount":7,"currency":"CNY"}},"validity":{"kind":"DAYS","days":3},`+
			`"total_limit":100000,"budget":{"amount":500000,"currency":"CNY"}}`,
			tortureCampaign(n), time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), nextYear().Format(time.RFC3339)), bookEntry{}))
	}
	for n := range tortureOwners {
		calls = append(calls, l.credit(tortureOwner(n), 100_000))
	}
	for _, call := range calls {
		if reply, err := l.settle(ctx, call, dice, true); err != nil || reply.code != "" || !reply.final {
			return fmt.Errorf("%w: %s: %d %s %w", errPrepare, call.path, reply.status, reply.body, err)
		}
	}
	l.calls.all = nil // the books begin here
	return nil
}

func (l *tortureLoad) credit(owner string, amount int64) *tortureCall {
	return l.newCall("/v1/owners/"+owner+"/lots", fmt.Sprintf(`{"issue_ref":"r-%d","source":"torture","expires_at":%q,"amount":%s}`,
		l.serial.Add(1), nextYear().Format(time.RFC3339), cnyJSON(amount)), bookEntry{bookMoney, amount})
}

func cnyJSON(amount int64) string { return fmt.Sprintf(`{"amount":%d,"currency":"CNY"}`, amount) }

// tortureOp makes up a call, and says what is learned from its answer; no call if nothing is known that it could be about.
type tortureOp struct {
	weight int
	make   func(c *tortureCaller, owner string) (*tortureCall, func(body []byte))
}

var tortureOps = []tortureOp{
	{6, (*tortureCaller).creditSome},
	{6, (*tortureCaller).claim},
	{4, (*tortureCaller).issue},
	{24, (*tortureCaller).hold},
	{12, (*tortureCaller).confirm},
	{8, (*tortureCaller).confirmPart},
	{6, (*tortureCaller).cancel},
	{4, (*tortureCaller).extend},
	{2, (*tortureCaller).pin},
	{4, (*tortureCaller).replace},
	{8, (*tortureCaller).refund},
	{1, (*tortureCaller).freeze},
	{5, (*tortureCaller).unfreeze},
	{1, (*tortureCaller).revokeCoupon},
	{1, (*tortureCaller).revokeLot},
	{3, (*tortureCaller).sendPacket},
	{10, (*tortureCaller).grab},
	{6, (*tortureCaller).adjust},
	{1, (*tortureCaller).moveCampaign},
	{6, (*tortureCaller).again},
}

// next makes up a call.
func (c *tortureCaller) next() (*tortureCall, func(body []byte)) {
	sum := 0
	for _, op := range tortureOps {
		sum += op.weight
	}
	n := c.dice.IntN(sum)
	owner := tortureOwner(c.dice.IntN(tortureOwners))
	for _, op := range tortureOps {
		if n -= op.weight; n < 0 {
			return op.make(c, owner)
		}
	}
	return nil, nil
}

// field reads a text two levels deep in a reply.
func field(body []byte, object, name string) string {
	var reply map[string]json.RawMessage
	var inner map[string]any
	if json.Unmarshal(body, &reply) != nil || json.Unmarshal(reply[object], &inner) != nil {
		return ""
	}
	text, _ := inner[name].(string)
	return text
}

func (c *tortureCaller) creditSome(owner string) (*tortureCall, func([]byte)) {
	return c.credit(owner, 1+c.dice.Int64N(300)), func(body []byte) {
		c.learn(&c.lots, heldThing{owner: owner, id: field(body, "lot", "lot_id")})
	}
}

func (c *tortureCaller) learnCoupon(owner string) func([]byte) {
	return func(body []byte) {
		c.learn(&c.coupons, heldThing{owner: owner, id: field(body, "coupon", "coupon_id")})
	}
}

func (c *tortureCaller) claim(owner string) (*tortureCall, func([]byte)) {
	body := fmt.Sprintf(`{"owner":%q,"claim_ref":"c-%d"}`, owner, c.serial.Add(1))
	campaign := tortureCampaign(c.dice.IntN(tortureCampaigns))
	return c.newCall("/v1/campaigns/"+campaign+"/claims", body, bookEntry{bookCoupons, 1}), c.learnCoupon(owner)
}

func (c *tortureCaller) issue(owner string) (*tortureCall, func([]byte)) {
	body := fmt.Sprintf(`{"owner":%q,"issue_ref":"i-%d","expires_at":%q,"discount":{"kind":"FIXED","amount":%s},`+
		`"refund_policy":"ANY_REFUND"}`, owner, c.serial.Add(1), nextYear().Format(time.RFC3339), cnyJSON(5))
	return c.newCall("/v1/campaigns/direct/issues", body, bookEntry{bookCoupons, 1}), c.learnCoupon(owner)
}

// items are what a hold takes: mostly several kinds at once.
func (c *tortureCaller) items(owner string) (items []string) {
	if c.dice.IntN(3) > 0 {
		items = append(items, fmt.Sprintf(`{"kind":"money","amount":%s}`, cnyJSON(1+c.dice.Int64N(60))))
	}
	if coupon, ok := c.some(&c.coupons, owner, c.dice); ok && c.dice.IntN(2) == 0 {
		items = append(items, fmt.Sprintf(`{"kind":"coupon","coupon_id":%q}`, coupon.id))
	}
	for range c.dice.IntN(3) {
		items = append(items, fmt.Sprintf(`{"kind":"stock","sku":"sku-%d","location":"x","quantity":%d}`,
			c.dice.IntN(tortureSKUs), 1+c.dice.IntN(4)))
	}
	if c.dice.IntN(3) == 0 || len(items) == 0 {
		items = append(items, fmt.Sprintf(`{"kind":"budget","campaign_id":%q,"amount":%s}`, tortureCampaign(c.dice.IntN(tortureCampaigns)),
			cnyJSON(1+c.dice.Int64N(20))))
	}
	return items
}

func (c *tortureCaller) holdBody(owner, order string, attempt int) (body string, items int) {
	list := c.items(owner)
	lines := fmt.Sprintf(`[{"line_id":"a","amount":%s},{"line_id":"b","amount":%s}]`, cnyJSON(90), cnyJSON(33))
	return fmt.Sprintf(`{"owner":%q,"order_id":%q,"attempt":%d,"ttl_ms":%d,"lines":%s,"items":[%s]}`, owner, order, attempt,
		1000+c.dice.IntN(5000), lines, strings.Join(list, ",")), len(list)
}

func (c *tortureCaller) learnHold(owner, order string, items int) func([]byte) {
	return func(body []byte) {
		c.learn(&c.holds, heldThing{owner: owner, order: order, id: field(body, "hold", "hold_id"), items: items})
	}
}

func (c *tortureCaller) hold(owner string) (*tortureCall, func([]byte)) {
	order := fmt.Sprintf("o-%d", c.serial.Add(1))
	body, items := c.holdBody(owner, order, 1)
	return c.newCall("/v1/holds", body, bookEntry{}), c.learnHold(owner, order, items)
}

// onHold is a call about a hold that somebody has made.
func (c *tortureCaller) onHold(what string, adds bookEntry, body func(h heldThing) string) (*tortureCall, func([]byte)) {
	h, ok := c.some(&c.holds, "", c.dice)
	if !ok {
		return nil, nil
	}
	return c.newCall("/v1/holds/"+h.id+"/"+what, body(h), adds), nil
}

func (c *tortureCaller) confirm(string) (*tortureCall, func([]byte)) {
	return c.onHold("confirm", bookEntry{}, func(h heldThing) string {
		return fmt.Sprintf(`{"owner":%q,"allow_late":%t}`, h.owner, c.dice.IntN(2) == 0)
	})
}

func (c *tortureCaller) confirmPart(string) (*tortureCall, func([]byte)) {
	return c.onHold("confirm", bookEntry{}, func(h heldThing) string {
		final := c.dice.IntN(3) == 0
		if c.dice.IntN(2) == 0 {
			return fmt.Sprintf(`{"owner":%q,"amount":%s,"final":%t}`, h.owner, cnyJSON(1+c.dice.Int64N(30)), final)
		}
		return fmt.Sprintf(`{"owner":%q,"items":[{"item":%d,"all":true}],"final":%t}`, h.owner, c.dice.IntN(h.items), final)
	})
}

func (c *tortureCaller) cancel(string) (*tortureCall, func([]byte)) {
	return c.onHold("cancel", bookEntry{}, func(h heldThing) string { return fmt.Sprintf(`{"owner":%q}`, h.owner) })
}

func (c *tortureCaller) later(h heldThing) string {
	return fmt.Sprintf(`{"owner":%q,"ttl_ms":%d}`, h.owner, 1000+c.dice.IntN(6000))
}

func (c *tortureCaller) extend(string) (*tortureCall, func([]byte)) {
	return c.onHold("extend", bookEntry{}, c.later)
}

func (c *tortureCaller) pin(string) (*tortureCall, func([]byte)) {
	return c.onHold("pin", bookEntry{}, c.later)
}

func (c *tortureCaller) replace(string) (*tortureCall, func([]byte)) {
	h, ok := c.some(&c.holds, "", c.dice)
	if !ok {
		return nil, nil
	}
	body, items := c.holdBody(h.owner, h.order, 2+c.dice.IntN(1000))
	return c.newCall("/v1/holds/"+h.id+"/replace", body, bookEntry{}), c.learnHold(h.owner, h.order, items)
}

func (c *tortureCaller) refund(string) (*tortureCall, func([]byte)) {
	return c.onHold("refunds", bookEntry{bookRefunds, 1}, func(h heldThing) string {
		ref := fmt.Sprintf(`{"owner":%q,"refund_ref":"f-%d"`, h.owner, c.serial.Add(1))
		if c.dice.IntN(2) == 0 {
			return ref + `,"all":true}`
		}
		return ref + `,"amount":` + cnyJSON(1+c.dice.Int64N(20)) + `}`
	})
}

const tortureReason = `{"reason":"torture"}`

func (c *tortureCaller) freeze(owner string) (*tortureCall, func([]byte)) {
	return c.newCall("/v1/owners/"+owner+"/freeze", tortureReason, bookEntry{}), nil
}

// unfreeze comes more often, so that most owners can do something.
func (c *tortureCaller) unfreeze(owner string) (*tortureCall, func([]byte)) {
	return c.newCall("/v1/owners/"+owner+"/unfreeze", tortureReason, bookEntry{}), nil
}

func (c *tortureCaller) revoke(list *[]heldThing, path string) (*tortureCall, func([]byte)) {
	thing, ok := c.some(list, "", c.dice)
	if !ok {
		return nil, nil
	}
	body := fmt.Sprintf(`{"owner":%q,"reason":"torture","include_held":%t}`, thing.owner, c.dice.IntN(2) == 0)
	return c.newCall(path+thing.id+"/revoke", body, bookEntry{}), nil
}

func (c *tortureCaller) revokeCoupon(string) (*tortureCall, func([]byte)) {
	return c.revoke(&c.coupons, "/v1/coupons/")
}

func (c *tortureCaller) revokeLot(string) (*tortureCall, func([]byte)) {
	return c.revoke(&c.lots, "/v1/lots/")
}

func (c *tortureCaller) sendPacket(owner string) (*tortureCall, func([]byte)) {
	amount := 10 + c.dice.Int64N(90)
	mode := []string{"EQUAL", "RANDOM"}[c.dice.IntN(2)]
	body := fmt.Sprintf(`{"owner":%q,"packet_ref":"p-%d","amount":%s,"shares":%d,"mode":%q}`, owner, c.serial.Add(1), cnyJSON(amount),
		1+c.dice.IntN(8), mode)
	return c.newCall("/v1/packets", body, bookEntry{bookPackets, amount}), func(body []byte) {
		c.learn(&c.packets, heldThing{owner: owner, id: field(body, "packet", "packet_id")})
	}
}

func (c *tortureCaller) grab(owner string) (*tortureCall, func([]byte)) {
	packet, ok := c.some(&c.packets, "", c.dice)
	if !ok {
		return nil, nil
	}
	return c.newCall("/v1/packets/"+packet.id+"/grabs", fmt.Sprintf(`{"owner":%q}`, owner), bookEntry{}), nil
}

// adjust gives more often than it takes: what is sold does not come back.
func (c *tortureCaller) adjust(string) (*tortureCall, func([]byte)) {
	delta := c.dice.Int64N(12) - 5
	if delta <= 0 {
		delta--
	}
	body := fmt.Sprintf(`{"delta":%d,"reason":"torture"}`, delta)
	path := fmt.Sprintf("/v1/stock/sku-%d/x/adjustments", c.dice.IntN(tortureSKUs))
	if c.dice.IntN(5) == 0 {
		path = "/v1/quotas/budget:" + tortureCampaign(c.dice.IntN(tortureCampaigns)) + "/adjustments"
	}
	return c.newCall(path, body, bookEntry{bookUnits, delta}), nil
}

// moveCampaign pauses, resumes, freezes and unfreezes; the last two of each pair more often.
func (c *tortureCaller) moveCampaign(string) (*tortureCall, func([]byte)) {
	event := []string{"pause", "resume", "resume", "freeze", "unfreeze", "unfreeze"}[c.dice.IntN(6)]
	return c.newCall("/v1/campaigns/"+tortureCampaign(c.dice.IntN(tortureCampaigns))+"/"+event, tortureReason, bookEntry{}), nil
}

// again sends an old key, maybe while its first caller still waits.
func (c *tortureCaller) again(string) (*tortureCall, func([]byte)) {
	c.calls.Lock()
	defer c.calls.Unlock()
	if len(c.calls.all) == 0 {
		return nil, nil
	}
	return c.calls.all[c.dice.IntN(len(c.calls.all))], nil
}
