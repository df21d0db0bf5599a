package shard_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
)

// errands is a domain whose operations load and write what a test tells them to.
type errands struct{}

type errand struct{ load, write func(p *shard.Packet) }

type errandBatch []*shard.Op

func (errands) NewBatch(ops []*shard.Op, _ bool) shard.Batch { return errandBatch(ops) }

func (b errandBatch) Load(p *shard.Packet, round int) {
	for _, o := range b {
		if e := o.Body.(errand); round == 0 && e.load != nil {
			e.load(p)
		}
	}
}

func (errandBatch) Apply(int, time.Time) shard.Reply { return shard.Reply{Verdict: shard.Done} }

func (b errandBatch) Write(p *shard.Packet) {
	for _, o := range b {
		if e := o.Body.(errand); e.write != nil {
			e.write(p)
		}
	}
}

// desk is a table of things, and a committer with one lane that runs errands.
type desk struct {
	db        *shard.DB
	committer *shard.Committer
	errands   int
}

const thingsTable = `CREATE TABLE things (bucket INTEGER NOT NULL, name VARCHAR(64) %s NOT NULL, id %s NULL,
	n BIGINT NOT NULL CHECK (n >= 0), PRIMARY KEY (bucket, name))`

func newDesk(t *testing.T, db *shard.DB, points failpoint.Points) *desk {
	t.Helper()
	collation, binary := "", "BLOB"
	if db.Dialect == shard.MariaDB {
		collation, binary = "CHARACTER SET ascii COLLATE ascii_bin", "VARBINARY(64)"
	}
	exec(t, db, fmt.Sprintf(thingsTable, collation, binary))
	return &desk{db: db, committer: start(t, shard.Config{DB: db, Machine: errands{}, Lanes: 1, FailPoints: points})}
}

// run does an errand, which is the only operation of its batch.
func (d *desk) run(t *testing.T, e errand) shard.Reply {
	t.Helper()
	d.errands++
	return submit(t, d.committer, errandOp(fmt.Sprint("e", d.errands), e))
}

func errandOp(key string, e errand) *shard.Op {
	return &shard.Op{Owner: "a", Bucket: shard.BucketOf("a"), Key: key, Kind: "errand", Fingerprint: []byte(key), Body: e}
}

func (d *desk) do(t *testing.T, e errand) {
	t.Helper()
	want(t, d.run(t, e), shard.Done, "")
}

type thing struct {
	bucket shard.Bucket
	name   string
	id     string // binary; empty: NULL
	n      int64
}

// text is a thing without its key.
func (x thing) text() string { return fmt.Sprintf("%x %d", x.id, x.n) }

func (x thing) key() string { return fmt.Sprint(x.bucket, " ", x.name) }

func (x thing) add(v shard.Values) {
	if x.id == "" {
		v.Null().Int(x.n)
		return
	}
	v.Binary([]byte(x.id)).Int(x.n)
}

func insert(things []thing) func(p *shard.Packet) {
	return func(p *shard.Packet) {
		v := p.Insert("things", "bucket, name, id, n")
		for _, x := range things {
			x.add(v.Row().Bucket(x.bucket).ASCII(x.name))
		}
	}
}

func update(things []thing) func(p *shard.Packet) {
	return func(p *shard.Packet) {
		v := p.Update("things", "bucket, name", "id, n")
		for _, x := range things {
			x.add(v.Row().Bucket(x.bucket).ASCII(x.name))
		}
	}
}

func remove(things []thing) func(p *shard.Packet) {
	return func(p *shard.Packet) {
		v := p.Delete("things", "bucket, name")
		for _, x := range things {
			v.Row().Bucket(x.bucket).ASCII(x.name)
		}
	}
}

// find looks things up by name and by id, and notes how often each was found.
func find(things []thing, found map[string]int) func(p *shard.Packet) {
	scan := func(r *shard.Row) error {
		x := thing{bucket: shard.Bucket(r.Int()), name: r.Str(), id: string(r.Bytes()), n: r.Int()}
		found[x.key()+" "+x.text()]++
		return nil
	}
	return func(p *shard.Packet) {
		v := p.Select(shard.Lookup{Columns: "bucket, name, id, n", From: "things", Index: "PRIMARY", Keys: "bucket, name"}, scan)
		for _, x := range things {
			v.Row().Bucket(x.bucket).ASCII(x.name)
		}
		v = p.Select(shard.Lookup{Columns: "bucket, name, id, n", From: "things", Index: "PRIMARY", Keys: "bucket, id"}, scan)
		for _, x := range things {
			v.Row().Bucket(x.bucket).Binary([]byte(x.id))
		}
	}
}

