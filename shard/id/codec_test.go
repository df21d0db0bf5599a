package id

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const holdText = "hold_01hf7yat00g40b3c0020a007ws"

func TestNewCodecRefuses(t *testing.T) {
	key := []byte(testKey)
	for name, c := range map[string]struct {
		keys    map[uint8][]byte
		current uint8
	}{
		"no keys":                 {nil, 1},
		"format 0":                {map[uint8][]byte{0: key, 1: key}, 1},
		"format 8":                {map[uint8][]byte{8: key, 1: key}, 1},
		"short key":               {map[uint8][]byte{1: key[:minKeyLen-1]}, 1},
		"current without key":     {map[uint8][]byte{1: key}, 2},
		"current 0":               {map[uint8][]byte{1: key}, 0},
		"current beyond the keys": {map[uint8][]byte{1: key}, 255},
	} {
		if _, err := NewCodec(c.keys, c.current); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The codec must keep its own copy of a key: the caller may wipe his.
func TestNewCodecCopiesKeys(t *testing.T) {
	key := []byte(testKey)
	codec, err := NewCodec(map[uint8][]byte{1: key}, 1)
	if err != nil {
		t.Fatal(err)
	}
	clear(key)
	if _, err := codec.Parse(Hold, holdText); err != nil {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	codec := testCodec(t)
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"empty", "", ErrMalformed},
		{"no word", "_01hf7yat00g40b3c0020a007ws", ErrMalformed},
		{"body only", "01hf7yat00g40b3c0020a007ws", ErrMalformed},
		{"unknown word", "hole_01hf7yat00g40b3c0020a007ws", ErrMalformed},
		{"word in upper case", "Hold_01hf7yat00g40b3c0020a007ws", ErrMalformed},
		{"body in upper case", "hold_01HF7YAT00G40B3C0020A007WS", ErrMalformed},
		{"one character short", holdText[:len(holdText)-1], ErrMalformed},
		{"one character long", holdText + "0", ErrMalformed},
		{"other separator", "hold-01hf7yat00g40b3c0020a007ws", ErrMalformed},
		{"space around", " " + holdText, ErrMalformed},
		{"letter i", "hold_0ihf7yat00g40b3c0020a007ws", ErrMalformed},
		{"letter l", "hold_0lhf7yat00g40b3c0020a007ws", ErrMalformed},
		{"letter o", "hold_o1hf7yat00g40b3c0020a007ws", ErrMalformed},
		{"letter u", "hold_01hf7yat00g40b3c0020a007wu", ErrMalformed},
		{"not ASCII", "hold_01hf7yat00g40b3c0020a007w\xff", ErrMalformed},
		{"more than 128 bits", "hold_81hf7yat00g40b3c0020a007ws", ErrMalformed},
		{"version 7", "hold_01hf7yat00e40b3c0020a007ws", ErrMalformed},
		{"variant 11", "hold_01hf7yat00g40f3c0020a007ws", ErrMalformed},
		{"format 0", "hold_01hf7yat00g00b3c0020a007ws", ErrMalformed},
		{"sixteen zero bytes", "hold_00000000000000000000000000", ErrMalformed},
		{"another kind", "coupon_01hf7yat00g40b3c0020a007ws", ErrForged},
		{"genuine, but another kind", "coupon_01hf7yat00g40b3c0020a0045r", ErrForged},
		{"wrong mac", "hold_01hf7yat00g40b3c0020a007wt", ErrForged},
		{"wrong seq", "hold_01hf7yat00g40b3c0020a00fws", ErrForged},
	} {
		if id, err := codec.Parse(Hold, c.text); !errors.Is(err, c.want) || id != (ID{}) {
			t.Errorf("%s: Parse(%q) = %v, %v, want %v", c.name, c.text, id, err, c.want)
		}
	}
}

func TestParseNeedsTheKeyOfTheFormat(t *testing.T) {
	codec, err := NewCodec(map[uint8][]byte{2: []byte(testKey)}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := codec.Parse(Hold, holdText); !errors.Is(err, ErrForged) { // format 1
		t.Errorf("without the key: %v, want ErrForged", err)
	}
	other, err := NewCodec(map[uint8][]byte{1: []byte("another key, of good length")}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Parse(Hold, holdText); !errors.Is(err, ErrForged) {
		t.Errorf("under another key: %v, want ErrForged", err)
	}
}

func TestParseOwnDoesNotAskForTheMAC(t *testing.T) {
	wrongMAC := holdText[:len(holdText)-1] + "t"
	if id, err := ParseOwn(Hold, wrongMAC); err != nil || testCodec(t).Text(Hold, id) != wrongMAC {
		t.Errorf("%v %v", id, err)
	}
	for _, text := range []string{"", holdText[1:], "hold_0ihf7yat00g40b3c0020a007ws", "coupon_01hf7yat00g40b3c0020a0045r"} {
		if _, err := ParseOwn(Hold, text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestKinds(t *testing.T) {
	for k := Hold; k.valid(); k++ {
		if got, ok := KindOf(k.String()); !ok || got != k {
			t.Errorf("KindOf(%q) = %v, %v", k, got, ok)
		}
		if len(k.String())+1+bodyLen > longestText {
			t.Errorf("%s: longer than longestText", k)
		}
	}
	for _, word := range []string{"", "user", "HOLD", "hold_", "kind(0)"} {
		if k, ok := KindOf(word); ok {
			t.Errorf("KindOf(%q) = %v", word, k)
		}
	}
	if got := Kind(0).String(); got != "kind(0)" {
		t.Errorf("the zero kind is called %q", got)
	}
}

// drawParts draws every field over its whole range.
func drawParts(t *rapid.T) parts {
	return parts{
		ms:        rapid.Uint64Range(0, maxMS).Draw(t, "ms"),
		format:    rapid.Uint8Range(firstFormat, lastFormat).Draw(t, "format"),
		site:      rapid.Uint8().Draw(t, "site"),
		bucket:    rapid.Uint16Range(0, MaxBucket).Draw(t, "bucket"),
		placement: rapid.Uint16Range(0, MaxPlacement).Draw(t, "placement"),
		node:      rapid.Uint16Range(0, MaxNode).Draw(t, "node"),
		seq:       rapid.Uint16Range(0, 1<<seqBits-1).Draw(t, "seq"),
	}
}

func TestFieldsSurviveTheRoundTrip(t *testing.T) {
	codec := testCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		p := drawParts(t)
		kind := Kind(rapid.Uint8Range(uint8(Hold), uint8(Webhook)).Draw(t, "kind"))
		id := assemble(p)
		id = id.withMAC(codec.macs[p.format].sum(kind, id))
		parsed, err := codec.Parse(kind, codec.Text(kind, id))
		if err != nil || parsed != id {
			t.Fatalf("parse: %v, %v", parsed, err)
		}
		got := parts{
			uint64(id.Time().UnixMilli()), id.Format(), id.Site(), id.Bucket(), id.Placement(), id.Node(), id.Seq(),
		}
		if got != p {
			t.Fatalf("fields %+v, want %+v", got, p)
		}
	})
}

// Bytes, text and time must sort alike within a bucket and a placement: indexes and cursors rely on it.
func TestOrder(t *testing.T) {
	codec := testCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawParts(t), drawParts(t)
		b.format, b.site, b.bucket, b.placement, b.node = a.format, a.site, a.bucket, a.placement, a.node
		if a.ms > b.ms || a.ms == b.ms && a.seq >= b.seq {
			t.Skip("not earlier")
		}
		first, second := assemble(a), assemble(b)
		if string(first[:]) >= string(second[:]) || codec.Text(Hold, first) >= codec.Text(Hold, second) {
			t.Fatalf("%+v sorts after %+v", a, b)
		}
	})
}

// One changed character must be refused 4,095 times in 4,096, wherever it stands. The draw is seeded, so the count is
// always the same; the bound is five standard deviations above the mean, and 0 would mean that the test does not reach
// the MAC at all.
func TestOneChangedCharacterIsRefused(t *testing.T) {
	codec := testCodec(t)
	random := rand.New(rand.NewPCG(1, 2))
	const ids = 400
	changed, accepted := 0, 0
	for range ids {
		id := codec.seal(Transfer, parts{
			ms:     random.Uint64N(maxMS),
			bucket: uint16(random.UintN(MaxBucket + 1)),
			node:   uint16(random.UintN(MaxNode + 1)),
			seq:    uint16(random.UintN(1 << seqBits)),
		})
		text := codec.Text(Transfer, id)
		body := len(text) - bodyLen
		for i := body; i < len(text); i++ {
			for _, c := range alphabet {
				if byte(c) == text[i] {
					continue
				}
				changed++
				if _, err := codec.Parse(Transfer, text[:i]+string(c)+text[i+1:]); err == nil {
					accepted++
				}
			}
		}
	}
	const mean, deviation = ids * bodyLen * 31 / 4096, 9 // √78
	if accepted == 0 || accepted > mean+5*deviation {
		t.Errorf("%d of %d changed ids were accepted, want about %d at most", accepted, changed, mean)
	}
}

func FuzzParse(f *testing.F) {
	codec := testCodec(f)
	f.Add(holdText)
	f.Add("hold_81hf7yat00g40b3c0020a007ws")
	f.Add("receipt_7zzzzzzzzzhzzvzzzzzzzzzy76")
	f.Add("_" + strings.Repeat("0", bodyLen))
	f.Fuzz(func(t *testing.T, text string) {
		fields, err := codec.Decode(text)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("Decode(%q): %v", text, err)
			}
			return
		}
		if got := codec.Text(fields.Kind, fields.ID); got != text {
			t.Fatalf("Decode(%q) reads what is written %q", text, got)
		}
		if _, err := codec.Parse(fields.Kind, text); (err == nil) != fields.Genuine {
			t.Fatalf("Decode(%q) says genuine = %v, Parse %v", text, fields.Genuine, err)
		}
	})
}

