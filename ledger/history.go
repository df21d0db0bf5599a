package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/statesvc/statesvc/shard/id"
)

// The kinds of entries.
const (
	entryIssued        = "ISSUED"
	entryCredited      = "CREDITED"
	entryConfirmed     = "CONFIRMED"
	entryPartConfirmed = "PART_CONFIRMED"
	entryRefunded      = "REFUNDED"
	entryFrozen        = "FROZEN" // and UNFROZEN: of the owner
	entryUnfrozen      = "UNFROZEN"
	entryRevoked       = "REVOKED"

	entryAdjusted           = "ADJUSTED" // money, by hand
	entryAdjustmentProposed = "ADJUSTMENT_PROPOSED"
	entryAdjustmentRejected = "ADJUSTMENT_REJECTED"
	entryAdjustmentExpired  = "ADJUSTMENT_EXPIRED"

	entryCancelled    = "CANCELLED"
	entryExpired      = "EXPIRED"       // a hold
	entryAssetExpired = "ASSET_EXPIRED" // coupons and money that no hold had

	entryQuotaSet      = "QUOTA_SET" // these are in the history of a quota's home
	entryQuotaAdjusted = "QUOTA_ADJUSTED"
	entryQuotaGranted  = "QUOTA_GRANTED"  // units went to a slice
	entryQuotaReturned = "QUOTA_RETURNED" // and came back
	entryQuotaLow      = "QUOTA_LOW"      // few are free

	entryClaimed         = "CLAIMED"
	entryPacketMade      = "PACKET_MADE"
	entryPacketGrabbed   = "PACKET_GRABBED"
	entryPacketReturned  = "PACKET_RETURNED"
	entryReceived        = "RECEIVED"         // money of a packet
	entryCampaignCreated = "CAMPAIGN_CREATED" // these are in the history of a campaign's home
	entryCampaignChanged = "CAMPAIGN_CHANGED"
	entryCodesMade       = "CODES_MADE"
	entryCodeRedeemed    = "CODE_REDEEMED" // in the history of the code
)

// entryRow is a row of entries that apply has added.
type entryRow struct {
	owner  *ownerRow
	seq    int64
	kind   string
	at     int64
	holdID id.ID
	doc    []byte
	hash   [sha256.Size]byte
}

// appendHashed appends what the hash of an entry covers:
//
//	hash = SHA-256(previous hash ‖ len ‖ owner ‖ seq ‖ len ‖ kind ‖ at ‖ hold_id ‖ len ‖ doc)
//
// where len is the length of the text that follows as 4 bytes, seq and at (microseconds since 1970) are 8 bytes, hold_id is 16
// bytes (zeros if there is none), all big-endian, and doc is the column byte by byte. The first entry of an owner has 32 zero
// bytes for the previous hash. No two entries have the same bytes, so an entry cannot be changed, moved or left out unnoticed
// as long as the head in owners is what it was.
func appendHashed(b, previous []byte, owner string, seq int64, kind string, at int64, holdID id.ID, doc []byte) []byte {
	b = appendNumber(appendSized(append(b, previous...), owner), seq)
	b = appendNumber(appendSized(b, kind), at)
	return appendSized(append(b, holdID[:]...), doc)
}

// EntryFilter narrows an owner's history.
type EntryFilter struct {
	From, To time.Time // [From, To); zero: without bound
	Hold     id.ID     // zero: of all holds and none
	After    int64     // sequence after which the page starts
	Limit    int
}

// EntryPage is a part of an owner's history. Next is the After of the following part; it is 0 at the end.
type EntryPage struct {
	Items []Entry
	Next  int64
}

