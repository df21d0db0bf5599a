package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/statesvc/statesvc/shard/failpoint"
)

// Limits of a committer, each with its reason. They are defaults of Config.
const (
	defaultQueue      = 4096                  // calls waiting per lane: a quarter of a second of work at full speed
	defaultBatch      = 256                   // larger batches gained nothing measurable and hold locks longer
	defaultRoundTrip  = 2 * time.Second       // bound of round trip 1; under idle_write_transaction_timeout
	defaultCommitWait = 4 * time.Second       // bound of round trip 2, above the driver's own timeouts
	maxBatchRetries   = 8                     // races with other instances before the operations are handed back
	maxPacketBytes    = 8 << 20               // of round trip 2: half of the server's default max_allowed_packet
	warnEvery         = time.Second           // between lines of a lane about the same trouble
	slowPause         = 20 * time.Millisecond // between two batches of a lane while a replica is behind: some 50 transactions a second
	maxAttempts       = 3                     // how often an operation whose attempts ended aborted is run again
	retirePoll        = time.Millisecond      // of waiting for the last answers of a primary that is replaced
	cautious          = 64                    // batches after a duplicate key that expect more of them
)

// Config is what a committer needs. Zero limits take their defaults.
type Config struct {
	Shard   int
	Epoch   uint64 // of the route under which this committer writes; another epoch is another committer
	DB      *DB
	Machine Machine
	Lanes   int
	// Source is whose time the batches write down, for shards that can fail over: the next primary decides nothing earlier. Empty:
	// they write none.
	Source string
	Queue  int // calls that may wait per lane
	Batch  int // most operations in one transaction

	// Undecided is called by a lane with a batch whose COMMIT got no answer. It blocks until every operation with a key
	// is decided or ctx ends, and returns their fates; the lane takes no other batch meanwhile. An operation that
	// is missing from the result stays undecided.
	Undecided func(ctx context.Context, u UndecidedBatch) []Fate

	// Suspect is told of each connection to the primary that was refused or lost, and of each that did not answer in time, when
	// nobody had cut it here. It must be quick; nil: nobody wants to know.
	Suspect func(shard int, epoch uint64, what string)

	Now        func() time.Time
	Log        *slog.Logger
	Metrics    *Metrics
	Tracer     trace.Tracer
	FailPoints failpoint.Points // where a test may stop the process; nil in production
}

// UndecidedBatch names the operations whose COMMIT was sent and not answered.
type UndecidedBatch struct {
	Shard int
	Epoch uint64
	Ops   []*Op
}

// Fate is what became of an undecided operation: the verdict of its key, and the recorded reply.
type Fate struct {
	Op      *Op
	Verdict Verdict
	Body    []byte
}

// Committer runs the lanes of one shard under one epoch.
type Committer struct {
	cfg      Config
	observer *observer
	lanes    []*lane
	wg       sync.WaitGroup
	ctx      context.Context // ends when a close gives up waiting
	cancel   context.CancelFunc

	abandoned atomic.Bool  // the epoch is over: nothing is begun any more, and no COMMIT is sent
	sending   atomic.Int32 // lanes that may have sent a COMMIT and wait for its answer
	slow      atomic.Bool  // a replica has fallen behind
}