// wantTable compares the table with what it must have.
func (d *desk) wantTable(t *testing.T, want ...[]thing) {
	t.Helper()
	all := map[string]string{}
	for _, things := range want {
		for _, x := range things {
			all[x.key()] = x.text()
		}
	}
	got := map[string]string{}
	rows, err := d.db.SQL().QueryContext(t.Context(), "SELECT bucket, name, COALESCE(id, ''), n FROM things")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var x thing
		if err := rows.Scan(&x.bucket, &x.name, &x.id, &x.n); err != nil {
			t.Fatal(err)
		}
		got[x.key()] = x.text()
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, all) {
		t.Errorf("the table has\n%v\nwant\n%v", got, all)
	}
}

// wantFound says that each thing is found once by name and once by id.
func (d *desk) wantFound(t *testing.T, things []thing) {
	t.Helper()
	found, each := map[string]int{}, map[string]int{}
	d.do(t, errand{load: find(things, found)})
	for _, x := range things {
		each[x.key()+" "+x.text()] = 2
	}
	if !maps.Equal(found, each) {
		t.Errorf("found\n%v\nwant twice each of\n%v", found, each)
	}
}

// growing are things whose names have the lengths from first to last, and their ids up to 32 bytes. Each name and id begins with the
// one before, so that one that is cut short is another's.
func growing(first, last int) []thing {
	var things []thing
	for length := first; length <= last; length++ {
		x := thing{bucket: 7, name: strings.Repeat("x", length), n: 1 << (length % 63)}
		if x.id = strings.Repeat("\xfe", (length+1)/2); length%2 == 0 {
			x.bucket = 16383
		}
		things = append(things, x)
	}
	return things
}

// A prepared list must have room for later values that are longer than the first ones: a value that is cut would find another's row.
func TestListsHaveRoomForLaterValues(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		d := newDesk(t, db, nil)
		short, long := growing(1, 24), growing(41, 64)
		for _, things := range [][]thing{short, long} { // the long ones meet the statements that the short ones have prepared
			d.do(t, errand{write: insert(things)})
			d.wantFound(t, things)
			for i := range things {
				things[i].n += 2
				things[i].id = things[len(things)-1].id[:len(things[i].id)-1] + "'"
			}
			d.do(t, errand{write: update(things)})
			d.wantFound(t, things)
		}
		for i := range long { // wider than the type of a prepared list
			long[i].id = strings.Repeat("\xfd", i+len(long)+1)
		}
		d.do(t, errand{write: update(long)})
		d.wantFound(t, long)
		d.wantTable(t, short, long)
		d.do(t, errand{write: remove(short)})
		d.wantTable(t, long)
		d.do(t, errand{write: remove(long)})
		d.wantTable(t)
	})
}

// A list that is filled up to the size of a prepared statement finds and changes its own rows, each once, and no others.
func TestFilledListsTouchTheirRowsOnly(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		d := newDesk(t, db, nil)
		bystanders := []thing{{0, "", "", 1}, {0, "0", "0", 2}, {0, "NULL", "\x00", 3}, {16383, strings.Repeat("~", 64), "", 4}}
		d.do(t, errand{write: insert(bystanders)})
		for _, n := range []int{19, 20, 31, 33, 63, 65, 100, 129, 191, 193, 255, 257, 300} {
			things := make([]thing, n)
			for i := range things {
				things[i] = thing{shard.Bucket(i), fmt.Sprint("t", i), fmt.Sprintf("%d\x00\xff", i), int64(i)}
			}
			d.do(t, errand{write: insert(things)})
			d.wantFound(t, things)
			for i := range things {
				things[i].id, things[i].n = things[i].id+"'", things[i].n*2
			}
			for range 2 { // rows that are set to what they are count, too
				d.do(t, errand{write: update(things)})
			}
			d.wantFound(t, things)
			d.wantTable(t, bystanders, things)
			d.do(t, errand{write: remove(things)})
			d.wantTable(t, bystanders)
		}
	})
}

