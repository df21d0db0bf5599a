package feed

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func gtid(seq int) GTID { return GTID{Domain: 7, Server: 101, Seq: uint64(seq)} }

// TestWindow plays logs against windows: whatever the order of reading and proving, what comes out is a prefix of the log, it is not
// longer than what was proved, and not shorter either but for a transaction whose end was not read.
func TestWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]int{300, 1 << 20}).Draw(t, "limit")
		sizes := rapid.SliceOfN(rapid.IntRange(0, 6), 1, 30).Draw(t, "changes of each transaction")
		parts := logOf(sizes)
		w, err := newWindow(limit, "")
		if err != nil {
			t.Fatal(err)
		}
		var got []int // changes of each transaction, as they come out
		read, safe, isPart := 0, 0, false
		for read < len(parts) || safe < len(sizes) {
			if read < len(parts) && !w.full() && rapid.Bool().Draw(t, "read") {
				w.add(&parts[read])
				read++
			} else if read < len(parts) {
				// A marker is behind everything that is in the log by then, which is more than was read.
				safe = max(safe, rapid.IntRange(int(parts[max(read-1, 0)].gtid.Seq), len(sizes)).Draw(t, "proved"))
				w.prove(proof{gtid: gtid(safe), begunAt: time.Unix(int64(safe), 0)})
			} else {
				safe = len(sizes)
				w.prove(proof{gtid: gtid(safe), begunAt: time.Unix(int64(safe), 0)})
			}
			list, _ := w.release()
			for _, one := range list {
				seq := int(one.GTID.Seq)
				if seq > safe {
					t.Fatalf("transaction %d was released, and %d is proved", seq, safe)
				}
				got = append(got, make([]int, max(seq-len(got), 0))...) // those without changes do not come out
				if one.First != got[seq-1] || isPart && one.First == 0 {
					t.Fatalf("transaction %d goes on at %d after %d", seq, one.First, got[seq-1])
				}
				got[seq-1] += len(one.Changes)
				isPart = !one.Complete
			}
			checkWindow(t, w, parts[:read], safe, limit)
		}
		got = append(got, make([]int, len(sizes)-len(got))...)
		if !slices.Equal(got, sizes) || w.bytes != 0 || w.position() != Position(gtid(len(sizes)).String()) {
			t.Fatalf("transactions of %v changes came out as %v; %d bytes are left at %s", sizes, got, w.bytes, w.position())
		}
		if w.completeAt.Unix() != int64(len(sizes)) && w.unread != (proof{}) {
			t.Fatalf("all was read, and it is complete up to %v", w.completeAt)
		}
	})
}

// logOf is the log of transactions with so many changes each: their beginnings, their changes one by one, their ends.
func logOf(sizes []int) (parts []part) {
	for i, n := range sizes {
		parts = append(parts, part{gtid: gtid(i + 1)})
		for range n {
			parts = append(parts, part{gtid: gtid(i + 1), changes: make([]Change, 1), bytes: 100})
		}
		parts = append(parts, part{gtid: gtid(i + 1), ends: true})
	}
	return parts
}

// checkWindow compares a window with what was read and proved.
func checkWindow(t *rapid.T, w *window, read []part, safe, limit int) {
	ended := 0
	for _, p := range read {
		if p.ends {
			ended = int(p.gtid.Seq)
		}
	}
	if want := min(ended, safe); int(w.read[7].Seq) != want {
		t.Fatalf("%d transactions were read and %d proved; the position is %s", ended, safe, w.position())
	}
	if !w.completeAt.IsZero() && w.completeAt.Unix() > int64(w.read[7].Seq) {
		t.Fatalf("it is said to be complete up to marker %d at %s", w.completeAt.Unix(), w.position())
	}
	if w.bytes >= limit+200 {
		t.Fatalf("the window has %d bytes", w.bytes)
	}
	for _, g := range w.groups {
		if len(g.Changes) > 0 && int(g.GTID.Seq) > safe != w.waits() && w.groups[len(w.groups)-1].GTID == g.GTID {
			t.Fatalf("transaction %d of %d proved: waits is %v", g.GTID.Seq, safe, w.waits())
		}
	}
}

// A transaction of another domain is proved by the marker behind it.
func TestWindowOfDomains(t *testing.T) {
	t.Parallel()
	w, err := newWindow(1<<20, "7-101-1,9-9-9")
	if err != nil {
		t.Fatal(err)
	}
	other := GTID{Domain: 3, Server: 5, Seq: 1000}
	for _, g := range []GTID{other, gtid(2), {Domain: 3, Server: 5, Seq: 1001}} {
		w.add(&part{gtid: g})
		w.add(&part{gtid: g, changes: make([]Change, 1), bytes: 1})
		w.add(&part{gtid: g, ends: true})
	}
	w.prove(proof{gtid: gtid(2)})
	list, _ := w.release()
	if len(list) != 2 || list[0].GTID != other || list[1].GTID != gtid(2) || w.position() != "3-5-1000,7-101-2,9-9-9" {
		t.Errorf("released %v, and stands at %s", list, w.position())
	}
}

func TestPositions(t *testing.T) {
	t.Parallel()
	for text, want := range map[Position]Position{
		"": "", "1-2-3": "1-2-3", "7-1-9, 1-2-3": "1-2-3,7-1-9", "1-2-18446744073709551615": "1-2-18446744073709551615",
	} {
		all, err := text.gtids()
		if got := positionOf(all); err != nil || got != want {
			t.Errorf("%q is read as %q, %v", text, got, err)
		}
	}
	for _, text := range []Position{"1-2", "1-2-x", "1-2-3-4", "4294967296-1-1", "a"} {
		if _, err := text.gtids(); err == nil {
			t.Errorf("%q is a position", text)
		}
	}
}
