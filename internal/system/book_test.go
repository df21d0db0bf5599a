package system_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What the replies of the service have.
type (
	anyReply struct {
		Hold    holdReply   `json:"hold"`
		Coupon  couponReply `json:"coupon"`
		Lot     lotReply    `json:"lot"`
		Version int64       `json:"version"`
	}
	holdReply struct {
		HoldID    string    `json:"hold_id"`
		State     string    `json:"state"`
		Tombstone bool      `json:"tombstone"`
		ExpiresAt time.Time `json:"expires_at"`
		Items     []struct {
			CouponID string `json:"coupon_id"`
			Lots     []struct {
				LotID  string `json:"lot_id"`
				Amount int64  `json:"amount"`
			} `json:"lots"`
		} `json:"items"`
	}
	couponReply struct {
		CouponID string `json:"coupon_id"`
		State    string `json:"state"`
		HoldID   string `json:"hold_id"`
	}
	lotReply struct {
		LotID     string `json:"lot_id"`
		Issued    int64  `json:"issued"`
		Available int64  `json:"available"`
		Held      int64  `json:"held"`
		Spent     int64  `json:"spent"`
		Expired   int64  `json:"expired"`
		Revoked   int64  `json:"revoked"`
	}
)

// account is what an owner must have, by the final answers of all keys and by nothing else.
type account struct {
	version int64
	lots    map[string]lotReply
	coupons map[string]couponReply
	holds   map[string]holdReply
	entries map[string]int // by kind
}

// audit ends a test with a load: every key gets its final answer, and the service has what the answers make.
func (c *cluster) audit(t *testing.T, records []*record) {
	t.Helper()
	finals := c.finals(t, records)
	if t.Failed() {
		return
	}
	owners := book(t, records, finals)
	for _, owner := range slices.Sorted(maps.Keys(owners)) {
		c.compare(t, owner, owners[owner])
	}
	c.nothingUndecided(t)
}

// wrongMax is how many wrong answers a test reports before it gives up.
const wrongMax = 10

// finals asks for the answer of every key twice. What a caller has heard must come back byte by byte.
func (c *cluster) finals(t *testing.T, records []*record) []reply {
	t.Helper()
	finals := make([]reply, len(records))
	work := make(chan int)
	var wrong atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range work {
				if wrong.Load() > wrongMax {
					continue
				}
				final, err := c.final(records[i])
				if err != nil {
					wrong.Add(1)
					t.Error(err)
				}
				finals[i] = final
			}
		})
	}
	for i := range records {
		work <- i
	}
	close(work)
	wg.Wait()
	return finals
}

func (c *cluster) final(r *record) (final reply, err error) {
	if final, err = c.settle(r.request); err != nil {
		return final, err
	}
	if final.code() == "held-by-other" { // the key is open; burn it, so that it has an answer
		r.sealed = true
		return c.seal(r)
	}
	if r.sealed && final.code() == "key-reused" { // by an earlier audit
		return final, nil
	}
	again, err := c.settle(r.request)
	switch {
	case err != nil:
		return final, err
	case r.heard != nil && !r.heard.sameAs(final):
		return final, fmt.Errorf("%s of %s under %s: the caller heard %v, now it is %v", r.kind, r.owner, r.key, r.heard, final)
	case !again.sameAs(final) || again.header.Get("Idempotency-Replayed") != "true":
		return final, fmt.Errorf("%s of %s under %s: %v, and then %v %v", r.kind, r.owner, r.key, final, again, again.header)
	}
	return final, nil
}

func (c *cluster) seal(r *record) (reply, error) {
	sealed, err := c.settle(newRequest(http.MethodPost, "/v1/owners/"+r.owner+"/operations/"+r.key+"/seal", "", nil))
	if err == nil && !strings.Contains(string(sealed.body), `"SEALED"`) {
		err = fmt.Errorf("seal of %s under %s: %v", r.owner, r.key, sealed)
	}
	late, lateErr := c.settle(r.request)
	if late.code() != "key-reused" {
		lateErr = errors.Join(lateErr, fmt.Errorf("%s of %s ran under the sealed key %s: %v", r.kind, r.owner, r.key, late))
	}
	return late, errors.Join(err, lateErr)
}

// book computes what the owners must have.
func book(t *testing.T, records []*record, finals []reply) map[string]*account {
	t.Helper()
	owners := map[string]*account{}
	for i, r := range records {
		a := owners[r.owner]
		if a == nil {
			a = &account{
				lots: map[string]lotReply{}, coupons: map[string]couponReply{}, holds: map[string]holdReply{}, entries: map[string]int{},
			}
			owners[r.owner] = a
		}
		if finals[i].status >= http.StatusBadRequest {
			continue
		}
		var body anyReply
		if err := json.Unmarshal(finals[i].body, &body); err != nil {
			t.Errorf("%s of %s under %s: %v", r.kind, r.owner, r.key, err)
		}
		a.version++
		if err := a.enter(r.kind, body); err != nil {
			t.Errorf("%s of %s under %s: %v", r.kind, r.owner, r.key, err)
		}
	}
	for _, a := range owners {
		a.close()
	}
	return owners
}

