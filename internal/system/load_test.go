package system_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// The kinds of calls that a load makes.
const (
	credit  = "credit"
	issue   = "issue"
	hold    = "hold"
	confirm = "confirm"
	cancel  = "cancel"
)

// record is a call under a key, with what its caller has heard.
type record struct {
	request
	owner, kind string
	heard       *reply // the final reply; nil: he has given up and does not know
	sealed      bool   // by the audit
}

// load is many callers who issue, hold, confirm and cancel, several of them for each owner.
type load struct {
	cluster *cluster
	accounts
	stopped chan struct{}
	wg      sync.WaitGroup

	mu      sync.Mutex
	records []*record
	tally   map[string]int // by code
}

// accounts is what callers know of owners.
type accounts struct {
	mu      sync.Mutex
	coupons map[string][]string
	holds   map[string][]string // not decided, as far as anybody has heard
}

const (
	callersPerOwner = 3
	pauseMax        = 50 * time.Millisecond // between two calls of a caller: the faults are many, not the calls
	refusedPause    = 50 * time.Millisecond
	recordsMax      = 4000 // a run that takes long must not take longer to check
)

// lifetime is an end that no test sees.
var lifetime = time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Hour).Format(time.RFC3339)

// startLoad lets callers loose on owners, until stop.
func startLoad(c *cluster, owners int) *load {
	l := &load{
		cluster: c, stopped: make(chan struct{}), tally: map[string]int{},
		accounts: accounts{coupons: map[string][]string{}, holds: map[string][]string{}},
	}
	for i := range owners {
		for j := range callersPerOwner {
			w := &caller{load: l, owner: fmt.Sprint("o", i), name: fmt.Sprint(i, "-", j), dice: rand.New(rand.NewPCG(uint64(i), uint64(j)))}
			l.wg.Go(w.run)
		}
	}
	return l
}

// stop ends the load when every caller has ended his call.
func (l *load) stop(t *testing.T) []*record {
	t.Helper()
	close(l.stopped)
	l.wg.Wait()
	heard := 0
	for _, r := range l.records {
		if r.heard != nil {
			heard++
		}
	}
	t.Logf("%d calls, %d of them heard their answer; replies by code: %v", len(l.records), heard, l.tally)
	if heard == 0 {
		t.Error("no call heard its answer")
	}
	return l.records
}

// count is how often a code has come so far.
func (l *load) count(code string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally[code]
}

type caller struct {
	*load
	owner, name string
	dice        *rand.Rand
	calls       int
}

func (w *caller) run() {
	for {
		select {
		case <-w.stopped:
			return
		default:
		}
		time.Sleep(time.Duration(w.dice.Int64N(int64(pauseMax))))
		if w.enough() {
			w.probe()
			continue
		}
		w.call(w.next())
	}
}

func (l *load) enough() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.records) >= recordsMax
}

func (w *caller) mu() *sync.Mutex { return &w.load.mu }

// probe keeps the service busy without a new key.
func (w *caller) probe() {
	w.mu().Lock()
	r := w.records[w.dice.IntN(len(w.records))]
	w.mu().Unlock()
	w.counted(w.pick().send(r.request))
}

// next makes the next call: mostly what a checkout does, and some of what goes wrong around it.
func (w *caller) next() *record {
	w.calls++
	ref := fmt.Sprint(w.name, "-", w.calls)
	switch n := w.dice.IntN(20); {
	case n < 3 || w.calls == 1:
		return w.post(credit, "/v1/owners/"+w.owner+"/lots", ref, creditBody(ref, 50+w.dice.Int64N(100)))
	case n < 5:
		return w.post(issue, "/v1/campaigns/spring/issues", ref, issueBody(w.owner, ref, 20))
	case n < 12:
		return w.post(hold, "/v1/holds", ref, holdBody(w.owner, ref, w.items()...))
	case n < 13: // the cancel comes before its hold, which then comes too late or not at all
		w.call(w.post(cancel, "/v1/holds/cancel", ref, object{"owner": w.owner, "order_id": "early-" + ref}))
		return w.post(hold, "/v1/holds", ref+"-late", holdBody(w.owner, "early-"+ref, money(1)))
	default:
		id, ok := w.takeHold()
		if !ok {
			return w.post(hold, "/v1/holds", ref, holdBody(w.owner, ref, w.items()...))
		}
		kind := []string{confirm, cancel}[w.dice.IntN(2)]
		return w.post(kind, "/v1/holds/"+id+"/"+kind, ref, object{"owner": w.owner})
	}
}

