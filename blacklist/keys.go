package blacklist

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

const (
	blocksPrefix    = "blocks/"
	undecidedPrefix = "undecided/"
	auditPrefix     = "audit/"
	auditHead       = "audit-head"
)

const (
	nameLenMax   = 64  // of nodes and holders
	textLenMax   = 128 // of owners and operation keys: twice of what callers may send
	shardMax     = 4095
	bucketMax    = 16_383
	reasonLenMax = 500
)

// text64 is how owners and operation keys stand in keys: they may contain the separators. Strict, so that every text has
// one encoding and two entries are never about the same owner without looking so.
var text64 = base64.RawURLEncoding.Strict()

// check tells whether p names something that can be blocked, in the canonical form.
func (p place) check() error {
	switch p.grain {
	case GrainNode:
		return checkName("node", p.id)
	case GrainShard:
		return checkNumber("shard", p.id, 1, shardMax)
	case GrainBucket:
		return checkNumber("bucket", p.id, 0, bucketMax)
	case GrainOwner:
		return checkText("owner", p.id)
	default:
		return fmt.Errorf("%w: grain %q", ErrInvalid, p.grain)
	}
}

// key returns where the register has the block of p by holder.
func (p place) key(holder string) (string, error) {
	if err := p.check(); err != nil {
		return "", err
	}
	if err := checkName("holder", holder); err != nil {
		return "", err
	}
	id := p.id
	if p.grain == GrainOwner {
		id = text64.EncodeToString([]byte(id))
	}
	return blocksPrefix + string(p.grain) + "/" + id + "/" + holder, nil
}

// parseBlockKey is the inverse of place.key, and refuses everything that key would not make.
func parseBlockKey(key string) (p place, holder string, err error) {
	parts := strings.Split(strings.TrimPrefix(key, blocksPrefix), "/")
	if !strings.HasPrefix(key, blocksPrefix) || len(parts) != 3 {
		return place{}, "", fmt.Errorf("%w: key %q", ErrInvalid, key)
	}
	p, holder = place{grain: Grain(parts[0]), id: parts[1]}, parts[2]
	if p.grain == GrainOwner {
		if p.id, err = decodeText(parts[1]); err != nil {
			return place{}, "", err
		}
	}
	if again, err := p.key(holder); err != nil || again != key {
		return place{}, "", fmt.Errorf("%w: key %q", ErrInvalid, key)
	}
	return p, holder, nil
}

// recordKey names an undecided operation.
type recordKey struct {
	shard, bucket uint16
	owner, key    string
}

func (k recordKey) String() string {
	return fmt.Sprintf("%s%d/%d.%s.%s", undecidedPrefix, k.shard, k.bucket,
		text64.EncodeToString([]byte(k.owner)), text64.EncodeToString([]byte(k.key)))
}

func (k recordKey) check() error {
	if k.shard < 1 || k.shard > shardMax {
		return fmt.Errorf("%w: shard %d", ErrInvalid, k.shard)
	}
	if k.bucket > bucketMax {
		return fmt.Errorf("%w: bucket %d", ErrInvalid, k.bucket)
	}
	if err := checkText("owner", k.owner); err != nil {
		return err
	}
	return checkText("operation key", k.key)
}

// parseRecordKey is the inverse of recordKey.String, and refuses everything that String would not make.
func parseRecordKey(key string) (recordKey, error) {
	refused := fmt.Errorf("%w: key %q", ErrInvalid, key)
	shard, rest, found := strings.Cut(strings.TrimPrefix(key, undecidedPrefix), "/")
	parts := strings.Split(rest, ".")
	if !strings.HasPrefix(key, undecidedPrefix) || !found || len(parts) != 3 {
		return recordKey{}, refused
	}
	var k recordKey
	var err error
	if k.shard, err = parseNumber(shard); err != nil {
		return recordKey{}, refused
	}
	if k.bucket, err = parseNumber(parts[0]); err != nil {
		return recordKey{}, refused
	}
	if k.owner, err = decodeText(parts[1]); err != nil {
		return recordKey{}, err
	}
	if k.key, err = decodeText(parts[2]); err != nil {
		return recordKey{}, err
	}
	if k.check() != nil || k.String() != key {
		return recordKey{}, refused
	}
	return k, nil
}

func decodeText(encoded string) (string, error) {
	text, err := text64.DecodeString(encoded)
	if err != nil {
		return "", fmt.Errorf("%w: %q: %w", ErrInvalid, encoded, err)
	}
	return string(text), nil
}

// checkName accepts what needs no encoding in a key.
func checkName(what, name string) error {
	if name == "" || len(name) > nameLenMax {
		return fmt.Errorf("%w: %s has 1 to %d characters, not %d", ErrInvalid, what, nameLenMax, len(name))
	}
	for i := range len(name) {
		if !nameByte(name[i]) {
			return fmt.Errorf("%w: %s %q", ErrInvalid, what, name)
		}
	}
	return nil
}

func nameByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	default:
		return strings.IndexByte("._:-", c) >= 0
	}
}

// checkText accepts visible ASCII: more than an owner may consist of, since what an owner is, is not decided here.
func checkText(what, text string) error {
	if text == "" || len(text) > textLenMax {
		return fmt.Errorf("%w: %s has 1 to %d characters, not %d", ErrInvalid, what, textLenMax, len(text))
	}
	for i := range len(text) {
		if text[i] < '!' || text[i] > '~' {
			return fmt.Errorf("%w: %s %q", ErrInvalid, what, text)
		}
	}
	return nil
}

// checkNumber accepts one spelling of each number: no sign, no leading zero.
func checkNumber(what, text string, from, to uint16) error {
	n, err := parseNumber(text)
	if err != nil || n < from || n > to || strconv.Itoa(int(n)) != text {
		return fmt.Errorf("%w: %s %q is not a number from %d to %d", ErrInvalid, what, text, from, to)
	}
	return nil
}

func parseNumber(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err
}