// Columns that are NULL in some rows of a list, or in all, are set to NULL there and nowhere else.
func TestListsWithNulls(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		d := newDesk(t, db, nil)
		things := growing(1, 40)
		d.do(t, errand{write: insert(things)})
		for every := 3; every > 0; every-- { // at last all
			for i := range things {
				things[i].n = int64(every)
				if i%every == 0 {
					things[i].id = ""
				}
			}
			d.do(t, errand{write: update(things)})
			d.wantTable(t, things)
		}
	})
}

// One row of a long list is not there. The prepared statement changes all others; the count stops them.
func TestMissingRowOfALongListIsABug(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		d := newDesk(t, db, nil)
		things := growing(1, 60)
		d.do(t, errand{write: insert(things)})
		changed := growing(1, 61)
		for i := range changed {
			changed[i].n = 1
		}
		for name, write := range map[string]func(p *shard.Packet){"update": update(changed), "delete": remove(changed)} {
			if r := d.run(t, errand{write: write}); !errors.Is(r.Err, shard.ErrInternal) {
				t.Errorf("%s: %v %v", name, r.Verdict, r.Err)
			}
			d.wantTable(t, things)
		}
	})
}

// A row in the middle of a list violates a CHECK. Nothing of the list stays behind, nor of what was written before it, neither at
// once nor with the next batch. SQLite lets a statement that fails leave what it has done; the rollback must undo it.
func TestConstraintInTheMiddleLeavesNothing(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		d := newDesk(t, db, nil)
		there := growing(1, 30)
		d.do(t, errand{write: insert(there)})
		for _, length := range []int{5, 30} { // in the text, and prepared
			fresh, changed := growing(65-length, 64), growing(1, length)
			for i := range changed {
				changed[i].n = 1
			}
			fresh[length/2].n, changed[length/2].n = -1, -1
			for name, writes := range map[string][]func(p *shard.Packet){
				"insert":               {insert(fresh)},
				"update":               {update(changed)},
				"insert and update":    {insert(fresh[:length/2]), update(changed)},
				"update before insert": {update(changed[:length/2]), insert(fresh)},
			} {
				r := d.run(t, errand{write: func(p *shard.Packet) {
					for _, write := range writes {
						write(p)
					}
				}})
				if !errors.Is(r.Err, shard.ErrInternal) {
					t.Errorf("%s of %d: %v %v", name, length, r.Verdict, r.Err)
				}
				d.do(t, errand{}) // whatever was left would be committed with it
				d.wantTable(t, there)
			}
		}
	})
}

// The keys of operations are found whatever their lengths, the shortest first or last.
func TestKeysOfAnyLengthAreFound(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		var g gate
		c := start(t, shard.Config{DB: db, Lanes: 1, FailPoints: g.at(failpoint.BeforeBegin)})
		ops := make([]*shard.Op, 64)
		for i := range ops {
			ops[i] = op(strings.Repeat("o", i+1), strings.Repeat("k", i+1), int64(i))
		}
		busy := func(key string) *shard.Op { return op("busy", key, 0) }
		for round := range 3 {
			for i, r := range inOneBatch(t, c, &g, busy, ops) {
				want(t, r, shard.Done, fmt.Sprint(ops[i].Body.(add).n))
				if r.Replayed != (round > 0) {
					t.Errorf("round %d, operation %d: replayed %v", round, i, r.Replayed)
				}
			}
			slices.Reverse(ops)
		}
	})
}

