package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// benchBatch is the largest batch of a lane.
const benchBatch = 256

// shelf is a batch of holds, each of its own owner, with one coupon and one money item for an order of two lines, and the rows
// that they need.
type shelf struct {
	*desk
	ops []*shard.Op
}

func newShelf(b *testing.B) *shelf {
	b.Helper()
	s := &shelf{desk: newDesk(b)}
	for i := range benchBatch {
		owner := fmt.Sprintf("owner-%d", i)
		c := s.issue(owner, fixed(30))
		s.credit(owner, 1000, time.Hour, "")
		s.credit(owner, 1000, 2*time.Hour, "")
		h := s.take(owner, c.item(), money(20))
		h.HoldID = id.ID{}
		h.OrderID = fmt.Sprintf("order-%d", i)
		s.ops = append(s.ops, &shard.Op{
			Owner: owner, Bucket: shard.BucketOf(owner), Key: "k",
			Body: &holdOp{Hold: h, id: s.mint(id.Hold, owner), hash: requestHash(fingerprintHold(&h))},
		})
	}
	return s
}

// load copies the rows into a fresh state, as a batch finds them after its first round.
func (s *shelf) load() *state {
	loaded := newState(s.codec, benchBatch)
	for _, o := range s.owners {
		copied := &ownerRow{bucket: o.bucket, name: o.name, ver: o.ver, entrySeq: o.entrySeq, stored: true}
		loaded.owners[o.name] = copied
	}
	for _, c := range s.coupons {
		copied := *c
		copied.owner, copied.stored, copied.dirty = loaded.owners[c.owner.name], true, false
		loaded.addCoupon(&copied)
	}
	for _, l := range s.lots {
		copied := *l
		copied.owner, copied.stored, copied.dirty = loaded.owners[l.owner.name], true, false
		loaded.addLot(&copied)
	}
	return loaded
}

// BenchmarkHold is what apply costs for one hold.
func BenchmarkHold(b *testing.B) {
	s := newShelf(b)
	b.ReportAllocs()
	b.ResetTimer()
	var loaded *state
	for i := range b.N {
		if i%benchBatch == 0 {
			b.StopTimer()
			loaded = s.load()
			b.StartTimer()
		}
		if r := loaded.apply(s.ops[i%benchBatch], s.at); r.Verdict != shard.Done {
			b.Fatalf("%s %v", r.Body, r.Err)
		}
	}
}

// BenchmarkConfirm is what apply costs for one confirm, with the document read by load.
func BenchmarkConfirm(b *testing.B) {
	s := newShelf(b)
	b.ReportAllocs()
	b.ResetTimer()
	var loaded *state
	for i := range b.N {
		if i%benchBatch == 0 {
			b.StopTimer()
			loaded = s.load()
			for _, op := range s.ops {
				loaded.apply(op, s.at)
			}
			b.StartTimer()
		}
		op := s.ops[i%benchBatch]
		confirm := shard.Op{
			Owner: op.Owner, Bucket: op.Bucket, Body: &confirmOp{Confirm: Confirm{Owner: op.Owner, Hold: HoldRef{HoldID: op.Body.(*holdOp).id}}},
		}
		if r := loaded.apply(&confirm, s.at); r.Verdict != shard.Done {
			b.Fatalf("%s %v", r.Body, r.Err)
		}
	}
}

// BenchmarkRequest is what the caller's goroutine does for a hold before it is queued.
func BenchmarkRequest(b *testing.B) {
	s := newShelf(b)
	b.ReportAllocs()
	for b.Loop() {
		h := s.ops[0].Body.(*holdOp).Hold
		if err := validateHold(Caller{Key: "k"}, &h); err != nil {
			b.Fatal(err)
		}
		requestHash(fingerprintHold(&h))
	}
}
