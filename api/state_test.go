package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/state"
)

// declareProducts makes the kind of most of these tests, once.
var declareProducts = sync.OnceValue(func() error {
	r, err := shared()
	if err != nil {
		return err
	}
	schema := `{"properties":{"price":{"type":"integer","minimum":0}}}`
	_, err = r.Kinds.Declare(context.Background(), "product", state.Spec{Schema: []byte(schema)})
	return err
})

// newProduct returns a client with a document that nobody else has.
func newProduct(t *testing.T) (c *client, path string) {
	t.Helper()
	c = newClient(t, sharedRig(t), nil)
	if err := declareProducts(); err != nil {
		t.Fatal(err)
	}
	return c, "/v1/state/product/" + c.owner
}

// write puts a document or a kind.
func (c *client) write(path, body string, headers ...header) answer {
	c.t.Helper()
	return c.send(http.MethodPut, path, body, headers...)
}

func ifMatch(tag string) header     { return header{"If-Match", tag} }
func ifNoneMatch(tag string) header { return header{"If-None-Match", tag} }

func (a answer) tag() string { return a.header.Get("ETag") }

// mergePatch sends a merge patch.
func (c *client) mergePatch(path, body string, headers ...header) answer {
	c.t.Helper()
	return c.send(http.MethodPatch, path, body, append(headers, header{"Content-Type", "application/merge-patch+json"})...)
}

func TestDocumentOverHTTP(t *testing.T) {
	t.Parallel()
	c, path := newProduct(t)
	missing := c.get(path)
	missing.refused(404, "not-found")
	if missing.header.Get("Consistency-Token") == "" {
		t.Error("what does not exist has no token")
	}
	made := c.write(path, ` { "price" : 1999 , "note": null, "weight": 1.50 } `, ifNoneMatch("*")).is(201)
	got := c.get(path).is(200)
	if got.body != `{"price":1999,"note":null,"weight":1.50}` || got.tag() != made.tag() || made.tag() == "" {
		t.Errorf("%s with %s, made with %s", got.body, got.tag(), made.tag())
	}
	for _, name := range []string{"Cache-Status", "Consistency-Token", "Age"} {
		if got.header.Get(name) == "" {
			t.Errorf("there is no %s", name)
		}
	}
	changed := c.mergePatch(path, `{"price":1499,"note":null}`, ifMatch(made.tag())).is(200)
	token := header{"Consistency-Token", changed.header.Get("Consistency-Token")}
	if got := c.send(http.MethodGet, path, "", token).is(200); got.body != `{"price":1499,"weight":1.50}` {
		t.Errorf("after the patch: %s", got.body)
	}
	c.send(http.MethodDelete, path, "", ifMatch(changed.tag()), header{"Content-Type", ""}).is(200)
	c.get(path+"?consistency=strong").refused(404, "not-found")
	c.get(path+"?consistency=eventual").refused(404, "not-found")
}

// TestETags goes through the preconditions of RFC 9110.
func TestETags(t *testing.T) {
	t.Parallel()
	c, path := newProduct(t)
	c.write(path, `{}`).refused(428, "precondition-required")
	c.write(path, `{}`, ifMatch("*")).refused(412, "precondition-failed")
	first := c.write(path, `{}`, ifNoneMatch("*")).is(201)
	refused := c.write(path, `{}`, ifNoneMatch("*"))
	refused.refused(412, "precondition-failed")
	if !strings.Contains(refused.body, `"version":`+first.tag()) {
		t.Errorf("the refusal does not say %s: %s", first.tag(), refused.body)
	}
	second := c.write(path, `{"price":1}`, ifMatch(first.tag())).is(200)
	c.write(path, `{"price":2}`, ifMatch(first.tag())).refused(412, "precondition-failed")
	third := c.write(path, `{"price":3}`, ifMatch("*")).is(200)
	if first.tag() == second.tag() || second.tag() == third.tag() {
		t.Error("an ETag comes twice")
	}
	c.send(http.MethodDelete, path, "", header{"Content-Type", ""}).refused(428, "precondition-required")

	strongly := path + "?consistency=strong"
	for tags, status := range map[string]int{
		third.tag(): 304, "W/" + third.tag(): 304, first.tag(): 200, first.tag() + ", " + third.tag(): 304, "*": 304,
	} {
		a := c.send(http.MethodGet, strongly, "", ifNoneMatch(tags)).is(status)
		if a.tag() != third.tag() || (status == 304) != (a.body == "") {
			t.Errorf("If-None-Match %s: ETag %s, body %q", tags, a.tag(), a.body)
		}
	}

	key := header{"Idempotency-Key", newKey()}
	once := c.write(path, `{"price":4}`, ifMatch(third.tag()), key).is(200)
	again := c.write(path, `{"price":4}`, ifMatch(third.tag()), key).is(200)
	if again.body != once.body || again.tag() != once.tag() || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the repeat says %s %s", again.tag(), again.body)
	}
	c.write(path, `{"price":5}`, ifMatch(third.tag()), key).refused(422, "key-reused").at("/document")
}

