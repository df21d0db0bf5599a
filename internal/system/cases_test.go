package system_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The cases of checkouts, over HTTP and on both databases; where nodes matter, callers come through two of them. Rules are tested
// in package ledger as well; here they pass every layer.

var owners atomic.Int64

// person is an owner that only one test knows.
type person struct {
	*cluster
	t    *testing.T
	name string
	refs *atomic.Int64
}

func (c *cluster) person(t *testing.T) person {
	t.Helper()
	return person{c, t, fmt.Sprint("person-", owners.Add(1)), new(atomic.Int64)}
}

// ref is a reference or key that is used once.
func (p person) ref() string { return fmt.Sprint(p.name, "-", p.refs.Add(1)) }

// post sends a write under a new key until its answer is final.
func (p person) post(path string, body any) reply {
	p.t.Helper()
	return p.settled(p.t, newRequest(http.MethodPost, path, p.ref(), body))
}

func (p person) credit(amount int64) lotReply {
	p.t.Helper()
	var body anyReply
	p.post("/v1/owners/"+p.name+"/lots", creditBody(p.ref(), amount)).decode(p.t, &body)
	return body.Lot
}

func (p person) coupon(discount int64) couponReply {
	p.t.Helper()
	var body anyReply
	p.post("/v1/campaigns/spring/issues", issueBody(p.name, p.ref(), discount)).decode(p.t, &body)
	return body.Coupon
}

// asks is the body of a hold of a new order.
func (p person) asks(ttl time.Duration, items ...object) object {
	body := holdBody(p.name, p.ref(), items...)
	body["ttl_ms"] = ttl.Milliseconds()
	return body
}

func (p person) hold(ttl time.Duration, items ...object) holdReply {
	p.t.Helper()
	var body anyReply
	p.post("/v1/holds", p.asks(ttl, items...)).decode(p.t, &body)
	return body.Hold
}

// decision is the request that confirms or cancels a hold.
func (p person) decision(kind, holdID, key string) request {
	return newRequest(http.MethodPost, "/v1/holds/"+holdID+"/"+kind, key, object{"owner": p.name})
}

func (p person) decide(kind, holdID string) reply {
	p.t.Helper()
	return p.settled(p.t, p.decision(kind, holdID, p.ref()))
}

func (p person) wantCode(r reply, code string) {
	p.t.Helper()
	if r.code() != code {
		p.t.Errorf("%v, want code %q", r, code)
	}
}

// wantMoney checks the owner's balance as a read shows it.
func (p person) wantMoney(available, held int64) {
	p.t.Helper()
	var body struct {
		Balances []struct{ Available, Held int64 }
	}
	p.get(p.t, &body, "/v1/owners/%s", p.name)
	if len(body.Balances) == 0 && available == 0 && held == 0 {
		return
	}
	if len(body.Balances) != 1 || body.Balances[0].Available != available || body.Balances[0].Held != held {
		p.t.Errorf("%s has %+v, want %d available and %d held", p.name, body.Balances, available, held)
	}
}

// wantEntries counts the owner's history.
func (p person) wantEntries(kind string, n int) {
	p.t.Helper()
	got := 0
	for _, e := range list[struct{ Kind string }](p.t, p.cluster, p.name, "entries") {
		if e.Kind == kind {
			got++
		}
	}
	if got != n {
		p.t.Errorf("%s has %d entries %s, want %d", p.name, got, kind, n)
	}
}

func (p person) state(holdID string) string {
	p.t.Helper()
	var h holdReply
	p.get(p.t, &h, "/v1/holds/%s", holdID)
	return h.State
}

