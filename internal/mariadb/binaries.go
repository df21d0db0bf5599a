package mariadb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNotInstalled means that this machine has no MariaDB server; scripts/install-deps installs one.
var ErrNotInstalled = errors.New("mariadb server is not installed (run scripts/install-deps)")

// sbin are folders that are often missing from the PATH of anybody but root, and where distributions put servers.
var sbin = []string{"/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/opt/homebrew/bin"}

// Installed says whether Start can work here at all.
func Installed() error {
	_, err := find("mariadbd")
	if err != nil {
		return err
	}
	_, err = find("mariadb-install-db")
	return err
}

func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, folder := range sbin {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s: %w", name, ErrNotInstalled)
}

// Command is the call of mariadbd with these settings ("name=value") and no others. What it writes to stderr is kept, so that
// an error can show it; settings of a long-lived server name a log_error.
func Command(settings []string) (*exec.Cmd, error) {
	path, err := find("mariadbd")
	if err != nil {
		return nil, err
	}
	return &exec.Cmd{Path: path, Args: append([]string{path}, arguments(settings)...), Stderr: &bytes.Buffer{}}, nil
}

// version is the server's own long version text; it names the release and the package it came from.
func version(ctx context.Context) (string, error) {
	server, err := find("mariadbd")
	if err != nil {
		return "", err
	}
	text, err := exec.CommandContext(ctx, server, "--no-defaults", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", server, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// arguments spells settings as command line options. Files like /etc/mysql/my.cnf are not read, so that a test means the
// same on every machine.
func arguments(settings []string) []string {
	list := []string{"--no-defaults"}
	if os.Getuid() == 0 {
		// The server refuses to run as root unless told so, and as another user it would outlive us (scratch.Process).
		list = append(list, "--user=root")
	}
	for _, setting := range settings {
		list = append(list, "--"+setting)
	}
	return list
}
