package system_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// The histories are small: a search for an order is exponential in the calls that overlap, and one without an answer overlaps with
// all that come later, until its key is asked.
const (
	linearOwners   = 12
	linearCallers  = 3 // for each owner, at once
	linearCalls    = 40
	linearTime     = 8 * time.Second        // on a slow machine there are fewer calls
	linearDeadline = 150 * time.Millisecond // of a call: shorter than the longest cut
	linearCut      = 250 * time.Millisecond
	linearPatience = 30 * time.Second // of the search; without a verdict by then the test fails
)

// action is the input of one call to an owner.
type action struct {
	kind, key, order string
	amount           int64
}

// outcome is its reply, as far as the model predicts it.
type outcome struct {
	unknown         bool // no answer, or one that says so: it may have happened, now or later
	code            string
	version         int64
	available, held int64
	balance         bool // the reply has a balance
}

// owner is the model's state: what one owner has, and the answer of every key.
type owner struct {
	version   int64
	available int64
	held      int64
	holds     map[string]holdOf // by order
	answers   map[string]outcome
}

type holdOf struct {
	state  string
	amount int64
}

// step is the sequential model: what an owner's next reply is if nobody else is there.
func (o owner) step(a action) (outcome, owner) {
	if answer, seen := o.answers[a.key]; seen {
		return answer, o
	}
	next := o
	next.holds, next.answers = maps.Clone(o.holds), maps.Clone(o.answers)
	answer := next.apply(a)
	next.answers[a.key] = answer
	return answer, next
}

func (o *owner) apply(a action) outcome {
	h, known := o.holds[a.order]
	switch a.kind {
	case credit:
		o.available += a.amount
		return o.done(true)
	case hold:
		switch {
		case known: // only a tombstone: no two holds have one order
			return outcome{code: "already-cancelled"}
		case o.available < a.amount:
			return outcome{code: "insufficient"}
		}
		o.available, o.held = o.available-a.amount, o.held+a.amount
		o.holds[a.order] = holdOf{"HELD", a.amount}
		return o.done(true)
	case confirm:
		if !known {
			return outcome{code: "not-found"}
		}
	}
	switch {
	case !known:
		o.holds[a.order] = holdOf{state: "CANCELLED"}
		return o.done(false)
	case h.state != "HELD":
		return outcome{code: map[string]string{"CONFIRMED": "already-confirmed", "CANCELLED": "already-cancelled"}[h.state]}
	}
	o.held -= h.amount
	h.state = "CONFIRMED"
	if a.kind == cancel {
		o.available += h.amount
		h.state = "CANCELLED"
	}
	o.holds[a.order] = h
	return o.done(true)
}

func (o *owner) done(balance bool) outcome {
	o.version++
	answer := outcome{version: o.version, balance: balance}
	if balance {
		answer.available, answer.held = o.available, o.held
	}
	return answer
}

