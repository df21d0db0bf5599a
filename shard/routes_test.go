package shard

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/statesvc/statesvc/register"
)

// routesTest is a file register with a map of two shards, and routes that follow it.
type routesTest struct {
	*testing.T
	reg    register.Register
	routes *Routes
}

func newRoutesTest(t *testing.T) routesTest {
	t.Helper()
	reg, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	rt := routesTest{T: t, reg: reg}
	rt.putMap(func(*Map) {})
	rt.putRecord(1, 1, PhaseServing, "n1")
	rt.putRecord(2, 5, PhaseServing, "n1")
	rt.routes = rt.open()
	return rt
}

func (t routesTest) open() *Routes {
	t.Helper()
	routes, err := OpenRoutes(t.Context(), t.reg, RoutesOptions{
		Now: time.Now, RenewEvery: time.Hour, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(routes.Close)
	return routes
}

func (t routesTest) put(key, value string) {
	t.Helper()
	if _, err := register.Put(t.Context(), t.reg, key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func (t routesTest) putMap(edit func(*Map)) {
	t.Helper()
	t.put(MapKey, t.mapText(edit))
}

func (t routesTest) mapText(edit func(*Map)) string {
	t.Helper()
	m, err := NewUniformMap([]string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	edit(&m)
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (t routesTest) putRecord(shard int, epoch uint64, phase Phase, primary string) {
	t.Helper()
	t.put(RecordKey(shard), t.recordText(epoch, phase, primary))
}

func (t routesTest) recordText(epoch uint64, phase Phase, primary string) string {
	t.Helper()
	r := Record{
		Epoch: epoch, Phase: phase, Primary: primary,
		Nodes: map[string]Node{"n1": {Address: "db1"}, "n2": {Address: "db2"}},
	}
	text, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// eventually waits until the routes satisfy holds, looking again after each change.
func (t routesTest) eventually(what string, holds func() bool) {
	t.Helper()
	for {
		changed := t.routes.Changed()
		if holds() {
			return
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: it has not happened", what)
		}
	}
}

const (
	bucketOfA = Bucket(0)           // on shard 1
	bucketOfB = Bucket(Buckets - 1) // on shard 2
)

func TestRoute(t *testing.T) {
	rt := newRoutesTest(t)
	for _, want := range []Route{
		{Bucket: bucketOfA, Shard: 1, Epoch: 1, Phase: PhaseServing, Node: "n1", Address: "db1"},
		{Bucket: bucketOfB, Shard: 2, Epoch: 5, Phase: PhaseServing, Node: "n1", Address: "db1"},
	} {
		if got, err := rt.routes.Route(want.Bucket); err != nil || got != want {
			t.Errorf("Route(%d) = %+v, %v, want %+v", want.Bucket, got, err, want)
		}
		if number, ok := rt.routes.Lookup(want.Bucket); !ok || number != want.Shard {
			t.Errorf("Lookup(%d) = %d, %v", want.Bucket, number, ok)
		}
	}
	if got, err := rt.routes.Shard(2); err != nil || got.Epoch != 5 {
		t.Errorf("Shard(2) = %+v, %v", got, err)
	}
	if got, err := rt.routes.Shard(3); !errors.Is(err, ErrStaleRoute) {
		t.Errorf("Shard(3) = %+v, %v", got, err)
	}
	if time.Since(rt.routes.FreshAt()) > time.Minute {
		t.Errorf("fresh at %s", rt.routes.FreshAt())
	}
}

func TestEraIsBaseAndEpoch(t *testing.T) {
	if era := (Route{EraBase: -3, Epoch: 5}).Era(); era != 2 {
		t.Errorf("era %d, want 2", era)
	}
}

// A cluster may be made while instances already run.
func TestRoutesBeforeTheMap(t *testing.T) {
	reg, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	rt := routesTest{T: t, reg: reg}
	rt.routes = rt.open()
	stale, err := rt.routes.Route(bucketOfB)
	if !errors.Is(err, ErrStaleRoute) || stale.Bucket != bucketOfB {
		t.Fatalf("Route = %+v, %v", stale, err)
	}
	if _, ok := rt.routes.Lookup(bucketOfB); ok {
		t.Error("Lookup knows a shard")
	}
	if _, ok := rt.routes.Map(); ok {
		t.Error("there is a map")
	}
	rt.putMap(func(*Map) {})
	rt.eventually("the map arrives", func() bool { _, ok := rt.routes.Map(); return ok })
	if _, err := rt.routes.Route(bucketOfB); !errors.Is(err, ErrStaleRoute) {
		t.Errorf("without a record: %v, want ErrStaleRoute", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- rt.routes.WaitNewer(t.Context(), stale) }()
	rt.putRecord(2, 1, PhaseServing, "n1")
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if _, err := rt.routes.Route(bucketOfB); err != nil {
		t.Error(err)
	}
}

// The story of a failover as a request sees it: the stale route waits through all phases and ends on the new primary.
func TestWaitNewerThroughAFailover(t *testing.T) {
	rt := newRoutesTest(t)
	stale, err := rt.routes.Route(bucketOfA)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- rt.routes.WaitNewer(t.Context(), stale) }()

	rt.putRecord(1, 2, PhaseFencing, "n1")
	rt.eventually("the shard is closed", func() bool {
		_, err := rt.routes.Route(bucketOfA)
		return errors.Is(err, ErrStaleRoute)
	})
	rt.putRecord(2, 6, PhaseServing, "n2") // another shard's affair
	rt.putRecord(1, 2, PhasePromoting, "n2")
	rt.eventually("the candidate is known", func() bool {
		record, _ := rt.routes.Record(1)
		return record.Phase == PhasePromoting
	})
	select {
	case err := <-waited:
		t.Fatalf("the wait ended before the shard served: %v", err)
	default:
	}

	rt.putRecord(1, 2, PhaseServing, "n2")
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	want := Route{Bucket: bucketOfA, Shard: 1, Epoch: 2, Phase: PhaseServing, Node: "n2", Address: "db2"}
	if got, err := rt.routes.Route(bucketOfA); err != nil || got != want {
		t.Errorf("Route = %+v, %v, want %+v", got, err, want)
	}
	if err := rt.routes.WaitNewer(t.Context(), stale); err != nil { // who comes late need not wait
		t.Error(err)
	}
}

func TestWaitNewerThroughAMove(t *testing.T) {
	rt := newRoutesTest(t)
	stale, err := rt.routes.Route(bucketOfA)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- rt.routes.WaitNewer(t.Context(), stale) }()
	rt.putMap(func(m *Map) {
		m.Version = 2
		m.Runs = []Run{{From: 0, To: 0, Shard: 2, EraBase: -3}, {From: 1, To: Buckets - 1, Shard: 2}}
	})
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	moved, err := rt.routes.Route(bucketOfA)
	if err != nil || moved.Shard != 2 || moved.Era() != stale.Era()+1 {
		t.Errorf("Route = %+v, %v", moved, err)
	}
}

func TestWaitNewerGivesUp(t *testing.T) {
	rt := newRoutesTest(t)
	stale, err := rt.routes.Route(bucketOfA)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := rt.routes.WaitNewer(ended, stale); !errors.Is(err, ErrFailover) {
		t.Errorf("after the caller's deadline: %v, want ErrFailover", err)
	}
	begun := time.Now()
	if err := rt.routes.WaitNewer(t.Context(), stale); !errors.Is(err, ErrFailover) {
		t.Errorf("after %s: %v, want ErrFailover", time.Since(begun), err)
	}
	if waited := time.Since(begun); waited < staleWait {
		t.Errorf("gave up after %s", waited)
	}
}

// What cannot be right does not replace what is known, and does not keep what comes after it from being taken.
func TestRoutesKeepTheLastGoodValues(t *testing.T) {
	rt := newRoutesTest(t)
	rt.putMap(func(m *Map) { m.Version = 3 })
	rt.putRecord(1, 4, PhaseServing, "n2")
	rt.eventually("the values arrive", func() bool {
		m, _ := rt.routes.Map()
		record, _ := rt.routes.Record(1)
		return m.Version == 3 && record.Epoch == 4
	})

	rt.put(MapKey, `{"version":9}`)
	rt.putMap(func(m *Map) { m.Version = 2 })
	rt.put("mapped", rt.mapText(func(m *Map) { m.Version = 8 })) // another key
	rt.put(RecordKey(1), `{"epoch":9}`)
	rt.put(RecordPrefix+"x", "no number")
	rt.put(RecordPrefix+"01", rt.recordText(8, PhaseServing, "n1")) // not the key of shard 1
	rt.putRecord(1, 3, PhaseServing, "n1")
	entry, err := rt.reg.Get(t.Context(), MapKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := register.Delete(t.Context(), rt.reg, MapKey, entry.Rev); err != nil {
		t.Fatal(err)
	}
	rt.putRecord(2, 99, PhaseServing, "n1") // the last of the records to arrive
	rt.eventually("the records have arrived", func() bool {
		record, _ := rt.routes.Record(2)
		return record.Epoch == 99
	})
	if m, ok := rt.routes.Map(); !ok || m.Version != 3 {
		t.Errorf("the map is %+v", m)
	}
	if record, _ := rt.routes.Record(1); record.Epoch != 4 {
		t.Errorf("the record is %+v", record)
	}

	rt.putMap(func(m *Map) { m.Version = 4 }) // the last of the maps
	rt.eventually("the map arrives", func() bool { m, _ := rt.routes.Map(); return m.Version == 4 })
}

// A slow reader gets many changes as one batch; a bad one among them must not hide the good one after it.
func TestBadMapDoesNotHideTheNext(t *testing.T) {
	r := newRoutes(slog.New(slog.DiscardHandler))
	r.mapChanged([]register.Event{
		{Entry: register.Entry{Key: MapKey, Value: []byte("bad")}},
		{Entry: register.Entry{Key: MapKey, Value: []byte(mapText)}},
	})
	if _, ok := r.Map(); !ok {
		t.Error("the good map was not taken")
	}
}

// Requests read a view without a lock, so it must stay as it is.
func TestViewsDoNotChange(t *testing.T) {
	r := newRoutes(slog.New(slog.DiscardHandler))
	change := func(epoch uint64) *view {
		text := routesTest{T: t}.recordText(epoch, PhaseServing, "n1")
		r.recordsChanged([]register.Event{{Entry: register.Entry{Key: RecordKey(1), Value: []byte(text)}}})
		return r.view.Load()
	}
	before := change(1)
	if after := change(2); before.records[1].Epoch != 1 || after.records[1].Epoch != 2 {
		t.Errorf("epochs %d and %d, want 1 and 2", before.records[1].Epoch, after.records[1].Epoch)
	}
}

func TestDeletedRecordIsForgotten(t *testing.T) {
	rt := newRoutesTest(t)
	entry, err := rt.reg.Get(t.Context(), RecordKey(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := register.Delete(t.Context(), rt.reg, RecordKey(1), entry.Rev); err != nil {
		t.Fatal(err)
	}
	rt.eventually("the record is gone", func() bool { _, ok := rt.routes.Record(1); return !ok })
}

func BenchmarkRoute(b *testing.B) {
	m, err := NewUniformMap([]string{"a", "b", "c", "d"})
	if err != nil {
		b.Fatal(err)
	}
	v := &view{shards: &m, records: map[int]Record{}}
	for _, s := range m.Shards {
		v.records[s.Number] = Record{Epoch: 1, Phase: PhaseServing, Primary: "n1", Nodes: map[string]Node{"n1": {"db1"}}}
	}
	r := &Routes{}
	r.view.Store(v)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Route(BucketOf("user-1")); err != nil {
			b.Fatal(err)
		}
	}
}
