package ledger_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard/id"
)

// by is a caller with a key of its own, whose API key is a person's.
func (w *world) by(person string) ledger.Caller {
	c := w.key()
	c.Client, c.Name = person, "key of "+person
	return c
}

// careful is an owner at an instance where what is more than 10 needs a second key.
func (w *world) careful(t testing.TB) as {
	t.Helper()
	return as{w, ledger.New(w.withApproval(t, 0)), w.owner()}
}

func (w *world) withApproval(t testing.TB, instance int) ledger.Config {
	t.Helper()
	cfg := w.configs[instance%len(w.configs)]
	cfg.Approval = must(ledger.ParseApproval("CNY=10"))
	return cfg
}

func (a as) adjustment(t testing.TB, delta int64) ledger.AdjustMoney {
	t.Helper()
	r := ledger.AdjustMoney{Owner: a.owner, AdjustmentRef: a.key().Key, Delta: delta, Currency: "CNY", Reason: "a <test>"}
	if delta > 0 {
		r.ExpiresAt = a.now(t).Add(1000 * time.Hour)
	}
	return r
}

func (a as) adjust(t testing.TB, person string, delta int64) ledger.AdjustmentBody {
	t.Helper()
	answer, err := a.l.AdjustMoney(t.Context(), a.by(person), a.adjustment(t, delta))
	return decode[ledger.AdjustmentReply](t, answer, err).Adjustment
}

func (a as) decision(b ledger.AdjustmentBody, approve bool) ledger.DecideAdjustment {
	return ledger.DecideAdjustment{
		Owner: a.owner, AdjustmentID: must(a.codec.Parse(id.Adjustment, b.AdjustmentID)), Approve: approve, Reason: "looked at it",
	}
}

func (a as) decide(t testing.TB, person string, b ledger.AdjustmentBody, approve bool) error {
	t.Helper()
	return second(a.l.DecideAdjustment(t.Context(), a.by(person), a.decision(b, approve)))
}

// testAdjusts looks at what one key does alone, and at what the history says of it.
func testAdjusts(t *testing.T, w *world) {
	a := w.careful(t)
	a.credit(t, 100, time.Hour)
	if got := a.adjust(t, "ann", 10); got.State != "DONE" || got.DecidedBy != nil || got.Reason != "a <test>" {
		t.Errorf("%+v", got)
	}
	a.adjust(t, "ann", -5)
	a.wantMoney(t, 105, 0)
	taken, key := a.adjustment(t, -10), a.by("ann")
	first := must(a.l.AdjustMoney(t.Context(), key, taken))
	again := must(a.l.AdjustMoney(t.Context(), key, taken))
	if !first.Created || !again.Replayed || string(again.Body) != string(first.Body) {
		t.Errorf("%+v, then %+v", first, again)
	}
	if answer := must(a.l.AdjustMoney(t.Context(), a.by("bob"), taken)); answer.Created {
		t.Error("one reference made two adjustments")
	}
	changed := taken
	changed.Delta = -9
	wantReused(t, second(a.l.AdjustMoney(t.Context(), key, changed)), "delta")
	wantReused(t, second(a.l.AdjustMoney(t.Context(), a.by("ann"), changed)), "adjustment_ref")
	a.wantMoney(t, 95, 0)
	a.wantKinds(t, map[string]int{"CREDITED": 1, "ADJUSTED": 3})
	a.intact(t)
}

