package strictjson

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// MaxInteger is the largest integer that JavaScript, and so most of what reads our replies, keeps exact.
const MaxInteger = 1<<53 - 1

const (
	maxDepth   = 16 // objects and arrays inside each other; no request has more than five
	maxNames   = 64 // members that all open objects have together; the widest request has less than half
	maxExcerpt = 32 // bytes of a wrong value that an error repeats
)

// ErrInvalid is what every *Error is.
var ErrInvalid = errors.New("not the JSON that is asked for")

// Error lists what is wrong with a text.
type Error struct{ Problems []Problem }

// Problem is one thing that is wrong, with the JSON pointer (RFC 6901) to it.
type Problem struct{ Pointer, Detail string }

func (e *Error) Error() string { return e.Problems[0].Pointer + ": " + e.Problems[0].Detail }

// Unwrap makes errors.Is(err, ErrInvalid) work.
func (e *Error) Unwrap() error { return ErrInvalid }

// Value is what can be read.
type Value interface{ ReadJSON(r *Reader) }

// Decode reads text, which must be one value and nothing else, into v. The strings in v are parts of text. The error is an
// *Error, and v is then half read.
func Decode(text string, v Value) error {
	if !utf8.ValidString(text) {
		return &Error{[]Problem{{Detail: "is not UTF-8"}}}
	}
	r := readers.Get().(*Reader)
	defer readers.Put(r)
	r.text, r.pos, r.err, r.depth, r.named, r.ended = text, 0, nil, 0, 0, nil
	v.ReadJSON(r)
	if r.peek(); r.err == nil && r.pos < len(text) {
		r.syntax("there is something after the value")
	}
	if r.err != nil {
		return r.err
	}
	return nil
}

// readers are reused: they are large, and v would have a new one escape to the heap.
var readers = sync.Pool{New: func() any { return new(Reader) }}

// Reader walks through one text. It is made by Decode and belongs to one goroutine.
type Reader struct {
	text  string
	pos   int
	err   *Error
	depth int
	open  [maxDepth]frame  // the objects and arrays around pos, outermost first
	names [maxNames]string // of the members of all open objects, to find repeated ones
	named int
	ended []string // the members of the object that was closed last
}

// frame is an open object or array.
type frame struct {
	name   string // of the member being read
	count  int    // members or elements so far
	names  int    // index of the object's first name
	object bool
}

// end is what peek returns at the end of the text; NUL cannot begin anything.
const end = 0

