package ledger

import (
	"encoding/json"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// The records are rows as gorm reads them, and body shows them as of an instant. Nothing is ever written through them.
type (
	ownerRecord struct {
		Bucket   shard.Bucket
		Owner    string
		Ver      int64
		EntrySeq int64
		Head     []byte
		Frozen   bool

		LiveHolds int64
		DueAt     int64
	}
	couponRecord struct {
		Bucket      shard.Bucket
		Owner       string
		CouponID    []byte
		CampaignID  string
		IssueRef    string
		State       string
		Discount    DiscountKind
		Currency    string
		Amount      int64
		BasisPoints int64
		Cap         int64
		MinSpend    int64
		ValidFrom   int64
		ExpiresAt   int64
		HoldID      []byte // zeros: none
		HeldUntil   int64  // 0: it is not held
		IssuedAt    int64
		Terms       []byte
	}
	lotRecord struct {
		Bucket    shard.Bucket
		Owner     string
		LotID     []byte
		IssueRef  string
		Source    string
		Tag       string
		Currency  string
		Live      bool
		Issued    int64
		Available int64
		Held      int64
		Spent     int64
		Expired   int64
		Revoked   int64
		ExpiresAt int64
		IssuedAt  int64

		RefundGrace *int64
	}
	holdRecord struct {
		Bucket    shard.Bucket
		HoldID    []byte
		Owner     string
		OrderID   string
		Attempt   int
		CreatedAt int64
		ExpiresAt int64
		Doc       []byte
		Progress  []byte
	}
	decidedRecord struct {
		Bucket    shard.Bucket
		HoldID    []byte
		Owner     string
		OrderID   *string
		Attempt   *int
		State     string
		CreatedAt int64
		ExpiresAt int64
		DecidedAt int64
		Doc       []byte
		Progress  []byte
	}
	refundRecord struct {
		Bucket   shard.Bucket
		Owner    string
		RefundID []byte
		HoldID   []byte
		Doc      []byte
	}
	entryRecord struct {
		Bucket shard.Bucket
		Owner  string
		Seq    int64
		Kind   string
		At     int64
		HoldID []byte
		Doc    []byte
		Hash   []byte
	}
	operationRecord struct {
		Bucket  shard.Bucket
		Owner   string
		OpKey   string
		Verdict string
		Reply   []byte
		QuoteAt int
		Doc     []byte
	}
)

// TableName is how gorm learns the table of each record.
func (*ownerRecord) TableName() string     { return "owners" }
func (*couponRecord) TableName() string    { return "coupons" }
func (*lotRecord) TableName() string       { return "lots" }
func (*holdRecord) TableName() string      { return "holds" }
func (*decidedRecord) TableName() string   { return "decided_holds" }
func (*entryRecord) TableName() string     { return "entries" }
func (*refundRecord) TableName() string    { return "refunds" }
func (*operationRecord) TableName() string { return "operations" }

func (r *couponRecord) key() id.ID  { return toID(r.CouponID) }
func (r *lotRecord) key() id.ID     { return toID(r.LotID) }
func (r *holdRecord) key() id.ID    { return toID(r.HoldID) }
func (r *decidedRecord) key() id.ID { return toID(r.HoldID) }

// Holds and operations are read from these, with the document of their order. The engines merge the queries into the ones around
// them, so that the keys of the tables are used.
const (
	liveHolds = "(SELECT h.bucket, h.hold_id, h.owner, h.order_id, h.attempt, h.created_at, h.expires_at, o.doc, h.progress " +
		"FROM holds h JOIN orders o" + ofOrder + ") AS live"
	decidedHolds = "(SELECT h.bucket, h.hold_id, h.owner, h.order_id, h.attempt, h.state, h.created_at, h.expires_at, h.decided_at, " +
		"o.doc, h.progress FROM decided_holds h LEFT JOIN orders o" + ofOrder + ") AS decided"
	decisions = "(SELECT h.bucket, h.owner, h.op_key, h.verdict, h.reply, COALESCE(h.quote_at, 0) AS quote_at, o.doc " +
		"FROM operations h LEFT JOIN orders o" + ofOrder + ") AS decisions"
)

// toID is zero for NULL.
func toID(b []byte) (i id.ID) {
	copy(i[:], b)
	return i
}

func (r *couponRecord) body(codec *id.Codec, at time.Time) Coupon {
	c := Coupon{
		CouponID: codec.Text(id.Coupon, toID(r.CouponID)), Owner: r.Owner, CampaignID: r.CampaignID, IssueRef: r.IssueRef,
		State:     r.State,
		Discount:  r.discount().Body(),
		ValidFrom: instant(r.ValidFrom), ExpiresAt: instant(r.ExpiresAt), IssuedAt: instant(r.IssuedAt),
	}
	c.Terms, _ = readTerms(r.Terms) // what cannot be read is refused by every operation
	if r.HeldUntil != 0 && r.HeldUntil <= at.UnixMicro() {
		c.State = couponAvailable
		row := couponRow{expiresAt: r.ExpiresAt, terms: c.Terms}
		row.returned(r.HeldUntil)
		c.ExpiresAt, c.Terms = instant(row.expiresAt), row.terms
	} else if holder := toID(r.HoldID); holder != (id.ID{}) {
		c.HoldID = codec.Text(id.Hold, holder)
		if r.HeldUntil != 0 {
			c.HeldUntil = instant(r.HeldUntil)
		}
	}
	if c.State == couponAvailable && !c.ExpiresAt.After(at) {
		c.State = couponExpired
	}
	return c
}

func (r *couponRecord) discount() *Discount {
	return &Discount{
		Kind: r.Discount, Currency: r.Currency, Amount: r.Amount, BasisPoints: r.BasisPoints, Cap: r.Cap, MinSpend: r.MinSpend,
	}
}

// body shows a lot; back is what expired holds give back to each lot.
func (r *lotRecord) body(codec *id.Codec, back map[string]int64, at time.Time) Lot {
	lot := Lot{
		LotID: codec.Text(id.Lot, toID(r.LotID)), Owner: r.Owner, IssueRef: r.IssueRef, Source: r.Source, Tag: r.Tag,
		Currency: r.Currency, Issued: r.Issued, Available: r.Available, Held: r.Held, Spent: r.Spent, Expired: r.Expired,
		Revoked: r.Revoked, ExpiresAt: instant(r.ExpiresAt), IssuedAt: instant(r.IssuedAt),
	}
	if r.RefundGrace != nil {
		lot.RefundGraceMs = *r.RefundGrace / 1000
	}
	returned := back[lot.LotID]
	lot.Held -= returned
	lot.Available += returned
	if r.ExpiresAt <= at.UnixMicro() {
		lot.Expired += lot.Available
		lot.Available = 0
	}
	return lot
}

// expiredShares is what the expired but unsettled holds of an owner have of each lot, by the text of its id.
func expiredShares(tx *gorm.DB, b shard.Bucket, owner string, at time.Time) (map[string]int64, error) {
	var records []holdRecord
	err := tx.Table(liveHolds).Where("bucket = ? AND owner = ? AND expires_at <= ?", b, owner, at.UnixMicro()).Find(&records).Error
	if err != nil || len(records) == 0 {
		return nil, err
	}
	back := make(map[string]int64)
	for i := range records {
		var hold HoldBody
		if err := decodeGrown(records[i].Doc, records[i].Progress, &hold); err != nil {
			return nil, err
		}
		for item := range hold.Items {
			for n, share := range hold.Items[item].Lots {
				back[share.LotID] += share.Amount - hold.confirmedOf(item, n)
			}
		}
	}
	return back, nil
}

func (r *holdRecord) body(codec *id.Codec, at time.Time) (HoldBody, error) {
	h := HoldBody{
		HoldID: codec.Text(id.Hold, toID(r.HoldID)), Owner: r.Owner, OrderID: r.OrderID, Attempt: r.Attempt,
		State: string(Held), CreatedAt: instant(r.CreatedAt), ExpiresAt: instant(r.ExpiresAt),
	}
	err := decodeGrown(r.Doc, r.Progress, &h)
	if r.ExpiresAt <= at.UnixMicro() {
		h.State = string(Expired)
		if len(h.Parts) > 0 {
			h.State, h.Rest = string(Confirmed), restExpired
		}
	}
	return h, err
}

func (r *decidedRecord) body(codec *id.Codec) (HoldBody, error) {
	h := HoldBody{
		HoldID: codec.Text(id.Hold, toID(r.HoldID)), Owner: r.Owner, State: r.State, CreatedAt: instant(r.CreatedAt),
		ExpiresAt: instant(r.ExpiresAt), DecidedAt: instant(r.DecidedAt),
	}
	if r.OrderID != nil && r.Attempt != nil {
		h.OrderID, h.Attempt = *r.OrderID, *r.Attempt
	}
	return h, decodeGrown(r.Doc, r.Progress, &h)
}

// decodeGrown is decodeDoc for a hold that something has become of.
func decodeGrown(doc, progress []byte, h *HoldBody) error {
	if len(progress) > 0 {
		if err := json.Unmarshal(progress, &h.Progress); err != nil {
			return fmt.Errorf("decode the progress of a hold: %w", err)
		}
	}
	return decodeDoc(doc, h)
}

// confirmedOf is what was confirmed of a lot of an item, while the hold was live.
func (h *HoldBody) confirmedOf(item, lot int) int64 {
	if len(h.Parts) == 0 {
		return 0
	}
	return h.Parts[item].Lots[lot].Confirmed
}

// decodeDoc reads the document of a hold into its items, lines and sums. A tombstone has no document.
func decodeDoc(doc []byte, h *HoldBody) error {
	if len(doc) == 0 {
		h.Items, h.Tombstone = []HoldItem{}, true
		return nil
	}
	if err := json.Unmarshal(doc, h); err != nil {
		return fmt.Errorf("decode the document of a hold: %w", err)
	}
	return nil
}

// instant reads a column of microseconds.
func instant(us int64) time.Time { return time.UnixMicro(us).UTC() }
