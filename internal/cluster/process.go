package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Identity is a process that cannot be mistaken for another one that is given the same id later.
type Identity struct {
	PID       int    `json:"pid"`
	StartedAt uint64 `json:"started_at"` // ticks since the start of the machine
	BootID    string `json:"boot_id"`    // of that start
}

// errNoProcess says that a process has ended.
var errNoProcess = errors.New("it does not run")

// Fields of /proc/PID/stat after the name, counted from 0. The name may contain anything, so they are counted from its end.
const (
	statState   = 0
	statParent  = 1
	statStarted = 19
)

// identify reads who has a process id now. A process that has ended and is not reaped yet does not count.
func identify(pid int) (id Identity, parent int, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return Identity{}, 0, errNoProcess
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) <= statStarted || fields[statState] == "Z" || fields[statState] == "X" {
		return Identity{}, 0, errNoProcess
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Identity{}, 0, fmt.Errorf("tell starts of the machine apart: %w", err)
	}
	id = Identity{PID: pid, BootID: strings.TrimSpace(string(boot))}
	if id.StartedAt, err = strconv.ParseUint(fields[statStarted], 10, 64); err == nil {
		parent, err = strconv.Atoi(fields[statParent])
	}
	return id, parent, err
}

// Alive says whether exactly this process runs, or is paused.
func (id Identity) Alive() bool {
	if id.PID == 0 {
		return false
	}
	now, _, err := identify(id.PID)
	return err == nil && now == id
}

// Paused says whether it is stopped (SIGSTOP).
func (id Identity) Paused() bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(id.PID), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	return strings.HasPrefix(rest, "T") || strings.HasPrefix(rest, "t")
}

// signal reaches exactly this process, but for the moment between looking and sending.
func (id Identity) signal(signal syscall.Signal) error {
	if !id.Alive() {
		return errNoProcess
	}
	if err := syscall.Kill(id.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to %d: %w", signal, id.PID, err)
	}
	return nil
}

// awaitEnd waits until it has ended.
func (id Identity) awaitEnd(patience time.Duration) bool {
	for deadline := time.Now().Add(patience); id.Alive(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// launch starts a process in a session of its own, so that it outlives us and the terminal. Its log is appended to.
func launch(program string, args []string, env []string, log string) (Identity, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return Identity{}, fmt.Errorf("open the log: %w", err)
	}
	defer file.Close()
	command := exec.Command(program, args...)
	command.Stdout, command.Stderr, command.Env = file, file, env
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return Identity{}, fmt.Errorf("start %s: %w", strings.Join(append([]string{program}, args...), " "), err)
	}
	id, _, err := identify(command.Process.Pid)
	return id, errors.Join(err, command.Process.Release())
}
