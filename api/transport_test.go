package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

func TestNoRouteAndNoMethod(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	for _, path := range []string{"/", "/v1", "/v1/nothing", "/v1/holds/", "/v2/holds", "/problems/nothing", "/metrics"} {
		c.get(path).refused(404, "no-route")
	}
	reply := c.send(http.MethodDelete, "/v1/holds", "")
	reply.refused(405, "method-not-allowed")
	if allow := reply.header.Get("Allow"); allow != "GET, POST" && allow != "POST, GET" {
		t.Errorf("Allow: %q", allow)
	}
	c.send(http.MethodHead, "/v1/holds", "").is(405)
	c.send("BREW", "/v1/ids", "").refused(405, "method-not-allowed")
}

func TestWho(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	c := newClient(t, r, nil)
	path := "/v1/owners/" + c.owner
	token := r.Tokens[access.ScopeRead]
	for _, value := range []string{
		"", "Bearer", "Bearer ", token, "Basic " + token, "Bearer ss_0_0", "Bearer " + token + "0", "Bearer " + strings.ToUpper(token),
	} {
		reply := c.send(http.MethodGet, path, "", header{"Authorization", value})
		reply.refused(401, "unauthenticated")
		if reply.header.Get("Www-Authenticate") != "Bearer" {
			t.Error("no WWW-Authenticate")
		}
	}
	c.send(http.MethodGet, path, "", header{"Authorization", "bearer " + token}).is(200)
	c.send(http.MethodGet, path, "", header{"Authorization", "Bearer " + r.Tokens[access.ScopeAdmin]}).refused(403, "forbidden")
	key, dead, err := r.Keys.Create(t.Context(), access.Spec{Name: "x", Scopes: access.ScopeRead, Rate: access.Rate{PerSecond: 1, Burst: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Keys.Revoke(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	c.send(http.MethodGet, path, "", header{"Authorization", "Bearer " + dead}).refused(401, "unauthenticated")
}

// TestEveryOperationNeedsItsScope: no key that has all other scopes gets in.
func TestEveryOperationNeedsItsScope(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	c := newClient(t, r, nil)
	all := access.ScopeRead | access.ScopeHold | access.ScopeIssue | access.ScopeState | access.ScopeAdmin
	for _, o := range operations(t) {
		needed, err := access.ParseScopes([]string{o.Scope})
		if err != nil {
			t.Fatal(err)
		}
		_, token, err := r.Keys.Create(t.Context(), access.Spec{Name: "x", Scopes: all &^ needed, Rate: access.Rate{PerSecond: 1, Burst: 1}})
		if err != nil {
			t.Fatal(err)
		}
		path := strings.NewReplacer("{", "", "}", "").Replace(o.path)
		c.send(o.method, path, "{", header{"Authorization", "Bearer " + token}).refused(403, "forbidden")
		c.send(o.method, path, "{", header{"Authorization", ""}).refused(401, "unauthenticated")
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	var now sync.Map
	now.Store("now", time.Now())
	c := newClient(t, r, func(config *api.Config) {
		config.Now = func() time.Time { v, _ := now.Load("now"); return v.(time.Time) }
	})
	_, token, err := r.Keys.Create(t.Context(), access.Spec{Name: "x", Scopes: access.ScopeRead, Rate: access.Rate{PerSecond: 2, Burst: 3}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() answer {
		return c.send(http.MethodGet, "/v1/owners/"+c.owner, "", header{"Authorization", "Bearer " + token})
	}
	for left := 2; left >= 0; left-- {
		reply := ask().is(200)
		want := fmt.Sprintf(`"default";q=3;w=2 "default";r=%d;t=%d`, left, (3-left+1)/2)
		if got := reply.header.Get("RateLimit-Policy") + " " + reply.header.Get("RateLimit"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	ask().refused(429, "rate-limited")
	v, _ := now.Load("now")
	now.Store("now", v.(time.Time).Add(500*time.Millisecond))
	ask().is(200)
	ask().refused(429, "rate-limited")
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	for _, key := range []string{"", " ", "a b", `"a`, `""`, "ä", strings.Repeat("x", 65), `"` + strings.Repeat("x", 65) + `"`, "a/b"} {
		c.hold("o", cny(1), header{"Idempotency-Key", key}).refused(400, "invalid-request").at("Idempotency-Key")
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/holds", strings.NewReader("{}"))
	r.Header = http.Header{"Idempotency-Key": {"a", "b"}, "Authorization": {"Bearer " + c.rig.Tokens[access.ScopeHold]}}
	recorder := httptest.NewRecorder()
	c.handler.ServeHTTP(recorder, r)
	answer{t, recorder.Code, recorder.Header(), recorder.Body.String()}.refused(400, "invalid-request").at("Idempotency-Key")
	// Keys of unusual length and with unusual characters reach the ledger.
	for _, key := range []string{"a", strings.Repeat("x", 64), `"a.b_c:d-e"`} {
		c.hold("o", cny(1), header{"Idempotency-Key", key}).refused(409, "insufficient")
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.post("/v1/holds", `{"owner":"a"}`, header{"Content-Type", "text/plain"}).refused(415, "unsupported-media-type")
	c.post("/v1/holds", `{"owner":"a"}`, header{"Content-Type", ""}).refused(415, "unsupported-media-type")
	c.post("/v1/holds", `{"owner":"`+strings.Repeat("a", 1<<20)+`"}`).refused(413, "too-large")
	for body, pointer := range map[string]string{
		"": "", "{": "", "null": "", "[]": "", `{"owner":"a","owner":"a"}`: "/owner", `{"Owner":"a"}`: "/Owner", `{} {}`: "/owner",
		`{"owner":"a","order_id":"o","items":[]} 1`: "",
		`{"owner":"a","order_id":"o"}`:              "/items", `{"owner":"a","order_id":"o","items":[],"x":1}`: "/x",
		"{\"owner\":\"\xff\"}": "", `{"owner":1,"order_id":"o","items":[]}`: "/owner",
	} {
		p := c.post("/v1/holds", body).refused(400, "invalid-request")
		p.at(pointer)
		if p.Outcome != "none" || p.Retryable {
			t.Errorf("%q: %+v", body, p)
		}
	}
}

// TestC27C28Amounts sends every bad amount to every member that is an amount or a count.
func TestC27C28Amounts(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	money := `{"amount":%s,"currency":"CNY"}`
	hold := `{"owner":"o","order_id":"o","lines":[{"line_id":"l","amount":{"amount":5,"currency":"CNY"}}],"items":[%s]}`
	issue := `{"owner":"o","issue_ref":"r","expires_at":"` + inAnHour() + `","discount":%s}`
	for _, field := range []struct{ path, body, pointer string }{
		{"/v1/holds", fmt.Sprintf(hold, `{"kind":"money","amount":`+money+`}`), "/items/0/amount/amount"},
		{"/v1/holds", `{"owner":"o","order_id":"o","attempt":%s,"items":[{"kind":"money","amount":{"amount":1,"currency":"CNY"}}]}`, "/attempt"},
		{"/v1/holds", `{"owner":"o","order_id":"o","ttl_ms":%s,"items":[{"kind":"money","amount":{"amount":1,"currency":"CNY"}}]}`, "/ttl_ms"},
		{"/v1/holds/cancel", `{"owner":"o","order_id":"o","attempt":%s}`, "/attempt"},
		{"/v1/ids", `{"owner":"o","count":%s}`, "/count"},
		{"/v1/owners/o/lots", `{"issue_ref":"r","source":"s","expires_at":"` + inAnHour() + `","amount":` + money + `}`, "/amount/amount"},
		{"/v1/campaigns/c/issues", fmt.Sprintf(issue, `{"kind":"FIXED","amount":`+money+`}`), "/discount/amount/amount"},
		{"/v1/campaigns/c/issues", fmt.Sprintf(issue, `{"kind":"PERCENT","currency":"CNY","basis_points":%s}`), "/discount/basis_points"},
		{"/v1/campaigns/c/issues", fmt.Sprintf(issue, `{"kind":"PERCENT","basis_points":1,"cap":`+money+`}`), "/discount/cap/amount"},
		{"/v1/campaigns/c/issues", fmt.Sprintf(issue, `{"kind":"PERCENT","basis_points":1,"min_spend":`+money+`}`), "/discount/min_spend/amount"},
	} {
		for _, bad := range []string{
			"0", "-1", "1.1", "1.0", "1e3", `"100"`, "9007199254740993", "9223372036854775807", "9223372036854775808", "null", "true", "[1]",
		} {
			c.post(field.path, fmt.Sprintf(field.body, bad)).refused(400, "invalid-request").at(field.pointer)
		}
	}
	// Sums that pass 2^53−1 are refused, and not rounded.
	most := `{"kind":"money","amount":{"amount":9007199254740991,"currency":"CNY"}}`
	c.hold("o", most+","+cny(1)).refused(400, "invalid-request").at("/items/1/amount/amount")
	c.hold("o", most).refused(409, "insufficient")
}

// TestWrongRequests: what is well-formed JSON and still makes no sense, with the pointer to it.
func TestWrongRequests(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	coupon := c.coupon(`{"kind":"PERCENT","basis_points":1,"currency":"CNY"}`).CouponID
	lot := c.money(1).Lot.LotID
	for items, pointer := range map[string]string{
		`{"kind":"coin"}`: "/items/0/kind", `{"kind":"money"}`: "/items/0/amount/amount",
		`{"kind":"money","all":true}`: "/items/0/currency", `{"kind":"money","all":true,"currency":"ABC"}`: "/items/0/currency",
		`{"kind":"money","all":true,"currency":"CNY","amount":{"amount":1,"currency":"CNY"}}`: "/items/0/amount",
		`{"kind":"money","currency":"CNY","amount":{"amount":1,"currency":"CNY"}}`:            "/items/0/currency",
		`{"kind":"money","amount":{"amount":1,"currency":"cny"}}`:                             "/items/0/amount/currency",
		`{"kind":"coupon"}`: "/items/0/coupon_id", `{"kind":"coupon","coupon_id":"x"}`: "/items/0/coupon_id",
		cny(1) + `,{"kind":"coupon","coupon_id":"coupon_!"}`:               "/items/1/coupon_id",
		`{"kind":"money","tag":"","amount":{"amount":1,"currency":"CNY"}}`: "/items/0/tag",
	} {
		c.hold("o", items).refused(400, "invalid-request").at(pointer)
	}
	c.hold("o", `{"kind":"coupon","coupon_id":"`+lot+`"}`).refused(404, "not-found").at("/items/0/coupon_id")
	c.with("somebody-else").hold("o", `{"kind":"coupon","coupon_id":"`+coupon+`"}`).refused(404, "not-found").at("/items/0/coupon_id")
	issue := func(discount, rest string) answer {
		return c.post("/v1/campaigns/c/issues", fmt.Sprintf(`{"owner":"o","issue_ref":"r","discount":%s%s}`, discount, rest))
	}
	expires := `,"expires_at":"` + inAnHour() + `"`
	issue(`{"kind":"FIXED"}`, expires).refused(400, "invalid-request").at("/discount/currency")
	issue(`{"kind":"FIXED","amount":{"amount":1,"currency":"CNY"},"min_spend":{"amount":1,"currency":"USD"}}`, expires).
		refused(400, "invalid-request").at("/discount/min_spend/currency")
	issue(`{"kind":"FIXED","amount":{"amount":1,"currency":"ABC"}}`, expires).
		refused(400, "invalid-request").at("/discount/amount/currency")
	issue(`{"kind":"FIXED","amount":{"amount":1,"currency":"CNY"}}`, "").refused(400, "invalid-request").at("/expires_at")
	issue(`{"kind":"FIXED","amount":{"amount":1,"currency":"CNY"}}`, `,"expires_at":"tomorrow"`).
		refused(400, "invalid-request").at("/expires_at")
	issue(`{"kind":"HALF","currency":"CNY"}`, expires).refused(400, "invalid-request").at("/discount/kind")
}

// TestC51Parameters sends hostile text to every parameter there is.
func TestC51Parameters(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	hostile := []string{
		"'%20OR%201=1--", "%27;DROP%20TABLE%20lots", "1)%20UNION", "%3Cscript%3E", "%00", "%0d%0aX:%20y", "%ff", strings.Repeat("A", 1<<20),
	}
	for _, o := range operations(t) {
		if o.method != http.MethodGet {
			continue
		}
		path := strings.NewReplacer("{owner}", c.owner, "{key}", "k", "{", "", "}", "").Replace(o.path)
		for _, name := range o.parameters {
			for _, text := range hostile {
				required := ""
				if name != "owner" && o.path == "/v1/holds" {
					required = "&owner=" + c.owner
				}
				reply := c.get(path + "?" + name + "=" + text + required)
				if reply.status != 400 && reply.status != 404 && (reply.status != 200 || strings.Contains(reply.body, "DROP")) {
					t.Errorf("%s %s=%.20s: %d %.200s", path, name, text, reply.status, reply.body)
				}
			}
		}
	}
	owner := "/v1/owners/" + c.owner
	for path, parameter := range map[string]string{
		owner + "/coupons?limit=0": "limit", owner + "/coupons?limit=201": "limit", owner + "/coupons?limit=x": "limit",
		owner + "/coupons?limit=-1": "limit", owner + "/coupons?limit=1&limit=2": "limit", owner + "/coupons?state=": "state",
		owner + "/coupons?state=LOST": "state", owner + "/lots?state=lost": "state", owner + "/coupons?stat=USED": "query",
		owner + "/coupons?%zz=1": "query", owner + "/entries?from=2026-11-22": "from", owner + "/entries?to=now": "to",
		owner + "/entries?hold_id=x": "hold_id", "/v1/holds": "owner", "/v1/owners/a%20b": "owner",
		owner + "/operations/a%20b": "Idempotency-Key", "/v1/admin/locate": "owner", "/v1/admin/locate?owner=a&id=b": "owner",
		"/v1/holds?owner=a%20b": "owner",
	} {
		p := c.get(path)
		if p.status == 404 {
			continue // an id that nothing can have
		}
		p.refused(400, "invalid-request").at(parameter)
	}
	c.post("/v1/ids?x=1", `{"owner":"o"}`).refused(400, "invalid-request").at("query")
}

func TestNotFound(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	minted := read[struct{ IDs []string }](c.post("/v1/ids", c.ofOwner()).is(200)).IDs[0]
	forged := minted[:len(minted)-1] + string('0'+(minted[len(minted)-1]-'0'+1)%10)
	for _, hold := range []string{minted, forged, "x", "hold_", strings.Replace(minted, "hold", "lot", 1), strings.ToUpper(minted)} {
		c.get("/v1/holds/"+hold).refused(404, "not-found")
	}
	c.get("/v1/coupons/"+minted).refused(404, "not-found")
	c.get("/v1/lots/x").refused(404, "not-found")
	c.post("/v1/holds/"+minted+"/confirm", c.ofOwner()).refused(404, "not-found")
	c.post("/v1/holds/"+forged+"/confirm", c.ofOwner()).refused(404, "not-found").at("hold_id")
	c.post("/v1/holds/"+minted+"/cancel", `{"owner":"somebody-else"}`).refused(404, "not-found").at("hold_id")
}

// edge stands where the shards are, to answer what a test wants. The ledger before it is the real one.
type edge struct {
	submit func(ctx context.Context, op *shard.Op) shard.Reply
}

func (e edge) Submit(ctx context.Context, op *shard.Op) shard.Reply { return e.submit(ctx, op) }

func (e edge) Read(context.Context, shard.Bucket, func(*gorm.DB, time.Time) error) error {
	return shard.ErrFailover
}

func (e edge) Placement(shard.Bucket) uint16          { return 1 }
func (e edge) Shards() []int                          { return []int{1} }
func (e edge) BucketOn(int) (b shard.Bucket, ok bool) { return 0, true }

// newEdge returns a client whose ledger has its shards at an edge.
func newEdge(t testing.TB, submit func(ctx context.Context, op *shard.Op) shard.Reply, change func(*api.Config)) *client {
	t.Helper()
	r := sharedRig(t)
	minter := id.NewMinter(r.Codec, time.Now)
	minter.Use(id.Grant{Node: 1, Floor: time.Now().Add(-time.Hour), Mark: time.Now().Add(24 * time.Hour)})
	return newClient(t, r, func(config *api.Config) {
		config.Ledger = ledger.New(ledger.Config{Store: edge{submit}, Codec: r.Codec, Minter: minter, Now: time.Now})
		if change != nil {
			change(config)
		}
	})
}

// TestShardErrors: how the ways of a shard to fail look to callers. None of them shows what an error says inside.
func TestShardErrors(t *testing.T) {
	t.Parallel()
	secret := errors.New("dial tcp 10.0.0.7:3306: root:password")
	for _, test := range []struct {
		err     error
		status  int
		code    string
		outcome string
	}{
		{shard.ErrOverloaded, 503, "overloaded", "none"},
		{shard.ErrClosed, 503, "overloaded", "none"},
		{shard.ErrFailover, 503, "failover-in-progress", "none"},
		{shard.ErrStaleRoute, 503, "failover-in-progress", "none"},
		{shard.ErrOutcomeUnknown, 504, "outcome-unknown", "unknown"},
		{shard.ErrInternal, 500, "internal", "none"},
		{secret, 500, "internal", "unknown"},
	} {
		c := newEdge(t, func(context.Context, *shard.Op) shard.Reply {
			return shard.Reply{Err: fmt.Errorf("%w: %w", test.err, secret)}
		}, nil)
		reply := c.hold("o", cny(1))
		p := reply.refused(test.status, test.code)
		if p.Outcome != test.outcome || !p.Retryable || reply.header.Get("Retry-After") != "1" {
			t.Errorf("%v: Retry-After %q, %+v", test.err, reply.header.Get("Retry-After"), p)
		}
		if strings.Contains(reply.body, "password") {
			t.Errorf("%v: the reply shows what is inside: %s", test.err, reply.body)
		}
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c := newEdge(t, func(context.Context, *shard.Op) shard.Reply { panic("boom") }, func(config *api.Config) {
		config.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	if p := c.hold("o", cny(1)).refused(500, "internal"); p.Outcome != "unknown" || strings.Contains(p.Detail, "boom") {
		t.Errorf("%+v", p)
	}
	if !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "transport_test.go") {
		t.Errorf("the log does not say where it happened: %s", &log)
	}
}

// TestDeadline: a write has the deadline of its header, and goes on when its caller hangs up.
func TestDeadline(t *testing.T) {
	t.Parallel()
	var got time.Duration
	c := newEdge(t, func(ctx context.Context, _ *shard.Op) shard.Reply {
		at, _ := ctx.Deadline()
		got = time.Until(at)
		return shard.Reply{Err: ctx.Err()}
	}, nil)
	for text, want := range map[string]time.Duration{"": 2 * time.Second, "1500": 1500 * time.Millisecond, "30000": 30 * time.Second} {
		c.hold("o", cny(1), header{"Deadline-Ms", text})
		if got > want || got < want-time.Second {
			t.Errorf("%q: %s", text, got)
		}
	}
	for _, bad := range []string{"0", "-1", "30001", "1.5", "x", "99999999999999999999"} {
		c.hold("o", cny(1), header{"Deadline-Ms", bad}).refused(400, "invalid-request").at("Deadline-Ms")
	}
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	body := strings.NewReader(`{"owner":"o","order_id":"o","items":[` + cny(1) + `]}`)
	r := httptest.NewRequestWithContext(gone, http.MethodPost, "/v1/holds", body)
	r.Header = http.Header{
		"Idempotency-Key": {"a"}, "Content-Type": {"application/json"}, "Authorization": {"Bearer " + c.rig.Tokens[access.ScopeHold]},
	}
	got = 0
	c.handler.ServeHTTP(httptest.NewRecorder(), r)
	if got < time.Second {
		t.Errorf("the write of a caller who hung up has %s left", got)
	}
}

// TestLog: refused callers and faults are logged always, others when asked for; owners never in clear, unless asked for.
func TestLog(t *testing.T) {
	t.Parallel()
	for _, verbose := range []bool{false, true} {
		var log bytes.Buffer
		c := newEdge(t, func(_ context.Context, op *shard.Op) shard.Reply {
			return shard.Reply{Err: fmt.Errorf("hold of %s: %w", op.Owner, shard.ErrInternal)}
		}, func(config *api.Config) {
			config.Log = slog.New(slog.NewJSONHandler(&log, nil))
			config.LogRequests, config.LogOwners = verbose, verbose
		})
		c.owner = "alice@example.com"
		c.hold("o", cny(1)).is(500)
		c.post("/v1/holds", "{}").is(400)
		c.get("/v1/owners/" + c.owner).is(503)
		c.send(http.MethodGet, "/v1/owners/"+c.owner, "", header{"Authorization", "Bearer x"}).is(401)
		c.send(http.MethodGet, "/v1/admin/keys", "", header{"Authorization", "Bearer " + c.rig.Tokens[access.ScopeRead]}).is(403)
		var lines []string
		for line := range strings.Lines(log.String()) {
			var l struct {
				Level, Route, Code, Error string
				Status                    int
				KeyID                     string `json:"key_id"`
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l.Level+" "+strconv.Itoa(l.Status)+" "+l.Code+" "+l.Route)
			if l.Status == 403 && (l.KeyID == "" || !strings.Contains(l.Error, "it needs admin and has read")) {
				t.Errorf("it does not say who was refused and why: %s", line)
			}
		}
		want := []string{"ERROR 500 internal /v1/holds"}
		if verbose {
			want = append(want, "INFO 400 invalid-request /v1/holds", "INFO 503 failover-in-progress /v1/owners/{owner}")
		}
		want = append(want, "WARN 401 unauthenticated /v1/owners/{owner}", "WARN 403 forbidden /v1/admin/keys")
		if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("verbose %v:\n%s", verbose, got)
		}
		if strings.Contains(log.String(), "alice") != verbose {
			t.Errorf("verbose %v: owners in the log: %s", verbose, &log)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	if a, b := c.get("/livez").header.Get("X-Request-Id"), c.get("/livez").header.Get("X-Request-Id"); a == "" || a == b {
		t.Errorf("%q and %q", a, b)
	}
	reply := c.send(http.MethodGet, "/nothing", "", header{"X-Request-Id", "own-1"})
	if p := reply.refused(404, "no-route"); p.RequestID != "own-1" || reply.header.Get("X-Request-Id") != "own-1" {
		t.Errorf("%+v", p)
	}
	if id := c.send(http.MethodGet, "/nothing", "", header{"X-Request-Id", "a b\n"}).header.Get("X-Request-Id"); strings.Contains(id, " ") {
		t.Errorf("%q", id)
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	var fault error
	var shards []shard.Condition
	c := newClient(t, r, func(config *api.Config) {
		config.Ready = func(context.Context) ([]shard.Condition, error) { return shards, fault }
		config.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("metrics")) })
	})
	fault = errors.New("no shard map")
	at := func(path string) string { // without the check: it expects problem documents, and machines look at the status only
		recorder := httptest.NewRecorder()
		c.bare.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return strconv.Itoa(recorder.Code) + " " + strings.TrimSpace(recorder.Body.String())
	}
	for path, want := range map[string]string{
		"/livez": "200 ok", "/readyz": "503 not ready", "/startupz": "503 starting",
		"/readyz?verbose": `503 {"ready":false,"missing":"no shard map"}`,
	} {
		if got := at(path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
	fault = nil
	if got := at("/readyz") + at("/readyz?verbose") + at("/startupz"); got != `200 ok200 {"ready":true}200 ok` {
		t.Error(got)
	}
	shards = []shard.Condition{{Shard: 1, Name: "s1"}, {Shard: 2, Name: "s2", Err: errors.New("read-only")}}
	const document = `{"ready":true,"shards":[{"shard":1,"name":"s1","writable":true},` +
		`{"shard":2,"name":"s2","writable":false,"error":"read-only"}]}`
	if got := at("/readyz?verbose"); got != "200 "+document {
		t.Error(got)
	}
	fault = errors.New("lost")
	if got := at("/readyz") + at("/startupz"); got != "503 not ready200 ok" {
		t.Error(got)
	}
	for path, part := range map[string]string{
		"/metrics": "metrics", "/openapi.yaml": "openapi: 3.0.3", "/docs": "<code>POST /v1/holds</code><td>hold<td>Hold coupons, money",
		"/problems": `<a href="/problems/held-by-other">`, "/problems/held-by-other": "<h1>held-by-other</h1>",
	} {
		if reply := c.get(path).is(200); !strings.Contains(reply.body, part) {
			t.Errorf("%s: %.500s", path, reply.body)
		}
	}
}
