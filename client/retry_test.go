package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// script is a service that answers what it is told, one request after the other, and remembers what it was asked.
type script struct {
	mu      sync.Mutex
	answers []string // status, space, body; "cut" breaks the connection
	asked   []string // method, space, path, space, idempotency key
	waits   []time.Duration
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Idempotency-Key")))
	if len(s.answers) == 0 {
		http.Error(w, "the script has ended", http.StatusTeapot)
		return
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	if answer == "cut" {
		panic(http.ErrAbortHandler)
	}
	var status int
	_, _ = fmt.Sscan(answer, &status)
	_, body, _ := strings.Cut(answer, " ")
	if seconds, found := strings.CutPrefix(body, "after="); found {
		seconds, body, _ = strings.Cut(seconds, " ")
		w.Header().Set("Retry-After", seconds)
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// play calls a service that follows the script with a hold under key "k". No time passes in it.
func (s *script) play(t *testing.T, patience time.Duration, answers ...string) (HoldReply, error) {
	t.Helper()
	s.answers = answers
	server := httptest.NewServer(s)
	defer server.Close()
	c, err := New(Options{BaseURL: server.URL, Token: "t", Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	var ahead time.Duration
	c.now = func() time.Time { return time.Now().Add(ahead) }
	c.random = func() float64 { return 1 }
	c.sleep = func(_ context.Context, d time.Duration) bool {
		s.waits = append(s.waits, d)
		ahead += d
		return true
	}
	return c.Hold(t.Context(), "k", HoldRequest{Owner: "o", OrderID: "x"})
}

func problem(status int, code string, retryable bool, outcome string) string {
	return fmt.Sprintf(`%d {"type":"/problems/%s","title":"t","status":%d,"code":%q,"retryable":%v,"outcome":%q,"request_id":"r"}`,
		status, code, status, code, retryable, outcome)
}

const (
	done = `201 {"hold":{"hold_id":"h"},"balances":[],"version":1}`
	hold = "POST /v1/holds k"
	ask  = "GET /v1/owners/o/operations/k"
)

// documented is what docs/errors.md says of a code.
type documented struct {
	status    string
	retryable bool
}

// codes reads the table of docs/errors.md.
func codes(t *testing.T) map[string]documented {
	t.Helper()
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]documented{}
	_, table, _ := strings.Cut(string(text), "\n## Codes\n")
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) > 4 && strings.HasPrefix(cells[1], " `") {
			found[strings.Trim(cells[1], " `")] = documented{strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3]) == "yes"}
		}
	}
	return found
}

// TestC09EveryCode: of every code, the document that the service sends says whether it is retryable. A terminal refusal is sent once
// and returned; a retryable one is tried again with the same key until the client's deadline, and not for ever.
func TestC09EveryCode(t *testing.T) {
	t.Parallel()
	all := codes(t)
	if len(all) != 44 {
		t.Errorf("docs/errors.md has %d codes", len(all))
	}
	for code, row := range all {
		text, outcome := golden(t, code, row.retryable)
		round, asked := []string{row.status + " " + text}, []string{hold}
		if outcome == outcomeUnknown {
			round, asked = append(round, operation(StatusNotSeen)), append(asked, ask)
		}
		if !row.retryable {
			var s script
			if _, err := s.play(t, time.Minute, round[0], done); !errors.Is(err, Code(code)) || len(s.asked) != 1 {
				t.Errorf("%s: %v, asked %v", code, err, s.asked)
			}
			continue
		}
		var s script
		reply, err := s.play(t, time.Minute, append(round, done)...)
		if err != nil || reply.Hold.HoldID != "h" || !slices.Equal(s.asked, append(asked, hold)) {
			t.Errorf("%s: %v, asked %v", code, err, s.asked)
		}
		s = script{}
		_, err = s.play(t, 10*time.Second, slices.Repeat(round, 500)...)
		if !errors.Is(err, Code(code)) || len(s.asked) < 5 || len(s.asked) > 60 {
			t.Errorf("%s for ever: %v after %d requests", code, err, len(s.asked))
		}
	}
}

