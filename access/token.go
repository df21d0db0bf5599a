package access

import "crypto/sha256"

const (
	tokenPrefix = "ss_"
	idBytes     = 8  // random; a collision is refused by the register and drawn again
	secretBytes = 32 // 256 random bits
	idLen       = 2 * idBytes
	tokenLen    = len(tokenPrefix) + idLen + 1 + 2*secretBytes
)

const hexDigits = "0123456789abcdef"

// parseToken takes a token apart. There is exactly one spelling of each token: lower case, full length, nothing around it.
func parseToken(token string) (id string, hash [sha256.Size]byte, ok bool) {
	if len(token) != tokenLen || token[:len(tokenPrefix)] != tokenPrefix || token[len(tokenPrefix)+idLen] != '_' {
		return "", hash, false
	}
	id = token[len(tokenPrefix) : len(tokenPrefix)+idLen]
	if !validID(id) {
		return "", hash, false
	}
	var secret [secretBytes]byte
	digits := token[len(tokenPrefix)+idLen+1:]
	for i := range secret {
		high, isHigh := hexValue(digits[2*i])
		low, isLow := hexValue(digits[2*i+1])
		if !isHigh || !isLow {
			return "", hash, false
		}
		secret[i] = high<<4 | low
	}
	return id, sha256.Sum256(secret[:]), true
}

// formatToken is the inverse of parseToken.
func formatToken(id string, secret []byte) string {
	return tokenPrefix + id + "_" + formatHex(secret)
}

func formatHex(b []byte) string {
	text := make([]byte, 0, 2*len(b))
	for _, c := range b {
		text = append(text, hexDigits[c>>4], hexDigits[c&15])
	}
	return string(text)
}

func validID(id string) bool {
	if len(id) != idLen {
		return false
	}
	for i := range len(id) {
		if _, is := hexValue(id[i]); !is {
			return false
		}
	}
	return true
}

// hexValue knows lower-case digits only; encoding/hex would accept upper case too.
func hexValue(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	default:
		return 0, false
	}
}
