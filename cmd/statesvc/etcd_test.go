package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/statesvc/statesvc/internal/etcd"
	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/register"
)

// TestEtcdMember runs the command as a cluster would, uses it as a register, and ends it by a signal.
func TestEtcdMember(t *testing.T) {
	t.Parallel()
	options := etcd.Options{
		Name: "m1", DataDir: filepath.Join(t.TempDir(), "data"), ClientURL: "http://" + freeAddr(t), PeerURL: "http://" + freeAddr(t),
	}
	options.InitialCluster = "m1=" + options.PeerURL
	program := exec.Command(os.Args[0], append([]string{"etcd"}, options.Arguments()...)...)
	program.Env = append(os.Environ(), asProgram+"=1")
	var out output
	program.Stdout, program.Stderr = &out, &out
	member, err := scratch.StartProcess(program)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = member.Kill() })

	reg, err := register.OpenEtcd(t.Context(), register.EtcdConfig{
		Endpoints: []string{options.ClientURL}, Prefix: "/statesvc/", DialTimeout: patience,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if _, err := register.Create(t.Context(), reg, "k", nil); err != nil {
		t.Error(err)
	}
	if err := reg.Close(); err != nil {
		t.Error(err)
	}
	if err := member.Stop(patience); err != nil {
		t.Fatal(err)
	}
	if err := member.Err(); err != nil {
		t.Errorf("the member ended with %v:\n%s", err, out.String())
	}
	refused(t, []string{"etcd", "--name", "m1"}, "data-dir", "client-url")
}

// freeAddr is an address that is the test's until it ends.
func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := scratch.NewPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = port.Close() })
	return port.Addr()
}
