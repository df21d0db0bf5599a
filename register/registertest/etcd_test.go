package registertest_test

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/statesvc/statesvc/internal/etcd"
	"github.com/statesvc/statesvc/register"
)

// TestMain makes this binary an etcd member when a test of it starts one.
func TestMain(m *testing.M) {
	etcd.Main()
	os.Exit(m.Run())
}

// TestEtcdConforms gives each test a prefix of its own. The tests run one after the other: some look at the revision, which
// is the cluster's.
func TestEtcdConforms(t *testing.T) {
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprintf("Members%d", members), func(t *testing.T) {
			cluster, err := etcd.StartCluster(t.Context(), members)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := cluster.Stop(); err != nil {
					t.Error(err)
				}
			})
			var stores atomic.Int64
			runSuite(t, func(t *testing.T) store {
				prefix := fmt.Sprintf("/test/%d/", stores.Add(1))
				return func() register.Register { return openEtcd(t, cluster, prefix) }
			})
		})
	}
}

func openEtcd(t *testing.T, cluster *etcd.Cluster, prefix string) *register.Etcd {
	t.Helper()
	e, err := register.OpenEtcd(t.Context(), register.EtcdConfig{Endpoints: cluster.Endpoints(), Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}
