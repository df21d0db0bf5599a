package main

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// The audit of a running cluster counts its owners; a drift of one unit ends it with an error, and stays.
func TestCheckLedger(t *testing.T) {
	file := clusterFile(t)
	must(t, "migrate", "up", "--config", file)
	key := token(must(t, "keys", "create", "--config", file, "--name", "test", "--scopes", "read,issue,admin"))
	s := serve(t, serveServes, "serve", "--config", file)
	c := caller{s.base, key}
	for _, owner := range []string{"user-1", "guest:7f3a"} { // one on each shard
		c.want(t, http.StatusCreated, "POST", "/v1/owners/"+owner+"/lots", "k", creditBody("r", 5))
	}
	lastLine := func(out string) string {
		lines := strings.Split(strings.TrimSpace(out), "\n")
		return lines[len(lines)-1]
	}
	sound := must(t, "check", "ledger", "--config", file)
	last := lastLine(sound)
	if !strings.HasPrefix(last, "audited owners=2 quotas=0 packets=0 campaigns=0 rows=") || !strings.HasSuffix(last, " drift=0") {
		t.Errorf("a sound ledger:\n%s", sound)
	}
	db, err := shard.OpenSQLite(filepath.Join(filepath.Dir(file), "s2.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const steal = "UPDATE lots SET available=available-1, held=held+1 WHERE owner='user-1'"
	if _, err := db.SQL().ExecContext(t.Context(), steal); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it is not repaired
		out, err := command(t, nil, "check", "ledger", "--config", file, "--rate", "0")
		if !errors.Is(err, errDrift) || !strings.HasSuffix(lastLine(out), " drift=1") ||
			!strings.Contains(out, "drift check=held shard=2 bucket=12720 owner=user-1 ") {
			t.Errorf("a drift of one: %v\n%s", err, out)
		}
	}
	refused(t, []string{"check", "ledger", "--config", file, "--rate", "-1"}, "--rate")
	c.want(t, http.StatusOK, "GET", "/v1/admin/audit", "", "")
}
