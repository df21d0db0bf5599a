package ledger

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// The checks of packets, campaigns, and of what should have arrived.
const (
	checkPacket   = "packet"   // total = Σ shares = grabbed + left or returned
	checkShare    = "share"    // what is known to have arrived is a lot of its owner, and each such lot came out of a packet
	checkCampaign = "campaign" // a shard knows of a campaign what its home says, or what it said before
	checkLate     = "late"     // nothing is on its way for longer than auditLate
)

// auditForeign is how many rows a read of another shard counts for: a snapshot costs more than a row.
const auditForeign = 10

// packetAudit collects what is found about one packet.
type packetAudit struct {
	Audit
	codec  *id.Codec
	bucket shard.Bucket
	packet packetRecord
	shares []shareRecord
	rest   []lotRecord
}

func (a *packetAudit) found(check, want string, have any) {
	a.Drift = append(a.Drift, Drift{
		Check: check, Bucket: int(a.bucket), Owner: a.packet.Owner, Subject: a.codec.Text(id.Packet, toID(a.packet.PacketID)),
		Want: want, Have: fmt.Sprint(have),
	})
}

func (a *packetAudit) same(check, what string, want, have int64) {
	if want != have {
		a.found(check, fmt.Sprintf("%s %d", what, want), have)
	}
}

// auditPacketAt audits a packet with its shares, over one snapshot, and then the lots that they have become.
func auditPacketAt(ctx context.Context, l *Ledger, at place, _ *walked) (Audit, error) {
	packet, err := hex.DecodeString(at.Name)
	if err != nil {
		return Audit{}, fmt.Errorf("audit packet %s: %w", at.Name, err)
	}
	a := &packetAudit{codec: l.cfg.Codec, bucket: shard.Bucket(at.Bucket)}
	if err := l.loadAudited(ctx, a, packet); err != nil || a.packet.PacketID == nil {
		return a.Audit, err
	}
	a.checkSum()
	a.checkEnd()
	l.checkShares(ctx, a)
	return a.Audit, nil
}

func (l *Ledger) loadAudited(ctx context.Context, a *packetAudit, packet []byte) error {
	err := l.read(ctx, a.bucket, func(tx *gorm.DB, _ time.Time) error {
		a.packet, a.shares, a.rest = packetRecord{}, nil, nil
		db := tx.Where("bucket = ? AND packet_id = ?", a.bucket, packet).Session(&gorm.Session{})
		if err := db.Table("packets").Scan(&a.packet).Error; err != nil {
			return err
		}
		if err := db.Table("packet_shares").Order("number").Find(&a.shares).Error; err != nil {
			return err
		}
		ref := restName(a.codec, toID(packet))
		return tx.Where("bucket = ? AND owner = ? AND issue_ref = ?", a.bucket, a.packet.Owner, ref).Find(&a.rest).Error
	})
	a.Rows += 2 + len(a.shares)
	if err != nil {
		return fmt.Errorf("audit packet %x: %w", packet, err)
	}
	return nil
}

// checkSum: I2 of packets.
func (a *packetAudit) checkSum() {
	var total, grabbed, taken int64
	for i := range a.shares {
		s := &a.shares[i]
		total += s.Amount
		if s.Owner == "" {
			continue
		}
		taken++
		grabbed += s.Amount
		a.same(checkPacket, "the taken shares first: number", taken, s.Number)
	}
	a.same(checkPacket, "total", total, a.packet.Total)
	a.same(checkPacket, "shares", int64(len(a.shares)), a.packet.Shares)
	a.same(checkPacket, "taken", taken, a.packet.Taken)
	a.same(checkPacket, "grabbed", grabbed, a.packet.Grabbed)
}

// checkEnd: what nobody has grabbed is in the packet until it goes back, once, as a lot.
func (a *packetAudit) checkEnd() {
	returned, state := int64(0), packetOpen
	switch {
	case a.packet.Taken == a.packet.Shares:
		state = packetEmpty
	case a.packet.State == packetReturned:
		returned, state = a.packet.Total-a.packet.Grabbed, packetReturned
	}
	a.same(checkPacket, "returned", returned, a.packet.Returned)
	if a.packet.State != state {
		a.found(checkPacket, "state "+state, a.packet.State)
	}
	var lots int64
	for i := range a.rest {
		lots += a.rest[i].Issued
	}
	a.same(checkShare, "a lot with the rest of", a.packet.Returned, lots)
}

