package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Making a cluster twice is making it once: keys and data stay.
func TestMigrateTwice(t *testing.T) {
	file := clusterFile(t)
	first := must(t, "migrate", "up", "--config", file)
	for _, want := range []string{
		"shard 1 s1", "buckets 0 to 8191", "shard 2 s2", "buckets 8192 to 16383",
		"statesvc keys create --config " + file + " --name checkout", "statesvc serve --config " + file,
	} {
		if !strings.Contains(first, want) {
			t.Errorf("`migrate up` does not say %q:\n%s", want, first)
		}
	}
	key := token(must(t, "keys", "create", "--config", file, "--name", "test", "--scopes", "read,issue"))
	s := serve(t, serveServes, "serve", "--config", file)
	c := caller{s.base, key}
	c.want(t, http.StatusCreated, "POST", "/v1/owners/user-1/lots", "k", creditBody("r", 5))

	if second := must(t, "migrate", "up", "--config", file); second != first { // while the instance serves
		t.Errorf("the second time:\n%s\nthe first time:\n%s", second, first)
	}
	c.want(t, http.StatusCreated, "POST", "/v1/owners/user-1/lots", "k2", creditBody("r2", 5))
	if r := c.want(t, http.StatusCreated, "POST", "/v1/owners/user-1/lots", "k", creditBody("r", 5)); !r.replayed {
		t.Error("the credit of before is not there any more")
	}
	status := must(t, "migrate", "status", "--config", file)
	if strings.Count(status, "applied") < 2 || strings.Contains(status, "missing") {
		t.Errorf("status:\n%s", status)
	}
}

// Another list of shards than the map has would let shards take buckets that others serve.
func TestMigrateRefusesOtherShards(t *testing.T) {
	file := clusterFile(t)
	must(t, "migrate", "up", "--config", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	s1, s2 := lines[len(lines)-2], lines[len(lines)-1]
	head := strings.Join(lines[:len(lines)-2], "\n")
	for name, shards := range map[string][]string{
		"one less": {s1}, "one more": {s1, s2, "  - {name: s3, file: " + filepath.Join(folder, "s3.db") + "}"},
		"in another order": {s2, s1}, "renamed": {s1, strings.ReplaceAll(s2, "name: s2", "name: b")},
	} {
		other := write(t, filepath.Join(folder, "other.yaml"), head+"\n"+strings.Join(shards, "\n")+"\n")
		t.Run(name, func(t *testing.T) {
			refused(t, []string{"migrate", "up", "--config", other}, "[s1 s2]", "correct the configuration")
		})
	}
	if _, err := os.Stat(filepath.Join(folder, "s3.db")); err == nil {
		t.Error("a third shard was made")
	}
}

// Before the cluster is made, nothing starts, nothing is created, and the message says what to do first.
func TestBeforeMigrate(t *testing.T) {
	file := clusterFile(t)
	folder := filepath.Dir(file)
	programs := [][]string{
		{"serve", "--config", file},
		{"keys", "list", "--config", file},
		{"keys", "create", "--config", file, "--name", "a", "--scopes", "read"},
		{"keys", "revoke", "0123456789abcdef", "--config", file},
	}
	for _, args := range programs {
		refused(t, args, "there is no register "+filepath.Join(folder, "register"), "statesvc migrate up --config FILE")
	}
	if left, err := filepath.Glob(filepath.Join(folder, "*")); err != nil || len(left) != 1 {
		t.Errorf("files were made: %v %v", left, err)
	}
	reg, err := makeRegisterFile(filepath.Join(folder, "register")) // a register without a cluster
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range programs {
		refused(t, args, "holds no cluster", "statesvc migrate up --config FILE")
	}
}
