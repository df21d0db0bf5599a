// Command mutants switches one protection off at a time and demands that a test notices. It changes nothing on disk: the
// mutated files are handed to the compiler as an overlay, also where a test builds the program. Usage:
//
//	go run ./internal/mutants [-run regexp]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// testTimeout bounds the tests of one mutant. A mutant whose tests hang is caught as well.
const testTimeout = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	only := flags.String("run", "", "regexp of the mutants to run")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	folder, err := os.MkdirTemp("", "statesvc-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	caught, of := 0, 0
	for i := range mutants {
		if m := &mutants[i]; pattern.MatchString(m.name) && ctx.Err() == nil {
			of++
			if m.report(ctx, folder, out) {
				caught++
			}
		}
	}
	fmt.Fprintf(out, "caught=%d of=%d\n", caught, of)
	if caught != of || of == 0 || ctx.Err() != nil {
		return errors.New("not every mutant was caught")
	}
	return nil
}

// report checks a mutant and writes a line about it.
func (m *mutant) report(ctx context.Context, folder string, out io.Writer) (caught bool) {
	by, took, err := m.check(ctx, folder)
	switch {
	case err != nil:
		fmt.Fprintf(out, "BROKEN %s: %v\n", m.name, err)
	case by == "":
		fmt.Fprintf(out, "LIVED  %s (%.1fs): no test of %s -run '%s' noticed\n", m.name, took.Seconds(), m.pkg, m.tests)
	default:
		fmt.Fprintf(out, "caught %s (%.1fs) by %s\n", m.name, took.Seconds(), by)
	}
	return err == nil && by != ""
}

// check runs the tests without and with the mutation. by names the test that failed; empty: none did.
func (m *mutant) check(ctx context.Context, folder string) (by string, took time.Duration, err error) {
	overlay, err := m.overlay(folder)
	if err != nil {
		return "", 0, err
	}
	output, err := m.test(ctx, "")
	if err != nil {
		return "", 0, fmt.Errorf("its tests fail without it: %s", firstFailure(output))
	}
	if strings.Contains(output, "no tests to run") || strings.Contains(output, "no test files") {
		return "", 0, fmt.Errorf("%s has no tests that match '%s'", m.pkg, m.tests)
	}
	start := time.Now()
	output, err = m.test(ctx, overlay)
	took = time.Since(start)
	if err == nil {
		return "", took, nil
	}
	if strings.Contains(output, "[build failed]") || strings.Contains(output, "[setup failed]") {
		return "", took, fmt.Errorf("it does not compile: %.600s", output)
	}
	return firstFailure(output), took, nil
}

// mutated returns the files of the mutation as they would be.
func (m *mutant) mutated(root string) (map[string]string, error) {
	files := map[string]string{}
	for _, e := range m.edits {
		text, seen := files[e.file]
		if !seen {
			source, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			text = string(source)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%q is %d times in %s; bring internal/mutants up to date", e.old, n, e.file)
		}
		files[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return files, nil
}

// overlay writes the mutated files, and the description of them that the compiler reads.
func (m *mutant) overlay(folder string) (string, error) {
	files, err := m.mutated(".")
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for file, text := range files {
		original, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		replace[original] = filepath.Join(folder, m.name+"-"+strings.ReplaceAll(file, "/", "-"))
		if err := os.WriteFile(replace[original], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	description := filepath.Join(folder, m.name+".json")
	return description, os.WriteFile(description, text, 0o600)
}

// test runs the tests. The overlay goes through the environment, so that it holds for builds that a test makes, too.
func (m *mutant) test(ctx context.Context, overlay string) (output string, err error) {
	args := []string{"test", "-vet=off", "-timeout", testTimeout.String(), "-run", m.tests}
	if overlay != "" {
		args = append(args, "-count=1", "-failfast")
	}
	args = append(args, m.pkg)
	if m.pkg == "./ledger" {
		args = append(args, "-rapid.nofailfile") // what a mutant makes fail is no lesson to keep
	}
	command := exec.CommandContext(ctx, "go", args...)
	if overlay != "" {
		command.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay)
	}
	text, err := command.CombinedOutput()
	return string(text), err
}

var failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// firstFailure names the first test that failed, as exactly as the output does: subtests come after their tests.
func firstFailure(output string) string {
	all := failure.FindAllStringSubmatch(output, -1)
	if len(all) == 0 {
		return "a crash or a timeout"
	}
	name := all[0][1]
	for _, match := range all[1:] {
		if strings.HasPrefix(match[1], name+"/") {
			name = match[1]
		}
	}
	return name
}
