package ledger_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
)

// TestCodes runs on every engine, with three shards.
func TestCodes(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			f := newFleet(t, e, 3)
			for _, c := range codeSuite {
				t.Run(c.name, func(t *testing.T) { c.run(t, f) })
			}
			f.wantCodesWhole(t)
		})
	}
}

var codeSuite = []struct {
	name string
	run  func(t *testing.T, f *fleet)
}{
	{"Lifecycle", testCodeLifecycle},
	{"OneWinner", testOneWinner},
	{"Limits", testCodeLimits},
	{"RefusedOwnerFreesTheCode", testRefusedFreesCode},
	{"OneKeyTwoCodes", testOneKeyTwoCodes},
	{"Shared", testSharedCode},
	{"Required", testCodeRequired},
	{"Import", testImportCodes},
	{"MakeAgain", testMakeCodesAgain},
	{"Guessing", testGuessing},
	{"Cut", testRedeemCut},
}

// wantCodesWhole checks that every code that was redeemed has given one coupon to its owner, and no other code has given any.
func (f *fleet) wantCodesWhole(t *testing.T) {
	t.Helper()
	redeemed := f.sum(t, "SELECT COUNT(*) FROM codes WHERE state='REDEEMED'")
	given := f.sum(t, "SELECT COUNT(*) FROM coupons WHERE issue_ref LIKE 'code:%' AND issue_ref<>'code:SHARED10'")
	if redeemed != given || redeemed == 0 {
		t.Errorf("%d codes are redeemed, and gave %d coupons", redeemed, given)
	}
	if n := f.sum(t, "SELECT COUNT(*) FROM codes WHERE state='RESERVED'"); n != 0 {
		t.Errorf("%d codes are reserved for ever", n)
	}
}

// codes makes codes of a campaign.
func (f *fleet) codes(t testing.TB, campaign string, n int) []string {
	t.Helper()
	request := ledger.MakeCodes{CampaignID: campaign, BatchRef: "first", Count: n}
	answer, err := f.ledgers[0].MakeCodes(t.Context(), f.key(), request)
	made := decode[ledger.CodesReply](t, answer, err)
	if len(made.Codes) != n || made.Batch.Count != n || made.AlreadyExists {
		t.Fatalf("%+v", made)
	}
	return made.Codes
}

func (a as) redeem(t testing.TB, code string) (ledger.Answer, error) {
	t.Helper()
	return a.l.Redeem(t.Context(), a.key(), ledger.Redeem{Owner: a.owner, Code: code})
}

func testCodeLifecycle(t *testing.T, f *fleet) {
	c := f.create(t, f.campaign())
	codes := f.codes(t, c.CampaignID, 7)
	a, key := f.on(2), f.key()
	typed := " " + strings.ToLower(strings.ReplaceAll(codes[3], "-", " ")) + "\u00a0"
	first, err := a.l.Redeem(t.Context(), key, ledger.Redeem{Owner: a.owner, Code: typed})
	coupon := decode[ledger.CouponReply](t, first, err).Coupon
	if !first.Created || coupon.CampaignID != c.CampaignID || coupon.State != "AVAILABLE" {
		t.Errorf("%+v", coupon)
	}
	again, err := a.l.Redeem(t.Context(), key, ledger.Redeem{Owner: a.owner, Code: codes[3]})
	if err != nil || !again.Replayed || string(again.Body) != string(first.Body) {
		t.Errorf("the key again: %+v %v", again, err)
	}
	other, err := a.redeem(t, codes[3])
	if reply := decode[ledger.CouponReply](t, other, err); !reply.AlreadyExists || reply.Coupon.CouponID != coupon.CouponID {
		t.Errorf("the code again: %+v", reply)
	}
	_, err = f.on(1).redeem(t, codes[3])
	wantError(t, err, ledger.ErrSpent)
	a.hold(t, a.request(a.coupon(coupon)))
	a.wantKinds(t, map[string]int{"CLAIMED": 1})
	page, next, err := a.l.Codes(t.Context(), ledger.CodeFilter{CampaignID: c.CampaignID, BatchRef: "first", After: 1, Limit: 3})
	if err != nil || next != 4 || len(page) != 3 || page[2].State != "REDEEMED" || page[2].Owner != a.owner || page[1].State != "FREE" ||
		page[2].Code != codes[3] {
		t.Errorf("%+v %d %v", page, next, err)
	}
}

