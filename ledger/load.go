package ledger

import (
	"fmt"
	"slices"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Round 0 locks the rows of the batch's owners, in the order of bucket and owner. Everything else is read without locks: the
// rows of an owner are changed only under the lock of its row in owners, and at READ COMMITTED a query that starts after the
// lock was taken sees all that earlier holders of the lock have committed.
const (
	ownerColumns = "bucket, owner, ver, entry_seq, head, live_holds, due_at, (due_at>0 AND due_at<=%s)+2*frozen"

	// The document and the request's hash are with the order. A tombstone made by id has none.
	liveColumns    = "h.bucket, h.hold_id, h.owner, h.order_id, h.attempt, h.created_at, h.expires_at, o.request_hash, o.doc, h.progress"
	decidedColumns = liveColumns + ", h.state, h.decided_at"
	ofOrder        = " ON o.bucket=h.bucket AND o.owner=h.owner AND o.order_id=h.order_id AND o.attempt=h.attempt"
	ofHold         = " ON h.bucket=o.bucket AND h.hold_id=o.hold_id"
	holdKey        = "h.bucket, h.hold_id"
	orderKey       = "o.bucket, o.owner, o.order_id, o.attempt"
)

var (
	liveByID = shard.Lookup{
		Columns: liveColumns, From: "holds h", Index: "PRIMARY", Keys: holdKey, Joins: " JOIN orders o" + ofOrder,
	}
	decidedByID = shard.Lookup{
		Columns: decidedColumns, From: "decided_holds h", Index: "PRIMARY", Keys: holdKey, Joins: " LEFT JOIN orders o" + ofOrder,
	}
	// The joins are left ones because then every optimizer begins with the orders; a hold that is in the other table shows as
	// NULL.
	liveByOrder = shard.Lookup{
		Columns: liveColumns, From: "orders o", Index: "PRIMARY", Keys: orderKey, Joins: " LEFT JOIN holds h" + ofHold,
	}
	decidedByOrder = shard.Lookup{
		Columns: decidedColumns, From: "orders o", Index: "PRIMARY", Keys: orderKey, Joins: " LEFT JOIN decided_holds h" + ofHold,
	}

	couponLookup = shard.Lookup{
		From: "coupons",
		Columns: "owner, coupon_id, campaign_id, issue_ref, state, ver, discount, currency, amount, basis_points, cap, " +
			"min_spend, valid_from, expires_at, hold_id, held_until, issued_at, terms, " +
			"(SELECT m.frozen FROM campaign_marks m WHERE m.campaign_id=coupons.campaign_id)",
	}
	lotLookup = shard.Lookup{
		From: "lots",
		Columns: "owner, lot_id, issue_ref, source, tag, currency, issued, available, held, spent, expired, revoked, ver, " +
			"expires_at, issued_at",
	}

	couponByID  = by(couponLookup, "PRIMARY", "bucket, owner, coupon_id")
	couponByRef = by(couponLookup, "coupons_ref", "bucket, owner, campaign_id, issue_ref")
	lotByRef    = withGrace(by(lotLookup, "lots_ref", "bucket, owner, issue_ref"))
	// Summing up along the rows themselves costs a third of the way over an index.
	liveSums = shard.Lookup{
		Columns: "owner, currency, CAST(SUM(available) AS SIGNED), CAST(SUM(held) AS SIGNED)", From: "lots", Index: "PRIMARY",
		Keys: "bucket, owner", Where: "live=1", Tail: " GROUP BY owner, currency",
	}
	lotByID  = withGrace(by(lotLookup, "PRIMARY", "bucket, owner, lot_id"))
	liveLots = by(lotLookup, "lots_live", "bucket, owner, live, currency")
)

// withGrace also reads what only credits, refunds and revocations look at.
func withGrace(l shard.Lookup) shard.Lookup {
	l.Columns += ", refund_grace"
	return l
}

func by(l shard.Lookup, index, keys string) shard.Lookup {
	l.Index, l.Keys = index, keys
	return l
}

// selection is a query that is added to the packet with its first key, and not at all without one. Its keys follow by row, all of
// them before those of the next one.
type selection struct {
	p      *shard.Packet
	lookup shard.Lookup
	scan   func(*shard.Row) error
	v      shard.Values
	begun  bool
	lock   bool // its rows
}

func keys(p *shard.Packet, l shard.Lookup, scan func(*shard.Row) error) *selection {
	return &selection{p: p, lookup: l, scan: scan}
}

func (q *selection) row(b shard.Bucket) shard.Values {
	return q.next().Bucket(b)
}

// next is row for keys that do not begin with a bucket.
func (q *selection) next() shard.Values {
	switch {
	case q.begun:
	case q.lock:
		q.v = q.p.SelectForUpdate(q.lookup, q.scan)
	default:
		q.v = q.p.Select(q.lookup, q.scan)
	}
	q.begun = true
	return q.v.Row()
}

// Load adds the queries of a round. Round 0 has everything that the operations name. The others have what only loaded
// rows could tell: round 1 what the holds have that are confirmed or cancelled, and the expired holds of owners who have
// any, round 2 what those have.
func (b *batch) Load(p *shard.Packet, round int) {
	switch round {
	case 0:
		b.loadOwners(p)
		p.Then()
		b.loadHolds(p)
		b.loadDecided(p)
		b.loadRefunds(p)
		b.loadCoupons(p)
		b.loadLots(p)
		b.loadHomes(p)
		b.loadCampaigns(p)
		b.loadPackets(p)
		b.loadCodes(p)
		b.loadAdjustments(p)
		b.loadSlices(p, round)
	case 1:
		b.loadRest(p)
		b.loadDue(p)
		b.loadHolders(p)
		b.loadNextShares(p)
		b.loadTaken(p)
		b.loadRefunded(p)
		b.loadAdjusted(p)
		b.loadSlices(p, round)
	case 2:
		b.loadTaken(p)
		b.loadSlices(p, round)
	}
}

func (b *batch) loadOwners(p *shard.Packet) {
	for _, op := range b.ops {
		if b.owners[op.Owner] == nil {
			b.listed = append(b.listed, b.owner(op.Bucket, op.Owner))
		}
	}
	slices.SortFunc(b.listed, (*ownerRow).compare)
	locked := p.SelectForUpdate(shard.Lookup{
		Columns: fmt.Sprintf(ownerColumns, p.Now()), From: "owners", Index: "PRIMARY", Keys: "bucket, owner",
	}, b.scanOwner)
	for _, o := range b.listed {
		locked.Row().Bucket(o.bucket).ASCII(o.name)
	}
}

func (b *batch) scanOwner(r *shard.Row) error {
	o := b.owner(bucketIn(r), r.Str())
	o.ver, o.entrySeq = r.Int(), r.Int()
	o.storedSeq = o.entrySeq
	copy(o.head[:], r.Bytes())
	o.liveHolds, o.dueAt = r.Int(), r.Int()
	flags := r.Int()
	o.stored, o.dueLoaded, o.frozen = true, flags&1 != 0, flags&2 != 0
	if o.dueLoaded {
		b.due = append(b.due, o)
	}
	return nil
}

// loadHolds reads the live holds that operations name, by id and by order.
func (b *batch) loadHolds(p *shard.Packet) {
	b.holdIDs(keys(p, liveByID, b.scanHold))
	b.holdOrders(keys(p, liveByOrder, b.scanHold))
}

// loadDue reads the expired holds of the owners who may have some, and when the next one of theirs expires.
func (b *batch) loadDue(p *shard.Packet) {
	expired := liveByID
	expired.Index, expired.Keys, expired.Where = "holds_owner", "h.bucket, h.owner", "h.expires_at<="+p.Now()
	b.dueOwners(keys(p, expired, b.scanExpired))
	b.dueOwners(keys(p, shard.Lookup{
		Columns: "bucket, owner, MIN(expires_at)", From: "holds", Index: "holds_owner", Keys: "bucket, owner",
		Where: "expires_at>" + p.Now(), Tail: " GROUP BY bucket, owner",
	}, b.scanNextDue))
}

func (b *batch) dueOwners(q *selection) {
	for _, o := range b.due {
		q.row(o.bucket).ASCII(o.name)
	}
}

func (b *batch) scanNextDue(r *shard.Row) error {
	o := b.owner(bucketIn(r), r.Str())
	o.nextDue = r.Int()
	return nil
}

func (b *batch) loadDecided(p *shard.Packet) {
	b.holdIDs(keys(p, decidedByID, b.scanDecided))
	b.holdOrders(keys(p, decidedByOrder, b.scanDecided))
}

// holdIDs adds the holds that operations name by id.
func (b *batch) holdIDs(q *selection) {
	for _, op := range b.ops {
		for _, named := range namedHolds(op) {
			if named.HoldID != (id.ID{}) {
				q.row(op.Bucket).Binary(named.HoldID[:])
			}
		}
	}
}

// namedHolds are the holds that an operation names. A replacement names two: the new one by the id that its caller may have minted.
func namedHolds(op *shard.Op) [2]HoldRef {
	switch body := op.Body.(type) {
	case *holdOp:
		return [2]HoldRef{{HoldID: body.HoldID}}
	case *replaceOp:
		return [2]HoldRef{body.old, {HoldID: body.HoldID}}
	}
	return [2]HoldRef{decidedHold(op)}
}

// decidedHold is the hold that an operation is about, if it is about one that should be there.
func decidedHold(op *shard.Op) HoldRef {
	switch body := op.Body.(type) {
	case *confirmOp:
		return body.Hold
	case *cancelOp:
		return body.Hold
	case *extendOp:
		return body.Hold
	case *pinOp:
		return body.Hold
	case *replaceOp:
		return body.old
	case *refundOp:
		return body.Hold
	}
	return HoldRef{}
}

// newHold is the hold that an operation asks for; nil if it asks for none.
func newHold(op *shard.Op) *holdOp {
	switch body := op.Body.(type) {
	case *holdOp:
		return body
	case *replaceOp:
		return &body.holdOp
	}
	return nil
}

// holdOrders adds the holds that operations name by order. New holds look for their order only in the second run.
func (b *batch) holdOrders(q *selection) {
	for _, op := range b.ops {
		if r := decidedHold(op); r.OrderID != "" {
			q.row(op.Bucket).ASCII(op.Owner).ASCII(r.OrderID).Int(int64(r.Attempt))
		}
		if fresh := newHold(op); fresh != nil && b.lookedUp {
			q.row(op.Bucket).ASCII(op.Owner).ASCII(fresh.OrderID).Int(int64(fresh.Attempt))
		}
	}
}

func (b *batch) scanHold(r *shard.Row) error {
	h, err := scanLive(r)
	if err == nil && h.id != (id.ID{}) {
		b.addHold(h)
	}
	return err
}

// scanExpired also notes that the hold will be settled.
func (b *batch) scanExpired(r *shard.Row) error {
	h, err := scanLive(r)
	if err == nil {
		b.addHold(h)
		b.want(b.holds[h.id])
	}
	return err
}

func bucketIn(r *shard.Row) shard.Bucket { return shard.Bucket(r.Int()) }

// scanLive reads liveColumns.
func scanLive(r *shard.Row) (*holdRow, error) {
	h := &holdRow{
		bucket: bucketIn(r), id: r.Array16(), owner: r.Str(), orderID: r.Str(), attempt: int(r.Int()), createdAt: r.Int(),
		expiresAt: r.Int(), hash: r.Array16(), doc: r.Bytes(), state: Held, stored: true,
	}
	return h, h.readProgress(r.Bytes())
}

// want notes that what a hold has must be loaded. A hold whose document cannot be read is left for apply to complain about.
func (b *batch) want(h *holdRow) {
	if !h.wanted && h.state == Held {
		b.wantTakes(h)
	}
}

func (b *batch) wantTakes(h *holdRow) {
	h.wanted = true
	if t, err := b.takesOf(h); err == nil {
		h.quotas, h.loaded = t.quotas, t.quotas
		b.wanted = append(b.wanted, h)
	}
}

func (b *batch) scanDecided(r *shard.Row) error {
	h, err := scanLive(r)
	if err != nil {
		return err
	}
	h.state, h.decidedAt, h.filed = State(r.Str()), r.Int(), true
	if h.id != (id.ID{}) {
		b.addHold(h)
	}
	return nil
}

// loadCoupons reads the coupons that operations name.
func (b *batch) loadCoupons(p *shard.Packet) {
	byID := keys(p, couponByID, b.scanCoupon)
	for _, op := range b.ops {
		if revoke, ok := op.Body.(*revokeOp); ok && revoke.Coupon != (id.ID{}) {
			byID.row(op.Bucket).ASCII(op.Owner).Binary(revoke.Coupon[:])
		}
		hold := newHold(op)
		if hold == nil {
			continue
		}
		for i := range hold.Items {
			if it := &hold.Items[i]; it.Kind == CouponItem {
				byID.row(op.Bucket).ASCII(op.Owner).Binary(it.CouponID[:])
			}
		}
	}
	byRef := keys(p, couponByRef, b.scanIssue)
	for _, op := range b.ops {
		if issue, ok := op.Body.(*issueOp); ok {
			byRef.row(op.Bucket).ASCII(op.Owner).ASCII(issue.CampaignID).ASCII(issue.IssueRef)
		}
	}
}

func (b *batch) scanCoupon(r *shard.Row) error {
	c, err := b.scannedCoupon(r)
	if err == nil {
		b.addCoupon(c)
	}
	return err
}

func (b *batch) scanIssue(r *shard.Row) error {
	c, err := b.scannedCoupon(r)
	if err == nil {
		b.addIssue(c)
	}
	return err
}

func (b *batch) scannedCoupon(r *shard.Row) (c *couponRow, err error) {
	c = &couponRow{owner: b.owners[r.Str()], id: r.Array16(), campaignID: r.Str(), issueRef: r.Str(), state: r.Str(), ver: r.Int()}
	c.discount = Discount{
		Kind: DiscountKind(r.Str()), Currency: r.Str(), Amount: r.Int(), BasisPoints: r.Int(), Cap: r.Int(), MinSpend: r.Int(),
	}
	c.validFrom, c.expiresAt, c.holdID, c.heldUntil, c.issuedAt = r.Int(), r.Int(), r.Array16(), r.Int(), r.Int()
	c.stored = true
	c.terms, err = readTerms(r.Bytes())
	c.frozen = r.Int() != 0
	return c, err
}

// loadLots reads the lots that credits name, and the live lots from which holds take and which balances sum up.
func (b *batch) loadLots(p *shard.Packet) {
	byRef := keys(p, lotByRef, b.scanCredit)
	for _, op := range b.ops {
		if credit, ok := op.Body.(*creditOp); ok {
			byRef.row(op.Bucket).ASCII(op.Owner).ASCII(credit.IssueRef)
		}
	}
	byID := keys(p, lotByID, b.scanGrace)
	for _, op := range b.ops {
		if revoke, ok := op.Body.(*revokeOp); ok && revoke.Lot != (id.ID{}) {
			byID.row(op.Bucket).ASCII(op.Owner).Binary(revoke.Lot[:])
		}
	}
	b.markWhole()
	live := keys(p, liveLots, b.scanLot)
	for _, op := range b.ops {
		if currency := moneyOf(op); currency != "" && !b.wantFirst(b.owners[op.Owner], op, currency) {
			b.wantLots(live, b.owners[op.Owner], currency)
		}
	}
	b.loadParts(p)
}

// markWhole notes the purses of which a part of the lots is not enough for the operations that take or give money: who takes all, or of
// a tag, may need any of them. Without operations of purses with many lots it costs nothing.
func (b *batch) markWhole() {
	if b.crowds.none() {
		return
	}
	b.whole = map[purse]bool{}
	for _, op := range b.ops {
		if currency := moneyOf(op); currency != "" && !takesFirst(op) {
			b.whole[purse{op.Owner, currency}] = true
		}
	}
}

// takesFirst says whether an operation takes amounts of whichever lots are the first.
func takesFirst(op *shard.Op) bool {
	hold := newHold(op)
	return hold != nil && !slices.ContainsFunc(hold.Items, func(it Item) bool { return it.All || it.Tag != "" })
}

// moneyOf is the currency in which an operation takes or gives money.
func moneyOf(op *shard.Op) string {
	switch body := op.Body.(type) {
	case *creditOp:
		return body.Amount.Currency
	case *createPacketOp:
		return body.Amount.Currency
	case *adjustOp:
		return body.Currency
	}
	if hold := newHold(op); hold != nil {
		return hold.moneyCurrency()
	}
	return ""
}

// wantLots asks for an owner's live lots of a currency, once. If a part of them was loaded, it is none any more.
func (b *batch) wantLots(q *selection, o *ownerRow, currency string) {
	if slices.Contains(o.currencies, currency) {
		return
	}
	o.parts = slices.DeleteFunc(o.parts, func(p *lotPart) bool { return p.currency == currency })
	o.currencies = append(o.currencies, currency)
	q.row(o.bucket).ASCII(o.name).Int(1).ASCII(currency)
}

func (b *batch) scanLot(r *shard.Row) error {
	l := b.addLot(b.scannedLot(r))
	if len(l.owner.lots) == b.crowds.from+1 {
		b.crowds.note(purse{l.owner.name, l.currency})
	}
	return nil
}

func (b *batch) scanCredit(r *shard.Row) error {
	l := b.scannedLot(r)
	grace := r.Int()
	b.addCredit(l)
	b.lots[l.id].grace = grace
	return nil
}

// scanGrace reads a lot that an operation names, or has given money from.
func (b *batch) scanGrace(r *shard.Row) error {
	l := b.scannedLot(r)
	b.addLot(l).grace = r.Int()
	return nil
}

func (b *batch) scannedLot(r *shard.Row) *lotRow {
	l := &lotRow{
		owner: b.owners[r.Str()], id: r.Array16(), issueRef: r.Str(), source: r.Str(), tag: r.Str(), currency: r.Str(), issued: r.Int(),
	}
	l.LotCounters = LotCounters{Available: r.Int(), Held: r.Int(), Spent: r.Int(), Expired: r.Int(), Revoked: r.Int()}
	l.was = l.LotCounters
	l.ver, l.expiresAt, l.issuedAt = r.Int(), r.Int(), r.Int()
	l.stored = true
	return l
}

// loadTaken reads what the holds have that will be confirmed, cancelled or settled. Held money is live, so the live lots of
// its currency have it.
func (b *batch) loadTaken(p *shard.Packet) {
	b.wantDecided()
	coupons := keys(p, couponByID, b.scanCoupon)
	for _, h := range b.wanted {
		for _, coupon := range h.takes.coupons {
			if b.coupons[coupon] == nil {
				coupons.row(h.bucket).ASCII(h.owner).Binary(coupon[:])
			}
		}
	}
	lots := keys(p, liveLots, b.scanLot)
	for _, h := range b.wanted {
		if h.takes.currency != "" {
			b.wantLots(lots, b.owners[h.owner], h.takes.currency)
		}
	}
}

// wantDecided notes the holds that the operations confirm or cancel, or change otherwise.
func (b *batch) wantDecided() {
	for _, op := range b.ops {
		ref := decidedHold(op)
		if ref == (HoldRef{}) {
			continue
		}
		h, _ := b.find(b.owners[op.Owner], ref)
		if h == nil {
			continue
		}
		b.want(h)
		if confirm, ok := op.Body.(*confirmOp); ok && confirm.AllowLate && h.state == Expired && !h.wanted {
			b.wantTakes(h)
		}
	}
}