// atOnce sends requests at once, spread over the instances, and counts the replies by code.
func (p person) atOnce(requests ...request) (map[string]int, []reply) {
	p.t.Helper()
	replies := make([]reply, len(requests))
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, r := range requests {
		wg.Go(func() {
			<-start
			in := p.instances[i%len(p.instances)]
			for replies[i] = in.send(r); !replies[i].final() && replies[i].code() != "held-by-other"; replies[i] = in.send(r) {
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	close(start)
	wg.Wait()
	count := map[string]int{}
	for _, r := range replies {
		count[r.code()]++
	}
	return count, replies
}

func (p person) wantCount(got map[string]int, want map[string]int) {
	p.t.Helper()
	same(p.t, "code", got, want)
}

func TestC01FiftyConfirmsAtOnce(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		h := p.hold(time.Hour, money(100))
		var confirms []request
		for range 50 {
			confirms = append(confirms, p.decision(confirm, h.HoldID, p.ref()))
		}
		count, _ := p.atOnce(confirms...)
		p.wantCount(count, map[string]int{"": 1, "already-confirmed": 49})
		p.wantMoney(0, 0)
		p.wantEntries("CONFIRMED", 1)
	})
}

func TestC03TenCancelsAtOnce(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		h := p.hold(time.Hour, money(60))
		var cancels []request
		for range 10 {
			cancels = append(cancels, p.decision(cancel, h.HoldID, p.ref()))
		}
		count, replies := p.atOnce(cancels...)
		p.wantCount(count, map[string]int{"": 1, "already-cancelled": 9})
		for i, r := range replies {
			if again := p.settled(t, cancels[i]); !again.sameAs(r) || again.header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("%v came again as %v", r, again)
			}
		}
		p.wantMoney(100, 0)
		p.wantEntries("CANCELLED", 1)
	})
}

func TestC05NoSweeperIsNeeded(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		h := p.hold(time.Second, money(100))
		p.wantMoney(0, 100)
		waitFor(t, "the hold to expire", settledPatience, func() bool { return p.state(h.HoldID) == "EXPIRED" })
		p.wantMoney(100, 0)
		p.wantEntries("EXPIRED", 0) // a read writes nothing
		p.hold(time.Hour, money(100))
		p.wantEntries("EXPIRED", 1)
	})
}

// A cancel comes before its hold, or together with it, a thousand times; half of the holds are named by ids, half by their orders.
func TestC07CancelBeforeItsHold(t *testing.T) {
	t.Parallel()
	const rounds, callers = 1000, 20
	engines(t, func(t *testing.T, c *cluster) {
		won := map[string]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range callers {
			p := c.person(t)
			p.credit(rounds)
			holds, cancels := p.rivals(2 + rounds/callers)
			for i := range 2 {
				var body anyReply
				if p.settled(t, cancels[i]).decode(t, &body); body.Hold.State != "CANCELLED" || !body.Hold.Tombstone {
					t.Errorf("the cancel of what was never held leaves %+v", body.Hold)
				}
				p.wantCode(p.settled(t, holds[i]), "already-cancelled")
			}
			wg.Go(func() {
				for i := 2; i < len(holds); i++ {
					count, _ := p.atOnce(holds[i], cancels[i])
					mu.Lock()
					won[fmt.Sprint(count)]++
					mu.Unlock()
				}
				p.wantMoney(rounds, 0)
			})
		}
		wg.Wait()
		t.Log(won)
		if won["map[:2]"]+won["map[:1 already-cancelled:1]"] != rounds {
			t.Errorf("%v: the cancel must succeed, and the hold come before it or be refused", won)
		}
	})
}

// rivals are requests for n holds that nobody has seen, and for their cancels: by id and by order in turn.
func (p person) rivals(n int) (holds, cancels []request) {
	p.t.Helper()
	var minted struct{ IDs []string }
	p.settled(p.t, newRequest(http.MethodPost, "/v1/ids", "", object{"owner": p.name, "count": n})).decode(p.t, &minted)
	for i, id := range minted.IDs {
		body := p.asks(time.Hour, money(1))
		called := p.decision(cancel, id, p.ref())
		if i%2 == 0 {
			body["hold_id"] = id
		} else {
			called = newRequest(http.MethodPost, "/v1/holds/cancel", p.ref(), object{"owner": p.name, "order_id": body["order_id"]})
		}
		holds, cancels = append(holds, newRequest(http.MethodPost, "/v1/holds", p.ref(), body)), append(cancels, called)
	}
	return holds, cancels
}

