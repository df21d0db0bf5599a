package register

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Limits of an etcd register; those of a transaction are beside Txn.
const (
	etcdPrefixMax   = 64               // it goes before each of the at most 256 keys of a request of at most 1.5 MiB
	etcdDialTTL     = 10 * time.Second // how long OpenEtcd waits for an answer, if the caller does not say
	listPage        = 1000             // entries in one answer: a long list must not block the member's other work
	listAttemptsMax = 10               // a list that is overtaken by compaction this often would never end

	// A member that is paused keeps its connections, and a read that it holds ends only here; then all members are asked.
	// Each attempt gets twice the time of the one before, so that a slow cluster answers in the end.
	readFirstTTL = 250 * time.Millisecond
	readLastTTL  = 4 * time.Second
	readPause    = 20 * time.Millisecond

	// A connection without an answer to a ping is given up. The gRPC library refuses to ping more often.
	pingEvery = 10 * time.Second
	pingTTL   = 2 * time.Second
)

// EtcdConfig says where the cluster is and what of it is ours.
type EtcdConfig struct {
	Endpoints   []string
	Prefix      string        // of all keys, ending in "/"; callers do not see it
	DialTimeout time.Duration // how long OpenEtcd waits for an answer; 0: etcdDialTTL
	Log         *slog.Logger  // hears why watches and sessions ended; nil: nobody does
}

// Etcd is a Register on an etcd cluster. Besides it has sessions and leadership; doc.go describes them and the traps.
type Etcd struct {
	client *clientv3.Client
	prefix string
	log    *slog.Logger
	ctx    context.Context
	stop   context.CancelFunc

	mu     sync.Mutex // guards closed, and that no loop starts after Close has begun to wait for them
	closed bool
	loops  sync.WaitGroup // watches, sessions and leaderships
}

var _ Register = (*Etcd)(nil)

// OpenEtcd connects to a cluster and returns when it has answered once. ctx bounds the opening only; Close ends it.
func OpenEtcd(ctx context.Context, cfg EtcdConfig) (*Etcd, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: cfg.Endpoints, DialKeepAliveTime: pingEvery, DialKeepAliveTimeout: pingTTL, Logger: zap.NewNop(),
		// One attempt, no repetition. By itself the client repeats a transaction only if it was not sent, but it also repeats
		// whatever the *server* answers with Canceled or DeadlineExceeded while our context lives, and that transaction may
		// have happened: its repetition would call itself a conflict. Reads are repeated here, in read.
		MaxUnaryRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("open etcd register: %w", err)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	e := &Etcd{client: client, prefix: cfg.Prefix, log: cfg.Log, ctx: life, stop: stop}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	dialling, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	if _, err := e.revision(dialling); err != nil {
		return nil, errors.Join(fmt.Errorf("open etcd register %v: %w", cfg.Endpoints, err), e.Close())
	}
	return e, nil
}

func (c *EtcdConfig) check() error {
	if c.DialTimeout == 0 {
		c.DialTimeout = etcdDialTTL
	}
	if err := checkKey(c.Prefix); err != nil {
		return fmt.Errorf("prefix of the etcd register: %w", err)
	}
	if len(c.Prefix) > etcdPrefixMax || !strings.HasSuffix(c.Prefix, "/") {
		return fmt.Errorf("%w: the prefix %q has more than %d bytes or does not end in /", ErrInvalid, c.Prefix, etcdPrefixMax)
	}
	return nil
}

// Close ends all watches, sessions and leaderships, waits for them and closes the connections. It revokes nothing: keys of
// sessions that were not closed stay until their time is over.
func (e *Etcd) Close() error {
	e.mu.Lock()
	wasClosed := e.closed
	e.closed = true
	e.mu.Unlock()
	if wasClosed {
		return nil
	}
	e.stop()
	e.loops.Wait()
	return e.client.Close()
}

// start runs loop, which must end with e.ctx, unless the handle is closed.
func (e *Etcd) start(loop func()) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	e.loops.Go(loop)
	return nil
}

