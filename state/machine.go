package state

import (
	"slices"
	"strings"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// Machine is the half of the committers that writes documents.
type Machine struct{}

// Owns reports whether op is an operation on a document.
func (Machine) Owns(op *shard.Op) bool {
	_, ok := op.Body.(*change)
	return ok
}

// NewBatch starts the work on ops, all of which are on documents. Their rows are always looked up, so a batch that has collided has
// nothing more to look at: whoever inserted the row first has it there now.
func (Machine) NewBatch(ops []*shard.Op, _ bool) shard.Batch {
	return &batch{ops: ops, rows: make(map[Key]*row, len(ops)), eras: make(map[shard.Bucket]int64, len(ops))}
}

// row is a document in a batch. Its zero value is that of a document without a row.
type row struct {
	document Document
	stored   bool // there is a row, perhaps a tombstone
	changed  bool
}

// batch is one transaction of a shard.
type batch struct {
	ops  []*shard.Op
	keys []Key // of the operations, by bucket and name
	rows map[Key]*row
	eras map[shard.Bucket]int64
}

// eraLookup is the era of buckets. The fence and the buckets' owners are locked before anything of a batch is loaded.
var eraLookup = shard.Lookup{
	Columns: "b.bucket, b.era_base+CAST(f.epoch AS SIGNED)", From: "bucket_owner b", Index: "PRIMARY", Keys: "b.bucket",
	Joins: " JOIN fence f ON f.id=1",
}

// rowLookup finds the rows of documents, and locks them until the transaction ends. A document without a row has nothing to lock: of
// two instances that make it at once, one meets a duplicate key, and its batch runs again.
var rowLookup = shard.Lookup{
	Columns: "kind, id, era, ver, updated_at, doc", From: "state", Index: "PRIMARY", Keys: "bucket, kind, id",
}

// Load locks the rows, in the order of bucket, kind and id.
func (b *batch) Load(p *shard.Packet, round int) {
	if round > 0 {
		return
	}
	for _, op := range b.ops {
		c, ok := op.Body.(*change)
		if ok && b.rows[c.key] == nil {
			b.rows[c.key] = &row{document: Document{Key: c.key}}
			b.keys = append(b.keys, c.key)
		}
	}
	slices.SortFunc(b.keys, compareKeys)
	locked := p.SelectForUpdate(rowLookup, b.scanRow)
	for _, k := range b.keys {
		locked.Row().Bucket(k.Bucket()).ASCII(k.Kind).ASCII(k.ID)
	}
	eras := p.Select(eraLookup, b.scanEra)
	for _, k := range b.keys {
		eras.Row().Bucket(k.Bucket())
	}
}

func compareKeys(a, b Key) int {
	if c := int(a.Bucket()) - int(b.Bucket()); c != 0 {
		return c
	}
	return strings.Compare(a.String(), b.String())
}

func (b *batch) scanRow(r *shard.Row) error {
	found := b.rows[Key{r.Str(), r.Str()}]
	found.stored = true
	found.document.Version = Version{r.Int(), r.Int()}
	found.document.UpdatedAt = time.UnixMicro(r.Int()).UTC()
	if body := r.Bytes(); len(body) > 0 {
		found.document.Body = body
	}
	return nil
}

func (b *batch) scanEra(r *shard.Row) error {
	b.eras[shard.Bucket(r.Int())] = r.Int()
	return nil
}

// Apply decides operation i.
func (b *batch) Apply(i int, now time.Time) shard.Reply {
	c := b.ops[i].Body.(*change)
	return apply(b.rows[c.key], c, b.eras[b.ops[i].Bucket], now)
}

// Write adds the rows that have changed.
func (b *batch) Write(p *shard.Packet) {
	b.write(false, func() shard.Values { return p.Insert("state", "bucket, kind, id, era, ver, deleted, updated_at, doc") })
	b.write(true, func() shard.Values {
		return p.Update("state", "bucket, kind, id", "era, ver, deleted, updated_at, doc")
	})
}

// write adds the rows that are stored, or those that are not, to a statement that is opened with the first of them.
func (b *batch) write(stored bool, open func() shard.Values) {
	var v shard.Values
	begun := false
	for _, k := range b.keys {
		r := b.rows[k]
		if !r.changed || r.stored != stored {
			continue
		}
		if !begun {
			v, begun = open(), true
		}
		d := &r.document
		deleted := int64(0)
		if !d.Exists() {
			deleted = 1
		}
		v.Row().Bucket(k.Bucket()).ASCII(k.Kind).ASCII(k.ID).Int(d.Version.Era).Int(d.Version.Number).Int(deleted).
			Int(d.UpdatedAt.UnixMicro()).Binary(d.Body)
	}
}
