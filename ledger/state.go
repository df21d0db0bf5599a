package ledger

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// state is the rows of a batch in memory: those that were loaded, changed by the operations before, and new ones. apply reads
// and changes it; load fills it and write makes the changes durable.
type state struct {
	codec *id.Codec
	size  int   // operations in the batch
	now   int64 // microseconds; of the batch

	lookedUp bool // the holds of all orders that the operations name are loaded
	owners   map[string]*ownerRow
	coupons  map[id.ID]*couponRow
	issues   map[issueRef]*couponRow
	lots     map[id.ID]*lotRow
	credits  map[creditRef]*lotRow
	holds    map[id.ID]*holdRow
	orders   map[orderRef]*holdRow
	refunds  map[creditRef]*refundRow // by refund_ref

	quotaRows
	campaignRows
	packetRows
	codeRows
	adjustmentRows

	changed struct {
		owners  []*ownerRow
		coupons []*couponRow
		lots    []*lotRow
		holds   []*holdRow
		refunds []*refundRow
		entries []entryRow
	}

	plan plan   // of the hold under way; kept for its memory
	buf  []byte // for documents and replies
	kept []byte // room for those that are kept; see keep
}

// The unique references of coupons, of lots and refunds, and of holds.
type (
	issueRef  struct{ owner, campaignID, ref string }
	creditRef struct{ owner, ref string }
	orderRef  struct {
		owner, orderID string
		attempt        int
	}
)

func newState(codec *id.Codec, size int) *state {
	return &state{
		codec:   codec,
		size:    size,
		owners:  make(map[string]*ownerRow, size),
		coupons: make(map[id.ID]*couponRow, size),
		issues:  map[issueRef]*couponRow{},
		lots:    make(map[id.ID]*lotRow, size),
		credits: map[creditRef]*lotRow{},
		holds:   make(map[id.ID]*holdRow, size),
		orders:  make(map[orderRef]*holdRow, size),
		refunds: map[creditRef]*refundRow{},
	}
}

// ownerRow is a row of owners, with what is loaded of the owner.
type ownerRow struct {
	bucket    shard.Bucket
	name      string
	ver       int64
	entrySeq  int64
	head      [sha256.Size]byte
	liveHolds int64
	dueAt     int64 // no live hold expires earlier; 0: none is live
	frozen    bool  // no new holds

	dueLoaded bool  // all holds that had expired when the batch began are loaded, and nextDue
	nextDue   int64 // the earliest expiry of the live holds that had not expired then; 0: there are none
	stored    bool  // there is a row in the table
	storedSeq int64 // its entry_seq
	dirty     bool
	touched   bool // the operation under way has changed something: its ver is counted
	refrozen  bool // frozen is not what the table says

	live       []*holdRow // holds that are HELD; some were decided since
	lots       []*lotRow  // earliest expiry first, ties by id, as they are spent (R7)
	unsorted   bool
	currencies []string // whose live lots are all loaded
	parts      []*lotPart
}

// owner returns the row of an owner, a new one if nothing was ever written for it.
func (s *state) owner(b shard.Bucket, name string) *ownerRow {
	o := s.owners[name]
	if o == nil {
		o = &ownerRow{bucket: b, name: name, dueLoaded: true}
		s.owners[name] = o
	}
	return o
}

// touch counts the change that the operation under way makes, once.
func (s *state) touch(o *ownerRow) {
	if o.touched {
		return
	}
	o.touched = true
	o.ver++
	s.writeOwner(o)
}

// writeOwner makes a change of the row durable that is no change of the owner.
func (s *state) writeOwner(o *ownerRow) {
	if !o.dirty {
		o.dirty = true
		s.changed.owners = append(s.changed.owners, o)
	}
}

// holdMade and holdEnded keep the owner's row in step with its live holds. dueAt may be too early after a hold has ended
// that was not the last one, never too late: settle corrects it when it comes.
func (o *ownerRow) holdMade(h *holdRow) {
	o.liveHolds++
	if o.dueAt == 0 || h.expiresAt < o.dueAt {
		o.dueAt = h.expiresAt
	}
}

func (o *ownerRow) holdEnded() {
	if o.liveHolds--; o.liveHolds == 0 {
		o.dueAt = 0
	}
}

// sortedLots returns the owner's lots in the order in which they are spent.
func (o *ownerRow) sortedLots() []*lotRow {
	if o.unsorted {
		slices.SortFunc(o.lots, inSpendingOrder)
		o.unsorted = false
	}
	return o.lots
}

// couponRow is a row of coupons.
type couponRow struct {
	owner      *ownerRow
	id         id.ID
	campaignID string
	issueRef   string
	state      string
	ver        int64
	discount   Discount
	validFrom  int64
	expiresAt  int64
	holdID     id.ID // HELD, USED: by which hold
	heldUntil  int64 // HELD
	issuedAt   int64
	terms      Terms
	frozen     bool // its campaign is, as far as this shard was told

	stored, dirty bool
	extended      bool // expiresAt is not what the table says
}

// addCoupon makes a loaded or a new coupon known, unless it is already, and returns the one that is.
func (s *state) addCoupon(c *couponRow) *couponRow {
	if known := s.coupons[c.id]; known != nil {
		return known
	}
	s.coupons[c.id] = c
	return c
}