// TestBadDocuments: what is malformed is refused before anything is looked up.
func TestBadDocuments(t *testing.T) {
	t.Parallel()
	c, path := newProduct(t)
	deep := strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40)
	for _, body := range []string{
		``, `1`, `[]`, `null`, `"x"`, `{`, `{"a":1,"a":2}`, `{"x":{"a":1,"a":2}}`, `{"a":1}{}`, `{"a":1}x`, `{"a":01}`, `{"a":1,}`,
		"{\"a\":\"\xff\"}", deep, `{"price":-1}`, `{"price":1.5}`, `{"price":"1"}`,
	} {
		if p := c.write(path, body, ifNoneMatch("*")).refused(400, "invalid-request"); p.Outcome != "none" {
			t.Errorf("%.40s: outcome %s", body, p.Outcome)
		}
	}
	c.write(path, `{"price":-1}`, ifNoneMatch("*")).refused(400, "invalid-request").at("/price")
	c.write(path, `{"x":"`+strings.Repeat("x", state.DocumentMax)+`"}`, ifNoneMatch("*")).refused(413, "too-large")
	c.write(path, `{}`, ifNoneMatch("*"), header{"Content-Type", "text/plain"}).refused(415, "unsupported-media-type")
	c.send(http.MethodPatch, path, `{}`, ifMatch("*")).refused(415, "unsupported-media-type")

	for _, tag := range []string{"1.2", `"x"`, `"1.2`, `W/"1.2"`, `"1.2","1.3"`, `"0.0"`, `"1.99999999999999999999"`, `"1.2"x`, "**"} {
		c.write(path, `{}`, ifMatch(tag)).refused(400, "invalid-request").at("If-Match")
	}
	c.write(path, `{}`, ifMatch("*"), ifNoneMatch("*")).refused(400, "invalid-request")
	c.write(path, `{}`, ifNoneMatch(`"1.2"`)).refused(400, "invalid-request")
	c.send(http.MethodGet, path, "", ifNoneMatch("garbage")).refused(400, "invalid-request")

	for _, id := range []string{"a b", "a\x00b", "a\x7f", "ä", strings.Repeat("x", 63), strings.Repeat("x", 4096), "a,b", "a*"} {
		c.write("/v1/state/product/"+url.PathEscape(id), `{}`, ifNoneMatch("*")).refused(400, "invalid-request").at("id")
		c.get("/v1/state/product/"+url.PathEscape(id)).refused(400, "invalid-request")
	}
	c.write("/v1/state/product/a/b", `{}`, ifNoneMatch("*")).refused(404, "no-route")
	c.write("/v1/state/Product/a", `{}`, ifNoneMatch("*")).refused(400, "invalid-request").at("kind")
	c.write("/v1/state/nobody/a", `{}`, ifNoneMatch("*")).refused(404, "not-found")

	c.get(path+"?consistency=quick").refused(400, "invalid-request").at("consistency")
	c.send(http.MethodGet, path, "", header{"Consistency-Token", "garbage"}).refused(400, "invalid-request").at("Consistency-Token")
	c.write(path, `{}`, ifNoneMatch("*"), header{"Authorization", "Bearer " + c.rig.Tokens[access.ScopeHold]}).refused(403, "forbidden")
	c.write(path, `{}`, ifNoneMatch("*"), header{"Idempotency-Key", ""}).refused(400, "invalid-request")
}

