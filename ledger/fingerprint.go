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
	printRefund
	printExtend
	printPin
	printReplace
	printFreeze
	printRevoke
	printSetQuota
	printAdjustQuota
	printCampaign
	printMoveCampaign
	printClaim
	printPacket
	printGrab
	printCodes
	printRedeem
	printAdjustMoney
	printDecideAdjustment
)

// printFields names the fields of each kind, in the order of the fingerprint.
var printFields = [...][]string{
	printHold:    {"order_id", "attempt", "hold_id", "ttl_ms", "lines", "items", "max_discount", "over_capture_limit"},
	printConfirm: {"hold_id", "order_id", "attempt", "items", "amount", "final", "allow_late"},
	printCancel:  {"hold_id", "order_id", "attempt"},
	printIssue:   {"campaign_id", "issue_ref", "discount", "valid_from", "expires_at", "terms"},
	printCredit:  {"issue_ref", "source", "tag", "amount", "expires_at", "refund_grace_ms"},
	printSeal:    {},
	printRefund:  {"hold_id", "order_id", "attempt", "refund_ref", "all", "amount", "items", "lines", "reason"},
	printExtend:  {"hold_id", "order_id", "attempt", "ttl_ms"},
	printPin:     {"hold_id", "order_id", "attempt", "ttl_ms"},
	printReplace: {
		"hold_id", "order_id", "attempt", "new_hold_id", "ttl_ms", "lines", "items", "max_discount", "over_capture_limit",
	},
	printFreeze: {"frozen", "reason"},
	printRevoke: {"coupon_id", "lot_id", "include_held", "reason"},

	printSetQuota:    {"total", "currency", "reason", "low_at"},
	printAdjustQuota: {"delta", "reason"},

	printCampaign: {
		"campaign_id", "discount", "time_zone", "starts_at", "ends_at", "validity", "total_limit", "owner_limit", "owner_day_limit",
		"budget", "code_required", "terms",
	},
	printMoveCampaign: {"operation", "reason"},
	printClaim:        {"campaign_id", "claim_ref"},
	printPacket:       {"packet_ref", "amount", "shares", "mode"},
	printGrab:         {"packet_id", "owner"},
	printCodes:        {"batch_ref", "count", "codes", "shared_code"},
	printRedeem:       {"code"},

	printAdjustMoney:      {"adjustment_ref", "delta", "currency", "expires_at", "reason"},
	printDecideAdjustment: {"adjustment_id", "approve", "reason"},
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
	if h.MaxDiscount > 0 {
		p.int(h.MaxDiscount).close()
	} else if h.OverCapture > 0 {
		p.close()
	}
	if h.OverCapture > 0 {
		p.int(h.OverCapture).close()
	}
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
		p.str(string(it.Kind)).id(it.CouponID).money(it.Amount).bool(it.All).str(it.Tag)
		if _, ok := quotaOf(it); ok {
			p.str(it.SKU).str(it.Location).int(it.Quantity).str(it.CampaignID)
		}
	}
	return p
}

func fingerprintRef(kind byte, r HoldRef) []byte {
	return newPrinter(kind).ref(r).sum
}

func fingerprintConfirm(r *Confirm) []byte {
	if len(r.Items) == 0 && r.Amount == (Money{}) && !r.AllowLate {
		return fingerprintRef(printConfirm, r.Hold)
	}
	p := newPrinter(printConfirm).ref(r.Hold).parts(r.Items).close()
	return p.money(r.Amount).close().bool(r.Final).close().bool(r.AllowLate).close().sum
}

func fingerprintReplace(r *Replace) []byte {
	h := &r.New
	p := newPrinter(printReplace).id(r.Old.HoldID).close().str(h.OrderID).close().int(int64(h.Attempt)).close()
	p.id(h.HoldID).close().int(int64(h.TTL)).close()
	p.lines(h.Lines).close().items(h.Items).close().int(h.MaxDiscount).close()
	if h.OverCapture > 0 {
		p.int(h.OverCapture).close()
	}
	return p.sum
}

func fingerprintRefund(r *Refund) []byte {
	p := newPrinter(printRefund)
	if r.OfRefund != (id.ID{}) {
		p.id(r.OfRefund).close().close().close()
	} else {
		p.ref(r.Hold)
	}
	p.str(r.RefundRef).close().bool(r.All).close().money(r.Amount).close().parts(r.Items).close()
	for _, line := range r.Lines {
		p.str(line)
	}
	return p.close().str(r.Reason).close().sum
}

// refundHash tells what a refund gives back, from the fingerprint of its request: its reason does not matter.
func refundHash(fingerprint []byte) (hash [2 * printLen]byte) {
	const all, reason = 1 + 4*printLen, 1 + 8*printLen
	sum := sha256.Sum256(fingerprint[all:reason])
	copy(hash[:], sum[:])
	return hash
}

func fingerprintLater(kind byte, r HoldRef, ttl int64) []byte {
	return newPrinter(kind).ref(r).int(ttl).close().sum
}

func fingerprintFreeze(r *Freeze) []byte {
	return newPrinter(printFreeze).bool(r.Frozen).close().str(r.Reason).close().sum
}

