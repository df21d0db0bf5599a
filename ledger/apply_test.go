package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// TestC04AroundExpiry lets a confirm, a cancel and another hold of the same assets arrive at t−1, t and t+1 in every order.
func TestC04AroundExpiry(t *testing.T) {
	const ttl = time.Minute
	names := []string{"confirm", "cancel", "hold"}
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for times := range 27 {
			at := [3]int{times/9 - 1, times/3%3 - 1, times%3 - 1} // microseconds around the expiry
			if at[0] > at[1] || at[1] > at[2] {
				continue // time does not run backwards
			}
			d := newDesk(t)
			item := d.issue("u1", fixed(30)).item()
			d.credit("u1", 100, time.Hour, "")
			first := d.take("u1", item, money(100))
			wantDone[HoldReply](t, d.hold(first))
			confirmed, story := false, ""
			for i, event := range order {
				d.at = epoch.Add(ttl + time.Duration(at[i])*time.Microsecond)
				var r shard.Reply
				switch event {
				case 0:
					r = d.confirm(first.HoldID)
					confirmed = confirmed || r.Verdict == shard.Done
					if refused := refusalOf(t, r); at[i] >= 0 && r.Verdict == shard.Done {
						t.Errorf("confirmed at expires_at or later: %s", r.Body)
					} else if at[i] < 0 && refused != nil && refused.Reason == ErrHoldExpired { //nolint:errorlint // sentinels
						t.Errorf("expired before expires_at")
					}
				case 1:
					r = d.cancel(first.HoldID)
				case 2:
					r = d.hold(d.take("u1", item, money(100)))
					free := at[i] >= 0 && !confirmed || strings.Contains(story, "cancel DONE")
					if (r.Verdict == shard.Done) != free {
						t.Errorf("%s: the assets are free: %v, but %v %s %v", story, free, r.Verdict, r.Body, r.Err)
					}
				}
				story += fmt.Sprintf("%+d %s %s; ", at[i], names[event], r.Verdict)
				if wrong := d.invariants(); len(wrong) > 0 {
					t.Fatalf("%s: %v", story, wrong)
				}
			}
			if d.stateOf(first.HoldID) == Held && at[2] >= 0 {
				t.Errorf("%s: still held", story)
			}
			kinds := map[string]int{}
			for _, e := range d.changed.entries {
				if e.holdID == first.HoldID {
					kinds[e.kind]++
				}
			}
			if len(kinds) > 1 || kinds[entryConfirmed] > 0 != confirmed {
				t.Errorf("%s: %v", story, kinds)
			}
		}
	}
}

// A row that contradicts another stops the operation, and nothing of it is written down.
func TestImpossibleStates(t *testing.T) {
	for name, spoil := range map[string]func(d *desk, h *holdRow){
		"coupon not held":       func(d *desk, h *holdRow) { d.anyCoupon().state = couponUsed },
		"coupon of another":     func(d *desk, h *holdRow) { d.anyCoupon().holdID = id.ID{1} },
		"coupon not there":      func(d *desk, h *holdRow) { delete(d.coupons, d.anyCoupon().id) },
		"less held":             func(d *desk, h *holdRow) { d.anyLot().Held = 99 },
		"lot not there":         func(d *desk, h *holdRow) { delete(d.lots, d.anyLot().id) },
		"lot of another":        func(d *desk, h *holdRow) { d.anyLot().owner = &ownerRow{name: "u2"} },
		"document not readable": func(d *desk, h *holdRow) { h.doc = []byte("{") },
	} {
		for _, event := range []Event{EventConfirm, EventCancel, EventExpire} {
			d := newDesk(t)
			h := reach(d, Held)
			spoil(d, d.holds[h.HoldID])
			before, entries, version := d.picture(), len(d.changed.entries), d.owners["u1"].ver
			r := d.event(h, event)
			if !errors.Is(r.Err, shard.ErrInternal) || r.Verdict != shard.NotRecorded {
				t.Errorf("%s, %s: %v %s %v", name, event, r.Verdict, r.Body, r.Err)
			}
			after := d.picture()
			if fmt.Sprint(before) != fmt.Sprint(after) || len(d.changed.entries) != entries || d.owners["u1"].ver != version {
				t.Errorf("%s, %s: something was changed", name, event)
			}
		}
	}
}

func (d *desk) anyCoupon() *couponRow {
	for _, c := range d.coupons {
		return c
	}
	return nil
}

