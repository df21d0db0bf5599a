package testdb_test

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/testdb"
)

// ask sends one inline command and returns the first line of the answer, or "" if none comes.
func ask(t *testing.T, addr, command string) string {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp4", addr)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		return ""
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return ""
	}
	return strings.TrimSpace(line)
}

func TestRedisForgetsOnKill(t *testing.T) {
	t.Parallel()
	server := testdb.Redis(t)
	if got := ask(t, server.Addr(), "SET k v"); got != "+OK" {
		t.Fatalf("SET: %q", got)
	}
	pid := server.PID()
	server.Kill(t)
	if got := ask(t, server.Addr(), "PING"); got != "" {
		t.Errorf("a killed server answers %q", got)
	}
	server.Restart(t)
	if got := ask(t, server.Addr(), "EXISTS k"); got != ":0" {
		t.Errorf("EXISTS after the kill: %q, want :0", got)
	}
	if server.PID() == pid {
		t.Errorf("process id did not change: %d", pid)
	}
}

func TestRedisKeepsWhatArgsAskFor(t *testing.T) {
	t.Parallel()
	server := testdb.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	ask(t, server.Addr(), "SET k v")
	server.Kill(t)
	server.Restart(t)
	if got := ask(t, server.Addr(), "EXISTS k"); got != ":1" {
		t.Errorf("EXISTS after the kill: %q, want :1", got)
	}
}

func TestRedisPause(t *testing.T) {
	t.Parallel()
	server := testdb.Redis(t)
	server.Pause(t)
	if got := ask(t, server.Addr(), "PING"); got != "" {
		t.Errorf("a paused server answers %q", got)
	}
	server.Resume(t)
	if got := ask(t, server.Addr(), "PING"); got != "+PONG" {
		t.Errorf("PING after the pause: %q", got)
	}
}
