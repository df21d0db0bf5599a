package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
)

// The clocks and limits of sending.
const (
	messageMax    = 100              // events in one message
	sendPatience  = 10 * time.Second // for an answer; below the lease
	leaseTTL      = 20 * time.Second // how long a dead sender keeps others from sending
	claimEvery    = 3 * time.Second  // between attempts to become the sender, and looks at a parked delivery
	renewEvery    = 5 * time.Second  // of a lease while there is nothing to send
	backoffFirst  = time.Second
	backoffMax    = time.Hour
	parkAfter     = 72 * time.Hour // of failures without a success between
	answerMax     = 4 << 10        // bytes of an answer that are read
	errorMax      = 200            // bytes of an error that are kept
	webhooksRenew = time.Second
	closePatience = 2 * time.Second
	sendersAtOnce = 64 // messages on their way from one instance
)

// SenderConfig is what a sender needs. All but Client are required.
type SenderConfig struct {
	Feed     *Feed
	Register register.Register
	Instance string       // unique in the cluster
	Client   *http.Client // nil: one of our own, which follows no redirects
	Now      func() time.Time
	Log      *slog.Logger
}

// Sender sends events to the webhooks, for every webhook and shard in order.
type Sender struct {
	cfg   SenderConfig
	slots chan struct{}

	mu      sync.Mutex
	hooks   map[string]Webhook
	renewed chan struct{} // closed and replaced when hooks changes
}

// NewSender returns a sender; Run starts it.
func NewSender(cfg SenderConfig) *Sender {
	if cfg.Client == nil {
		cfg.Client = &http.Client{
			Timeout:       sendPatience,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &Sender{cfg: cfg, slots: make(chan struct{}, sendersAtOnce), hooks: map[string]Webhook{}, renewed: make(chan struct{})}
}

// Run sends until ctx ends, and returns when nothing is on its way any more.
func (s *Sender) Run(ctx context.Context) error {
	mirror, err := register.OpenMirror(ctx, s.cfg.Register, register.MirrorOptions{
		Prefix: webhooksPrefix, Now: s.cfg.Now, RenewEvery: webhooksRenew, Changed: s.follow,
	})
	if err != nil {
		return fmt.Errorf("follow the webhooks: %w", err)
	}
	defer mirror.Close()
	running := map[string]context.CancelFunc{}
	var sending sync.WaitGroup
	defer sending.Wait()
	for {
		hooks, changed := s.known()
		for id, stop := range running {
			if _, still := hooks[id]; !still {
				stop()
				delete(running, id)
			}
		}
		for id, hook := range hooks {
			if running[id] != nil {
				continue
			}
			of, stop := context.WithCancel(ctx)
			running[id] = stop
			for _, number := range s.cfg.Feed.cfg.Shards() {
				sending.Go(func() { s.deliver(of, &delivery{Sender: s, hook: hook, shard: number}) })
			}
		}
		select {
		case <-ctx.Done():
			for _, stop := range running {
				stop()
			}
			return nil
		case <-changed:
		}
	}
}

// follow takes over changes of webhooks/.
func (s *Sender) follow(changes []register.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range changes {
		hook, err := decodeWebhook(e.Entry)
		if e.Deleted || err != nil {
			delete(s.hooks, hook.ID)
			continue
		}
		s.hooks[hook.ID] = hook
	}
	close(s.renewed)
	s.renewed = make(chan struct{})
}

func (s *Sender) known() (map[string]Webhook, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.hooks), s.renewed
}

// delivery is the way of one webhook through the events of one shard.
type delivery struct {
	*Sender

	hook  Webhook
	shard int
	row   deliveryRow // as of the last claim or outcome
}

// deliver runs a delivery until ctx ends, and then lets others have it at once.
func (s *Sender) deliver(ctx context.Context, d *delivery) {
	for ctx.Err() == nil {
		changed := s.cfg.Feed.Changed() // before the look, so that nothing is missed between
		wait, err := d.step(ctx)
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.WarnContext(ctx, "a webhook waits", "webhook", d.hook.ID, "shard", d.shard, "error", err)
			wait = claimEvery
		}
		if wait > 0 {
			if d.row.Holder != s.cfg.Instance || d.row.NextAt > 0 {
				changed = nil // news would change nothing
			}
			select {
			case <-ctx.Done():
			case <-changed:
			case <-time.After(wait):
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	_ = d.release(ctx) // otherwise it ends by itself
}

// step sends one message, if there is one and it is ours to send. It returns how long there is nothing to do.
func (d *delivery) step(ctx context.Context) (wait time.Duration, err error) {
	now := d.cfg.Now()
	if d.row.Holder != d.cfg.Instance || now.Add(leaseTTL-renewEvery).UnixMicro() >= d.row.HeldUntil {
		if err := d.claim(ctx, now); err != nil {
			d.row = deliveryRow{}
			return claimEvery, err
		}
	}
	switch {
	case d.row.Holder != d.cfg.Instance || d.row.ParkedAt > 0:
		d.row.HeldUntil = 0 // look again
		return claimEvery, nil
	case d.row.NextAt > now.UnixMicro():
		return min(time.Duration(d.row.NextAt-now.UnixMicro())*time.Microsecond, renewEvery), nil
	}
	message, err := d.cfg.Feed.OfShard(ctx, d.shard, d.row.Position, messageMax)
	if errors.Is(err, ledger.ErrTrimmed) {
		return 0, d.outcome(ctx, nil, ledger.ErrTrimmed)
	}
	if err != nil || len(message) == 0 {
		return renewEvery, err
	}
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, nil
	}
	failure := d.send(ctx, message)
	<-d.slots
	if failure != nil && ctx.Err() != nil {
		return 0, nil //nolint:nilerr // it was us who broke off
	}
	return 0, d.outcome(ctx, message, failure)
}

// envelope is the body of a message.
type envelope struct {
	WebhookID string             `json:"webhook_id"`
	Shard     int                `json:"shard"`
	Events    []ledger.FeedEvent `json:"events"`
}

// send makes one attempt at a message. Any answer but 2xx is a failure. When the instance stops, the receiver has a moment to answer:
// what he has taken would otherwise come again.
func (d *delivery) send(stopping context.Context, message []ledger.FeedEvent) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(stopping), sendPatience)
	defer cancel()
	defer context.AfterFunc(stopping, func() { time.AfterFunc(closePatience, cancel) })()
	body, err := json.Marshal(envelope{WebhookID: d.hook.ID, Shard: d.shard, Events: message})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.hook.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	id := fmt.Sprintf("%s.%s.%d", d.hook.ID, message[0].EventID, message[len(message)-1].Sequence)
	timestamp := strconv.FormatInt(d.cfg.Now().Unix(), 10)
	signature, err := sign(d.hook.Secret, id, timestamp, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "statesvc")
	request.Header.Set(headerID, id)
	request.Header.Set(headerTimestamp, timestamp)
	request.Header.Set(headerSignature, signature)
	response, err := d.cfg.Client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, answerMax) // so that the connection can be used again
	if response.StatusCode < http.StatusOK || response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%w: %s", errNotTaken, response.Status)
	}
	return nil
}

var errNotTaken = errors.New("it was not taken")
