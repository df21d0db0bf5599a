package ledger

import (
	"crypto/sha256"

	"github.com/statesvc/statesvc/shard"
)

// ownerRow is a row of owners.
type ownerRow struct {
	bucket   shard.Bucket
	name     string
	ver      int64
	entrySeq int64
	head     [sha256.Size]byte
}
