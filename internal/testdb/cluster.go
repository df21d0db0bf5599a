package testdb

import (
	"os/exec"
	"syscall"
	"testing"

	"github.com/statesvc/statesvc/internal/mariadb"
)

// NeedMariaDB is for tests that start servers of their own: without a MariaDB they are skipped loudly by hand, and fail in CI.
func NeedMariaDB(t testing.TB) {
	t.Helper()
	require(t, mariadb.Installed())
}

// TakeDown takes the cluster in a folder down when the test ends, however that happens: a shell of its own session waits for the end
// of the test's process and then runs the program.
func TakeDown(t testing.TB, program string, env []string, folder string) {
	t.Helper()
	guard := exec.Command("/bin/sh", "-c", `cat >/dev/null; exec "$1" cluster down --purge --data "$2"`, "sh", program, folder)
	guard.Env, guard.SysProcAttr = env, &syscall.SysProcAttr{Setsid: true}
	alive, err := guard.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := guard.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = alive.Close()
		_ = guard.Wait() // an error says that there was nothing left to stop
	})
}
