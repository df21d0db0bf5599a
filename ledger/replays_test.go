package ledger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
	"github.com/statesvc/statesvc/shard/id"
)

// request is an operation under a key, to be sent through any instance.
type request func(l *ledger.Ledger, c ledger.Caller) (ledger.Answer, error)

// story prepares an owner for a request, and changes his state after it, so that a repeat that was not recognised would be refused,
// answered otherwise, or would happen again. Afterwards time goes by until every hold has expired.
type story struct {
	name string
	tell func(t *testing.T, a as) (r request, change func())
}

var stories = []story{
	{"issue, then used", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		issue := a.issueOf("r", 24*time.Hour)
		return issue, func() { a.spend(t, a.coupon(a.couponOf(t, "r"))) }
	}},
	{"issue, then ended", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		return a.issueOf("r", time.Minute), func() {}
	}},
	{"issue of what exists, then used", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		issue := a.issueOf("r", 24*time.Hour)
		must(issue(a.l, a.key()))
		return issue, func() { a.spend(t, a.coupon(a.couponOf(t, "r"))) }
	}},
	{"issue of what has ended, then another", func(t *testing.T, a as) (request, func()) { // R24
		t.Helper()
		return a.issueOf("r", -time.Minute), func() { must(a.issueOf("r", time.Hour)(a.l, a.key())) }
	}},
	{"credit, then spent", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		return a.creditOf("r", 24*time.Hour), func() { a.spend(t, money(100)) }
	}},
	{"credit of what exists, then held", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		credit := a.creditOf("r", 24*time.Hour)
		must(credit(a.l, a.key()))
		return credit, func() { a.hold(t, a.request(money(70))) }
	}},
	{"credit of what has ended, then another", func(t *testing.T, a as) (request, func()) { // R24
		t.Helper()
		return a.creditOf("r", -time.Minute), func() { must(a.creditOf("r", time.Hour)(a.l, a.key())) }
	}},
	{"hold, then confirmed", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		return h.send, func() { h.end(t, a.confirm) }
	}},
	{"hold, then cancelled", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		return h.send, func() { h.end(t, a.cancel) }
	}},
	{"hold, then expired", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		return a.rich(t).send, func() {}
	}},
	{"hold of an id, then confirmed", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		h.HoldID = a.mint(t)
		return h.send, func() { h.end(t, a.confirm) }
	}},
	{"hold that exists, then confirmed", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		must(h.send(a.l, a.key()))
		return h.send, func() { h.end(t, a.confirm) }
	}},
	{"first of two attempts", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		return h.send, func() {
			h.end(t, a.cancel)
			must(h.next().send(a.l, a.key()))
		}
	}},
	{"second of two attempts", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		must(h.send(a.l, a.key()))
		h.end(t, a.cancel)
		return h.next().send, func() { h.next().end(t, a.confirm) }
	}},
	{"hold refused, then there is money", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		return a.order(money(30)).send, func() { a.credit(t, 100, 24*time.Hour) }
	}},
	{"hold refused, then its order has another", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.order(money(30))
		return h.send, func() {
			a.credit(t, 100, 24*time.Hour)
			other := h
			other.Items = []ledger.Item{money(40)}
			must(other.send(a.l, a.key()))
		}
	}},
	{"hold after its tombstone", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		h.end(t, a.cancel)
		return h.send, func() {}
	}},
	{"confirm", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		ref := a.ref(a.hold(t, h.Hold))
		return a.confirmOf(ref), func() { a.credit(t, 1, 24*time.Hour) }
	}},
	{"confirm by order, of the second attempt", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		must(h.send(a.l, a.key()))
		h.end(t, a.cancel)
		must(h.next().send(a.l, a.key()))
		return a.confirmOf(h.next().ref()), func() {}
	}},
	{"confirm of nothing, then the hold comes", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		h.HoldID = a.mint(t)
		return a.confirmOf(ledger.HoldRef{HoldID: h.HoldID}), func() { must(h.send(a.l, a.key())) }
	}},
	{"confirm by order of nothing, then the hold comes", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		return a.confirmOf(h.ref()), func() { must(h.send(a.l, a.key())) }
	}},
	{"cancel", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		ref := a.ref(a.hold(t, a.rich(t).Hold))
		return a.cancelOf(ref), func() { a.spend(t, money(100)) }
	}},
	{"cancel by order", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		must(h.send(a.l, a.key()))
		return a.cancelOf(h.ref()), func() { must(h.next().send(a.l, a.key())) }
	}},
	{"cancel of what was confirmed", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		ref := a.ref(a.hold(t, h.Hold))
		h.end(t, a.confirm)
		return a.cancelOf(ref), func() {}
	}},
	{"cancel before its hold, by id", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		h.HoldID = a.mint(t)
		return a.cancelOf(ledger.HoldRef{HoldID: h.HoldID}), func() {
			wantError(t, second(h.send(a.l, a.key())), ledger.ErrAlreadyCancelled)
		}
	}},
	{"cancel before its hold, by order", func(t *testing.T, a as) (request, func()) {
		t.Helper()
		h := a.rich(t)
		return a.cancelOf(h.ref()), func() { wantError(t, second(h.send(a.l, a.key())), ledger.ErrAlreadyCancelled) }
	}},
}

