package id

import "strconv"

// Kind says which resource an id names. The kind is written in front of the text and goes into the MAC, but not into
// the sixteen bytes: a table holds documents of one kind only. The zero Kind is no kind.
type Kind uint8

// The kinds of documents. Quotas, stock, owners and state documents have natural names and are not listed. The order is
// free to change, the words are not.
const (
	Hold Kind = iota + 1
	Coupon
	Lot
	Packet
	Share
	Entry
	Transfer
	Refund
	Receipt
	Campaign
	Adjustment
	Job
	Move
	Webhook
)

// prefixes are the words of the kinds in text and MAC, and so are part of every id ever given out.
var prefixes = [...]string{
	Hold:       "hold",
	Coupon:     "coupon",
	Lot:        "lot",
	Packet:     "packet",
	Share:      "share",
	Entry:      "entry",
	Transfer:   "transfer",
	Refund:     "refund",
	Receipt:    "receipt",
	Campaign:   "campaign",
	Adjustment: "adjustment",
	Job:        "job",
	Move:       "move",
	Webhook:    "webhook",
}

// String returns the word of the kind as it stands in front of an id.
func (k Kind) String() string {
	if !k.valid() {
		return "kind(" + strconv.Itoa(int(k)) + ")"
	}
	return prefixes[k]
}

// KindOf returns the kind whose word is prefix; it is false for any other text, the empty one included.
func KindOf(prefix string) (Kind, bool) {
	for k := Hold; k.valid(); k++ {
		if prefixes[k] == prefix {
			return k, true
		}
	}
	return 0, false
}

func (k Kind) valid() bool { return k >= Hold && int(k) < len(prefixes) }