func FuzzText(f *testing.F) {
	codec := testCodec(f)
	f.Add(uint8(Hold), []byte("0123456789abcdef"))
	f.Add(uint8(Webhook), []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, kind uint8, bytes []byte) {
		k := Kind(kind)
		if len(bytes) != len(ID{}) || !k.valid() {
			t.Skip("no id")
		}
		fields, err := codec.Decode(codec.Text(k, ID(bytes)))
		if err != nil || fields.Kind != k || fields.ID != ID(bytes) {
			t.Fatalf("%s %x comes back as %+v, %v", k, bytes, fields, err)
		}
	})
}

func BenchmarkMint(b *testing.B) {
	minter := NewMinter(testCodec(b), time.Now)
	minter.Use(Grant{Mark: time.Now().Add(time.Hour)})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := minter.Mint(Hold, 12720, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMintParallel(b *testing.B) {
	minter := NewMinter(testCodec(b), time.Now)
	minter.Use(Grant{Mark: time.Now().Add(time.Hour)})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := minter.Mint(Hold, 12720, 1); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkText(b *testing.B) {
	codec := testCodec(b)
	id, err := codec.Parse(Hold, holdText)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = codec.Text(Hold, id)
	}
}

func BenchmarkParse(b *testing.B) {
	codec := testCodec(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := codec.Parse(Hold, holdText); err != nil {
			b.Fatal(err)
		}
	}
}