// testSecondKey: nothing moves before another key has approved, and then once.
func testSecondKey(t *testing.T, w *world) {
	a := w.careful(t)
	given := a.adjust(t, "ann", 11)
	if given.State != "PROPOSED" || !given.ApproveBy.After(a.now(t).Add(ledger.ProposalTTL-time.Hour)) {
		t.Errorf("%+v", given)
	}
	a.wantMoney(t, 0, 0)
	wantError(t, a.decide(t, "ann", given, true), ledger.ErrForbidden)
	dry := a.by("bob")
	dry.DryRun = true
	answer, err := a.l.DecideAdjustment(t.Context(), dry, a.decision(given, true))
	if would := decode[ledger.AdjustmentReply](t, answer, err); would.Adjustment.State != "DONE" || would.Balances[0].Available != 11 {
		t.Errorf("%+v", would)
	}
	a.wantMoney(t, 0, 0)
	got := a.atOnce(t, 6, func(a as, i int) error { return a.decide(t, []string{"bob", "cid", "dot"}[i%3], given, true) })
	wantCounts(t, got, map[string]int{"": 1, "already-decided": 5})
	a.wantMoney(t, 11, 0)

	taken := a.adjust(t, "bob", -11)
	wantError(t, a.decide(t, "bob", taken, true), ledger.ErrForbidden)
	if err := a.decide(t, "ann", taken, false); err != nil {
		t.Error(err)
	}
	wantError(t, a.decide(t, "ann", taken, true), ledger.ErrAlreadyDecided)
	a.wantMoney(t, 11, 0)
	a.wantKinds(t, map[string]int{"ADJUSTMENT_PROPOSED": 2, "ADJUSTED": 1, "ADJUSTMENT_REJECTED": 1})
	entries := must(a.l.Entries(t.Context(), a.owner, ledger.EntryFilter{})).Items
	done := entries[1].Adjustment
	if done == nil || done.Delta != 11 || done.ProposedBy != (ledger.KeyName{KeyID: "ann", Name: "key of ann"}) || done.DecidedBy == nil ||
		done.DecidedBy.KeyID == "ann" || done.DecidedBy.Name != "key of "+done.DecidedBy.KeyID || entries[1].Reason != "a <test>" {
		t.Errorf("%+v of %+v", done, entries[1])
	}
	a.intact(t)
}

// testDecidedAtOnce: of an approval and a rejection that race, one happens, and the money agrees with it.
func testDecidedAtOnce(t *testing.T, w *world) {
	for range 5 {
		a := w.careful(t)
		p := a.adjust(t, "ann", 20)
		got := a.atOnce(t, 4, func(a as, i int) error { return a.decide(t, "bob", p, i%2 == 0) })
		wantCounts(t, got, map[string]int{"": 1, "already-decided": 3})
		want := map[string]int64{"DONE": 20, "REJECTED": 0}
		state := must(a.l.Adjustment(t.Context(), a.decision(p, true).AdjustmentID)).State
		a.wantMoney(t, want[state], 0)
		a.intact(t)
	}
}

// testProposalsOutlive an instance, and its policy: one that knows no policy and has seen nothing still wants a second key.
func testProposalsOutlive(t *testing.T, w *world) {
	a := w.careful(t)
	p := a.adjust(t, "ann", 30)
	a.l = ledger.New(w.configs[len(w.configs)-1])
	wantError(t, a.decide(t, "ann", p, true), ledger.ErrForbidden)
	if err := a.decide(t, "bob", p, true); err != nil {
		t.Error(err)
	}
	a.wantMoney(t, 30, 0)
}

// testProposalsEnd: without a decision a proposal ends by itself, and its history says so once.
func testProposalsEnd(t *testing.T, w *world) {
	a := w.careful(t)
	p := a.adjust(t, "ann", 30)
	listed := func() bool {
		page := must(a.l.Proposals(t.Context(), id.ID{}, ledger.MaxPage))
		return slices.ContainsFunc(page.Items, func(b ledger.AdjustmentBody) bool { return b.AdjustmentID == p.AdjustmentID })
	}
	if !listed() {
		t.Error("a proposal is not listed")
	}
	w.advance(t, ledger.ProposalTTL)
	state := func() string { return must(a.l.Adjustments(t.Context(), a.owner, id.ID{}, 0)).Items[0].State }
	if listed() || state() != "EXPIRED" {
		t.Error("after its end a proposal is listed, or ", state())
	}
	wantError(t, a.decide(t, "bob", p, true), ledger.ErrAlreadyDecided)
	a.wantMoney(t, 0, 0)
	for range 2 {
		if err := a.l.TendAdjustments(t.Context(), 1); err != nil {
			t.Error(err)
		}
	}
	a.wantKinds(t, map[string]int{"ADJUSTMENT_PROPOSED": 1, "ADJUSTMENT_EXPIRED": 1})
	if state() != "EXPIRED" {
		t.Error(state())
	}
	a.intact(t)
}