// A token of another document says nothing of this one, and one of the future is no promise that there is anything newer.
func TestForeignTokens(t *testing.T) {
	t.Parallel()
	c, path := newProduct(t)
	other, theirs := newProduct(t)
	c.write(path, `{"price":1}`, ifNoneMatch("*")).is(201)
	foreign := other.write(theirs, `{}`, ifNoneMatch("*")).is(201).header.Get("Consistency-Token")
	a := c.send(http.MethodGet, path, "", header{"Consistency-Token", foreign}).is(200)
	if a.body != `{"price":1}` || !strings.Contains(a.header.Get("Cache-Status"), "fwd=request") {
		t.Errorf("%s, %s", a.body, a.header.Get("Cache-Status"))
	}
	c.send(http.MethodGet, path+"?consistency=eventual", "", header{"Consistency-Token", foreign}).refused(400, "invalid-request")
}

func TestListsOfDocuments(t *testing.T) {
	t.Parallel()
	c, _ := newProduct(t)
	kind := fmt.Sprintf("list%d", numbers.Add(1))
	if _, err := c.rig.Kinds.Declare(t.Context(), kind, state.Spec{}); err != nil {
		t.Fatal(err)
	}
	const n = 25
	for i := range n {
		c.write(fmt.Sprintf("/v1/state/%s/d%d", kind, i), fmt.Sprintf(`{"n":%d}`, i), ifNoneMatch("*")).is(201)
	}
	c.send(http.MethodDelete, "/v1/state/"+kind+"/d3", "", ifMatch("*"), header{"Content-Type", ""}).is(200)
	type list struct {
		Documents []struct {
			ID, Version string
			Document    struct{ N int }
		}
		Missing    []string
		NextCursor string `json:"next_cursor"`
	}
	seen := map[string]int{}
	path := "/v1/state/" + kind + "?limit=7"
	for next := path; next != ""; {
		page := read[list](c.get(next).is(200))
		for _, d := range page.Documents {
			seen[d.ID]++
			if d.ID != fmt.Sprint("d", d.Document.N) || d.Version == "" {
				t.Errorf("%+v", d)
			}
		}
		next = ""
		if page.NextCursor != "" {
			next = path + "&cursor=" + page.NextCursor
		}
	}
	if len(seen) != n-1 || seen["d3"] != 0 || seen["d4"] != 1 {
		t.Errorf("the list has %v", seen)
	}
	batch := read[list](c.get("/v1/state/" + kind + "?ids=d1,d3,d9,none").is(200))
	if len(batch.Documents) != 2 || strings.Join(batch.Missing, " ") != "d3 none" {
		t.Errorf("%+v", batch)
	}
	many := strings.TrimSuffix(strings.Repeat("d1,", 201), ",")
	c.get("/v1/state/"+kind+"?ids="+many).refused(400, "invalid-request").at("ids")
	c.get("/v1/state/"+kind+"?ids=d1,,d2").refused(400, "invalid-request").at("ids")
	c.get("/v1/state/"+kind+"?ids=d1&limit=3").refused(400, "invalid-request").at("ids")
	c.get("/v1/state/"+kind+"?cursor=abc").refused(400, "invalid-request").at("cursor")
	c.get("/v1/state/"+kind+"?limit=0").refused(400, "invalid-request").at("limit")
	c.get("/v1/state/Nope?ids=a").refused(400, "invalid-request").at("kind")
}

func TestKindsOverHTTP(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	kind := fmt.Sprintf("kind%d", numbers.Add(1))
	path := "/v1/admin/kinds/" + kind
	for _, body := range []string{
		`{"schema":{"type":"nonsense"}}`, `{"schema":[]}`, `{"schema":{"$ref":"https://example.com/x"}}`, `{"max_bytes":1}`,
		`{"max_bytes":64001}`, `{"unknown":1}`, `[]`,
	} {
		c.write(path, body).refused(400, "invalid-request")
	}
	c.write("/v1/admin/kinds/Nope", `{}`).refused(400, "invalid-request").at("kind")
	made := c.write(path, `{"schema":{"type":"object"},"max_bytes":100,"intent":true}`).is(200)
	if want := fmt.Sprintf(`{"kind":%q,"schema":{"type":"object"},"max_bytes":100,"intent":true}`, kind); made.body != want {
		t.Errorf("%s, want %s", made.body, want)
	}
	if list := c.get("/v1/admin/kinds").is(200); !strings.Contains(list.body, made.body) {
		t.Errorf("the list lacks it: %s", list.body)
	}
	c.write("/v1/state/"+kind+"/a", `{"announced":true}`, ifNoneMatch("*")).is(201)
	c.get("/v1/state/" + kind + "/a").is(200)
}
