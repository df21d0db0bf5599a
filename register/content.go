package register

import (
	"slices"
	"sort"
	"strings"
)

// content is the entries of a register, sorted by key. Inserting moves what lies behind; with the at most maxEntries of a
// file register that is far cheaper than the sync that follows it.
type content struct {
	entries []Entry
	bytes   int // keys and values together
}

func (c *content) find(key string) (int, bool) {
	return slices.BinarySearchFunc(c.entries, key, func(e Entry, key string) int { return strings.Compare(e.Key, key) })
}

// get returns the entry of key; of an absent key the Rev is 0.
func (c *content) get(key string) Entry {
	if i, found := c.find(key); found {
		return c.entries[i]
	}
	return Entry{}
}

// list returns a copy of the entries below prefix; the values are shared.
func (c *content) list(prefix string) []Entry {
	from, _ := c.find(prefix)
	rest := c.entries[from:]
	n := sort.Search(len(rest), func(i int) bool { return !strings.HasPrefix(rest[i].Key, prefix) })
	return slices.Clone(rest[:n])
}

func (c *content) apply(e Event) {
	i, found := c.find(e.Key)
	if found {
		c.bytes -= len(e.Key) + len(c.entries[i].Value)
	}
	switch {
	case found && e.Deleted:
		c.entries = slices.Delete(c.entries, i, i+1)
		return
	case e.Deleted:
		return
	case found:
		c.entries[i] = e.Entry
	default:
		c.entries = slices.Insert(c.entries, i, e.Entry)
	}
	c.bytes += len(e.Key) + len(e.Value)
}

// after returns number and bytes of the entries as they would be after ops.
func (c *content) after(ops []Op) (entries, bytes int) {
	entries, bytes = len(c.entries), c.bytes
	for _, op := range ops {
		if old := c.get(op.Key); old.Rev != 0 {
			entries--
			bytes -= len(old.Key) + len(old.Value)
		}
		if !op.Delete {
			entries++
			bytes += len(op.Key) + len(op.Value)
		}
	}
	return entries, bytes
}

// holds tells whether all conditions hold.
func (c *content) holds(conds []Cond) bool {
	for _, cond := range conds {
		if c.get(cond.Key).Rev != cond.Rev {
			return false
		}
	}
	return true
}

// effective drops deletions of absent keys and copies the values, so that the caller may reuse his buffers.
func (c *content) effective(ops []Op) []Op {
	kept := make([]Op, 0, len(ops))
	for _, op := range ops {
		switch {
		case !op.Delete:
			kept = append(kept, Op{Key: op.Key, Value: slices.Clone(op.Value)})
		case c.get(op.Key).Rev != 0:
			kept = append(kept, Op{Key: op.Key, Delete: true})
		}
	}
	return kept
}
