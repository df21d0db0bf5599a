package register

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/statesvc/statesvc/internal/etcd"
)

// etcdPatience is how long a test waits for what takes a second or two on an idle machine.
const etcdPatience = 30 * time.Second

// named are the errors of Txn after which nothing has happened.
var named = []error{ErrConflict, ErrInvalid, ErrFull, ErrClosed, ErrDeposed, ErrSessionLost}

func startEtcd(t *testing.T, members int) *etcd.Cluster {
	t.Helper()
	cluster, err := etcd.StartCluster(t.Context(), members)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	return cluster
}

func openEtcd(t *testing.T, endpoints []string, prefix string) *Etcd {
	t.Helper()
	e, err := OpenEtcd(t.Context(), EtcdConfig{Endpoints: endpoints, Prefix: prefix, DialTimeout: etcdPatience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ended waits for the end of something.
func ended(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(etcdPatience):
		t.Fatalf("%s has not ended", what)
	}
}

// nextBatch returns the next batch of a watch, or nil when it is closed.
func nextBatch(t *testing.T, watch <-chan []Event) []Event {
	t.Helper()
	select {
	case batch := <-watch:
		return batch
	case <-time.After(etcdPatience):
		t.Fatal("no event")
		return nil
	}
}

// TestEtcd is what one member is enough for.
func TestEtcd(t *testing.T) {
	t.Parallel()
	cluster := startEtcd(t, 1)
	tests := []struct {
		name string
		test func(t *testing.T, open func() *Etcd)
	}{
		{"LongList", testLongList},
		{"Lists", testLists},
		{"RenewedTogether", testRenewedTogether},
		{"Prefixes", testPrefixes},
		{"Compaction", testCompaction},
		{"Closed", testEtcdClosed},
		{"SessionExpires", testSessionExpires},
		{"SessionCloses", testSessionCloses},
		{"SessionRevoked", testSessionRevoked},
		{"Campaigners", testCampaigners},
		{"Deposed", testDeposed},
		{"CampaignGivenUp", testCampaignGivenUp},
		{"Leaderless", testLeaderless},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.test(t, func() *Etcd { return openEtcd(t, cluster.Endpoints(), "/"+test.name+"/") })
		})
	}
}

// testLists lists prefixes together, a long one, a short one and an empty one, as of one revision.
func testLists(t *testing.T, open func() *Etcd) {
	e := open()
	const long = listPage + 5
	for from := 0; from < long; from += MaxOps {
		var txn Txn
		for i := from; i < min(long, from+MaxOps); i++ {
			txn.Then = append(txn.Then, Op{Key: fmt.Sprintf("long/%05d", i)})
		}
		_, err := e.Txn(t.Context(), txn)
		noError(t, err)
	}
	written, err := Put(t.Context(), e, "short/a", []byte("1"))
	noError(t, err)
	lists, rev, err := e.Lists(t.Context(), []string{"short/", "long/", "none/"})
	noError(t, err)
	if len(lists[0]) != 1 || lists[0][0].Rev != written || len(lists[1]) != long || len(lists[2]) != 0 || rev < written {
		t.Errorf("%d, %d and %d entries at revision %d", len(lists[0]), len(lists[1]), len(lists[2]), rev)
	}
	if last := lists[1][long-1].Key; last != fmt.Sprintf("long/%05d", long-1) {
		t.Errorf("the last one is %s", last)
	}
}

// testRenewedTogether: mirrors that are renewed together are as fresh as others, see what their watches did not tell, and are not renewed
// any more when that ends.
func testRenewedTogether(t *testing.T, open func() *Etcd) {
	e := open()
	ctx, stop := context.WithCancel(t.Context())
	var mirrors []*Mirror
	for _, prefix := range []string{"a/", "b/"} {
		m, err := OpenMirror(ctx, e, MirrorOptions{Prefix: prefix, Now: time.Now, RenewEvery: time.Hour, Changed: func([]Event) {}})
		noError(t, err)
		t.Cleanup(m.Close)
		mirrors = append(mirrors, m)
	}
	var renewing sync.WaitGroup
	renewing.Go(func() { RenewTogether(ctx, e, 5*time.Millisecond, mirrors...) })
	for i, m := range mirrors {
		opened := m.FreshAt()
		_, err := Put(ctx, e, m.opts.Prefix+"k", []byte{byte(i)})
		noError(t, err)
		for begin := time.Now(); ; time.Sleep(time.Millisecond) {
			entry, found := m.Get(m.opts.Prefix + "k")
			if m.FreshAt().After(opened) && found && entry.Value[0] == byte(i) {
				break
			}
			if time.Since(begin) > etcdPatience {
				t.Fatalf("%s is not renewed", m.opts.Prefix)
			}
		}
	}
	stop()
	renewing.Wait()
	at := mirrors[0].FreshAt()
	time.Sleep(20 * time.Millisecond)
	if mirrors[0].FreshAt() != at {
		t.Error("somebody renews it after all")
	}
}

