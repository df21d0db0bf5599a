package shard

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// designBuckets repeats the vectors of the design, so that the published file cannot drift either. Changing one is
// forbidden for ever.
var designBuckets = map[string]Bucket{
	"a":             12965,
	"user-1":        12720,
	"user-2":        13898,
	"guest:7f3a":    1840,
	"merchant:42":   7722,
	"product/sku-1": 1699,
}

// PublishedBuckets are the vectors of docs/vectors/buckets.tsv. Tests on databases, in another package, check them too.
func PublishedBuckets(t testing.TB) map[string]Bucket {
	t.Helper()
	file, err := os.Open("../docs/vectors/buckets.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	published := map[string]Bucket{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var text string
		var bucket Bucket
		if _, err := fmt.Sscanf(lines.Text(), "%s %d", &text, &bucket); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		published[text] = bucket
	}
	return published
}

func TestBucketVectors(t *testing.T) {
	published := PublishedBuckets(t)
	for text, bucket := range published {
		if got := BucketOf(text); got != bucket {
			t.Errorf("BucketOf(%q) = %d, want %d", text, got, bucket)
		}
	}
	for text, want := range designBuckets {
		if got, ok := published[text]; !ok || got != want {
			t.Errorf("docs/vectors/buckets.tsv says %d for %q, want %d", got, text, want)
		}
	}
}

func TestBucketIsInRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owner := rapid.String().Draw(t, "owner")
		if b := BucketOf(owner); b >= Buckets {
			t.Fatalf("BucketOf(%q) = %d", owner, b)
		}
	})
}

func TestBucketOfDoesNotAllocate(t *testing.T) {
	owner := strings.Repeat("u", maxOwnerLen)
	if n := testing.AllocsPerRun(100, func() { BucketOf(owner) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestValidOwner(t *testing.T) {
	for _, owner := range []string{"a", "Z", "0", "user-1", "guest:7f3a", "a.b_c:d@e-f", strings.Repeat("x", 64)} {
		if !ValidOwner(owner) {
			t.Errorf("%q is refused", owner)
		}
	}
	for _, owner := range []string{"", " ", "user 1", "user\n", "a/b", "ü", "a\x00", "a\xff", "a'b", strings.Repeat("x", 65)} {
		if ValidOwner(owner) {
			t.Errorf("%q is accepted", owner)
		}
	}
}

// Every byte is decided alone, so the alphabet can be compared as a whole.
func TestOwnerAlphabet(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@-"
	for c := range 256 {
		b := byte(c)
		if want := strings.IndexByte(alphabet, b) >= 0; ValidOwner(string([]byte{b})) != want {
			t.Errorf("byte %#x: accepted = %v, want %v", b, !want, want)
		}
	}
}