// bound returns a context that ends with ctx or with the handle.
func (e *Etcd) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	bound, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(e.ctx, cancel)
	return bound, func() {
		release()
		cancel()
	}
}

// Get implements Register.
func (e *Etcd) Get(ctx context.Context, key string) (Entry, error) {
	if err := checkKey(key); err != nil {
		return Entry{}, err
	}
	resp, err := e.get(ctx, e.prefix+key)
	if err != nil {
		return Entry{}, fmt.Errorf("get %q: %w", key, err)
	}
	if len(resp.Kvs) == 0 {
		return Entry{}, fmt.Errorf("%w: %q", ErrNotFound, key)
	}
	return e.entry(resp.Kvs[0]), nil
}

// List implements Register. It reads page by page, all at the revision of the first.
func (e *Etcd) List(ctx context.Context, prefix string) (entries []Entry, rev int64, err error) {
	for range listAttemptsMax {
		entries, rev, err = e.listOnce(ctx, prefix)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			break // else the revision was compacted away between two pages: begin again with a newer one
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list %q: %w", prefix, err)
	}
	return entries, rev, nil
}

func (e *Etcd) pagesAt(ctx context.Context, prefix string, rev int64) ([]Entry, error) {
	entries, _, err := e.pages(ctx, prefix, rev)
	return entries, err
}

func (e *Etcd) listOnce(ctx context.Context, prefix string) (entries []Entry, rev int64, err error) {
	return e.pages(ctx, prefix, 0)
}

// pages reads a prefix at a revision; 0 is the newest one.
func (e *Etcd) pages(ctx context.Context, prefix string, rev int64) (entries []Entry, _ int64, err error) {
	from := e.prefix + prefix
	end := clientv3.GetPrefixRangeEnd(from)
	for {
		resp, err := e.get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(listPage), clientv3.WithRev(rev))
		if err != nil {
			return nil, 0, err
		}
		if rev == 0 {
			rev = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			entries = append(entries, e.entry(kv))
		}
		if !resp.More {
			return entries, rev, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00" // the next possible key
	}
}

// Lists returns the entries below each prefix, all as of one revision, and asks the cluster once if they are few.
func (e *Etcd) Lists(ctx context.Context, prefixes []string) (lists [][]Entry, rev int64, err error) {
	ops := make([]clientv3.Op, len(prefixes))
	for i, prefix := range prefixes {
		ops[i] = clientv3.OpGet(e.prefix+prefix, clientv3.WithPrefix(), clientv3.WithLimit(listPage))
	}
	resp, err := read(ctx, e, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return e.client.Txn(ctx).Then(ops...).Commit()
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list %d prefixes: %w", len(prefixes), err)
	}
	lists = make([][]Entry, len(prefixes))
	for i, one := range resp.Responses {
		found := one.GetResponseRange()
		for _, kv := range found.Kvs {
			lists[i] = append(lists[i], e.entry(kv))
		}
		if found.More {
			if lists[i], err = e.pagesAt(ctx, prefixes[i], resp.Header.Revision); err != nil {
				return nil, 0, fmt.Errorf("list %q: %w", prefixes[i], err)
			}
		}
	}
	return lists, resp.Header.Revision, nil
}

// revision returns the current revision of the cluster.
func (e *Etcd) revision(ctx context.Context) (int64, error) {
	resp, err := e.get(ctx, e.prefix)
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// get is a linearizable read; see read.
func (e *Etcd) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return read(ctx, e, func(ctx context.Context) (*clientv3.GetResponse, error) { return e.client.Get(ctx, key, opts...) })
}

// read asks until it is answered or ctx ends: first one member, then all at once. What it asks must do no harm when it is done
// several times.
func read[T any](ctx context.Context, e *Etcd, once func(ctx context.Context) (T, error)) (T, error) {
	members := 1
	for ttl := readFirstTTL; ; ttl = min(2*ttl, readLastTTL) {
		if e.ctx.Err() != nil {
			return *new(T), ErrClosed
		}
		attempt, cancel := context.WithTimeout(ctx, ttl)
		value, err := ask(attempt, members, once)
		cancel()
		if err == nil || !transient(err) {
			return value, err
		}
		if pause(ctx, readPause) != nil {
			return value, fmt.Errorf("%w, last attempt: %w", ctx.Err(), err)
		}
		members = len(e.client.Endpoints())
	}
}

