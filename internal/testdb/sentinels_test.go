package testdb_test

import (
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/redisd"
	"github.com/statesvc/statesvc/internal/testdb"
)

// A primary that was killed is replaced by its replica.
func TestSentinelsPromote(t *testing.T) {
	t.Parallel()
	s := testdb.WatchedRedis(t)
	if s.Primary(t) != s.Caches[0].Addr() {
		t.Fatal("the primary is another one than it should be")
	}
	s.Caches[0].Kill(t)
	await(t, "the replica is promoted", func() bool { return s.Primary(t) == s.Caches[1].Addr() && isPrimary(t, s.Caches[1]) })
}

func isPrimary(t *testing.T, server *testdb.RedisServer) bool {
	t.Helper()
	primary, err := redisd.IsPrimary(t.Context(), server.Addr())
	if err != nil {
		t.Log(err)
	}
	return primary
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not happen that %s", what)
		}
	}
}
