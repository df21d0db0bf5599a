package id

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

const testKey = "statesvc-test-key-0123456789abcd"

// testCodec reads every legal format and mints under the first, all with the published test key.
func testCodec(t testing.TB) *Codec {
	t.Helper()
	keys := map[uint8][]byte{}
	for format := uint8(firstFormat); format <= lastFormat; format++ {
		keys[format] = []byte(testKey)
	}
	codec, err := NewCodec(keys, firstFormat)
	if err != nil {
		t.Fatal(err)
	}
	return codec
}

// The design's own vectors, so that the published file cannot drift either.
var designVectors = map[string]string{
	"hold_01hf7yat00g40b3c0020a007ws":    "018bcfe568008100b1b0001014001f99",
	"coupon_01hf7yat00g40b3c0020a0045r":  "018bcfe568008100b1b00010140010b8",
	"receipt_7zzzzzzzzzhzzvzzzzzzzzzy76": "ffffffffffff8fffbffffffffffff8e6",
}

type vector struct {
	kind  Kind
	parts parts
	bytes string
	text  string
}

func readVectors(t *testing.T) []vector {
	t.Helper()
	file, err := os.ReadFile("../../docs/vectors/ids.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	for line := range strings.Lines(string(file)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var v vector
		var word string
		_, err := fmt.Sscanf(line, "%s %d %d %d %d %d %d %d %s %s", &word, &v.parts.format, &v.parts.site, &v.parts.ms,
			&v.parts.bucket, &v.parts.placement, &v.parts.node, &v.parts.seq, &v.bytes, &v.text)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		kind, ok := KindOf(word)
		if !ok {
			t.Fatalf("%q: unknown kind", line)
		}
		v.kind = kind
		vectors = append(vectors, v)
	}
	return vectors
}

func TestVectors(t *testing.T) {
	codec := testCodec(t)
	mac := newMAC([]byte(testKey))
	seen := map[string]string{}
	kinds := map[Kind]bool{}
	for _, v := range readVectors(t) {
		seen[v.text] = v.bytes
		kinds[v.kind] = true

		id := assemble(v.parts)
		id = id.withMAC(mac.sum(v.kind, id))
		if got := hex.EncodeToString(id[:]); got != v.bytes {
			t.Errorf("%s: bytes %s, want %s", v.text, got, v.bytes)
		}
		if got := codec.Text(v.kind, id); got != v.text {
			t.Errorf("text %s, want %s", got, v.text)
		}

		fields, err := codec.Decode(v.text)
		legal := v.parts.format <= lastFormat
		got := parts{
			uint64(fields.Time.UnixMilli()), fields.Format, fields.Site, fields.Bucket, fields.Placement, fields.Node, fields.Seq,
		}
		if err != nil || fields.Kind != v.kind || fields.ID != id || got != v.parts || fields.Genuine != legal ||
			fields.Version != 8 || fields.Variant != 2 || fields.MAC != id.MAC() {
			t.Errorf("decode %s: %+v, %v", v.text, fields, err)
		}

		parsed, err := codec.Parse(v.kind, v.text)
		if legal && (err != nil || parsed != id) {
			t.Errorf("parse %s: %v, %v", v.text, parsed, err)
		}
		if !legal && !errors.Is(err, ErrMalformed) {
			t.Errorf("parse %s: %v, want ErrMalformed", v.text, err)
		}
	}
	for text, bytes := range designVectors {
		if seen[text] != bytes {
			t.Errorf("docs/vectors/ids.tsv says %q for %s, want %s", seen[text], text, bytes)
		}
	}
	if len(kinds) != len(prefixes)-1 {
		t.Errorf("docs/vectors/ids.tsv shows %d kinds of %d", len(kinds), len(prefixes)-1)
	}
}
