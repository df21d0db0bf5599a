package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/internal/freshness"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/state"
)

// The shape of the load.
const (
	faultDocuments = 64
	faultHot       = 4 // documents that take half of all reads and writes
	faultReaders   = 16
	faultWriters   = 8
	faultBurst     = 16 // reads between two pauses of a reader
	faultPatience  = 3 * time.Second
	faultComplaint = 10 // violations that are told in full
)

// faultLoad reads and writes, and judges each read.
type faultLoad struct {
	instances  []*instance.Instance
	documents  []*faultDocument
	reads      *rate.Limiter
	pace       *rate.Limiter // of writes
	seed       uint64
	tally      freshness.Tally
	serial     atomic.Int64
	writes     atomic.Int64
	unanswered atomic.Int64

	mu         sync.Mutex
	complaints []error
	late       map[string]int // eventual reads that were older than expected, by Cache-Status without numbers
}

// faultDocument is a document, and what is known of it.
type faultDocument struct {
	key     state.Key
	history freshness.History

	mu       sync.Mutex
	contents map[state.Version]string // of all versions that were ever seen
}

func newFaultLoad(instances []*instance.Instance, o CacheFaultsOptions) *faultLoad {
	l := &faultLoad{
		instances: instances, seed: o.Seed, late: map[string]int{},
		reads: rate.NewLimiter(rate.Limit(o.Reads), faultBurst*faultReaders), pace: rate.NewLimiter(rate.Limit(o.Writes), faultWriters),
	}
	for i := range faultDocuments {
		l.documents = append(l.documents, &faultDocument{
			key: state.Key{Kind: faultKind, ID: "d" + strconv.Itoa(i)}, contents: map[state.Version]string{},
		})
	}
	return l
}

// String is what was done so far.
func (l *faultLoad) String() string {
	return fmt.Sprintf("%d reads, %d writes, %d unanswered, %d too old", l.tally.Checked(), l.writes.Load(), l.unanswered.Load(),
		l.tally.Violations())
}

func (l *faultLoad) create(ctx context.Context) error {
	for _, d := range l.documents {
		if err := l.put(ctx, l.instances[0], d, state.Precondition{Absent: true}); err != nil {
			return err
		}
	}
	return nil
}

// run loads until the time is over.
func (l *faultLoad) run(ctx context.Context, end time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	var group errgroup.Group
	for i := range faultReaders {
		dice := rand.New(rand.NewPCG(l.seed, uint64(1+i)))
		group.Go(func() error {
			for l.reads.WaitN(ctx, faultBurst) == nil {
				for range faultBurst {
					l.read(ctx, dice)
				}
			}
			return nil
		})
	}
	for i := range faultWriters {
		dice := rand.New(rand.NewPCG(l.seed, uint64(1000+i)))
		group.Go(func() error {
			for l.pace.Wait(ctx) == nil {
				l.write(ctx, dice)
			}
			return nil
		})
	}
	return group.Wait()
}

func (l *faultLoad) pick(dice *rand.Rand) (*instance.Instance, *faultDocument) {
	n := faultDocuments
	if dice.IntN(2) == 0 {
		n = faultHot
	}
	return l.instances[dice.IntN(len(l.instances))], l.documents[dice.IntN(n)]
}

// write replaces a document, or now and then deletes it and makes it again. What is refused because another writer was quicker, and what
// has no answer, obliges nobody.
func (l *faultLoad) write(ctx context.Context, dice *rand.Rand) {
	in, d := l.pick(dice)
	var err error
	switch dice.IntN(30) {
	case 0:
		err = l.remove(ctx, in, d)
	case 1, 2:
		err = l.put(ctx, in, d, state.Precondition{Absent: true})
	default:
		err = l.put(ctx, in, d, state.Precondition{Exists: true})
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, state.ErrPrecondition) {
		l.unanswered.Add(1)
	}
}

func (l *faultLoad) put(ctx context.Context, in *instance.Instance, d *faultDocument, when state.Precondition) error {
	request := l.request(d, when)
	body := `{"serial":"` + request.Idempotency + `"}`
	return l.send(ctx, d, body, func(ctx context.Context) (state.Answer, error) { return in.State.Put(ctx, request, []byte(body)) })
}

