package shard_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// clocked notes when batches begin.
type clocked struct {
	shard.Machine
	begun chan time.Time
}

func (m clocked) NewBatch(ops []*shard.Op, collided bool) shard.Batch {
	m.begun <- time.Now()
	return m.Machine.NewBatch(ops, collided)
}

// While a replica is behind, a lane rests after each batch, so that what comes meanwhile is one transaction.
func TestLanesRestWhileAReplicaIsBehind(t *testing.T) {
	const rest = 20 * time.Millisecond
	engines(t, func(t *testing.T, db *shard.DB) {
		m := clocked{counters{}, make(chan time.Time, 100)}
		c := start(t, shard.Config{DB: db, Machine: m, Lanes: 1})
		c.Slow(true)
		for i := range 4 {
			if r := c.Submit(t.Context(), op("o", fmt.Sprintf("k%d", i), 1)); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		last := <-m.begun
		for range 3 {
			next := <-m.begun
			if next.Sub(last) < rest {
				t.Errorf("a batch began %v after the one before", next.Sub(last))
			}
			last = next
		}
	})
}
