package api_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/statesvc/statesvc/shard"
)

// writes are the operations with bodies that the fuzzer tries, each with a body that is accepted.
var writes = []struct{ method, path, body string }{
	{
		http.MethodPost, "/v1/holds",
		`{"owner":"o","order_id":"o/1","attempt":1,"ttl_ms":1000,"lines":[{"line_id":"l","amount":{"amount":5,"currency":"CNY"}}],` +
			`"items":[{"kind":"money","all":true,"currency":"CNY","tag":"t"},{"kind":"money","amount":{"amount":1,"currency":"CNY"}}]}`,
	},
	{http.MethodPost, "/v1/holds/confirm", `{"owner":"o","order_id":"o","attempt":2}`},
	{http.MethodPost, "/v1/ids", `{"owner":"o","kind":"hold","count":3}`},
	{
		http.MethodPost, "/v1/owners/o/lots",
		`{"issue_ref":"r","source":"s","tag":"t","amount":{"amount":7,"currency":"USD"},"expires_at":"2030-01-01T00:00:00.5+08:00"}`,
	},
	{
		http.MethodPost, "/v1/campaigns/c/issues",
		`{"owner":"o","issue_ref":"r","discount":{"kind":"PERCENT","currency":"CNY","basis_points":1,"cap":{"amount":1,"currency":"CNY"},` +
			`"min_spend":{"amount":1,"currency":"CNY"}},"valid_from":"2026-01-01T00:00:00Z","expires_at":"2030-01-01T00:00:00Z"}`,
	},
	{http.MethodPut, "/v1/admin/blocks/owner/fuzz", `{"reason":"a","public_reason":"b","until_removed":true}`},
	{
		http.MethodPatch, "/v1/admin/keys/0123456789abcdef",
		`{"name":"a","scopes":["read","hold"],"rate":{"per_second":1,"burst":2},"never_expires":true}`,
	},
}

// FuzzContract: whatever the service accepts, the contract accepts too. The check of package apitest is what fails. No
// operation gets to a shard.
func FuzzContract(f *testing.F) {
	for i, w := range writes {
		f.Add(uint8(i), w.body)
	}
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		w := writes[int(which)%len(writes)]
		c := newEdge(t, func(context.Context, *shard.Op) shard.Reply { return shard.Reply{Err: shard.ErrOverloaded} }, nil)
		answer := c.send(w.method, w.path, body)
		if answer.status >= 500 && answer.status != 503 {
			t.Errorf("%d: %s", answer.status, answer.body)
		}
	})
}

// TestSeedsAreAccepted keeps the fuzzer from starting with bodies that say nothing.
func TestSeedsAreAccepted(t *testing.T) {
	t.Parallel()
	c := newEdge(t, func(context.Context, *shard.Op) shard.Reply { return shard.Reply{Err: shard.ErrOverloaded} }, nil)
	for _, w := range writes {
		if answer := c.send(w.method, w.path, w.body); answer.status == 400 || answer.status == 500 {
			t.Errorf("%s %s: %s", w.method, w.path, answer.body)
		}
	}
}
