package id

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/statesvc/statesvc/register"
)

var quiet = slog.New(slog.DiscardHandler)

// memory is a register without a disk, for tests that need thousands of them or a standing clock.
type memory struct {
	mu      sync.Mutex
	entries map[string]register.Entry
	rev     int64
}

func newMemory() *memory { return &memory{entries: map[string]register.Entry{}} }

func (m *memory) Get(_ context.Context, key string) (register.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries[key]; ok {
		return e, nil
	}
	return register.Entry{}, register.ErrNotFound
}

func (m *memory) List(_ context.Context, prefix string) ([]register.Entry, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var entries []register.Entry
	for _, key := range slices.Sorted(maps.Keys(m.entries)) {
		if strings.HasPrefix(key, prefix) {
			entries = append(entries, m.entries[key])
		}
	}
	return entries, m.rev, nil
}

func (m *memory) Txn(_ context.Context, txn register.Txn) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range txn.If {
		if m.entries[c.Key].Rev != c.Rev {
			return 0, register.ErrConflict
		}
	}
	m.rev++
	for _, op := range txn.Then {
		m.entries[op.Key] = register.Entry{Key: op.Key, Value: op.Value, Rev: m.rev}
	}
	return m.rev, nil
}

func (m *memory) Watch(context.Context, string, int64) <-chan []register.Event {
	panic("leases are not watched")
}

// only leaves the first n nodes to be taken, so that holders meet.
func (m *memory) only(n int) *memory {
	m.rev++
	for i := n; i <= MaxNode; i++ {
		key := fmt.Sprintf("%s%d", leasePrefix, i)
		m.entries[key] = register.Entry{Key: key, Value: []byte("not for this test"), Rev: m.rev}
	}
	return m
}

// faulty is a store whose calls fail while broken is set: before they reach the store, or after.
type faulty struct {
	LeaseStore
	calls  atomic.Int64
	mu     sync.Mutex
	broken string
}

var errBroken = errors.New("the register does not answer")

func (f *faulty) set(broken string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = broken
}

func (f *faulty) try(call func() error) error {
	f.calls.Add(1)
	f.mu.Lock()
	broken := f.broken
	f.mu.Unlock()
	if broken == "before" {
		return errBroken
	}
	if err := call(); err != nil || broken != "after" {
		return err
	}
	return errBroken
}

func (f *faulty) Acquire(ctx context.Context, holder string, now, mark time.Time) (grant Grant, err error) {
	err = f.try(func() error {
		grant, err = f.LeaseStore.Acquire(ctx, holder, now, mark)
		return err
	})
	return grant, err
}

func (f *faulty) Extend(ctx context.Context, grant Grant, mark time.Time) error {
	return f.try(func() error { return f.LeaseStore.Extend(ctx, grant, mark) })
}

func (f *faulty) Release(ctx context.Context, grant Grant, unused time.Time) error {
	return f.try(func() error { return f.LeaseStore.Release(ctx, grant, unused) })
}

