package etcd_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/statesvc/statesvc/internal/etcd"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) {
	etcd.Main()
	os.Exit(m.Run())
}

// TestCluster ends and pauses the leader in every way there is; each time another one leads and what was written is there.
func TestCluster(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cluster, err := etcd.StartCluster(ctx, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	client, err := clientv3.New(clientv3.Config{Endpoints: cluster.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	faults := []struct {
		name     string
		hit, fix func(*etcd.Member) error
	}{
		{"kill", (*etcd.Member).Kill, func(m *etcd.Member) error { return m.Restart(ctx) }},
		{"pause", (*etcd.Member).Pause, (*etcd.Member).Resume},
		{"shutdown", (*etcd.Member).Shutdown, func(m *etcd.Member) error { return m.Restart(ctx) }},
	}
	for _, fault := range faults {
		old, err := cluster.Leader(ctx)
		if err := errors.Join(err, fault.hit(old)); err != nil {
			t.Fatalf("%s: %v", fault.name, err)
		}
		rest := &etcd.Cluster{Members: cluster.Others(old)}
		if _, err := rest.Leader(ctx); err != nil {
			t.Errorf("after a %s: %v", fault.name, err)
		}
		if err := fault.fix(old); err != nil {
			t.Fatalf("after a %s: %v", fault.name, err)
		}
	}
	if resp, err := client.Get(ctx, "k"); err != nil || resp.Count != 1 {
		t.Errorf("after all: %v, %v", resp, err)
	}
}

// TestRunSaysWhatIsWrong: a member that cannot run returns, it does not end the program.
func TestRunSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	wrong := map[string]etcd.Options{
		"client URL": {Name: "m1", ClientURL: "http://127.0.0.1:x"},
		"peer URL":   {Name: "m1", ClientURL: "http://127.0.0.1:1", PeerURL: "http://127.0.0.1:x"},
		"not a member": {
			Name: "m1", DataDir: t.TempDir(), ClientURL: "http://127.0.0.1:1", PeerURL: "http://127.0.0.1:2",
			InitialCluster: "m2=http://127.0.0.1:3",
		},
	}
	for name, options := range wrong {
		options.LogLevel = "panic"
		if err := etcd.Run(t.Context(), options); err == nil {
			t.Errorf("%s: a member runs", name)
		}
	}
}
