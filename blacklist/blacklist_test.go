package blacklist

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/statesvc/statesvc/register"
)

// waitMax is how long a test waits for what must happen. It is no promise of speed.
const waitMax = 10 * time.Second

// clock stands still until it is moved.
type clock struct{ at atomic.Pointer[time.Time] }

func newClock() *clock {
	c := &clock{}
	c.set(time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC))
	return c
}

func (c *clock) now() time.Time      { return *c.at.Load() }
func (c *clock) set(t time.Time)     { c.at.Store(&t) }
func (c *clock) add(d time.Duration) { c.set(c.now().Add(d)) }

// fixture is a register file with as many blacklists on it as a test wants, each with a handle of its own.
type fixture struct {
	t     *testing.T
	path  string
	clock *clock
	reg   *register.File // of the blacklist opened last
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return &fixture{t: t, path: filepath.Join(t.TempDir(), "register"), clock: newClock()}
}

func (f *fixture) register() *register.File {
	f.t.Helper()
	reg, err := register.OpenFile(f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = reg.Close() })
	f.reg = reg
	return reg
}

func (f *fixture) open() *Blacklist {
	f.t.Helper()
	b, err := Open(f.t.Context(), f.register(), f.clock.now)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(b.Close)
	return b
}

func (f *fixture) block(b *Blacklist, block Block) {
	f.t.Helper()
	if block.Reason == "" {
		block.Reason = "test"
	}
	if block.By == "" {
		block.By = "tester"
	}
	if err := b.Block(f.t.Context(), block); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) blocked(b *Blacklist, t Target) bool {
	f.t.Helper()
	err := b.Check(t, f.clock.now())
	if err != nil && !errors.Is(err, ErrBlocked) {
		f.t.Fatal(err)
	}
	return err != nil
}

// eventually waits for what another handle will see.
func (f *fixture) eventually(what string, is func() bool) {
	f.t.Helper()
	for end := time.Now().Add(waitMax); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if is() {
			return
		}
	}
	f.t.Fatalf("not reached: %s", what)
}

func TestCheckGrains(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	free := Target{Owner: "user-1", Bucket: 12720, Shard: 1, Node: "n1"}
	tests := []struct {
		grain Grain
		id    string
		other Target
	}{
		{GrainNode, "n1", Target{Owner: "user-1", Bucket: 12720, Shard: 1, Node: "n2"}},
		{GrainShard, "1", Target{Owner: "user-1", Bucket: 12720, Shard: 2, Node: "n1"}},
		{GrainBucket, "12720", Target{Owner: "user-1", Bucket: 12721, Shard: 1, Node: "n1"}},
		{GrainOwner, "user-1", Target{Owner: "user-2", Bucket: 12720, Shard: 1, Node: "n1"}},
	}
	for _, test := range tests {
		if err := b.Check(free, f.clock.now()); err != nil {
			t.Fatalf("before %s: %v", test.grain, err)
		}
		f.block(b, Block{Grain: test.grain, ID: test.id, Holder: HolderAdmin, PublicReason: "maintenance"})
		var blocked *BlockedError
		err := b.Check(free, f.clock.now())
		if !errors.Is(err, ErrBlocked) || !errors.As(err, &blocked) {
			t.Fatalf("%s: %v", test.grain, err)
		}
		want := BlockedError{Grain: test.grain, ID: test.id, Holder: HolderAdmin, Reason: "maintenance"}
		if *blocked != want {
			t.Errorf("%s: %+v", test.grain, *blocked)
		}
		if f.blocked(b, test.other) {
			t.Errorf("%s: %+v is blocked too", test.grain, test.other)
		}
		if node := b.CheckNode("n1", f.clock.now()); (node != nil) != (test.grain == GrainNode) {
			t.Errorf("%s: node %v", test.grain, node)
		}
		if shard := b.CheckShard(1, f.clock.now()); (shard != nil) != (test.grain == GrainShard) {
			t.Errorf("%s: shard %v", test.grain, shard)
		}
		if err := b.Unblock(t.Context(), test.grain, test.id, HolderAdmin, "tester", "done"); err != nil {
			t.Fatal(err)
		}
	}
	if f.blocked(b, free) || f.blocked(b, Target{}) {
		t.Error("still blocked after all")
	}
}

