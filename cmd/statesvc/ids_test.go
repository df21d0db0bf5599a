package main

import (
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"
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