func (l *faultLoad) remove(ctx context.Context, in *instance.Instance, d *faultDocument) error {
	request := l.request(d, state.Precondition{Exists: true})
	return l.send(ctx, d, "", func(ctx context.Context) (state.Answer, error) { return in.State.Delete(ctx, request) })
}

func (l *faultLoad) request(d *faultDocument, when state.Precondition) state.Request {
	return state.Request{Key: d.key, When: when, Idempotency: strconv.FormatInt(l.serial.Add(1), 10)}
}

func (l *faultLoad) send(
	ctx context.Context, d *faultDocument, body string, submit func(context.Context) (state.Answer, error),
) error {
	ctx, cancel := context.WithTimeout(ctx, faultPatience)
	defer cancel()
	answer, err := submit(ctx)
	if err != nil {
		return err
	}
	d.history.Acknowledge(answer.Version, time.Now())
	l.writes.Add(1)
	l.compare(d, answer.Version, body)
	return nil
}

// askFor draws the mode of a read. Tokens are of the newest write that was acknowledged.
func (d *faultDocument) askFor(dice *rand.Rand) cache.Ask {
	switch n := dice.IntN(100); {
	case n < 3:
		return cache.Ask{Mode: cache.Strong}
	case n < 25:
		return cache.Ask{Mode: cache.AtLeast, Version: d.history.Newest(time.Now())}
	case n < 65:
		return cache.Ask{Mode: cache.Bounded}
	}
	return cache.Ask{Mode: cache.Eventual}
}

func (l *faultLoad) read(ctx context.Context, dice *rand.Rand) {
	in, d := l.pick(dice)
	if err := l.judge(ctx, in, d, d.askFor(dice)); err != nil && ctx.Err() == nil {
		l.unanswered.Add(1)
	}
}

// judge reads a document and compares what comes with what must. Its error is that of a read without an answer.
func (l *faultLoad) judge(ctx context.Context, in *instance.Instance, d *faultDocument, ask cache.Ask) error {
	ctx, cancel := context.WithTimeout(ctx, faultPatience)
	defer cancel()
	beganAt := time.Now()
	r, err := in.State.Read(ctx, d.key, ask)
	if err != nil {
		return err
	}
	oldest := d.history.Oldest(ask, beganAt)
	if !l.tally.Judge(ask.Mode, r.Document.Version, oldest) {
		l.tooOld(d, ask, &r, oldest)
	}
	l.compare(d, r.Document.Version, string(r.Document.Body))
	return nil
}

func (l *faultLoad) tooOld(d *faultDocument, ask cache.Ask, r *cache.Result, oldest state.Version) {
	if ask.Mode != cache.Eventual {
		l.complain(fmt.Errorf("%w: %s of %s was %s instead of %s or newer (%s)",
			errTooOld, ask.Mode, d.key, r.Document.Version, oldest, r.Status))
		return
	}
	status := r.Status
	status.TTL = 0
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late[status.String()]++
}

// compare notes the content of a version, which is never another one.
func (l *faultLoad) compare(d *faultDocument, v state.Version, body string) {
	d.mu.Lock()
	known, seen := d.contents[v]
	d.contents[v] = body
	d.mu.Unlock()
	if seen && known != body {
		l.complain(fmt.Errorf("%w: %s %s is %q and %q", errContradiction, d.key, v, known, body))
	}
}

func (l *faultLoad) complain(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.complaints) < faultComplaint {
		l.complaints = append(l.complaints, err)
	}
}

// lateness says where eventual reads came from that were older than expected.
func (l *faultLoad) lateness() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var text strings.Builder
	for _, status := range slices.Sorted(maps.Keys(l.late)) {
		fmt.Fprintf(&text, "eventual reads that missed what was acknowledged %s before: %6d  %s\n",
			freshness.EventualWithin, l.late[status], status)
	}
	return text.String()
}

// verdict is nil if every promise was kept.
func (l *faultLoad) verdict() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.complaints...)
}

// readAll reads all documents from all instances strongly, so that a write which was acknowledged and lost is found.
func (l *faultLoad) readAll(ctx context.Context) error {
	for _, in := range l.instances {
		for _, d := range l.documents {
			if err := l.judge(ctx, in, d, cache.Ask{Mode: cache.Strong}); err != nil {
				return err
			}
		}
	}
	return l.verdict()
}