// The store's contract, on a real register.
func TestRegisterStore(t *testing.T) {
	reg, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	store, ctx := NewRegisterStore(reg), t.Context()

	first, err := store.Acquire(ctx, "one", start, start.Add(leaseAhead))
	if err != nil || !first.Floor.Before(start) || !first.Mark.Equal(start.Add(leaseAhead)) || first.Term != 1 {
		t.Fatalf("first: %+v, %v", first, err)
	}
	second, err := store.Acquire(ctx, "one", start, start.Add(leaseAhead)) // even the same name gets another node
	if err != nil || second.Node == first.Node {
		t.Fatalf("second: %+v, %v", second, err)
	}

	if err := store.Extend(ctx, first, start.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := store.Extend(ctx, first, start); err != nil { // never backwards
		t.Fatal(err)
	}
	if err := store.Release(ctx, first, start.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := store.Release(ctx, second, start.Add(time.Hour)); err != nil { // never forwards
		t.Fatal(err)
	}
	record, err := reg.Get(ctx, fmt.Sprintf("%s%d", leasePrefix, second.Node))
	want := fmt.Sprintf(`{"holder":"","term":2,"mark_ms":%d}`, second.Mark.UnixMilli())
	if err != nil || string(record.Value) != want {
		t.Errorf("the register has %s, %v, want %s", record.Value, err, want)
	}
	for name, err := range map[string]error{
		"extend after release":  store.Extend(ctx, first, start.Add(time.Hour)),
		"release after release": store.Release(ctx, first, start),
		"extend of no record":   store.Extend(ctx, Grant{Node: second.Node ^ 512, Term: 1}, start),
	} {
		if !errors.Is(err, ErrLeaseLost) {
			t.Errorf("%s: %v, want ErrLeaseLost", name, err)
		}
	}

	// The node that was given back is the first choice again, from where it was left; before that instant it is not.
	if grant, err := store.Acquire(ctx, "one", start.Add(time.Second-1), start); err != nil || grant.Node == first.Node {
		t.Errorf("before the mark: %+v, %v", grant, err)
	}
	again, err := store.Acquire(ctx, "one", start.Add(time.Second), start.Add(leaseAhead))
	if err != nil || again != (Grant{Node: first.Node, Term: 3, Floor: start.Add(time.Second), Mark: start.Add(leaseAhead)}) {
		t.Errorf("again: %+v, %v", again, err)
	}
}

func TestAcquirePrefersTheLongestDead(t *testing.T) {
	store, ctx := NewRegisterStore(newMemory().only(2)), t.Context()
	var grants [2]Grant
	for i := range grants {
		grant, err := store.Acquire(ctx, "x", start, start.Add(time.Duration(i+1)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		grants[i] = grant
	}
	if grant, err := store.Acquire(ctx, "x", start, start.Add(time.Hour)); err == nil {
		t.Errorf("took %+v, whose mark lies ahead", grant)
	}
	later := start.Add(10 * time.Second)
	grant, err := store.Acquire(ctx, "y", later, later.Add(leaseAhead))
	if err != nil || grant.Node != grants[0].Node || !grant.Floor.Equal(grants[0].Mark) {
		t.Errorf("took %+v, %v, want node %d from its mark", grant, err, grants[0].Node)
	}
	if err := store.Extend(ctx, grants[0], later); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("the former holder extends: %v", err)
	}
}

func TestManyAcquireAtOnce(t *testing.T) {
	store := NewRegisterStore(newMemory())
	grants := make([]Grant, 50)
	var group sync.WaitGroup
	for i := range grants {
		group.Go(func() {
			grant, err := store.Acquire(t.Context(), fmt.Sprint("instance-", i), start, start.Add(leaseAhead))
			if err != nil {
				t.Error(err)
			}
			grants[i] = grant
		})
	}
	group.Wait()
	seen := map[uint16]bool{}
	for _, g := range grants {
		if seen[g.Node] {
			t.Errorf("node %d was taken twice", g.Node)
		}
		seen[g.Node] = true
	}
}

// leased is a minter with a running lease inside a synctest bubble, where time passes only when everybody waits.
type leased struct {
	*Minter
	store *faulty
	reg   *memory
	jump  atomic.Int64 // how wrong the clock is, in nanoseconds
	stop  func()
}

func runLease(t *testing.T, reg *memory) *leased {
	t.Helper()
	l := &leased{reg: reg, store: &faulty{LeaseStore: NewRegisterStore(reg)}}
	l.Minter = NewMinter(testCodec(t), func() time.Time { return time.Now().Add(time.Duration(l.jump.Load())) })
	ctx, cancel := context.WithCancel(t.Context())
	lease := NewLease(l.store, l.Minter, "test", quiet)
	if err := lease.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		if err := lease.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	l.stop = func() {
		cancel()
		group.Wait()
	}
	return l
}

// works reports whether ids can be minted, and stops the test if they are refused for another reason than the lease.
func (l *leased) works(t *testing.T) bool {
	t.Helper()
	_, err := l.Mint(Hold, 1, 1)
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		t.Fatal(err)
	}
	return err == nil
}

func TestLeaseIsExtendedAndGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := runLease(t, newMemory().only(1))
		for range 120 {
			if !l.works(t) {
				t.Fatal("minting stopped under a healthy register")
			}
			time.Sleep(time.Second)
		}
		id := mustMint(t, l.Minter)
		l.stop()
		if l.works(t) {
			t.Error("minting goes on after the lease was given back")
		}
		time.Sleep(time.Millisecond) // the one in which the last id was made
		next := runLease(t, l.reg)   // the only node
		defer next.stop()
		if again := mustMint(t, next.Minter); again.Node() != id.Node() || tickOf(again) <= tickOf(id) {
			t.Errorf("%s follows %s", again, id)
		}
	})
}

func TestLeaseOutlivesAShortOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := runLease(t, newMemory())
		defer l.stop()
		time.Sleep(time.Minute + extendEvery - time.Millisecond) // just before an extension
		l.store.set("before")
		outage := time.Now()
		for l.works(t) {
			time.Sleep(100 * time.Millisecond)
		}
		if lasted := time.Since(outage); lasted < 7*time.Second || lasted > leaseAhead {
			t.Errorf("minting lasted %s without the register", lasted)
		}
		calls := l.store.calls.Load()
		for range 1000 { // a busy service with nothing to mint from must not hammer the register
			l.works(t)
			time.Sleep(time.Millisecond)
		}
		if calls = l.store.calls.Load() - calls; calls > 3 {
			t.Errorf("%d calls in a second of outage", calls)
		}
		l.store.set("")
		time.Sleep(retryEvery + time.Millisecond)
		if !l.works(t) {
			t.Error("minting has not resumed")
		}
	})
}

func TestLostLeaseTakesAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := runLease(t, newMemory())
		defer l.stop()
		before := mustMint(t, l.Minter)
		rude := time.Now().Add(time.Hour) // somebody whose clock is wrong takes the node, by hand to be sure of which
		old, _ := l.reg.Get(t.Context(), fmt.Sprintf("%s%d", leasePrefix, before.Node()))
		_, err := l.reg.Txn(t.Context(), register.Txn{Then: []register.Op{{
			Key:   old.Key,
			Value: fmt.Appendf(nil, `{"holder":"rude","term":2,"mark_ms":%d}`, rude.UnixMilli()),
		}}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(extendEvery + time.Millisecond)
		if after := mustMint(t, l.Minter); after.Node() == before.Node() || tickOf(after) <= tickOf(before) {
			t.Errorf("%s follows %s", after, before)
		}
	})
}

func TestLostLeaseStopsMinting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := runLease(t, newMemory().only(1))
		defer l.stop()
		node := mustMint(t, l.Minter).Node()
		if err := l.store.Release(t.Context(), Grant{Node: node, Term: 1}, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(extendEvery + time.Millisecond) // there is no other node to go to
		if l.works(t) {
			t.Error("minting goes on without a lease")
		}
		time.Sleep(leaseAhead) // now the mark of the lost term has passed, and the node can be taken again
		if !l.works(t) {
			t.Error("minting has not resumed")
		}
	})
}

// A machine that slept, or a clock that was set, passes the mark at once. The first refusal must bring the next mark.
func TestClockForwardsCostsOneRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := runLease(t, newMemory())
		defer l.stop()
		time.Sleep(2 * extendEvery)
		l.jump.Store(int64(time.Hour))
		if l.works(t) {
			t.Fatal("minted beyond the mark")
		}
		synctest.Wait()
		if !l.works(t) {
			t.Error("the mark has not moved")
		}
	})
}

// Several processes share two nodes; each has its own wrong clock; calls fail before or after their effect; processes die
// and come back. No id is ever made twice, and each process's ids grow.
func TestIdsAreUniqueAcrossHolders(t *testing.T) {
	codec := testCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		store := &faulty{LeaseStore: NewRegisterStore(newMemory().only(2))}
		type process struct {
			*Lease
			clock *clock
			last  uint64
		}
		begin := func(now time.Time) *process {
			c := &clock{now: now}
			return &process{Lease: NewLease(store, NewMinter(codec, c.Now), "p", quiet), clock: c}
		}
		processes := []*process{begin(start), begin(start), begin(start)}
		pick := func(t *rapid.T) (*process, int) {
			i := rapid.IntRange(0, len(processes)-1).Draw(t, "process")
			return processes[i], i
		}
		seen := map[ID]bool{}
		ctx := context.Background()
		t.Repeat(map[string]func(*rapid.T){
			"clock": func(t *rapid.T) {
				p, _ := pick(t)
				p.clock.move(time.Duration(rapid.Int64Range(-8_000, 15_000).Draw(t, "ms")) * time.Millisecond)
			},
			"renew": func(t *rapid.T) {
				p, _ := pick(t)
				store.set(rapid.SampledFrom([]string{"", "", "before", "after"}).Draw(t, "broken"))
				_ = p.renew(ctx)
			},
			"mint": func(t *rapid.T) {
				p, _ := pick(t)
				for range rapid.IntRange(1, 20).Draw(t, "ids") {
					id, err := p.minter.Mint(Hold, 1, 1)
					if err != nil {
						return
					}
					if seen[id] {
						t.Fatalf("%s was minted twice: node %d, %s, seq %d", id, id.Node(), id.Time(), id.Seq())
					}
					if seen[id] = true; tickOf(id) <= p.last {
						t.Fatalf("%s does not grow", id)
					}
					p.last = tickOf(id)
				}
			},
			"give back": func(t *rapid.T) {
				p, _ := pick(t)
				store.set(rapid.SampledFrom([]string{"", "before", "after"}).Draw(t, "broken"))
				p.release(ctx)
			},
			"crash": func(t *rapid.T) {
				p, i := pick(t)
				processes[i] = begin(p.clock.now)
			},
		})
	})
}