// order is a hold that names its order.
type order struct {
	as
	ledger.Hold
}

func (a as) order(items ...ledger.Item) order { return order{a, a.request(items...)} }

// rich is a hold of an owner who has what it takes, and more.
func (a as) rich(t testing.TB) order {
	t.Helper()
	a.credit(t, 80, 24*time.Hour)
	a.credit(t, 120, 24*time.Hour)
	return a.order(a.coupon(a.issue(t, fixed(30), 24*time.Hour)), money(90))
}

func (o order) send(l *ledger.Ledger, c ledger.Caller) (ledger.Answer, error) {
	return l.Hold(context.Background(), c, o.Hold)
}

func (o order) ref() ledger.HoldRef { return ledger.HoldRef{OrderID: o.OrderID, Attempt: o.Attempt} }

func (o order) end(t testing.TB, end func(context.Context, ledger.HoldRef) error) {
	t.Helper()
	if err := end(t.Context(), o.ref()); err != nil {
		t.Fatal(err)
	}
}

// next is the next attempt of the order, with other items.
func (o order) next() order {
	o.Attempt++
	o.Items = []ledger.Item{money(11)}
	return o
}

func (a as) mint(t testing.TB) id.ID {
	t.Helper()
	return must(a.codec.Parse(id.Hold, must(a.l.MintIDs(t.Context(), a.owner, id.Hold, 1))[0]))
}

func (a as) spend(t testing.TB, items ...ledger.Item) {
	t.Helper()
	if err := a.confirm(t.Context(), a.ref(a.hold(t, a.request(items...)))); err != nil {
		t.Fatal(err)
	}
}

func (a as) issueOf(ref string, ttl time.Duration) request {
	r := ledger.IssueCoupon{Owner: a.owner, CampaignID: "spring", IssueRef: ref, Discount: fixed(30), ExpiresAt: time.Now().Add(ttl)}
	return func(l *ledger.Ledger, c ledger.Caller) (ledger.Answer, error) {
		return l.IssueCoupon(context.Background(), c, r)
	}
}

func (a as) couponOf(t testing.TB, ref string) ledger.Coupon {
	t.Helper()
	for _, c := range must(a.l.Coupons(t.Context(), a.owner, ledger.CouponFilter{})).Items {
		if c.IssueRef == ref {
			return c
		}
	}
	t.Fatalf("there is no coupon %s", ref)
	return ledger.Coupon{}
}

func (a as) creditOf(ref string, ttl time.Duration) request {
	r := ledger.CreditLot{Owner: a.owner, IssueRef: ref, Source: "spring", Amount: cny(100), ExpiresAt: time.Now().Add(ttl)}
	return func(l *ledger.Ledger, c ledger.Caller) (ledger.Answer, error) {
		return l.CreditLot(context.Background(), c, r)
	}
}

func (a as) confirmOf(ref ledger.HoldRef) request {
	return func(l *ledger.Ledger, c ledger.Caller) (ledger.Answer, error) {
		return l.Confirm(context.Background(), c, ledger.Confirm{Owner: a.owner, Hold: ref})
	}
}

func (a as) cancelOf(ref ledger.HoldRef) request {
	return func(l *ledger.Ledger, c ledger.Caller) (ledger.Answer, error) {
		return l.Cancel(context.Background(), c, ledger.Cancel{Owner: a.owner, Hold: ref})
	}
}

// told is a story whose request was answered once.
type told struct {
	as
	name   string
	send   request
	caller ledger.Caller
	answer string // the first
}

// answered is an answer with everything that must be the same again.
func answered(a ledger.Answer, err error) string {
	refusal, ok := errors.AsType[*ledger.Refusal](err)
	switch {
	case ok:
		return "REFUSED " + string(must(json.Marshal(refusal)))
	case err != nil:
		return err.Error()
	}
	return "DONE " + string(a.Body)
}

func (s told) again(t testing.TB, l *ledger.Ledger, how string) {
	t.Helper()
	answer, err := s.send(l, s.caller)
	if got := answered(answer, err); got != s.answer || !answer.Replayed {
		t.Errorf("%s, %s: replayed %v\n got %s\nwant %s", s.name, how, answer.Replayed, got, s.answer)
	}
}

