//go:build linux

package system_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const diskSize = "size=48m"

// The disk of the embedded mode runs full under load: with the shards, the register and everything else on it. Callers hear
// 5xx, nothing that was acknowledged is lost, and when there is space again, the service goes on without help.
func TestDiskFull(t *testing.T) {
	folder := tmpfs(t)
	c := newCluster(t, settings{dev: true, folder: filepath.Join(folder, "data")})
	l := startLoad(c, 4)
	l.goesOn(t, 50)
	filler := fill(t, folder)
	before := l.faults()
	waitFor(t, "callers to notice", settledPatience, func() bool { return l.faults() > before+20 })
	if l.count("internal") > 0 {
		t.Error("a full disk was taken for a bug")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.goesOn(t, 50)
	records := l.stop(t)
	c.audit(t, records)
	c.instances[0].restart(t)
	c.audit(t, records)
}

// tmpfs is a small disk.
func tmpfs(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	err := syscall.Mount("tmpfs", folder, "tmpfs", 0, diskSize)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skip("NOT TESTED: making a small disk takes the right to mount")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// fill takes all the space that is left, down to the last page.
func fill(t *testing.T, folder string) (path string) {
	t.Helper()
	path = filepath.Join(folder, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	time.Sleep(10 * time.Millisecond)
	return path
}
