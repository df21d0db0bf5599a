package ledger

import (
	"bytes"
	"crypto/sha256"

	"github.com/statesvc/statesvc/shard/id"
)

// A fingerprint tells whether two requests under one key are the same, and if not, in which fields they differ: one byte for
// the kind of the request, then printLen bytes of SHA-256 for each of its top-level fields. What means the same has the same
// fingerprint: a TTL left out and one of DefaultTTL are equal. The owner is not in it, for keys belong to an owner.
//
// Fingerprints are stored for 400 days. A new field of a request goes to the end of its list and, where it is not used, leaves
// the fingerprint as it was; anything else makes a repeat look like another request.
const printLen = 8

// The kinds of requests, as the first byte of a fingerprint.
const (
	printHold byte = iota + 1
	printConfirm
	printCancel
	printIssue
	printCredit
	printSeal
	printSetQuota
	printAdjustQuota
	printCampaign
	printMoveCampaign
	printClaim
	printPacket
	printGrab
)

// printFields names the fields of each kind, in the order of the fingerprint.
var printFields = [...][]string{
	printHold:    {"order_id", "attempt", "hold_id", "ttl_ms", "lines", "items"},
	printConfirm: {"hold_id", "order_id", "attempt"},
	printCancel:  {"hold_id", "order_id", "attempt"},
	printIssue:   {"campaign_id", "issue_ref", "discount", "valid_from", "expires_at"},
	printCredit:  {"issue_ref", "source", "tag", "amount", "expires_at"},
	printSeal:    {},

	printSetQuota:    {"total", "currency", "reason"},
	printAdjustQuota: {"delta", "reason"},

	printCampaign: {
		"campaign_id", "discount", "time_zone", "starts_at", "ends_at", "validity", "total_limit", "owner_limit", "owner_day_limit",
		"budget",
	},
	printMoveCampaign: {"operation", "reason"},
	printClaim:        {"campaign_id", "claim_ref"},
	printPacket:       {"packet_ref", "amount", "shares", "mode"},
	printGrab:         {"packet_id", "owner"},
}

// printer builds a fingerprint. The values of a field are written one after the other, and close ends the field.
type printer struct {
	sum []byte
	buf []byte // of the field under way
}

func newPrinter(kind byte) *printer {
	p := &printer{sum: make([]byte, 1, 1+printLen*len(printFields[kind])), buf: make([]byte, 0, 512)}
	p.sum[0] = kind
	return p
}

func (p *printer) str(s string) *printer {
	p.buf = appendSized(p.buf, s)
	return p
}

func (p *printer) int(n int64) *printer {
	p.buf = appendNumber(p.buf, n)
	return p
}

func (p *printer) id(i id.ID) *printer {
	p.buf = append(p.buf, i[:]...)
	return p
}

func (p *printer) money(m Money) *printer { return p.int(m.Amount).str(m.Currency) }

func (p *printer) close() *printer {
	sum := sha256.Sum256(p.buf)
	p.sum = append(p.sum, sum[:printLen]...)
	p.buf = p.buf[:0]
	return p
}

func fingerprintHold(h *Hold) []byte {
	p := newPrinter(printHold)
	p.str(h.OrderID).close().int(int64(h.Attempt)).close().id(h.HoldID).close().int(int64(h.TTL)).close()
	p.lines(h.Lines).close().items(h.Items).close()
	return p.sum
}

func (p *printer) lines(lines []Line) *printer {
	for i := range lines {
		p.str(lines[i].LineID).money(lines[i].Amount)
	}
	return p
}

func (p *printer) items(items []Item) *printer {
	for i := range items {
		it := &items[i]
		all := int64(0)
		if it.All {
			all = 1
		}
		p.str(string(it.Kind)).id(it.CouponID).money(it.Amount).int(all).str(it.Tag)
		if _, ok := quotaOf(it); ok {
			p.str(it.SKU).str(it.Location).int(it.Quantity).str(it.CampaignID)
		}
	}
	return p
}

