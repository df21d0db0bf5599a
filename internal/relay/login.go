package relay

import "bytes"

// Offsets in the first packet of a client of MariaDB: a header whose first three bytes are the length of the rest, then capabilities,
// limits and a character set, then the account, ended by a zero byte.
const (
	headerBytes  = 4
	accountAt    = headerBytes + 32
	accountMax   = 128 // MariaDB's limit for the name of an account is below
	loginMissing = accountAt + accountMax
)

// login collects the beginning of what a client says.
type login struct{ text []byte }

// read takes what came next. done says that the account is known, or never will be.
func (l *login) read(part []byte) (account string, done bool) {
	l.text = append(l.text, part[:min(len(part), loginMissing)]...)
	if len(l.text) > accountAt {
		if name, _, whole := bytes.Cut(l.text[accountAt:], []byte{0}); whole {
			return string(name), true
		}
	}
	return "", len(l.text) >= loginMissing
}
