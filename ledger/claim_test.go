package ledger_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
)

// TestCampaigns runs on every engine, with three shards.
func TestCampaigns(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			f := newFleet(t, e, 3)
			for _, c := range campaignSuite {
				t.Run(c.name, func(t *testing.T) { c.run(t, f) })
			}
		})
	}
}

var campaignSuite = []struct {
	name string
	run  func(t *testing.T, f *fleet)
}{
	{"Lifecycle", testCampaignLifecycle},
	{"CreateAgain", testCreateAgain},
	{"C33ThreeCoupons", testThreeCoupons},
	{"C33Budget", testCampaignBudget},
	{"C37LimitsOfOwners", testOwnersRace},
	{"ClaimsOfADay", testClaimsOfADay},
	{"Freeze", testFreezeCampaign},
	{"Pause", testPause},
	{"NewShard", testUnmarkedShard},
	{"LeftHalfSpread", testLeftHalfSpread},
	{"C39IssuesMeetTheLimits", testIssuesMeetLimits},
	{"C39Budget", testIssuesMeetBudget},
	{"FrozenOwner", testFrozenOwner},
	{"TermsOfCoupons", testTermsOfCoupons},
	{"ListCampaigns", testListCampaigns},
}

// campaign returns a valid campaign with a new name.
func (f *fleet) campaign() ledger.Campaign {
	return ledger.Campaign{
		CampaignID: fmt.Sprintf("campaign-%04d", f.numbers.Add(1)), TimeZone: "Asia/Shanghai",
		Discount: ledger.DiscountBody{Kind: ledger.Fixed, Currency: "CNY", Amount: &ledger.Money{Amount: 300, Currency: "CNY"}},
		StartsAt: time.Now().Add(-time.Hour), EndsAt: time.Now().AddDate(0, 1, 0),
		Validity: ledger.Validity{Kind: ledger.ForDays, Days: 7},
	}
}

func (f *fleet) create(t testing.TB, c ledger.Campaign) ledger.Campaign {
	t.Helper()
	answer, err := f.ledgers[0].CreateCampaign(t.Context(), f.key(), c)
	return decode[ledger.CampaignReply](t, answer, err).Campaign
}

func (f *fleet) move(t testing.TB, campaign string, event ledger.CampaignEvent) ledger.Campaign {
	t.Helper()
	answer, err := f.ledgers[0].MoveCampaign(t.Context(), f.key(), ledger.MoveCampaign{CampaignID: campaign, Event: event, Reason: "test"})
	return decode[ledger.CampaignReply](t, answer, err).Campaign
}

// claim asks for a coupon under a new key.
func (a as) claim(t testing.TB, campaign, ref string) (ledger.Answer, error) {
	t.Helper()
	return a.l.Claim(t.Context(), a.key(), ledger.Claim{Owner: a.owner, CampaignID: campaign, ClaimRef: ref})
}

