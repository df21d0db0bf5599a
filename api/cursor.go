package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard/id"
)

// cursors makes and reads the cursors of lists: the id or number after which the next page begins, and a MAC over it, the list
// and its filters. So a cursor works for the list that it came from and for no other.
type cursors struct{ key []byte }

const cursorMAC = 16 // bytes of the HMAC-SHA-256 that are kept

func newCursors(key []byte) cursors { return cursors{key} }

// list is one list with its filters.
type list struct {
	cursors
	name string
}

// list names a list. None of the parts may contain NUL.
func (c cursors) list(parts ...string) list { return list{c, strings.Join(parts, "\x00")} }

func (l list) mac(position []byte) []byte {
	h := hmac.New(sha256.New, l.key)
	h.Write([]byte(l.name))
	h.Write([]byte{0})
	h.Write(position)
	return h.Sum(nil)[:cursorMAC]
}

func (l list) seal(position []byte) string {
	return base64.RawURLEncoding.EncodeToString(append(position, l.mac(position)...))
}

// open returns the position of a cursor, which must have size bytes.
func (l list) open(cursor string, size int) ([]byte, error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || size < 0 || len(sealed) != size+cursorMAC {
		return nil, invalid("cursor", "is not a cursor of this list")
	}
	position := sealed[:size]
	if subtle.ConstantTimeCompare(sealed[size:], l.mac(position)) != 1 {
		return nil, invalid("cursor", "is not a cursor of this list with these filters")
	}
	return position, nil
}

// next is the cursor of the page after the document with this id; there is none after the last page.
func (l list) next(after id.ID) string {
	if after == (id.ID{}) {
		return ""
	}
	return l.seal(after[:])
}

// after reads a cursor that next has made; none is the beginning of the list.
func (l list) after(cursor string) (after id.ID, err error) {
	if cursor == "" {
		return after, nil
	}
	position, err := l.open(cursor, len(after))
	if err != nil {
		return after, err
	}
	return id.ID(position), nil
}

// page reads what says which page is asked for.
func (l list) page(cursor string, limit *int) (after id.ID, most int, err error) {
	if after, err = l.after(cursor); err == nil {
		most, err = pageLimit(limit)
	}
	return after, most, err
}

// nextNumber is next for lists that are ordered by a number; 0 is their end.
func (l list) nextNumber(after int64) string {
	if after == 0 {
		return ""
	}
	return l.seal(binary.BigEndian.AppendUint64(nil, uint64(after)))
}

// afterNumber is after for lists that are ordered by a number.
func (l list) afterNumber(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	position, err := l.open(cursor, 8)
	if err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(position)), nil
}

// nextName is next for lists that are ordered by a name; the empty one is their end.
func (l list) nextName(after string) string {
	if after == "" {
		return ""
	}
	return l.seal([]byte(after))
}

// afterName is after for lists that are ordered by a name.
func (l list) afterName(cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	position, err := l.open(cursor, base64.RawURLEncoding.DecodedLen(len(cursor))-cursorMAC)
	return string(position), err
}

// pageLimit is how many rows a page may have.
func pageLimit(limit *int) (int, error) {
	switch {
	case limit == nil:
		return ledger.DefaultPage, nil
	case *limit < 1 || *limit > ledger.MaxPage:
		return 0, invalid("limit", fmt.Sprintf("must be from 1 to %d", ledger.MaxPage))
	}
	return *limit, nil
}

// inQuery turns the pointers of a refused read, which has no body, into names of parameters.
func inQuery(err error) error {
	if invalid, ok := errors.AsType[*ledger.Invalid](err); ok {
		for i := range invalid.Problems {
			invalid.Problems[i].Pointer = strings.TrimPrefix(invalid.Problems[i].Pointer, "/")
		}
	}
	return err
}
