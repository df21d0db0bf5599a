package ledger

import (
	"fmt"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Drift is a place where the tables of a shard contradict each other. It is reported and never repaired: whoever repairs must
// first know which side is right, and that is for a person to find out.
type Drift struct {
	Check   string `json:"check"` // which rule is broken; see docs/invariants.md
	Shard   int    `json:"shard"`
	Bucket  int    `json:"bucket"`
	Owner   string `json:"owner"`             // of a quota or a campaign: its name as an owner, who has its history
	Subject string `json:"subject,omitempty"` // id of a lot, a coupon, a hold …, "entry N" or "slice N"; empty: the owner himself
	Want    string `json:"want"`
	Have    string `json:"have"`
}

// The checks of an owner, as reports and metrics name them.
const (
	checkOwner   = "owner"   // the owner's row: bucket, live_holds, due_at
	checkLot     = "lot"     // issued = available + held + spent + expired + revoked, each from 0; live
	checkHeld    = "held"    // held = what the live holds have of the lot
	checkCoupon  = "coupon"  // its state fits its hold
	checkHold    = "hold"    // a live hold has its order, is not decided, and has what its document says
	checkDecided = "decided" // what an entry says became of a hold is what became of it
	checkHistory = "history" // lots and coupons are as their last entries left them; each entry begins where the one before ended
	checkUnits   = "units"   // the rows of hold_items are what the documents of live holds say
	checkClaims  = "claims"  // of a campaign is used what the history has claimed
	checkChain   = "chain"   // the hashes
)

// Checks are the names of all checks.
var Checks = []string{
	checkOwner, checkLot, checkHeld, checkCoupon, checkHold, checkDecided, checkHistory, checkUnits, checkClaims, checkChain,
	checkQuota, checkSlice, checkSold, checkPacket, checkShare, checkCampaign, checkLate,
}

// ownerChecks are made of every owner, over one snapshot. A check has no IO. What belongs to no owner, or to two shards, has walks of
// its own; see walks.
var ownerChecks = []func(a *audited){
	(*audited).checkOwner, (*audited).checkLots, (*audited).checkHeld, (*audited).checkCoupons, (*audited).checkHolds,
	(*audited).checkUnits, (*audited).checkClaims, (*audited).checkChain,
}

// audited is all rows of an owner, from one snapshot.
type audited struct {
	codec  *id.Codec
	bucket shard.Bucket
	owner  string
	row    ownerRecord // zero: there is none
	coupon map[string]*couponRecord
	lot    map[string]*lotRecord
	live   []holdRecord
	body   []HoldBody                       // of live
	both   map[string]bool                  // live holds that are decided, too
	ended  map[string]State                 // decided holds that coupons or live holds name
	units  map[string]map[string]itemRecord // of live holds, in hold_items, by hold and quota
	usage  map[string]usageRecord           // by campaign
	chain  chain

	lastLot    map[string]LotCounters // after the newest entry of the lot
	lastCoupon map[string]string      // state after the newest entry of the coupon
	inPart     map[string]bool        // holds that have an entry of a part
	claimed    map[string]claims      // by campaign
	sold       map[string]int64       // units of quotas that entries have made USED
	Audit
}

type (
	itemRecord struct {
		HoldID    []byte
		Quota     string
		Amount    int64
		ExpiresAt int64
	}
	usageRecord struct {
		CampaignID string
		Used       int64
		CouponID   []byte
	}
	claims struct { // and issues: they count as well, but for those before the campaign was created, when it was only a name
		least, most int64
		newest      string // coupon
	}
)

// found reports a drift. Subject, want and have are texts of any values.
func (a *audited) found(check, subject string, want, have any) {
	a.Drift = append(a.Drift, Drift{
		Check: check, Bucket: int(a.bucket), Owner: a.owner, Subject: subject, Want: fmt.Sprint(want), Have: fmt.Sprint(have),
	})
}

// same reports a drift unless both are equal.
func same[T comparable](a *audited, check, subject, what string, want, have T) {
	if want != have {
		a.found(check, subject, fmt.Sprintf("%s %v", what, want), have)
	}
}

// checkOwner compares the owner's row with what it counts. due_at may be early, because it is corrected when it comes; it must not
// be late, or an expired hold would not be seen.
func (a *audited) checkOwner() {
	same(a, checkOwner, "", "bucket", shard.BucketOf(a.owner), a.bucket)
	same(a, checkOwner, "", "live_holds", int64(len(a.live)), a.row.LiveHolds)
	var first int64
	for i := range a.live {
		if at := a.live[i].ExpiresAt; first == 0 || at < first {
			first = at
		}
	}
	if due := a.row.DueAt; (first == 0) != (due == 0) || due > first {
		a.found(checkOwner, "", fmt.Sprintf("due_at not after %d", first), due)
	}
}

// checkLots repeats the CHECKs of the schema (I1, I2), which an administrator can switch off, and compares with the history: holds
// move money between available and held without an entry, so their sum is compared.
func (a *audited) checkLots() {
	for text, l := range a.lot {
		sum := l.Available + l.Held + l.Spent + l.Expired + l.Revoked
		same(a, checkLot, text, "issued", sum, l.Issued)
		if min(l.Available, l.Held, l.Spent, l.Expired, l.Revoked) < 0 {
			a.found(checkLot, text, "no counter below zero", *l.counters())
		}
		same(a, checkLot, text, "live", l.Available+l.Held > 0, l.Live)
		last, known := a.lastLot[text]
		if !known {
			a.found(checkHistory, text, "an entry that credits the lot", "none")
			continue
		}
		same(a, checkHistory, text, "counters with available and held as one:", free(last), free(*l.counters()))
	}
	for text := range a.lastLot {
		if a.lot[text] == nil {
			a.found(checkHistory, text, "the lot of an entry", "none")
		}
	}
}

func (r *lotRecord) counters() *LotCounters {
	return &LotCounters{Available: r.Available, Held: r.Held, Spent: r.Spent, Expired: r.Expired, Revoked: r.Revoked}
}

// free is counters as far as entries have them: holds are no entries.
func free(c LotCounters) LotCounters {
	c.Available, c.Held = c.Available+c.Held, 0
	return c
}

// checkHeld compares the held counters with what the live holds have.
func (a *audited) checkHeld() {
	held := map[string]int64{}
	for i := range a.body {
		for item, it := range a.body[i].Items {
			for n, share := range it.Lots {
				held[share.LotID] += share.Amount - a.body[i].confirmedOf(item, n)
			}
		}
	}
	for text, l := range a.lot {
		same(a, checkHeld, text, "held", held[text], l.Held)
		delete(held, text)
	}
	for text, amount := range held {
		if amount != 0 { // of a lot that is confirmed in part nothing may be held any more
			a.found(checkHeld, text, fmt.Sprintf("a lot with %d held", amount), "no such lot")
		}
	}
}

// checkCoupons compares the state of each coupon with its hold and with its newest entry. A hold leaves no entry, so a held coupon was
// available before.
func (a *audited) checkCoupons() {
	live := map[string]*holdRecord{}
	for i := range a.live {
		for n, item := range a.body[i].Items {
			switch {
			case item.CouponID == "":
			case len(a.body[i].Parts) > 0 && a.body[i].Parts[n].Confirmed > 0:
				a.ended[a.holdText(a.live[i].HoldID)] = Confirmed // as far as this coupon is concerned
			default:
				live[item.CouponID] = &a.live[i]
			}
		}
	}
	for text, c := range a.coupon {
		a.checkHolder(text, c, live[text])
		delete(live, text)
		state := c.State
		if state == couponHeld {
			state = couponAvailable
		}
		same(a, checkHistory, text, "state", a.lastCoupon[text], state)
	}
	for text, h := range live {
		a.found(checkCoupon, text, "a coupon of hold "+a.holdText(h.HoldID), "no such coupon")
	}
	for text := range a.lastCoupon {
		if a.coupon[text] == nil {
			a.found(checkHistory, text, "the coupon of an entry", "none")
		}
	}
}

// checkHolder: a held coupon is in the live hold that it names, until that hold's end; a used one was used by a confirmed hold; any
// other is in no live hold.
func (a *audited) checkHolder(text string, c *couponRecord, h *holdRecord) {
	switch {
	case h != nil:
		same(a, checkCoupon, text, "state", couponHeld, c.State)
		same(a, checkCoupon, text, "hold", a.holdText(h.HoldID), a.holdText(c.HoldID))
		if c.HeldUntil != h.ExpiresAt {
			a.found(checkCoupon, text, fmt.Sprintf("held_until %d", h.ExpiresAt), instantOrNone(c.HeldUntil))
		}
	case c.State == couponHeld:
		a.found(checkCoupon, text, "a live hold "+a.holdText(c.HoldID), "none that has it")
	case c.State == couponUsed:
		same(a, checkCoupon, text, "used by a hold that is", Confirmed, a.ended[a.holdText(c.HoldID)])
	}
}

func instantOrNone(us int64) string {
	if us == 0 {
		return "none"
	}
	return instant(us).Format(time.RFC3339Nano)
}

// holdText is the id of a hold as callers know it; "none" for NULL and for zeros.
func (a *audited) holdText(hold []byte) string {
	h := toID(hold)
	if h == (id.ID{}) {
		return "none"
	}
	return a.codec.Text(id.Hold, h)
}

// checkHolds: I3, a hold is either live or decided.
func (a *audited) checkHolds() {
	for i := range a.live {
		h := &a.live[i]
		text := a.holdText(h.HoldID)
		if a.both[text] {
			a.found(checkHold, text, "live or decided", "both")
		}
		if len(h.Doc) == 0 {
			a.found(checkHold, text, "an order with a document", "none")
		}
	}
}

// checkUnits compares the rows of hold_items with what the documents of their holds say.
func (a *audited) checkUnits() {
	for i := range a.live {
		text := a.holdText(a.live[i].HoldID)
		rows := a.units[text]
		for _, take := range a.body[i].units() {
			row, known := rows[take.quota]
			same(a, checkUnits, text, "of "+take.quota, take.amount, row.Amount)
			if known {
				same(a, checkUnits, text, "expires_at with "+take.quota, a.live[i].ExpiresAt, row.ExpiresAt)
			}
			delete(rows, take.quota)
		}
		for quota, row := range rows {
			a.found(checkUnits, text, "nothing of "+quota, row.Amount)
		}
	}
}

// partsFit says that there are no parts, or one for each item and each of its lots.
func (h *HoldBody) partsFit() bool {
	if len(h.Parts) == 0 {
		return true
	}
	if len(h.Parts) != len(h.Items) {
		return false
	}
	for i := range h.Parts {
		if len(h.Parts[i].Lots) != len(h.Items[i].Lots) {
			return false
		}
	}
	return true
}

// units is what a live hold has of quotas: what of it is not confirmed.
func (h *HoldBody) units() (takes []quotaTake) {
	for i := range h.Items {
		rest := h.Items[i].quantity()
		if len(h.Parts) > 0 {
			rest -= h.Parts[i].Confirmed
		}
		if take, ok := h.Items[i].quota(rest); ok && rest > 0 {
			takes = addTake(takes, take)
		}
	}
	return takes
}

// checkClaims compares what the owner has used of campaigns with the claims in his history.
func (a *audited) checkClaims() {
	for campaign, u := range a.usage {
		c := a.claimed[campaign]
		if u.Used < c.least || u.Used > c.most {
			a.found(checkClaims, campaign, fmt.Sprintf("used from %d to %d", c.least, c.most), u.Used)
		}
		same(a, checkClaims, campaign, "newest coupon", c.newest, a.codec.Text(id.Coupon, toID(u.CouponID)))
		delete(a.claimed, campaign)
	}
	for campaign, c := range a.claimed {
		if c.least > 0 {
			a.found(checkClaims, campaign, fmt.Sprintf("used from %d", c.least), "none")
		}
	}
}

func (a *audited) checkChain() {
	a.chain.end(a.row.EntrySeq, a.row.Head)
	if a.chain.brokenAt > 0 {
		a.found(checkChain, entryText(a.chain.brokenAt), "hashes that fit", "a broken chain")
	}
}

func entryText(seq int64) string { return fmt.Sprintf("entry %d", seq) }

// addEntry follows lots and coupons through the history. decided is what became of the entry's hold; empty: nothing yet.
func (a *audited) addEntry(r *entryRecord, e *Entry, decided State) {
	a.chain.add(r)
	subject := entryText(e.Seq)
	if e.Kind == entryPartConfirmed {
		a.inPart[e.HoldID] = true
	}
	if want, decides := stateAfter[e.Kind]; decides && e.HoldID != "" {
		if a.inPart[e.HoldID] {
			want = Confirmed // whatever became of the rest
		}
		same(a, checkDecided, subject, "hold "+e.HoldID+" is", want, decided)
	}
	for _, c := range e.Changes {
		switch {
		case c.LotID != "" && c.After != nil:
			last, known := a.lastLot[c.LotID]
			if known != (c.Before != nil) || known && free(last) != free(*c.Before) {
				a.found(checkHistory, subject, fmt.Sprintf("lot %s from %+v", c.LotID, last), fmt.Sprintf("%+v", c.Before))
			}
			a.lastLot[c.LotID] = *c.After
		case c.CouponID != "":
			from := c.From
			if from == couponHeld {
				from = couponAvailable
			}
			same(a, checkHistory, subject, "coupon "+c.CouponID+" from", a.lastCoupon[c.CouponID], from)
			a.lastCoupon[c.CouponID] = c.To
			a.countClaim(e.Kind, c.CouponID)
		case c.QuotaID != "" && c.To == quotaUsed:
			a.sold[c.QuotaID] += c.Quantity
		}
	}
}

func (a *audited) countClaim(kind, coupon string) {
	c := a.coupon[coupon]
	if c == nil || kind != entryClaimed && kind != entryIssued {
		return
	}
	n := a.claimed[c.CampaignID]
	if kind == entryClaimed || n.least > 0 { // the campaign was there
		n.least++
	}
	a.claimed[c.CampaignID] = claims{n.least, n.most + 1, coupon}
}

// stateAfter is what became of a hold that has an entry of this kind.
var stateAfter = map[string]State{entryConfirmed: Confirmed, entryCancelled: Cancelled, entryExpired: Expired}