func fingerprintRevoke(r *Revoke) []byte {
	p := newPrinter(printRevoke).id(r.Coupon).close().id(r.Lot).close()
	return p.bool(r.IncludeHeld).close().str(r.Reason).close().sum
}

func (p *printer) ref(r HoldRef) *printer {
	return p.id(r.HoldID).close().str(r.OrderID).close().int(int64(r.Attempt)).close()
}

func (p *printer) bool(b bool) *printer {
	if b {
		return p.int(1)
	}
	return p.int(0)
}

func (p *printer) parts(parts []PartRequest) *printer {
	for i := range parts {
		p.int(int64(parts[i].Item)).money(parts[i].Amount).bool(parts[i].All)
		if parts[i].Quantity != 0 {
			p.int(parts[i].Quantity)
		}
	}
	return p
}

func (p *printer) discount(d *Discount) *printer {
	return p.str(string(d.Kind)).str(d.Currency).int(d.Amount).int(d.BasisPoints).int(d.Cap).int(d.MinSpend)
}

func fingerprintIssue(r *IssueCoupon) []byte {
	p := newPrinter(printIssue).str(r.CampaignID).close().str(r.IssueRef).close()
	p.discount(&r.Discount).close()
	p.int(r.ValidFrom.UnixMicro()).close().int(r.ExpiresAt.UnixMicro()).close()
	if r.Terms != (Terms{}) {
		p.terms(&r.Terms).close()
	}
	return p.sum
}

func (p *printer) terms(t *Terms) *printer {
	p.str(string(t.Refund)).str(t.StackGroup).int(int64(t.MaxPerGroup)).int(int64(t.Priority))
	if t.MaxDiscount != (Money{}) || t.ReturnGraceMs > 0 {
		p.money(t.MaxDiscount).int(t.ReturnGraceMs)
	}
	return p
}

func fingerprintCredit(r *CreditLot) []byte {
	p := newPrinter(printCredit).str(r.IssueRef).close().str(r.Source).close().str(r.Tag).close()
	p.money(r.Amount).close().int(r.ExpiresAt.UnixMicro()).close()
	if r.RefundGrace > 0 {
		p.int(r.RefundGrace.Microseconds()).close()
	}
	return p.sum
}

func fingerprintSetQuota(r *SetQuota) []byte {
	return newPrinter(printSetQuota).int(r.Total).close().str(r.Currency).close().str(r.Reason).close().int(r.LowAt).close().sum
}

func fingerprintAdjustQuota(r *AdjustQuota) []byte {
	return newPrinter(printAdjustQuota).int(r.Delta).close().str(r.Reason).close().sum
}

func fingerprintAdjustMoney(r *AdjustMoney) []byte {
	p := newPrinter(printAdjustMoney).str(r.AdjustmentRef).close().int(r.Delta).close().str(r.Currency).close()
	return p.int(r.ExpiresAt.UnixMicro()).close().str(r.Reason).close().sum
}

func fingerprintDecideAdjustment(r *DecideAdjustment) []byte {
	return newPrinter(printDecideAdjustment).id(r.AdjustmentID).close().bool(r.Approve).close().str(r.Reason).close().sum
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
	p.close()
	hasTerms := c.Terms != Terms{}
	if c.CodeRequired {
		p.bool(true).close()
	} else if hasTerms {
		p.close()
	}
	if hasTerms {
		p.terms(&c.Terms).close()
	}
	return p.sum
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

func fingerprintCodes(r *MakeCodes, texts []CodeText) []byte {
	p := newPrinter(printCodes).str(r.BatchRef).close().int(int64(r.Count)).close()
	if r.Shared != "" {
		p.close()
	}
	for _, text := range texts {
		p.str(text.Canonical)
	}
	if r.Shared == "" {
		p.close()
	}
	return p.close().sum
}

// codesHash tells which codes a batch has, from the fingerprint of its request.
func codesHash(fingerprint []byte) (hash [2 * printLen]byte) {
	sum := sha256.Sum256(fingerprint[1+printLen:])
	copy(hash[:], sum[:])
	return hash
}

func fingerprintRedeem(code string) []byte { return newPrinter(printRedeem).str(code).close().sum }

// requestHash tells what a hold takes, from the fingerprint of its request: the lines and the items. A second request for the
// same order is answered with the hold only if it takes the same; that it may ask for another TTL, as a caller does who
// counts down, does not matter.
func requestHash(fingerprint []byte) (hash [2 * printLen]byte) {
	const lines = 1 + 4*printLen // lines and items are the fifth and sixth field
	copy(hash[:], fingerprint[lines:])
	for i, b := range fingerprint[lines+len(hash):] { // later fields that say what is taken, where they are used
		hash[i] ^= b
	}
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

// printOf is the print of field i; that of nothing if the fingerprint is older than the field, or the field was not used.
func printOf(fingerprint []byte, i int) []byte {
	from := 1 + i*printLen
	if from+printLen > len(fingerprint) {
		nothing := sha256.Sum256(nil)
		return nothing[:printLen]
	}
	return fingerprint[from : from+printLen]
}
