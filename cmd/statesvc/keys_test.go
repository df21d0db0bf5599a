package main

import (
	"net/http"
	"strings"
	"testing"
)

// What `keys` does is known to a running instance at once: it is another process, and shares the register.
func TestKeysOnARunningInstance(t *testing.T) {
	file := clusterFile(t)
	must(t, "migrate", "up", "--config", file)
	s := serve(t, serveServes, "serve", "--config", file)
	status := func(token string) int {
		r, err := (caller{s.base, token}).send(t, "GET", "/v1/owners/user-1", "", "")
		if err != nil {
			t.Fatal(err)
		}
		return r.status
	}

	printed := must(t, "keys", "create", "--config", file, "--name", "checkout", "--scopes", "read,hold", "--ttl", "1h")
	key := token(printed)
	id := strings.Split(key, "_")[1]
	if !strings.Contains(printed, "key "+id+" (checkout) with scopes read,hold") {
		t.Errorf("`keys create` prints\n%s", printed)
	}
	eventually(t, "the new key opens", func() bool { return status(key) == http.StatusOK })
	if r := (caller{s.base, key}).want(t, http.StatusForbidden, "GET", "/v1/admin/keys", "", ""); r.at(t, "code") != "forbidden" {
		t.Errorf("%s", r.body)
	}
	wantListed(t, file, id, "valid")
	if strings.Contains(must(t, "keys", "list", "--config", file), strings.Split(key, "_")[2]) {
		t.Error("the list shows a secret")
	}

	if printed := must(t, "keys", "revoke", id, "--config", file); !strings.Contains(printed, "(checkout) is revoked") {
		t.Errorf("`keys revoke` prints\n%s", printed)
	}
	eventually(t, "the revoked key opens nothing", func() bool { return status(key) == http.StatusUnauthorized })
	wantListed(t, file, id, "revoked")
	must(t, "keys", "revoke", id, "--config", file) // again changes nothing

	short := token(must(t, "keys", "create", "--config", file, "--name", "short", "--scopes", "read", "--ttl", "1ms"))
	wantListed(t, file, strings.Split(short, "_")[1], "expired")
	if got := status(short); got != http.StatusUnauthorized {
		t.Errorf("an expired key gets %d", got)
	}
}

func wantListed(t *testing.T, file, id, state string) {
	t.Helper()
	for line := range strings.Lines(must(t, "keys", "list", "--config", file)) {
		if fields := strings.Fields(line); fields[0] == id {
			if fields[1] != state {
				t.Errorf("listed as %s, want %s", line, state)
			}
			return
		}
	}
	t.Errorf("key %s is not listed", id)
}

// The register of the keys is the one that --register, the environment or the file names: a key in another one opens nothing.
func TestKeysFindTheRegister(t *testing.T) {
	file := clusterFile(t)
	must(t, "migrate", "up", "--config", file)
	printed := must(t, "serve", "--config", file, "--print-config")
	_, rest, _ := strings.Cut(printed, "register: ")
	path, _, _ := strings.Cut(rest, "\n")
	must(t, "keys", "create", "--register", path, "--name", "one", "--scopes", "read")
	byEnvironment, err := command(t, []string{"STATESVC_REGISTER=" + path}, "keys", "list")
	if err != nil {
		t.Fatal(err)
	}
	if byFile := must(t, "keys", "list", "--config", file); byFile != byEnvironment || strings.Count(byFile, "\n") != 1 {
		t.Errorf("by --config:\n%s\nby the environment:\n%s", byFile, byEnvironment)
	}
	refused(t, []string{"keys", "create", "--register", path, "--name", "x", "--scopes", "write"}, "write", "read, hold, issue")
	refused(t, []string{"keys", "create", "--register", path, "--name", "x"}, "scopes")
	refused(t, []string{"keys", "revoke", "0123456789abcdef", "--register", path}, "no such key")
}
