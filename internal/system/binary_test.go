package system_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/scratch"
)

const (
	readyPatience = 60 * time.Second // a start takes a second; a busy machine and the race detector may take many
	endPatience   = 30 * time.Second
)

func TestMain(m *testing.M) {
	status := m.Run()
	for _, folder := range folders {
		_ = os.RemoveAll(folder)
	}
	os.Exit(status)
}

var folders []string // of binaries

// plain and racing are the program with its fail points. The second has the race detector, if the tests have it; SQLite, which
// is Go, would take minutes with it.
var (
	plain  = sync.OnceValues(func() (string, error) { return build("CGO_ENABLED=0") })
	racing = sync.OnceValues(func() (string, error) {
		if !raceDetector {
			return plain()
		}
		return build("CGO_ENABLED=1", "-race", "-gcflags=modernc.org/...=-race=false") // as the Makefile says
	})
)

func build(env string, flags ...string) (string, error) {
	folder, err := os.MkdirTemp("", "statesvc-system-")
	if err != nil {
		return "", err
	}
	folders = append(folders, folder)
	path := filepath.Join(folder, "statesvc")
	args := append([]string{"build", "-tags", "failpoints", "-o", path}, flags...)
	command := exec.Command("go", append(args, "./cmd/statesvc")...)
	command.Dir = filepath.Join("..", "..")
	command.Env = append(os.Environ(), env)
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, output)
	}
	return path, nil
}

// program is one run of the binary.
type program struct {
	*scratch.Process
	log *lockedBuffer
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func launch(t *testing.T, binary func() (string, error), env []string, args ...string) *program {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(path, args...)
	p := &program{log: &lockedBuffer{}}
	command.Env = append(append(os.Environ(), "GORACE=halt_on_error=1"), env...)
	command.Stdout, command.Stderr = p.log, p.log
	if p.Process, err = scratch.StartProcess(command); err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs a command of the program to its end and returns what it prints.
func run(t *testing.T, args ...string) string {
	t.Helper()
	p := launch(t, plain, nil, args...)
	p.ended(t)
	if err := p.Err(); err != nil {
		t.Fatalf("statesvc %s: %v\n%s", strings.Join(args, " "), err, p.log)
	}
	return p.log.String()
}

// ended waits for the end of the program.
func (p *program) ended(t *testing.T) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(endPatience):
		_ = p.Kill()
		t.Fatalf("the program did not end\n%s", p.log)
	}
}

// blunders are lines that no fault from outside excuses.
var blunders = []string{"DATA RACE", "panic:", "fatal error:", "this is a bug", "a handler panicked", "I1:", "I2:", "I3:"}

// confess fails the test if the log has a blunder.
func (p *program) confess(t *testing.T) {
	t.Helper()
	text := p.log.String()
	for _, blunder := range blunders {
		if at := strings.Index(text, blunder); at >= 0 {
			t.Errorf("the log says %q:\n%.4000s", blunder, text[max(0, at-200):])
			return
		}
	}
}

// waitFor asks until the answer is yes.
func waitFor(t *testing.T, what string, patience time.Duration, yes func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !yes() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v for %s", patience, what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
