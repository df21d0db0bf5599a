package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file of more than one piece is imported with progress and the numbers of its wrong rows; a dry run issues nothing; an export has
// what was issued, once it is old enough.
func TestImportAndExport(t *testing.T) {
	file := clusterFile(t)
	must(t, "migrate", "up", "--config", file)
	key := token(must(t, "keys", "create", "--config", file, "--name", "test", "--scopes", "read,issue,events"))
	s := serve(t, serveServes, "serve", "--config", file)
	rows := []string{"owner,issue_ref,kind,currency,amount,expires_at"}
	for i := range 2100 {
		rows = append(rows, fmt.Sprintf("user-%d,ref,FIXED,CNY,100,2030-01-01T00:00:00Z", i))
	}
	rows[2050] = "user-x,ref,FIXED,CNY,-1,2030-01-01T00:00:00Z"
	coupons := write(t, filepath.Join(t.TempDir(), "coupons.csv"), strings.Join(rows, "\n")+"\n")
	args := []string{"import", "--address", s.base, "--key", key, "--campaign", "spring", coupons}
	for _, run := range []struct{ flag, last string }{
		{"--dry-run", "rows=2100 well=2099 already_existed=0 failed=1"},
		{"--dry-run=false", "rows=2100 issued=2099 already_existed=0 failed=1"},
		{"--dry-run=false", "rows=2100 issued=0 already_existed=2099 failed=1"},
	} {
		out, err := command(t, nil, append(args, run.flag)...)
		if !errors.Is(err, errRowsFailed) || !strings.HasSuffix(out, run.last+"\n") || !strings.Contains(out, "\nrow 2050: invalid-request: ") ||
			!strings.Contains(out, "2000 of about") {
			t.Errorf("%s: %v\n%s", run.flag, err, out)
		}
	}
	refused(t, append(args[:len(args)-1:len(args)-1], "coupons.txt"), ".csv")

	exported := filepath.Join(t.TempDir(), "march.csv")
	out := must(t, "export", "--address", s.base, "--key", key, "--format", "csv", "--to", "2026-01-01", "--out", exported)
	text, err := os.ReadFile(exported)
	if err != nil || !strings.HasPrefix(string(text), "owner,seq,kind,at,") || strings.Count(string(text), "\n") != 1 ||
		!strings.Contains(out, fmt.Sprintf("exported bytes=%d file=", len(text))) {
		t.Errorf("%v: %s\n%s", err, text, out)
	}
	refused(t, []string{"export", "--address", s.base, "--key", key, "--to", "2999-01-01"}, "invalid-request")
	refused(t, []string{"export", "--address", s.base, "--key", key, "--format", "xml"}, "neither csv nor jsonl")
}