// testLongList lists several pages while two keys, one on the first page and one on the last, are always changed together.
func testLongList(t *testing.T, open func() *Etcd) {
	e := open()
	const keys = 2*listPage + 5
	for from := 0; from < keys; from += MaxOps {
		var txn Txn
		for i := from; i < min(keys, from+MaxOps); i++ {
			txn.Then = append(txn.Then, Op{Key: fmt.Sprintf("k/%05d", i)})
		}
		_, err := e.Txn(t.Context(), txn)
		noError(t, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	both := Txn{Then: []Op{{Key: "k/00000"}, {Key: fmt.Sprintf("k/%05d", keys-1)}}}
	_, err := e.Txn(ctx, both)
	noError(t, err)
	var writer sync.WaitGroup
	writer.Go(func() {
		for ctx.Err() == nil {
			_, _ = e.Txn(ctx, both)
		}
	})
	defer writer.Wait()
	defer stop()
	for range 20 {
		list, rev, err := e.List(t.Context(), "k/")
		noError(t, err)
		first, last := list[0], list[len(list)-1]
		if len(list) != keys || first.Rev > rev || first.Rev != last.Rev {
			t.Fatalf("%d keys at %d; the first was written at %d, the last, with it, at %d", len(list), rev, first.Rev, last.Rev)
		}
		if !slices.IsSortedFunc(list, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) }) {
			t.Fatal("not sorted")
		}
	}
}

// testPrefixes has two registers in one cluster; neither knows of the other.
func testPrefixes(t *testing.T, open func() *Etcd) {
	mine := open()
	other := openEtcd(t, mine.client.Endpoints(), mine.prefix[:len(mine.prefix)-1]+"0/")
	watch := mine.Watch(t.Context(), "", 0)
	_, err := Put(t.Context(), other, "k", nil)
	noError(t, err)
	rev, err := Put(t.Context(), mine, "k", []byte("mine"))
	noError(t, err)
	want := []Event{{Entry: Entry{Key: "k", Value: []byte("mine"), Rev: rev}}}
	if diff := cmp.Diff(want, nextBatch(t, watch)); diff != "" {
		t.Error(diff)
	}
	list, _, err := mine.List(t.Context(), "")
	noError(t, err)
	if diff := cmp.Diff([]Entry{want[0].Entry}, list); diff != "" {
		t.Error(diff)
	}
	for _, prefix := range []string{"", "/statesvc", "/a b/", "/" + fmt.Sprintf("%0*d", etcdPrefixMax, 0) + "/"} {
		if _, err := OpenEtcd(t.Context(), EtcdConfig{Endpoints: mine.client.Endpoints(), Prefix: prefix}); !errors.Is(err, ErrInvalid) {
			t.Errorf("prefix %q: %v", prefix, err)
		}
	}
}

// testCompaction takes away what a watch would have to deliver.
func testCompaction(t *testing.T, open func() *Etcd) {
	e := open()
	old, err := Put(t.Context(), e, "k", []byte("1"))
	noError(t, err)
	for range 3 {
		_, err = Put(t.Context(), e, "k", []byte("2"))
		noError(t, err)
	}
	list, rev, err := e.List(t.Context(), "")
	noError(t, err)
	_, err = e.client.Compact(t.Context(), rev)
	noError(t, err)
	if batch := nextBatch(t, e.Watch(t.Context(), "", old)); batch != nil {
		t.Fatalf("delivered %v, with a gap before it", batch)
	}
	watch := e.Watch(t.Context(), "", rev)
	next, err := Put(t.Context(), e, "k", []byte("3"))
	noError(t, err)
	if batch := nextBatch(t, watch); len(list) != 1 || len(batch) != 1 || batch[0].Rev != next {
		t.Fatalf("after listing %v at %d: %v", list, rev, batch)
	}
}

