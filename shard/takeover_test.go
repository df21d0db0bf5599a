package shard_test

import (
	"sync/atomic"
	"testing"

	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
)

// A key holds the tombstone of its first attempt. The second one is about to take it over, its packet is complete, when it is
// declared aborted itself, as by a resolver whose instance has lost the connection. The packet must not take effect any more: what
// was said of it is final. Here the lane is alive after all, and runs the operation as a third attempt.
func TestAbortedIsFinalForTheAttemptThatTakesOver(t *testing.T) {
	db := openMariaDB(t, testdb.MariaDB(t)) // SQLite has one writer: nobody can settle meanwhile
	o := op("a", "k1", 5)
	settle(t, db, unsettled(o))
	var packets atomic.Int64
	c := start(t, shard.Config{DB: db, FailPoints: func(point string) {
		if point == failpoint.BeforeCommit && packets.Add(1) == 2 { // the first finds that the key is not new
			if got := settle(t, db, unsettled(o)); got[0].Verdict != shard.Aborted {
				t.Errorf("settled as %v", got[0].Verdict)
			}
		}
	}})
	want(t, submit(t, c, o), shard.Done, "5")
	if n := packets.Load(); n != 3 {
		t.Errorf("%d packets were sent, so the second one was not refused", n)
	}
	if got := settle(t, db, unsettled(o)); got[0].Verdict != shard.Done || string(got[0].Body) != "5" {
		t.Errorf("settled as %v %q", got[0].Verdict, got[0].Body)
	}
}

// A seal that takes over the tombstone of another request is settled as what it is.
func TestSealOfAnAbortedKeyIsSettled(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		settle(t, db, unsettled(op("a", "lost", 7)))
		seal := &shard.Op{
			Owner: "a", Bucket: shard.BucketOf("a"), Key: "lost", Kind: "seal", Fingerprint: []byte("seal"), Body: shard.SealOp{},
		}
		want(t, submit(t, start(t, shard.Config{DB: db}), seal), shard.Sealed, "")
		if got := settle(t, db, unsettled(seal)); got[0].Verdict != shard.Sealed {
			t.Errorf("the seal is settled as %v", got[0].Verdict)
		}
	})
}
