package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/statesvc/statesvc/ledger"
)

// The documents say what the program does. These tests compare them with it, so that they are changed together.

const repository = "../.."

func document(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks are the fenced blocks of a language.
func blocks(text, language string) []string {
	var found []string
	for _, match := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	return found
}

// rowsOf are the rows of the table whose header begins with a word, with their cells.
func rowsOf(t testing.TB, text, header string) (rows [][]string) {
	t.Helper()
	_, table, found := strings.Cut(text, "\n| "+header+" |")
	if !found {
		t.Fatalf("there is no table with %q", header)
	}
	for i, line := range strings.Split(table, "\n") {
		if i < 2 { // the rest of the header, and the line below it
			continue
		}
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for j := range cells {
			cells[j] = strings.Trim(cells[j], " ")
		}
		rows = append(rows, cells)
	}
	return rows
}

// TestHoldChart: chart and table of docs/hold.md are the ledger's transitions, in their order.
func TestHoldChart(t *testing.T) {
	text := document(t, "docs/hold.md")
	var chart, table []string
	final := map[ledger.State]bool{}
	for _, edge := range ledger.Transitions() {
		from, dash := string(edge.From), string(edge.From)
		if edge.From == ledger.None {
			from, dash = "[*]", "–"
		}
		chart = append(chart, fmt.Sprintf("    %s --> %s: %s", from, edge.To, edge.Event))
		table = append(table, strings.Join([]string{dash, string(edge.Event), string(edge.To), edge.Cause}, " | "))
		if edge.To != ledger.Held {
			final[edge.To] = true
		}
	}
	for _, state := range []ledger.State{ledger.Confirmed, ledger.Cancelled, ledger.Expired} {
		if final[state] {
			chart = append(chart, fmt.Sprintf("    %s --> [*]", state))
		}
	}
	want := "stateDiagram-v2\n" + strings.Join(chart, "\n") + "\n"
	if got := blocks(text, "mermaid"); len(got) != 1 || got[0] != want {
		t.Errorf("the chart is\n%s\nand should be\n%s", strings.Join(got, "\n"), want)
	}
	var got []string
	for _, row := range rowsOf(t, text, "from") {
		got = append(got, strings.Join(row, " | "))
	}
	if !slices.Equal(got, table) {
		t.Errorf("the table has\n%s\nand should have\n%s", strings.Join(got, "\n"), strings.Join(table, "\n"))
	}
}

// TestSettingsInOperations: the table of docs/operations.md is what `serve --help` says.
func TestSettingsInOperations(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	configFlags(flags)
	var want []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "config" || f.Name == "print-config" {
			return
		}
		_, usage := pflag.UnquoteUsage(f)
		want = append(want, fmt.Sprintf("`%s` | %s | %s", f.Name, f.DefValue, usage))
	})
	var got []string
	for _, row := range rowsOf(t, document(t, "docs/operations.md"), "setting | default") {
		got = append(got, strings.Join(row, " | "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the table has\n%s\nand should have\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// instrument is how the service makes its metrics.
var instrument = regexp.MustCompile(`\.(Int64(?:Observable)?Counter|(?:Int64|Float64)(?:Histogram|Gauge|ObservableGauge))\("([a-z.]+)"(.*)`)

// TestMetricsInOperations: the table of docs/operations.md has every metric that the code makes, and no other.
func TestMetricsInOperations(t *testing.T) {
	made := map[string]bool{}
	for path, text := range texts(t, ".go") {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, found := range instrument.FindAllStringSubmatch(text, -1) {
			name := strings.ReplaceAll(found[2], ".", "_")
			if strings.Contains(found[3], `WithUnit("s")`) {
				name += "_seconds"
			}
			if strings.HasSuffix(found[1], "Counter") {
				name += "_total"
			}
			made[name] = true
		}
	}
	shown := map[string]bool{}
	for _, row := range rowsOf(t, document(t, "docs/operations.md"), "metric") {
		shown[strings.Trim(row[0], "`")] = true
	}
	if !maps.Equal(made, shown) {
		t.Errorf("the code makes %v, the table has %v", slices.Sorted(maps.Keys(made)), slices.Sorted(maps.Keys(shown)))
	}
}

// texts are the files of the repository with a suffix, by their path.
func texts(t testing.TB, suffix string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // a file that went away belongs to another test
		}
		if hidden := entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".."; hidden || entry.Name() == "node_modules" {
			return filepath.SkipDir
		}
		if !entry.IsDir() && strings.HasSuffix(path, suffix) {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			relative, _ := filepath.Rel(repository, path)
			found[relative] = string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var (
	linkedTest = regexp.MustCompile(`\[(Test\w+)\]\(([^)]+)\)`)
	namedTest  = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
	suiteCase  = regexp.MustCompile(`\[TestOnDatabases\]\([^)]*\) \(([A-Za-z, ]+)`)
)

// TestNamedTestsExist: a document that says which test shows something is wrong when that test is gone.
func TestNamedTestsExist(t *testing.T) {
	tests := map[string]string{} // name → files
	code := texts(t, ".go")
	for path, text := range code {
		for _, found := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(text, -1) {
			tests[found[1]] += " " + path
		}
	}
	suite := code["ledger/suite_test.go"]
	for path, text := range texts(t, ".md") {
		for _, found := range linkedTest.FindAllStringSubmatch(text, -1) {
			target := filepath.Join(filepath.Dir(path), found[2])
			if !strings.Contains(tests[found[1]]+" ", " "+target+" ") {
				t.Errorf("%s: %s is not in %s but in%s", path, found[1], target, tests[found[1]])
			}
		}
		for _, name := range namedTest.FindAllString(text, -1) {
			if tests[name] == "" {
				t.Errorf("%s: there is no %s", path, name)
			}
		}
		for _, found := range suiteCase.FindAllStringSubmatch(text, -1) {
			for name := range strings.SplitSeq(found[1], ", ") {
				if !strings.Contains(suite, `{"`+name+`", test`) {
					t.Errorf("%s: TestOnDatabases has no case %s", path, name)
				}
			}
		}
	}
}

// TestDecisions: each has a number of its own, and says what a decision must say.
func TestDecisions(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(repository, "docs/decisions/*.md"))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	taken := map[string]string{}
	for _, path := range paths {
		name := filepath.Base(path)
		text := document(t, "docs/decisions/"+name)
		number, _, _ := strings.Cut(name, "-")
		if taken[number] != "" || len(number) != 4 || !strings.HasPrefix(text, "# "+strings.TrimLeft(number, "0")+". ") {
			t.Errorf("%s should have a number of its own (%s has it), in its name and in its title", name, taken[number])
		}
		taken[number] = name
		for _, part := range []string{"**Context.**", "**Decision.**", "**Reason.**", "**What would change our mind.**"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %s", name, part)
			}
		}
	}
}

// TestReadmeTour: the tour of the README is what `statesvc dev` prints, and its replies are those that the service gives, but for
// keys, ids, times and hashes.
func TestReadmeTour(t *testing.T) {
	_, text, _ := strings.Cut(document(t, "README.md"), "\n## A tour\n")
	text, _, _ = strings.Cut(text, "\n## ")
	commands, replies := blocks(text, "sh"), blocks(text, "json")
	printed := printedTour(t)
	if len(commands) != len(printed) || len(replies) != len(printed) {
		t.Fatalf("the README has %d commands and %d replies, and %d commands are printed", len(commands), len(replies), len(printed))
	}
	var got, want plain
	for i, command := range printed {
		r, err := exchange(t, requestOf(t, command))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := got.of(strings.TrimSpace(commands[i])), want.of(command); got != want {
			t.Errorf("command %d of the README is\n%s\nand printed is\n%s", i+1, got, want)
		}
		if got, want := got.of(compact(t, replies[i])), want.of(compact(t, r.body)); got != want {
			t.Errorf("reply %d of the README is\n%s\nand the service answers\n%s", i+1, got, want)
		}
	}
}

func compact(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return b.String()
}

// plain replaces what differs from run to run. The same id gets the same number each time.
type plain struct{ ids []string }

var (
	differs = strings.NewReplacer("ss_…", "TOKEN")
	tokens  = regexp.MustCompile(`ss_[0-9a-f]{16}_[0-9a-f]{64}`)
	hashes  = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	times   = regexp.MustCompile(`\b20\d\d-\d\d-\d\dT[0-9:.]+Z`)
	bases   = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	runs    = regexp.MustCompile(`\b(issue|order|hold|confirm|cancel)-[A-Z2-7]{8}\b`)
	ids     = regexp.MustCompile(`\b[a-z]+_[0-9a-z]{26}\b`)
)

func (p *plain) of(text string) string {
	text = differs.Replace(tokens.ReplaceAllString(text, "TOKEN"))
	text = hashes.ReplaceAllString(text, "HASH")
	text = times.ReplaceAllString(text, "TIME")
	text = bases.ReplaceAllString(text, "BASE")
	text = runs.ReplaceAllString(text, "$1-RUN")
	return ids.ReplaceAllStringFunc(text, func(id string) string {
		if !slices.Contains(p.ids, id) {
			p.ids = append(p.ids, id)
		}
		return fmt.Sprintf("ID%d", slices.Index(p.ids, id))
	})
}
