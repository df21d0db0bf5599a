package apitest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/statesvc/statesvc/api/apitest"
)

const (
	good    = `{"owner":"o","count":1}`
	bad     = `{"owner":"o","count":"one"}`
	minted  = `{"ids":["hold_01hf7yat00g40b3c0020a007ws"]}`
	refusal = `{"type":"/problems/invalid-request","title":"t","status":400,"code":"invalid-request","retryable":false,"outcome":"none",` +
		`"request_id":"r"}`
)

// TestTransportFindsBreaches: a check that never fails would show nothing.
func TestTransportFindsBreaches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		path, body string
		malformed  bool
		status     int
		kind       string // media type of the reply
		reply      string
		want       string // in what is reported; empty: nothing
	}{
		{"nothing is wrong", "/v1/ids", good, false, 200, "application/json", minted, ""},
		{"not in the contract", "/readyz", good, false, 503, "text/plain", "no", ""},
		{"refused on purpose", "/v1/ids", bad, true, 400, "application/problem+json", refusal, ""},
		{"refused by mistake of the test", "/v1/ids", bad, false, 400, "application/problem+json", refusal, "count"},
		{"taken by mistake", "/v1/ids", bad, true, 200, "application/json", minted, "count"},
		{"no such operation", "/v1/id", good, false, 200, "application/json", minted, "no such operation"},
		{"without a member", "/v1/ids", good, false, 200, "application/json", `{}`, "ids"},
		{"of another type", "/v1/ids", good, false, 200, "application/json", `{"ids":[1]}`, "ids"},
		{"of another media type", "/v1/ids", good, false, 200, "text/plain", minted, "text/plain"},
		{"of another status", "/v1/ids", good, false, 202, "application/json", minted, "status"},
		{"an error that is text", "/v1/ids", good, false, 503, "text/plain", "later", "not as a problem document"},
		{"an error of another status", "/v1/ids", good, false, 404, "application/problem+json", refusal, "status 400"},
		{"an error without a member", "/v1/ids", good, false, 400, "application/problem+json", `{"status":400}`, "type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.kind)
				w.Header().Set("X-Request-Id", "r")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.reply)
			}))
			defer server.Close()
			heard, reported := call(t, server.URL+c.path, c.body, c.malformed)
			if heard != c.reply {
				t.Errorf("the caller hears %q", heard)
			}
			if (reported == "") != (c.want == "") || !strings.Contains(reported, c.want) {
				t.Errorf("reported: %q, want %q", reported, c.want)
			}
		})
	}
}

// TestTransportPassesHalfReplies: a reply that broke off is the caller's to judge.
func TestTransportPassesHalfReplies(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, minted)
	}))
	defer server.Close()
	heard, reported := call(t, server.URL+"/v1/ids", good, false)
	if heard != minted+": unexpected EOF" || reported != "" {
		t.Errorf("heard %q, reported %q", heard, reported)
	}
}

// call sends a body and returns what is heard of the reply, and what the transport reports.
func call(t *testing.T, url, body string, malformed bool) (heard, reported string) {
	t.Helper()
	ctx := t.Context()
	if malformed {
		ctx = apitest.Malformed(ctx)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: apitest.Transport(http.DefaultTransport, func(format string, args ...any) {
		reported += fmt.Sprintf(format, args...)
	})}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return string(text) + ": " + err.Error(), reported
	}
	return string(text), reported
}
