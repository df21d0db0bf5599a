package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api"
	"github.com/statesvc/statesvc/api/apitest"
	"github.com/statesvc/statesvc/ledger"
)

// rig is a whole instance over SQLite. Each test has owners of its own in it.
type rig = apitest.Service

var shared = sync.OnceValues(func() (*rig, error) {
	folder, err := os.MkdirTemp("", "statesvc-api-")
	if err != nil {
		return nil, err
	}
	sharedFolder = folder
	return apitest.Open(folder)
})

var sharedFolder string

func TestMain(m *testing.M) {
	code := m.Run()
	if sharedFolder != "" {
		if r, err := shared(); err == nil {
			_ = r.Close(context.Background())
		}
		_ = os.RemoveAll(sharedFolder)
	}
	os.Exit(code)
}

// sharedRig returns the instance that most tests share.
func sharedRig(t testing.TB) *rig {
	t.Helper()
	r, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// client sends the requests of one test.
type client struct {
	t       testing.TB
	rig     *rig
	handler http.Handler // behind the check of the contract
	bare    http.Handler
	owner   string
}

var numbers atomic.Int64

// newClient returns a client with an owner that nobody else has. change may alter the configuration of the handler.
func newClient(t testing.TB, r *rig, change func(*api.Config)) *client {
	t.Helper()
	config := r.Config
	if change != nil {
		change(&config)
	}
	handler, err := api.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return &client{t, r, apitest.Check(t, handler), handler, fmt.Sprintf("owner-%d", numbers.Add(1))}
}

// with returns a client for another owner.
func (c *client) with(owner string) *client { return &client{c.t, c.rig, c.handler, c.bare, owner} }

// answer is a reply, read.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

// newKey is an idempotency key that nobody has used.
func newKey() string { return fmt.Sprintf("key-%d", numbers.Add(1)) }

// header is a header of a request; an empty value removes what send would set.
type header struct{ name, value string }

// send sends a request with what it needs: the token by its path, a new idempotency key, a media type. headers change that.
func (c *client) send(method, path, body string, headers ...header) answer {
	c.t.Helper()
	r := httptest.NewRequestWithContext(c.t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+c.rig.Tokens[scopeOf(method, path)])
	if method != http.MethodGet {
		r.Header.Set("Idempotency-Key", newKey())
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		if r.Header.Del(h.name); h.value != "" {
			r.Header.Set(h.name, h.value)
		}
	}
	recorder := httptest.NewRecorder()
	c.handler.ServeHTTP(recorder, r)
	return answer{c.t, recorder.Code, recorder.Header(), recorder.Body.String()}
}

// scopeOf guesses the scope of an operation in other words than routes.go.
func scopeOf(method, path string) access.Scopes {
	switch {
	case strings.HasPrefix(path, "/v1/admin/"), strings.HasPrefix(path, "/v1/webhooks"), strings.HasSuffix(path, "freeze"),
		strings.HasSuffix(path, "/revoke"), strings.HasPrefix(path, "/v1/owners/") && strings.Contains(path, "/adjustments"),
		strings.HasPrefix(path, "/v1/adjustments/"):
		return access.ScopeAdmin
	case strings.HasPrefix(path, "/v1/events"), strings.HasPrefix(path, "/v1/exports"):
		return access.ScopeEvents
	case strings.Contains(path, "/codes"), path == "/v1/campaigns" && method == http.MethodPost:
		return access.ScopeIssue
	case strings.HasSuffix(path, "/claims"):
		return access.ScopeHold
	case method == http.MethodGet, strings.HasSuffix(path, "preview"):
		return access.ScopeRead
	case strings.HasPrefix(path, "/v1/state/"):
		return access.ScopeState
	case strings.HasPrefix(path, "/v1/campaigns/"), strings.HasSuffix(path, "/lots"), strings.HasPrefix(path, "/v1/stock/"),
		strings.HasPrefix(path, "/v1/quotas/"):
		return access.ScopeIssue
	}
	return access.ScopeHold
}

func (c *client) get(path string, headers ...header) answer {
	c.t.Helper()
	return c.send(http.MethodGet, path, "", headers...)
}

func (c *client) post(path, body string, headers ...header) answer {
	c.t.Helper()
	return c.send(http.MethodPost, path, body, headers...)
}

// is fails the test unless the reply has the status.
func (a answer) is(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// refused fails the test unless the reply is a problem document with the status and the code.
func (a answer) refused(status int, code string) problem {
	a.t.Helper()
	a.is(status)
	p := read[problem](a)
	p.t = a.t
	if p.Code != code || p.Type != "/problems/"+code {
		a.t.Fatalf("code %q and type %q, want %q: %s", p.Code, p.Type, code, a.body)
	}
	return p
}

// at fails the test unless the document has a part with this pointer.
func (p problem) at(pointer string) {
	p.t.Helper()
	for _, part := range p.Errors {
		if part.Pointer == pointer {
			return
		}
	}
	p.t.Fatalf("no error at %q: %+v", pointer, p)
}

// problem is a problem document as callers see it.
type problem struct {
	t testing.TB

	Type, Title, Detail, Code, Outcome string
	Status                             int
	Retryable                          bool
	RetryAt                            time.Time `json:"retry_at"`
	RequestID                          string    `json:"request_id"`
	Asked, Have                        *int64
	HoldID                             string `json:"hold_id"`
	Errors                             []struct{ Pointer, Code, Detail string }
}

func read[T any](a answer) (body T) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
	return body
}

func inAnHour() string { return time.Now().Add(time.Hour).UTC().Format(time.RFC3339) }

// money credits the owner with a lot of CNY.
func (c *client) money(amount int) ledger.LotReply {
	c.t.Helper()
	body := fmt.Sprintf(`{"issue_ref":"ref-%d","source":"test","amount":{"amount":%d,"currency":"CNY"},"expires_at":%q}`,
		numbers.Add(1), amount, inAnHour())
	return read[ledger.LotReply](c.post("/v1/owners/"+c.owner+"/lots", body).is(http.StatusCreated))
}

// coupon issues a coupon to the owner.
func (c *client) coupon(discount string) ledger.Coupon {
	c.t.Helper()
	body := fmt.Sprintf(`{"owner":%q,"issue_ref":"ref-%d","discount":%s,"expires_at":%q}`, c.owner, numbers.Add(1), discount, inAnHour())
	return read[ledger.CouponReply](c.post("/v1/campaigns/spring/issues", body).is(http.StatusCreated)).Coupon
}

// hold asks for a hold with these items, as JSON.
func (c *client) hold(order, items string, headers ...header) answer {
	c.t.Helper()
	return c.post("/v1/holds", fmt.Sprintf(`{"owner":%q,"order_id":%q,"items":[%s]}`, c.owner, order, items), headers...)
}

// held is hold that must be done.
func (c *client) held(order, items string) ledger.HoldBody {
	c.t.Helper()
	return read[ledger.HoldReply](c.hold(order, items).is(http.StatusCreated)).Hold
}

func cny(amount int) string {
	return fmt.Sprintf(`{"kind":"money","amount":{"amount":%d,"currency":"CNY"}}`, amount)
}

func (c *client) ofOwner() string { return fmt.Sprintf(`{"owner":%q}`, c.owner) }
