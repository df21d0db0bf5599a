package scratch

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

func dieWithParent(attributes *syscall.SysProcAttr) {
	attributes.Pdeathsig = syscall.SIGKILL
}

// awaitPause waits until all threads of the child have stopped, or it has ended. WNOWAIT leaves both to be seen by others:
// the end by the one who reaps, the stop by the next call.
func awaitPause(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err == nil, errors.Is(err, unix.ECHILD): // ECHILD: it has ended and is reaped
			return nil
		default:
			return fmt.Errorf("wait until %d has stopped: %w", pid, err)
		}
	}
}