// enter books one answer. The order of answers is not known and does not matter: a final state beats HELD, and no hold has two.
func (a *account) enter(kind string, body anyReply) error {
	switch kind {
	case credit:
		a.entries["CREDITED"]++
		a.lots[body.Lot.LotID] = lotReply{LotID: body.Lot.LotID, Issued: body.Lot.Issued}
	case issue:
		a.entries["ISSUED"]++
		a.coupons[body.Coupon.CouponID] = couponReply{CouponID: body.Coupon.CouponID, State: "AVAILABLE"}
	case hold:
		if _, decided := a.holds[body.Hold.HoldID]; !decided {
			a.holds[body.Hold.HoldID] = body.Hold
		}
	default:
		before, known := a.holds[body.Hold.HoldID]
		if known && before.State != "HELD" {
			return fmt.Errorf("hold %s was %s and is %s", before.HoldID, before.State, body.Hold.State)
		}
		a.holds[body.Hold.HoldID] = body.Hold
		if !body.Hold.Tombstone {
			a.entries[body.Hold.State]++
		}
	}
	return nil
}

// close moves what the holds have.
func (a *account) close() {
	for _, h := range a.holds {
		for _, item := range h.Items {
			for _, share := range item.Lots {
				l := a.lots[share.LotID]
				switch h.State {
				case "HELD":
					l.Held += share.Amount
				case "CONFIRMED":
					l.Spent += share.Amount
				}
				a.lots[share.LotID] = l
			}
			if c, ok := a.coupons[item.CouponID]; ok && (h.State == "HELD" || h.State == "CONFIRMED") {
				c.State, c.HoldID = map[string]string{"HELD": "HELD", "CONFIRMED": "USED"}[h.State], h.HoldID
				a.coupons[item.CouponID] = c
			}
		}
	}
	for id, l := range a.lots {
		l.Available = l.Issued - l.Held - l.Spent
		a.lots[id] = l
	}
}

// compare asks for everything that an owner has.
func (c *cluster) compare(t *testing.T, owner string, want *account) {
	t.Helper()
	var summary struct {
		Version   int64 `json:"version"`
		LiveHolds int   `json:"live_holds"`
	}
	c.get(t, &summary, "/v1/owners/%s", owner)
	if summary.Version != want.version {
		t.Errorf("%s has version %d; %d operations were done", owner, summary.Version, want.version)
	}
	same(t, owner+"'s lot", byID(list[lotReply](t, c, owner, "lots"), func(l lotReply) string { return l.LotID }), want.lots)
	coupons := list[couponReply](t, c, owner, "coupons")
	same(t, owner+"'s coupon", byID(coupons, func(c couponReply) string { return c.CouponID }), want.coupons)
	c.compareHolds(t, owner, want, summary.LiveHolds)
	entries := map[string]int{}
	for _, e := range list[struct{ Kind string }](t, c, owner, "entries") {
		entries[e.Kind]++
	}
	same(t, owner+"'s entries", entries, want.entries)
	var chain struct{ Intact bool }
	if c.get(t, &chain, "/v1/owners/%s/entries/verify", owner); !chain.Intact {
		t.Errorf("the history of %s is broken", owner)
	}
}

func (c *cluster) compareHolds(t *testing.T, owner string, want *account, liveHolds int) {
	t.Helper()
	live := 0
	for id, h := range want.holds {
		var got holdReply
		if c.get(t, &got, "/v1/holds/%s", id); got.State != h.State {
			t.Errorf("hold %s of %s is %s, want %s", id, owner, got.State, h.State)
		}
		if h.State == "HELD" {
			live++
		}
	}
	if live != liveHolds {
		t.Errorf("%s has %d live holds, want %d", owner, liveHolds, live)
	}
}

// list reads all pages of one of an owner's lists.
func list[T any](t *testing.T, c *cluster, owner, name string) (all []T) {
	t.Helper()
	for cursor := ""; ; {
		path := fmt.Sprintf("/v1/owners/%s/%s?limit=200", owner, name)
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		var page map[string]json.RawMessage
		c.get(t, &page, "%s", path)
		var rows []T
		if err := json.Unmarshal(page[name], &rows); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, rows...)
		if page["next_cursor"] == nil {
			return all
		}
		if err := json.Unmarshal(page["next_cursor"], &cursor); err != nil {
			t.Fatal(err)
		}
	}
}

func byID[T any](rows []T, id func(T) string) map[string]T {
	m := make(map[string]T, len(rows))
	for _, row := range rows {
		m[id(row)] = row
	}
	return m
}

func same[T comparable](t *testing.T, what string, got, want map[string]T) {
	t.Helper()
	for id, w := range want {
		if g, ok := got[id]; !ok || g != w {
			t.Errorf("%s %s: %+v, want %+v", what, id, g, w)
		}
	}
	for id, g := range got {
		if _, ok := want[id]; !ok {
			t.Errorf("%s %s: %+v was never acknowledged and is no key's answer", what, id, g)
		}
	}
}

// nothingUndecided waits until no outcome is undecided.
func (c *cluster) nothingUndecided(t *testing.T) {
	t.Helper()
	for _, in := range c.instances {
		var list struct{ Undecided []object }
		waitFor(t, "undecided outcomes to be decided", settledPatience, func() bool {
			in.send(newRequest(http.MethodGet, "/v1/admin/undecided", "", nil)).decode(t, &list)
			return len(list.Undecided) == 0
		})
	}
}