func testEtcdClosed(t *testing.T, open func() *Etcd) {
	e := open()
	s, err := e.NewSession(t.Context(), time.Minute)
	noError(t, err)
	watch := e.Watch(t.Context(), "", 0)
	noError(t, e.Close())
	ended(t, "the session of a closed register", s.Done())
	for range watch {
		t.Fatal("an event out of nothing")
	}
	_, errGet := e.Get(t.Context(), "k")
	_, _, errList := e.List(t.Context(), "")
	_, errPut := Put(t.Context(), e, "k", nil)
	_, errSession := e.NewSession(t.Context(), time.Minute)
	for _, err := range []error{errGet, errList, errPut, errSession} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if _, open := <-e.Watch(t.Context(), "", 0); open {
		t.Error("a watch of a closed register")
	}
}

// TestEtcdFaults is what takes three members.
func TestEtcdFaults(t *testing.T) {
	t.Parallel()
	cluster := startEtcd(t, 3)
	t.Run("WatchOverLeaders", func(t *testing.T) { testWatchOverLeaders(t, cluster) })
	t.Run("HangingMember", func(t *testing.T) { testHangingMember(t, cluster) })
	t.Run("QuorumLost", func(t *testing.T) { testQuorumLost(t, cluster) })
}

// testWatchOverLeaders kills the leading member twice while somebody writes. Whatever was acknowledged arrives at the watcher,
// once and in order.
func testWatchOverLeaders(t *testing.T, cluster *etcd.Cluster) {
	e := openEtcd(t, cluster.Endpoints(), "/leaders/")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var acknowledged []int64
	var writer sync.WaitGroup
	writer.Go(func() { acknowledged = writeUntil(ctx, e) })
	seen := make(chan []int64)
	go func() { seen <- watchUntil(t.Context(), e, "end") }()
	for range 2 {
		leader, err := cluster.Leader(t.Context())
		noError(t, err)
		noError(t, leader.Kill())
		_, err = Update(t.Context(), e, "between", func(Entry) ([]byte, error) { return nil, nil })
		if err != nil {
			t.Log("at the change of leaders:", err)
		}
		noError(t, leader.Restart(t.Context()))
	}
	stop()
	writer.Wait()
	_, err := Put(t.Context(), e, "end", nil)
	noError(t, err)
	arrived := <-seen
	if !slices.IsSorted(arrived) || len(slices.Compact(slices.Clone(arrived))) != len(arrived) {
		t.Errorf("out of order, or twice: %v", arrived)
	}
	for _, rev := range acknowledged {
		if _, found := slices.BinarySearch(arrived, rev); !found {
			t.Errorf("revision %d was acknowledged and did not arrive", rev)
		}
	}
	t.Logf("%d writes acknowledged, %d arrived", len(acknowledged), len(arrived))
}

// writeUntil writes until ctx ends, and returns the revisions of what was acknowledged.
func writeUntil(ctx context.Context, e *Etcd) (revs []int64) {
	for i := 0; ctx.Err() == nil; i++ {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		if rev, err := Put(attempt, e, "k/"+strconv.Itoa(i%3), []byte(strconv.Itoa(i))); err == nil {
			revs = append(revs, rev)
		}
		cancel()
	}
	return revs
}

// watchUntil watches, again after each loss, until it sees key, and returns the revisions that it saw.
func watchUntil(ctx context.Context, e *Etcd, key string) (revs []int64) {
	after := int64(0)
	for ctx.Err() == nil {
		for batch := range e.Watch(ctx, "", after) {
			for _, event := range batch {
				if event.Key == key {
					return revs
				}
				revs, after = append(revs, event.Rev), event.Rev
			}
		}
	}
	return revs
}

