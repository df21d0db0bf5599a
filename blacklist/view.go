package blacklist

import (
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ownerSegments divides the blocked owners, so that blocking one more while thousands are undecided copies a few, not all.
const ownerSegments = 256

// view is what Check reads: immutable, replaced as a whole.
type view struct {
	nodes   map[string]mark
	shards  map[uint16]mark
	buckets map[uint16]mark
	owners  [ownerSegments]map[string]mark
}

// mark says that something is blocked. Of all causes it has the one that ends last: when that one has ended, all have.
type mark struct {
	blocked *BlockedError
}

func (b *Blacklist) segment(owner string) uint64 {
	return maphash.String(b.seed, owner) % ownerSegments
}

// draft is a view being changed. Maps are copied when they are changed first, because readers still use them.
type draft struct {
	view
	nodesCopied, shardsCopied, bucketsCopied bool
	ownersCopied                             [ownerSegments]bool
}

// publish makes a new view in which the given places are as b.causes has them. The caller holds mu.
func (b *Blacklist) publish(changed map[place]bool) {
	if len(changed) == 0 {
		return
	}
	d := draft{view: *b.view.Load()}
	for p := range changed {
		b.redraw(&d, p)
	}
	b.view.Store(&d.view)
}

func (b *Blacklist) redraw(d *draft, p place) {
	m := newMark(b.causes[p])
	switch p.grain {
	case GrainNode:
		setMark(&d.nodes, &d.nodesCopied, p.id, m)
	case GrainShard:
		setMark(&d.shards, &d.shardsCopied, p.number(), m)
	case GrainBucket:
		setMark(&d.buckets, &d.bucketsCopied, p.number(), m)
	case GrainOwner:
		segment := b.segment(p.id)
		setMark(&d.owners[segment], &d.ownersCopied[segment], p.id, m)
	}
}

// setMark sets or, if nothing blocks any more, removes a mark.
func setMark[K comparable](marks *map[K]mark, copied *bool, id K, m mark) {
	if !*copied {
		*copied = true
		*marks = maps.Clone(*marks)
		if *marks == nil {
			*marks = map[K]mark{}
		}
	}
	if m.blocked == nil {
		delete(*marks, id)
		return
	}
	(*marks)[id] = m
}

func newMark(causes map[string]Block) mark {
	if len(causes) == 0 {
		return mark{}
	}
	last := slices.MaxFunc(slices.Collect(maps.Values(causes)), compareEnds)
	return mark{blocked: &BlockedError{
		Grain: last.Grain, ID: last.ID, Holder: last.Holder, Reason: last.PublicReason, RetryAt: last.Until,
	}}
}

// compareEnds orders blocks by their end; no end is the last. Equal ends are ordered by holder, lest the answer depends on
// the order of a map.
func compareEnds(a, b Block) int {
	switch {
	case a.Until.IsZero() && !b.Until.IsZero():
		return 1
	case !a.Until.IsZero() && b.Until.IsZero():
		return -1
	case !a.Until.Equal(b.Until):
		return a.Until.Compare(b.Until)
	default:
		return strings.Compare(b.Holder, a.Holder)
	}
}

// place is what is blocked; id is in its canonical form.
type place struct {
	grain Grain
	id    string
}

// number returns the id of a shard or bucket; check has seen to it that it is one.
func (p place) number() uint16 {
	n, _ := strconv.ParseUint(p.id, 10, 16)
	return uint16(n)
}
