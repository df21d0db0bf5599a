//go:build unix

package register

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// A lock is held for one sync, so a waiter looks again very soon: a longer pause would let a busy process win every time.
// A lock that is not free after lockHurried looks belongs to a stopped process, and waiting gets cheap.
const (
	lockPause      = 250 * time.Microsecond
	lockHurried    = 400
	lockPauseLater = 5 * time.Millisecond
)

// lock takes the exclusive flock of file, which ends with the process at the latest. It polls instead of waiting in the
// kernel, because a waiting system call could not be ended by ctx and would keep a thread.
func lock(ctx context.Context, file *os.File) error {
	for try := 0; ; try++ {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		if err := pause(ctx, lockPauseAt(try)); err != nil {
			return fmt.Errorf("lock %s: %w", file.Name(), err)
		}
	}
}

func lockPauseAt(try int) time.Duration {
	if try < lockHurried {
		return lockPause
	}
	return lockPauseLater
}

// unlock cannot fail in a way that matters: the worst is that the lock ends with the process.
func unlock(file *os.File) {
	_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
}
