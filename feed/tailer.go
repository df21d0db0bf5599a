package feed

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/statesvc/statesvc/shard"
)

// Limits of a tailer, each with its reason.
const (
	windowBytes  = 32 << 20               // read and not yet released; a batch of the committer is at most 8 MiB
	releaseBytes = 1 << 20                // a consumer that is behind gets transactions together, about so many at once
	markEvery    = 200 * time.Millisecond // how old the promise of CompleteAt becomes when nothing happens
	markPause    = 10 * time.Millisecond  // between markers while changes wait for one; each costs the primary a commit
	leadEvery    = 3 * time.Second        // a third of a lease
	backoffMin   = 50 * time.Millisecond
	backoffMax   = 5 * time.Second
)

// TailerConfig is what a Tailer needs.
type TailerConfig struct {
	Shard    int
	Routes   *shard.Routes
	DSN      string // user:password@tcp(host:port)/schema of an account that may read the log; the address is the route's, if it has one
	Tables   []Table
	Consumer Consumer
	Work     string // what the consumer is for, in logs and metrics
	// Address says where a route leads; empty: to the address of the DSN. Nil: to the route's address.
	Address  func(shard.Route) string
	Name     string // of this tailer, unique among all of the cluster; its markers carry it
	ServerID uint32 // unique among all tailers and nodes; from half the range on, nodes have none
	// Lead says whether this tailer should work, and keeps the lease for it. Nil: always.
	Lead func(context.Context) bool
	// Alarm is told what a person must see. It must be quick; nil: the log and the metrics say it.
	Alarm   func(Alarm)
	Now     func() time.Time
	Log     *slog.Logger
	Metrics *Metrics // nil: none

	windowBytes int // of tests
}

// Tailer feeds one consumer with the changes of one shard.
type Tailer struct {
	cfg      TailerConfig
	account  *mysql.Config
	source   string // of its markers
	assemble func() *assembler

	mu     sync.Mutex
	status Status
}

// NewServerID chooses the server id of a tailer by chance, where nodes have none. Two tailers with one id would throw each other out.
func NewServerID() uint32 {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return binary.BigEndian.Uint32(random[:]) | tailerRange
}

// tailerRange is a bit that server ids of tailers have, and those of nodes do not.
const tailerRange = 1 << 31

// Status is how a tailer is doing.
type Status struct {
	Shard      int
	Work       string    // what it is for
	Leading    bool      // it has the lease, or needs none
	Epoch      uint64    // of the primary that it reads; 0: it reads none
	Position   Position  // of the last release that the consumer has taken
	CompleteAt time.Time // see Release; zero: it never was
	Behind     uint64    // transactions between the newest marker and Position
	Err        error     // why it does not read; nil: it does
}

// Lag is for how long changes may have been acknowledged without having been handed over; false while that is not known.
func (s Status) Lag(now time.Time) (time.Duration, bool) {
	return now.Sub(s.CompleteAt), !s.CompleteAt.IsZero()
}

// NewTailer checks the configuration. Run does the work.
func NewTailer(cfg TailerConfig) (*Tailer, error) {
	account, err := mysql.ParseDSN(cfg.DSN)
	switch {
	case err != nil:
		return nil, fmt.Errorf("parse the DSN of the feed: %w", err)
	case account.DBName == "":
		return nil, errors.New("the DSN of the feed names no schema; write user:password@tcp(host:port)/schema")
	case cfg.ServerID == 0 || cfg.Name == "":
		return nil, errors.New("a tailer needs a name and a server id of its own")
	}
	account.Logger = &mysql.NopLogger{} // a lost connection is reported once, by whoever was using it
	account.Timeout, account.WriteTimeout = dialTimeout, dialTimeout
	account.InterpolateParams = true
	account.Params = map[string]string{"tx_isolation": "'READ-COMMITTED'", "innodb_lock_wait_timeout": "1"}
	if cfg.windowBytes == 0 {
		cfg.windowBytes = windowBytes
	}
	if cfg.Metrics == nil {
		cfg.Metrics = discardMetrics()
	}
	sum := sha256.Sum256([]byte(cfg.Name)) // a name may be longer than the column
	t := &Tailer{cfg: cfg, account: account, source: "feed/" + hex.EncodeToString(sum[:8]), status: Status{Shard: cfg.Shard, Work: cfg.Work}}
	t.assemble = func() *assembler { return newAssembler(account.DBName, cfg.Tables) }
	return t, nil
}

