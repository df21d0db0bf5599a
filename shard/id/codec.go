package id

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"
)

// Parse refuses a text with one of these. Both mean that no such document can exist.
var (
	// ErrMalformed says that the text is no id of any kind: a wrong word, length or character, or a reserved layout.
	ErrMalformed = errors.New("malformed id")
	// ErrForged says that the text is well formed but was not minted as an id of this kind: its MAC is wrong, its key is
	// unknown, or it names another resource.
	ErrForged = errors.New("forged id")
)

// minKeyLen is the shortest MAC key. A short key could be found from a few ids, and with it the filter is gone.
const minKeyLen = 16

// Codec writes ids as text and reads them back. It is safe for concurrent use and never changes: a new key means a new
// Codec.
type Codec struct {
	current uint8
	macs    [lastFormat + 1]*mac // by format; nil where there is no key
}

// NewCodec returns a codec that reads the ids of all keys, by format number 1–7, and mints under the current one. Keys
// are rotated by adding the new one everywhere before any instance makes it current; a key is removed only when no id
// made under it is alive. All instances must agree on the key of a number: NewCodec cannot check it.
func NewCodec(keys map[uint8][]byte, current uint8) (*Codec, error) {
	c := &Codec{current: current}
	for format, key := range keys {
		if format < firstFormat || format > lastFormat {
			return nil, fmt.Errorf("id key %d: its number is outside %d–%d", format, firstFormat, lastFormat)
		}
		if len(key) < minKeyLen {
			return nil, fmt.Errorf("id key %d: %d bytes, at least %d are needed", format, len(key), minKeyLen)
		}
		c.macs[format] = newMAC(key)
	}
	if int(current) >= len(c.macs) || c.macs[current] == nil {
		return nil, fmt.Errorf("current id key %d: there is no such key", current)
	}
	return c, nil
}

// Text returns the public form of id, such as hold_01hf7yat00g40b3c0020a007ws. It does not check that id was minted as
// that kind.
func (c *Codec) Text(kind Kind, id ID) string {
	var buf [longestText]byte
	return string(c.AppendText(buf[:0], kind, id))
}

// longestText is the length of the longest text, that of an adjustment, with some room to spare.
const longestText = 40

// AppendText appends the public form of id to dst. It does not check that id was minted as that kind.
func (c *Codec) AppendText(dst []byte, kind Kind, id ID) []byte {
	dst = append(dst, kind.String()...)
	dst = append(dst, '_')
	return appendBase32(dst, id)
}

// Parse reads the text of an id that must be of the given kind. It returns ErrMalformed or ErrForged for everything
// that was not minted as this kind, except for 1 of 4,096 guesses: a parsed id may still name nothing.
func (c *Codec) Parse(kind Kind, text string) (ID, error) {
	stated, id, err := split(text)
	if err != nil || !id.known() {
		return ID{}, ErrMalformed
	}
	if stated != kind || !c.genuine(kind, id) {
		return ID{}, ErrForged
	}
	return id, nil
}

// ParseOwn reads an id in a document that the service has written itself. It does not check the MAC: that is a filter for what
// comes from outside, and its key may have been removed since.
func ParseOwn(kind Kind, text string) (ID, error) {
	stated, id, err := split(text)
	if err != nil || stated != kind {
		return ID{}, ErrMalformed
	}
	return id, nil
}

// Fields is an id taken apart, for people to look at.
type Fields struct {
	Kind                         Kind
	ID                           ID
	Time                         time.Time
	Version, Format              uint8
	Site, Variant                uint8
	Bucket, Placement, Node, Seq uint16
	MAC                          uint16
	Genuine                      bool // Parse would accept the text as an id of Kind
}

// Decode takes any text apart that has the form of an id, forged ones and reserved layouts included, and says in
// Fields.Genuine what Parse thinks of it. Its only error is ErrMalformed. It serves tools; the service uses Parse.
func (c *Codec) Decode(text string) (Fields, error) {
	kind, id, err := split(text)
	if err != nil {
		return Fields{}, err
	}
	return Fields{
		Kind:      kind,
		ID:        id,
		Time:      id.Time(),
		Version:   id.version(),
		Format:    id.Format(),
		Site:      id.Site(),
		Variant:   id.variant(),
		Bucket:    id.Bucket(),
		Placement: id.Placement(),
		Node:      id.Node(),
		Seq:       id.Seq(),
		MAC:       id.MAC(),
		Genuine:   id.known() && c.genuine(kind, id),
	}, nil
}

// split separates word and body and reads both. It says nothing about layout and MAC.
func split(text string) (Kind, ID, error) {
	wordLen := len(text) - bodyLen - 1
	if wordLen < 1 || text[wordLen] != '_' {
		return 0, ID{}, ErrMalformed
	}
	kind, ok := KindOf(text[:wordLen])
	if !ok {
		return 0, ID{}, ErrMalformed
	}
	id, ok := parseBase32(text[wordLen+1:])
	if !ok {
		return 0, ID{}, ErrMalformed
	}
	return kind, id, nil
}

// seal returns id with the format and the MAC of the current key. All other fields must be set.
func (c *Codec) seal(kind Kind, p parts) ID {
	p.format = c.current
	id := assemble(p)
	return id.withMAC(c.macs[c.current].sum(kind, id))
}

func (c *Codec) genuine(kind Kind, id ID) bool {
	m := c.macs[id.Format()]
	return m != nil && m.sum(kind, id) == id.MAC()
}

// mac computes the filter under one key. HMAC states are kept and rewound, because deriving them from the key costs
// as much as the MAC itself.
type mac struct{ states sync.Pool }

type macState struct {
	hash hash.Hash
	buf  [64]byte // the message, then the sum; on the heap, so that handing it to the hash allocates nothing
}

func newMAC(key []byte) *mac {
	key = bytes.Clone(key)
	return &mac{states: sync.Pool{New: func() any {
		return &macState{hash: hmac.New(sha256.New, key)}
	}}}
}

// sum returns the top 12 bits of HMAC-SHA-256(key, word ‖ 0x00 ‖ the 16 bytes with mac = 0).
func (m *mac) sum(kind Kind, id ID) uint16 {
	state := m.states.Get().(*macState)
	defer m.states.Put(state)
	id = id.withMAC(0)
	message := append(state.buf[:0], kind.String()...)
	message = append(message, 0)
	message = append(message, id[:]...)
	state.hash.Reset()
	state.hash.Write(message)
	return binary.BigEndian.Uint16(state.hash.Sum(state.buf[:0])) >> (16 - macBits)
}