// checkShares looks for the lots of the shares that are known to have arrived.
func (l *Ledger) checkShares(ctx context.Context, a *packetAudit) {
	for i := range a.shares {
		s := &a.shares[i]
		if s.Owner == "" || s.SentAt != nil {
			continue
		}
		a.Rows += auditForeign
		issued, err := l.issuedUnder(ctx, s.Owner, shareName(a.codec, toID(a.packet.PacketID), s.Number))
		if err != nil {
			a.Unread++
			continue
		}
		a.same(checkShare, fmt.Sprintf("of share %d a lot of %s with", s.Number, s.Owner), s.Amount, issued)
	}
}

// issuedUnder is what an owner's lots with a reference were issued with, or 0.
func (l *Ledger) issuedUnder(ctx context.Context, owner, ref string) (issued int64, err error) {
	bucket := shard.BucketOf(owner)
	err = l.read(ctx, bucket, func(tx *gorm.DB, _ time.Time) error {
		return tx.Raw("SELECT COALESCE(SUM(issued), 0) FROM lots WHERE bucket = ? AND owner = ? AND issue_ref = ?", bucket, owner, ref).
			Scan(&issued).Error
	})
	return issued, err
}

// checkReceived looks where the lots of an owner came from that are out of packets. A share was grabbed before it arrived, so the packet,
// which is read later, must know it.
func (l *Ledger) checkReceived(ctx context.Context, a *audited) {
	for text, lot := range a.lot {
		packet, number, ok := l.packetOf(lot.IssueRef)
		if !ok {
			continue
		}
		a.Rows += auditForeign
		given, err := l.givenTo(ctx, packet, number, a.owner)
		if err != nil {
			a.Unread++
			continue
		}
		same(a, checkShare, text, "issued out of "+lot.IssueRef+":", given, lot.Issued)
	}
}

// givenTo is the amount of a share that an owner has grabbed; number 0: of the rest that went back to him.
func (l *Ledger) givenTo(ctx context.Context, packet id.ID, number int64, owner string) (given int64, err error) {
	bucket := packet.Bucket()
	err = l.read(ctx, shard.Bucket(bucket), func(tx *gorm.DB, _ time.Time) error {
		given = 0
		if number == 0 {
			return tx.Raw("SELECT returned FROM packets WHERE bucket = ? AND packet_id = ? AND owner = ?", bucket, packet[:], owner).
				Scan(&given).Error
		}
		return tx.Raw("SELECT amount FROM packet_shares WHERE bucket = ? AND packet_id = ? AND number = ? AND owner = ?",
			bucket, packet[:], number, owner).Scan(&given).Error
	})
	return given, err
}

// The references of lots out of packets. Callers cannot make such references, because of the #.

func shareName(codec *id.Codec, packet id.ID, number int64) string {
	return codec.Text(id.Packet, packet) + "#" + strconv.FormatInt(number, 10)
}

func restName(codec *id.Codec, packet id.ID) string { return codec.Text(id.Packet, packet) + "#rest" }

// packetOf is the packet and the number of the share in a reference; 0 is the rest. It is false for what callers have credited.
func (l *Ledger) packetOf(ref string) (packet id.ID, number int64, ok bool) {
	text, share, ok := strings.Cut(ref, "#")
	if !ok {
		return packet, 0, false
	}
	packet, err := l.cfg.Codec.Parse(id.Packet, text)
	if err != nil {
		return packet, 0, false
	}
	number, _ = strconv.ParseInt(share, 10, 64) // "rest" is 0
	return packet, number, true
}

type standingRecord struct {
	State  CampaignState
	Frozen bool
	Ver    int64
	Untold bool
}

func (r standingRecord) shown() string { return fmt.Sprintf("%s, frozen %t", r.State, r.Frozen) }

