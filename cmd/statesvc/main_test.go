package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/statesvc/statesvc/api/apitest"
	"github.com/statesvc/statesvc/internal/scratch"
)

// asProgram makes the test binary the program: tests that kill it need a process of its own.
const asProgram = "TEST_AS_PROGRAM"

// patience is how long a test waits for what takes milliseconds on an idle machine.
const patience = 90 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// output is what a program has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await returns the first submatch of pattern as soon as the program has written it.
func (o *output) await(t testing.TB, pattern string, ended <-chan struct{}) string {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if found := expression.FindStringSubmatch(o.String()); found != nil {
			return found[1]
		}
		select {
		case <-ended:
			t.Fatalf("the program has ended without %q:\n%s", pattern, o)
		default:
		}
	}
	t.Fatalf("the program has not written %q:\n%s", pattern, o)
	return ""
}

// command runs a command to its end and returns what it printed.
func command(t testing.TB, env []string, args ...string) (string, error) {
	t.Helper()
	var out output
	err := run(t.Context(), args, env, &out)
	return out.String(), err
}

// must is command for one that succeeds.
func must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := command(t, nil, args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// refused is command for one that fails, and says all of this.
func refused(t testing.TB, args []string, texts ...string) {
	t.Helper()
	out, err := command(t, nil, args...)
	if err == nil {
		t.Fatalf("%v succeeds:\n%s", args, out)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v fails with %q, which does not say %q", args, err, text)
		}
	}
}

// The lines by which a program says where it serves.
const (
	devServes   = `is serving on (http://\S+)`
	serveServes = `"msg":"serving","address":"(http://[^"]+)"`
)

// service is a running program of this process.
type service struct {
	base string
	out  *output
	stop func(t testing.TB) // ends it, and fails the test if it does not end well
}

// serve runs the program until the test ends.
func serve(t testing.TB, address string, args ...string) *service {
	t.Helper()
	s := &service{out: new(output)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var result error
	go func() {
		defer close(ended)
		result = run(ctx, args, nil, s.out)
	}()
	var once sync.Once
	s.stop = func(t testing.TB) {
		t.Helper()
		once.Do(func() {
			cancel()
			<-ended
			if result != nil {
				t.Errorf("%v ended with: %v", args, result)
			}
		})
	}
	t.Cleanup(func() { s.stop(t) })
	s.base = s.out.await(t, address, ended)
	return s
}

// process is a running program of its own.
type process struct {
	*scratch.Process
	base string
	out  *output
}

func startProcess(t testing.TB, address string, args ...string) *process {
	t.Helper()
	p := &process{out: new(output)}
	program := exec.Command(os.Args[0], args...)
	program.Env = append(os.Environ(), asProgram+"=1")
	program.Stdout, program.Stderr = p.out, p.out
	var err error
	if p.Process, err = scratch.StartProcess(program); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	p.base = p.out.await(t, address, p.Done())
	return p
}

// caller sends requests with a token.
type caller struct{ base, token string }

// reply is what came back. JSON is read into document.
type reply struct {
	status   int
	replayed bool
	body     string
	document map[string]any
}

func (c caller) send(t testing.TB, method, path, key, body string) (reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	return exchange(t, request)
}

// exchange sends a request. It fails the test if the request or its reply breaks openapi.yaml.
func exchange(t testing.TB, request *http.Request) (reply, error) {
	t.Helper()
	watched := http.Client{Transport: apitest.Transport(http.DefaultTransport, t.Errorf)}
	response, err := watched.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	r := reply{status: response.StatusCode, replayed: response.Header.Get("Idempotency-Replayed") == "true", body: string(text)}
	if json.Valid(text) {
		_ = json.Unmarshal(text, &r.document)
	}
	return r, err
}

// want is send for a request whose status is known.
func (c caller) want(t testing.TB, status int, method, path, key, body string) reply {
	t.Helper()
	r, err := c.send(t, method, path, key, body)
	if err != nil {
		t.Fatal(err)
	}
	if r.status != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, r.status, status, r.body)
	}
	return r
}

