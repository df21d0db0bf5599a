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
		HoldID      []byte
		HeldUntil   *int64
		IssuedAt    int64
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
func (*operationRecord) TableName() string { return "operations" }

func (r *couponRecord) key() id.ID  { return toID(r.CouponID) }
func (r *lotRecord) key() id.ID     { return toID(r.LotID) }
func (r *holdRecord) key() id.ID    { return toID(r.HoldID) }
func (r *decidedRecord) key() id.ID { return toID(r.HoldID) }

// Holds and operations are read from these, with the document of their order. The engines merge the queries into the ones around
// them, so that the keys of the tables are used.
const (
	liveHolds = "(SELECT h.bucket, h.hold_id, h.owner, h.order_id, h.attempt, h.created_at, h.expires_at, o.doc " +
		"FROM holds h JOIN orders o" + ofOrder + ") AS live"
	decidedHolds = "(SELECT h.bucket, h.hold_id, h.owner, h.order_id, h.attempt, h.state, h.created_at, h.expires_at, h.decided_at, " +
		"o.doc FROM decided_holds h LEFT JOIN orders o" + ofOrder + ") AS decided"
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
	if r.HeldUntil != nil && *r.HeldUntil <= at.UnixMicro() {
		c.State = couponAvailable
	} else if r.HoldID != nil {
		c.HoldID = codec.Text(id.Hold, toID(r.HoldID))
		if r.HeldUntil != nil {
			c.HeldUntil = instant(*r.HeldUntil)
		}
	}
	if c.State == couponAvailable && r.ExpiresAt <= at.UnixMicro() {
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
		if err := decodeDoc(records[i].Doc, &hold); err != nil {
			return nil, err
		}
		for _, it := range hold.Items {
			for _, share := range it.Lots {
				back[share.LotID] += share.Amount
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
	if r.ExpiresAt <= at.UnixMicro() {
		h.State = string(Expired)
	}
	return h, decodeDoc(r.Doc, &h)
}

func (r *decidedRecord) body(codec *id.Codec) (HoldBody, error) {
	h := HoldBody{
		HoldID: codec.Text(id.Hold, toID(r.HoldID)), Owner: r.Owner, State: r.State, CreatedAt: instant(r.CreatedAt),
		ExpiresAt: instant(r.ExpiresAt), DecidedAt: instant(r.DecidedAt),
	}
	if r.OrderID != nil && r.Attempt != nil {
		h.OrderID, h.Attempt = *r.OrderID, *r.Attempt
	}
	return h, decodeDoc(r.Doc, &h)
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