// auditMarkAt compares what a shard knows of a campaign with what the home says. The mark is read in between: it may be behind while the
// home has something untold, and never ahead.
func auditMarkAt(ctx context.Context, l *Ledger, at place, w *walked) (Audit, error) {
	a := &quotaAudit{quota: campaignOwner(at.Name)}
	a.Rows += 3
	door, err := l.broker.door(w.shard)
	if err != nil {
		return a.Audit, err
	}
	before, was := a.homeStanding(ctx, l, at.Name)
	mark, err := l.standingOf(ctx, door, "campaign_marks", "campaign_id = ?", at.Name)
	if err != nil {
		return a.Audit, err
	}
	after, is := a.homeStanding(ctx, l, at.Name)
	if was && is {
		a.checkMark(w.shard, before, mark, after)
	} else {
		a.Unread++
	}
	return a.Audit, nil
}

// homeStanding is what the home of a campaign says; false if it cannot be read.
func (a *quotaAudit) homeStanding(ctx context.Context, l *Ledger, campaignID string) (standingRecord, bool) {
	bucket := shard.BucketOf(a.quota)
	r, err := l.standingOf(ctx, bucket, "campaigns", "bucket = ? AND campaign_id = ?", bucket, campaignID)
	return r, err == nil
}

func (a *quotaAudit) checkMark(number int, before, mark, after standingRecord) {
	text := fmt.Sprintf("mark on shard %d", number)
	switch {
	case mark.Ver > after.Ver:
		a.found(checkCampaign, text, fmt.Sprintf("at most version %d", after.Ver), mark.Ver)
	case mark.Ver < before.Ver && !before.Untold:
		a.found(checkCampaign, text, fmt.Sprintf("at least version %d, which all shards were told", before.Ver), mark.Ver)
	case mark.Ver == after.Ver && (mark.State != after.State || mark.Frozen != after.Frozen):
		a.found(checkCampaign, text, after.shown(), mark.shown())
	}
}

func (l *Ledger) standingOf(ctx context.Context, b shard.Bucket, table, where string, args ...any) (r standingRecord, err error) {
	err = l.read(ctx, b, func(tx *gorm.DB, _ time.Time) error {
		r = standingRecord{}
		return tx.Table(table).Where(where, args...).Scan(&r).Error
	})
	return r, err
}

// What is on its way arrives within seconds, unless a shard is down. After this long somebody should look.
const auditLate = 5 * time.Minute

// The queries read indexes of times, the oldest first.
const lateMax = 100

var lateQueries = []string{
	"SELECT bucket, transfer_id AS id, quota AS owner, created_at AS at FROM transfers WHERE created_at <= ? ORDER BY created_at LIMIT ?",
	"SELECT bucket, transfer_id AS id, owner, sent_at AS at FROM packet_shares WHERE sent_at <= ? ORDER BY sent_at LIMIT ?",
	"SELECT bucket, packet_id AS id, owner, due_at AS at FROM packets WHERE due_at > 0 AND due_at <= ? ORDER BY due_at LIMIT ?",
}

var lateKinds = []id.Kind{id.Transfer, id.Transfer, id.Packet} // of lateQueries

type lateRecord struct {
	Bucket int
	ID     []byte
	Owner  string
	At     int64
}

// auditLateAt lists what should have arrived long ago: transfers, shares, the rests of packets.
func auditLateAt(ctx context.Context, l *Ledger, _ place, w *walked) (found Audit, err error) {
	door, err := l.broker.door(w.shard)
	if err != nil {
		return found, err
	}
	late := make([][]lateRecord, len(lateQueries))
	err = l.read(ctx, door, func(tx *gorm.DB, now time.Time) error {
		for i, query := range lateQueries {
			late[i] = nil
			if err := tx.Raw(query, now.Add(-auditLate).UnixMicro(), lateMax).Scan(&late[i]).Error; err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return found, fmt.Errorf("list what is late: %w", err)
	}
	found.Rows = 1
	for i, records := range late {
		found.Rows += len(records)
		for _, r := range slices.Clone(records) {
			found.Drift = append(found.Drift, Drift{
				Check: checkLate, Bucket: r.Bucket, Owner: r.Owner, Subject: l.cfg.Codec.Text(lateKinds[i], toID(r.ID)),
				Want: "there within " + auditLate.String(), Have: "on its way since " + instant(r.At).Format(time.RFC3339),
			})
		}
	}
	return found, nil
}