// Owners on all shards redeem the same codes at once, on all instances: each code has one winner.
func testOneWinner(t *testing.T, f *fleet) {
	c := f.campaign()
	c.TotalLimit = 100
	f.create(t, c)
	codes := f.codes(t, c.CampaignID, 5)
	var mu sync.Mutex
	counts := map[string]int{}
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			_, err := f.on(i%3+1).redeem(t, codes[i%len(codes)])
			mu.Lock()
			defer mu.Unlock()
			counts[code(err)]++
		})
	}
	all.Wait()
	wantCounts(t, counts, map[string]int{"": 5, "spent": 55})
	if b := f.count(t, ledger.CountID(c.CampaignID)); b.used != 5 {
		t.Errorf("%+v", b)
	}
}

// Codes count against the limits of the owner, as claims do, in the transaction of the coupon.
func testCodeLimits(t *testing.T, f *fleet) {
	c := f.campaign()
	c.OwnerLimit = 2
	f.create(t, c)
	codes := f.codes(t, c.CampaignID, 8)
	a := f.on(3)
	got := a.atOnce(t, len(codes), func(a as, i int) error {
		_, err := a.redeem(t, codes[i])
		return err
	})
	wantCounts(t, got, map[string]int{"": 2, "limit-reached": 6})
	_, err := a.claim(t, c.CampaignID, "direct")
	wantError(t, err, ledger.ErrLimitReached)
}

// An owner who may have no more loses nothing but the code: the next one gets it, and a late repeat of the first changes nothing.
func testRefusedFreesCode(t *testing.T, f *fleet) {
	c := f.campaign()
	c.OwnerLimit = 1
	f.create(t, c)
	codes := f.codes(t, c.CampaignID, 2)
	a, b, key := f.on(1), f.on(2), f.key()
	if _, err := a.redeem(t, codes[0]); err != nil {
		t.Fatal(err)
	}
	late := ledger.Redeem{Owner: a.owner, Code: codes[1]}
	_, err := a.l.Redeem(t.Context(), key, late)
	wantError(t, err, ledger.ErrAlreadyClaimed)
	if _, err := b.redeem(t, codes[1]); err != nil {
		t.Error(err)
	}
	answer, err := a.l.Redeem(t.Context(), key, late)
	wantError(t, err, ledger.ErrAlreadyClaimed)
	if !answer.Replayed {
		t.Error("the refusal was not recorded")
	}
}

// A key that belongs to another code takes no other one: that stays free.
func testOneKeyTwoCodes(t *testing.T, f *fleet) {
	c := f.create(t, f.campaign())
	codes := f.codes(t, c.CampaignID, 2)
	a, key := f.on(1), f.key()
	if _, err := a.l.Redeem(t.Context(), key, ledger.Redeem{Owner: a.owner, Code: codes[0]}); err != nil {
		t.Fatal(err)
	}
	_, err := a.l.Redeem(t.Context(), key, ledger.Redeem{Owner: a.owner, Code: codes[1]})
	if reused, ok := errors.AsType[*ledger.KeyReused](err); !ok || !slices.Equal(reused.Fields, []string{"code"}) {
		t.Errorf("%v", err)
	}
	if _, err := f.on(2).redeem(t, codes[1]); err != nil {
		t.Error(err)
	}
}