// NewCommitter starts the lanes. Close ends them.
func NewCommitter(cfg Config) *Committer {
	cfg.setDefaults()
	c := &Committer{cfg: cfg, observer: newObserver(&cfg)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for i := range cfg.Lanes {
		l := newLane(c, i)
		c.lanes = append(c.lanes, l)
		c.wg.Go(l.run)
	}
	return c
}

// Slow tells the lanes whether a replica of the shard has fallen behind. They pause after each batch then, so that the next one is larger:
// what a replica applies, and how long a failover waits for it, goes by transactions. A lone operation still waits for nobody.
func (c *Committer) Slow(slow bool) { c.slow.Store(slow) }

func (cfg *Config) setDefaults() {
	if cfg.Lanes == 0 || !cfg.DB.Dialect.multi {
		cfg.Lanes = cfg.DB.Dialect.lanes
	}
	if cfg.Queue == 0 {
		cfg.Queue = defaultQueue
	}
	if cfg.Batch == 0 {
		cfg.Batch = defaultBatch
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = discardMetrics()
	}
	if cfg.Tracer == nil {
		cfg.Tracer = noop.Tracer{}
	}
}

// Submit hands op to the lane of its bucket and waits for the reply. ctx bounds the wait: if it ends before a batch took
// the operation, the operation is withdrawn and Reply.Err is ErrOverloaded; once it is in a batch, ctx no longer cancels
// it and the reply is ErrOutcomeUnknown. A reply without a recorded verdict other than ErrOutcomeUnknown means that
// nothing has changed.
func (c *Committer) Submit(ctx context.Context, op *Op) Reply {
	pending := &call{op: ofRequest(ctx, op), queuedAt: c.cfg.Now(), reply: make(chan Reply, 1)}
	pending.deadline, _ = ctx.Deadline()
	l := c.lanes[int(op.Bucket)%len(c.lanes)]
	if err := l.queue.put(pending); err != nil {
		c.cfg.Metrics.refused(c.cfg.Shard, err)
		return Reply{Err: err}
	}
	select {
	case r := <-pending.reply:
		return r
	case <-ctx.Done():
	}
	if pending.withdraw() {
		return Reply{Err: fmt.Errorf("waited in the queue until the deadline: %w", ErrOverloaded)}
	}
	select {
	case r := <-pending.reply: // the answer came in the same moment
		return r
	default:
		return Reply{Err: ErrOutcomeUnknown}
	}
}

// Depth is the number of operations that wait in each lane.
func (c *Committer) Depth() []int {
	depth := make([]int, len(c.lanes))
	for i, l := range c.lanes {
		depth[i] = l.queue.depth()
	}
	return depth
}

// Close refuses new operations, decides those that were accepted, and ends the lanes. If ctx ends first, the lanes are
// stopped where they are: waiting operations are answered with ErrClosed, those in a batch are left to their keys.
func (c *Committer) Close(ctx context.Context) error {
	for _, l := range c.lanes {
		l.queue.close()
	}
	done := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(done)
	}()
	defer c.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		c.cancel()
		<-done
		return fmt.Errorf("close the committer of shard %d: %w", c.cfg.Shard, context.Cause(ctx))
	}
}

// Abandon stops the lanes where they are, because the register has taken the shard from this primary. The connections are cut: a
// batch that waits for the answer to COMMIT becomes undecided at once, and is left to its lane and the resolver. Every other
// operation is handed back with ErrStaleRoute, and none of these has had its COMMIT sent. When Abandon returns, nothing of
// the epoch can be begun or sent; Close is still needed, and waits for what is undecided.
func (c *Committer) Abandon() {
	c.abandoned.Store(true)
	c.cfg.DB.Cut()
	c.handBack()
}

// Retire is Abandon for a primary that lives and is about to be replaced: batches whose COMMIT was sent get their answers first, for as
// long as patience lasts.
func (c *Committer) Retire(ctx context.Context, patience time.Duration) {
	c.abandoned.Store(true)
	c.handBack()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for c.sending.Load() > 0 && ctx.Err() == nil {
		select {
		case <-time.After(retirePoll):
		case <-ctx.Done():
		}
	}
	c.cfg.DB.Cut()
}

// handBack answers what waits in the queues.
func (c *Committer) handBack() {
	for _, l := range c.lanes {
		for _, waiting := range l.queue.abandon() {
			if waiting.take() {
				waiting.answer(Reply{Err: errAbandoned})
			}
		}
	}
}

// suspect tells of a broken connection, unless it was cut here.
func (c *Committer) suspect(err error) {
	if c.cfg.Suspect != nil && brokenConnection(err) && !c.abandoned.Load() {
		c.cfg.Suspect(c.cfg.Shard, c.cfg.Epoch, suspicion(err))
	}
}

// isRetryable reports faults after which the same batch may simply run again.
func isRetryable(f fault) bool { return f == faultRetry || f == faultDuplicate }

// errUndecided marks a transaction whose COMMIT was sent and not answered.
var errUndecided = errors.New("no answer to COMMIT")
