package blacklist

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/statesvc/statesvc/register"
)

// childEnv makes the test binary a second instance on the register named in it.
const childEnv = "BLACKLIST_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		followForEver(path)
	}
	os.Exit(m.Run())
}

// followForEver prints when the owner "dim" is blocked and when he is free, as this process sees it.
func followForEver(path string) {
	reg := must(register.OpenFile(path))
	list, err := Open(context.Background(), reg, time.Now)
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	fmt.Println("ready", 0)
	for blocked := false; ; time.Sleep(100 * time.Microsecond) {
		if now := time.Now(); (list.Check(Target{Owner: "dim"}, now) != nil) != blocked {
			blocked = !blocked
			fmt.Println(blocked, now.UnixNano())
		}
	}
}

// TestOtherProcess blocks and frees an owner for another process and kills that at the end. How long it takes is in the
// log; asserted is only that it happens.
func TestOtherProcess(t *testing.T) {
	f := newFixture(t)
	b := f.open()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+f.path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	lines := bufio.NewScanner(out)
	hear := func(want string) int64 {
		var what string
		var at int64
		if !lines.Scan() {
			t.Fatal("the other process ended")
		}
		if _, err := fmt.Sscan(lines.Text(), &what, &at); err != nil || what != want {
			t.Fatalf("heard %q, want %q", lines.Text(), want)
		}
		return at
	}
	hear("ready")
	var delays []time.Duration
	for range 20 {
		f.block(b, Block{Grain: GrainOwner, ID: "dim", Holder: "test"})
		done := time.Now()
		delays = append(delays, time.Duration(hear("true")-done.UnixNano()))
		if err := b.Unblock(t.Context(), GrainOwner, "dim", "test", "tester", "done"); err != nil {
			t.Fatal(err)
		}
		hear("false")
	}
	slices.Sort(delays)
	t.Logf("from the return of Block to the other process's Check: p50 %v, max %v", delays[10], delays[19])
}

// TestInstanceGone ends an instance that has blocked: its entries stay, and another one removes them.
func TestInstanceGone(t *testing.T) {
	f := newFixture(t)
	b := f.open()
	release := b.BlockLocal("dim", HolderUndecided, "no answer")
	defer release()
	if err := b.PutUndecided(t.Context(), []Undecided{{Shard: 1, Owner: "dim", Key: "k"}}); err != nil {
		t.Fatal(err)
	}
	b.Close() // without releasing or deleting anything
	other := f.open()
	if !f.blocked(other, Target{Owner: "dim"}) {
		t.Fatal("the record went with its instance")
	}
	listed, err := other.ListUndecided(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.DeleteUndecided(t.Context(), listed); err != nil {
		t.Fatal(err)
	}
	if f.blocked(other, Target{Owner: "dim"}) {
		t.Fatal("still blocked")
	}
}
