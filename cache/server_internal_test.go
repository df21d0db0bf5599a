package cache

import (
	"context"
	"io"
	"net"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/testdb"
)

func TestParseServer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Server{
		"redis:6379":               {Address: "redis:6379"},
		"[::1]:6379":               {Address: "[::1]:6379"},
		"sentinel://a:1/cache":     {Sentinels: []string{"a:1"}, Name: "cache"},
		"sentinel://a:1,b:2,c:3/x": {Sentinels: []string{"a:1", "b:2", "c:3"}, Name: "x"},
	} {
		if got, err := ParseServer(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "redis", ":6379", "redis:", "redis://a:1", "sentinel://", "sentinel://a:1", "sentinel://a:1/", "sentinel:///x", "sentinel://a:1,/x",
		"sentinel://a:1/x/y",
	} {
		if got, err := ParseServer(text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func TestMostNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answers []string
		was     string
		want    string
	}{
		{[]string{"", "", ""}, "a", ""},
		{[]string{"", "", "b"}, "a", "b"},
		{[]string{"a", "b", "b"}, "a", "b"},
		{[]string{"b", "", "a"}, "a", "a"},
		{[]string{"a", "", "b"}, "a", "a"},
		{[]string{"b", "c", ""}, "a", "b"},
		{[]string{"", "", "", "b", "c", "c"}, "", "c"},
	} {
		if got := mostNamed(c.answers, c.was); got != c.want {
			t.Errorf("of %q, after %q, it takes %q and not %q", c.answers, c.was, got, c.want)
		}
	}
}

// An address that leads to another server now, while old connections still lead to the one before: they are not used any more.
func TestPoolIsOfOneServer(t *testing.T) {
	t.Parallel()
	first, second := testdb.Redis(t), testdb.Redis(t)
	var target atomic.Value
	target.Store(first.Addr())
	r := newRemote(Server{Address: switchboard(t, &target)}, 5*time.Second, time.Now)
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	old := r.pool()
	one, err := old.reach(t.Context())
	if err != nil || one == "" {
		t.Fatalf("the first server has run_id %q, %v", one, err)
	}
	kept := old.client.Conn()
	if err := kept.Ping(t.Context()).Err(); err != nil { // it holds the only connection
		t.Fatal(err)
	}
	target.Store(second.Addr())
	if err := old.client.Ping(t.Context()).Err(); err == nil {
		t.Error("the pool has a connection to another server")
	}
	select {
	case <-old.replaced:
	case <-time.After(30 * time.Second):
		t.Fatal("the pool was not replaced")
	}
	if two, err := r.pool().reach(t.Context()); err != nil || two == "" || two == one {
		t.Errorf("the second server has run_id %q, the first %q, %v", two, one, err)
	}
	if old.running() != one {
		t.Error("the old pool is of another server than before")
	}
	_ = kept.Close() // what comes of it does not matter
}

// switchboard forwards each connection to where target points when it is made.
func switchboard(t *testing.T, target *atomic.Value) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := new(net.Dialer).DialContext(context.Background(), "tcp4", target.Load().(string))
			if err != nil {
				_ = near.Close()
				continue
			}
			go pass(near, far)
			go pass(far, near)
		}
	}()
	return listener.Addr().String()
}

func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}
