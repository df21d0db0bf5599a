package system_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/statesvc/statesvc/internal/linear"
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
	sent []linear.Action // to be sent again
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

func (h *history) next(dice *rand.Rand, key string) linear.Action {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := linear.Action{Key: key, Order: key, Amount: 1 + dice.Int64N(9)}
	switch n := dice.IntN(10); {
	case n < 2 || len(h.sent) < 2:
		a.Kind, a.Order = credit, ""
	case n < 5:
		a.Kind = hold
	case n < 6:
		return h.sent[dice.IntN(len(h.sent))] // somebody's key again, maybe while he is still waiting
	default:
		a.Kind = []string{confirm, cancel}[dice.IntN(2)]
		a.Order, a.Amount = h.someOrder(dice), 0
	}
	h.sent = append(h.sent, a)
	return a
}

func (h *history) someOrder(dice *rand.Rand) string {
	for range 20 {
		if a := h.sent[dice.IntN(len(h.sent))]; a.Kind == hold {
			return a.Order
		}
	}
	return "never-held"
}

func (h *history) call(in *instance, client int, a linear.Action) (final bool) {
	called := time.Since(h.began).Nanoseconds()
	r := in.send(linearRequest(h.owner, a))
	op := porcupine.Operation{
		ClientId: client, Input: a, Call: called, Output: heard(r), Return: time.Since(h.began).Nanoseconds(),
	}
	switch {
	case r.err != nil || r.problem().Outcome == "unknown":
		op.Output, op.Return = linear.Outcome{Unknown: true}, math.MaxInt64
	case !r.final():
		return false // it says that nothing happened
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
	return r.final()
}

func linearRequest(owner string, a linear.Action) (r request) {
	switch a.Kind {
	case credit:
		r = newRequest(http.MethodPost, "/v1/owners/"+owner+"/lots", a.Key, creditBody(a.Key, a.Amount))
	case hold:
		r = newRequest(http.MethodPost, "/v1/holds", a.Key, holdBody(owner, a.Order, money(a.Amount)))
	default:
		r = newRequest(http.MethodPost, "/v1/holds/"+a.Kind, a.Key, object{"owner": owner, "order_id": a.Order})
	}
	r.deadline = linearDeadline
	return r
}

// heard is the reply as the model predicts it.
func heard(r reply) linear.Outcome { return linear.Heard(r.code(), r.body) }

// resolve asks the service what became of the keys whose calls had no answer, and burns those that nothing has used (R25). A call
// without an answer takes part in the order as one that was answered by then, or not at all; the search would have to try both, for
// each of them, at every place.
func (h *history) resolve(t *testing.T, c *cluster) {
	first := map[string]porcupine.Operation{} // of the calls without an answer, by key
	answered := map[string]int{}              // of the others
	known := h.ops[:0]
	for _, op := range h.ops {
		key := op.Input.(linear.Action).Key
		if !op.Output.(linear.Outcome).Unknown {
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
func (h *history) sealed(t *testing.T, c *cluster, key string) (o linear.Outcome, found bool) {
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
		if op.Output.(linear.Outcome).Unknown {
			unknown++
		}
	}
	h.resolve(t, c)
	began := time.Now()
	result := porcupine.CheckOperationsTimeout(linear.Model, h.ops, linearPatience)
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