func testCampaignLifecycle(t *testing.T, f *fleet) {
	c := f.campaign()
	c.TotalLimit, c.OwnerLimit = 10, 2
	made := f.create(t, c)
	if made.State != ledger.CampaignActive || made.Version != 1 {
		t.Errorf("%+v", made)
	}
	a := f.on(2)
	key := a.key()
	request := ledger.Claim{Owner: a.owner, CampaignID: c.CampaignID, ClaimRef: "one"}
	first, err := a.l.Claim(t.Context(), key, request)
	coupon := decode[ledger.CouponReply](t, first, err).Coupon
	if !first.Created || coupon.State != "AVAILABLE" || coupon.ExpiresAt.Sub(coupon.ValidFrom) != 7*24*time.Hour || coupon.IssueRef != "one" {
		t.Errorf("%+v", coupon)
	}
	again, err := a.l.Claim(t.Context(), key, request)
	if err != nil || !again.Replayed || string(again.Body) != string(first.Body) {
		t.Errorf("the key again: %+v %v", again, err)
	}
	sameRef, err := a.claim(t, c.CampaignID, "one")
	if reply := decode[ledger.CouponReply](t, sameRef, err); !reply.AlreadyExists || reply.Coupon.CouponID != coupon.CouponID {
		t.Errorf("the reference again: %+v", reply)
	}
	if _, err := a.claim(t, c.CampaignID, "two"); err != nil {
		t.Error(err)
	}
	_, err = a.claim(t, c.CampaignID, "three")
	wantError(t, err, ledger.ErrLimitReached)
	a.hold(t, a.request(a.coupon(coupon)))
	a.wantKinds(t, map[string]int{"CLAIMED": 2})
	if b := f.count(t, ledger.CountID(c.CampaignID)); b.used != 2 || b.total != 10 {
		t.Errorf("%+v", b)
	}
	_, err = a.claim(t, "no-such", "one")
	wantError(t, err, ledger.ErrNotFound)
	f.move(t, c.CampaignID, ledger.EndCampaign)
	_, err = f.on(1).claim(t, c.CampaignID, "one")
	wantError(t, err, ledger.ErrEnded)
	_, err = a.l.MoveCampaign(t.Context(), a.key(), ledger.MoveCampaign{CampaignID: c.CampaignID, Event: ledger.ResumeCampaign})
	wantError(t, err, ledger.ErrEnded)
}

func testCreateAgain(t *testing.T, f *fleet) {
	c := f.campaign()
	c.TotalLimit = 5
	f.create(t, c)
	answer, err := f.ledgers[0].CreateCampaign(t.Context(), f.key(), c)
	if reply := decode[ledger.CampaignReply](t, answer, err); !reply.AlreadyExists || answer.Created {
		t.Errorf("%+v", reply)
	}
	other := c
	other.OwnerLimit = 1
	_, err = f.ledgers[0].CreateCampaign(t.Context(), f.key(), other)
	wantError(t, err, ledger.ErrKeyReused)
	other.TotalLimit = 6
	_, err = f.ledgers[0].CreateCampaign(t.Context(), f.key(), other)
	wantError(t, err, ledger.ErrKeyReused)
	if b := f.count(t, ledger.CountID(c.CampaignID)); b.total != 5 {
		t.Errorf("%+v", b)
	}
}

// issueUnder asks for a coupon of 300 of a campaign, directly.
func (a as) issueUnder(t testing.TB, campaign, ref string, d ledger.Discount) (ledger.Answer, error) {
	t.Helper()
	return a.l.IssueCoupon(t.Context(), a.key(), ledger.IssueCoupon{
		Owner: a.owner, CampaignID: campaign, IssueRef: ref, Discount: d, ExpiresAt: time.Now().AddDate(1, 0, 0),
	})
}

// A total of 10 is met by claims and issues together, on all shards and instances; limits of an owner as well.
func testIssuesMeetLimits(t *testing.T, f *fleet) {
	c := f.campaign()
	c.TotalLimit, c.OwnerLimit = 10, 2
	f.create(t, c)
	var mu sync.Mutex
	counts := map[string]int{}
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			var err error
			if a := f.on(i%3 + 1); i%2 == 0 {
				_, err = a.issueUnder(t, c.CampaignID, "direct", fixed(300))
			} else {
				_, err = a.claim(t, c.CampaignID, "direct")
			}
			mu.Lock()
			defer mu.Unlock()
			counts[code(err)]++
		})
	}
	all.Wait()
	wantCounts(t, counts, map[string]int{"": 10, "sold-out": 20})
	must(f.ledgers[0].AdjustQuota(t.Context(), f.key(), ledger.AdjustQuota{Quota: ledger.CountID(c.CampaignID), Delta: 5, Reason: "more"}))
	a := f.on(2)
	for i, want := range []error{nil, nil, ledger.ErrLimitReached} {
		_, err := a.issueUnder(t, c.CampaignID, fmt.Sprint("own-", i), fixed(300))
		if !errors.Is(err, want) {
			t.Errorf("issue %d: %v, want %v", i, err, want)
		}
	}
	_, err := a.claim(t, c.CampaignID, "own-3")
	wantError(t, err, ledger.ErrLimitReached)
	if b := f.count(t, ledger.CountID(c.CampaignID)); b.used != 12 {
		t.Errorf("%+v", b)
	}
	f.move(t, c.CampaignID, ledger.EndCampaign)
	_, err = f.on(1).issueUnder(t, c.CampaignID, "late", fixed(300))
	wantError(t, err, ledger.ErrEnded)
}

