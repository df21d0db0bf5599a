package cache

import (
	"fmt"
	"testing"
	"time"

	"github.com/statesvc/statesvc/state"
)

// A scan of names that nobody else asks for does not push out of memory what is read all the time.
func TestScanLeavesHotEntries(t *testing.T) {
	t.Parallel()
	l, err := newL1(256 << 10)
	if err != nil {
		t.Fatal(err)
	}
	const hot, scanned = 100, 50_000
	hits, reads := 0, 0
	read := func(id string) bool {
		k := state.Key{Kind: "product", ID: id}
		found := l.get(k) != nil
		if !found {
			l.put(&entry{document: state.Document{Key: k}, freshAt: time.Now()})
		}
		return found
	}
	for i := range scanned {
		read(fmt.Sprintf("no%d", i))
		if i%hot != 0 {
			continue
		}
		for j := range hot {
			reads++
			if read(fmt.Sprintf("hot%d", j)) {
				hits++
			}
		}
	}
	if hits < reads*9/10 {
		t.Errorf("%d of %d reads of hot documents were answered", hits, reads)
	}
}

// What is older never takes the place of what is newer, and of two that are as new the later seen one stays.
func TestL1KeepsTheNewest(t *testing.T) {
	t.Parallel()
	l, err := newL1(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	k := state.Key{Kind: "product", ID: "a"}
	at := func(number int64, fresh int) *entry {
		return &entry{
			document: state.Document{Key: k}, seen: state.Version{Era: 1, Number: number}, freshAt: time.Unix(int64(fresh), 0),
		}
	}
	for _, step := range []struct {
		put    *entry
		number int64
		fresh  int64
	}{{at(2, 10), 2, 10}, {at(1, 20), 2, 10}, {at(2, 5), 2, 10}, {at(2, 30), 2, 30}, {at(3, 1), 3, 1}} {
		l.put(step.put)
		if e := l.get(k); e.seen.Number != step.number || e.freshAt.Unix() != step.fresh {
			t.Errorf("there is number %d of %d", e.seen.Number, e.freshAt.Unix())
		}
	}
	l.outdated(k, state.Version{Era: 1, Number: 3}, nil)
	if l.get(k) == nil {
		t.Error("it was dropped for a version that it has")
	}
	l.outdated(k, state.Version{Era: 2, Number: 1}, nil)
	if l.get(k) != nil {
		t.Error("an entry of an earlier era stays")
	}
	l.outdated(k, state.Version{Era: 2, Number: 1}, at(9, 9))
	if l.get(k) != nil {
		t.Error("what nobody has asked for was pushed in")
	}
}