// Rows are locked in the order in which their keys are listed: that is how instances agree on one. A stranger has the row in the
// middle; what a batch has locked by then is what it has listed before.
func TestRowsAreLockedInTheOrderOfTheirKeys(t *testing.T) {
	db := openMariaDB(t, testdb.MariaDB(t))
	d := newDesk(t, db, nil)
	for _, n := range []int{7, 40, 300} { // in the text, in one prepared statement, in two
		things := make([]thing, n)
		for i := range things {
			things[i] = thing{shard.Bucket(n - i), fmt.Sprint("t", i), "", 1} // against the order of the table
		}
		d.do(t, errand{write: insert(things)})
		stranger := begin(t, db)
		_, err := stranger.ExecContext(t.Context(), "UPDATE things SET n=2 WHERE name=?", things[n/2].name)
		if err != nil {
			t.Fatal(err)
		}
		reply := make(chan shard.Reply, 1)
		go func() { reply <- d.run(t, errand{load: lock(things)}) }()
		awaitUnlocked(t, db, "SELECT name FROM things FOR UPDATE SKIP LOCKED", names(things[n/2+1:]))
		_ = stranger.Rollback()
		want(t, <-reply, shard.Done, "")
		d.do(t, errand{write: remove(things)})
	}
}

func lock(things []thing) func(p *shard.Packet) {
	return func(p *shard.Packet) {
		v := p.SelectForUpdate(shard.Lookup{Columns: "n", From: "things", Index: "PRIMARY", Keys: "bucket, name"},
			func(r *shard.Row) error {
				r.Int()
				return nil
			})
		for _, x := range things {
			v.Row().Bucket(x.bucket).ASCII(x.name)
		}
	}
}

func names(things []thing) []string {
	var all []string
	for _, x := range things {
		all = append(all, x.name)
	}
	return all
}

// awaitUnlocked returns when a query that passes over locked rows gives the names. They may differ while a batch locks its rows, or
// starts again because it has waited for too long.
func awaitUnlocked(t *testing.T, db *shard.DB, query string, want []string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if got = unlocked(t, db, query); slices.Equal(got, want) {
			return
		}
	}
	t.Errorf("%v are not locked, want %v", got, want)
}

func unlocked(t *testing.T, db *shard.DB, query string) []string {
	t.Helper()
	tx := begin(t, db)
	rows, err := tx.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var free []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		free = append(free, name)
	}
	if err := errors.Join(rows.Err(), tx.Rollback()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(free)
	return free
}

// Prepared statements belong to a connection. A new one prepares its own.
func TestLongListsOnANewConnection(t *testing.T) {
	db := openMariaDB(t, testdb.MariaDB(t))
	d := newDesk(t, db, nil)
	things := growing(1, 40)
	d.do(t, errand{write: insert(things)})
	for range 2 {
		d.wantFound(t, things)
		var connection int64
		d.do(t, errand{load: func(p *shard.Packet) {
			p.Query("SELECT CONNECTION_ID()", func(r *shard.Row) error {
				connection = r.Int()
				return nil
			})
		}})
		exec(t, db, fmt.Sprint("KILL ", connection))
	}
	d.wantFound(t, things)
}

// shelf is a domain that keeps two values for each owner, and answers each operation with those that it replaces.
type shelf struct{}

// put stores doc and mark; without a doc it clears the place.
type put struct{ doc, mark []byte }

type place struct {
	put
	stored bool
	dirty  bool
}

type shelfBatch struct {
	ops    []*shard.Op
	places map[string]*place
}

func (shelf) NewBatch(ops []*shard.Op, _ bool) shard.Batch {
	return &shelfBatch{ops, map[string]*place{}}
}

func (b *shelfBatch) Load(p *shard.Packet, round int) {
	if round > 0 {
		return
	}
	v := p.SelectForUpdate(shard.Lookup{
		Columns: "owner, doc, mark", From: "shelf", Index: "PRIMARY", Keys: "bucket, owner",
	}, func(r *shard.Row) error {
		x := b.places[r.Str()]
		x.doc, x.mark, x.stored = r.Bytes(), r.Bytes(), true
		return nil
	})
	for _, o := range b.ops {
		if b.places[o.Owner] == nil {
			b.places[o.Owner] = &place{}
			v.Row().Bucket(o.Bucket).ASCII(o.Owner)
		}
	}
}

func (b *shelfBatch) Apply(i int, _ time.Time) shard.Reply {
	x := b.places[b.ops[i].Owner]
	was := x.put
	x.put, x.dirty = b.ops[i].Body.(put), true
	return shard.Reply{Verdict: shard.Done, Body: was.answer()}
}

func (x put) answer() []byte { return bytes.Join([][]byte{x.doc, x.mark}, []byte(" & ")) }