func TestInvalidBlocks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	good := Block{Grain: GrainOwner, ID: "a", Holder: HolderAdmin, Reason: "r", By: "k"}
	tests := map[string]func(*Block){
		"grain":            func(b *Block) { b.Grain = "" },
		"id":               func(b *Block) { b.ID = "" },
		"holder":           func(b *Block) { b.Holder = "" },
		"undecided":        func(b *Block) { b.Holder = HolderUndecided },
		"reason":           func(b *Block) { b.Reason = "" },
		"long reason":      func(b *Block) { b.Reason = string(make([]byte, 501)) },
		"long public":      func(b *Block) { b.PublicReason = string(make([]byte, 501)) },
		"by":               func(b *Block) { b.By = "" },
		"local":            func(b *Block) { b.Local = true },
		"ends now":         func(b *Block) { b.Until = f.clock.now() },
		"ended in history": func(b *Block) { b.Until = f.clock.now().Add(-time.Hour) },
	}
	for name, spoil := range tests {
		block := good
		spoil(&block)
		if err := b.Block(t.Context(), block); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.Unblock(t.Context(), GrainOwner, "a", HolderAdmin, "k", ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("unblock without a reason: %v", err)
	}
	if rows := b.List(Filter{}); len(rows) != 0 {
		t.Errorf("left behind: %+v", rows)
	}
}

// TestManyHolders blocks one bucket for several holders: it is free when the last is gone, whatever the order.
func TestManyHolders(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	target := Target{Bucket: 7}
	holders := []string{HolderAdmin, "move:1", "controller"}
	for _, holder := range holders {
		f.block(b, Block{Grain: GrainBucket, ID: "7", Holder: holder})
	}
	for _, holder := range holders {
		if !f.blocked(b, target) {
			t.Fatalf("free before %s is gone", holder)
		}
		if err := b.Unblock(t.Context(), GrainBucket, "7", holder, "tester", "done"); err != nil {
			t.Fatal(err)
		}
	}
	if f.blocked(b, target) {
		t.Fatal("blocked by nobody")
	}
	if err := b.Unblock(t.Context(), GrainBucket, "7", "move:1", "tester", "again"); !errors.Is(err, ErrNotBlocked) {
		t.Fatalf("unblock of what is free: %v", err)
	}
}

func TestBlockInForce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	unblock := func(id, holder string) error {
		return b.Unblock(t.Context(), GrainOwner, id, holder, "key-1", "because")
	}
	f.block(b, Block{Grain: GrainOwner, ID: "moving", Holder: "move:1"})
	if err := unblock("moving", HolderAdmin); !errors.Is(err, ErrBlockInForce) {
		t.Errorf("admin and a move: %v", err)
	}
	if err := unblock("moving", "move:2"); !errors.Is(err, ErrNotBlocked) {
		t.Errorf("one move and another: %v", err)
	}
	f.block(b, Block{Grain: GrainOwner, ID: "moving", Holder: HolderAdmin})
	if err := unblock("moving", HolderAdmin); err != nil {
		t.Errorf("admin his own, beside the move's: %v", err)
	}
	if !f.blocked(b, Target{Owner: "moving"}) {
		t.Error("the move's block went with the admin's")
	}

	record := Undecided{Shard: 1, Owner: "dim", Bucket: 1, Key: "k"}
	if err := b.PutUndecided(t.Context(), []Undecided{record}); err != nil {
		t.Fatal(err)
	}
	for _, holder := range []string{HolderAdmin, HolderUndecided} {
		if err := unblock("dim", holder); !errors.Is(err, ErrBlockInForce) {
			t.Errorf("%s and an undecided record: %v", holder, err)
		}
	}
	release := b.BlockLocal("here", HolderUndecided, "no answer")
	if err := unblock("here", HolderAdmin); !errors.Is(err, ErrBlockInForce) {
		t.Errorf("admin and a local block: %v", err)
	}
	release()
	if err := unblock("here", HolderAdmin); !errors.Is(err, ErrNotBlocked) {
		t.Errorf("after the release: %v", err)
	}
}

func TestBlockAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	block := Block{Grain: GrainOwner, ID: "a", Holder: "move:1", Reason: "first", By: "mover", Until: f.clock.now().Add(time.Minute)}
	for range 3 {
		f.block(b, block)
		f.clock.add(time.Second)
	}
	block.Until, block.Reason = time.Time{}, "second"
	f.block(b, block)
	listed := b.List(Filter{})
	block.At = f.clock.now()
	if diff := cmp.Diff([]Block{block}, listed); diff != "" {
		t.Error(diff)
	}
	if rows := f.audit(b, 10, 0); len(rows) != 2 {
		t.Errorf("a repetition that changes nothing is audited: %+v", rows)
	}
}

