package instance_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

func openRegister(t *testing.T, folder string) *register.File {
	t.Helper()
	reg, err := register.OpenFile(filepath.Join(folder, "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	return reg
}

func sqlite(folder string, names ...string) (shards []instance.Shard) {
	for _, name := range names {
		shards = append(shards, instance.Shard{Name: name, File: filepath.Join(folder, name+".db")})
	}
	return shards
}

// Whoever makes a cluster again makes the same one: other shards would take buckets that others serve.
func TestBootstrapRefusesOtherShards(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	reg := openRegister(t, folder)
	bootstrap := func(names ...string) error {
		return instance.Bootstrap(t.Context(), reg, sqlite(folder, names...), time.Now, func(string) {})
	}
	for range 2 {
		if err := bootstrap("s1", "s2"); err != nil {
			t.Fatal(err)
		}
	}
	before, err := reg.Get(t.Context(), shard.MapKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range [][]string{{"s1"}, {"s1", "s2", "s3"}, {"s2", "s1"}, {"s1", "b"}} {
		if err := bootstrap(names...); !errors.Is(err, instance.ErrOtherShards) {
			t.Errorf("%v: %v", names, err)
		}
	}
	if after, err := reg.Get(t.Context(), shard.MapKey); err != nil || after.Rev != before.Rev {
		t.Errorf("the map was written again: %v %v", after.Rev, err)
	}
	for _, name := range []string{"s3", "b"} {
		if _, err := os.Stat(filepath.Join(folder, name+".db")); err == nil {
			t.Errorf("shard %s was made", name)
		}
	}
}
