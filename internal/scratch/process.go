package scratch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a child that dies with this program.
//
// On Linux the kernel does that (PR_SET_PDEATHSIG), but it watches the thread that forked, not the program: were the
// child started from any goroutine, it would die whenever the Go runtime retires that thread. So one goroutine per child
// locks itself to a thread, starts the child, waits for it on the same thread and ends with it.
//
// The kernel forgets the wish when the child changes its user, so a server must be started as the user it runs as.
type Process struct {
	command *exec.Cmd
	done    chan struct{} // closed when the child is gone and reaped
	err     error         // how it ended; read after done
}

// StartProcess starts command. The caller must not call command.Wait; Done and Err tell its end.
func StartProcess(command *exec.Cmd) (*Process, error) {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	dieWithParent(command.SysProcAttr)

	process := &Process{command: command, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			process.wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	return process, nil
}

func (p *Process) wait() {
	p.err = p.command.Wait()
	close(p.done)
}

// PID is the child's process id. It may belong to another process once Done is closed.
func (p *Process) PID() int {
	return p.command.Process.Pid
}

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} {
	return p.done
}

// Alive says whether the child has not ended yet; a stopped (SIGSTOP) child is alive.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Err is how the child ended: nil for exit status 0. Valid once Done is closed.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Signal sends a signal; to a child that has ended it does nothing. os.Process keeps it from reaching a stranger that
// was given the PID of an ended child.
func (p *Process) Signal(signal os.Signal) error {
	err := p.command.Process.Signal(signal)
	if err == nil || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return fmt.Errorf("send %s to %d: %w", signal, p.PID(), err)
}

// Pause stops the child (SIGSTOP) and returns when it does nothing any more. The signal alone does not promise that: a
// thread on another core goes on for a moment, long enough to answer a query.
func (p *Process) Pause() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return awaitPause(p.PID())
}

// Resume lets a paused child go on (SIGCONT).
func (p *Process) Resume() error {
	return p.Signal(syscall.SIGCONT)
}

// Kill ends the child at once (SIGKILL) and waits until it is gone. It works on a stopped child as well.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Stop asks the child to end (SIGTERM) and kills it if it has not within patience.
func (p *Process) Stop(patience time.Duration) error {
	// A stopped child would never hear the SIGTERM.
	if err := errors.Join(p.Signal(syscall.SIGTERM), p.Resume()); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		return p.Kill()
	}
}
