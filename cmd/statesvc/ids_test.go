package main

import (
	"encoding/hex"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/statesvc/statesvc/internal/scratch"
)

var update = flag.Bool("update", false, "rewrite what is golden in testdata")

// vectorKey is the MAC key of docs/vectors/ids.tsv.
var vectorKey = hex.EncodeToString([]byte("statesvc-test-key-0123456789abcd"))

// The published ids, as `id decode` shows them.
func TestIDDecode(t *testing.T) {
	args := []string{"id", "decode", "--key", vectorKey}
	for _, fields := range vectors(t, "ids.tsv") {
		args = append(args, fields[len(fields)-1])
	}
	got := must(t, args...)
	const golden = "testdata/decode.txt"
	if *update {
		write(t, golden, got)
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("it prints\n%s\nand %s has\n%s", got, golden, want)
	}
}

// What the decoder says of an id without a key, with another cluster's, and of what is no id.
func TestIDDecodeJudges(t *testing.T) {
	const id = "hold_01hf7yat00g40b3c0020a007ws"
	for _, c := range []struct {
		want string
		args []string
	}{
		{"mac       3993, right\n", []string{"--key", vectorKey}},
		{"mac       3993, WRONG: mistyped, forged, ", []string{"--key", strings.Repeat("00", 32)}},
		{"mac       3993, not checked; pass --key\n", nil},
		{"time      2023-11-14T22:13:20.000Z\n", nil},
		{"bucket    12720\n  placement 1\n", nil},
	} {
		if got := must(t, append([]string{"id", "decode", id}, c.args...)...); !strings.Contains(got, c.want) {
			t.Errorf("%v: there is no %q in\n%s", c.args, c.want, got)
		}
	}
	got, err := command(t, nil, "id", "decode", "hold_01HF7YAT00G40B3C0020A007WS", id)
	if err == nil || !strings.Contains(err.Error(), "malformed") || !strings.Contains(got, "12720") {
		t.Errorf("a bad id beside a good one: %v\n%s", err, got)
	}
	refused(t, []string{"id", "decode", "order-1"}, "malformed", "26 of 0–9 a–z")
	refused(t, []string{"id", "decode", "--key", "secret", id}, "--key", "hex")
	refused(t, []string{"id", "decode", "--key", "00", id}, "--key")
	refused(t, []string{"id", "bucket", "no owner"}, "no owner")
}

// The published buckets, as `id bucket` shows them.
func TestIDBucket(t *testing.T) {
	for _, fields := range vectors(t, "buckets.tsv") {
		if strings.Contains(fields[0], "/") {
			continue // a state document, not an owner
		}
		if got := strings.Fields(must(t, "id", "bucket", fields[0])); got[1] != fields[1] {
			t.Errorf("%s: bucket %s, want %s", fields[0], got[1], fields[1])
		}
	}
}

// What `id mint` prints are ids that the service knows as the owner's: they are in his bucket, and holds and cancels take them.
func TestIDMint(t *testing.T) {
	data := t.TempDir()
	s := serve(t, devServes, "dev", "--listen", "127.0.0.1:0", "--data", data)
	demo := caller{s.base, demoToken(t, data)}

	minted := strings.Fields(must(t, "id", "mint", demoOwner, "--count", "3", "--address", s.base, "--key", demo.token))
	if len(minted) != 3 || !slices.IsSorted(minted) {
		t.Fatalf("minted: %v", minted)
	}
	bucket := strings.Fields(must(t, "id", "bucket", demoOwner))[1]
	for _, text := range minted {
		if decoded := must(t, "id", "decode", text); !strings.Contains(decoded, "bucket    "+bucket+"\n") {
			t.Errorf("an id of bucket %s is decoded as\n%s", bucket, decoded)
		}
	}
	hold := fmt.Sprintf(`{"hold_id":%q,"owner":%q,"order_id":"o","items":[{"kind":"money","amount":{"amount":1,"currency":"CNY"}}]}`,
		minted[0], demoOwner)
	if r := demo.want(t, http.StatusCreated, "POST", "/v1/holds", "hold", hold); r.at(t, "hold", "hold_id") != minted[0] {
		t.Errorf("the hold has another id: %s", r.body)
	}
	demo.want(t, http.StatusOK, "POST", "/v1/holds/"+minted[1]+"/cancel", "cancel", fmt.Sprintf(`{"owner":%q}`, demoOwner))

	env := []string{"STATESVC_ADDRESS=" + s.base, "STATESVC_KEY=" + demo.token}
	one, err := command(t, env, "id", "mint", demoOwner)
	if err != nil || len(strings.Fields(one)) != 1 || slices.Contains(minted, strings.TrimSpace(one)) {
		t.Errorf("by the environment: %q, %v", one, err)
	}
	if printed, err := command(t, env, "serve", "--config", clusterFile(t), "--print-config"); err != nil {
		t.Errorf("the environment of callers stops an instance: %v\n%s", err, printed)
	}

	at := func(more ...string) []string { return append([]string{"id", "mint", "--address", s.base}, more...) }
	reader := demo.want(t, http.StatusCreated, "POST", "/v1/admin/keys", "", `{"name":"reader","scopes":["read"]}`).at(t, "token").(string)
	refused(t, at(demoOwner, "--key", reader), "forbidden", "--key", "scope hold")
	refused(t, at(demoOwner, "--key", "secret"), "unauthenticated", "--key")
	refused(t, at("no owner", "--key", demo.token), "invalid-request", "/owner")
	refused(t, at(demoOwner, "--key", demo.token, "--count", "1001"), "invalid-request", "/count")
}

// What `id mint` says when it cannot even ask.
func TestIDMintAsksNobody(t *testing.T) {
	mint := func(more ...string) []string { return append([]string{"id", "mint"}, more...) }
	refused(t, mint("user-1"), "--key", "STATESVC_KEY", "statesvc keys create")
	refused(t, mint("user-1", "--key", "k", "--kind", "coupon"), "--kind", `"coupon"`, "only of hold")
	refused(t, mint("user-1", "--key", "k", "--count", "0"), "--count")
	refused(t, mint("--key", "k"), "accepts 1 arg")
	for _, address := range []string{"127.0.0.1:8080", "ftp://127.0.0.1", "http://", "%", ""} {
		refused(t, mint("user-1", "--key", "k", "--address", address), "--address", "http://")
	}
	port, err := scratch.NewPort()
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	refused(t, mint("user-1", "--key", "k", "--address", "http://"+port.Addr()), "http://"+port.Addr(), "refused", "--address names it")
}

// vectors reads the lines of a file of docs/vectors.
func vectors(t testing.TB, name string) (lines [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/vectors/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.Split(strings.TrimSpace(line), "\t"))
		}
	}
	return lines
}