var ownerModel = porcupine.Model{
	Init: func() any { return owner{holds: map[string]holdOf{}, answers: map[string]outcome{}} },
	Step: func(state, input, output any) (bool, any) {
		answer, next := state.(owner).step(input.(action))
		heard := output.(outcome)
		return heard.unknown || heard == answer, next
	},
	Equal: func(a, b any) bool {
		x, y := a.(owner), b.(owner)
		return x.version == y.version && x.available == y.available && x.held == y.held && maps.Equal(x.holds, y.holds) &&
			maps.Equal(x.answers, y.answers)
	},
	Hash: func(state any) uint64 {
		o := state.(owner)
		return uint64(o.version)<<40 ^ uint64(o.available)<<20 ^ uint64(o.held)<<10 ^ uint64(len(o.answers))
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// TestModelFindsFaults shows that the check can fail: each history has one reply that no order explains.
func TestModelFindsFaults(t *testing.T) {
	good := []porcupine.Operation{
		{Input: action{kind: credit, key: "k1", amount: 10}, Call: 0, Output: outcome{version: 1, available: 10, balance: true}, Return: 1},
		{Input: action{kind: hold, key: "k2", order: "o", amount: 7}, Call: 2, Output: outcome{unknown: true}, Return: math.MaxInt64},
		{Input: action{kind: confirm, key: "k3", order: "o"}, Call: 4, Output: outcome{version: 3, available: 3, balance: true}, Return: 5},
		{Input: action{kind: confirm, key: "k3", order: "o"}, Call: 6, Output: outcome{version: 3, available: 3, balance: true}, Return: 7},
		{Input: action{kind: hold, key: "k4", order: "p", amount: 4}, Call: 8, Output: outcome{code: "insufficient"}, Return: 9},
	}
	if !porcupine.CheckOperations(ownerModel, good) {
		t.Error("a right history is refused")
	}
	for name, wrong := range map[string]struct {
		i      int
		output outcome
	}{
		"an acknowledged write is missing":  {0, outcome{version: 2, available: 10, balance: true}},
		"a hold was made twice":             {2, outcome{version: 4, available: 3, balance: true}},
		"a replay is not the first reply":   {3, outcome{code: "already-confirmed"}},
		"money that was not there was held": {4, outcome{version: 4, available: -1, held: 4, balance: true}},
	} {
		bad := slices.Clone(good)
		bad[wrong.i].Output = wrong.output
		if porcupine.CheckOperations(ownerModel, bad) {
			t.Errorf("not found: %s", name)
		}
	}
}

// Several callers act on one owner at once, through two instances, and send keys again, their own and others'. Meanwhile
// connections to the database are cut. The replies must be those of some order that agrees with real time.
func TestLinearizable(t *testing.T) {
	c := newCluster(t, settings{mariadb: true, instances: 2, proxied: 2})
	histories := make([]*history, linearOwners)
	var callers sync.WaitGroup
	for i := range histories {
		histories[i] = &history{owner: fmt.Sprint("linear", i), began: time.Now()}
		for j := range linearCallers {
			callers.Go(func() { histories[i].calls(c, j) })
		}
	}
	over := make(chan struct{})
	go func() {
		callers.Wait()
		close(over)
	}()
	c.cutUntil(over)
	c.nothingUndecided(t)
	unknown := 0
	for _, h := range histories {
		unknown += h.check(t, c)
	}
	if unknown == 0 {
		t.Error("no call stayed without an answer; the cuts are too short")
	}
}

// cutUntil makes faults at random instants.
func (c *cluster) cutUntil(over <-chan struct{}) {
	dice := rand.New(rand.NewPCG(3, 4))
	for {
		select {
		case <-over:
			return
		default:
			longest := 20 * time.Millisecond
			if dice.IntN(6) == 0 {
				longest = linearCut
			}
			cut(dice, c.instances[dice.IntN(len(c.instances))].proxies[dice.IntN(shards)], longest)
		}
	}
}

// history is what happened to one owner.
type history struct {
	owner string
	began time.Time

	mu   sync.Mutex
	sent []action // to be sent again
	ops  []porcupine.Operation
}

// calls are one caller's.
func (h *history) calls(c *cluster, number int) {
	dice := rand.New(rand.NewPCG(uint64(number), uint64(len(h.owner))))
	for n := 0; n < linearCalls && time.Since(h.began) < linearTime; n++ {
		a := h.next(dice, fmt.Sprint(number, "-", n))
		for range 5 {
			if h.call(c.instances[dice.IntN(len(c.instances))], number, a) {
				break
			}
			if dice.IntN(2) == 0 { // he gives up; if he was told that nothing happened, nobody may ever see that it did
				break
			}
			time.Sleep(time.Duration(dice.IntN(20)) * time.Millisecond)
		}
	}
}

func (h *history) next(dice *rand.Rand, key string) action {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := action{key: key, order: key, amount: 1 + dice.Int64N(9)}
	switch n := dice.IntN(10); {
	case n < 2 || len(h.sent) < 2:
		a.kind, a.order = credit, ""
	case n < 5:
		a.kind = hold
	case n < 6:
		return h.sent[dice.IntN(len(h.sent))] // somebody's key again, maybe while he is still waiting
	default:
		a.kind = []string{confirm, cancel}[dice.IntN(2)]
		a.order, a.amount = h.someOrder(dice), 0
	}
	h.sent = append(h.sent, a)
	return a
}

func (h *history) someOrder(dice *rand.Rand) string {
	for range 20 {
		if a := h.sent[dice.IntN(len(h.sent))]; a.kind == hold {
			return a.order
		}
	}
	return "never-held"
}

func (h *history) call(in *instance, client int, a action) (final bool) {
	called := time.Since(h.began).Nanoseconds()
	r := in.send(a.request(h.owner))
	op := porcupine.Operation{
		ClientId: client, Input: a, Call: called, Output: heard(r), Return: time.Since(h.began).Nanoseconds(),
	}
	switch {
	case r.err != nil || r.problem().Outcome == "unknown":
		op.Output, op.Return = outcome{unknown: true}, math.MaxInt64
	case !r.final():
		return false // it says that nothing happened
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
	return r.final()
}

func (a action) request(owner string) (r request) {
	switch a.kind {
	case credit:
		r = newRequest(http.MethodPost, "/v1/owners/"+owner+"/lots", a.key, creditBody(a.key, a.amount))
	case hold:
		r = newRequest(http.MethodPost, "/v1/holds", a.key, holdBody(owner, a.order, money(a.amount)))
	default:
		r = newRequest(http.MethodPost, "/v1/holds/"+a.kind, a.key, object{"owner": owner, "order_id": a.order})
	}
	r.deadline = linearDeadline
	return r
}

// heard is the reply as the model predicts it.
func heard(r reply) (o outcome) {
	if o.code = r.code(); o.code != "" {
		return o
	}
	var body struct {
		Version  int64
		Balances []struct{ Available, Held int64 }
	}
	if err := json.Unmarshal(r.body, &body); err != nil {
		return outcome{code: err.Error()}
	}
	o.version = body.Version
	if o.balance = len(body.Balances) == 1; o.balance {
		o.available, o.held = body.Balances[0].Available, body.Balances[0].Held
	}
	return o
}

// resolve asks the service what became of the keys whose calls had no answer, and burns those that nothing has used (R25). A call
// without an answer takes part in the order as one that was answered by then, or not at all; the search would have to try both, for
// each of them, at every place.
func (h *history) resolve(t *testing.T, c *cluster) {
	first := map[string]porcupine.Operation{} // of the calls without an answer, by key
	answered := map[string]int{}              // of the others
	known := h.ops[:0]
	for _, op := range h.ops {
		key := op.Input.(action).key
		if !op.Output.(outcome).unknown {
			if at, found := answered[key]; !found || op.Return < known[at].Return {
				answered[key] = len(known)
			}
			known = append(known, op)
		} else if earlier, found := first[key]; !found || op.Call < earlier.Call {
			first[key] = op
		}
	}
	for key, op := range first {
		if at, found := answered[key]; found { // whichever call took effect, the first answer is its answer
			known[at].Call = min(known[at].Call, op.Call)
		} else if op.Output, found = h.sealed(t, c, key); found {
			op.Return = time.Since(h.began).Nanoseconds()
			known = append(known, op)
		}
	}
	h.ops = known
}

// sealed returns the recorded outcome of a key, if there is one.
func (h *history) sealed(t *testing.T, c *cluster, key string) (o outcome, found bool) {
	var operation struct {
		Status string
		Reply  json.RawMessage
	}
	c.settled(t, newRequest(http.MethodPost, "/v1/owners/"+h.owner+"/operations/"+key+"/seal", "", nil)).decode(t, &operation)
	switch operation.Status {
	case "DONE":
		return heard(reply{status: http.StatusOK, body: operation.Reply}), true
	case "REFUSED":
		return heard(reply{status: http.StatusConflict, body: operation.Reply}), true
	}
	return o, false
}

// check returns how many calls had no answer.
func (h *history) check(t *testing.T, c *cluster) (unknown int) {
	t.Helper()
	calls := len(h.ops)
	for _, op := range h.ops {
		if op.Output.(outcome).unknown {
			unknown++
		}
	}
	h.resolve(t, c)
	began := time.Now()
	result := porcupine.CheckOperationsTimeout(ownerModel, h.ops, linearPatience)
	t.Logf("%s: %d calls, %d without an answer, checked in %v: %s", h.owner, calls, unknown, time.Since(began), result)
	if result == porcupine.Ok {
		return unknown
	}
	slices.SortFunc(h.ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, op := range h.ops {
		t.Logf("%12d %20d  %+v → %+v", op.Call, op.Return, op.Input, op.Output)
	}
	t.Errorf("%s: no order explains the replies (%s)", h.owner, result)
	return unknown
}