func TestC08CancelAfterALostReply(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		h := p.hold(time.Hour, money(100))
		lost := p.decision(confirm, h.HoldID, p.ref())
		p.instances[0].send(lost) // nobody hears the reply
		p.wantCode(p.decide(cancel, h.HoldID), "already-confirmed")
		p.wantCode(p.settled(t, lost), "")
		p.wantMoney(0, 0)
	})
}

// sweeping runs a case with a sweeper.
func sweeping(t *testing.T, f func(t *testing.T, c *cluster)) {
	t.Run("mariadb", func(t *testing.T) {
		f(t, newCluster(t, settings{mariadb: true, instances: 2, sweep: 50 * time.Millisecond}))
	})
	t.Run("sqlite", func(t *testing.T) { f(t, newCluster(t, settings{sweep: 50 * time.Millisecond})) })
}

// The coordinator of a checkout dies after each of its steps: after the hold, after the payment, after the confirm. Nobody takes
// over, nobody looks at the owner.
func TestC10CoordinatorDies(t *testing.T) {
	t.Parallel()
	sweeping(t, func(t *testing.T, c *cluster) {
		afterHold, afterConfirm := c.person(t), c.person(t)
		for _, p := range []person{afterHold, afterConfirm} {
			p.credit(100)
		}
		abandoned := afterHold.hold(time.Second, money(40))
		confirmed := afterConfirm.hold(time.Second, money(40))
		afterConfirm.wantCode(afterConfirm.decide(confirm, confirmed.HoldID), "")
		time.Sleep(time.Until(abandoned.ExpiresAt))
		waitFor(t, "the sweeper", settledPatience, func() bool {
			for _, e := range list[struct{ Kind string }](t, c, afterHold.name, "entries") {
				if e.Kind == "EXPIRED" {
					return true
				}
			}
			return false
		})
		if state := afterHold.state(abandoned.HoldID); state != "EXPIRED" {
			t.Errorf("the abandoned hold is %s", state)
		}
		if state := afterConfirm.state(confirmed.HoldID); state != "CONFIRMED" {
			t.Errorf("the confirmed hold is %s", state)
		}
		afterHold.wantMoney(100, 0)
		afterConfirm.wantMoney(60, 0)
	})
}

func TestC13SecondPaymentAttempt(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		paid, failed := p.hold(time.Hour, money(60)), p.hold(time.Hour, money(40))
		if state := p.state(paid.HoldID); state != "HELD" { // after the first payment has failed
			t.Errorf("the hold is %s", state)
		}
		p.wantCode(p.decide(confirm, paid.HoldID), "")
		p.wantCode(p.decide(cancel, failed.HoldID), "")
		p.wantMoney(40, 0)
	})
}

func TestC14EveryUnhappyEnd(t *testing.T) {
	t.Parallel()
	sweeping(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		ends := map[string]func(h holdReply){
			"failed":               func(h holdReply) { p.wantCode(p.decide(cancel, h.HoldID), "") },
			"pending, then failed": func(h holdReply) { p.wantCode(p.decide(cancel, h.HoldID), "") },
			"cancelled by the gateway": func(h holdReply) {
				p.wantCode(p.decide(cancel, h.HoldID), "")
				p.wantCode(p.decide(cancel, h.HoldID), "already-cancelled")
			},
			"the caller crashed": func(h holdReply) {
				waitFor(t, "the hold to expire", settledPatience, func() bool { return p.state(h.HoldID) == "EXPIRED" })
			},
		}
		for name, end := range ends {
			discount := p.coupon(20)
			end(p.hold(1500*time.Millisecond, coupon(discount.CouponID), money(30)))
			p.wantMoney(100, 0)
			var got couponReply
			if c.get(t, &got, "/v1/coupons/%s", discount.CouponID); got.State != "AVAILABLE" || got.HoldID != "" {
				t.Errorf("%s: the coupon is %+v", name, got)
			}
		}
	})
}