// Entries lists what was decided for an owner, oldest first.
func (l *Ledger) Entries(ctx context.Context, owner string, f EntryFilter) (EntryPage, error) {
	var page EntryPage
	err := l.readOwner(ctx, owner, f.Limit, func(q query) error {
		db := q.db.Where("seq > ?", f.After)
		if !f.From.IsZero() {
			db = db.Where("at >= ?", f.From.UnixMicro())
		}
		if !f.To.IsZero() {
			db = db.Where("at < ?", f.To.UnixMicro())
		}
		if f.Hold != (id.ID{}) {
			db = db.Where("hold_id = ?", f.Hold[:])
		}
		var records []entryRecord
		if err := db.Order("seq").Limit(q.limit + 1).Find(&records).Error; err != nil {
			return err
		}
		page = EntryPage{}
		if len(records) > q.limit {
			records = records[:q.limit]
			page.Next = records[q.limit-1].Seq
		}
		page.Items = make([]Entry, len(records))
		for i := range records {
			if err := records[i].body(l.cfg.Codec, &page.Items[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return page, fmt.Errorf("list entries of %s: %w", owner, err)
	}
	return page, nil
}

func (r *entryRecord) body(codec *id.Codec, e *Entry) error {
	if err := json.Unmarshal(r.Doc, e); err != nil {
		return fmt.Errorf("decode the document of entry %d: %w", r.Seq, err)
	}
	e.Owner, e.Seq, e.Kind, e.At, e.Hash = r.Owner, r.Seq, r.Kind, instant(r.At), hex.EncodeToString(r.Hash)
	if r.HoldID != nil {
		e.HoldID = codec.Text(id.Hold, toID(r.HoldID))
	}
	return nil
}

// verifyPage bounds the entries that VerifyHistory has in memory.
const verifyPage = 500

// VerifyHistory computes the hash chain of an owner anew, on one snapshot, and compares it with what is stored. It reads the
// whole history. A chain that does not fit is a result and not an error.
func (l *Ledger) VerifyHistory(ctx context.Context, owner string) (VerifyBody, error) {
	var chain chain
	err := l.readOwner(ctx, owner, 0, func(q query) error {
		chain = newChain(owner)
		var row ownerRecord
		if err := first(q.db, &row); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		for {
			var records []entryRecord
			if err := q.db.Where("seq > ?", chain.seq).Order("seq").Limit(verifyPage).Find(&records).Error; err != nil {
				return err
			}
			for i := range records {
				chain.add(&records[i])
			}
			if len(records) < verifyPage {
				chain.end(row.EntrySeq, row.Head)
				return nil
			}
		}
	})
	if err != nil {
		return VerifyBody{}, fmt.Errorf("verify the history of %s: %w", owner, err)
	}
	return VerifyBody{
		Owner: owner, Entries: chain.entries, Intact: chain.brokenAt == 0, BrokenAt: chain.brokenAt,
		Head: hex.EncodeToString(chain.head[:]),
	}, nil
}

// chain checks entries in the order of their sequence.
type chain struct {
	owner    string
	entries  int64
	seq      int64 // of the newest entry seen
	head     [sha256.Size]byte
	brokenAt int64
	buf      []byte
}

func newChain(owner string) chain { return chain{owner: owner} }

func (c *chain) add(r *entryRecord) {
	c.buf = appendHashed(c.buf[:0], c.head[:], c.owner, r.Seq, r.Kind, r.At, toID(r.HoldID), r.Doc)
	sum := sha256.Sum256(c.buf)
	if r.Seq != c.seq+1 {
		c.breaks(c.seq + 1)
	}
	if !bytes.Equal(sum[:], r.Hash) {
		c.breaks(r.Seq)
	}
	c.entries++
	c.seq = r.Seq
	copy(c.head[:], r.Hash)
}

// end compares the newest entry with what the owner's row says of it.
func (c *chain) end(seq int64, head []byte) {
	if len(head) == 0 {
		head = make([]byte, sha256.Size)
	}
	switch {
	case c.seq != seq:
		c.breaks(min(c.seq, seq) + 1)
	case !bytes.Equal(c.head[:], head):
		c.breaks(max(seq, 1))
	}
}

func (c *chain) breaks(seq int64) {
	if c.brokenAt == 0 {
		c.brokenAt = seq
	}
}