func testSharedCode(t *testing.T, f *fleet) {
	c := f.campaign()
	c.TotalLimit = 4
	f.create(t, c)
	request := ledger.MakeCodes{CampaignID: c.CampaignID, BatchRef: "shared", Shared: "Shared-10"}
	answer, err := f.ledgers[0].MakeCodes(t.Context(), f.key(), request)
	made := decode[ledger.CodesReply](t, answer, err)
	if !slices.Equal(made.Codes, []string{"SHARED10"}) || made.Batch.Kind != ledger.SharedCode {
		t.Errorf("%+v", made)
	}
	a := f.on(1)
	first, err := a.redeem(t, "shared 1O") // the letter, as people read it
	coupon := decode[ledger.CouponReply](t, first, err).Coupon
	again, err := a.redeem(t, "ＳＨＡＲＥＤ１０")
	if reply := decode[ledger.CouponReply](t, again, err); !reply.AlreadyExists || reply.Coupon.CouponID != coupon.CouponID {
		t.Errorf("%+v", reply)
	}
	var mu sync.Mutex
	counts := map[string]int{}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			_, err := f.on(i%3+1).redeem(t, "SHARED10")
			mu.Lock()
			defer mu.Unlock()
			counts[code(err)]++
		})
	}
	all.Wait()
	wantCounts(t, counts, map[string]int{"": 3, "sold-out": 17})
	f.move(t, c.CampaignID, ledger.EndCampaign)
	_, err = f.on(2).redeem(t, "SHARED10")
	wantError(t, err, ledger.ErrEnded)
}

func testCodeRequired(t *testing.T, f *fleet) {
	c := f.campaign()
	c.CodeRequired = true
	f.create(t, c)
	a := f.on(1)
	_, err := a.claim(t, c.CampaignID, "direct")
	wantError(t, err, ledger.ErrCodeRequired)
	_, err = a.claim(t, c.CampaignID, "code:SESAME")
	wantError(t, err, ledger.ErrInvalid)
	if _, err := a.redeem(t, f.codes(t, c.CampaignID, 1)[0]); err != nil {
		t.Error(err)
	}
}

// A list may have codes that another batch has; the others are made.
func testImportCodes(t *testing.T, f *fleet) {
	one, two := f.create(t, f.campaign()), f.create(t, f.campaign())
	mine := func(i int) string { return fmt.Sprintf("MINE-%s-%d", strings.ToUpper(one.CampaignID[9:]), i) }
	list := ledger.MakeCodes{CampaignID: one.CampaignID, BatchRef: "printed", Codes: []string{mine(1), mine(2)}}
	answer, err := f.ledgers[0].MakeCodes(t.Context(), f.key(), list)
	if made := decode[ledger.CodesReply](t, answer, err); len(made.Codes) != 2 || made.Elsewhere != nil {
		t.Errorf("%+v", made)
	}
	other := ledger.MakeCodes{CampaignID: two.CampaignID, BatchRef: "printed", Codes: []string{mine(2), mine(3)}}
	for _, exists := range []bool{false, true} {
		answer, err = f.ledgers[len(f.ledgers)-1].MakeCodes(t.Context(), f.key(), other)
		made := decode[ledger.CodesReply](t, answer, err)
		if len(made.Codes) != 1 || len(made.Elsewhere) != 1 || made.AlreadyExists != exists {
			t.Errorf("%+v", made)
		}
	}
	answer, err = f.on(3).redeem(t, mine(2))
	if coupon := decode[ledger.CouponReply](t, answer, err).Coupon; coupon.CampaignID != one.CampaignID {
		t.Errorf("%+v", coupon)
	}
}

// A batch that is asked for again, under whichever key, has the codes that it had; another request for it is refused.
func testMakeCodesAgain(t *testing.T, f *fleet) {
	c := f.create(t, f.campaign())
	codes := f.codes(t, c.CampaignID, 4)
	request := ledger.MakeCodes{CampaignID: c.CampaignID, BatchRef: "first", Count: 4}
	answer, err := f.ledgers[len(f.ledgers)-1].MakeCodes(t.Context(), f.key(), request)
	if made := decode[ledger.CodesReply](t, answer, err); !slices.Equal(made.Codes, codes) || !made.AlreadyExists || answer.Created {
		t.Errorf("%+v, first %v", made, codes)
	}
	request.Count = 5
	_, err = f.ledgers[len(f.ledgers)-1].MakeCodes(t.Context(), f.key(), request)
	wantError(t, err, ledger.ErrKeyReused)
	request.CampaignID = "no-such"
	_, err = f.ledgers[len(f.ledgers)-1].MakeCodes(t.Context(), f.key(), request)
	wantError(t, err, ledger.ErrNotFound)
	if n := f.sum(t, "SELECT COUNT(*) FROM codes WHERE campaign_id=?", c.CampaignID); n != 4 {
		t.Errorf("%d codes", n)
	}
}

