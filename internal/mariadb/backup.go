package mariadb

import (
	"fmt"
	"os/exec"
)

// The programs of the package mariadb-backup: one copies the data directory of a running server, the other unpacks what it has sent.
const (
	backupProgram = "mariadb-backup"
	streamProgram = "mbstream"
)

// BackupPackage is the package that they come in.
const BackupPackage = "mariadb-backup"

// BackupInstalled says whether copies of running servers can be made and unpacked here.
func BackupInstalled() error {
	for _, name := range []string{backupProgram, streamProgram} {
		if _, err := find(name); err != nil {
			return err
		}
	}
	return nil
}

// BackupCommand writes a copy of a running server to its standard output. credentials is a file of options in the group
// mariadb-backup that say how to log in; scratch is a folder of its own. The server is disturbed at the end only, when the files
// that are not InnoDB's are copied: nothing commits then.
func BackupCommand(data, credentials, scratch string) (*exec.Cmd, error) {
	return command(backupProgram, "--defaults-file="+credentials, "--backup", "--stream=mbstream", "--datadir="+data, "--target-dir="+scratch)
}

// UnpackCommand writes the files of a copy, read from standard input, into a folder.
func UnpackCommand(folder string) (*exec.Cmd, error) {
	return command(streamProgram, "-x", "-C", folder)
}

// ApplyCommand makes a data directory of an unpacked copy: what was written while it was copied is applied.
func ApplyCommand(folder string) (*exec.Cmd, error) {
	return command(backupProgram, "--no-defaults", "--prepare", "--target-dir="+folder)
}

func command(name string, args ...string) (*exec.Cmd, error) {
	path, err := find(name)
	if err != nil {
		return nil, fmt.Errorf("%w; the package is %s", err, BackupPackage)
	}
	return &exec.Cmd{Path: path, Args: append([]string{path}, args...)}, nil
}