func (w *caller) post(kind, path, key string, body any) *record {
	r := newRequest(http.MethodPost, path, key, body)
	r.deadline = time.Second
	return &record{request: r, owner: w.owner, kind: kind}
}

func (w *caller) items() []object {
	items := []object{money(1 + w.dice.Int64N(20))}
	w.accounts.mu.Lock()
	defer w.accounts.mu.Unlock()
	if own := w.coupons[w.owner]; len(own) > 0 && w.dice.IntN(2) == 0 {
		items = append(items, coupon(own[w.dice.IntN(len(own))]))
	}
	return items
}

// takeHold returns a hold that somebody else may be deciding as well.
func (w *caller) takeHold() (string, bool) {
	w.accounts.mu.Lock()
	defer w.accounts.mu.Unlock()
	own := w.holds[w.owner]
	if len(own) == 0 {
		return "", false
	}
	i := w.dice.IntN(len(own))
	id := own[i]
	if w.dice.IntN(4) > 0 { // a quarter is left for another caller to decide again
		w.holds[w.owner] = append(own[:i:i], own[i+1:]...)
	}
	return id, true
}

func (l *load) add(r *record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
}

// call sends a call until it hears the final answer, or gives up like a caller whose own deadline has come.
func (w *caller) call(r *record) {
	w.add(r)
	if w.dice.IntN(10) == 0 { // an impatient caller: the same key twice at once
		go w.pick().send(r.request)
	}
	for range 4 {
		answer := w.pick().send(r.request)
		w.counted(answer)
		if answer.final() {
			w.learn(r, answer)
			return
		}
		if answer.code() == "held-by-other" {
			return
		}
		time.Sleep(time.Duration(w.dice.IntN(30)) * time.Millisecond)
		if answer.err != nil { // nobody is there
			time.Sleep(refusedPause)
		}
		if w.dice.IntN(3) == 0 {
			return
		}
	}
}

func (w *caller) pick() *instance { return w.cluster.instances[w.dice.IntN(len(w.cluster.instances))] }

func (l *load) counted(answer reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally[answer.code()]++
}

func (w *caller) learn(r *record, answer reply) {
	w.mu().Lock()
	r.heard = &answer
	w.mu().Unlock()
	var body anyReply
	if answer.status >= http.StatusBadRequest || json.Unmarshal(answer.body, &body) != nil {
		return
	}
	w.accounts.mu.Lock()
	defer w.accounts.mu.Unlock()
	switch r.kind {
	case issue:
		w.coupons[w.owner] = append(w.coupons[w.owner], body.Coupon.CouponID)
	case hold:
		w.holds[w.owner] = append(w.holds[w.owner], body.Hold.HoldID)
	}
}

// Bodies of requests.

func cny(amount int64) object { return object{"amount": amount, "currency": "CNY"} }

func money(amount int64) object { return object{"kind": "money", "amount": cny(amount)} }

func coupon(id string) object { return object{"kind": "coupon", "coupon_id": id} }

func creditBody(ref string, amount int64) object {
	return object{"issue_ref": ref, "source": "spring", "amount": cny(amount), "expires_at": lifetime}
}

func issueBody(owner, ref string, amount int64) object {
	return object{
		"owner": owner, "issue_ref": ref, "expires_at": lifetime, "discount": object{"kind": "FIXED", "amount": cny(amount)},
	}
}

// holdBody asks for items for an order of 100 and 50.
func holdBody(owner, order string, items ...object) object {
	return object{
		"owner": owner, "order_id": order, "ttl_ms": 3_600_000, "items": items,
		"lines": []object{{"line_id": "l1", "amount": cny(100)}, {"line_id": "l2", "amount": cny(50)}},
	}
}
