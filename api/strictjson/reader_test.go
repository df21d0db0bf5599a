package strictjson

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// order has every kind of member that the reader knows.
type order struct {
	Name  string    `json:"name"`
	Count int64     `json:"count"`
	Last  bool      `json:"last"`
	At    time.Time `json:"at"`
	Lines []line    `json:"lines"`
}

type line struct {
	ID     string `json:"id"`
	Amount int64  `json:"amount"`
}

func (o *order) ReadJSON(r *Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "name":
			o.Name = r.String()
		case "count":
			o.Count = r.Integer(-MaxInteger, MaxInteger)
		case "last":
			o.Last = r.Bool()
		case "at":
			o.At = r.Time()
		case "lines":
			for r.Array(); r.Element(); {
				o.Lines = append(o.Lines, line{})
				o.Lines[len(o.Lines)-1].ReadJSON(r)
			}
		default:
			r.Unknown()
		}
	}
	r.Require("name")
}

func (l *line) ReadJSON(r *Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "id":
			l.ID = r.String()
		case "amount":
			l.Amount = r.Integer(1, 1000)
		default:
			r.Unknown()
		}
	}
	r.Require("id", "amount")
}

func TestDecode(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 0, 0, 123456000, time.UTC)
	for text, want := range map[string]order{
		`{"name":"a"}`: {Name: "a"},
		"\t{ \"name\" : \"a\" ,\r\n \"count\" : -9007199254740991 } ": {Name: "a", Count: -MaxInteger},
		`{"count":9007199254740991,"last":true,"name":"a"}`:           {Name: "a", Count: MaxInteger, Last: true},
		`{"name":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é😀"}`:             {Name: "\"\\/\b\f\n\r\té😀é😀"},
		`{"n\u0061me":"a"}`: {Name: "a"},
		`{"name":"a","at":"2026-11-22T10:00:00.123456Z"}`:      {Name: "a", At: at},
		`{"name":"a","at":"2026-11-22T18:00:00.123456+08:00"}`: {Name: "a", At: at},
		`{"name":"a","lines":[]}`:                              {Name: "a"},
		`{"name":"a","lines":[{"id":"x","amount":1},{"amount":1000,"id":"y"}],"last":false}`: {
			Name: "a", Lines: []line{{"x", 1}, {"y", 1000}},
		},
		`{"name":"a","count":-0}`: {Name: "a"},
	} {
		var got order
		if err := Decode(text, &got); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                              ": is not JSON: expected an object at byte 0",
		"\x00":                          ": is not JSON: expected an object at byte 0",
		"\ufeff{}":                      ": is not JSON: expected an object at byte 0",
		"{\"name\":\"\xff\"}":           ": is not UTF-8",
		`[]`:                            ": is an array, not an object",
		`"a"`:                           ": is a string, not an object",
		`{`:                             ": is not JSON: expected a name in double quotes at byte 1",
		`{name:"a"}`:                    ": is not JSON: expected a name in double quotes at byte 1",
		`{"name"}`:                      ": is not JSON: expected a colon after the name at byte 7",
		`{"name":"a"`:                   ": is not JSON: expected a comma or } at byte 11",
		`{"name":"a",}`:                 ": is not JSON: there is nothing after the comma at byte 12",
		`{"name":"a"}{}`:                ": is not JSON: there is something after the value at byte 12",
		"{\"name\":\"a\"}\x00":          ": is not JSON: there is something after the value at byte 12",
		`{"name":"a" "count":1}`:        ": is not JSON: expected a comma or } at byte 12",
		`{}`:                            "/name: is missing",
		`{"Name":"a"}`:                  "/Name: is not known here",
		`{"name":"a","name":"b"}`:       "/name: appears twice",
		`{"name":"a","n\u0061me":"b"}`:  "/name: appears twice",
		`{"na/m~e":1}`:                  "/na~1m~0e: is not known here",
		`{"name":""}`:                   "/name: is empty",
		`{"name":null}`:                 "/name: is null, not a string; leave out what is not known",
		`{"name":nul}`:                  "/name: is null, not a string; leave out what is not known",
		`{"name":1}`:                    "/name: is a number, not a string",
		`{"name":"a`:                    ": is not JSON: a string does not end at byte 10",
		"{\"name\":\"a\nb\"}":           ": is not JSON: there is a control character in a string at byte 10",
		"{\"name\":\"\\ta\nb\"}":        ": is not JSON: there is a control character in a string at byte 12",
		`{"name":"\x"}`:                 ": is not JSON: there is no such escape at byte 9",
		`{"name":"\u00g0"}`:             ": is not JSON: there is no such escape at byte 9",
		`{"name":"\ud83d"}`:             ": is not JSON: there is no such escape at byte 9",
		`{"name":"\ude00\ud83d"}`:       ": is not JSON: there is no such escape at byte 9",
		`{"name":"\`:                    ": is not JSON: there is no such escape at byte 9",
		`{"name":"\t`:                   ": is not JSON: a string does not end at byte 11",
		`{"count":"1"}`:                 "/count: is a string, not an integer",
		`{"count":true}`:                "/count: is a boolean, not an integer",
		`{"count":1.0}`:                 "/count: 1.0 is not an integer, or is beyond 9007199254740991",
		`{"count":1e3}`:                 "/count: 1e3 is not an integer, or is beyond 9007199254740991",
		`{"count":01}`:                  "/count: 01 is not an integer, or is beyond 9007199254740991",
		`{"count":-}`:                   "/count: - is not an integer, or is beyond 9007199254740991",
		`{"count":+1}`:                  ": is not JSON: expected an integer at byte 9",
		`{"count":9007199254740992}`:    "/count: 9007199254740992 is not an integer, or is beyond 9007199254740991",
		`{"count":9223372036854775807}`: "/count: 9223372036854775807 is not an integer, or is beyond 9007199254740991",
		`{"count":` + strings.Repeat("9", 99) + `}`: "/count: " + strings.Repeat("9", 32) +
			"… is not an integer, or is beyond 9007199254740991",
		`{"last":1}`:                                   "/last: is a number, not true or false",
		`{"last":tru}`:                                 ": is not JSON: expected true or false at byte 8",
		`{"last":truex}`:                               ": is not JSON: expected a comma or } at byte 12",
		`{"at":"2026-11-22"}`:                          "/at: is not a time of RFC 3339, such as 2026-11-22T10:00:00Z",
		`{"at":"2026-11-22T10:00:00+24:00"}`:           "/at: is not a time of RFC 3339, such as 2026-11-22T10:00:00Z",
		`{"at":"2026-11-22T1:00:00Z"}`:                 "/at: is not a time of RFC 3339, such as 2026-11-22T10:00:00Z",
		`{"at":"2026-11-22T10:00:00,1Z"}`:              "/at: is not a time of RFC 3339, such as 2026-11-22T10:00:00Z",
		`{"at":1700000000}`:                            "/at: is a number, not a string",
		`{"lines":{}}`:                                 "/lines: is an object, not an array",
		`{"lines":[1]}`:                                "/lines/0: is a number, not an object",
		`{"lines":[{"id":"x","amount":1},]}`:           ": is not JSON: there is nothing after the comma at byte 32",
		`{"lines":[{"id":"x","amount":1},{"id":"x"}]}`: "/lines/1/amount: is missing",
		`{"lines":[{"id":"x","amount":0}]}`:            "/lines/0/amount: is less than 1",
		`{"lines":[{"id":"x","amount":1001}]}`:         "/lines/0/amount: is more than 1000",
	} {
		err := Decode(text, &order{})
		if !errors.Is(err, ErrInvalid) || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestDecodeNamesAllThatIsMissing(t *testing.T) {
	t.Parallel()
	var problems *Error
	if err := Decode(`{"lines":[{}]}`, &order{}); !errors.As(err, &problems) {
		t.Fatal(err)
	}
	want := []Problem{{"/lines/0/id", "is missing"}, {"/lines/0/amount", "is missing"}}
	if diff := cmp.Diff(want, problems.Problems); diff != "" {
		t.Error(diff)
	}
}

// nest reads arrays in arrays without an end.
type nest struct{}

func (n *nest) ReadJSON(r *Reader) {
	for r.Array(); r.Element(); {
		n.ReadJSON(r)
	}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	nested := func(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
	if err := Decode(nested(maxDepth), &nest{}); err != nil {
		t.Error(err)
	}
	if err := Decode(nested(maxDepth+1), &nest{}); err == nil {
		t.Error("an array too deep is read")
	}
}

// anything takes any member, as long as it is a number.
type anything struct{}

func (*anything) ReadJSON(r *Reader) {
	for r.Object(); r.Member(); {
		r.Integer(0, 0)
	}
}

func TestWidth(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range maxNames {
		b.WriteString(`,"` + strings.Repeat("x", i) + `":0`)
	}
	members := b.String()[1:]
	if err := Decode("{"+members+"}", &anything{}); err != nil {
		t.Error(err)
	}
	if err := Decode("{"+members+`,"y":0}`, &anything{}); err == nil {
		t.Error("an object too wide is read")
	}
}

func TestReadRequest(t *testing.T) {
	t.Parallel()
	read := func(contentType, body string, chunked bool) error {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		request.Header.Set("Content-Type", contentType)
		if chunked {
			request.ContentLength = -1
		}
		return ReadRequest(request, &order{})
	}
	long := `{"name":"` + strings.Repeat("x", MaxBody) + `"}`
	most := `{"name":"` + strings.Repeat("x", MaxBody-len(`{"name":""}`)) + `"}`
	for _, chunked := range []bool{false, true} {
		for _, kind := range []string{
			"application/json", "application/json; charset=utf-8", "application/JSON;charset=UTF-8", `application/json; charset="utf-8"`,
		} {
			if err := read(kind, `{"name":"a"}`, chunked); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
		for _, kind := range []string{"", "text/plain", "application/json; charset=latin1", "application/jsonl", "application/problem+json"} {
			if err := read(kind, `{"name":"a"}`, chunked); !errors.Is(err, ErrMediaType) {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if err := read("application/json", most, chunked); err != nil {
			t.Errorf("the largest body: %v", err)
		}
		if err := read("application/json", long, chunked); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a body that is too large: %v", err)
		}
		if err := read("application/json", "", chunked); !errors.Is(err, ErrInvalid) {
			t.Errorf("no body: %v", err)
		}
	}
}

// FuzzDecode compares with encoding/json: what is accepted is accepted there too, and means the same.
func FuzzDecode(f *testing.F) {
	f.Add(`{"name":"a\u00e9","count":-12,"last":true,"at":"2026-11-22T10:00:00.1+08:00","lines":[{"id":"x","amount":1}]}`)
	f.Add(`{"name":"\ud83d\ude00"}`)
	f.Add(`{"name":"a","name":"b"}`)
	f.Add(`{"name":"a"}x`)
	f.Fuzz(func(t *testing.T, text string) {
		var strict, lenient order
		if err := Decode(text, &strict); err != nil {
			return
		}
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&lenient); err != nil {
			t.Fatalf("%q is accepted, but: %v", text, err)
		}
		if len(lenient.Lines) == 0 {
			lenient.Lines = nil
		}
		if diff := cmp.Diff(lenient, strict); diff != "" {
			t.Fatalf("%q: %s", text, diff)
		}
	})
}

const sample = `{"name":"order-1001","count":12,"last":false,"at":"2026-11-22T10:00:00Z",` +
	`"lines":[{"id":"line-1","amount":500},{"id":"line-2","amount":299}]}`

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := Decode(sample, &order{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodingJSON(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := json.Unmarshal([]byte(sample), &order{}); err != nil {
			b.Fatal(err)
		}
	}
}
