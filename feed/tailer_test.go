package feed

import (
	"bytes"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/testdb"
)

// The whole way: rows of each kind of change, with their values, in whole transactions.
func TestChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.MariaDB(t))
	m := newMemory()
	tailer, _ := r.tail(r.config(m))
	r.started(tailer)

	hash := []byte{1, 2, 3, 0xff, 0x80, 0, 0, 0}
	r.exec("INSERT INTO documents VALUES (16383,'a',9007199254740993,?,'{}')", hash)
	r.exec("BEGIN; UPDATE documents SET ver=ver+1, doc=NULL WHERE id='a'; INSERT INTO unwanted VALUES (1); DELETE FROM documents; COMMIT")
	r.exec("INSERT INTO unwanted VALUES (2)")
	r.write(1, 1)
	r.eventually("everything is there", func() bool { return m.has(1, 1) })

	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.order) != 3 {
		t.Fatalf("%d transactions, want those three with wanted rows: %v", len(m.order), m.order)
	}
	made, both := m.taken[m.order[0]], m.taken[m.order[1]]
	if len(made) != 1 || made[0].Before.Exists() || !made[0].After.Exists() || made[0].Bucket != 16383 || made[0].Table != "documents" {
		t.Errorf("the insert came as %+v", made)
	}
	var (
		id        string
		ver       int64
		sum, text []byte
	)
	r.must(made[0].After.Scan(Into{"id": &id, "ver": &ver, "hash": &sum, "doc": &text}))
	if id != "a" || ver != 9007199254740993 || !bytes.Equal(sum, hash) || string(text) != "{}" {
		t.Errorf("the row came as %q %d %x %q", id, ver, sum, text)
	}
	if len(both) != 2 || !both[0].Before.Exists() || !both[0].After.Exists() || both[1].After.Exists() {
		t.Fatalf("update and delete came as %+v", both)
	}
	if doc, ok := both[0].After.Value("doc"); doc != nil || !ok {
		t.Errorf("NULL came as %v", doc)
	}
	if err := both[0].After.Scan(Into{"doc": &text}); err == nil {
		t.Error("NULL was copied to bytes")
	}
	if err := both[0].After.Scan(Into{"nothing": &text}); err == nil {
		t.Error("a column was copied that is not there")
	}
	if n := r.alarms.count(AlarmUnversioned); n != 0 {
		t.Errorf("%d alarms", n)
	}
	last := m.releases[len(m.releases)-1]
	if last.CompleteAt.IsZero() || time.Since(last.CompleteAt) > patience || last.Epoch != 1 {
		t.Errorf("the last release is %+v", last)
	}
}
