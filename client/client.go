package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/statesvc/statesvc/client/gen"
)

const (
	attemptDefault  = 2 * time.Second // the service's own default
	attemptMax      = 30 * time.Second
	patienceDefault = 30 * time.Second
	backoffFirst    = 50 * time.Millisecond
	backoffMax      = 2 * time.Second
	hearingTime     = 500 * time.Millisecond // how much longer than its deadline an attempt waits for the words "outcome unknown"
	replyMax        = 16 << 20
)

// Options say where the service is and how long to try. BaseURL and Token are needed.
type Options struct {
	BaseURL  string
	Token    string        // an API key, ss_…
	HTTP     *http.Client  // nil: a client of our own that keeps connections
	Attempt  time.Duration // the deadline of one attempt; 0: 2 s; at most 30 s
	Patience time.Duration // how long a call goes on whose context has no deadline; 0: 30 s
}

// Client calls the service. It is safe for concurrent use.
type Client struct {
	options Options
	now     func() time.Time
	random  func() float64                                  // from 0 to 1
	sleep   func(ctx context.Context, d time.Duration) bool // whether d has passed before ctx ended
}

// New returns a client. It does not connect to anything.
func New(o Options) (*Client, error) {
	if o.BaseURL == "" || o.Token == "" {
		return nil, errors.New("client: BaseURL and Token are needed")
	}
	if o.Attempt < 0 || o.Attempt > attemptMax || o.Patience < 0 {
		return nil, fmt.Errorf("client: Attempt must be from 0 to %s, and Patience not negative", attemptMax)
	}
	if o.Attempt == 0 {
		o.Attempt = attemptDefault
	}
	if o.Patience == 0 {
		o.Patience = patienceDefault
	}
	if o.HTTP == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 256 // the default of 2 would open a connection for nearly every concurrent call
		o.HTTP = &http.Client{Transport: transport}
	}
	return &Client{
		options: o,
		now:     time.Now, //nolint:forbidigo // callers have no other clock, and contexts do not ask for one
		random:  random, sleep: sleep,
	}, nil
}

// NewKey makes an idempotency key, a UUIDv7. Store it before the first attempt.
func NewKey() string { return uuid.Must(uuid.NewV7()).String() }

func random() float64 {
	var bits [8]byte
	_, _ = rand.Read(bits[:]) // never fails
	return float64(binary.BigEndian.Uint64(bits[:])) / math.MaxUint64
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// exchange is a request that can be sent again and again.
type exchange struct {
	request    func(server string) (*http.Request, error)
	owner, key string // of a write whose outcome can be asked for
	once       bool   // it must not be sent again
	long       bool   // it takes as long as ctx allows; Options.Attempt is for a part of it
}

// write is the exchange of a write under a key. An empty key becomes a new one.
func write(owner, key string, request func(server, key string) (*http.Request, error)) exchange {
	if key == "" {
		key = NewKey()
	}
	return exchange{owner: owner, key: key, request: func(server string) (*http.Request, error) { return request(server, key) }}
}

// read is the exchange of a request that may be repeated freely.
func read(request func(server string) (*http.Request, error)) exchange {
	return exchange{request: request}
}

// do performs an exchange and reads its reply.
func do[R any](ctx context.Context, c *Client, e exchange) (reply R, err error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.options.Patience)
		defer cancel()
	}
	e = e.asOf(ctx)
	for attempt := 0; ; attempt++ {
		err = c.send(ctx, e, &reply)
		if err == nil || e.once || !c.again(ctx, err, attempt) {
			return reply, err
		}
		if e.key != "" && unknown(err) {
			if done, asking := c.resolve(ctx, e, &reply); done {
				return reply, asking
			}
		}
	}
}

// again waits until the exchange may be sent again, or reports that it must not or cannot.
func (c *Client) again(ctx context.Context, err error, attempt int) bool {
	if ctx.Err() != nil {
		return false
	}
	wait := time.Duration(c.random() * float64(min(backoffFirst<<min(attempt, 10), backoffMax)))
	if p, ok := errors.AsType[*Problem](err); ok {
		if !p.Retryable {
			return false
		}
		wait += p.RetryAfter
	} else if !errors.Is(err, errConnection) {
		return false
	}
	if deadline, _ := ctx.Deadline(); c.now().Add(wait).After(deadline) {
		return false
	}
	return c.sleep(ctx, wait)
}

// unknown says whether a write may have happened in spite of an error.
func unknown(err error) bool {
	p, ok := errors.AsType[*Problem](err)
	return !ok || p.Outcome != outcomeNone
}

// resolve asks what became of a write. done means that there is nothing more to send: reply is the write's own, or err says why
// it could not be read.
func (c *Client) resolve(ctx context.Context, e exchange, reply any) (done bool, err error) {
	for attempt := 0; ; attempt++ {
		var operation Operation
		question := read(func(server string) (*http.Request, error) {
			return gen.NewGetOperationRequest(server, e.owner, e.key, nil)
		})
		if err := c.send(ctx, question, &operation); err != nil {
			return false, nil //nolint:nilerr // it cannot be asked; sending the same key is as good
		}
		switch operation.Status {
		case StatusDone:
			if err := json.Unmarshal(operation.Reply, reply); err != nil {
				return true, fmt.Errorf("client: read the recorded reply: %w", err)
			}
			return true, nil
		case StatusInProgress:
			if waiting := stillInProgress(); !c.again(ctx, waiting, attempt) {
				return true, waiting
			}
		default: // NOT_SEEN, ABORTED: it has not happened. REFUSED, SEALED: the key gets its refusal again.
			return false, nil
		}
	}
}

// stillInProgress is the error of a write whose outcome is not known in time.
func stillInProgress() *Problem {
	return &Problem{Problem: gen.Problem{
		Type: "/problems/outcome-unknown", Code: string(ErrOutcomeUnknown), Status: http.StatusGatewayTimeout, Outcome: outcomeUnknown,
		Title: "The outcome is not known yet", Detail: "the operation was still in progress at the deadline", Retryable: true,
	}}
}

// errConnection is what all errors of connections are.
var errConnection = errors.New("client: the connection failed")

// send makes one attempt.
func (c *Client) send(ctx context.Context, e exchange, reply any) error {
	request, err := e.request(c.options.BaseURL)
	if err != nil {
		return fmt.Errorf("client: make the request: %w", err)
	}
	timeout := c.options.Attempt
	if deadline, bounded := ctx.Deadline(); bounded {
		timeout = max(time.Millisecond, min(timeout, deadline.Sub(c.now())))
	}
	request.Header.Set("Authorization", "Bearer "+c.options.Token)
	request.Header.Set("Deadline-Ms", strconv.FormatInt(max(1, timeout.Milliseconds()), 10))
	if !e.long {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout+hearingTime)
		defer cancel()
	}
	response, err := c.options.HTTP.Do(request.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("%w: %w", errConnection, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, replyMax))
	if err != nil {
		return fmt.Errorf("%w: read the reply: %w", errConnection, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return newProblem(response, body)
	}
	if headed, ok := reply.(interface{ readHeader(header http.Header) }); ok {
		headed.readHeader(response.Header)
	}
	if reply == nil || len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, reply); err != nil {
		return fmt.Errorf("client: read the reply: %w", err)
	}
	return nil
}