// testProposalsInPages goes through all proposals two by two.
func testProposalsInPages(t *testing.T, w *world) {
	want := map[string]bool{}
	for range 5 {
		a := w.careful(t)
		want[a.adjust(t, "ann", 30).AdjustmentID] = true
	}
	l := ledger.New(w.withApproval(t, 0))
	for after, more := (id.ID{}), true; more; more = after != (id.ID{}) {
		page := must(l.Proposals(t.Context(), after, 2))
		if after = page.Next; len(page.Items) > 2 {
			t.Fatal("a page of", len(page.Items))
		}
		for _, b := range page.Items {
			delete(want, b.AdjustmentID)
		}
	}
	if len(want) > 0 {
		t.Errorf("never listed: %v", want)
	}
}

// testTwoKeysInTheSchema: also code that is wrong cannot write down that one key has approved its own proposal.
func testTwoKeysInTheSchema(t *testing.T, w *world) {
	a := w.careful(t)
	a.adjust(t, "ann", 30)
	for _, decidedBy := range []string{"ann", ""} {
		_, err := w.db.SQL().ExecContext(t.Context(),
			"UPDATE adjustments SET state='DONE', decided_at=1, decided_by=? WHERE owner=?", decidedBy, a.owner)
		if err == nil {
			t.Errorf("the schema lets %q approve", decidedBy)
		}
	}
}

func testWrongAdjustments(t *testing.T, w *world) {
	a := w.careful(t)
	for pointer, spoil := range map[string]func(*ledger.AdjustMoney){
		"/adjustment_ref": func(r *ledger.AdjustMoney) { r.AdjustmentRef = "" },
		"/delta":          func(r *ledger.AdjustMoney) { r.Delta = 0 },
		"/currency":       func(r *ledger.AdjustMoney) { r.Currency = "cny" },
		"/expires_at":     func(r *ledger.AdjustMoney) { r.Delta = -1 },
		"/reason":         func(r *ledger.AdjustMoney) { r.Reason = "" },
	} {
		r := a.adjustment(t, 5)
		spoil(&r)
		err := second(a.l.AdjustMoney(t.Context(), a.by("ann"), r))
		if wrong, ok := errors.AsType[*ledger.Invalid](err); !ok || wrong.Problems[0].Pointer != pointer {
			t.Errorf("%s: %v", pointer, err)
		}
	}
	no := ledger.DecideAdjustment{Owner: a.owner, AdjustmentID: a.decision(a.adjust(t, "ann", 20), false).AdjustmentID}
	wantError(t, second(a.l.DecideAdjustment(t.Context(), a.by("bob"), no)), ledger.ErrInvalid)
}

func TestParseApproval(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "none", "none": "none", "all": "all", "JPY=0,EUR=500": "EUR=500,JPY=0"} {
		if p, err := ledger.ParseApproval(text); err != nil || p.String() != want {
			t.Errorf("%q: %s, %v", text, p, err)
		}
	}
	for _, text := range []string{"some", "EUR", "EUR=", "EUR=-1", "EUR=1.5", "eur=1", "EUR=1,EUR=2", "EUR=1,", "EUR=1;USD=2", "all,EUR=1"} {
		if p, err := ledger.ParseApproval(text); err == nil {
			t.Errorf("%q: %s, %v", text, p, err)
		}
	}
}
