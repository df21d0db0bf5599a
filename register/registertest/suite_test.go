package registertest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/statesvc/statesvc/register"
)

// waitMax is how long the suite waits for what must happen. It is no promise of speed.
const waitMax = 10 * time.Second

// store is one empty register made for one test; each call opens a further independent handle on it.
type store func() register.Register

// runSuite is the suite. newStore makes an empty register and closes its handles with t.Cleanup.
func runSuite(t *testing.T, newStore func(t *testing.T) store) {
	tests := map[string]func(t *testing.T, open store){
		"GetPutDelete":      testGetPutDelete,
		"CreateOnce":        testCreateOnce,
		"ListIsSorted":      testListIsSorted,
		"ConditionTable":    testConditionTable,
		"AllOrNothing":      testAllOrNothing,
		"InvalidRequests":   testInvalidRequests,
		"LargestTxn":        testLargestTxn,
		"NothingChanges":    testNothingChanges,
		"Update":            testUpdate,
		"ReadsAreCurrent":   testReadsAreCurrent,
		"ConcurrentUpdates": testConcurrentUpdates,
		"WatchOrder":        testWatchOrder,
		"WatchFromRevision": testWatchFromRevision,
		"WatchUnknown":      testWatchUnknownRevision,
		"WatchReplays":      testWatchReplays,
		"WatchEnds":         testWatchEnds,
		"ValuesAreCopied":   testValuesAreCopied,
		"ContextEnded":      testContextEnded,
		"Mirror":            testMirror,
		"MirrorOwnWrites":   testMirrorOwnWrites,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, newStore(t)) })
	}
}

func testGetPutDelete(t *testing.T, open store) {
	ctx, r := t.Context(), open()
	if _, err := r.Get(ctx, "a/b"); !errors.Is(err, register.ErrNotFound) {
		t.Fatalf("get of an absent key: %v", err)
	}
	rev := must(register.Put(ctx, r, "a/b", []byte("1")))
	wantEntry(t, r, register.Entry{Key: "a/b", Value: []byte("1"), Rev: rev})

	next := must(register.Put(ctx, r, "a/b", nil))
	if next <= rev {
		t.Fatalf("revision %d after %d", next, rev)
	}
	if e := must(r.Get(ctx, "a/b")); len(e.Value) != 0 || e.Rev != next {
		t.Fatalf("an empty value is a value: %+v", e)
	}
	if err := register.Delete(ctx, r, "a/b", rev); !errors.Is(err, register.ErrConflict) {
		t.Fatalf("delete at an old revision: %v", err)
	}
	if err := register.Delete(ctx, r, "a/b", 0); !errors.Is(err, register.ErrInvalid) {
		t.Fatalf("blind delete: %v", err)
	}
	if err := register.Delete(ctx, r, "a/b", next); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get(ctx, "a/b"); !errors.Is(err, register.ErrNotFound) {
		t.Fatalf("get of a deleted key: %v", err)
	}
}

func testCreateOnce(t *testing.T, open store) {
	ctx, r := t.Context(), open()
	first := must(register.Create(ctx, r, "k", []byte("1")))
	if _, err := register.Create(ctx, r, "k", []byte("2")); !errors.Is(err, register.ErrConflict) {
		t.Fatalf("second create: %v", err)
	}
	if err := register.Delete(ctx, r, "k", first); err != nil {
		t.Fatal(err)
	}
	if again := must(register.Create(ctx, r, "k", []byte("3"))); again <= first {
		t.Fatalf("a key born again has revision %d, it had %d", again, first)
	}
}

func testListIsSorted(t *testing.T, open store) {
	ctx, r := t.Context(), open()
	for _, key := range []string{"b/2", "a", "b/10", "b", "c", "b/1", "b0"} {
		must(register.Put(ctx, r, key, []byte(key)))
	}
	lists := map[string][]string{
		"":    {"a", "b", "b/1", "b/10", "b/2", "b0", "c"},
		"b":   {"b", "b/1", "b/10", "b/2", "b0"},
		"b/":  {"b/1", "b/10", "b/2"},
		"b/1": {"b/1", "b/10"},
		"d":   nil,
		"~":   nil,
	}
	for prefix, want := range lists {
		entries, rev, err := r.List(ctx, prefix)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, keys(entries)); diff != "" {
			t.Errorf("list %q: %s", prefix, diff)
		}
		if last := must(r.Get(ctx, "b0")).Rev; rev != last {
			t.Errorf("list %q at revision %d, the last write was %d", prefix, rev, last)
		}
	}
}

