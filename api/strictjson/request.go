package strictjson

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
)

// MaxBody is the most bytes that a body may have. The largest hold, 200 lines and 50 items, has less than a tenth.
const MaxBody = 1 << 20

var (
	// ErrTooLarge says that the body has more bytes than are taken.
	ErrTooLarge = errors.New("the body is too large")
	// ErrMediaType says that the body is not application/json in UTF-8.
	ErrMediaType = errors.New("the body must be application/json")
)

// Sized is a Value whose body may have another size than MaxBody.
type Sized interface {
	Value
	MaxBody() int
}

// buffers are reused, because reading into a fresh one costs more than reading the JSON.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

type buffer struct{ bytes []byte }

// keptBuffer is the largest buffer that goes back to the pool: a rare large body must not stay in memory.
const keptBuffer = 64 << 10

// OwnMediaType is a Value whose media type is another than application/json.
type OwnMediaType interface{ MediaType() string }

// ReadRequest reads the body of a request into v.
func ReadRequest(request *http.Request, v Value) error {
	if !hasMediaType(request.Header.Get("Content-Type"), v) {
		return ErrMediaType
	}
	most := MaxBody
	if sized, ok := v.(Sized); ok {
		most = sized.MaxBody()
	}
	if request.ContentLength > int64(most) {
		return fmt.Errorf("%w: it has %d bytes, at most %d are taken", ErrTooLarge, request.ContentLength, most)
	}
	text, err := readAll(request.Body, request.ContentLength, most)
	if err != nil {
		return err
	}
	return Decode(text, v)
}

// readAll returns the whole body as a string of its own, so that what is decoded can point into it.
func readAll(body io.Reader, length int64, most int) (string, error) {
	b := buffers.Get().(*buffer)
	defer func() {
		if cap(b.bytes) <= keptBuffer {
			buffers.Put(b)
		}
	}()
	if need := int(length) + 1; cap(b.bytes) < need { // one more, so that the end is seen without growing
		b.bytes = make([]byte, 0, max(need, 512))
	}
	b.bytes = b.bytes[:0]
	for {
		if len(b.bytes) == cap(b.bytes) {
			b.bytes = append(b.bytes, 0)[:len(b.bytes)]
		}
		n, err := body.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case len(b.bytes) > most:
			return "", fmt.Errorf("%w: at most %d bytes are taken", ErrTooLarge, most)
		case errors.Is(err, io.EOF):
			return string(b.bytes), nil
		case err != nil:
			return "", &Error{[]Problem{{Detail: "ended early"}}}
		}
	}
}

// hasMediaType accepts the media type of v, and UTF-8 as its only charset.
func hasMediaType(contentType string, v Value) bool {
	want := "application/json"
	if own, ok := v.(OwnMediaType); ok {
		want = own.MediaType()
	}
	if contentType == want {
		return true
	}
	kind, parameters, err := mime.ParseMediaType(contentType)
	charset, named := parameters["charset"]
	return err == nil && kind == want && (!named || strings.EqualFold(charset, "utf-8"))
}
