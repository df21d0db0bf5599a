package gen

import "github.com/statesvc/statesvc/api/strictjson"

const (
	maxItem     = 49
	maxGroup    = 50
	maxPriority = 1_000
	maxGraceMs  = 630_720_000_000
)

// ReadJSON reads the body of confirmHold.
func (b *ConfirmRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "items":
			b.Items = readParts(r)
		case "amount":
			b.Amount.read(r, 1)
		case "final":
			b.Final = r.Bool()
		case "allow_late":
			b.AllowLate = r.Bool()
		default:
			r.Unknown()
		}
	}
	r.Require("owner")
}

func readParts(r *strictjson.Reader) (parts []PartRequest) {
	for r.Array(); r.Element(); {
		parts = append(parts, PartRequest{})
		parts[len(parts)-1].ReadJSON(r)
	}
	if len(parts) == 0 {
		r.Refuse("is empty; leave it out")
	}
	return parts
}

// ReadJSON reads a part of an item.
func (b *PartRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "item":
			b.Item = int(r.Integer(0, maxItem))
		case "amount":
			b.Amount.read(r, 1)
		case "quantity":
			b.Quantity = r.Integer(1, strictjson.MaxInteger)
		case "all":
			b.All = r.Bool()
		default:
			r.Unknown()
		}
	}
	r.Require("item")
}

// ReadJSON reads the body of extendHold and pinHold.
func (b *LaterRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "ttl_ms":
			b.TTLMs = r.Integer(minTTLMs, maxTTLMs)
		default:
			r.Unknown()
		}
	}
	r.Require("owner", "ttl_ms")
}

// ReadJSON reads the body of createRefund and previewRefund.
func (b *RefundRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "refund_ref":
			b.RefundRef = r.String()
		case "all":
			b.All = r.Bool()
		case "amount":
			b.Amount.read(r, 1)
		case "items":
			b.Items = readParts(r)
		case "lines":
			b.Lines = readNames(r)
		case "reason":
			b.Reason = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("owner", "refund_ref")
}

func readNames(r *strictjson.Reader) (names []string) {
	for r.Array(); r.Element(); {
		names = append(names, r.String())
	}
	if len(names) == 0 {
		r.Refuse("is empty; leave it out")
	}
	return names
}

// ReadJSON reads the body of revokeCoupon and revokeLot.
func (b *RevokeRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "include_held":
			b.IncludeHeld = r.Bool()
		case "reason":
			b.Reason = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("owner", "reason")
}