func (b *shelfBatch) Write(p *shard.Packet) {
	b.each(func(x *place) bool { return !x.stored && x.doc != nil },
		func() shard.Values { return p.Insert("shelf", "bucket, owner, doc, mark") }, place.values)
	b.each(func(x *place) bool { return x.stored && x.doc == nil },
		func() shard.Values { return p.Delete("shelf", "bucket, owner") }, func(place, shard.Values) {})
	b.each(func(x *place) bool { return x.stored && x.doc != nil },
		func() shard.Values { return p.Update("shelf", "bucket, owner", "doc, mark") }, place.values)
}

func (x place) values(v shard.Values) {
	v.Binary(x.doc)
	if x.mark == nil {
		v.Null()
		return
	}
	v.Binary(x.mark)
}

func (b *shelfBatch) each(match func(*place) bool, open func() shard.Values, rest func(place, shard.Values)) {
	var v shard.Values
	begun := false
	for owner, x := range b.places {
		if !x.dirty || !match(x) {
			continue
		}
		if !begun {
			v, begun = open(), true
		}
		rest(*x, v.Row().Bucket(shard.BucketOf(owner)).ASCII(owner))
	}
}

// evil returns n bytes of those that have a meaning in some protocol, and of all others.
func evil(r *rand.Rand, n int) []byte {
	const special = "'\\\x00\x1a\"?;%_\n\r\x80\xff\xc3\xa9"
	b := make([]byte, n)
	for i := range b {
		if b[i] = byte(r.IntN(256)); r.IntN(2) == 0 {
			b[i] = special[r.IntN(len(special))]
		}
	}
	return b
}

// shelfRounds are what the operations of the batches do, one batch after the other, by the index of the owner.
var shelfRounds = []struct {
	name string
	next func(r *rand.Rand, i int) put
}{
	{"new", func(r *rand.Rand, i int) put { return put{evil(r, i%100), evil(r, i%33)} }},
	{"short values", func(r *rand.Rand, i int) put { return put{evil(r, i%33), evil(r, 32)} }},
	{"long values", func(r *rand.Rand, _ int) put { return put{evil(r, 33+r.IntN(200)), evil(r, 32)} }},
	{"a third goes", func(r *rand.Rand, i int) put {
		if i%3 == 0 {
			return put{}
		}
		return put{evil(r, 5), nil}
	}},
	{"some come back", func(r *rand.Rand, i int) put { return put{evil(r, i%40), evil(r, 1+i%2)} }},
}

// shelves is a table of places, what a plain loop says that it has, and a committer whose batches are counted.
type shelves struct {
	db         *shard.DB
	committer  *shard.Committer
	gate       gate
	begun      atomic.Int64
	random     *rand.Rand
	model      map[string]put
	operations int
}

func newShelves(t *testing.T, db *shard.DB) *shelves {
	t.Helper()
	binary := "BLOB"
	if db.Dialect == shard.MariaDB {
		binary = "MEDIUMBLOB"
	}
	exec(t, db, fmt.Sprintf("CREATE TABLE shelf (bucket INTEGER NOT NULL, owner VARCHAR(64) NOT NULL, doc %s NOT NULL, mark %[1]s NULL, "+
		"PRIMARY KEY (bucket, owner))", binary))
	s := &shelves{db: db, random: rand.New(rand.NewPCG(1, 2)), model: map[string]put{}}
	s.committer = start(t, shard.Config{DB: db, Machine: shelf{}, Lanes: 1, Batch: 512, FailPoints: func(name string) {
		if name == failpoint.BeforeBegin {
			s.begun.Add(1)
		}
		s.gate.at(failpoint.BeforeBegin)(name)
	}})
	return s
}

