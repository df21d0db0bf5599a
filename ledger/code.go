package ledger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/statesvc/statesvc/shard"
)

// Limits of codes.
const (
	MaxCodes      = 1000 // that are made by one request
	maxCode       = 32   // letters and digits of a code
	minSharedCode = 3
	minUniqueCode = 8 // of an imported code; whether that can be guessed is for whoever has made it to know
	maxCodeText   = 128
)

// CodeKind says how often a code is good.
type CodeKind string

// The kinds of codes (R4).
const (
	UniqueCode CodeKind = "UNIQUE" // gives one coupon, to one owner
	SharedCode CodeKind = "SHARED" // gives every owner a coupon, once
)

// The states of codes. A shared one stays FREE.
const (
	codeFree     = "FREE"
	codeReserved = "RESERVED" // an owner's, while his shard decides whether he gets a coupon for it
	codeRedeemed = "REDEEMED"
)

// MakeCodes makes codes of a campaign: Count that nobody can guess, or the unique ones of a list, or a shared one. (CampaignID,
// BatchRef) is unique for ever.
type MakeCodes struct {
	CampaignID string
	BatchRef   string
	Count      int
	Codes      []string
	Shared     string
}

// Redeem gives an owner the coupon of a code. Code is as somebody has typed it; see [ReadCode].
type Redeem struct {
	Owner string
	Code  string
}

// CodeText is a code that was read.
type CodeText struct {
	Canonical string // as codes are compared
	Shown     string // as people read it
}

// lookalikes are compared as what they are taken for. No generated code has them.
var lookalikes = strings.NewReplacer("O", "0", "I", "1", "L", "1")

// ReadCode reads a code as people write it: spaces, dashes and what is invisible are left out, small letters and those of full width are
// capital ones. The error says which character is none of a code, such as a Cyrillic letter that looks like a Latin one.
func ReadCode(text string) (CodeText, error) {
	if len(text) > maxCodeText {
		return CodeText{}, fmt.Errorf("must be at most %d bytes", maxCodeText)
	}
	var shown []byte
	place := 0
	for _, char := range text {
		place++
		switch plain := narrow(char); {
		case leftOut(char):
		case 'a' <= plain && plain <= 'z':
			shown = append(shown, byte(plain-'a'+'A'))
		case 'A' <= plain && plain <= 'Z', '0' <= plain && plain <= '9':
			shown = append(shown, byte(plain))
		default:
			return CodeText{}, fmt.Errorf("must be letters A–Z and digits; character %d, %U, is neither, even if it looks like one", place, char)
		}
	}
	if len(shown) < minSharedCode || len(shown) > maxCode {
		return CodeText{}, fmt.Errorf("must be %d to %d letters and digits", minSharedCode, maxCode)
	}
	return CodeText{lookalikes.Replace(string(shown)), string(shown)}, nil
}

// narrow is the ASCII character of one of full width, as East Asian keyboards write them.
func narrow(char rune) rune {
	const full, width = '！', '！' - '!'
	if full <= char && char <= '～' {
		return char - width
	}
	return char
}

// leftOut tells spaces, dashes and invisible characters, which come with codes that were copied.
func leftOut(char rune) bool {
	const minus, softHyphen, zeroWidth, joiner, byteOrder = '\u2212', '\u00ad', '\u200b', '\u2060', '\ufeff'
	switch char {
	case minus, softHyphen, zeroWidth, joiner, byteOrder:
		return true
	}
	return unicode.IsSpace(char) || unicode.Is(unicode.Dash, char)
}

// codeAlphabet is Crockford's: without letters that look like digits, and without U.
var codeAlphabet = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// generatedCode is one of a batch: 80 bits that nobody can tell without the seed.
func generatedCode(seed []byte, number int) CodeText {
	h := hmac.New(sha256.New, seed)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(number)))
	text := codeAlphabet.EncodeToString(h.Sum(nil)[:10])
	return CodeText{text, text[:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:]}
}

// codeOwner is the owner under whose lock a code is kept. Its bucket is the code's home, so the code alone says where it lives.
func codeOwner(canonical string) string { return codePrefix + canonical }

// codePrefix begins the references of the coupons that codes have given. Callers cannot claim or issue under such a reference: a code
// would seem to have given the coupon.
const codePrefix = "code:"

// CodeBatch is codes that were made together.
type CodeBatch struct {
	CampaignID string    `json:"campaign_id"`
	BatchRef   string    `json:"batch_ref"`
	Kind       CodeKind  `json:"kind"`
	Count      int       `json:"count"`
	CreatedAt  time.Time `json:"created_at"`
}

// CodesReply answers MakeCodes.
type CodesReply struct {
	Batch         CodeBatch `json:"batch"`
	Codes         []string  `json:"codes,omitempty"`     // that are there now, in the order of the batch
	Elsewhere     []string  `json:"elsewhere,omitempty"` // of a list: those that another batch has
	AlreadyExists bool      `json:"already_exists,omitempty"`
}

// CodeBody is a code in a list.
type CodeBody struct {
	Code     string   `json:"code"`
	BatchRef string   `json:"batch_ref"`
	Number   int64    `json:"number"` // in the batch, from 1
	Kind     CodeKind `json:"kind"`
	State    string   `json:"state"`           // FREE, RESERVED, REDEEMED
	Owner    string   `json:"owner,omitempty"` // who has it
}

// codeBatchRow is a row of code_batches.
type codeBatchRow struct {
	owner     *ownerRow // of the campaign
	campaign  string
	ref       string
	kind      CodeKind
	codes     int64
	seed      [32]byte
	request   [2 * printLen]byte
	createdAt int64

	stored bool
}

// codeFacts is what never changes of a code.
type codeFacts struct {
	code     CodeText
	campaign string
	batchRef string
	number   int64
	kind     CodeKind
}

// codeRow is a row of codes.
type codeRow struct {
	bucket shard.Bucket
	codeFacts
	state      string
	owner      string // FREE: empty
	opKey      string // under which his shard decides, or has decided
	attempt    int64
	reservedAt int64 // RESERVED

	stored, dirty bool
}

type batchRef struct{ campaign, ref string }

// codeRows are the rows of codes in memory. The maps are nil until a batch has a code.
type codeRows struct {
	codes   map[string]*codeRow // by the canonical text
	batches map[batchRef]*codeBatchRow

	changed struct {
		codes   []*codeRow
		batches []*codeBatchRow
	}
}
