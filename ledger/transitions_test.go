package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// reach brings a hold of everything into a state, at the desk's time or later.
func reach(d *desk, state State) Hold {
	c, l := d.issue("u1", fixed(30)), d.credit("u1", 100, time.Hour, "")
	h := d.take("u1", c.item(), money(l.issued))
	if state != None {
		wantDone[HoldReply](d.tb, d.hold(h))
	}
	switch state {
	case Confirmed:
		wantDone[HoldReply](d.tb, d.confirm(h.HoldID))
	case Cancelled:
		wantDone[HoldReply](d.tb, d.cancel(h.HoldID))
	case Expired:
		if r := d.event(h, EventExpire); r.Verdict != shard.Done {
			d.tb.Fatalf("%+v", r)
		}
	case None, Held:
	}
	return h
}

func (d *desk) event(h Hold, e Event) shard.Reply {
	switch e {
	case EventHold:
		return d.hold(h)
	case EventConfirm:
		return d.confirm(h.HoldID)
	case EventCancel:
		return d.cancel(h.HoldID)
	case EventConfirmPart, EventRelease:
		r := Confirm{Owner: "u1", Hold: HoldRef{HoldID: h.HoldID}, Amount: cny(1), Final: e == EventRelease}
		return d.do("u1", &confirmOp{Confirm: r})
	case EventExtend:
		return d.do("u1", &extendOp{Extend{"u1", HoldRef{HoldID: h.HoldID}, time.Hour}})
	case EventReplace:
		next := h
		next.Attempt, next.HoldID = 2, id.ID{}
		op := holdOp{Hold: next, id: d.mint(id.Hold, "u1"), hash: requestHash(fingerprintHold(&next))}
		return d.do("u1", &replaceOp{holdOp: op, old: HoldRef{HoldID: h.HoldID}})
	default:
		d.at = d.at.Add(time.Hour / 2)
		return d.do("u1", expireOp{})
	}
}

// TestEveryStateAndEvent compares what apply does with the table of transitions.
func TestEveryStateAndEvent(t *testing.T) {
	for _, state := range []State{None, Held, Confirmed, Cancelled, Expired} {
		for _, event := range []Event{
			EventHold, EventConfirm, EventConfirmPart, EventRelease, EventExtend, EventReplace, EventCancel, EventExpire,
		} {
			t.Run(string(state)+" "+string(event), func(t *testing.T) {
				d := newDesk(t)
				h := reach(d, state)
				r := d.event(h, event)
				want, legal := next(state, event)
				if got := d.stateOf(h.HoldID); got != want {
					t.Errorf("the hold is %q, want %q", got, want)
				}
				again := event == EventHold && (state == Held || state == Confirmed)
				switch {
				case legal, event == EventExpire, again: // the sweeper has nothing to do; a hold finds itself
					if r.Verdict != shard.Done {
						t.Errorf("%v %s %v", r.Verdict, r.Body, r.Err)
					}
				default:
					wantCode(t, r, refusalIn(state))
				}
				if event == EventConfirmPart && legal { // and then every way of ending it leads to CONFIRMED
					d.partEnds(t, h)
				}
			})
		}
	}
}

// partEnds cancels the rest of a hold that was confirmed in part.
func (d *desk) partEnds(t *testing.T, h Hold) {
	t.Helper()
	want, _ := next(Held, EventRelease)
	if r := d.event(h, EventCancel); r.Verdict != shard.Done || d.stateOf(h.HoldID) != want {
		t.Errorf("the hold is %q after %s, want %q", d.stateOf(h.HoldID), r.Body, want)
	}
}

func (d *desk) stateOf(hold id.ID) State {
	if h := d.holds[hold]; h != nil {
		return h.state
	}
	return None
}

// I3: a final state has no edge that leaves it, and every state but None can be reached.
func TestTransitionsEndOnce(t *testing.T) {
	reached := map[State]bool{}
	for _, edge := range Transitions() {
		reached[edge.To] = true
		if edge.From != None && edge.From != Held {
			t.Errorf("%v leaves a final state", edge)
		}
		if edge.Cause == "" {
			t.Errorf("%v has no cause", edge)
		}
	}
	for _, s := range []State{Held, Confirmed, Cancelled, Expired} {
		if !reached[s] {
			t.Errorf("nothing leads to %s", s)
		}
	}
}

// Every reason is found by its code, and the codes are those of docs/errors.md in their order.
func TestReasons(t *testing.T) {
	for _, reason := range reasons {
		if reasonOf(reason.Error()) != reason { //nolint:errorlint // the sentinels themselves
			t.Errorf("%v is not found by its code", reason)
		}
	}
	unknown := &Refusal{Reason: reasonOf("from-the-future"), Code: "from-the-future"}
	for _, reason := range reasons {
		if errors.Is(unknown, reason) {
			t.Errorf("an unknown code is taken for %v", reason)
		}
	}
}
