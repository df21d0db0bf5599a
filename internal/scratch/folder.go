package scratch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// cleaner removes the folder when its standard input ends, that is, when the program that holds the other end is gone.
// It tries again for a while: a server that is just being killed may still be writing. The lock goes last, so that sweep
// finishes what the cleaner could not.
const cleaner = `cat >/dev/null; for i in 1 2 3 4 5; do rm -rf -- "$1" && rm -f -- "$1` + lockSuffix + `" && break; sleep 1; done`

const lockSuffix = ".lock"

// Folder is a folder of its own for a server's data.
type Folder struct {
	Path string

	lock    *os.File // held while the folder is in use; sweep takes a folder whose lock is free
	cleaner *exec.Cmd
	alive   io.Closer // our end of the cleaner's standard input

	once sync.Once
	err  error
}

// NewFolder makes an empty folder, after removing those of killed programs.
func NewFolder(name string) (*Folder, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	// Between making a lock file and locking it, a sweep would see it free: so makers and sweepers take turns.
	turn, err := Lock(filepath.Join(root, "turn"))
	if err != nil {
		return nil, err
	}
	defer turn.Close()
	sweep(root)

	path, err := os.MkdirTemp(root, name+"-")
	if err != nil {
		return nil, fmt.Errorf("make scratch folder: %w", err)
	}
	folder := &Folder{Path: path}
	if folder.lock, err = Lock(path + lockSuffix); err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	if err := folder.startCleaner(); err != nil {
		return nil, errors.Join(err, folder.Remove())
	}
	return folder, nil
}

// startCleaner runs the shell in a session of its own, so that the Ctrl-C that ends a test run does not end it too.
func (f *Folder) startCleaner() error {
	command := exec.Command("/bin/sh", "-c", cleaner, "sh", f.Path)
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	alive, err := command.StdinPipe()
	if err != nil {
		return fmt.Errorf("make cleaner's pipe: %w", err)
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start cleaner of %s: %w", f.Path, err)
	}
	f.cleaner, f.alive = command, alive
	return nil
}

// Remove deletes the folder and gives its lock back. Servers that use it must have ended before.
func (f *Folder) Remove() error {
	f.once.Do(func() {
		f.err = os.RemoveAll(f.Path)
		if f.cleaner != nil {
			f.err = errors.Join(f.err, f.alive.Close(), f.cleaner.Wait())
		}
		if err := os.Remove(f.Path + lockSuffix); !errors.Is(err, os.ErrNotExist) { // the cleaner may have been faster
			f.err = errors.Join(f.err, err)
		}
		f.err = errors.Join(f.err, f.lock.Close())
	})
	return f.err
}

// sweep removes the folders nobody holds any more. What it cannot remove is left for the next sweep: a folder of a
// killed run is no reason to fail this one.
func sweep(root string) {
	locks, _ := filepath.Glob(filepath.Join(root, "*"+lockSuffix)) // the pattern is well formed
	for _, path := range locks {
		file, err := tryLock(path)
		if err != nil {
			continue
		}
		if os.RemoveAll(strings.TrimSuffix(path, lockSuffix)) == nil {
			_ = os.Remove(path)
		}
		_ = file.Close()
	}
}