// batch runs one batch twice: each operation replaces what is in its place by what next says, once.
func (s *shelves) batch(t *testing.T, name string, size int, owner func(i int) string, next func(r *rand.Rand, i int) put) {
	t.Helper()
	ops, answers := make([]*shard.Op, size), make([]string, size)
	for i := range ops {
		o, x := owner(i), next(s.random, i)
		ops[i] = &shard.Op{
			Owner: o, Bucket: shard.BucketOf(o), Key: fmt.Sprint(name, i), Fingerprint: evil(s.random, 40), Body: x,
		}
		answers[i], s.model[o] = string(s.model[o].answer()), x
	}
	s.operations += size
	for _, replayed := range []bool{false, true} {
		s.begun.Store(0)
		for i, r := range inOneBatch(t, s.committer, &s.gate, shelfBusy, ops) {
			if r.Err != nil || string(r.Body) != answers[i] || r.Replayed != replayed {
				t.Fatalf("%d %s, operation %d: %.300v, want %.300q, replayed %v", size, name, i, r, answers[i], replayed)
			}
		}
		if n := s.begun.Load(); n != 2 && !replayed { // a batch that fails is split, which would hide why
			t.Errorf("%d %s: %d transactions, not one behind the one that waited", size, name, n)
		}
	}
}

// Batches around the sizes of prepared statements, of inserts, updates and deletes, with several operations of one owner: each
// operation happens once, in its order, and every value is what a plain loop computes.
func TestBatchesOfEverySize(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		s := newShelves(t, db)
		for _, size := range []int{1, 19, 20, 31, 32, 33, 64, 65, 200, 256, 257, 300} {
			owner := func(i int) string { return fmt.Sprint("o", size, "-", i%(1+size*9/10)) } // the last tenth have had an operation
			for _, round := range shelfRounds {
				s.batch(t, round.name, size, owner, round.next)
			}
			wantShelf(t, db, s.model)
		}
		var n int
		err := db.SQL().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM operations WHERE owner<>'busy'").Scan(&n)
		if err != nil || n != s.operations {
			t.Errorf("%d operations are recorded, want %d; %v", n, s.operations, err)
		}
	})
}

// Values that are long and many travel apart from their prepared statement. In the second batch they are replies.
func TestLongValuesOfALongList(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		s := newShelves(t, db)
		owner := func(i int) string { return fmt.Sprint("o", i) }
		s.batch(t, "long", 256, owner, func(r *rand.Rand, _ int) put { return put{evil(r, 24_000+r.IntN(4_000)), evil(r, 10)} })
		wantShelf(t, db, s.model)
		s.batch(t, "short", 256, owner, func(r *rand.Rand, _ int) put { return put{evil(r, 10), nil} })
		wantShelf(t, db, s.model)
	})
}

func shelfBusy(key string) *shard.Op {
	return &shard.Op{Owner: "busy", Bucket: shard.BucketOf("busy"), Key: key, Body: put{}}
}

func wantShelf(t *testing.T, db *shard.DB, model map[string]put) {
	t.Helper()
	rows, err := db.SQL().QueryContext(t.Context(), "SELECT owner, doc, mark FROM shelf")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	got := 0
	for rows.Next() {
		var owner string
		var x put
		if err := rows.Scan(&owner, &x.doc, &x.mark); err != nil {
			t.Fatal(err)
		}
		got++
		if want := model[owner]; string(x.answer()) != string(want.answer()) || (x.mark == nil) != (want.mark == nil) {
			t.Errorf("%s has %q %q, want %q %q", owner, x.doc, x.mark, want.doc, want.mark)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, x := range model {
		if x.doc != nil {
			got--
		}
	}
	if got != 0 {
		t.Errorf("%d rows too many", got)
	}
}

// inOneBatch submits operations in their order so that they share a batch, behind one that keeps the lane busy, and returns their
// replies.
func inOneBatch(t *testing.T, c *shard.Committer, g *gate, busy func(key string) *shard.Op, ops []*shard.Op) []shard.Reply {
	t.Helper()
	shut := &shutGate{make(chan struct{}), make(chan struct{})}
	g.shut.Store(shut)
	go submit(t, c, busy(fmt.Sprint(time.Now().UnixNano())))
	<-shut.arrived
	g.shut.Store(nil)
	replies, done := make([]shard.Reply, len(ops)), make(chan struct{}, len(ops))
	for i, o := range ops {
		go func() {
			replies[i] = submit(t, c, o)
			done <- struct{}{}
		}()
		for c.Depth()[0] <= i {
			runtime.Gosched()
		}
	}
	close(shut.open)
	for range ops {
		<-done
	}
	return replies
}