// An issue takes from the budget what its own discount can give.
func testIssuesMeetBudget(t *testing.T, f *fleet) {
	c := f.campaign()
	c.Budget = &ledger.Money{Amount: 1000, Currency: "CNY"}
	f.create(t, c)
	a := f.on(1)
	if _, err := a.issueUnder(t, c.CampaignID, "large", fixed(700)); err != nil {
		t.Error(err)
	}
	if _, err := f.on(2).claim(t, c.CampaignID, "one"); err != nil {
		t.Error(err)
	}
	_, err := f.on(3).issueUnder(t, c.CampaignID, "small", fixed(1))
	wantError(t, err, ledger.ErrSoldOut)
	_, err = a.issueUnder(t, c.CampaignID, "any", ledger.Discount{Kind: ledger.Percent, Currency: "CNY", BasisPoints: 100})
	wantError(t, err, ledger.ErrInvalid)
	dollars := fixed(1)
	dollars.Currency = "USD"
	_, err = a.issueUnder(t, c.CampaignID, "dollars", dollars)
	wantError(t, err, ledger.ErrCurrencyMismatch)
	if b := f.count(t, ledger.BudgetID(c.CampaignID)); b.used != 1000 {
		t.Errorf("%+v", b)
	}
}

// Coupons have the terms of their campaign, however they were given; an issue that names terms of its own keeps them.
func testTermsOfCoupons(t *testing.T, f *fleet) {
	c := f.campaign()
	c.Terms = ledger.Terms{Refund: ledger.NoRefund, StackGroup: "spring", MaxPerGroup: 2, MaxDiscount: cny(50), ReturnGraceMs: 60_000}
	if made := f.create(t, c); made.Terms != c.Terms {
		t.Errorf("%+v", made)
	}
	a := f.on(2)
	a.credit(t, 10, 48*time.Hour)
	claimed := decodeClaim(t, a, c.CampaignID, "claimed")
	answer, err := a.redeem(t, f.codes(t, c.CampaignID, 1)[0])
	redeemed := decode[ledger.CouponReply](t, answer, err).Coupon
	own := ledger.IssueCoupon{
		Owner: a.owner, CampaignID: c.CampaignID, IssueRef: "own", Discount: fixed(40), ExpiresAt: time.Now().AddDate(1, 0, 0),
		Terms: ledger.Terms{Refund: ledger.WholeOrder, StackGroup: "other", MaxPerGroup: 1},
	}
	for i, want := range []bool{false, true} { // another key, and an instance that has not heard of the campaign
		answer, err = f.ledgers[i*(len(f.ledgers)-1)].IssueCoupon(t.Context(), f.key(), own)
		if reply := decode[ledger.CouponReply](t, answer, err); reply.AlreadyExists != want || reply.Coupon.StackGroup != "other" {
			t.Errorf("%+v", reply)
		}
	}
	issued := must(a.l.Coupon(t.Context(), a.coupon(decode[ledger.CouponReply](t, answer, err).Coupon).CouponID))
	want := c.Terms
	want.Refund, want.StackGroup, want.MaxPerGroup = "", "other", 1
	for _, one := range []struct {
		ledger.Coupon
		want ledger.Terms
	}{{claimed, c.Terms}, {redeemed, c.Terms}, {issued, want}} {
		if one.Terms != one.want {
			t.Errorf("%+v, want %+v", one.Coupon, one.want)
		}
	}
	third := decodeClaim(t, a, c.CampaignID, "third")
	_, err = a.l.Hold(t.Context(), a.key(), a.request(a.coupon(claimed), a.coupon(redeemed), a.coupon(third)))
	wantError(t, err, ledger.ErrNotStackable)
	h := a.hold(t, a.request(a.coupon(issued), a.coupon(claimed), money(1)))
	if h.Hold.Discount.Amount != 50 {
		t.Errorf("both together gave %+v", h.Hold.Discount)
	}
	ref := a.ref(h)
	if err := a.confirm(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	made := decode[ledger.RefundReply](t, must(a.refund(t.Context(), ref, "all", 0)), nil).Refund
	if len(made.Coupons) != 1 || made.Coupons[0].CouponID != issued.CouponID {
		t.Errorf("came back: %+v", made.Coupons)
	}
	own.IssueRef, own.Discount = "dollars", ledger.Discount{Kind: ledger.Fixed, Currency: "USD", Amount: 1}
	_, err = a.l.IssueCoupon(t.Context(), a.key(), own)
	wantError(t, err, ledger.ErrCurrencyMismatch)
}

// A frozen owner claims, redeems, sends and grabs nothing; what he has grabbed before, he is shown again.
func testFrozenOwner(t *testing.T, f *fleet) {
	c := f.create(t, f.campaign())
	a, sender := f.on(1), f.on(2)
	sender.credit(t, 10, 48*time.Hour)
	a.credit(t, 10, 48*time.Hour)
	_, had := sender.send(t, 4, 2, ledger.EqualSplit)
	_, other := sender.send(t, 4, 2, ledger.EqualSplit)
	first := a.share(t, had)
	must(a.l.Freeze(t.Context(), a.key(), ledger.Freeze{Owner: a.owner, Frozen: true, Reason: "test"}))
	_, err := a.claim(t, c.CampaignID, "one")
	wantError(t, err, ledger.ErrFrozen)
	_, err = a.redeem(t, f.codes(t, c.CampaignID, 1)[0])
	wantError(t, err, ledger.ErrFrozen)
	_, err = a.l.CreatePacket(t.Context(), a.key(), ledger.CreatePacket{
		Owner: a.owner, PacketRef: "p", Amount: ledger.Money{Amount: 5, Currency: "CNY"}, Shares: 1, Mode: ledger.EqualSplit,
	})
	wantError(t, err, ledger.ErrFrozen)
	_, err = a.grab(t, other)
	wantError(t, err, ledger.ErrFrozen)
	if again := a.share(t, had); again != first {
		t.Errorf("%+v, first %+v", again, first)
	}
	must(a.l.Freeze(t.Context(), a.key(), ledger.Freeze{Owner: a.owner, Reason: "test"}))
	if _, err := a.grab(t, other); err != nil {
		t.Error(err)
	}
	if _, err := a.claim(t, c.CampaignID, "one"); err != nil {
		t.Error(err)
	}
}

// claimAll has owners of all shards claim at once, on all instances.
func (f *fleet) claimAll(t *testing.T, campaign string, owners int) map[string]int {
	t.Helper()
	var mu sync.Mutex
	counts := map[string]int{}
	var all sync.WaitGroup
	for i := range owners {
		all.Go(func() {
			_, err := f.on(i%3+1).claim(t, campaign, "one")
			mu.Lock()
			defer mu.Unlock()
			counts[code(err)]++
		})
	}
	all.Wait()
	return counts
}

func testThreeCoupons(t *testing.T, f *fleet) {
	c := f.campaign()
	c.TotalLimit = 3
	f.create(t, c)
	wantCounts(t, f.claimAll(t, c.CampaignID, 200), map[string]int{"": 3, "sold-out": 197})
	if b := f.count(t, ledger.CountID(c.CampaignID)); b.used != 3 {
		t.Errorf("%+v", b)
	}
}

// A budget of 1000 has room for three coupons of 300; the rest is too small for any.
func testCampaignBudget(t *testing.T, f *fleet) {
	c := f.campaign()
	c.Budget = &ledger.Money{Amount: 1000, Currency: "CNY"}
	c.TotalLimit = 100
	f.create(t, c)
	wantCounts(t, f.claimAll(t, c.CampaignID, 30), map[string]int{"": 3, "sold-out": 27})
	if b := f.count(t, ledger.BudgetID(c.CampaignID)); b.used != 900 {
		t.Errorf("%+v", b)
	}
	if b := f.count(t, ledger.CountID(c.CampaignID)); b.used != 3 {
		t.Errorf("a claim that was refused has used a coupon: %+v", b)
	}
}

// One owner claims on all instances at once: his limit holds, and that of others is theirs.
func testOwnersRace(t *testing.T, f *fleet) {
	c := f.campaign()
	c.OwnerLimit = 3
	f.create(t, c)
	for number := range 2 {
		a := f.on(number + 1)
		got := a.atOnce(t, 40, func(a as, i int) error {
			_, err := a.claim(t, c.CampaignID, fmt.Sprint("ref-", i))
			return err
		})
		wantCounts(t, got, map[string]int{"": 3, "limit-reached": 37})
		page, err := a.l.Coupons(t.Context(), a.owner, ledger.CouponFilter{CampaignID: c.CampaignID})
		if err != nil || len(page.Items) != 3 {
			t.Errorf("%+v %v", page, err)
		}
	}
	c = f.campaign()
	c.OwnerLimit = 1
	f.create(t, c)
	a := f.on(3)
	coupon := decodeClaim(t, a, c.CampaignID, "a")
	_, err := a.claim(t, c.CampaignID, "b")
	wantError(t, err, ledger.ErrAlreadyClaimed)
	if refused := refusalOf(err); refused.CouponID != coupon.CouponID {
		t.Errorf("%+v, want coupon %s", refused, coupon.CouponID)
	}
}

func decodeClaim(t *testing.T, a as, campaign, ref string) ledger.Coupon {
	t.Helper()
	answer, err := a.claim(t, campaign, ref)
	return decode[ledger.CouponReply](t, answer, err).Coupon
}

func testClaimsOfADay(t *testing.T, f *fleet) {
	c := f.campaign()
	c.OwnerDayLimit = 2
	f.create(t, c)
	a := f.on(1)
	for day := range 2 {
		for i := range 3 {
			_, err := a.claim(t, c.CampaignID, fmt.Sprint(day, "-", i))
			switch {
			case i < 2 && err != nil:
				t.Error(err)
			case i == 2:
				wantError(t, err, ledger.ErrLimitReached)
				if refused := refusalOf(err); !refused.RetryAt.After(f.now(t)) || *refused.Have != 2 {
					t.Errorf("%+v", refused)
				}
			}
		}
		f.advance(t, 24*time.Hour)
	}
}

// A frozen campaign gives nothing, and its coupons make no new holds; live holds still confirm (R31).
func testFreezeCampaign(t *testing.T, f *fleet) {
	c := f.campaign()
	f.create(t, c)
	a := f.on(3)
	one, two := decodeClaim(t, a, c.CampaignID, "one"), decodeClaim(t, a, c.CampaignID, "two")
	h := a.hold(t, a.request(a.coupon(one)))
	f.move(t, c.CampaignID, ledger.FreezeCampaign)
	_, err := a.claim(t, c.CampaignID, "three")
	wantError(t, err, ledger.ErrFrozen)
	_, err = a.l.Hold(t.Context(), a.key(), a.request(a.coupon(two)))
	wantError(t, err, ledger.ErrFrozen)
	if err := a.confirm(t.Context(), a.ref(h)); err != nil {
		t.Errorf("a live hold of a frozen campaign: %v", err)
	}
	f.move(t, c.CampaignID, ledger.UnfreezeCampaign)
	a.hold(t, a.request(a.coupon(two)))
}

// When a pause is answered, no instance grants a claim any more.
func testPause(t *testing.T, f *fleet) {
	c := f.campaign()
	f.create(t, c)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			for {
				a := f.on(i%3 + 1)
				select {
				case <-stop: // claims begun from here on come after the pause
					_, err := a.claim(t, c.CampaignID, "one")
					wantError(t, err, ledger.ErrFrozen)
					return
				default:
					if _, err := a.claim(t, c.CampaignID, "one"); err != nil && code(err) != "frozen" {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // some claims are under way; how many does not matter
	paused := f.move(t, c.CampaignID, ledger.PauseCampaign)
	close(stop)
	all.Wait()
	if again := f.move(t, c.CampaignID, ledger.PauseCampaign); again.Version != paused.Version || again.State != ledger.CampaignPaused {
		t.Errorf("paused again: %+v", again)
	}
	f.move(t, c.CampaignID, ledger.ResumeCampaign)
	if _, err := f.on(1).claim(t, c.CampaignID, "one"); err != nil {
		t.Error(err)
	}
}

// A shard that was never told asks the home, and an older state never replaces a newer one.
func testUnmarkedShard(t *testing.T, f *fleet) {
	c := f.campaign()
	f.create(t, c)
	f.exec(t, "DELETE FROM campaign_marks WHERE campaign_id=?", c.CampaignID)
	if _, err := f.on(2).claim(t, c.CampaignID, "one"); err != nil {
		t.Error(err)
	}
	if n := f.sum(t, "SELECT COUNT(*) FROM campaign_marks WHERE campaign_id=?", c.CampaignID); n != 1 {
		t.Errorf("%d shards know the campaign", n)
	}
}

// What a dead instance has left half spread, a sweeper finishes.
func testLeftHalfSpread(t *testing.T, f *fleet) {
	c := f.campaign()
	f.create(t, c)
	f.exec(t, "UPDATE campaigns SET state='PAUSED', ver=2, untold=1, changed_at=1 WHERE campaign_id=?", c.CampaignID)
	if _, err := f.on(2).claim(t, c.CampaignID, "one"); err != nil {
		t.Error(err)
	}
	for number := range 3 {
		if err := f.ledgers[0].TendCampaigns(t.Context(), number+1); err != nil {
			t.Error(err)
		}
	}
	_, err := f.on(2).claim(t, c.CampaignID, "one")
	wantError(t, err, ledger.ErrFrozen)
	if n := f.sum(t, "SELECT COUNT(*) FROM campaign_marks WHERE campaign_id=? AND ver=2", c.CampaignID); n != 3 {
		t.Errorf("%d shards know", n)
	}
	if n := f.sum(t, "SELECT COALESCE(SUM(untold),0) FROM campaigns WHERE campaign_id=?", c.CampaignID); n != 0 {
		t.Error("the home does not know that all shards know")
	}
}

func testListCampaigns(t *testing.T, f *fleet) {
	var made []string
	for range 7 {
		made = append(made, f.create(t, f.campaign()).CampaignID)
	}
	var listed []string
	after := made[0]
	for {
		page, next, err := f.ledgers[0].Campaigns(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page {
			listed = append(listed, c.CampaignID)
		}
		if after = next; next == "" {
			break
		}
	}
	if fmt.Sprint(listed) != fmt.Sprint(made[1:]) {
		t.Errorf("listed %v, made %v", listed, made[1:])
	}
}

// exec runs a statement on each shard.
func (f *fleet) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	for _, db := range f.dbs {
		if _, err := db.SQL().ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
}

// refusalOf is the refusal that an error is; an empty one if it is none.
func refusalOf(err error) ledger.Refusal {
	if r, ok := errors.AsType[*ledger.Refusal](err); ok {
		return *r
	}
	return ledger.Refusal{}
}