// at is a member of a reply, named by its path in the document.
func (r reply) at(t testing.TB, path ...string) any {
	t.Helper()
	var value any = r.document
	for _, name := range path {
		object, ok := value.(map[string]any)
		if !ok || object[name] == nil {
			t.Fatalf("the reply has no %s: %s", strings.Join(path, "."), r.body)
		}
		value = object[name]
	}
	return value
}

// clusterFile writes a configuration with two SQLite shards, and returns its path.
func clusterFile(t testing.TB) string {
	t.Helper()
	folder := t.TempDir()
	lines := []string{
		"register: " + filepath.Join(folder, "register"), "listen: 127.0.0.1:0", "drain_delay: 0s", "shards:",
		"  - {name: s1, file: " + filepath.Join(folder, "s1.db") + "}", "  - {name: s2, file: " + filepath.Join(folder, "s2.db") + "}",
	}
	return write(t, filepath.Join(folder, "statesvc.yaml"), strings.Join(lines, "\n")+"\n")
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// token is the last line of what `keys create` prints.
func token(printed string) string {
	lines := strings.Fields(printed)
	return lines[len(lines)-1]
}

// eventually waits until what holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not within %s: %s", patience, what)
}

func creditBody(ref string, amount int) string {
	return fmt.Sprintf(`{"issue_ref":%q,"source":"test","amount":{"amount":%d,"currency":"CNY"},"expires_at":%q}`,
		ref, amount, demoEnd().Format(time.RFC3339))
}

// TestHelp: every command has a help that says what it is for, and ends well.
func TestHelp(t *testing.T) {
	commands := [][]string{
		{},
		{"dev"},
		{"serve"},
		{"migrate"},
		{"migrate", "up"},
		{"migrate", "status"},
		{"keys"},
		{"keys", "create"},
		{"keys", "list"},
		{"keys", "revoke"},
		{"id"},
		{"id", "mint"},
		{"id", "decode"},
		{"id", "bucket"},
		{"check"},
		{"check", "ledger"},
		{"import"},
		{"export"},
		{"bench"},
		{"bench", "committer"},
		{"bench", "http"},
		{"bench", "soak"},
	}
	for _, args := range commands {
		help := must(t, append(args, "--help")...)
		if !strings.Contains(help, "Usage:") || len(help) < 100 {
			t.Errorf("%v --help: %s", args, help)
		}
	}
	if version := must(t, "--version"); !strings.Contains(version, "statesvc") {
		t.Errorf("--version: %s", version)
	}
}

// TestStopsWell: a signal ends the program with status 0, and what it has accepted is decided before.
func TestStopsWell(t *testing.T) {
	p := startProcess(t, devServes, "dev", "--listen", "127.0.0.1:0", "--data", t.TempDir())
	if r := (caller{base: p.base}).want(t, http.StatusOK, "GET", "/readyz?verbose", "", ""); r.document["ready"] != true {
		t.Errorf("not ready: %s", r.body)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
		if p.Err() != nil {
			t.Errorf("after SIGTERM: %v\n%s", p.Err(), p.out)
		}
	case <-time.After(patience):
		t.Fatalf("it does not stop:\n%s", p.out)
	}
}

// TestAddressInUse: a start that fails half-way closes what it has opened, and says what to do.
func TestAddressInUse(t *testing.T) {
	first := serve(t, devServes, "dev", "--listen", "127.0.0.1:0", "--data", t.TempDir())
	taken := strings.TrimPrefix(first.base, "http://")
	refused(t, []string{"dev", "--listen", taken, "--data", t.TempDir()}, "address already in use", "--listen")
	file := clusterFile(t)
	must(t, "migrate", "up", "--config", file)
	refused(t, []string{"serve", "--config", file, "--listen", taken}, "address already in use", "--listen")
}