// TestExpiryIsExact walks the clock over the end of a block, one nanosecond at a time.
func TestExpiryIsExact(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	until := f.clock.now().Add(time.Hour)
	f.block(b, Block{Grain: GrainOwner, ID: "a", Holder: HolderAdmin, Until: until})
	f.block(b, Block{Grain: GrainOwner, ID: "a", Holder: "move:1", Until: until.Add(-time.Minute)})
	target := Target{Owner: "a"}

	f.clock.set(until.Add(-1))
	f.renew(b)
	var blocked *BlockedError
	if err := b.Check(target, f.clock.now()); !errors.As(err, &blocked) || !blocked.RetryAt.Equal(until) {
		t.Fatalf("a nanosecond before: %v", err)
	}
	f.clock.set(until)
	f.renew(b)
	if f.blocked(b, target) {
		t.Fatal("blocked at its end")
	}
	f.eventually("the entries are removed", func() bool { return len(b.List(Filter{})) == 0 })
	rows := f.audit(b, 2, 0)
	for _, row := range rows {
		if row.Action != ActionExpire || row.By != ByExpiry || row.ID != "a" || row.At.Before(row.Until) {
			t.Errorf("audit: %+v", row)
		}
	}
}

// TestNothingExpiresUnseen lets the register become unreachable. The clock alone must not free anybody then.
func TestNothingExpiresUnseen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	f.block(b, Block{Grain: GrainOwner, ID: "a", Holder: HolderAdmin, Until: f.clock.now().Add(time.Minute)})
	if err := f.reg.Close(); err != nil {
		t.Fatal(err)
	}
	f.clock.add(time.Hour)
	if !f.blocked(b, Target{Owner: "a"}) {
		t.Error("a block that may have been prolonged ended by the clock")
	}
	if err := b.Err(f.clock.now()); !errors.Is(err, ErrStale) {
		t.Errorf("an hour without the register: %v", err)
	}
	if err := b.Block(t.Context(), Block{Grain: GrainOwner, ID: "b", Holder: "x", Reason: "r", By: "t"}); !errors.Is(err, register.ErrClosed) {
		t.Errorf("block: %v", err)
	}
}

// TestProlonged lets one instance prolong a block while another believes that it has ended.
func TestProlonged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.open(), f.open()
	until := f.clock.now().Add(time.Minute)
	f.block(a, Block{Grain: GrainShard, ID: "3", Holder: HolderAdmin, Until: until})
	f.block(b, Block{Grain: GrainShard, ID: "3", Holder: HolderAdmin, Until: until.Add(time.Hour)})
	f.clock.set(until)
	a.expire(t.Context(), until)
	f.renew(a)
	if !f.blocked(a, Target{Shard: 3}) {
		t.Fatal("the prolonged block was removed at its old end")
	}
}

func TestOtherInstances(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.open(), f.open()
	f.block(a, Block{Grain: GrainNode, ID: "n1", Holder: "controller"})
	f.eventually("the other instance hears of the block", func() bool { return f.blocked(b, Target{Node: "n1"}) })
	if err := b.Unblock(t.Context(), GrainNode, "n1", "controller", "c2", "back in the set"); err != nil {
		t.Fatal(err)
	}
	f.eventually("the other instance hears of its end", func() bool { return !f.blocked(a, Target{Node: "n1"}) })
	if late := f.open(); f.blocked(late, Target{Node: "n1"}) || len(f.audit(late, 10, 0)) != 2 {
		t.Error("a third instance sees something else")
	}
}

// TestSameElsewhere asks for what another process has done a moment before: nothing is written, but the view must show it
// when the call returns, as if this process had done it.
func TestSameElsewhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.open(), f.open()
	for i := range 20 {
		block := Block{Grain: GrainBucket, ID: strconv.Itoa(i), Holder: "move:1"}
		f.block(a, block)
		f.block(b, block)
		if !f.blocked(b, Target{Bucket: uint16(i)}) {
			t.Fatal("blocked, but not seen")
		}
		for _, instance := range []*Blacklist{a, b} {
			err := instance.Unblock(t.Context(), GrainBucket, block.ID, block.Holder, "tester", "done")
			if (err != nil) != (instance == b) || f.blocked(instance, Target{Bucket: uint16(i)}) {
				t.Fatalf("unblocked, but not seen: %v", err)
			}
		}
	}
}

