package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/redisd"
)

// policy forbids packages to start their services while it is there (a Debian convention).
const policy = "/usr/sbin/policy-rc.d"

// installServers does what scripts/install-deps does for the servers.
func installServers(ctx context.Context) (err error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("this machine has no apt; install MariaDB 10.11 or later, mariadb-backup and redis-server by hand")
	}
	if _, err := os.Stat(policy); errors.Is(err, os.ErrNotExist) && os.Getuid() == 0 { // one that is there is somebody's decision
		if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return fmt.Errorf("keep services from starting: %w", err)
		}
		defer func() { err = errors.Join(err, os.Remove(policy)) }()
	}
	for _, args := range [][]string{
		{"apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update"},
		{
			"apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends",
			"mariadb-server", mariadb.BackupPackage, redisd.Package,
		},
	} {
		if os.Getuid() != 0 {
			args = append([]string{"sudo"}, args...)
		}
		command := exec.CommandContext(ctx, args[0], args[1:]...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		output, failed := command.CombinedOutput()
		if failed != nil && args[len(args)-1] != "update" { // the lists that are here may do
			return fmt.Errorf("install the servers: %w\n%s", failed, output)
		}
	}
	noRedis := redisd.Installed()
	return errors.Join(mariadb.Installed(), mariadb.BackupInstalled(), noRedis)
}
