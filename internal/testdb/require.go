package testdb

import (
	"os"
	"testing"
)

// require ends the test if a server is missing. In CI that is a failure: a suite that skips its databases proves nothing.
func require(t testing.TB, missing error) {
	t.Helper()
	switch {
	case missing == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("NOT TESTED, and CI=true: %v", missing)
	default:
		t.Skipf("NOT TESTED: %v", missing)
	}
}

func check(t testing.TB, attempt string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", attempt, err)
	}
}