// golden is the document of a code as package api holds the service to it, and its outcome.
func golden(t *testing.T, code string, retryable bool) (text, outcome string) {
	t.Helper()
	document, err := os.ReadFile("../api/testdata/problems/" + code + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var members struct {
		Retryable *bool
		Outcome   string
	}
	if err := json.Unmarshal(document, &members); err != nil {
		t.Fatal(err)
	}
	if members.Retryable == nil || *members.Retryable != retryable {
		t.Errorf("docs/errors.md says of %s that retryable is %v, and the document is %s", code, retryable, document)
	}
	return string(document), members.Outcome
}

// TestCodesAgree: the constants are the codes of openapi.yaml.
func TestCodesAgree(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	for code := range codes(t) {
		if !strings.Contains(string(text), fmt.Sprintf("Code = %q\n", code)) {
			t.Errorf("there is no constant for %s", code)
		}
	}
}

// TestC49RetryAfter: it waits as long as it was asked to and a little more, and not beyond its patience.
func TestC49RetryAfter(t *testing.T) {
	t.Parallel()
	overloaded := strings.Replace(problem(503, "overloaded", true, "none"), "503 ", "503 after=3 ", 1)
	var s script
	if _, err := s.play(t, time.Minute, overloaded, overloaded, done); err != nil {
		t.Fatal(err)
	}
	if want := []time.Duration{3050 * time.Millisecond, 3100 * time.Millisecond}; !slices.Equal(s.waits, want) {
		t.Errorf("waited %v, want %v", s.waits, want)
	}
	s = script{}
	_, err := s.play(t, 7*time.Second, overloaded, overloaded, overloaded, overloaded, done)
	if !errors.Is(err, ErrOverloaded) || len(s.asked) != 3 {
		t.Errorf("%v after %d attempts", err, len(s.asked))
	}
	s = script{}
	_, err = s.play(t, time.Second, strings.Replace(overloaded, "after=3", "after=900", 1), done)
	if !errors.Is(err, ErrOverloaded) || len(s.waits) > 0 {
		t.Errorf("%v after waiting %v for nothing", err, s.waits)
	}
}

// operation is what the service answers to ask.
func operation(status string) string {
	return fmt.Sprintf(`200 {"owner":"o","key":"k","status":%q,"reply":{"hold":{"hold_id":"recorded"},"balances":[],"version":2}}`, status)
}

func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	unknown := problem(504, "outcome-unknown", true, "unknown")
	failover := problem(503, "failover-in-progress", true, "none")
	insufficient := problem(409, "insufficient", false, "none")
	for name, test := range map[string]struct {
		answers []string
		asked   []string
		hold    string
		err     error
	}{
		"done":                   {[]string{unknown, operation("DONE")}, []string{hold, ask}, "recorded", nil},
		"not seen":               {[]string{unknown, operation("NOT_SEEN"), done}, []string{hold, ask, hold}, "h", nil},
		"aborted":                {[]string{unknown, operation("ABORTED"), done}, []string{hold, ask, hold}, "h", nil},
		"refused":                {[]string{unknown, operation("REFUSED"), insufficient}, []string{hold, ask, hold}, "", ErrInsufficient},
		"in progress, then not":  {[]string{unknown, operation("IN_PROGRESS"), operation("DONE")}, []string{hold, ask, ask}, "recorded", nil},
		"connection cut":         {[]string{"cut", operation("DONE")}, []string{hold, ask}, "recorded", nil},
		"cut, and cannot ask":    {[]string{"cut", failover, done}, []string{hold, ask, hold}, "h", nil},
		"proxy":                  {[]string{"502 <html>bad gateway", operation("NOT_SEEN"), done}, []string{hold, ask, hold}, "h", nil},
		"internal, nothing done": {[]string{problem(500, "internal", true, "none"), done}, []string{hold, hold}, "h", nil},
	} {
		var s script
		reply, err := s.play(t, time.Minute, test.answers...)
		if reply.Hold.HoldID != test.hold || (test.err == nil) != (err == nil) || (test.err != nil && !errors.Is(err, test.err)) {
			t.Errorf("%s: %+v, %v", name, reply, err)
		}
		if diff := cmp.Diff(test.asked, s.asked); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestC09NeverForEver: an outcome that stays unknown is the error at the end.
func TestC09NeverForEver(t *testing.T) {
	t.Parallel()
	progress := make([]string, 500)
	for i := range progress {
		progress[i] = `200 {"owner":"o","key":"k","status":"IN_PROGRESS"}`
	}
	var s script
	_, err := s.play(t, 10*time.Second, append([]string{problem(504, "outcome-unknown", true, "unknown")}, progress...)...)
	p, ok := errors.AsType[*Problem](err)
	if !ok || !errors.Is(err, ErrOutcomeUnknown) || p.Outcome != "unknown" || len(s.asked) > 30 {
		t.Errorf("%v after %d requests", err, len(s.asked))
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	c, err := New(Options{BaseURL: server.URL, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Owner(ctx, "o"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {BaseURL: "http://x"}, {Token: "t"}, {BaseURL: "http://x", Token: "t", Attempt: time.Minute}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if a, b := NewKey(), NewKey(); a >= b || len(a) != 36 || a[14] != '7' {
		t.Errorf("%s, %s", a, b)
	}
}
