package id

import (
	"errors"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.UnixMilli(1_700_000_000_000)

// clock is a clock that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newTestMinter(t *testing.T) (*Minter, *clock) {
	t.Helper()
	c := &clock{now: start}
	m := NewMinter(testCodec(t), c.Now)
	m.Use(Grant{Node: 5, Floor: start, Mark: start.Add(time.Hour)})
	return m, c
}

// tickOf is what must never repeat and always grow.
func tickOf(id ID) uint64 { return uint64(id.Time().UnixMilli())<<seqBits | uint64(id.Seq()) }

func mustMint(t *testing.T, m *Minter) ID {
	t.Helper()
	id, err := m.Mint(Hold, 12720, 1)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestMintFillsEveryField(t *testing.T) {
	m, _ := newTestMinter(t)
	mustMint(t, m)
	id, err := m.Mint(Hold, 12720, 1)
	if err != nil {
		t.Fatal(err)
	}
	if text := m.codec.Text(Hold, id); text != holdText { // the design's vector: node 5, seq 1
		t.Errorf("minted %s, want %s", text, holdText)
	}
}

func TestMintRefusesWhatDoesNotFit(t *testing.T) {
	m, _ := newTestMinter(t)
	for _, c := range []struct {
		kind              Kind
		bucket, placement uint16
	}{{0, 1, 1}, {Webhook + 1, 1, 1}, {Hold, MaxBucket + 1, 1}, {Hold, 1, MaxPlacement + 1}} {
		if id, err := m.Mint(c.kind, c.bucket, c.placement); err == nil {
			t.Errorf("%v: minted %v", c, id)
		}
	}
}

func TestFullMillisecondBorrowsTheNext(t *testing.T) {
	m, c := newTestMinter(t)
	for range 1 << seqBits {
		mustMint(t, m)
	}
	if id := mustMint(t, m); !id.Time().Equal(start.Add(time.Millisecond)) || id.Seq() != 0 {
		t.Errorf("after a full millisecond: %s, seq %d", id.Time(), id.Seq())
	}
	c.move(time.Millisecond) // the borrowed one is not started again
	if id := mustMint(t, m); !id.Time().Equal(start.Add(time.Millisecond)) || id.Seq() != 1 {
		t.Errorf("in the borrowed millisecond: %s, seq %d", id.Time(), id.Seq())
	}
}

func TestClockBackwards(t *testing.T) {
	m, c := newTestMinter(t)
	first := mustMint(t, m)
	c.move(-backwardsMax)
	if id := mustMint(t, m); tickOf(id) != tickOf(first)+1 {
		t.Errorf("five seconds back: %d after %d", tickOf(id), tickOf(first))
	}
	c.move(-time.Millisecond)
	if _, err := m.Mint(Hold, 1, 1); !errors.Is(err, ErrClockBackwards) {
		t.Errorf("a millisecond more: %v, want ErrClockBackwards", err)
	}
	c.move(backwardsMax)
	mustMint(t, m)
	c.now = time.Time{} // before 1970 too
	if _, err := m.Mint(Hold, 1, 1); !errors.Is(err, ErrClockBackwards) {
		t.Errorf("in the year 1: %v, want ErrClockBackwards", err)
	}
}

func TestMintNeedsAGrant(t *testing.T) {
	m, c := newTestMinter(t)
	m.Use(Grant{})
	if _, err := m.Mint(Hold, 1, 1); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("without a grant: %v, want ErrLeaseLost", err)
	}
	m.Use(Grant{Floor: start.Add(time.Second), Mark: start.Add(2 * time.Second)})
	if id := mustMint(t, m); !id.Time().Equal(start.Add(time.Second)) {
		t.Errorf("the first id is of %s, want the floor", id.Time())
	}
	c.move(2*time.Second - time.Millisecond)
	mustMint(t, m)
	c.move(time.Millisecond)
	if _, err := m.Mint(Hold, 1, 1); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("at the mark: %v, want ErrLeaseLost", err)
	}
	if len(m.short) != 1 {
		t.Error("the lease was not asked to move the mark")
	}
}

func TestBurstStopsAtTheMark(t *testing.T) {
	m, _ := newTestMinter(t)
	m.Use(Grant{Floor: start, Mark: start.Add(2 * time.Millisecond)})
	for range 2 << seqBits {
		mustMint(t, m)
	}
	if _, err := m.Mint(Hold, 1, 1); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("borrowed beyond the mark: %v, want ErrLeaseLost", err)
	}
}

// What a minter gives back must be free of its own ids and must not reach into the time of the node's former holders.
func TestUseSaysWhatIsUnused(t *testing.T) {
	m, _ := newTestMinter(t)
	mustMint(t, m)
	next := Grant{Node: 6, Floor: start.Add(time.Minute), Mark: start.Add(time.Hour)}
	if got := m.Use(next); !got.Equal(start.Add(time.Millisecond)) {
		t.Errorf("after one id: unused from %s", got)
	}
	if got := m.Use(Grant{}); !got.Equal(start.Add(time.Minute)) {
		t.Errorf("after none: unused from %s, want the floor", got)
	}
}

func TestMintConcurrently(t *testing.T) {
	m, _ := newTestMinter(t)
	const routines, each = 8, 4000 // together more than one millisecond holds
	minted := make([][]ID, routines)
	var group sync.WaitGroup
	for r := range routines {
		group.Go(func() {
			for range each {
				id, err := m.Mint(Hold, 1, 1)
				if err != nil {
					t.Error(err)
					return
				}
				minted[r] = append(minted[r], id)
			}
		})
	}
	group.Wait()
	seen := map[ID]bool{}
	for _, ids := range minted {
		for i, id := range ids {
			if seen[id] {
				t.Fatalf("%s was minted twice", id)
			}
			seen[id] = true
			if i > 0 && tickOf(id) <= tickOf(ids[i-1]) {
				t.Fatalf("%s is not after %s", id, ids[i-1])
			}
		}
	}
}

// Whatever the clock does and however grants change, the ids of a minter grow, stay inside their grant and are never more
// than five seconds ahead of the clock.
func TestMinterProperties(t *testing.T) {
	codec := testCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		c := &clock{now: start}
		m := NewMinter(codec, c.Now)
		var grant Grant
		last := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"clock": func(t *rapid.T) {
				c.move(time.Duration(rapid.Int64Range(-8_000, 12_000).Draw(t, "ms")) * time.Millisecond)
			},
			"grant": func(t *rapid.T) {
				floor := c.now.Add(time.Duration(rapid.Int64Range(-10_000, 1_000).Draw(t, "floor")) * time.Millisecond)
				grant = Grant{Node: rapid.Uint16Range(0, MaxNode).Draw(t, "node"), Floor: floor, Mark: floor.Add(20 * time.Second)}
				m.Use(grant)
			},
			"mint": func(t *rapid.T) {
				for range rapid.IntRange(1, 50).Draw(t, "ids") {
					id, err := m.Mint(Hold, 1, 1)
					if err != nil {
						return
					}
					if tickOf(id) <= last {
						t.Fatalf("%d after %d", tickOf(id), last)
					}
					last = tickOf(id)
					if at := id.Time(); id.Node() != grant.Node || at.Before(grant.Floor) || !at.Before(grant.Mark) {
						t.Fatalf("node %d at %s lies outside the grant %+v", id.Node(), at, grant)
					}
					if id.Time().Sub(c.now) > backwardsMax {
						t.Fatalf("%s is too far ahead of %s", id.Time(), c.now)
					}
				}
			},
		})
	})
}