// Ten wrong codes are answered, then nothing for a while, not even a right one. Other owners go on, until the API key has sent too many.
func testGuessing(t *testing.T, f *fleet) {
	c := f.create(t, f.campaign())
	right := f.codes(t, c.CampaignID, 1)[0]
	a := f.on(1)
	key := ledger.Caller{Key: f.key().Key, Client: "guesser"}
	for i := range 10 {
		key.Key = fmt.Sprint(f.key().Key, i)
		for range 1 + min(9-i, 1) { // a repeat is no guess
			_, err := a.l.Redeem(t.Context(), key, ledger.Redeem{Owner: a.owner, Code: "NOSUCHCODE"})
			wantError(t, err, ledger.ErrNotFound)
		}
	}
	_, err := a.redeem(t, right)
	wantError(t, err, ledger.ErrTooManyGuesses)
	if refused := refusalOf(err); refused.RetryAt.Before(time.Now().Add(time.Minute)) {
		t.Errorf("%+v", refused)
	}
	b := as{a.world, a.l, f.on(2).owner}
	if _, err := b.redeem(t, right); err != nil {
		t.Error(err)
	}
}

// An instance dies at each step of a redemption: the same key, or somebody else, finds one verdict.
func testRedeemCut(t *testing.T, f *fleet) {
	for _, kind := range []string{"reserve-code", "redeem", "close-code"} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s-%t", kind, after), func(t *testing.T) {
				l := f.wrapped(t, func(s ledger.Store) ledger.Store { return &cutting{s, kind, after} })
				f.redeemThrough(t, l, kind, after)
			})
		}
	}
}

// redeemThrough redeems on an instance that dies under it, and then as somebody else.
func (f *fleet) redeemThrough(t *testing.T, l *ledger.Ledger, kind string, after bool) {
	t.Helper()
	c := f.create(t, f.campaign())
	codes := f.codes(t, c.CampaignID, 2)
	a, key := f.on(1), f.key()
	for _, one := range codes {
		_, err := l.Redeem(t.Context(), key, ledger.Redeem{Owner: a.owner, Code: one})
		if kind == "close-code" {
			if err != nil {
				t.Error(err)
			}
		} else {
			wantError(t, err, shard.ErrFailover)
		}
		key = f.key()
	}
	taken := kind != "reserve-code" || after
	_, err := f.on(2).redeem(t, codes[0])
	if taken {
		wantError(t, err, ledger.ErrSpent)
	} else if err != nil {
		t.Error(err)
	}
	f.exec(t, "UPDATE codes SET reserved_at=1 WHERE reserved_at IS NOT NULL") // long ago
	for number := range 3 {
		if err := f.ledgers[0].TendCodes(t.Context(), number+1); err != nil {
			t.Error(err)
		}
	}
	page, _, err := l.Codes(t.Context(), ledger.CodeFilter{CampaignID: c.CampaignID, BatchRef: "first"})
	if err != nil || (page[1].State == "REDEEMED") != taken || (page[1].Owner == a.owner) != taken {
		t.Errorf("%+v %v", page, err)
	}
}

func TestReadCode(t *testing.T) {
	for text, want := range map[string]string{
		"save-10-now":              "SAVE10N0W",
		"  AB\tCD\u00a0\u3000EF ":  "ABCDEF",
		"ＡＢｃ－１２３":                  "ABC123",
		"AB\u2013CD\u2212EF\u2010": "ABCDEF",
		"\ufeffAB\u200bC\u00adD":   "ABCD",
		"oil":                      "011",
	} {
		if got, err := ledger.ReadCode(text); err != nil || got.Canonical != want {
			t.Errorf("%q: %+v %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "AB", "- -", "САVE10" /* Cyrillic */, "SΑVE10" /* Greek */, "AB_CD", "ABC\u0301D", "ẞSAVE", "١٢٣٤", "AB\xffCD",
		strings.Repeat("A", 33), strings.Repeat(" ", 200) + "ABCD", "Ⅷ123",
	} {
		if got, err := ledger.ReadCode(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}
