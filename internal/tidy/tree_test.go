package tidy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// root is the repository's, seen from this package, where go test runs its tests.
const root = "../.."

const headerMax = 2000 // bytes in which a generator says that it wrote the file

// file is one file of the tree: what is in the index, and what would be if it were added now.
type file struct {
	path string // relative to the root, with slashes
	text []byte
}

// tree reads all files that git knows or would take; ignored ones (bin/, node_modules/) are nobody's business.
func tree(t *testing.T) []file {
	t.Helper()
	command := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	command.Dir = root
	output, err := command.Output()
	if err != nil {
		t.Fatalf("list the files of the repository: %v", err)
	}
	var files []file
	for path := range strings.SplitSeq(strings.TrimSuffix(string(output), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
		if os.IsNotExist(err) {
			continue // deleted, but still in the index
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file{path, text})
	}
	if len(files) == 0 {
		t.Fatal("no files: not a repository?")
	}
	return files
}

// generated is the convention of go.dev/s/generatedcode, which other languages' generators follow closely enough.
func (f file) generated() bool {
	head, _, _ := bytes.Cut(f.text, []byte("\npackage "))
	head = head[:min(len(head), headerMax)]
	return bytes.Contains(head, []byte("DO NOT EDIT")) || bytes.Contains(head, []byte("auto-generated"))
}

// binary is git's own rule of thumb: a NUL among the first bytes.
func (f file) binary() bool {
	return bytes.IndexByte(f.text[:min(len(f.text), 8000)], 0) >= 0
}

// hasSuffix says whether the path ends in one of the suffixes; no suffixes means every path.
func (f file) hasSuffix(suffixes []string) bool {
	for _, suffix := range suffixes {
		if strings.HasSuffix(f.path, suffix) {
			return true
		}
	}
	return len(suffixes) == 0
}