// addIssue is addCoupon for a coupon that an operation names by its reference.
func (s *state) addIssue(c *couponRow) {
	s.issues[issueRef{c.owner.name, c.campaignID, c.issueRef}] = s.addCoupon(c)
}

// changeCoupon is called before every change of a coupon.
func (s *state) changeCoupon(c *couponRow) {
	c.ver++
	if !c.dirty {
		c.dirty = true
		s.changed.coupons = append(s.changed.coupons, c)
	}
}

// lotRow is a row of lots.
type lotRow struct {
	owner    *ownerRow
	id       id.ID
	issueRef string
	source   string
	tag      string
	currency string
	issued   int64
	LotCounters
	ver       int64
	expiresAt int64
	issuedAt  int64
	grace     int64 // how long refunded money lives at least; 0: not longer than the lot. Loaded for refunds only

	stored, dirty bool
	extended      bool        // expiresAt is not what the table says
	was           LotCounters // in the table
	planned       int64       // what the hold under way is about to take
}

func (l *lotRow) live() bool { return l.Available+l.Held > 0 }

// addLot and addCredit do for lots what addCoupon and addIssue do for coupons.
func (s *state) addLot(l *lotRow) *lotRow {
	if known := s.lots[l.id]; known != nil {
		return known
	}
	s.lots[l.id] = l
	l.owner.lots = append(l.owner.lots, l)
	l.owner.unsorted = true
	return l
}

func (s *state) addCredit(l *lotRow) {
	s.credits[creditRef{l.owner.name, l.issueRef}] = s.addLot(l)
}

func (s *state) changeLot(l *lotRow) {
	l.ver++
	if !l.dirty {
		l.dirty = true
		s.changed.lots = append(s.changed.lots, l)
	}
}

// holdRow is a row of holds or of decided_holds.
type holdRow struct {
	bucket    shard.Bucket
	id        id.ID
	owner     string
	orderID   string // empty: a tombstone made by id
	attempt   int
	hash      [16]byte
	state     State
	createdAt int64
	expiresAt int64
	decidedAt int64
	doc       []byte // see appendDoc; empty: a tombstone

	progress    *Progress // nil: none
	progressDoc []byte    // what progress was written as; see writtenProgress

	quotas []quotaTake // what it has of quotas while it is live, without what was confirmed
	loaded []quotaTake // the same when it was loaded: its rows in hold_items
	takes  *takes      // what the document says; nil until somebody asks
	wanted bool        // what it takes must be loaded
	stored bool        // there is a row in holds, or in decided_holds if it was decided when it was loaded
	filed  bool        // the row is in decided_holds
	pinned bool        // there is a row in pins
	dirty  bool
}

func (s *state) addHold(h *holdRow) {
	if s.holds[h.id] != nil {
		return
	}
	s.holds[h.id] = h
	if h.orderID != "" && !h.late() { // a late hold is not the one that the order has made
		s.orders[orderRef{h.owner, h.orderID, h.attempt}] = h
	}
	if o := s.owners[h.owner]; o != nil && h.state == Held {
		o.live = append(o.live, h)
	}
}

func (s *state) changeHold(h *holdRow) {
	if !h.dirty {
		h.dirty = true
		s.changed.holds = append(s.changed.holds, h)
	}
}

// find returns the hold that an owner's request names; nil if it was never seen. foreign says that the id belongs to another
// owner or cannot belong to this one.
func (s *state) find(o *ownerRow, r HoldRef) (h *holdRow, foreign bool) {
	if r.HoldID == (id.ID{}) {
		return s.orders[orderRef{o.name, r.OrderID, r.Attempt}], false
	}
	if r.HoldID.Bucket() != uint16(o.bucket) {
		return nil, true
	}
	if h = s.holds[r.HoldID]; h != nil && h.owner != o.name {
		return nil, true
	}
	return h, false
}

// balance sums up an owner's lots of a currency. Of those that are not loaded the table's sums are known, and nothing has changed.
func (s *state) balance(o *ownerRow, currency string) Balance {
	b := Balance{Currency: currency}
	part := o.part(currency)
	if part != nil {
		b.Available, b.Held = part.available, part.held
	}
	for _, l := range o.lots {
		if l.currency != currency {
			continue
		}
		b.Available += l.Available
		b.Held += l.Held
		if part != nil {
			b.Available -= l.was.Available
			b.Held -= l.was.Held
		}
	}
	return b
}

// begin starts an operation of o.
func (s *state) begin(o *ownerRow, now time.Time) {
	s.now = now.UnixMicro()
	o.touched = false
}

// addEntry appends to the owner's history.
func (s *state) addEntry(o *ownerRow, kind string, hold id.ID, doc []byte) {
	s.touch(o)
	o.entrySeq++
	s.buf = appendHashed(s.buf[:0], o.head[:], o.name, o.entrySeq, kind, s.now, hold, doc)
	o.head = sha256.Sum256(s.buf)
	s.changed.entries = append(s.changed.entries, entryRow{
		owner: o, seq: o.entrySeq, kind: kind, at: s.now, holdID: hold, doc: doc, hash: o.head,
	})
}