func fingerprintRef(kind byte, r HoldRef) []byte {
	p := newPrinter(kind)
	return p.id(r.HoldID).close().str(r.OrderID).close().int(int64(r.Attempt)).close().sum
}

func (p *printer) discount(d *Discount) *printer {
	return p.str(string(d.Kind)).str(d.Currency).int(d.Amount).int(d.BasisPoints).int(d.Cap).int(d.MinSpend)
}

func fingerprintIssue(r *IssueCoupon) []byte {
	p := newPrinter(printIssue).str(r.CampaignID).close().str(r.IssueRef).close()
	p.discount(&r.Discount).close()
	return p.int(r.ValidFrom.UnixMicro()).close().int(r.ExpiresAt.UnixMicro()).close().sum
}

func fingerprintCredit(r *CreditLot) []byte {
	p := newPrinter(printCredit).str(r.IssueRef).close().str(r.Source).close().str(r.Tag).close()
	return p.money(r.Amount).close().int(r.ExpiresAt.UnixMicro()).close().sum
}

func fingerprintSetQuota(r *SetQuota) []byte {
	return newPrinter(printSetQuota).int(r.Total).close().str(r.Currency).close().str(r.Reason).close().sum
}

func fingerprintAdjustQuota(r *AdjustQuota) []byte {
	return newPrinter(printAdjustQuota).int(r.Delta).close().str(r.Reason).close().sum
}

func fingerprintCampaign(c *Campaign) []byte {
	d := c.Discount.discount()
	p := newPrinter(printCampaign).str(c.CampaignID).close().discount(&d).close().str(c.TimeZone).close()
	p.int(c.StartsAt.UnixMicro()).close().int(c.EndsAt.UnixMicro()).close()
	v := &c.Validity
	p.str(string(v.Kind)).int(v.From.UnixMicro()).int(v.Until.UnixMicro()).int(int64(v.Days)).close()
	p.int(c.TotalLimit).close().int(c.OwnerLimit).close().int(c.OwnerDayLimit).close()
	if c.Budget != nil {
		p.money(*c.Budget)
	}
	return p.close().sum
}

func fingerprintMove(r *MoveCampaign) []byte {
	return newPrinter(printMoveCampaign).str(string(r.Event)).close().str(r.Reason).close().sum
}

func fingerprintClaim(r *Claim) []byte {
	return newPrinter(printClaim).str(r.CampaignID).close().str(r.ClaimRef).close().sum
}

func fingerprintPacket(r *CreatePacket) []byte {
	p := newPrinter(printPacket).str(r.PacketRef).close().money(r.Amount).close()
	return p.int(int64(r.Shares)).close().str(string(r.Mode)).close().sum
}

func fingerprintGrab(r *Grab) []byte {
	return newPrinter(printGrab).id(r.PacketID).close().str(r.Owner).close().sum
}

// requestHash tells what a hold takes, from the fingerprint of its request: the lines and the items. A second request for the
// same order is answered with the hold only if it takes the same; that it may ask for another TTL, as a caller does who
// counts down, does not matter.
func requestHash(fingerprint []byte) (hash [2 * printLen]byte) {
	copy(hash[:], fingerprint[len(fingerprint)-len(hash):])
	return hash
}

// differingFields names the fields in which two fingerprints differ. Requests of different kinds differ in "operation".
func differingFields(stored, sent []byte) []string {
	if len(stored) == 0 || len(sent) == 0 || stored[0] != sent[0] || int(sent[0]) >= len(printFields) {
		return []string{"operation"}
	}
	var fields []string
	for i, name := range printFields[sent[0]] {
		if !bytes.Equal(printOf(stored, i), printOf(sent, i)) {
			fields = append(fields, name)
		}
	}
	return fields
}

// printOf is the print of field i; nil if the fingerprint is older than the field, or the field was not used.
func printOf(fingerprint []byte, i int) []byte {
	from := 1 + i*printLen
	if from+printLen > len(fingerprint) {
		return nil
	}
	return fingerprint[from : from+printLen]
}