func TestC15PaymentInTwoStages(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		h := p.hold(time.Hour, money(60))
		p.wantCode(p.decide(confirm, h.HoldID), "")
		p.wantCode(p.decide(confirm, h.HoldID), "already-confirmed")
		p.wantMoney(40, 0)
		p.wantEntries("CONFIRMED", 1)
	})
}

// Two cancels and the expiry meet in one tick, again and again.
func TestC17CancelsAndExpiryInOneTick(t *testing.T) {
	t.Parallel()
	sweeping(t, func(t *testing.T, c *cluster) {
		const rounds = 8
		p := c.person(t)
		p.credit(100)
		ended := map[string]int{}
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range rounds {
			wg.Go(func() {
				h := p.hold(time.Second, money(10))
				time.Sleep(time.Until(h.ExpiresAt) + time.Duration(i-rounds)*2*time.Millisecond)
				count, _ := p.atOnce(p.decision(cancel, h.HoldID, p.ref()), p.decision(cancel, h.HoldID, p.ref()))
				mu.Lock()
				defer mu.Unlock()
				ended[fmt.Sprint(count)]++
			})
		}
		wg.Wait()
		t.Log(ended)
		if ended["map[hold-expired:2]"]+ended["map[:1 already-cancelled:1]"] != rounds {
			t.Errorf("%v: one CANCELLED, or EXPIRED for both", ended)
		}
		p.wantMoney(100, 0)
		cancelled := ended["map[:1 already-cancelled:1]"]
		p.wantEntries("CANCELLED", cancelled)
		p.wantEntries("EXPIRED", rounds-cancelled)
	})
}

func TestC19SameKeyOtherBody(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		body, key := p.asks(time.Hour, money(10)), p.ref()
		first := p.settled(t, newRequest(http.MethodPost, "/v1/holds", key, body))
		body["items"] = []object{money(11)}
		other := p.settled(t, newRequest(http.MethodPost, "/v1/holds", key, body))
		if other.status != http.StatusUnprocessableEntity || other.code() != "key-reused" || len(other.problem().Errors) == 0 ||
			!strings.Contains(other.problem().Errors[0].Pointer, "items") {
			t.Errorf("%v", other)
		}
		body["items"] = []object{money(10)}
		if again := p.settled(t, newRequest(http.MethodPost, "/v1/holds", key, body)); !again.sameAs(first) {
			t.Errorf("%v is now %v", first, again)
		}
		p.wantMoney(90, 10)
	})
}

func TestC20RefusalsStay(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(10)
		k1 := newRequest(http.MethodPost, "/v1/holds", p.ref(), p.asks(time.Hour, money(100)))
		refused := p.settled(t, k1)
		p.wantCode(refused, "insufficient")
		p.credit(100)
		if again := p.settled(t, k1); !again.sameAs(refused) || again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%v is now %v", refused, again)
		}
		k2 := k1
		k2.key = p.ref()
		p.wantCode(p.settled(t, k2), "")
	})
}

// What is retryable is not pinned to its key: when the other hold has gone, the same key gets the coupon.
func TestC20HeldByOtherDoesNotStay(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		discount := p.coupon(20)
		first := p.hold(time.Hour, coupon(discount.CouponID))
		k := newRequest(http.MethodPost, "/v1/holds", p.ref(), p.asks(time.Hour, coupon(discount.CouponID)))
		held := p.settled(t, k)
		if p.wantCode(held, "held-by-other"); !held.problem().Retryable || !held.problem().RetryAt.Equal(first.ExpiresAt) {
			t.Errorf("%v", held)
		}
		p.wantCode(p.decide(cancel, first.HoldID), "")
		p.wantCode(p.settled(t, k), "")
	})
}