// Status returns how the tailer is doing.
func (t *Tailer) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

func (t *Tailer) set(change func(*Status)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.status)
}

// Why a connection is given up without anything being wrong.
var (
	errMoved  = errors.New("the shard has another route")
	errResign = errors.New("another tailer has the lease")
)

// Run feeds the consumer until ctx ends. Whatever goes wrong is tried again, and is in Status meanwhile.
func (t *Tailer) Run(ctx context.Context) {
	var gap Reason
	for pause := backoffMin; ctx.Err() == nil; {
		if !t.leads(ctx) {
			wait(ctx, leadEvery)
			continue
		}
		changed := t.cfg.Routes.Changed()
		reached, err := t.connect(ctx, gap)
		if reached {
			pause, gap = backoffMin, ""
		}
		t.set(func(s *Status) { s.Epoch, s.Err = 0, err })
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errMoved) || errors.Is(err, errResign) {
			continue
		}
		if !errors.Is(err, shard.ErrStaleRoute) { // else it does not serve, as during a failover
			gap = t.trouble(err, gap)
		}
		if errors.Is(err, errVanished) {
			pause = backoffMax // time does not heal it
		}
		select {
		case <-ctx.Done():
		case <-changed: // the shard may serve again
		case <-time.After(pause):
			pause = min(2*pause, backoffMax)
		}
	}
}

func wait(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

func (t *Tailer) leads(ctx context.Context) bool {
	leads := t.cfg.Lead == nil || t.cfg.Lead(ctx)
	t.set(func(s *Status) { s.Leading = leads })
	return leads
}

// trouble tells what went wrong, and returns why the consumer must start anew, if it must.
func (t *Tailer) trouble(err error, gap Reason) Reason {
	t.cfg.Log.Warn("the feed was interrupted", "shard", t.cfg.Shard, "error", err)
	t.cfg.Metrics.interrupted(t.cfg.Shard)
	switch {
	case errors.Is(err, errPurged):
		t.alarm(Alarm{Kind: AlarmPurged, What: err.Error()})
		return ReasonPurged
	case errors.Is(err, errUnreadable):
		t.alarm(Alarm{Kind: AlarmUnreadable, What: err.Error()})
		return ReasonUnreadable
	case errors.Is(err, errVanished):
		t.alarm(Alarm{Kind: AlarmVanished, What: err.Error()})
	}
	return gap
}

func (t *Tailer) alarm(a Alarm) {
	a.Shard = t.cfg.Shard
	t.cfg.Log.Error("the feed of a shard has met what must not happen", "shard", a.Shard, "kind", string(a.Kind), "table", a.Table,
		"gtid", a.GTID.String(), "what", a.What)
	t.cfg.Metrics.alarmed(a)
	if t.cfg.Alarm != nil {
		t.cfg.Alarm(a)
	}
}

// connect reads from the primary until something ends it. It returns true if a consumer had to start anew and did, or took a release.
func (t *Tailer) connect(ctx context.Context, gap Reason) (reached bool, err error) {
	route, err := t.cfg.Routes.Shard(t.cfg.Shard)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	at := *t.account
	address := route.Address
	if t.cfg.Address != nil {
		address = t.cfg.Address(route)
	}
	if _, _, err := net.SplitHostPort(address); err == nil { // records from before there was failover have none
		at.Net, at.Addr = "tcp", address
	}
	r := &reader{Tailer: t, route: route, assembler: t.assemble()}
	if r.marker, err = openMarker(ctx, &at, t.source, route.Epoch, t.cfg.Now); err != nil {
		return false, err
	}
	defer r.marker.close()
	defer r.marking.Wait()
	defer cancel() // before the waiting, and the closing, which waits for whoever uses the connection
	if err := r.start(ctx, &at, gap); err != nil {
		return r.reached, err
	}
	defer r.stream.close()
	return r.reached, r.run(ctx)
}
