// Command mutants switches one protection off at a time and demands that a test notices. It changes nothing on disk: the
// mutated file is handed to the compiler as an overlay. Usage: go run ./internal/mutants [-run regexp]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// testTimeout bounds the tests of one mutant. A mutant whose tests hang is caught as well.
const testTimeout = 2 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
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
	defer func() { _ = os.RemoveAll(folder) }()
	caught, of := 0, 0
	for _, m := range mutants {
		if !pattern.MatchString(m.name) || ctx.Err() != nil {
			continue
		}
		of++
		by, took, err := m.check(ctx, folder)
		switch {
		case err != nil:
			fmt.Printf("BROKEN %s: %v\n", m.name, err)
		case by == "":
			fmt.Printf("LIVED  %s (%.1fs): no test of %s -run %s noticed\n", m.name, took.Seconds(), m.pkg, m.tests)
		default:
			caught++
			fmt.Printf("caught %s (%.1fs) by %s\n", m.name, took.Seconds(), by)
		}
	}
	fmt.Printf("caught=%d of=%d\n", caught, of)
	if caught != of || ctx.Err() != nil {
		return errors.New("not every mutant was caught")
	}
	return nil
}

// check runs the tests with and without the mutation. by names the test that failed; empty: none did.
func (m *mutant) check(ctx context.Context, folder string) (by string, took time.Duration, err error) {
	overlay, err := m.overlay(folder)
	if err != nil {
		return "", 0, err
	}
	if output, err := m.test(ctx, ""); err != nil {
		return "", 0, fmt.Errorf("its tests fail without it: %s", firstFailure(output))
	}
	start := time.Now()
	output, err := m.test(ctx, overlay)
	took = time.Since(start)
	if err == nil {
		return "", took, nil
	}
	if strings.Contains(output, "[build failed]") || strings.Contains(output, "[setup failed]") {
		return "", took, fmt.Errorf("it does not compile: %.300s", output)
	}
	return firstFailure(output), took, nil
}

// overlay writes the mutated file and the description of it that the compiler reads.
func (m *mutant) overlay(folder string) (string, error) {
	source, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return "", fmt.Errorf("its text is %d times in %s; bring internal/mutants up to date", n, m.file)
	}
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	mutated := filepath.Join(folder, m.name+".go")
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{original: mutated}})
	if err != nil {
		return "", err
	}
	description := filepath.Join(folder, m.name+".json")
	return description, os.WriteFile(description, text, 0o600)
}

func (m *mutant) test(ctx context.Context, overlay string) (output string, err error) {
	args := []string{"test", "-vet=off", "-timeout", testTimeout.String(), "-run", m.tests}
	if overlay != "" {
		args = append(args, "-count=1", "-overlay", overlay)
	}
	args = append(args, m.pkg)
	if m.pkg == "./ledger" {
		args = append(args, "-rapid.nofailfile") // what a mutant makes fail is no lesson to keep
	}
	command := exec.CommandContext(ctx, "go", args...)
	text, err := command.CombinedOutput()
	return string(text), err
}

var failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

func firstFailure(output string) string {
	all := failure.FindAllStringSubmatch(output, -1)
	if len(all) == 0 {
		return "a crash or a timeout"
	}
	return all[len(all)-1][1]
}
