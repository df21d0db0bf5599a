package main

import (
	"regexp"
	"testing"
)

// TestMutantsFitTheTree: the code moves on, and each mutant must move with it. That its tests notice it takes minutes, and is
// what `make mutants` shows.
func TestMutantsFitTheTree(t *testing.T) {
	names := map[string]bool{}
	for _, m := range mutants {
		if names[m.name] {
			t.Errorf("there are two mutants %s", m.name)
		}
		names[m.name] = true
		if _, err := regexp.Compile(m.tests); err != nil || m.tests == "" {
			t.Errorf("%s: tests %q: %v", m.name, m.tests, err)
		}
		if _, err := m.mutated("../.."); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

func TestFirstFailure(t *testing.T) {
	for output, want := range map[string]string{
		"--- FAIL: TestA (0.1s)\n    --- FAIL: TestA/x (0.1s)\n--- FAIL: TestB (0s)\nFAIL\n": "TestA/x",
		"--- FAIL: TestB (0s)\nFAIL\n":         "TestB",
		"panic: test timed out after 1m0s\n\n": "a crash or a timeout",
	} {
		if got := firstFailure(output); got != want {
			t.Errorf("%q: %q, want %q", output, got, want)
		}
	}
}