// wantRecorded compares what the operations endpoint and the resolver say of the key with the first answer.
func (s told) wantRecorded(t testing.TB) {
	t.Helper()
	body := must(s.l.Operation(t.Context(), s.owner, s.caller.Key))
	if got := fmt.Sprintf("%s %s", body.Status, body.Reply); got != s.answer {
		t.Errorf("%s, as it is read:\n got %s\nwant %s", s.name, got, s.answer)
	}
	var fingerprint []byte
	err := s.db.SQL().QueryRowContext(t.Context(), "SELECT fingerprint FROM operations WHERE owner=? AND op_key=?", s.owner,
		s.caller.Key).Scan(&fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	settled := must(s.db.Settle(t.Context(), 1, []shard.Unsettled{
		{Owner: s.owner, Bucket: shard.BucketOf(s.owner), Key: s.caller.Key, Fingerprint: fingerprint},
	}))
	if got := settled[0].Verdict.String() + " " + string(settled[0].Body); got != s.answer {
		t.Errorf("%s, as it is settled:\n got %s\nwant %s", s.name, got, s.answer)
	}
}

// state is what a reader sees of the owner, without his version: settling what has expired counts.
func (s told) state(t testing.TB) string {
	t.Helper()
	body := must(s.l.Owner(t.Context(), s.owner))
	return fmt.Sprint(body.Balances, body.Coupons, body.LiveHolds)
}

// A key gets its first answer for ever, byte for byte, whatever has become of its owner: alone and among others, on an instance that
// knows nothing and must run its batch twice, and on one that looks keys up at once.
func TestReplaysAreTheFirstAnswer(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			all, states := w.tellStories(t), map[string]string{}
			for _, s := range all {
				states[s.owner] = s.state(t)
				s.wantRecorded(t)
			}
			for _, s := range all {
				unaware := ledger.New(w.start(t, nil))
				s.again(t, unaware, "alone")
				s.again(t, unaware, "alone on an instance that expects it")
			}
			crowd := w.newCrowd(t)
			for _, how := range []string{"among others", "among others on an instance that expects it"} {
				calls := []func(){}
				for _, s := range all {
					other := as{w, crowd.l, w.owner()}
					calls = append(calls, func() { s.again(t, crowd.l, how) }, func() { other.credit(t, 1, time.Hour) })
				}
				crowd.together(t, calls)
			}
			for _, s := range all {
				s.wantRecorded(t)
				if got := s.state(t); got != states[s.owner] {
					t.Errorf("%s: the replays made %s of %s", s.name, got, states[s.owner])
				}
			}
			w.audit(t)
		})
	}
}

// tellStories makes the first answers, changes what they depended on, and lets time go by.
func (w *world) tellStories(t *testing.T) []told {
	t.Helper()
	all := make([]told, len(stories))
	for i, s := range stories {
		a := w.fresh()
		send, change := s.tell(t, a)
		all[i] = told{as: a, name: s.name, send: send, caller: a.key()}
		answer, err := send(a.l, all[i].caller)
		all[i].answer = answered(answer, err)
		if answer.Replayed || !strings.HasPrefix(all[i].answer, "DONE ") && !strings.HasPrefix(all[i].answer, "REFUSED ") {
			t.Fatalf("%s: %s, replayed %v", s.name, all[i].answer, answer.Replayed)
		}
		change()
	}
	w.advance(t, time.Hour)
	return all
}

// A seal answers what its key has done, or that it is burned, for ever.
func TestSealsAreReplayed(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			a := w.fresh()
			h := a.rich(t)
			used, unused, refused := a.key(), a.key(), a.key()
			must(h.send(a.l, used))
			wantError(t, second(a.l.Hold(t.Context(), refused, a.request(money(140)))), ledger.ErrInsufficient)
			callers, first := []ledger.Caller{used, unused, refused}, []string{}
			for i, status := range []string{"DONE {", "SEALED %!s(<nil>)", "REFUSED {"} {
				first = append(first, sealed(t, a.l, callers[i], a.owner))
				if !strings.HasPrefix(first[i], status) {
					t.Errorf("%s, want %s", first[i], status)
				}
			}
			h.end(t, a.confirm)
			a.credit(t, 5000, time.Hour)
			crowd := w.newCrowd(t)
			for range 2 {
				calls := []func(){}
				for i, c := range callers {
					calls = append(calls, func() {
						if got := sealed(t, crowd.l, c, a.owner); got != first[i] {
							t.Errorf("sealed again: %s, want %s", got, first[i])
						}
					})
				}
				crowd.together(t, calls)
			}
			var reused *ledger.KeyReused
			if _, err := h.next().send(a.l, unused); !errors.As(err, &reused) || !reused.Sealed {
				t.Errorf("under a sealed key: %v", err)
			}
		})
	}
}

