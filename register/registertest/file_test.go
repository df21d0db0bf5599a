package registertest_test

import (
	"path/filepath"
	"testing"

	"github.com/statesvc/statesvc/register"
)

func TestFileConforms(t *testing.T) {
	runSuite(t, func(t *testing.T) store {
		path := filepath.Join(t.TempDir(), "register")
		return func() register.Register { return openFile(t, path) }
	})
}

func openFile(t *testing.T, path string) *register.File {
	t.Helper()
	f, err := register.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}
