package linear

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/anishathalye/porcupine"
)

// The kinds of calls that the model knows.
const (
	Credit  = "credit"
	Hold    = "hold"
	Confirm = "confirm"
	Cancel  = "cancel"
)

// Action is the input of one call to an owner.
type Action struct {
	Kind, Key, Order string // Order is that of the hold
	Amount           int64
}

// Outcome is its reply, as far as the model predicts it.
type Outcome struct {
	Unknown         bool   // no answer, or one that says so: it may have happened, now or later
	Code            string // of the problem; empty: it was done
	Version         int64
	Available, Held int64
	Balance         bool // the reply has a balance
}

// owner is the model's state: what one owner has, and the answer of every key.
type owner struct {
	version   int64
	available int64
	held      int64
	holds     map[string]holdOf // by order
	answers   map[string]Outcome
}

type holdOf struct {
	state  string
	amount int64
}

// step is the sequential model: what an owner's next reply is if nobody else is there.
func step(o owner, a Action) (Outcome, owner) {
	if answer, seen := o.answers[a.Key]; seen {
		return answer, o
	}
	next := o
	next.holds, next.answers = maps.Clone(o.holds), maps.Clone(o.answers)
	answer := next.apply(a)
	next.answers[a.Key] = answer
	return answer, next
}

func (o *owner) apply(a Action) Outcome {
	h, known := o.holds[a.Order]
	switch a.Kind {
	case Credit:
		o.available += a.Amount
		return o.done(true)
	case Hold:
		switch {
		case known: // only a tombstone: no two holds have one order
			return Outcome{Code: "already-cancelled"}
		case o.available < a.Amount:
			return Outcome{Code: "insufficient"}
		}
		o.available, o.held = o.available-a.Amount, o.held+a.Amount
		o.holds[a.Order] = holdOf{"HELD", a.Amount}
		return o.done(true)
	case Confirm:
		if !known {
			return Outcome{Code: "not-found"}
		}
	}
	switch {
	case !known:
		o.holds[a.Order] = holdOf{state: "CANCELLED"}
		return o.done(false)
	case h.state != "HELD":
		return Outcome{Code: map[string]string{"CONFIRMED": "already-confirmed", "CANCELLED": "already-cancelled"}[h.state]}
	}
	o.held -= h.amount
	h.state = "CONFIRMED"
	if a.Kind == Cancel {
		o.available += h.amount
		h.state = "CANCELLED"
	}
	o.holds[a.Order] = h
	return o.done(true)
}

func (o *owner) done(balance bool) Outcome {
	o.version++
	answer := Outcome{Version: o.version, Balance: balance}
	if balance {
		answer.Available, answer.Held = o.available, o.held
	}
	return answer
}

// Model is of one owner. Whoever checks a history resolves the calls without an answer first, as far as that can be done: the search
// is exponential in those that are left.
var Model = porcupine.Model{
	Init: func() any { return owner{holds: map[string]holdOf{}, answers: map[string]Outcome{}} },
	Step: func(state, input, output any) (bool, any) {
		answer, next := step(state.(owner), input.(Action))
		heard := output.(Outcome)
		return heard.Unknown || heard == answer, next
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

// Heard is a reply as the model predicts it: the code of its problem, or else what its body says.
func Heard(code string, body []byte) (o Outcome) {
	if o.Code = code; code != "" {
		return o
	}
	var reply struct {
		Version  int64
		Balances []struct{ Available, Held int64 }
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return Outcome{Code: err.Error()}
	}
	o.Version = reply.Version
	if o.Balance = len(reply.Balances) == 1; o.Balance {
		o.Available, o.Held = reply.Balances[0].Available, reply.Balances[0].Held
	}
	return o
}
