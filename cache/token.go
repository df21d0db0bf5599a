package cache

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/statesvc/statesvc/state"
)

// Token is a version of a document in a form for callers: whoever shows it reads nothing older. It is no secret and no proof: a forged
// one of the future only makes its reads go to the primary.
const (
	tokenFormat = 1
	tokenHash   = 6 // bytes of the document's hash
	tokenSize   = 1 + tokenHash + 8 + 8
)

// FormatToken returns the token of a version of a document.
func FormatToken(k state.Key, v state.Version) string {
	b := make([]byte, 0, tokenSize)
	b = append(b, tokenFormat)
	hash := keyHash(k)
	b = append(b, hash[:tokenHash]...)
	b = binary.BigEndian.AppendUint64(b, uint64(v.Era))
	b = binary.BigEndian.AppendUint64(b, uint64(v.Number))
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseToken reads a token as one of a document. wellFormed says that it is a token; own, that it is one of this document. A token of
// another document says nothing about this one, so it is best answered by the primary.
func ParseToken(token string, k state.Key) (v state.Version, own, wellFormed bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != tokenSize || b[0] != tokenFormat {
		return v, false, false
	}
	hash := keyHash(k)
	own = string(b[1:1+tokenHash]) == string(hash[:tokenHash])
	v.Era = int64(binary.BigEndian.Uint64(b[1+tokenHash:]))
	v.Number = int64(binary.BigEndian.Uint64(b[1+tokenHash+8:]))
	const most = 1 << 53
	return v, own, v.Era >= 0 && v.Era < most && v.Number >= 0 && v.Number < most
}

// keyHash covers kind and id. Its first 14 bits are the bucket.
func keyHash(k state.Key) [sha256.Size]byte { return sha256.Sum256([]byte(k.String())) }
