package api_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// The benchmarks measure what HTTP costs: the shards answer at once. BareGin is gin with the least that any handler does, its
// own JSON binding and a fixed reply: the line to compare with.

const holdBody = `{"owner":"user-1","order_id":"order-1001","lines":[{"line_id":"line-1","amount":{"amount":5000,"currency":"CNY"}},` +
	`{"line_id":"line-2","amount":{"amount":2999,"currency":"CNY"}}],"items":[{"kind":"money","amount":{"amount":500,"currency":"CNY"}}]}`

var fixedReply = []byte(`{"hold":{},"balances":[],"version":1` + strings.Repeat(" ", 600) + `}`)

func BenchmarkHold(b *testing.B) {
	c := quickClient(b)
	benchmark(b, c.bare, "/v1/holds", holdBody, c.rig.Tokens[scopeOf(http.MethodPost, "/v1/holds")])
}

func BenchmarkConfirm(b *testing.B) {
	c := quickClient(b)
	ids, err := c.rig.Ledger.MintIDs(b.Context(), "user-1", id.Hold, 1)
	if err != nil {
		b.Fatal(err)
	}
	path := "/v1/holds/" + ids[0] + "/confirm"
	benchmark(b, c.bare, path, `{"owner":"user-1"}`, c.rig.Tokens[scopeOf(http.MethodPost, path)])
}

func BenchmarkBareGin(b *testing.B) {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.POST("/v1/holds", func(c *gin.Context) {
		var body struct {
			Owner   string `json:"owner"`
			OrderID string `json:"order_id"`
			Lines   []struct {
				LineID string `json:"line_id"`
				Amount struct {
					Amount   int64  `json:"amount"`
					Currency string `json:"currency"`
				} `json:"amount"`
			} `json:"lines"`
			Items []struct {
				Kind   string `json:"kind"`
				Amount struct {
					Amount   int64  `json:"amount"`
					Currency string `json:"currency"`
				} `json:"amount"`
			} `json:"items"`
		}
		if err := c.ShouldBindJSON(&body); err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		c.Data(http.StatusCreated, "application/json", fixedReply)
	})
	benchmark(b, engine, "/v1/holds", holdBody, "")
}

func quickClient(b *testing.B) *client {
	b.Helper()
	return newEdge(b, func(context.Context, *shard.Op) shard.Reply {
		return shard.Reply{Verdict: shard.Done, Body: fixedReply}
	}, nil)
}

// BenchmarkDocument reads a document that is in memory. BareGinDocument is the line to compare with.
func BenchmarkDocument(b *testing.B) {
	c := newClient(b, sharedRig(b), nil)
	if err := declareProducts(); err != nil {
		b.Fatal(err)
	}
	path := "/v1/state/product/" + c.owner
	c.write(path, string(fixedReply), ifNoneMatch("*")).is(201)
	benchmark(b, c.bare, path, "", c.rig.Tokens[scopeOf(http.MethodGet, path)])
}

func BenchmarkBareGinDocument(b *testing.B) {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET("/v1/state/product/:id", func(c *gin.Context) { c.Data(http.StatusOK, "application/json", fixedReply) })
	benchmark(b, engine, "/v1/state/product/d", "", "")
}

// benchmark calls the handler in process and through a socket.
func benchmark(b *testing.B, handler http.Handler, path, body, token string) {
	b.Helper()
	b.Run("handler", func(b *testing.B) {
		base := &url.URL{Path: path}
		b.ReportAllocs()
		for b.Loop() {
			r := newRequest(base, body, token)
			w := &discard{header: http.Header{}}
			handler.ServeHTTP(w, r)
			if w.status >= 300 {
				b.Fatal(w.status)
			}
		}
	})
	b.Run("socket", func(b *testing.B) {
		server := httptest.NewServer(handler)
		defer server.Close()
		base, err := url.Parse(server.URL + path)
		if err != nil {
			b.Fatal(err)
		}
		transport := &http.Transport{MaxIdleConnsPerHost: 64}
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r := newRequest(base, body, token)
				reply, err := transport.RoundTrip(r)
				if err != nil || reply.StatusCode >= 300 {
					b.Error(err, reply.StatusCode)
					return
				}
				_, _ = io.Copy(io.Discard, reply.Body)
				_ = reply.Body.Close()
			}
		})
	})
}

func newRequest(base *url.URL, body, token string) *http.Request {
	if body == "" {
		return &http.Request{
			Method: http.MethodGet, URL: base, Host: base.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Authorization": {"Bearer " + token}, "Deadline-Ms": {"10000"}},
		}
	}
	return &http.Request{
		Method: http.MethodPost, URL: base, Host: base.Host, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}, "Idempotency-Key": {"018bcfe5-6800-7000-8000-000000000001"},
		},
	}
}

// discard is a reply that nobody reads.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
