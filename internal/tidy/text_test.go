package tidy_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const lineLengthMax = 140 // of .go and .sql; longer ones cannot be reviewed side by side

// word is a word that we do not use, or use only in the exceptions.
type word struct {
	pattern string   // matched per line
	except  string   // lines matching this are fine
	in      []string // suffixes of paths; none: every text file
	reason  string
	bad     string // a line that must be found, and …
	good    string // … one that must not: the test of the rule itself
}

// prose are the files whose words readers see.
var prose = []string{".go", ".sql", ".md", ".yaml", ".yml", ".ts", ".tsx", ".sh"}

// words come from the vocabulary of docs/glossary.md: one word for one thing, everywhere. Upper case and snake case pass
// where a word is also SQL or a setting: CHANGE MASTER TO, rpl_semi_sync_master_enabled.
var words = []word{
	{
		pattern: `^package (util|utils|common|helper|helpers|misc|base|shared|lib|types|models)$`,
		in:      []string{".go"}, reason: "a package is a noun with one job; name that job",
		bad: "package util", good: "package ledger",
	},
	{
		pattern: `\b[mM]asters?([A-Z]\w*)?\b`, except: `MariaDB|MasterName|[sS]entinel|webmaster`,
		in: prose, reason: `say "primary"; master is a word of MariaDB's statements only`,
		bad: "the old master", good: "CHANGE MASTER TO MASTER_HOST='x'; SET GLOBAL rpl_semi_sync_master_enabled=1",
	},
	{
		pattern: `\b[sS]laves?([A-Z]\w*)?\b`, except: `MariaDB|[sS]entinel`,
		in: prose, reason: `say "replica"; slave is a word of MariaDB's statements only`,
		bad: "a slave lags", good: "SHOW SLAVE STATUS has Slave_IO_Running",
	},
	{
		pattern: `(?i)\b(vouchers?|wallets?|sagas?)\b`,
		in:      prose, reason: `say "coupon", "lot" or "transfer"`,
		bad: "redeem the voucher", good: "redeem the coupon",
	},
	{
		pattern: `\b(whitelist|blacklisted|blacklisting)\b`, in: prose, reason: `what the blacklist does is "block" and "unblock"`,
		bad: "the owner is blacklisted", good: "blacklist.Block(owner)",
	},
	{
		pattern: `\b(TODO|FIXME|XXX|HACK)\b`, except: `\b(TODO|FIXME)\(#\d+\)`,
		in: append(slices.Clone(prose), "Makefile", "Dockerfile"), reason: "no TODO without an issue: write TODO(#123), or do it",
		bad: "// TODO: later", good: "// TODO(#12): later",
	},
	{
		pattern: `^(<<<<<<<|>>>>>>>) `, reason: "a merge conflict",
		bad: "<<<<<<< HEAD", good: "a <<<<<<< b",
	},
	{
		pattern: `[ \t]+$`, in: []string{".go", ".sql", ".sh", "Makefile", "Dockerfile"}, reason: "white space at the end of the line",
		bad: "x := 1 ", good: "x := 1",
	},
}

// wordsFree may say all words: they list them.
var wordsFree = []string{"internal/tidy/", "docs/glossary.md", "CHANGELOG.md", "LICENSE"}

func TestWordRules(t *testing.T) {
	t.Parallel()
	for _, word := range words {
		if found := findWord(word, word.bad); !found {
			t.Errorf("%s does not find %q", word.pattern, word.bad)
		}
		if found := findWord(word, word.good); found {
			t.Errorf("%s finds %q", word.pattern, word.good)
		}
	}
}

func findWord(word word, line string) bool {
	return regexp.MustCompile(word.pattern).MatchString(line) &&
		(word.except == "" || !regexp.MustCompile(word.except).MatchString(line))
}

func TestWords(t *testing.T) {
	t.Parallel()
	for _, file := range tree(t) {
		free := slices.ContainsFunc(wordsFree, func(prefix string) bool { return strings.HasPrefix(file.path, prefix) })
		if free || file.binary() || file.generated() {
			continue
		}
		for _, word := range words {
			if file.hasSuffix(word.in) {
				reportWord(t, file, word)
			}
		}
	}
}

func reportWord(t *testing.T, file file, word word) {
	t.Helper()
	if !regexp.MustCompile("(?m)" + word.pattern).Match(file.text) {
		return // the whole file at once: most have none of the words
	}
	number := 0
	for line := range strings.Lines(string(file.text)) {
		number++
		if line = strings.TrimSuffix(line, "\n"); findWord(word, line) {
			t.Errorf("%s:%d: %s\n\t%s", file.path, number, word.reason, strings.TrimSpace(line))
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	for _, file := range tree(t) {
		if !file.hasSuffix([]string{".go", ".sql"}) || file.generated() || file.path == "internal/mutants/mutants.go" {
			continue // mutants quote lines of the source, with something changed in them
		}
		number := 0
		for line := range strings.Lines(string(file.text)) {
			number++
			if length := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); length > lineLengthMax {
				t.Errorf("%s:%d: %d characters, more than %d", file.path, number, length, lineLengthMax)
			}
		}
	}
}

// deadNames are files that a tool or an editor left behind.
var deadNames = regexp.MustCompile(`(^|/)(\.DS_Store|Thumbs\.db|nohup\.out|core)$|(\.(orig|rej|bak|swp|tmp|old|log|test|prof|pid)|~)$`)

func TestDeadFiles(t *testing.T) {
	t.Parallel()
	files := tree(t)
	tested := make(map[string]bool) // folders with Go tests
	for _, file := range files {
		if strings.HasSuffix(file.path, "_test.go") {
			tested[path.Dir(file.path)] = true
		}
	}
	for _, file := range files {
		if reason := dead(file, tested); reason != "" {
			t.Errorf("%s: %s", file.path, reason)
		}
	}
}

// dead returns why the file should not be here, or nothing.
func dead(file file, tested map[string]bool) string {
	switch base := path.Base(file.path); {
	case deadNames.MatchString(file.path):
		return "a leftover"
	case len(file.text) == 0 && base != ".gitkeep":
		return "an empty file"
	case strings.HasPrefix(string(file.text), "\x7fELF"):
		return "a compiled program"
	}
	before, _, found := strings.Cut(file.path, "/testdata/")
	if found && !tested[before] {
		return fmt.Sprintf("test data, but %s has no tests", before)
	}
	return ""
}