// testHangingMember pauses a member that does not lead, for longer than a session lives: reads, sessions and leadership go on.
func testHangingMember(t *testing.T, cluster *etcd.Cluster) {
	e := openEtcd(t, cluster.Endpoints(), "/hanging/")
	const ttl = 2 * time.Second
	s, err := e.NewSession(t.Context(), ttl)
	noError(t, err)
	leader, err := cluster.Leader(t.Context())
	noError(t, err)
	hanging := cluster.Others(leader)[0]
	noError(t, hanging.Pause())
	defer func() { noError(t, hanging.Resume()) }()
	for over := time.After(ttl + ttl/2); ; {
		if _, err := e.Get(t.Context(), "k"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		select {
		case <-s.Done():
			t.Fatal("the session was lost with one of three members")
		case <-over:
			noError(t, s.Close(t.Context()))
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// testQuorumLost leaves one member of three. Nobody is answered, not even who only asks whether a condition holds: what that
// member knows may be old, and watches end. When a second one comes back, all goes on.
func testQuorumLost(t *testing.T, cluster *etcd.Cluster) {
	e := openEtcd(t, cluster.Endpoints(), "/quorum/")
	rev, err := Put(t.Context(), e, "k", []byte("1"))
	noError(t, err)
	watch := e.Watch(t.Context(), "", rev)
	rev, err = Put(t.Context(), e, "k", []byte("1"))
	noError(t, err)
	if batch := nextBatch(t, watch); len(batch) != 1 { // it has begun, and is not one that waits for a majority in silence
		t.Fatalf("the watch delivers %v", batch)
	}
	killed := cluster.Members[1:]
	for _, member := range killed {
		noError(t, member.Kill())
	}
	calls := map[string]func(ctx context.Context) error{
		"get":  func(ctx context.Context) error { _, err := e.Get(ctx, "k"); return err },
		"list": func(ctx context.Context) error { _, _, err := e.List(ctx, ""); return err },
		"put":  func(ctx context.Context) error { _, err := Put(ctx, e, "k", []byte("2")); return err },
		"check": func(ctx context.Context) error {
			_, err := e.Txn(ctx, Txn{If: []Cond{{Key: "k", Rev: rev}}})
			return err
		},
		"empty": func(ctx context.Context) error { _, err := e.Txn(ctx, Txn{}); return err },
		"begin": func(ctx context.Context) error { _, err := e.NewSession(ctx, time.Minute); return err },
	}
	var all sync.WaitGroup
	for name, call := range calls {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
			defer cancel()
			err := call(ctx)
			for _, known := range append(named, ErrNotFound, nil) {
				if errors.Is(err, known) {
					t.Errorf("%s without quorum: %v", name, err)
				}
			}
			// A transaction on its way to a killed member may break off earlier; its outcome is as unknown.
			if slices.Contains([]string{"get", "list", "begin"}, name) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s without quorum: %v", name, err)
			}
		})
	}
	all.Wait()
	if batch := nextBatch(t, watch); batch != nil {
		t.Errorf("a member without majority delivers %v", batch)
	}
	noError(t, killed[0].Restart(t.Context()))
	entry, err := e.Get(t.Context(), "k")
	noError(t, err)
	if value := string(entry.Value); value != "1" && value != "2" {
		t.Errorf("after all: %+v", entry)
	}
	_, err = Update(t.Context(), e, "k", func(Entry) ([]byte, error) { return []byte("3"), nil })
	noError(t, err)
}

// oddServer is a server that applies every transaction and then answers with an error, as one that is about to stop does.
type oddServer struct {
	pb.UnimplementedKVServer

	mu      sync.Mutex
	answer  error
	applied int
}

func (s *oddServer) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 1}}, nil
}

func (s *oddServer) Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied++
	return nil, s.answer
}

// TestEtcdSendsOnce: whatever the answer is, a transaction is not sent again, for it may have happened.
func TestEtcdSendsOnce(t *testing.T) {
	t.Parallel()
	odd := &oddServer{}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, odd)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	noError(t, err)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	e := openEtcd(t, []string{listener.Addr().String()}, "/odd/")
	for _, code := range []codes.Code{codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Unknown, codes.ResourceExhausted} {
		odd.mu.Lock()
		odd.answer, odd.applied = status.Error(code, "odd"), 0
		odd.mu.Unlock()
		_, err := Create(t.Context(), e, "k", nil)
		for _, known := range append(named, nil) {
			if errors.Is(err, known) {
				t.Errorf("%s: the outcome is not unknown: %v", code, err)
			}
		}
		odd.mu.Lock()
		if odd.applied != 1 {
			t.Errorf("%s: sent %d times", code, odd.applied)
		}
		odd.mu.Unlock()
	}
}

// TestBacklog: who does not take what has arrived is told to list again, before it fills the memory.
func TestBacklog(t *testing.T) {
	t.Parallel()
	var b backlog
	batch := []Event{{Entry: Entry{Key: "k", Value: make([]byte, historyBytesMax/4)}}}
	for range 10 * historyEventsMax {
		noError(t, b.add(batch))
		b.sent()
	}
	for range 3 {
		noError(t, b.add(batch))
	}
	if err := b.add(batch); !errors.Is(err, errSlowWatcher) {
		t.Errorf("%d bytes wait: %v", b.bytes, err)
	}
}