func sealed(t testing.TB, l *ledger.Ledger, c ledger.Caller, owner string) string {
	t.Helper()
	body := must(l.Seal(t.Context(), c, owner))
	return fmt.Sprintf("%s %s", body.Status, body.Reply)
}

// crowd is an instance of its own, whose lanes can be kept busy until many calls wait, which then share their batches.
type crowd struct {
	w     *world
	l     *ledger.Ledger
	store *shard.Store
	gate  atomic.Pointer[gate]
}

type gate struct {
	arrived atomic.Int64 // lanes
	open    chan struct{}
}

func (w *world) newCrowd(t testing.TB) *crowd {
	t.Helper()
	c := &crowd{w: w}
	cfg := w.start(t, func(point string) {
		if g := c.gate.Load(); g != nil && point == failpoint.BeforeBegin {
			g.arrived.Add(1)
			<-g.open
		}
	})
	c.l, c.store = ledger.New(cfg), cfg.Store.(*shard.Store)
	return c
}

// together makes the calls, each of one operation, and returns when all have their answers.
func (c *crowd) together(t testing.TB, calls []func()) {
	t.Helper()
	wait := c.gather(t, calls)
	wait()
}

// gather returns when all calls are queued or on their way.
func (c *crowd) gather(t testing.TB, calls []func()) (wait func()) {
	t.Helper()
	g := &gate{open: make(chan struct{})}
	c.gate.Store(g)
	defer func() { // also if the test fails here, or else the lanes would never end
		c.gate.Store(nil)
		close(g.open)
	}()
	var all sync.WaitGroup
	until := func(count func() int, n int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); count() != n; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d operations, not %d", count(), n)
			}
		}
	}
	for lane := 0; lane == 0 || lane < len(c.store.Depth()[1]); lane++ { // there are lanes once an operation has come
		all.Go(func() {
			if err := c.l.ExpireDue(t.Context(), ownerIn(lane)); err != nil {
				t.Error(err)
			}
		})
		until(func() int { return int(g.arrived.Load()) }, lane+1)
	}
	for i, call := range calls {
		all.Go(call)
		until(c.waiting, i+1)
	}
	return all.Wait
}

func (c *crowd) waiting() (n int) {
	for _, depth := range c.store.Depth()[1] {
		n += depth
	}
	return n
}

// ownerIn is an owner whose operations are those of a lane, if there are two.
func ownerIn(lane int) string {
	for i := 0; ; i++ {
		if owner := fmt.Sprint("busy-", i); int(shard.BucketOf(owner))%2 == lane {
			return owner
		}
	}
}

// Every instance locks the rows of its owners in one order, whatever the order of their operations. A stranger has the row in the
// middle; what a batch has locked by then is what comes before it.
func TestOwnersAreLockedInOneOrder(t *testing.T) {
	w := newWorld(t, engines[0])
	crowd := w.newCrowd(t)
	for _, n := range []int{7, 40} { // in the text, and prepared
		var owners []as
		for len(owners) < n {
			if a := w.fresh(); shard.BucketOf(a.owner)%2 == 0 {
				a.credit(t, 1, time.Hour)
				owners = append(owners, a)
			}
		}
		slices.SortFunc(owners, func(a, b as) int { return int(shard.BucketOf(a.owner)) - int(shard.BucketOf(b.owner)) })
		stranger := must(w.db.SQL().BeginTx(context.Background(), nil))
		must(stranger.ExecContext(t.Context(), "UPDATE owners SET ver=ver+1 WHERE owner=?", owners[n/2].owner))
		var calls []func()
		for _, a := range slices.Backward(owners) {
			calls = append(calls, func() {
				a.l = crowd.l
				a.credit(t, 1, time.Hour)
			})
		}
		wait := crowd.gather(t, calls)
		w.awaitUnlocked(t, owners, n-n/2-1)
		if err := stranger.Rollback(); err != nil {
			t.Fatal(err)
		}
		wait()
	}
}

// awaitUnlocked returns when the last n of the owners have rows that are not locked, and no others have. It may be otherwise while a
// batch locks its rows, or starts again because it has waited for too long.
func (w *world) awaitUnlocked(t testing.TB, owners []as, n int) {
	t.Helper()
	want, got := []string{}, []string{}
	all := ""
	for i, a := range owners {
		all += ",'" + a.owner + "'"
		if i >= len(owners)-n {
			want = append(want, a.owner)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		got = []string{}
		w.each(t, "SELECT owner FROM owners WHERE owner IN ("+all[1:]+") ORDER BY bucket FOR UPDATE SKIP LOCKED", func(row []any) {
			got = append(got, row[0].(string))
		})
		if slices.Equal(got, want) {
			return
		}
	}
	t.Errorf("%v are not locked, want %v", got, want)
}
