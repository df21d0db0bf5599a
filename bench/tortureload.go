package bench

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	torturePause    = 30 * time.Millisecond // the most between two calls of a caller: it is not the speed that is tested
	torturePatience = 60 * time.Second      // of a call: longer than any fault
	tortureAttempt  = 2 * time.Second
	tortureHearing  = 8 * time.Second // how much longer than its deadline an attempt may take
)

// The books that answers make; see tortureBooks.
const (
	bookMoney   = "money credited"
	bookCoupons = "coupons"
	bookPackets = "money in packets"
	bookUnits   = "units of quotas"
	bookRefunds = "refunds"
	bookDone    = "keys that were done"
)

// bookEntry is what an answer adds to a book if it says that the call was done.
type bookEntry struct {
	book   string
	amount int64
}

// tortureCall is one key with what it asks for, and what its callers were told.
type tortureCall struct {
	path, key, body string
	put             bool
	adds            bookEntry

	mu   sync.Mutex
	told [sha256.Size]byte // of status class and body; zero: nobody has heard an answer
	code string            // empty: it was done, if it was told
}

// tortureReply is an answer to a call.
type tortureReply struct {
	status int
	body   []byte
	code   string // of the problem; empty: it was done
	final  bool
}

// tortureLoad is many callers on some owners, quotas, campaigns and packets.
type tortureLoad struct {
	seed      uint64
	token     string
	address   [tortureInstances]atomic.Value // of the processes: they change when one is killed
	transport *http.Transport
	answered  atomic.Int64
	unknown   atomic.Int64
	serial    atomic.Int64
	group     *errgroup.Group
	stopped   chan struct{}

	tortureKnown
	calls struct {
		sync.Mutex
		all []*tortureCall
	}
}

func newTortureLoad(seed uint64) *tortureLoad {
	return &tortureLoad{
		seed: seed, stopped: make(chan struct{}),
		transport: &http.Transport{MaxIdleConnsPerHost: 4 * tortureCallers},
	}
}

// start lets the callers loose. ctx does not end what they have begun.
func (l *tortureLoad) start(ctx context.Context) {
	l.group, ctx = errgroup.WithContext(ctx)
	for i := range tortureCallers {
		c := &tortureCaller{tortureLoad: l, dice: rand.New(rand.NewPCG(l.seed, uint64(i+1)))}
		l.group.Go(func() error { return c.run(ctx) })
	}
}

// stop waits until every caller has heard his last answer, or has given up.
func (l *tortureLoad) stop() error {
	close(l.stopped)
	return l.group.Wait()
}

// tortureCaller makes one call after the other.
type tortureCaller struct {
	*tortureLoad
	dice *rand.Rand
}

func (c *tortureCaller) run(ctx context.Context) error {
	for {
		select {
		case <-c.stopped:
			return nil
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(c.dice.Int64N(int64(torturePause)))):
		}
		call, learn := c.next()
		if call == nil {
			continue
		}
		reply, err := c.settle(ctx, call, c.dice, false)
		if err != nil {
			return err
		}
		if reply.final && reply.code == "" && learn != nil {
			learn(reply.body)
		}
	}
}

// settle sends a call until its answer is final, and compares the answer with what was told before. It gives up without an answer after a
// while, and, unless the call must be answered, at once if somebody else's hold is in the way: such a key stays open.
func (l *tortureLoad) settle(ctx context.Context, call *tortureCall, dice *rand.Rand, must bool) (last tortureReply, err error) {
	ctx, cancel := context.WithTimeout(ctx, torturePatience)
	defer cancel()
	for ctx.Err() == nil {
		last, err = l.send(ctx, call, dice.IntN(tortureInstances))
		switch {
		case err != nil:
			last.code = "no reply"
		case last.final:
			return last, call.tell(&last, l)
		case last.code == "held-by-other" && !must:
			return last, nil
		}
		sleepUntil(ctx, time.Now().Add(time.Duration(20+dice.IntN(60))*time.Millisecond))
	}
	return last, nil
}

// tell notes an answer. Every later one must be the same; but that a packet is empty is known without looking at the key, and so a grab
// that was refused for another reason may hear it later.
func (c *tortureCall) tell(r *tortureReply, l *tortureLoad) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	body := r.body
	if r.code != "" && strings.HasSuffix(c.path, "/grabs") {
		body = nil
	}
	sum := sha256.Sum256(append([]byte(fmt.Sprint(r.code == "", " ")), body...))
	switch {
	case c.told == [sha256.Size]byte{}:
		c.told = sum
		c.code = r.code
		l.answered.Add(1)
	case c.told != sum:
		return fmt.Errorf("%w: %s under %s with %s was answered otherwise before; now it is %d %s",
			errTorture, c.path, c.key, c.body, r.status, r.body)
	}
	return nil
}

