package main

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// The tour is the first thing that a new user tries: its commands must work as printed, in their order, and any number of times.
func TestTour(t *testing.T) {
	commands := printedTour(t)
	statuses := []int{http.StatusCreated, http.StatusCreated, http.StatusOK, http.StatusOK, http.StatusOK}
	var first []reply
	for round := range 2 {
		for i, c := range commands {
			request := requestOf(t, c)
			r, err := exchange(t, request)
			if err != nil {
				t.Fatal(err)
			}
			if r.status != statuses[i] {
				t.Fatalf("command %d: status %d, want %d: %s", i+1, r.status, statuses[i], r.body)
			}
			if isWrite := request.Method == http.MethodPost; r.replayed != (isWrite && round > 0) {
				t.Errorf("round %d, command %d: replayed is %t", round+1, i+1, r.replayed)
			}
			if round == 0 {
				first = append(first, r)
			} else if r.body != first[i].body {
				t.Errorf("command %d answers %s, and before %s", i+1, r.body, first[i].body)
			}
		}
	}
	checkTour(t, first)
	checkLateHold(t, commands)
	for i, c := range commands {
		if got := inShell(t, c); got != first[i].body+"\n" {
			t.Errorf("command %d prints %q in a shell, want %q", i+1, got, first[i].body+"\n")
		}
	}
}

func checkTour(t *testing.T, replies []reply) {
	t.Helper()
	for _, c := range []struct {
		reply int
		want  string
		path  []string
	}{
		{0, "AVAILABLE", []string{"coupon", "state"}},
		{1, "HELD", []string{"hold", "state"}},
		{1, "1299", []string{"hold", "discount", "amount"}},
		{1, "11200", []string{"hold", "payable", "amount"}},
		{2, "CONFIRMED", []string{"hold", "state"}},
		{3, "CANCELLED", []string{"hold", "state"}},
		{3, "true", []string{"hold", "tombstone"}},
	} {
		if got := fmt.Sprint(replies[c.reply].at(t, c.path...)); got != c.want {
			t.Errorf("reply %d: %s is %s, want %s", c.reply+1, strings.Join(c.path, "."), got, c.want)
		}
	}
	var kinds []string
	for _, e := range replies[4].at(t, "entries").([]any) {
		kinds = append(kinds, e.(map[string]any)["kind"].(string))
	}
	if got := strings.Join(kinds, " "); got != "CREDITED ISSUED ISSUED ISSUED CONFIRMED" {
		t.Errorf("the history is %s", got)
	}
}

// checkLateHold sends the hold that the fourth command has cancelled before it came.
func checkLateHold(t *testing.T, commands []string) {
	t.Helper()
	hold, cancel := requestOf(t, commands[1]), requestOf(t, commands[3])
	_, path, _ := strings.Cut(cancel.URL.Path, "/v1/holds/")
	tombstone, _, _ := strings.Cut(path, "/")
	late := caller{base: "http://" + hold.URL.Host, token: strings.TrimPrefix(hold.Header.Get("Authorization"), "Bearer ")}
	body := fmt.Sprintf(`{"hold_id":%q,"owner":%q,"order_id":"late","items":[{"kind":"money","amount":{"amount":1,"currency":"CNY"}}]}`,
		tombstone, demoOwner)
	r := late.want(t, http.StatusConflict, "POST", "/v1/holds", "late", body)
	if code := r.at(t, "code"); code != "already-cancelled" {
		t.Errorf("the late hold is refused with %v: %s", code, r.body)
	}
}

// printedTour starts `statesvc dev` on new data and returns the commands that it prints.
func printedTour(t testing.TB) []string {
	t.Helper()
	s := serve(t, devServes, "dev", "--listen", "127.0.0.1:0", "--data", t.TempDir())
	s.out.await(t, `(Stop with Ctrl-C)`, nil) // what it prints last
	commands := printedCommands(s.out.String())
	if len(commands) != 5 {
		t.Fatalf("%d commands are printed, want 5:\n%s", len(commands), s.out)
	}
	return commands
}

// printedCommands are the blocks of lines that begin with curl.
func printedCommands(text string) []string {
	var commands []string
	for block := range strings.SplitSeq(text, "\n\n") {
		if at := strings.Index("\n"+block, "\ncurl "); at >= 0 {
			commands = append(commands, strings.TrimSpace(block[at:]))
		}
	}
	return commands
}

// requestOf reads a command as a shell and curl would.
func requestOf(t testing.TB, command string) *http.Request {
	t.Helper()
	words := shellWords(t, command)
	var method, address, body string
	header := http.Header{}
	for i := 1; i < len(words); i++ {
		switch words[i] {
		case "-sS":
		case "-w":
			i++
			if words[i] != `\n` {
				t.Errorf("curl ends its output with %q", words[i])
			}
		case "-X":
			i++
			method = words[i]
		case "-d":
			i++
			body = words[i]
		case "-H":
			i++
			name, value, _ := strings.Cut(words[i], ": ")
			header.Set(name, value)
		default:
			address = words[i]
		}
	}
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v: %s", err, command)
	}
	request.Header = header
	return request
}

// shellWords splits a command of words and single quotes, as the tour has them.
func shellWords(t testing.TB, command string) []string {
	t.Helper()
	var words []string
	rest := strings.ReplaceAll(command, "\\\n", " ")
	for rest = strings.TrimLeft(rest, " "); rest != ""; rest = strings.TrimLeft(rest, " ") {
		separator := " "
		if rest[0] == '\'' {
			separator, rest = "'", rest[1:]
		}
		word, after, found := strings.Cut(rest, separator)
		if !found && separator == "'" {
			t.Fatalf("an open quote: %s", command)
		}
		words = append(words, word)
		rest = after
	}
	if len(words) == 0 || words[0] != "curl" {
		t.Fatalf("no curl: %s", command)
	}
	return words
}

// inShell runs the command as a user does, where there is curl.
func inShell(t testing.TB, command string) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("NOT TESTED in a shell: there is no curl")
	}
	printed, err := exec.CommandContext(t.Context(), "sh", "-c", command).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, command)
	}
	return string(printed)
}
