package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// errTaken says that another program, or another part of this one, holds the lock.
var errTaken = errors.New("taken")

// errForeign keeps us from working in a folder that another user laid ready under our name.
var errForeign = errors.New("belongs to another user")

// Root is where all scratch folders and locks of this user live. It is per user because a folder that root made
// cannot be cleaned by anybody else.
func Root() (string, error) {
	root := filepath.Join(os.TempDir(), "statesvc-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(root, 0o700); err != nil {
		return "", fmt.Errorf("make scratch root: %w", err)
	}
	info, err := os.Lstat(root)
	if err != nil {
		return "", fmt.Errorf("look at scratch root: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Getuid() {
		return "", fmt.Errorf("scratch root %s: %w", root, errForeign)
	}
	return root, nil
}

// Lock waits until it holds the lock on path, creating the file if needed. Closing the file gives the lock back.
func Lock(path string) (*os.File, error) {
	return lock(path, syscall.LOCK_EX)
}

func tryLock(path string) (*os.File, error) {
	return lock(path, syscall.LOCK_EX|syscall.LOCK_NB)
}

func lock(path string, how int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for {
		err = syscall.Flock(int(file.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errTaken
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}