func TestUnreadableEntries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	reg := f.register()
	put := func(key, value string) {
		if _, err := register.Put(t.Context(), reg, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	put("blocks/bucket/9/admin", "{broken")
	put(recordKey{1, 5, "dim", "k"}.String(), "")
	b := f.open()
	for _, target := range []Target{{Bucket: 9}, {Owner: "dim"}} {
		if !f.blocked(b, target) {
			t.Errorf("%+v is free although its key says that it is blocked", target)
		}
	}
	put("blocks/city/x/admin", "{}")
	f.eventually("the instance says that it is not whole", func() bool { return errors.Is(b.Err(f.clock.now()), ErrStale) })
	if _, err := Open(t.Context(), reg, f.clock.now); !errors.Is(err, ErrStale) {
		t.Errorf("opened without knowing what is blocked: %v", err)
	}
	if err := register.Delete(t.Context(), reg, "blocks/city/x/admin", must(reg.Get(t.Context(), "blocks/city/x/admin")).Rev); err != nil {
		t.Fatal(err)
	}
	f.eventually("it is whole again", func() bool { return b.Err(f.clock.now()) == nil })
	if records, err := b.ListUndecided(t.Context(), AllShards); err != nil || len(records) != 1 || records[0].Owner != "dim" {
		t.Errorf("%+v, %v", records, err)
	}
	put("undecided/1/what", "{}")
	if records, err := b.ListUndecided(t.Context(), AllShards); !errors.Is(err, ErrInvalid) || len(records) != 1 {
		t.Errorf("the readable record must come beside the error: %+v, %v", records, err)
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	reg := f.register()
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), reg, f.clock.now); !errors.Is(err, register.ErrClosed) {
		t.Fatalf("open without a register: %v", err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	f.block(b, Block{Grain: GrainNode, ID: "n1", Holder: HolderAdmin})
	f.block(b, Block{Grain: GrainBucket, ID: "7", Holder: "move:1"})
	f.block(b, Block{Grain: GrainBucket, ID: "7", Holder: HolderAdmin})
	defer b.BlockLocal("a", HolderUndecided, "no answer")()
	records := []Undecided{{Shard: 1, Owner: "a", Key: "1"}, {Shard: 1, Owner: "a", Key: "2"}}
	if err := b.PutUndecided(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		filter Filter
		want   []string
	}{
		{Filter{}, []string{"bucket 7 admin", "bucket 7 move:1", "node n1 admin", "owner a undecided", "owner a undecided local"}},
		{Filter{Grain: GrainBucket}, []string{"bucket 7 admin", "bucket 7 move:1"}},
		{Filter{Holder: HolderAdmin}, []string{"bucket 7 admin", "node n1 admin"}},
		{Filter{Grain: GrainBucket, ID: "7", Holder: "move:1"}, []string{"bucket 7 move:1"}},
		{Filter{ID: "8"}, nil},
	}
	for _, test := range tests {
		var got []string
		for _, block := range b.List(test.filter) {
			text := fmt.Sprintf("%s %s %s", block.Grain, block.ID, block.Holder)
			if block.Local {
				text += " local"
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%+v: %s", test.filter, diff)
		}
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	if rows := f.audit(b, 10, 0); len(rows) != 0 {
		t.Fatalf("an empty log has %+v", rows)
	}
	until := f.clock.now().Add(time.Hour)
	f.block(b, Block{Grain: GrainOwner, ID: "a", Holder: HolderAdmin, Reason: "fraud", By: "key-1", Until: until})
	f.clock.add(time.Second)
	if err := b.Unblock(t.Context(), GrainOwner, "a", HolderAdmin, "key-2", "was wrong"); err != nil {
		t.Fatal(err)
	}
	want := []AuditRow{
		{
			Number: 2, At: f.clock.now(), Action: ActionUnblock, Grain: GrainOwner, ID: "a", Holder: HolderAdmin,
			By: "key-2", Reason: "was wrong",
		},
		{
			Number: 1, At: f.clock.now().Add(-time.Second), Action: ActionBlock, Grain: GrainOwner, ID: "a", Holder: HolderAdmin,
			By: "key-1", Reason: "fraud", Until: until,
		},
	}
	if diff := cmp.Diff(want, f.audit(b, 10, 0)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[1:], f.audit(b, 10, 2)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[:1], f.audit(b, 1, 0)); diff != "" {
		t.Error(diff)
	}
	if rows := f.audit(b, 10, 1); len(rows) != 0 {
		t.Errorf("before the first row: %+v", rows)
	}
}

// TestAuditIsTrimmed begins near the limit, by moving the head, and pages through what is left.
func TestAuditIsTrimmed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	const before = auditKept - 120
	if _, err := register.Put(t.Context(), f.reg, auditHead, []byte(strconv.Itoa(before))); err != nil {
		t.Fatal(err)
	}
	if _, err := register.Put(t.Context(), f.reg, auditKey(1), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	for i := range 125 {
		f.block(b, Block{Grain: GrainBucket, ID: strconv.Itoa(i), Holder: HolderAdmin})
	}
	var numbers []int64
	for next := int64(0); ; {
		rows := f.audit(b, 40, next)
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			numbers = append(numbers, row.Number)
		}
		next = rows[len(rows)-1].Number
	}
	if len(numbers) != 125 || numbers[0] != before+125 || numbers[124] != before+1 ||
		!slices.IsSortedFunc(numbers, func(a, b int64) int { return int(b - a) }) {
		t.Errorf("%d rows, from %d to %d", len(numbers), numbers[0], numbers[len(numbers)-1])
	}
	if _, err := f.reg.Get(t.Context(), auditKey(1)); !errors.Is(err, register.ErrNotFound) {
		t.Errorf("the row that is too many: %v", err)
	}
}

// TestAuditHasEveryChange lets several instances block and unblock the same ids at once. Whatever the order, the log tells
// it without a gap, and replaying it gives the blocks that are there.
func TestAuditHasEveryChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	instances := []*Blacklist{f.open(), f.open()}
	var wg sync.WaitGroup
	for i, b := range instances {
		for worker := range 2 {
			wg.Go(func() {
				by := fmt.Sprintf("w%d.%d", i, worker)
				for round := range 12 {
					id := strconv.Itoa(round % 3)
					err := b.Block(t.Context(), Block{Grain: GrainBucket, ID: id, Holder: "h", Reason: by + strconv.Itoa(round), By: by})
					if err != nil {
						t.Error(err)
					}
					if round%2 == 1 {
						err := b.Unblock(t.Context(), GrainBucket, id, "h", by, "done")
						if err != nil && !errors.Is(err, ErrNotBlocked) {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	wg.Wait()
	rows := f.audit(instances[0], AuditLimitMax, 0)
	replayed := map[string]string{}
	for i, row := range slices.Backward(rows) {
		if row.Number != int64(len(rows)-i) {
			t.Fatalf("row %d stands at place %d", row.Number, len(rows)-i)
		}
		if _, is := replayed[row.ID]; row.Action == ActionUnblock && !is {
			t.Fatalf("row %d unblocks what is not blocked", row.Number)
		}
		replayed[row.ID] = row.Reason
		if row.Action == ActionUnblock {
			delete(replayed, row.ID)
		}
	}
	for _, b := range instances {
		f.renew(b)
		listed := map[string]string{}
		for _, block := range b.List(Filter{}) {
			listed[block.ID] = block.Reason
		}
		if diff := cmp.Diff(replayed, listed); diff != "" {
			t.Error(diff)
		}
	}
}

func TestLocal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.open(), f.open()
	first := a.BlockLocal("dim", HolderUndecided, "no answer")
	second := a.BlockLocal("dim", HolderUndecided, "no answer")
	if !f.blocked(a, Target{Owner: "dim"}) || f.blocked(b, Target{Owner: "dim"}) {
		t.Fatal("local means here, and at once")
	}
	first()
	first()
	if !f.blocked(a, Target{Owner: "dim"}) {
		t.Fatal("free before the second is released")
	}
	second()
	if f.blocked(a, Target{Owner: "dim"}) {
		t.Fatal("blocked after both are released")
	}
}

// TestUndecidedLife goes the way of a lost COMMIT: local block, record, release, decision on another instance.
func TestUndecidedLife(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.open(), f.open()
	ctx, dim := t.Context(), Target{Owner: "dim"}
	records := []Undecided{
		{Shard: 2, Owner: "dim", Bucket: 1, Key: "k1", Fingerprint: []byte{0, 255}, Epoch: 4, Instance: "i1", At: f.clock.now()},
		{Shard: 2, Owner: "dim", Bucket: 1, Key: "k2", Fingerprint: []byte{1}, Epoch: 4, Instance: "i1", At: f.clock.now().Add(1)},
		{Shard: 20, Owner: "sun", Bucket: 3, Key: "k1", Fingerprint: []byte{2}, Epoch: 9, Instance: "i1", At: f.clock.now()},
	}
	release := a.BlockLocal("dim", HolderUndecided, "no answer")
	for range 2 { // idempotent
		if err := a.PutUndecided(ctx, records); err != nil {
			t.Fatal(err)
		}
	}
	release()
	if !f.blocked(a, dim) || !f.blocked(a, Target{Owner: "sun"}) {
		t.Fatal("free between the local block and the record")
	}
	f.eventually("the other instance hears of it", func() bool { return f.blocked(b, dim) })

	listed, err := b.ListUndecided(ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(records[:2], listed, cmpopts.IgnoreFields(Undecided{}, "Rev")); diff != "" {
		t.Fatal(diff)
	}
	if all, err := b.ListUndecided(ctx, AllShards); err != nil || len(all) != 3 {
		t.Fatalf("%d records: %v", len(all), err)
	}
	for i, u := range listed {
		if !f.blocked(b, dim) {
			t.Fatalf("free with %d records left", len(listed)-i)
		}
		if err := b.DeleteUndecided(ctx, []Undecided{u}); err != nil {
			t.Fatal(err)
		}
	}
	if f.blocked(b, dim) {
		t.Fatal("blocked after the last record")
	}
	f.eventually("the first instance hears of it", func() bool { return !f.blocked(a, dim) })
	if err := b.DeleteUndecided(ctx, listed); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
	if !f.blocked(a, Target{Owner: "sun"}) {
		t.Error("another owner went free")
	}
	if rows := f.audit(a, 10, 0); len(rows) != 0 {
		t.Errorf("undecided records are audited: %+v", rows)
	}
}

// TestUndecidedAgain meets the record of an earlier attempt of the same operation. Whoever decided the earlier one must
// not be able to delete the record of the later one.
func TestUndecidedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.open(), f.open()
	record := Undecided{Shard: 1, Owner: "dim", Bucket: 1, Key: "k", Epoch: 5, Instance: "i1", At: f.clock.now()}
	if err := a.PutUndecided(t.Context(), []Undecided{record}); err != nil {
		t.Fatal(err)
	}
	decided, err := b.ListUndecided(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	record.Instance, record.Epoch = "i2", 4
	if err := b.PutUndecided(t.Context(), []Undecided{record}); err != nil {
		t.Fatal(err)
	}
	if err := a.DeleteUndecided(t.Context(), decided); err != nil {
		t.Fatal(err)
	}
	left, err := a.ListUndecided(t.Context(), 1)
	if err != nil || len(left) != 1 || left[0].Instance != "i2" || left[0].Epoch != 5 {
		t.Fatalf("%+v, %v", left, err)
	}
	if !f.blocked(b, Target{Owner: "dim"}) {
		t.Fatal("the later attempt lost its block")
	}
}

func TestManyUndecided(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.open(), f.open()
	var records []Undecided
	for i := range 2*undecidedChunk + 50 {
		records = append(records, Undecided{Shard: 1, Owner: "o" + strconv.Itoa(i%170), Bucket: uint16(i), Key: strconv.Itoa(i)})
	}
	// The other instance has written some of them already, and both write all of them at once.
	if err := b.PutUndecided(t.Context(), records[30:140]); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, instance := range []*Blacklist{a, b} {
		wg.Go(func() {
			if err := instance.PutUndecided(t.Context(), slices.Concat(records, records[:1])); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	listed, err := a.ListUndecided(t.Context(), 1)
	if err != nil || len(listed) != len(records) {
		t.Fatalf("%d records of %d: %v", len(listed), len(records), err)
	}
	for _, instance := range []*Blacklist{a, b} {
		wg.Go(func() {
			if err := instance.DeleteUndecided(t.Context(), listed); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 170 {
		for _, instance := range []*Blacklist{a, b} {
			if f.blocked(instance, Target{Owner: "o" + strconv.Itoa(i)}) {
				t.Fatalf("owner %d is blocked by nothing", i)
			}
		}
	}
}

func TestInvalidUndecided(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	for _, u := range []Undecided{{}, {Shard: 1, Owner: "a"}, {Owner: "a", Key: "k"}, {Shard: 1, Owner: "a", Key: "k", Bucket: 16384}} {
		if err := b.PutUndecided(t.Context(), []Undecided{u}); !errors.Is(err, ErrInvalid) {
			t.Errorf("put %+v: %v", u, err)
		}
		u.Rev = 1
		if err := b.DeleteUndecided(t.Context(), []Undecided{u}); !errors.Is(err, ErrInvalid) {
			t.Errorf("delete %+v: %v", u, err)
		}
	}
	if err := b.DeleteUndecided(t.Context(), []Undecided{{Shard: 1, Owner: "a", Key: "k"}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("blind delete: %v", err)
	}
}

// TestConcurrentChecks reads while everything changes. An owner who is blocked all the time must never look free, and one
// who never is must never look blocked.
func TestConcurrentChecks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.open()
	f.block(b, Block{Grain: GrainOwner, ID: "always", Holder: HolderAdmin})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if !f.blocked(b, Target{Owner: "always"}) {
					t.Error("free for a moment")
					return
				}
				if f.blocked(b, Target{Owner: "never", Bucket: 1, Shard: 1, Node: "n"}) {
					t.Error("blocked for a moment")
					return
				}
			}
		})
	}
	for i := range 25 {
		owner := "o" + strconv.Itoa(i)
		release := b.BlockLocal(owner, HolderUndecided, "no answer")
		if err := b.PutUndecided(ctx, []Undecided{{Shard: 1, Owner: owner, Key: "k"}}); err != nil {
			t.Error(err)
		}
		release()
		f.block(b, Block{Grain: GrainBucket, ID: strconv.Itoa(i + 2), Holder: HolderAdmin})
	}
	stop()
	wg.Wait()
}

func TestCheckAllocatesNothing(t *testing.T) {
	f := newFixture(t)
	b := f.open()
	f.block(b, Block{Grain: GrainOwner, ID: "dim", Holder: HolderAdmin})
	for _, target := range []Target{{Owner: "user-1", Bucket: 1, Shard: 1, Node: "n"}, {Owner: "dim", Bucket: 1}} {
		now := f.clock.now()
		if n := testing.AllocsPerRun(1000, func() { _ = b.Check(target, now) }); n != 0 {
			t.Errorf("%+v: %v allocations", target, n)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, owners := range []int{0, 10_000} {
		b.Run(strconv.Itoa(owners)+" blocked", func(b *testing.B) {
			list := &Blacklist{causes: map[place]map[string]Block{}, ends: map[string]time.Time{}, now: time.Now}
			list.seed = maphash.MakeSeed()
			list.view.Store(&view{})
			for i := range owners {
				list.BlockLocal("owner-"+strconv.Itoa(i), HolderUndecided, "no answer")
			}
			target, now := Target{Owner: "user-1", Bucket: 12720, Shard: 1, Node: "n1"}, time.Now()
			b.ReportAllocs()
			for b.Loop() {
				if err := list.Check(target, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBlockLocal is the cost of one more undecided owner while many are blocked.
func BenchmarkBlockLocal(b *testing.B) {
	list := &Blacklist{causes: map[place]map[string]Block{}, ends: map[string]time.Time{}, now: time.Now, seed: maphash.MakeSeed()}
	list.view.Store(&view{})
	for i := range 5000 {
		list.BlockLocal("owner-"+strconv.Itoa(i), HolderUndecided, "no answer")
	}
	for b.Loop() {
		list.BlockLocal("one-more", HolderUndecided, "no answer")()
	}
}

func (f *fixture) audit(b *Blacklist, limit int, before int64) []AuditRow {
	f.t.Helper()
	rows, err := b.Audit(f.t.Context(), limit, before)
	if err != nil {
		f.t.Fatal(err)
	}
	return rows
}

// renew does what the loop does, so that a test that has moved the clock need not wait for it.
func (f *fixture) renew(b *Blacklist) {
	f.t.Helper()
	if err := errors.Join(b.blocks.Renew(f.t.Context()), b.undecided.Renew(f.t.Context())); err != nil {
		f.t.Fatal(err)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