func (c *tortureCall) done() bool { return c.told != [sha256.Size]byte{} && c.code == "" }

// answers counts how the calls of each kind were answered; the kind is the last word of the path.
func (l *tortureLoad) answers() string {
	kinds := map[string]map[string]int{}
	for _, call := range l.calls.all {
		kind := call.path[strings.LastIndexByte(call.path, '/')+1:]
		if kinds[kind] == nil {
			kinds[kind] = map[string]int{}
		}
		kinds[kind][cmp.Or(call.code, "done")]++
	}
	var text strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		fmt.Fprintf(&text, "%-12s", kind)
		for _, code := range slices.Sorted(maps.Keys(kinds[kind])) {
			fmt.Fprintf(&text, " %s=%d", code, kinds[kind][code])
		}
		text.WriteString("\n")
	}
	return text.String()
}

// send makes one attempt. The request's id is its key, so that a refusal has the same bytes whenever it comes.
func (l *tortureLoad) send(ctx context.Context, call *tortureCall, instance int) (reply tortureReply, err error) {
	ctx, cancel := context.WithTimeout(ctx, tortureAttempt+tortureHearing)
	defer cancel()
	method := http.MethodPost
	if call.put {
		method = http.MethodPut
	}
	server := l.address[instance].Load().(string)
	request, err := http.NewRequestWithContext(ctx, method, server+call.path, strings.NewReader(call.body))
	if err != nil {
		return reply, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+l.token)
	request.Header.Set("Idempotency-Key", call.key)
	request.Header.Set("X-Request-Id", call.key)
	request.Header.Set("Deadline-Ms", fmt.Sprint(tortureAttempt.Milliseconds()))
	response, err := l.transport.RoundTrip(request)
	if err != nil {
		return reply, err
	}
	defer response.Body.Close()
	reply.status = response.StatusCode
	if reply.body, err = io.ReadAll(response.Body); err != nil {
		return reply, err
	}
	if reply.status < http.StatusBadRequest {
		reply.final = true
		return reply, nil
	}
	var problem struct {
		Code      string `json:"code"`
		Retryable bool   `json:"retryable"`
	}
	if err := json.Unmarshal(reply.body, &problem); err != nil || problem.Code == "" {
		return reply, fmt.Errorf("%w: %s: status %d: %s", errReply, call.path, reply.status, reply.body)
	}
	reply.code, reply.final = problem.Code, !problem.Retryable
	return reply, nil
}

// newCall makes a call under a key of its own.
func (l *tortureLoad) newCall(path, body string, adds bookEntry) *tortureCall {
	call := &tortureCall{path: path, body: body, key: fmt.Sprintf("t-%d", l.serial.Add(1)), adds: adds}
	l.calls.Lock()
	defer l.calls.Unlock()
	l.calls.all = append(l.calls.all, call)
	return call
}

// resolve sends again, when everything is whole, all calls that nobody has heard an answer to, and many of the others.
func (l *tortureLoad) resolve(ctx context.Context, dice *rand.Rand) error {
	l.calls.Lock()
	all := l.calls.all
	l.calls.Unlock()
	every := max(1, len(all)/tortureReplays)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tortureCallers)
	for i, call := range all {
		open := call.told == [sha256.Size]byte{}
		if !open && i%every != 0 {
			continue
		}
		chance := rand.New(rand.NewPCG(dice.Uint64(), 0))
		group.Go(func() error {
			reply, err := l.settle(ctx, call, chance, true)
			switch {
			case err != nil:
				return err
			case !reply.final:
				return fmt.Errorf("%w: %s under %s has no answer when nothing is broken any more: %d %s", errTorture, call.path, call.key,
					reply.status, reply.body)
			case open:
				l.unknown.Add(1)
			}
			return nil
		})
	}
	return group.Wait()
}

// books sums up what was done.
func (l *tortureLoad) books() map[string]int64 {
	books := map[string]int64{}
	for _, call := range l.calls.all {
		if call.done() {
			books[bookDone]++
			books[call.adds.book] += call.adds.amount
		}
	}
	return books
}

var errPrepare = errors.New("the load cannot be prepared")
