package ledger

import (
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// TestLateClose: a close that comes when the code is somebody else's already, and a second reservation, change nothing.
func TestLateClose(t *testing.T) {
	t.Parallel()
	s := newState(nil, 1)
	apply := func(body any) shard.Reply {
		return s.apply(&shard.Op{Owner: codeOwner("ABC"), Bucket: shard.BucketOf(codeOwner("ABC")), Body: body}, time.UnixMicro(1))
	}
	apply(&makeCodeOp{codeFacts: codeFacts{code: CodeText{"ABC", "ABC"}, campaign: "c", batchRef: "b", number: 1, kind: UniqueCode}})
	first := &reserveCodeOp{code: "ABC", owner: "alice", key: "k1"}
	second := &reserveCodeOp{code: "ABC", owner: "bob", key: "k2"}
	apply(first)
	if apply(second); first.told.owner != "alice" || second.told.owner != "alice" || second.told.opKey != "k1" {
		t.Fatalf("%+v %+v", first.told, second.told)
	}
	apply(&closeCodeOp{code: "ABC", attempt: first.told.attempt})
	if apply(second); second.told.owner != "bob" || second.told.attempt != 2 {
		t.Fatalf("%+v", second.told)
	}
	for _, redeemed := range []bool{false, true} {
		if reply := apply(&closeCodeOp{code: "ABC", attempt: 1, redeemed: redeemed}); reply.Err == nil {
			t.Errorf("%+v", s.codes["ABC"])
		}
	}
	apply(&closeCodeOp{code: "ABC", attempt: 2, redeemed: true})
	if c := s.codes["ABC"]; c.state != codeRedeemed || c.owner != "bob" {
		t.Errorf("%+v", c)
	}
	if apply(first); first.told.owner != "bob" {
		t.Errorf("%+v", first.told)
	}
}
