package feed

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
)

const embeddedSchema = `CREATE TABLE documents (bucket INTEGER NOT NULL, id TEXT NOT NULL, ver INTEGER NOT NULL,
  hash BLOB NOT NULL, doc BLOB NULL, PRIMARY KEY (bucket, id)) WITHOUT ROWID;
CREATE TABLE log (writer INTEGER NOT NULL, seq INTEGER NOT NULL, pad BLOB NOT NULL, PRIMARY KEY (writer, seq)) WITHOUT ROWID`

// embedded is a rig of a shard in a file.
func embedded(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t}
	db, err := shard.OpenSQLite(filepath.Join(t.TempDir(), "s1.db"), time.Now)
	r.must(err)
	t.Cleanup(func() { _ = db.Close() })
	r.db = db.SQL()
	r.exec(embeddedSchema)
	return r
}

// tailFile runs an embedded tailer until stop is called or the test ends.
func (r *rig) tailFile(m *memory) (stop func()) {
	ctx, cancel := context.WithCancel(r.Context())
	ended := make(chan struct{})
	tailer := NewEmbeddedTailer(EmbeddedConfig{
		Shard: testShard, Epoch: 1, DB: r.db, Tables: testTables, Consumer: m, Alarm: r.alarms.add, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(r.Output(), nil)),
	})
	go func() {
		defer close(ended)
		tailer.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	r.Cleanup(stop)
	return stop
}

func TestEmbeddedChanges(t *testing.T) {
	t.Parallel()
	r := embedded(t)
	m := newMemory()
	r.tailFile(m)
	r.eventually("it has started", func() bool { return m.resets() == 1 })
	hash := []byte{0, 1, '\'', 0xff, 0}
	r.exec("INSERT INTO documents VALUES (16383,'it''s',9007199254740993,?,'{}')", hash)
	r.exec("UPDATE documents SET doc=NULL")
	r.exec("DELETE FROM documents")
	r.write(1, 1)
	r.eventually("all has come", func() bool { return m.has(1, 1) })
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.order) != 4 || r.alarms.count(AlarmUnversioned) != 1 {
		t.Fatalf("%d changes, %v", len(m.order), r.alarms.list)
	}
	made, changed, gone := m.taken[m.order[0]][0], m.taken[m.order[1]][0], m.taken[m.order[2]][0]
	var id string
	var ver int64
	var sum []byte
	var doc sql.Null[string]
	r.must(made.After.Scan(Into{"id": &id, "ver": &ver, "hash": &sum, "doc": &doc}))
	if id != "it's" || ver != 9007199254740993 || !bytes.Equal(sum, hash) || made.Before.Exists() || made.Bucket != 16383 {
		t.Errorf("the row came as %q %d %x", id, ver, sum)
	}
	r.must(changed.After.Scan(Into{"doc": &doc}))
	if doc.Valid || !changed.Before.Exists() || gone.After.Exists() || !changed.Unversioned {
		t.Errorf("update and delete came as %+v and %+v", changed, gone)
	}
}

// Tailers end at random moments, one at a time, while a consumer fails now and then.
func TestEmbeddedEveryRowInOrder(t *testing.T) {
	t.Parallel()
	r := embedded(t)
	m := newMemory()
	stop := r.tailFile(m)
	r.eventually("it has started", func() bool { return m.resets() == 1 })
	random := rand.New(rand.NewPCG(7, 7))
	done := r.writers(r.db, 2, 0)
	for range 8 {
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		m.mu.Lock()
		m.fail = errConsumer
		m.mu.Unlock()
		stop()
		stop = r.tailFile(m)
	}
	time.Sleep(100 * time.Millisecond)
	r.complete(m, done())
	if m.resets() != 1 {
		t.Errorf("the consumer started anew for %v", m.reasons())
	}
}

// A consumer that comes too late, one that is ahead of the log, and one that meets a table whose changes nobody has written down.
func TestEmbeddedGaps(t *testing.T) {
	t.Parallel()
	r := embedded(t)
	m := newMemory()
	stop := r.tailFile(m)
	r.eventually("it has started", func() bool { return m.resets() == 1 })
	stop()
	r.write(1, 1)
	r.write(1, 2)
	r.exec("DELETE FROM feed_log WHERE seq=1")
	stop = r.tailFile(m)
	r.eventually("it has started anew", func() bool { return m.resets() == 2 })
	r.write(1, 3)
	r.eventually("what comes after it is there", func() bool { return m.has(1, 3) })
	stop()

	r.exec("DROP TRIGGER feed_log_insert")
	r.write(1, 4)
	stop = r.tailFile(m)
	r.eventually("it has started anew", func() bool { return m.resets() == 3 })
	stop()
	m.mu.Lock()
	m.position = "0-1-1000"
	m.mu.Unlock()
	r.tailFile(m)
	r.eventually("the alarm is raised", func() bool { return r.alarms.count(AlarmVanished) > 0 })
	if got := m.reasons(); !slices.Equal(got, []Reason{ReasonNew, ReasonPurged, ReasonNew}) {
		t.Errorf("started anew for %v", got)
	}
}
