package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// A running service is found to keep its promises. One that repeats old replies, as a proxy in front of it may, is found out.
func TestCheckCache(t *testing.T) {
	t.Parallel()
	file := clusterFile(t)
	must(t, "migrate", "up", "--config", file)
	key := token(must(t, "keys", "create", "--config", file, "--name", "test", "--scopes", "read,state,admin"))
	s := serve(t, serveServes, "serve", "--config", file)
	args := []string{"check", "cache", "--key", key, "--duration", "900ms", "--rate", "20", "--documents", "3", "--address"}
	refused(t, append(args, s.base), "declare the kind check once")
	caller{s.base, key}.want(t, http.StatusOK, "PUT", "/v1/admin/kinds/check", "", `{}`)

	out := must(t, append(args, s.base)...)
	if !strings.Contains(out, "violations_strong=0 violations_token=0 violations_bounded=0 ") || strings.Contains(out, "checked=0 ") {
		t.Errorf("a service that keeps its promises:\n%s", out)
	}
	old := stale(t, s.base)
	out, err := command(t, nil, append(args, s.base+","+old)...)
	for _, text := range []string{"violation mode=strong instance=" + old, "violation mode=at_least instance=" + old} {
		if !errors.Is(err, errStale) || !strings.Contains(out, text) {
			t.Errorf("a proxy that repeats old replies: %v, without %q in\n%s", err, text, out)
		}
	}
	refused(t, append(args, s.base, "--rate", "0"), "--rate")
	refused(t, append(args, "10.0.0.1"), "no URL")
}

// stale is a proxy that repeats the first reply to a read of a document.
func stale(t *testing.T, base string) string {
	t.Helper()
	to, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	type reply struct {
		header http.Header
		body   []byte
	}
	var mu sync.Mutex
	first := map[string]reply{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method != http.MethodGet || r.StatusCode != http.StatusOK {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		path := r.Request.URL.Path
		if _, seen := first[path]; !seen {
			first[path] = reply{r.Header.Clone(), body}
		}
		r.Header, r.Body = first[path].header.Clone(), io.NopCloser(bytes.NewReader(first[path].body))
		r.ContentLength = int64(len(first[path].body))
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}
