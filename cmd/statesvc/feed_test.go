package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/statesvc/statesvc/internal/testdb"
)

// TestRowsChangedByHand: what somebody changes by SQL is shown by every instance, with and without a version, and is an alarm in the
// latter case.
func TestRowsChangedByHand(t *testing.T) {
	server, copies := testdb.MariaDB(t), testdb.Redis(t)
	schema, folder := server.Schema(t), t.TempDir()
	var instances [2]*service
	var configs [2]string
	for i := range configs {
		configs[i] = write(t, filepath.Join(folder, fmt.Sprintf("i%d.yaml", i)), fmt.Sprintf(
			"instance: i%d\nlisten: 127.0.0.1:0\ndrain_delay: 0s\nregister: %s/register\nredis_cache: %s\nshards: [{name: s1, dsn: %q, feed: %q}]\n",
			i, folder, copies.Addr(), server.DSN(schema), server.AdminDSN(schema)))
	}
	must(t, "migrate", "up", "--config", configs[0])
	key := token(must(t, "keys", "create", "--config", configs[0], "--name", "test", "--scopes", "read,state,admin"))
	for i := range instances {
		instances[i] = serve(t, serveServes, "serve", "--config", configs[i])
	}
	writer := caller{instances[0].base, key}
	writer.want(t, http.StatusOK, "PUT", "/v1/admin/kinds/product", "", `{}`)
	db, err := sql.Open("mysql", server.AdminDSN(schema))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	writer.make(t, "/v1/state/product/sku-1", `{"price":1}`)
	for i, change := range []string{`doc='{"price":2}', ver=ver+1`, `doc='{"price":3}'`} {
		for _, instance := range instances {
			eventually(t, "Redis and memory have it", func() bool {
				r, err := caller{instance.base, key}.send(t, "GET", "/v1/state/product/sku-1?consistency=eventual", "", "")
				return err == nil && strings.Contains(r.body, fmt.Sprintf(`"price":%d`, i+1))
			})
		}
		if _, err := db.ExecContext(t.Context(), "UPDATE state SET "+change); err != nil {
			t.Fatal(err)
		}
	}
	for _, instance := range instances {
		eventually(t, "everybody shows what was changed by hand", func() bool {
			r, err := caller{instance.base, key}.send(t, "GET", "/v1/state/product/sku-1?consistency=eventual", "", "")
			return err == nil && strings.Contains(r.body, `"price":3`)
		})
	}
	for _, instance := range instances { // without leases both of them read the log
		instance.out.await(t, `("kind":"unversioned","table":"state")`, nil)
		r, err := caller{instance.base, key}.send(t, "GET", "/metrics", "", "")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{
			`statesvc_feed_alarms_total{kind="unversioned"`, `statesvc_feed_lag_seconds{`, `statesvc_feed_changes_total{`,
			`statesvc_cache_hits_total{`, `statesvc_cache_misses_total`, `statesvc_cache_waits_total`, `statesvc_cache_database_reads_total`,
		} {
			if !strings.Contains(r.body, "\n"+line) {
				t.Errorf("the metrics have no %s", line)
			}
		}
	}
}

// make makes a document that does not exist.
func (c caller) make(t *testing.T, path, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + c.token, "Idempotency-Key": "make", "If-None-Match": "*", "Content-Type": "application/json",
	} {
		request.Header.Set(name, value)
	}
	if r, err := exchange(t, request); err != nil || r.status != http.StatusCreated {
		t.Fatalf("the document is answered by %d %s: %v", r.status, r.body, err)
	}
}