func testConditionTable(t *testing.T, open store) {
	ctx, r := t.Context(), open()
	a := must(register.Put(ctx, r, "a", nil))
	b := must(register.Put(ctx, r, "b", nil))
	tests := []struct {
		name string
		cond []register.Cond
		want error
	}{
		{"none", nil, nil},
		{"absent", []register.Cond{{Key: "x"}}, nil},
		{"absent, but is there", []register.Cond{{Key: "a"}}, register.ErrConflict},
		{"same", []register.Cond{{Key: "a", Rev: a}}, nil},
		{"older", []register.Cond{{Key: "b", Rev: a}}, register.ErrConflict},
		{"newer", []register.Cond{{Key: "a", Rev: b}}, register.ErrConflict},
		{"there, but is absent", []register.Cond{{Key: "x", Rev: a}}, register.ErrConflict},
		{"both", []register.Cond{{Key: "a", Rev: a}, {Key: "b", Rev: b}}, nil},
		{"one of two", []register.Cond{{Key: "a", Rev: a}, {Key: "b", Rev: a}}, register.ErrConflict},
	}
	for _, test := range tests {
		_, err := r.Txn(ctx, register.Txn{If: test.cond})
		if !errors.Is(err, test.want) {
			t.Errorf("%s, nothing to do: %v, want %v", test.name, err, test.want)
		}
		_, err = r.Txn(ctx, register.Txn{If: test.cond, Then: []register.Op{{Key: "out"}}})
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func testAllOrNothing(t *testing.T, open store) {
	ctx, r := t.Context(), open()
	old := must(register.Put(ctx, r, "old", []byte("1")))
	ops := []register.Op{{Key: "new", Value: []byte("2")}, {Key: "old", Delete: true}, {Key: "never", Delete: true}}
	if _, err := r.Txn(ctx, register.Txn{If: []register.Cond{{Key: "old", Rev: old + 1}}, Then: ops}); !errors.Is(err, register.ErrConflict) {
		t.Fatal(err)
	}
	wantKeys(t, r, "old")
	rev := must(r.Txn(ctx, register.Txn{If: []register.Cond{{Key: "old", Rev: old}}, Then: ops}))
	wantKeys(t, r, "new")
	wantEntry(t, r, register.Entry{Key: "new", Value: []byte("2"), Rev: rev})
}

func testInvalidRequests(t *testing.T, open store) {
	ctx, r := t.Context(), open()
	tooMany := register.Txn{}
	for i := range register.MaxOps + 1 {
		tooMany.Then = append(tooMany.Then, register.Op{Key: strconv.Itoa(i)})
	}
	tests := map[string]register.Txn{
		"empty key":       {Then: []register.Op{{}}},
		"long key":        {Then: []register.Op{{Key: strings.Repeat("k", register.MaxKeyBytes+1)}}},
		"space":           {Then: []register.Op{{Key: "a b"}}},
		"not ASCII":       {Then: []register.Op{{Key: "é"}}},
		"condition key":   {If: []register.Cond{{Key: "a\n"}}},
		"negative":        {If: []register.Cond{{Key: "a", Rev: -1}}},
		"twice":           {Then: []register.Op{{Key: "a"}, {Key: "a", Delete: true}}},
		"condition twice": {If: []register.Cond{{Key: "a"}, {Key: "a"}}},
		"too many":        tooMany,
		"too large":       {Then: []register.Op{{Key: "a", Value: make([]byte, register.MaxTxnBytes)}}},
	}
	for name, txn := range tests {
		if _, err := r.Txn(ctx, txn); !errors.Is(err, register.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantKeys(t, r)
}

func testLargestTxn(t *testing.T, open store) {
	ctx, r := t.Context(), open()
	var txn register.Txn
	for i := range register.MaxOps {
		key := fmt.Sprintf("%0*d", register.MaxKeyBytes, i)
		txn.If = append(txn.If, register.Cond{Key: key})
		txn.Then = append(txn.Then, register.Op{Key: key, Value: make([]byte, register.MaxTxnBytes/register.MaxOps-len(key))})
	}
	rev := must(r.Txn(ctx, txn))
	entries, at, err := open().List(ctx, "")
	if err != nil || len(entries) != register.MaxOps || at != rev {
		t.Fatalf("%d entries at %d: %v", len(entries), at, err)
	}
}

func testNothingChanges(t *testing.T, open store) {
	ctx, r := t.Context(), open()
	rev := must(register.Put(ctx, r, "a", nil))
	for _, txn := range []register.Txn{{}, {Then: []register.Op{{Key: "x", Delete: true}}}} {
		if got := must(r.Txn(ctx, txn)); got != rev {
			t.Errorf("%+v: revision %d, was %d", txn, got, rev)
		}
	}
}

func testUpdate(t *testing.T, open store) {
	ctx, r := t.Context(), open()
	count := func(old register.Entry) ([]byte, error) { return append(slices.Clone(old.Value), 'x'), nil }
	if e := must(register.Update(ctx, r, "n", count)); string(e.Value) != "x" {
		t.Fatalf("first update: %+v", e)
	}
	wantEntry(t, r, must(register.Update(ctx, r, "n", count)))
	stop := errors.New("stop")
	_, err := register.Update(ctx, r, "n", func(register.Entry) ([]byte, error) { return nil, stop })
	if !errors.Is(err, stop) {
		t.Fatalf("the error of change: %v", err)
	}
	if e := must(r.Get(ctx, "n")); string(e.Value) != "xx" {
		t.Fatalf("after all: %+v", e)
	}
}

// testReadsAreCurrent alternates between handles: what one has written the other must see without any waiting.
func testReadsAreCurrent(t *testing.T, open store) {
	ctx, a, b := t.Context(), open(), open()
	for i := range 50 {
		key, value := fmt.Sprintf("k/%d", i%7), []byte(strconv.Itoa(i))
		rev := must(register.Put(ctx, a, key, value))
		wantEntry(t, b, register.Entry{Key: key, Value: value, Rev: rev})
		if _, at, err := b.List(ctx, "k/"); err != nil || at != rev {
			t.Fatalf("list at %d after a write at %d: %v", at, rev, err)
		}
		a, b = b, a
	}
}

// testConcurrentUpdates counts in one key from several goroutines on several handles; a lost update shows in the sum.
func testConcurrentUpdates(t *testing.T, open store) {
	const handles, workers, rounds = 2, 3, 15
	ctx := t.Context()
	var wg sync.WaitGroup
	for range handles {
		r := open()
		for range workers {
			wg.Go(func() {
				for range rounds {
					if _, err := register.Update(ctx, r, "sum", increment); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if e := must(open().Get(ctx, "sum")); string(e.Value) != strconv.Itoa(handles*workers*rounds) {
		t.Fatalf("sum %s, want %d", e.Value, handles*workers*rounds)
	}
}

func increment(old register.Entry) ([]byte, error) {
	n, _ := strconv.Atoi(string(old.Value))
	return strconv.AppendInt(nil, int64(n)+1, 10), nil
}

// testWatchOrder writes on two handles and compares what each of two watchers saw with what was written.
func testWatchOrder(t *testing.T, open store) {
	ctx, a, b := t.Context(), open(), open()
	watches := []<-chan []register.Event{a.Watch(ctx, "w/", 0), b.Watch(ctx, "w/", 0)}
	want := map[int64][]string{}
	for i := range 40 {
		r := a
		if i%2 == 1 {
			r = b
		}
		ops := []register.Op{
			{Key: fmt.Sprintf("w/%d", i%5), Value: []byte{1}}, {Key: fmt.Sprintf("w/x%d", i), Value: nil}, {Key: "other", Value: nil},
		}
		if i%3 == 0 {
			ops[0] = register.Op{Key: "w/1", Delete: true}
		}
		existed := i%3 != 0 || hasKey(t, r, "w/1")
		rev := must(r.Txn(ctx, register.Txn{Then: ops}))
		if existed {
			want[rev] = append(want[rev], ops[0].Key)
		}
		want[rev] = append(want[rev], ops[1].Key)
	}
	for i, watch := range watches {
		got := map[int64][]string{}
		last := int64(0)
		for len(got) < len(want) {
			batch := receive(t, watch)
			for _, e := range batch {
				if e.Rev < last {
					t.Fatalf("watch %d: revision %d after %d", i, e.Rev, last)
				}
				last = e.Rev
				got[e.Rev] = append(got[e.Rev], e.Key)
			}
			if next := batch[0].Rev; len(got[next]) != len(want[next]) {
				t.Fatalf("watch %d: transaction %d came in pieces: %v", i, next, batch)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("watch %d: %s", i, diff)
		}
	}
}

func testWatchFromRevision(t *testing.T, open store) {
	ctx, r := t.Context(), open()
	must(register.Put(ctx, r, "a/old", nil))
	_, rev, err := r.List(ctx, "a/")
	if err != nil {
		t.Fatal(err)
	}
	must(register.Put(ctx, r, "a/new", []byte("v")))
	batch := receive(t, r.Watch(ctx, "a/", rev))
	if len(batch) != 1 || batch[0].Key != "a/new" || string(batch[0].Value) != "v" || batch[0].Deleted {
		t.Fatalf("first batch after the list: %+v", batch)
	}
	if err := register.Delete(ctx, r, "a/new", batch[0].Rev); err != nil {
		t.Fatal(err)
	}
	batch = receive(t, r.Watch(ctx, "a/", batch[0].Rev))
	if len(batch) != 1 || !batch[0].Deleted || batch[0].Key != "a/new" || batch[0].Value != nil {
		t.Fatalf("deletion: %+v", batch)
	}
}

// testWatchUnknownRevision asks for the changes after a revision that the register never reached.
func testWatchUnknownRevision(t *testing.T, open store) {
	watch := open().Watch(t.Context(), "", 1<<40)
	select {
	case batch, ok := <-watch:
		if ok {
			t.Fatalf("delivered %v", batch)
		}
	case <-time.After(waitMax):
		t.Fatal("the watch hangs instead of telling its consumer to list")
	}
}

// testWatchReplays uses a watch for what it is for: a copy that equals the register at the end.
func testWatchReplays(t *testing.T, open store) {
	ctx, writer, reader := t.Context(), open(), open()
	watch := reader.Watch(ctx, "c/", 0)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 120 {
			op := register.Op{Key: fmt.Sprintf("c/%d", i*7%11), Value: []byte(strconv.Itoa(i)), Delete: i%4 == 3}
			if _, err := writer.Txn(ctx, register.Txn{Then: []register.Op{op}}); err != nil {
				t.Error(err)
			}
		}
		must(register.Put(ctx, writer, "c/end", nil))
	})
	content := map[string]string{}
	for {
		for _, e := range receive(t, watch) {
			content[e.Key] = string(e.Value)
			if e.Deleted {
				delete(content, e.Key)
			}
		}
		if _, ended := content["c/end"]; ended {
			break
		}
	}
	wg.Wait()
	entries, _, err := reader.List(ctx, "c/")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, e := range entries {
		want[e.Key] = string(e.Value)
	}
	if diff := cmp.Diff(want, content); diff != "" {
		t.Fatal(diff)
	}
}

func testWatchEnds(t *testing.T, open store) {
	ctx, cancel := context.WithCancel(t.Context())
	watch := open().Watch(ctx, "", 0)
	cancel()
	select {
	case _, ok := <-watch:
		if ok {
			t.Fatal("an event out of nothing")
		}
	case <-time.After(waitMax):
		t.Fatal("the channel stays open after its context")
	}
}

func testValuesAreCopied(t *testing.T, open store) {
	ctx, r := t.Context(), open()
	value := []byte("before")
	must(register.Put(ctx, r, "k", value))
	copy(value, "after!")
	if e := must(r.Get(ctx, "k")); string(e.Value) != "before" {
		t.Fatalf("the caller's buffer is the register's value: %s", e.Value)
	}
}

func testContextEnded(t *testing.T, open store) {
	r := open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := register.Put(ctx, r, "k", nil); !errors.Is(err, context.Canceled) {
		// A transaction that needs no waiting may succeed; it must not claim to have failed.
		if _, got := r.Get(t.Context(), "k"); err != nil || got != nil {
			t.Fatalf("put: %v, get: %v", err, got)
		}
	}
}

func testMirror(t *testing.T, open store) {
	ctx, writer, reader := t.Context(), open(), open()
	must(register.Put(ctx, writer, "m/a", []byte("1")))
	must(register.Put(ctx, writer, "n/a", []byte("1")))
	told := &recorder{content: map[string]string{}}
	m, err := register.OpenMirror(ctx, reader, register.MirrorOptions{
		Prefix: "m/", Now: time.Now, RenewEvery: time.Hour, Changed: told.apply,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	told.wait(t, map[string]string{"m/a": "1"})
	must(register.Put(ctx, writer, "m/b", []byte("2")))
	told.wait(t, map[string]string{"m/a": "1", "m/b": "2"})
	must(writer.Txn(ctx, register.Txn{Then: []register.Op{{Key: "m/a", Delete: true}, {Key: "m/b", Value: []byte("3")}}}))
	told.wait(t, map[string]string{"m/b": "3"})
	if e, found := m.Get("m/b"); !found || string(e.Value) != "3" {
		t.Fatalf("mirror has %+v", e)
	}
}

// testMirrorOwnWrites lets one process write through its mirror while another writes the same keys; after every own write
// the mirror must not show anything older, and at the end it must equal the register.
func testMirrorOwnWrites(t *testing.T, open store) {
	ctx, mine, other := t.Context(), open(), open()
	told := &recorder{content: map[string]string{}}
	m, err := register.OpenMirror(ctx, mine, register.MirrorOptions{
		Prefix: "m/", Now: time.Now, RenewEvery: time.Millisecond, Changed: told.apply,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var wg sync.WaitGroup
	wg.Go(func() { writeMixed(t, other, 60, func(int64, []register.Op) {}) })
	writeMixed(t, mine, 60, func(rev int64, ops []register.Op) {
		m.Wrote(rev, ops)
		if e, found := m.Get(ops[0].Key); found && e.Rev < rev {
			t.Errorf("after an own write at %d the mirror shows %d", rev, e.Rev)
		}
	})
	wg.Wait()
	entries, _, err := mine.List(ctx, "m/")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, e := range entries {
		want[e.Key] = string(e.Value)
	}
	told.wait(t, want)
}

func writeMixed(t *testing.T, r register.Register, n int, wrote func(int64, []register.Op)) {
	for i := range n {
		ops := []register.Op{{Key: fmt.Sprintf("m/%d", i%3), Value: []byte(strconv.Itoa(i)), Delete: i%5 == 4}}
		rev, err := r.Txn(t.Context(), register.Txn{Then: ops})
		if err != nil {
			t.Error(err)
			return
		}
		wrote(rev, ops)
	}
}

// recorder keeps what a mirror told, and fails on an event that goes back in time.
type recorder struct {
	mu      sync.Mutex
	content map[string]string
}

func (r *recorder) apply(events []register.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		if e.Deleted {
			delete(r.content, e.Key)
		} else {
			r.content[e.Key] = string(e.Value)
		}
	}
}

func (r *recorder) wait(t *testing.T, want map[string]string) {
	t.Helper()
	diff := ""
	for end := time.Now().Add(waitMax); time.Now().Before(end); time.Sleep(time.Millisecond) {
		r.mu.Lock()
		diff = cmp.Diff(want, r.content)
		r.mu.Unlock()
		if diff == "" {
			return
		}
	}
	t.Fatalf("the mirror did not arrive: %s", diff)
}

func receive(t *testing.T, watch <-chan []register.Event) []register.Event {
	t.Helper()
	select {
	case batch, ok := <-watch:
		if !ok || len(batch) == 0 {
			t.Fatalf("watch ended: %v, or an empty batch", !ok)
		}
		return batch
	case <-time.After(waitMax):
		t.Fatal("no event")
		return nil
	}
}

func hasKey(t *testing.T, r register.Register, key string) bool {
	t.Helper()
	_, err := r.Get(t.Context(), key)
	if err != nil && !errors.Is(err, register.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func wantEntry(t *testing.T, r register.Register, want register.Entry) {
	t.Helper()
	got, err := r.Get(t.Context(), want.Key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func wantKeys(t *testing.T, r register.Register, want ...string) {
	t.Helper()
	entries, _, err := r.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, keys(entries)); diff != "" {
		t.Fatal(diff)
	}
}

func keys(entries []register.Entry) []string {
	var list []string
	for _, e := range entries {
		list = append(list, e.Key)
	}
	return list
}

// must is for calls whose failure makes the rest of a test meaningless.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
