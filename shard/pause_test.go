package shard_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
)

// rowsFreeWithin is how long a stopped instance may hold its rows: the three seconds after which a server gives up on an idle
// transaction, and what it takes to notice on a busy machine.
const rowsFreeWithin = 8 * time.Second

// An instance stops between BEGIN and COMMIT, as with SIGSTOP or a long pause of its machine. The server takes its rows away, so
// that another instance can write; what the stopped one does when it wakes changes nothing, and its operation then runs once.
func TestPausedInstanceLosesItsRows(t *testing.T) {
	for _, point := range []string{failpoint.AfterLoad, failpoint.BeforeCommit} {
		t.Run(point, func(t *testing.T) {
			t.Parallel() // each waits for the server most of the time
			db := openMariaDB(t, testdb.MariaDB(t))
			other := start(t, shard.Config{DB: db})
			want(t, submit(t, other, op("a", "k0", 1)), shard.Done, "1")

			stopped, gate := make(chan struct{}), make(chan struct{})
			wake := sync.OnceFunc(func() { close(gate) })
			var once, undecided atomic.Int64
			paused := start(t, shard.Config{DB: db, Lanes: 1, Undecided: settleDirectly(t, db, &undecided), FailPoints: func(name string) {
				if name == point && once.Add(1) == 1 {
					close(stopped)
					<-gate
				}
			}})
			t.Cleanup(wake)
			late := make(chan shard.Reply, 1)
			go func() { late <- submit(t, paused, op("a", "late", 10)) }()
			<-stopped
			began := time.Now()
			want(t, submit(t, other, op("a", "k1", 100)), shard.Done, "101")
			took := time.Since(began)
			wake()
			if r := <-late; r.Err != nil && !errors.Is(r.Err, shard.ErrFailover) {
				t.Errorf("the paused operation ended with %v", r.Err)
			}
			want(t, submit(t, paused, op("a", "late", 10)), shard.Done, "111")
			if took > rowsFreeWithin {
				t.Errorf("a paused instance held its rows for %v", took)
			}
		})
	}
}