// peek returns the next byte that is not white space, without taking it.
func (r *Reader) peek() byte {
	for ; r.pos < len(r.text); r.pos++ {
		switch c := r.text[r.pos]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return end
}

// Object enters the object that must come next.
func (r *Reader) Object() { r.enter('{', "an object") }

// Array enters the array that must come next.
func (r *Reader) Array() { r.enter('[', "an array") }

func (r *Reader) enter(bracket byte, what string) {
	if !r.expect(bracket, what) {
		return
	}
	if r.depth == maxDepth {
		r.fail("is nested too deeply")
		return
	}
	r.pos++
	r.open[r.depth] = frame{names: r.named, object: bracket == '{'}
	r.depth++
}

// Member steps to the next member and reports whether there is one. After the last one the object is left.
func (r *Reader) Member() bool {
	if !r.step('}') {
		return false
	}
	if r.peek() != '"' {
		r.syntax("expected a name in double quotes")
		return false
	}
	name := r.scanString()
	if r.err == nil && r.peek() != ':' {
		r.syntax("expected a colon after the name")
	}
	if r.err != nil {
		return false
	}
	r.pos++
	return r.note(name)
}

// note remembers the name of the member being read, and refuses one that the object has already.
func (r *Reader) note(name string) bool {
	f := &r.open[r.depth-1]
	f.name = name
	if slices.Contains(r.names[f.names:r.named], name) {
		r.fail("appears twice")
		return false
	}
	if r.named == maxNames {
		r.fail("is one member too many")
		return false
	}
	r.names[r.named] = name
	r.named++
	return true
}

// Element steps to the next element and reports whether there is one. After the last one the array is left.
func (r *Reader) Element() bool { return r.step(']') }

// step takes the comma before the next part of the open object or array, or the bracket that closes it.
func (r *Reader) step(closing byte) bool {
	if r.err != nil {
		return false
	}
	f := &r.open[r.depth-1]
	c := r.peek()
	switch {
	case c == closing:
		r.pos++
		r.leave()
		return false
	case f.count > 0 && c != ',':
		r.syntax("expected a comma or " + string(closing))
		return false
	case f.count > 0:
		r.pos++
		if r.peek() == closing {
			r.syntax("there is nothing after the comma")
			return false
		}
	}
	f.count++
	return true
}

func (r *Reader) leave() {
	r.depth--
	f := &r.open[r.depth]
	r.ended = r.names[f.names:r.named]
	r.named = f.names
}

// Name is the name of the member being read.
func (r *Reader) Name() string { return r.open[r.depth-1].name }

// Unknown refuses the member being read: the object has no such member.
func (r *Reader) Unknown() { r.fail("is not known here") }

// Refuse refuses the member or element being read for a reason of its type's own. It does nothing after an earlier error.
func (r *Reader) Refuse(detail string) { r.fail(detail) }

// Require refuses the object that was left last if it lacks one of the names.
func (r *Reader) Require(names ...string) {
	if r.err != nil {
		return
	}
	var missing []Problem
	for _, name := range names {
		if !slices.Contains(r.ended, name) {
			missing = append(missing, Problem{r.pointer() + "/" + escape(name), "is missing"})
		}
	}
	if missing != nil {
		r.err = &Error{missing}
	}
}

// Integer reads an integer from least to most.
func (r *Reader) Integer(least, most int64) int64 {
	if c := r.peek(); c != '-' && (c < '0' || c > '9') {
		r.expect('0', "an integer")
		return 0
	}
	if r.err != nil {
		return 0
	}
	literal := r.scanNumber()
	n, exact := ParseInteger(literal)
	switch {
	case !exact:
		r.fail(excerpt(literal) + " is not an integer, or is beyond " + strconv.Itoa(MaxInteger))
	case n < least:
		r.fail("is less than " + strconv.FormatInt(least, 10))
	case n > most:
		r.fail("is more than " + strconv.FormatInt(most, 10))
	default:
		return n
	}
	return 0
}

// scanNumber takes everything that could belong to a number, right or wrong.
func (r *Reader) scanNumber() string {
	start := r.pos
	for r.pos < len(r.text) {
		switch c := r.text[r.pos]; {
		case '0' <= c && c <= '9', c == '-', c == '+', c == '.', c == 'e', c == 'E':
			r.pos++
		default:
			return r.text[start:r.pos]
		}
	}
	return r.text[start:]
}

// ParseInteger reads an optional minus and digits without a leading zero, up to MaxInteger.
func ParseInteger(literal string) (n int64, exact bool) {
	digits := strings.TrimPrefix(literal, "-")
	if digits == "" || len(digits) > len("9007199254740991") || (digits[0] == '0' && len(digits) > 1) {
		return 0, false
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(digits[i]-'0')
	}
	if len(digits) < len(literal) {
		n = -n
	}
	return n, -MaxInteger <= n && n <= MaxInteger
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	if c := r.peek(); c != 't' && c != 'f' {
		r.expect('t', "true or false")
		return false
	}
	for _, word := range [...]string{"true", "false"} {
		if r.err == nil && strings.HasPrefix(r.text[r.pos:], word) {
			r.pos += len(word)
			return word == "true"
		}
	}
	r.syntax("expected true or false")
	return false
}

// Time reads an instant of RFC 3339, such as 2026-11-22T10:00:00Z.
func (r *Reader) Time() time.Time {
	text := r.String()
	if r.err != nil {
		return time.Time{}
	}
	at, ok := ParseTime(text)
	if !ok {
		r.fail(WrongTime)
	}
	return at
}

// WrongTime says what is wrong with a text that ParseTime refuses.
const WrongTime = "is not a time of RFC 3339, such as 2026-11-22T10:00:00Z"

// ParseTime reads an instant of RFC 3339. It refuses what time.Parse lets pass: an hour of one digit, a comma before the
// fraction, a zone beyond a day.
func ParseTime(text string) (at time.Time, ok bool) {
	const seconds, zone = len("2006-01-02T15:04:05"), len("+00:00")
	if len(text) <= seconds || text[len("2006-01-02T15")] != ':' || text[seconds] == ',' {
		return at, false
	}
	if text[len(text)-1] != 'Z' && text[len(text)-zone+1:] >= "24:00" {
		return at, false
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	return at, err == nil
}

// String reads a string, which must not be empty: what is not known is left out.
func (r *Reader) String() string {
	if !r.expect('"', "a string") {
		return ""
	}
	text := r.scanString()
	if r.err == nil && text == "" {
		r.fail("is empty")
	}
	return text
}

// expect reports whether the next value begins with c; if not, it says what there is instead.
func (r *Reader) expect(c byte, what string) bool {
	if r.err != nil {
		return false
	}
	found := r.peek()
	if found == c {
		return true
	}
	switch {
	case found == '"':
		r.fail("is a string, not " + what)
	case found == '{':
		r.fail("is an object, not " + what)
	case found == '[':
		r.fail("is an array, not " + what)
	case found == 't', found == 'f':
		r.fail("is a boolean, not " + what)
	case found == 'n':
		r.fail("is null, not " + what + "; leave out what is not known")
	case found == '-', '0' <= found && found <= '9':
		r.fail("is a number, not " + what)
	default:
		r.syntax("expected " + what)
	}
	return false
}

// fail refuses the part of the text that is being read.
func (r *Reader) fail(detail string) {
	if r.err == nil {
		r.err = &Error{[]Problem{{r.pointer(), detail}}}
	}
}

// syntax refuses the text because it is not JSON.
func (r *Reader) syntax(detail string) {
	if r.err == nil {
		r.err = &Error{[]Problem{{"", "is not JSON: " + detail + " at byte " + strconv.Itoa(r.pos)}}}
	}
}

// pointer is the JSON pointer to what is being read.
func (r *Reader) pointer() string {
	var b strings.Builder
	for i := range r.depth {
		f := &r.open[i]
		switch {
		case f.count == 0: // its first part has not begun
		case f.object:
			b.WriteString("/" + escape(excerpt(f.name)))
		default:
			b.WriteString("/" + strconv.Itoa(f.count-1))
		}
	}
	return b.String()
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func escape(name string) string { return pointerEscapes.Replace(name) }

// excerpt is the beginning of text, whole characters only.
func excerpt(text string) string {
	if len(text) <= maxExcerpt {
		return text
	}
	n := maxExcerpt
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