func (d *desk) anyLot() *lotRow {
	for _, l := range d.lots {
		return l
	}
	return nil
}

func TestUnknownOperation(t *testing.T) {
	if r := newDesk(t).do("u1", "what?"); !errors.Is(r.Err, shard.ErrInternal) {
		t.Errorf("%+v", r)
	}
}

// R24: retryable if and only if not pinned.
func TestRetryableRefusalsAreNotPinned(t *testing.T) {
	for _, reason := range reasons {
		r := refuse(refusal(reason, "", "because"))
		again := reason == ErrHeldByOther || reason == ErrQuotaUnavailable || reason == ErrTooManyGuesses //nolint:errorlint // sentinels
		if pinned := r.Verdict == shard.Refused; pinned == again {
			t.Errorf("%v: pinned %v", reason, pinned)
		}
	}
}

// A refusal survives the way through the table, with the numbers and the reason.
func TestRefusalsAreDecoded(t *testing.T) {
	sent := insufficient("/items/1/amount", 5, 0, "too little")
	got, err := decodeRefusal(refuse(sent).Body)
	if err != nil || !errors.Is(got, ErrInsufficient) || *got.Asked != 5 || *got.Have != 0 || got.Pointer != sent.Pointer {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := decodeRefusal([]byte("{")); !errors.Is(err, shard.ErrInternal) {
		t.Errorf("%v", err)
	}
}

// C27: an owner's money stays a number that JSON can carry exactly.
func TestC27BalancesDoNotOverflow(t *testing.T) {
	d := newDesk(t)
	d.credit("u1", MaxAmount-5, time.Hour, "")
	op := &creditOp{
		CreditLot: CreditLot{Owner: "u1", IssueRef: "more", Source: "s", Amount: cny(6), ExpiresAt: d.at.Add(time.Hour)},
		id:        d.mint(id.Lot, "u1"),
	}
	if r := d.do("u1", op); !errors.Is(r.Err, ErrInvalid) || r.Verdict != shard.NotRecorded {
		t.Errorf("%+v", r)
	}
	op.Amount.Amount = 5
	reply := wantDone[LotReply](t, d.do("u1", op))
	if reply.Balances[0].Available != MaxAmount {
		t.Errorf("%+v", reply.Balances)
	}
	h := d.take("u1", allMoney())
	h.Lines = nil
	held := wantDone[HoldReply](t, d.hold(h))
	if held.Balances[0].Held != MaxAmount || len(held.Hold.Items[0].Lots) != 2 {
		t.Errorf("%+v", held)
	}
}

// The members that are left out when they are empty are left out in our encoder, too, and the others are not.
func TestEncodersAgreeOnWhatIsLeftOut(t *testing.T) {
	d := newDesk(t)
	plain := d.issue("u1", fixed(1))
	rich := d.issue("u1", Discount{Kind: Percent, Currency: "CNY", BasisPoints: 1, Cap: 2, MinSpend: 3})
	untagged, tagged := d.credit("u1", 1, time.Hour, ""), d.credit("u1", 1, time.Hour, "x")
	for _, body := range [][]byte{d.couponReply(plain, false), d.couponReply(rich, true)} {
		sameAsJSON[CouponReply](t, body)
	}
	for _, body := range [][]byte{d.lotReply(untagged, false), d.lotReply(tagged, true)} {
		sameAsJSON[LotReply](t, body)
	}
	h := d.take("u1", rich.item(), money(1))
	for _, r := range []shard.Reply{d.hold(h), d.hold(h), d.cancel(h.HoldID), d.cancel(d.mint(id.Hold, "u1"))} {
		sameAsJSON[HoldReply](t, r.Body)
	}
	h = d.take("u1", rich.item())
	sameAsJSON[HoldReply](t, d.hold(h).Body) // without money there are no balances
	sameAsJSON[CouponReply](t, d.couponReply(rich, false))
	sameAsJSON[HoldReply](t, d.confirm(h.HoldID).Body)
	sameAsJSON[CouponReply](t, d.couponReply(rich, false))
}

func sameAsJSON[T any](t *testing.T, body []byte) {
	t.Helper()
	var reply T
	if err := json.Unmarshal(body, &reply); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if want, err := json.Marshal(reply); err != nil || string(want) != string(body) {
		t.Errorf("%s\nis not what encoding/json writes:\n%s %v", body, want, err)
	}
}
