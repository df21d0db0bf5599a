package client

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/statesvc/statesvc/client/gen"
)

// Now is the position after all events of today: what comes from now on.
const Now = "now"

// ListEvents lists events after a position, at most limit of them (0: the service's default); "" begins with the oldest. The reply says
// where to go on.
func (c *Client) ListEvents(ctx context.Context, after string, limit int) (EventList, error) {
	return do[EventList](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewListEventsRequest(server, &gen.ListEventsParams{After: optional(after), Limit: optional(limit)})
	}))
}

// Followed is an event, and the position after it: store it with what the event has changed, and follow from there after a restart.
type Followed struct {
	Event
	Position string
}

// The patience of a follower.
const (
	streamSilence = 45 * time.Second // three heartbeats
	streamLineMax = 4 << 20
	streamPause   = time.Second
)

// Follow goes through the events after a position, as they happen, until ctx ends. It connects again by itself, and misses nothing; an
// event may come twice. It ends with the first error that another attempt would meet as well.
func (c *Client) Follow(ctx context.Context, after string) iter.Seq2[Followed, error] {
	return func(yield func(Followed, error) bool) {
		for ctx.Err() == nil {
			done, err := c.follow(ctx, &after, yield)
			if done || ctx.Err() != nil {
				return
			}
			if p, ok := errors.AsType[*Problem](err); ok && !p.Retryable {
				yield(Followed{}, err)
				return
			}
			c.sleep(ctx, streamPause)
		}
	}
}

// follow reads one stream to its end, and moves after on. done says that the caller wants no more.
func (c *Client) follow(ctx context.Context, after *string, yield func(Followed, error) bool) (done bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request, err := gen.NewStreamEventsRequest(c.options.BaseURL, &gen.StreamEventsParams{After: optional(*after)})
	if err != nil {
		return false, fmt.Errorf("client: make the request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.options.Token)
	silence := time.AfterFunc(streamSilence, cancel)
	defer silence.Stop()
	response, err := c.options.HTTP.Do(request.WithContext(ctx))
	if err != nil {
		return false, fmt.Errorf("%w: %w", errConnection, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, replyMax))
		return false, newProblem(response, body)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, streamLineMax)
	for position := ""; lines.Scan(); silence.Reset(streamSilence) {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			position = value
		case "data":
			e := Followed{Position: position}
			if err := json.Unmarshal([]byte(value), &e.Event); err != nil {
				return false, fmt.Errorf("client: read an event: %w", err)
			}
			*after = position
			if !yield(e, nil) {
				return true, nil
			}
		}
	}
	return false, lines.Err()
}

// Webhooks lists the webhooks, with how far each has come.
func (c *Client) Webhooks(ctx context.Context) ([]Webhook, error) {
	list, err := do[gen.WebhookList](ctx, c, read(gen.NewListWebhooksRequest))
	return list.Webhooks, err
}

// CreateWebhook has events sent to an address. The secret is in the reply and nowhere else, so it is sent once.
func (c *Client) CreateWebhook(ctx context.Context, r WebhookRequest) (NewWebhook, error) {
	e := read(func(server string) (*http.Request, error) { return gen.NewCreateWebhookRequest(server, r) })
	e.once = true
	return do[NewWebhook](ctx, c, e)
}

// GetWebhook shows a webhook with how far it has come.
func (c *Client) GetWebhook(ctx context.Context, webhookID string) (Webhook, error) {
	return do[Webhook](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewGetWebhookRequest(server, webhookID) }))
}

// DeleteWebhook ends a webhook.
func (c *Client) DeleteWebhook(ctx context.Context, webhookID string) error {
	_, err := do[struct{}](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewDeleteWebhookRequest(server, webhookID)
	}))
	return err
}

// ReplayWebhook lets a webhook go on at once, parked or not; with a position, from there.
func (c *Client) ReplayWebhook(ctx context.Context, webhookID, after string) (Webhook, error) {
	return do[Webhook](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewReplayWebhookRequest(server, webhookID, gen.ReplayRequest{After: after})
	}))
}

// Message is what a webhook receives.
type Message struct {
	WebhookID string  `json:"webhook_id"`
	Shard     int     `json:"shard"`
	Events    []Event `json:"events"`
}

// messageAge is how old or how far in the future a message may be: older ones may be recorded ones.
const messageAge = 5 * time.Minute

// ErrSignature says that a message is not from the service, or is an old one.
var ErrSignature = errors.New("client: the signature of the webhook is wrong or too old")

// ReadWebhook checks the signature of a message that a webhook has received at now, and reads it. It fails with ErrSignature. An event
// may come twice, with the same EventID: that is for the receiver to see.
func ReadWebhook(secret string, header http.Header, body []byte, now time.Time) (m Message, err error) {
	timestamp := header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > messageAge {
		return m, ErrSignature
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return m, fmt.Errorf("client: read the secret: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, header.Get("webhook-id")+"."+timestamp+".")
	_, _ = mac.Write(body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if !hmac.Equal([]byte(want), []byte(header.Get("webhook-signature"))) {
		return m, ErrSignature
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("client: read the message: %w", err)
	}
	return m, nil
}
