package shard

// maxOwnerLen is the width of the owner columns.
const maxOwnerLen = 64

// ValidOwner reports whether owner can own assets: 1 to 64 of A–Z a–z 0–9 . _ : @ -. The alphabet is ASCII so that Go and
// SQL hash and compare the same bytes; upper and lower case are different owners. ValidOwner does not know whether the
// owner exists.
func ValidOwner(owner string) bool {
	if owner == "" || len(owner) > maxOwnerLen {
		return false
	}
	for i := range len(owner) {
		if !ownerByte(owner[i]) {
			return false
		}
	}
	return true
}

func ownerByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '.', '_', ':', '@', '-':
		return true
	}
	return false
}
