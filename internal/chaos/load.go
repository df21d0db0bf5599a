package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/statesvc/statesvc/client"
	"github.com/statesvc/statesvc/internal/linear"
)

const (
	callersPerOwner = 2 // at once: the order of what overlaps is what a history is checked for
	pauseMax        = 120 * time.Millisecond
	callsMax        = 250 // of a caller in a round; then he is slow, because a long history takes long to check
	slowPause       = time.Second
	attempt         = 2 * time.Second
	patience        = 40 * time.Second // of a call: longer than any fault
	holdTTL         = 6 * time.Hour    // no hold ends by itself
	currency        = "CNY"
	amountMax       = 9
	repeatOf        = 10 // one call of so many repeats a key that was sent before
)

// done is one key with what its caller was told.
type done struct {
	linear.Action
	from, to time.Time
	outcome  linear.Outcome // of the first call; later ones are in the history only
	taped    taped          // zero: the answer did not come as a reply to the write
}

// acknowledged says that the caller knows that it was done.
func (d *done) acknowledged() bool { return !d.outcome.Unknown && d.outcome.Code == "" }

// history is what happened to one owner in a round.
type history struct {
	owner   string
	began   time.Time
	callers []*caller

	mu    sync.Mutex
	sent  []linear.Action
	dones []*done
	ops   []porcupine.Operation
}

// caller is one of an owner's clients. He makes one call after the other.
type caller struct {
	*history
	number int
	dice   *rand.Rand
	tape   *tape
	client *client.Client
}

// load is the callers of a round.
type load struct {
	histories []*history
	stopped   chan struct{}
	wg        sync.WaitGroup
}

// newLoad makes owners with names of their own for a round.
func (w *world) newLoad(round int) (*load, error) {
	l := &load{stopped: make(chan struct{})}
	for i := range w.Owners {
		h := &history{owner: fmt.Sprintf("chaos-%d-%d", round, i), began: time.Now()}
		for number := range callersPerOwner {
			c, err := w.newCaller(h, number, rand.New(rand.NewPCG(w.Seed, uint64(round*w.Owners*callersPerOwner+i*callersPerOwner+number))))
			if err != nil {
				return nil, err
			}
			h.callers = append(h.callers, c)
		}
		l.histories = append(l.histories, h)
	}
	return l, nil
}

func (w *world) newCaller(h *history, number int, dice *rand.Rand) (*caller, error) {
	t := &tape{next: w.transport, dice: rand.New(rand.NewPCG(dice.Uint64(), 0))}
	for _, url := range w.state.URLs() {
		t.hosts = append(t.hosts, strings.TrimPrefix(url, "http://"))
	}
	c, err := client.New(client.Options{
		BaseURL: w.state.URLs()[0], Token: w.state.APIKey, HTTP: &http.Client{Transport: t}, Attempt: attempt, Patience: patience,
	})
	return &caller{history: h, number: number, dice: dice, tape: t, client: c}, err
}

func (l *load) start(ctx context.Context) {
	for _, h := range l.histories {
		for _, c := range h.callers {
			l.wg.Go(func() { c.run(ctx, l.stopped) })
		}
	}
}

// stop lets every caller hear the answer to what he has sent.
func (l *load) stop() {
	close(l.stopped)
	l.wg.Wait()
}

func (c *caller) run(ctx context.Context, stopped <-chan struct{}) {
	for n := 0; ; n++ {
		wait := time.Duration(c.dice.Int64N(int64(pauseMax)))
		if n > callsMax {
			wait = slowPause
		}
		select {
		case <-stopped:
			return
		case <-ctx.Done():
			return
		case <-time.After(wait):
			c.call(ctx, c.next(fmt.Sprintf("%s-%d-%d", c.owner, c.number, n)))
		}
	}
}

// next makes up a call: mostly what a checkout does.
func (c *caller) next(key string) linear.Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := linear.Action{Key: key, Order: key, Amount: 1 + c.dice.Int64N(amountMax)}
	order := c.someOrder()
	switch n := c.dice.IntN(repeatOf); {
	case n < 2 || len(c.sent) < callersPerOwner:
		a.Kind, a.Order = linear.Credit, ""
	case n < 5 || order == "":
		a.Kind = linear.Hold
	case n < 6:
		return c.sent[c.dice.IntN(len(c.sent))] // a key again, maybe while its first caller still waits
	default:
		a.Kind, a.Order, a.Amount = []string{linear.Confirm, linear.Cancel}[c.dice.IntN(2)], order, 0
	}
	c.sent = append(c.sent, a)
	return a
}

// someOrder is an order that somebody holds for, or tries to.
func (c *caller) someOrder() string {
	for range len(c.sent) {
		if a := c.sent[c.dice.IntN(len(c.sent))]; a.Kind == linear.Hold {
			return a.Order
		}
	}
	return ""
}

// call sends an action until its answer is known or the caller's patience ends, and writes down what he was told.
func (c *caller) call(ctx context.Context, a linear.Action) *done {
	d := &done{Action: a, from: time.Now()}
	d.outcome = c.send(ctx, a)
	d.to = time.Now()
	d.taped = c.tape.heard()
	if d.outcome.Unknown || d.taped.status >= http.StatusMultipleChoices && d.outcome.Code == "" {
		d.taped = taped{}
	}
	op := porcupine.Operation{
		ClientId: c.number, Input: a, Call: d.from.Sub(c.began).Nanoseconds(), Output: d.outcome, Return: d.to.Sub(c.began).Nanoseconds(),
	}
	if d.outcome.Unknown {
		op.Return = math.MaxInt64
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops = append(c.ops, op)
	c.dones = append(c.dones, d)
	return d
}

func (c *caller) send(ctx context.Context, a linear.Action) linear.Outcome {
	switch money := (client.Money{Amount: a.Amount, Currency: currency}); a.Kind {
	case linear.Credit:
		reply, err := c.client.CreditLot(ctx, a.Key, c.owner, client.CreditRequest{
			Amount: money, IssueRef: a.Key, Source: "chaos", ExpiresAt: lotsEnd,
		})
		return told(err, reply.Version, reply.Balances)
	case linear.Hold:
		reply, err := c.client.Hold(ctx, a.Key, client.HoldRequest{
			Owner: c.owner, OrderID: a.Order, TTLMs: holdTTL.Milliseconds(),
			Items: []client.HoldItemRequest{{Kind: client.MoneyItem, Amount: money}},
		})
		return told(err, reply.Version, reply.Balances)
	case linear.Confirm:
		reply, err := c.client.ConfirmOrder(ctx, a.Key, client.OrderRequest{Owner: c.owner, OrderID: a.Order})
		return told(err, reply.Version, reply.Balances)
	default:
		reply, err := c.client.CancelOrder(ctx, a.Key, client.OrderRequest{Owner: c.owner, OrderID: a.Order})
		return told(err, reply.Version, reply.Balances)
	}
}

var lotsEnd = time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)

// told is a reply as the model predicts it.
func told(err error, version int64, balances []client.Balance) linear.Outcome {
	if err != nil {
		if p, ok := errors.AsType[*client.Problem](err); ok && !p.Retryable {
			return linear.Outcome{Code: p.Code}
		}
		return linear.Outcome{Unknown: true}
	}
	o := linear.Outcome{Version: version}
	if o.Balance = len(balances) == 1; o.Balance {
		o.Available, o.Held = balances[0].Available, balances[0].Held
	}
	return o
}
