package register_test

import (
	"path/filepath"
	"testing"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/register/registertest"
)

func TestFileConforms(t *testing.T) {
	registertest.Run(t, func(t *testing.T) registertest.Store {
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