// All that a key was answered with is answered after everything was killed, by another process, byte by byte.
func TestC22RepliesSurvive(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		h := p.hold(time.Hour, money(60))
		requests := []request{
			p.decision(confirm, h.HoldID, p.ref()),
			p.decision(cancel, h.HoldID, p.ref()),
			newRequest(http.MethodPost, "/v1/holds", p.ref(), p.asks(time.Hour, money(120))),
			newRequest(http.MethodPost, "/v1/holds", p.ref(), p.asks(time.Hour, money(10))),
			newRequest(http.MethodPost, "/v1/campaigns/spring/issues", p.ref(), issueBody(p.name, p.ref(), 5)),
		}
		var first []reply
		for _, r := range requests {
			first = append(first, p.settled(t, r))
		}
		for _, in := range c.instances {
			in.restart(t)
		}
		for i, r := range requests {
			for _, in := range c.instances {
				if again := in.send(r); !again.sameAs(first[i]) || again.header.Get("Idempotency-Replayed") != "true" {
					t.Errorf("%v is now %v", first[i], again)
				}
			}
		}
	})
}

func TestC27C28Amounts(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		for _, amount := range []string{
			"1.1", "1.0", "1e3", `"100"`, "9007199254740992", "9007199254740993", "9223372036854775807", "92233720368547758080", "-1", "0",
			"true", "null", "[1]", "1E400", "0x10", "01", "+1",
		} {
			for path, body := range map[string]string{
				"/v1/owners/" + p.name + "/lots": `{"issue_ref":"r","source":"s","expires_at":"` + lifetime +
					`","amount":{"amount":` + amount + `,"currency":"CNY"}}`,
				"/v1/holds": `{"owner":"` + p.name + `","order_id":"o","items":[{"kind":"money","amount":{"amount":` + amount +
					`,"currency":"CNY"}}]}`,
			} {
				r := newRequest(http.MethodPost, path, p.ref(), nil)
				r.body, r.malformed = []byte(body), true
				if answer := p.settled(t, r); answer.status != http.StatusBadRequest || answer.code() != "invalid-request" {
					t.Errorf("%s with amount %s: %v", path, amount, answer)
				}
			}
		}
		const most = 9007199254740991
		p.wantCode(p.post("/v1/owners/"+p.name+"/lots", creditBody(p.ref(), most-100)), "")
		p.wantCode(p.post("/v1/owners/"+p.name+"/lots", creditBody(p.ref(), 1)), "invalid-request") // the sum would not be exact
		p.wantMoney(most, 0)
		p.hold(time.Hour, object{"kind": "money", "all": true, "currency": "CNY"})
	})
}

// Lots of one expiry, credited at once through both instances, are spent in the order of their ids, every time; what a cancel gives
// back is in the same lots.
func TestC32LotsOfOneExpiry(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		var credits []request
		for range 5 {
			credits = append(credits, newRequest(http.MethodPost, "/v1/owners/"+p.name+"/lots", p.ref(), creditBody(p.ref(), 10)))
		}
		count, _ := p.atOnce(credits...)
		p.wantCount(count, map[string]int{"": 5})
		before := list[lotReply](t, c, p.name, "lots")
		var ids []string
		for _, l := range before {
			ids = append(ids, l.LotID)
		}
		slices.Sort(ids)
		for range 3 {
			h := p.hold(time.Hour, money(35))
			var taken []string
			for _, share := range h.Items[0].Lots {
				taken = append(taken, share.LotID)
			}
			if !slices.Equal(taken, ids[:4]) || h.Items[0].Lots[3].Amount != 5 {
				t.Errorf("taken from %+v, in the order of %v", h.Items[0].Lots, ids)
			}
			p.wantCode(p.decide(cancel, h.HoldID), "")
			if after := list[lotReply](t, c, p.name, "lots"); !slices.Equal(after, before) {
				t.Errorf("the lots were %+v and are %+v", before, after)
			}
		}
	})
}
