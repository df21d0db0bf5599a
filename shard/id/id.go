package id

import (
	"encoding/binary"
	"encoding/hex"
	"time"
)

// The widths of the fields, from the most significant to the least. They sum to 128.
const (
	msBits        = 48
	versionBits   = 4
	formatBits    = 4
	siteBits      = 8
	variantBits   = 2
	bucketBits    = 14
	placementBits = 12
	nodeBits      = 10
	seqBits       = 14
	macBits       = 12
)

// The places of the fields: the first four lie in the high 64 bits, the other six in the low ones. No field crosses.
const (
	formatShift  = siteBits
	versionShift = formatShift + formatBits
	msShift      = versionShift + versionBits

	seqShift       = macBits
	nodeShift      = seqShift + seqBits
	placementShift = nodeShift + nodeBits
	bucketShift    = placementShift + placementBits
	variantShift   = bucketShift + bucketBits
)

const (
	version = 8    // RFC 9562: the layout is ours
	variant = 0b10 // RFC 9562

	firstFormat = 1 // 0 is reserved, so that sixteen zero bytes are never an id
	lastFormat  = 7 // 8–15 are reserved for other layouts
)

// The highest values that fit into an id.
const (
	MaxBucket    = 1<<bucketBits - 1
	MaxPlacement = 1<<placementBits - 1
	MaxNode      = 1<<nodeBits - 1

	maxMS = 1<<msBits - 1 // in the year 10889
)

// ID is the sixteen bytes of a document's id, in the order in which SQL compares BINARY(16). An ID that did not come
// from Parse or Mint has not been checked. The zero ID names nothing.
type ID [16]byte

// Time returns the millisecond in which the document was born, as its minter counted it: after a burst it may lie
// slightly ahead of the clock, and it never says when the document was committed.
func (id ID) Time() time.Time { return time.UnixMilli(int64(id.high() >> msShift)).UTC() }

// Format returns the number of the layout and MAC key, 1–7 in ids of today.
func (id ID) Format() uint8 { return uint8(id.high() >> formatShift & (1<<formatBits - 1)) }

// Site returns the site of birth, 0 until there are two.
func (id ID) Site() uint8 { return uint8(id.high() & (1<<siteBits - 1)) }

// Bucket returns the bucket of the document's owner, which is its home for ever.
func (id ID) Bucket() uint16 { return uint16(id.low() >> bucketShift & MaxBucket) }

// Placement returns the shard on which the document was born. Only free documents are looked up by it; home-bound ones
// live where their bucket lives.
func (id ID) Placement() uint16 { return uint16(id.low() >> placementShift & MaxPlacement) }

// Node returns the id node whose lease covered the minting.
func (id ID) Node() uint16 { return uint16(id.low() >> nodeShift & MaxNode) }

// Seq returns the number of the id within its millisecond and node.
func (id ID) Seq() uint16 { return uint16(id.low() >> seqShift & (1<<seqBits - 1)) }

// MAC returns the 12 bits of the filter as they stand in the id, checked or not.
func (id ID) MAC() uint16 { return uint16(id.low() & (1<<macBits - 1)) }

// String returns the bytes as 32 hexadecimal digits, for logs and for a look into the database. It is not the public
// form, which needs the kind: see Codec.Text.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

func (id ID) high() uint64 { return binary.BigEndian.Uint64(id[:8]) }
func (id ID) low() uint64  { return binary.BigEndian.Uint64(id[8:]) }

func (id ID) version() uint8 { return uint8(id.high() >> versionShift & (1<<versionBits - 1)) }
func (id ID) variant() uint8 { return uint8(id.low() >> variantShift) }

// known reports whether the layout is the one that this package reads.
func (id ID) known() bool {
	return id.version() == version && id.variant() == variant && id.Format() >= firstFormat && id.Format() <= lastFormat
}

// withMAC returns the id with its last 12 bits replaced.
func (id ID) withMAC(mac uint16) ID {
	return fromHalves(id.high(), id.low()&^(1<<macBits-1)|uint64(mac))
}

// parts are the fields that a minter chooses; layout and MAC follow from them.
type parts struct {
	ms                           uint64
	format, site                 uint8
	bucket, placement, node, seq uint16
}

// assemble packs p into an id whose MAC is zero. It does not check ranges: its callers have.
func assemble(p parts) ID {
	high := p.ms<<msShift | version<<versionShift | uint64(p.format)<<formatShift | uint64(p.site)
	low := variant<<variantShift | uint64(p.bucket)<<bucketShift | uint64(p.placement)<<placementShift |
		uint64(p.node)<<nodeShift | uint64(p.seq)<<seqShift
	return fromHalves(high, low)
}

func fromHalves(high, low uint64) ID {
	var id ID
	binary.BigEndian.PutUint64(id[:8], high)
	binary.BigEndian.PutUint64(id[8:], low)
	return id
}
