package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api"
	"github.com/statesvc/statesvc/api/apitest"
	"github.com/statesvc/statesvc/internal/testdb"
)

// What `shards` prints of a shard with replicas, and what it orders.
func TestShards(t *testing.T) {
	r, err := apitest.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(t.Context())
	if err := r.Replicate(t.Context(), 2, time.Now()); err != nil {
		t.Fatal(err)
	}
	handler, err := api.New(r.Config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	at := func(more ...string) []string {
		return append([]string{"shards", "--address", server.URL, "--key", r.Tokens[access.ScopeAdmin]}, more...)
	}
	says := func(out string, texts ...string) {
		t.Helper()
		flat := strings.Join(strings.Fields(out), " ")
		for _, text := range texts {
			if !strings.Contains(flat, text) {
				t.Errorf("there is no %q in\n%s", text, out)
			}
		}
	}
	says(must(t, at("list")...), "1 s1 SERVING 1 none s1 primary", "2 s2 SERVING 1 automatic db-1 primary",
		"db-2 in-sync db-2:3306 running 1.0 GiB 0.", "db-3 joining db-3:3306 - - -")
	says(must(t, at("failovers", "2")...), "shard 2 epoch 1 db-2 → db-1 180 ms its process has ended", "+1.5 ms fence db-3 20.0 ms refused")
	says(must(t, at("failovers", "1")...), "no failovers")
	says(must(t, at("switchover", "2", "--reason", "a new disk")...), "ordered for shard 2: switchover, because a new disk")
	says(must(t, at()...), "shard 2 has an order: switchover, by", "(test) at", "a new disk")
	says(must(t, at("--json")...), `"role": "in-sync"`, `"kind": "switchover"`)
	says(must(t, at("failovers", "--json", "--limit", "1")...), `"duration_ms": 180`)
	refused(t, at("rebuild", "2", "--node", "db-1", "--reason", "x"), "is the primary")
	refused(t, at("rebuild", "2", "--reason", "x"), "node")
	refused(t, at("suspend", "2", "--reason", "x"), "suspend shard 2", "order-stands")
	refused(t, at("resume", "1", "--reason", "x"), "no-failover", "single node")
	refused(t, at("resume", "9", "--reason", "x"), "not-found")
	refused(t, at("resume", "s1", "--reason", "x"), "no number")
	refused(t, at("resume", "2"), "reason")
	refused(t, at("failovers", "--limit", "0"), "--limit")
	refused(t, []string{"shards", "--address", server.URL, "--key", r.Tokens[access.ScopeRead]}, "forbidden", "scope admin")
	refused(t, []string{"shards"}, "--key", "STATESVC_KEY")
}

// `failover: external` is written into the register by `migrate up`, once and again.
func TestMigrateExternal(t *testing.T) {
	folder := t.TempDir()
	config := func(name, shard string) string {
		head := "listen: 127.0.0.1:0\ndrain_delay: 0s\nregister: " + folder + "/register\n"
		return write(t, filepath.Join(folder, name), head+"shards: [{name: s1, "+shard+"}]\n")
	}
	file := config("file.yaml", "file: x.db, failover: external")
	refused(t, []string{"migrate", "up", "--config", file}, "failover is external, with a dsn")
	refused(t, []string{"migrate", "up", "--config", config("word.yaml", "dsn: x, failover: manual")}, "failover is external")
	server := testdb.MariaDB(t)
	good := config("good.yaml", "dsn: \""+server.DSN(server.Schema(t))+"\", failover: external")
	for range 2 {
		if out := must(t, "migrate", "up", "--config", good); !strings.Contains(out, "shard 1 s1: failed over by another tool") {
			t.Error(out)
		}
	}
	key := token(must(t, "keys", "create", "--config", good, "--name", "tool", "--scopes", "admin"))
	s := serve(t, serveServes, "serve", "--config", good)
	tool := caller{s.base, key}
	fenced := tool.want(t, http.StatusOK, "POST", "/v1/admin/shards/1/fence", "", `{"reason":"test"}`)
	if epoch := fenced.at(t, "epoch"); epoch != 2.0 {
		t.Errorf("fenced under epoch %v", epoch)
	}
	at := []string{"shards", "--address", s.base, "--key", key}
	out := must(t, at...)
	for _, text := range []string{"FENCING", "external", "(tool): test"} {
		if !strings.Contains(out, text) {
			t.Errorf("there is no %q in\n%s", text, out)
		}
	}
	tool.want(t, http.StatusOK, "POST", "/v1/admin/shards/1/primary", "", fmt.Sprintf(`{"epoch":2,"address":%q}`, server.Addr()))
	if out := must(t, append(at, "failovers")...); !strings.Contains(out, " → "+server.Addr()+" ") {
		t.Error(out)
	}
}
