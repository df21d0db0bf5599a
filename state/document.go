package state

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// Key names a document.
type Key struct{ Kind, ID string }

// maxName is the length of "{kind}/{id}", which is the owner of the document's idempotency keys and has the width of that column.
const maxName = 64

// String is "{kind}/{id}".
func (k Key) String() string { return k.Kind + "/" + k.ID }

// Bucket is the bucket of the document. It never changes.
func (k Key) Bucket() shard.Bucket { return shard.BucketOf(k.String()) }

// Check returns an *Invalid unless k can name a document. It does not know whether the kind is declared.
func (k Key) Check() error {
	switch {
	case !ValidKind(k.Kind):
		return invalid("kind", "must be 1 to 32 of a–z 0–9 _ -, and begin with a letter")
	case !shard.ValidOwner(k.ID):
		return invalid("id", "must be 1 to 64 of A–Z a–z 0–9 . _ : @ -")
	case len(k.Kind)+1+len(k.ID) > maxName:
		return invalid("id", fmt.Sprintf("is too long: kind and id together have at most %d characters", maxName-1))
	}
	return nil
}

// maxKind is the width of the column.
const maxKind = 32

// ValidKind reports whether kind can be declared: 1 to 32 of a–z 0–9 _ -, with a letter first.
func ValidKind(kind string) bool {
	if kind == "" || len(kind) > maxKind || kind[0] < 'a' || kind[0] > 'z' {
		return false
	}
	return strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

// Version orders what a document was over time. The zero Version is older than all others.
type Version struct {
	Era    int64 // of the document's bucket
	Number int64 // +1 with every write; 0: there was never a document
}

// Compare is negative if v is older than other, and 0 if they are equal.
func (v Version) Compare(other Version) int {
	return cmp.Or(cmp.Compare(v.Era, other.Era), cmp.Compare(v.Number, other.Number))
}

// String is "{era}.{number}".
func (v Version) String() string {
	return strconv.FormatInt(v.Era, 10) + "." + strconv.FormatInt(v.Number, 10)
}

// maxPart bounds the parts of a version, so that Lua, whose numbers are doubles, compares them as they are.
const maxPart = 1 << 53

// ParseVersion is the inverse of String, and refuses everything that String would not make.
func ParseVersion(text string) (Version, bool) {
	era, number, found := strings.Cut(text, ".")
	v := Version{parsePart(era), parsePart(number)}
	return v, found && v.Era > 0 && v.Number > 0 && v.String() == text
}

func parsePart(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n >= maxPart {
		return 0
	}
	return n
}

// Document is a document as its row has it. Without a row it is what never existed: its version is zero.
type Document struct {
	Key       Key
	Version   Version
	Body      []byte // a JSON object, without white space around its parts; nil: deleted, or never made. Read-only.
	UpdatedAt time.Time
}

// Exists reports whether there is a document now.
func (d *Document) Exists() bool { return d.Body != nil }

// Snapshot is a document as a primary had it, and the era of its bucket in the same instant.
type Snapshot struct {
	Document
	Era int64
}
