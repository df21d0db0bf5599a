package tidy_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	fence    = regexp.MustCompile("(?ms)^[ \t]*(```|~~~).*?^[ \t]*(```|~~~)[ \t]*$")
	code     = regexp.MustCompile("`[^`\n]*`")
	link     = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)`)
	linkRef  = regexp.MustCompile(`(?m)^\s{0,3}\[[^\]^][^\]]*\]:\s+<?([^\s>]+)>?`)
	heading  = regexp.MustCompile(`(?m)^#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$`)
	linked   = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	anchor   = regexp.MustCompile(`<a\s+(?:id|name)="([^"]+)"`)
	absolute = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:|^//`)
)

// TestLinks follows the relative links of all documents, down to the heading. What is on the web is not asked: a build must
// not depend on somebody else's server.
func TestLinks(t *testing.T) {
	t.Parallel()
	documents := make(map[string]string)
	for _, file := range tree(t) {
		if strings.HasSuffix(file.path, ".md") {
			documents[file.path] = string(file.text)
		}
	}
	for name, text := range documents {
		for _, target := range links(text) {
			if reason := broken(documents, name, target); reason != "" {
				t.Errorf("%s: link to %s: %s", name, target, reason)
			}
		}
	}
}

// links returns the relative links of a document; what stands in code is no link.
func links(text string) []string {
	text = code.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
	var targets []string
	for _, pattern := range []*regexp.Regexp{link, linkRef} {
		for _, match := range pattern.FindAllStringSubmatch(text, -1) {
			if !absolute.MatchString(match[1]) {
				targets = append(targets, match[1])
			}
		}
	}
	return targets
}

// broken returns what is wrong with a link, or nothing.
func broken(documents map[string]string, from, target string) string {
	name, fragment, _ := strings.Cut(target, "#")
	name, _, _ = strings.Cut(name, "?")
	resolved := from
	if strings.HasPrefix(name, "/") {
		resolved = strings.TrimPrefix(path.Clean(name), "/")
	} else if name != "" {
		resolved = path.Join(path.Dir(from), name)
	}
	if strings.HasPrefix(resolved, "../") {
		return "leads out of the repository"
	}
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(resolved))); err != nil {
		return "no such file"
	}
	text, isDocument := documents[resolved]
	if fragment != "" && isDocument && !anchors(text)[fragment] {
		return "no such heading"
	}
	return ""
}

// anchors are the names that GitHub and most others give to headings.
func anchors(text string) map[string]bool {
	text = fence.ReplaceAllString(text, "")
	names := make(map[string]bool)
	for _, match := range heading.FindAllStringSubmatch(text, -1) {
		name := slug(match[1])
		for count := 1; names[name]; count++ {
			name = fmt.Sprintf("%s-%d", slug(match[1]), count)
		}
		names[name] = true
	}
	for _, match := range anchor.FindAllStringSubmatch(text, -1) {
		names[match[1]] = true
	}
	return names
}

func slug(title string) string {
	title = linked.ReplaceAllString(title, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsNumber(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		default:
			return -1
		}
	}, title)
}

func TestLinkRules(t *testing.T) {
	t.Parallel()
	documents := map[string]string{
		"README.md": "# Hello, `World` & all\n[a](docs/x.md#two-words) `[no](none.md)` [web](https://example.com/x)\n" +
			"```\n[no](none.md)\n```\n",
		"docs/glue.md": "# One\n## Two words\n## Two words\n",
	}
	if got := links(documents["README.md"]); len(got) != 1 || got[0] != "docs/x.md#two-words" {
		t.Errorf("links: %q, want only the one to docs/x.md", got)
	}
	for name, want := range map[string]bool{"one": true, "two-words": true, "two-words-1": true, "three": false} {
		if got := anchors(documents["docs/glue.md"])[name]; got != want {
			t.Errorf("anchor %s: %t, want %t", name, got, want)
		}
	}
	if got := slug("Hello, `World` & [all](x)"); got != "hello-world--all" {
		t.Errorf("slug: %q", got)
	}
	if broken(documents, "README.md", "none.md") == "" || broken(documents, "README.md", "../x") == "" {
		t.Error("broken links pass")
	}
}
