package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// TestTracesReachTheCollector: with an endpoint set, a request leaves its span and those of its batch there, without its owner.
func TestTracesReachTheCollector(t *testing.T) {
	var mu sync.Mutex
	var sent strings.Builder
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.Copy(&sent, r.Body)
	}))
	defer collector.Close()
	file := clusterFile(t)
	must(t, "migrate", "up", "--config", file)
	key := token(must(t, "keys", "create", "--config", file, "--name", "test", "--scopes", "read,issue"))
	s := serve(t, serveServes, "serve", "--config", file, "--otlp-endpoint", collector.URL, "--trace-ratio", "1")
	c := caller{s.base, key}
	c.want(t, http.StatusCreated, "POST", "/v1/owners/somebody/lots", "k", creditBody("r", 5))
	c.want(t, http.StatusOK, "GET", "/v1/owners/somebody/lots", "", "")
	s.stop(t) // it sends what is left
	mu.Lock()
	defer mu.Unlock()
	for _, name := range []string{"POST /v1/owners/{owner}/lots", "batch", "load", "write", "snapshot", "read", "db.system.name", "sqlite"} {
		if !strings.Contains(sent.String(), name) {
			t.Errorf("the collector has heard nothing of %q", name)
		}
	}
	if strings.Contains(sent.String(), "somebody") {
		t.Error("the collector has heard the owner")
	}
}
