package scratch_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/scratch"
)

const (
	helperVariable = "STATESVC_SCRATCH_HELPER"
	patience       = 20 * time.Second
)

// TestMain makes this binary its own helper: a program that borrows a folder and a process and is then killed.
func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) != "" {
		borrow()
		return
	}
	os.Exit(m.Run())
}

func sleeper() *exec.Cmd { return &exec.Cmd{Path: "/bin/sleep", Args: []string{"sleep", "600"}} }

// borrow tells its borrowings on standard output and waits to be killed.
func borrow() {
	folder, err := scratch.NewFolder("helper")
	if err != nil {
		fmt.Println("error", err)
		return
	}
	process, err := scratch.StartProcess(sleeper())
	if err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println(folder.Path, process.PID())
	select {}
}

// eventually waits for what another process does; there is no signal to wait for, only the deadline.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Errorf("not within %s: %s", patience, what)
}

// running is false for a zombie as well: on machines whose init does not reap, a killed orphan stays one for ever.
func running(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func gone(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist)
}

func TestNothingOutlivesAKilledProgram(t *testing.T) {
	t.Parallel()
	helper := exec.CommandContext(t.Context(), os.Args[0])
	helper.Env = append(os.Environ(), helperVariable+"=1")
	output, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	path, number, _ := strings.Cut(strings.TrimSpace(line), " ")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("helper says %q", line)
	}
	if !running(pid) || gone(path) {
		t.Fatalf("helper has not borrowed what it says: %q", line)
	}

	if err := helper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = helper.Wait() // it was killed
	eventually(t, "its process dies", func() bool { return !running(pid) })
	eventually(t, "its folder is removed", func() bool { return gone(path) })
}

// The cleaner may be killed too; then the next folder's sweep does its work. A folder without a holder stands for that.
func TestSweepTakesFoldersWithoutHolder(t *testing.T) {
	root, err := scratch.Root()
	if err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(root, "orphan-"+strconv.Itoa(os.Getpid()))
	if err := errors.Join(os.Mkdir(orphan, 0o700), os.WriteFile(orphan+".lock", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	held, err := scratch.NewFolder("held")
	if err != nil {
		t.Fatal(err)
	}
	if next, err := scratch.NewFolder("next"); err != nil || next.Remove() != nil {
		t.Fatal("make and remove another folder:", err)
	}
	if !gone(orphan) || !gone(orphan+".lock") {
		t.Error("the orphan is still there")
	}
	if gone(held.Path) {
		t.Error("a folder in use was swept")
	}
	if err := held.Remove(); err != nil {
		t.Error(err)
	}
	if !gone(held.Path) || !gone(held.Path+".lock") {
		t.Error("a removed folder is still there")
	}
}

func TestPortsDiffer(t *testing.T) {
	t.Parallel()
	seen := make(map[int]bool)
	for range 20 {
		port, err := scratch.NewPort()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = port.Close() })
		if seen[port.Number] {
			t.Fatalf("port %d was given twice", port.Number)
		}
		seen[port.Number] = true
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", port.Addr())
		if err != nil {
			t.Fatalf("listen on a port that should be free: %v", err)
		}
		_ = listener.Close()
	}
}

func TestProcessEnds(t *testing.T) {
	t.Parallel()
	ends := map[string]func(*scratch.Process) error{
		"kill":           func(p *scratch.Process) error { return p.Kill() },
		"stop":           func(p *scratch.Process) error { return p.Stop(patience) },
		"kill if paused": func(p *scratch.Process) error { return errors.Join(p.Pause(), p.Kill()) },
		"stop if paused": func(p *scratch.Process) error { return errors.Join(p.Pause(), p.Stop(patience)) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			process, err := scratch.StartProcess(sleeper())
			if err != nil {
				t.Fatal(err)
			}
			if !process.Alive() {
				t.Fatal("not alive after the start")
			}
			if err := end(process); err != nil {
				t.Fatal(err)
			}
			if process.Alive() || process.Err() == nil {
				t.Errorf("alive: %t, end: %v; want a process that a signal ended", process.Alive(), process.Err())
			}
			if err := errors.Join(process.Kill(), process.Stop(patience)); err != nil {
				t.Errorf("ending it again: %v", err)
			}
		})
	}
}

// The thread that starts a child may not be the one whose end the kernel watches: were it, the child would die here.
func TestProcessOutlivesTheGoroutineThatStartedIt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	started := make(chan *scratch.Process)
	go func() {
		runtime.LockOSThread()
		process, err := scratch.StartProcess(sleeper())
		if err != nil {
			t.Error(err)
		}
		started <- process // the goroutine ends locked, so its thread ends with it
	}()
	select {
	case process := <-started:
		time.Sleep(100 * time.Millisecond) // time for the thread to end and the kernel to act on it
		if !process.Alive() {
			t.Error("the child died with the thread")
		}
		if err := process.Kill(); err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("no process")
	}
}

func TestStartProcessSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := scratch.StartProcess(&exec.Cmd{Path: "/nonexistent/server"})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/nonexistent/server") {
		t.Errorf("error %v does not say what is missing", err)
	}
}