// ask does once n times side by side, and returns the first answer, or an error that is none. The client takes the members in
// turn, so each is asked about once.
func ask[T any](ctx context.Context, n int, once func(ctx context.Context) (T, error)) (value T, err error) {
	type answer struct {
		value T
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer)
	for range n {
		go func() {
			value, err := once(ctx)
			answers <- answer{value, err}
		}()
	}
	answered := false
	for range n {
		if a := <-answers; !answered {
			value, err = a.value, a.err
			answered = err == nil || !transient(err)
		}
		if answered {
			cancel() // and wait for the others
		}
	}
	return value, err
}

// transient tells whether another member, or the same one later, may answer better.
func transient(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true // of the attempt: the caller looks at his own context
	}
	code := status.Code(err)
	if answered, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = answered.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted:
		return true
	default:
		return false // an answer
	}
}

// Txn implements Register. It is sent once. When the context ends before the answer, or the connection breaks, or the cluster
// has no leader or no space, the outcome is unknown: a full etcd applies the transaction that it complains about.
func (e *Etcd) Txn(ctx context.Context, txn Txn) (rev int64, err error) {
	return e.commit(ctx, txn, clientv3.NoLease, nil)
}

// commit is Txn. Puts carry the lease if there is one, and guard, if there is one, must still lead.
func (e *Etcd) commit(ctx context.Context, txn Txn, lease clientv3.LeaseID, guard *Leadership) (rev int64, err error) {
	if err := txn.check(); err != nil {
		return 0, err
	}
	if guard != nil && len(txn.If) == MaxOps {
		return 0, fmt.Errorf("%w: more than %d conditions beside the leader's key", ErrInvalid, MaxOps-1)
	}
	if e.ctx.Err() != nil {
		return 0, ErrClosed
	}
	// Something is always read, for etcd answers a transaction without any operation from the member's own, perhaps old state.
	conds, look := e.conds(txn.If), clientv3.OpGet(e.prefix)
	if guard != nil {
		conds = append(conds, guard.cond())
		look = clientv3.OpGet(e.prefix + guard.key)
	}
	resp, err := e.client.Txn(ctx).If(conds...).Then(e.ops(txn.Then, lease)...).Else(look).Commit()
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return 0, ErrSessionLost // the puts are checked before the first of them is made
	case err != nil:
		return 0, fmt.Errorf("etcd transaction: %w", withContext(ctx, err))
	case resp.Succeeded:
		return resp.Header.Revision, nil
	case guard != nil && !guard.isIn(resp.Responses[0].GetResponseRange().Kvs):
		return 0, ErrDeposed
	default:
		return 0, ErrConflict
	}
}

// withContext adds the end of ctx to an error that it has probably caused: the member's answer may be quicker.
func withContext(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// conds translates conditions. Of an absent key etcd says that it was last written at 0, as we do.
func (e *Etcd) conds(list []Cond) []clientv3.Cmp {
	translated := make([]clientv3.Cmp, 0, len(list)+1)
	for _, c := range list {
		translated = append(translated, clientv3.Compare(clientv3.ModRevision(e.prefix+c.Key), "=", c.Rev))
	}
	return translated
}

func (e *Etcd) ops(list []Op, lease clientv3.LeaseID) []clientv3.Op {
	translated := make([]clientv3.Op, 0, len(list))
	for _, op := range list {
		if op.Delete {
			translated = append(translated, clientv3.OpDelete(e.prefix+op.Key))
		} else {
			translated = append(translated, clientv3.OpPut(e.prefix+op.Key, string(op.Value), clientv3.WithLease(lease)))
		}
	}
	return translated
}

func (e *Etcd) entry(kv *mvccpb.KeyValue) Entry {
	return Entry{Key: strings.TrimPrefix(string(kv.Key), e.prefix), Value: kv.Value, Rev: kv.ModRevision}
}
