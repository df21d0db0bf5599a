package mariadb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/statesvc/statesvc/internal/scratch"
)

// Prepare fills an empty data directory with that of a new server, which has no users but root@localhost, who must come through
// the server's socket as the user of this process, and then runs a script on it, one statement a line. It either happens whole or
// not at all.
func Prepare(ctx context.Context, data, script string) error {
	if err := Installed(); err != nil {
		return err
	}
	draft := data + ".new"
	if err := os.RemoveAll(draft); err != nil {
		return fmt.Errorf("remove what an interrupted start has left: %w", err)
	}
	if err := initialise(ctx, draft, nothing); err != nil {
		return err
	}
	command, err := Command(slices.Concat(bootstrapSettings, []string{"datadir=" + draft}))
	if err != nil {
		return err
	}
	command.Stdin = strings.NewReader(script)
	process, err := scratch.StartProcess(command)
	if err != nil {
		return err
	}
	select {
	case <-process.Done():
	case <-ctx.Done():
		return errors.Join(ctx.Err(), process.Kill())
	}
	if err := process.Err(); err != nil {
		return fmt.Errorf("run the first statements: %w\n%s", err, command.Stderr)
	}
	if err := os.Rename(draft, data); err != nil {
		return fmt.Errorf("name the data directory: %w", err)
	}
	return nil
}

// initialise fills an empty data directory from the template, making the template first if need be.
func initialise(ctx context.Context, data, grants string) error {
	template, err := ensureTemplate(ctx, grants)
	if err != nil {
		return err
	}
	if err := os.CopyFS(data, os.DirFS(template)); err != nil {
		return fmt.Errorf("copy data directory from %s: %w", template, err)
	}
	return nil
}

// ensureTemplate returns an initialised data directory for the installed version. Test binaries run side by side, so the
// first one makes it under a lock, and it appears under its final name only when it is complete.
func ensureTemplate(ctx context.Context, grants string) (string, error) {
	key, err := templateKey(ctx, grants)
	if err != nil {
		return "", err
	}
	folder, err := cacheFolder()
	if err != nil {
		return "", err
	}
	lock, err := scratch.Lock(filepath.Join(folder, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()

	template := filepath.Join(folder, key)
	if _, err := os.Stat(template); err == nil {
		return template, nil
	}
	draft, err := os.MkdirTemp(folder, "draft-")
	if err != nil {
		return "", fmt.Errorf("make template folder: %w", err)
	}
	if err := makeTemplate(ctx, draft, grants); err != nil {
		return "", errors.Join(err, os.RemoveAll(draft))
	}
	if err := os.Rename(draft, template); err != nil {
		return "", fmt.Errorf("name template: %w", err)
	}
	return template, nil
}

// templateKey changes with everything that went into the template.
func templateKey(ctx context.Context, grants string) (string, error) {
	text, err := version(ctx)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(text + grants + strings.Join(templateSettings, "\n")))
	return hex.EncodeToString(sum[:8]), nil
}

// cacheFolder falls back to the scratch root for users without a home.
func cacheFolder() (string, error) {
	folder, err := os.UserCacheDir()
	if err != nil {
		if folder, err = scratch.Root(); err != nil {
			return "", err
		}
	}
	folder = filepath.Join(folder, "statesvc", "mariadb")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	return folder, nil
}

func makeTemplate(ctx context.Context, data, grants string) error {
	installer, err := find("mariadb-install-db")
	if err != nil {
		return err
	}
	script := data + ".sql"
	if err := os.WriteFile(script, []byte(grants), 0o600); err != nil {
		return fmt.Errorf("write grants: %w", err)
	}
	defer func() { _ = os.Remove(script) }() // a leftover is harmless and named after its folder

	method := "normal" // root without a password
	if grants == nothing {
		method = "socket"
	}
	list := append(arguments(templateSettings),
		"--auth-root-authentication-method="+method, "--skip-test-db", "--datadir="+data, "--extra-file="+script)
	output, err := exec.CommandContext(ctx, installer, list...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("initialise data directory: %w\n%s", err, output)
	}
	return nil
}
