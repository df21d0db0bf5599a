package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/statesvc/statesvc/register"
)

const (
	webhooksPrefix = "webhooks/"
	webhooksMax    = 100 // each has a sender for every shard on every instance
	urlMax         = 2048
)

// Webhook is a subscription to all events.
type Webhook struct {
	ID        string    `json:"-"`
	URL       string    `json:"url"`
	Secret    string    `json:"secret"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"` // id of an API key
	Start     Position  `json:"start"`      // it gets what comes after
}

// Webhooks keeps the subscriptions.
type Webhooks struct {
	reg    register.Register
	now    func() time.Time
	random io.Reader
}

// NewWebhooks returns the subscriptions in a register. random is the source of ids and secrets: crypto/rand outside of tests.
func NewWebhooks(reg register.Register, now func() time.Time, random io.Reader) *Webhooks {
	return &Webhooks{reg: reg, now: now, random: random}
}

// Create subscribes an address to what comes after a position.
func (w *Webhooks) Create(ctx context.Context, address, by string, start Position) (Webhook, error) {
	if err := checkAddress(address); err != nil {
		return Webhook{}, err
	}
	all, err := w.List(ctx)
	if err != nil {
		return Webhook{}, err
	}
	if len(all) >= webhooksMax {
		return Webhook{}, fmt.Errorf("%w: there may be %d", ErrTooMany, webhooksMax)
	}
	name, err := uuid.NewRandomFromReader(w.random)
	if err != nil {
		return Webhook{}, fmt.Errorf("name the webhook: %w", err)
	}
	hook := Webhook{URL: address, CreatedAt: w.now().UTC(), CreatedBy: by, Start: start}
	hook.ID = "webhook_" + strings.ReplaceAll(name.String(), "-", "")
	if hook.Secret, err = newSecret(w.random); err != nil {
		return Webhook{}, err
	}
	text, err := json.Marshal(hook) //nolint:gosec // the secret has to be kept, because it signs; see doc.go
	if err != nil {
		return Webhook{}, err
	}
	if _, err := register.Create(ctx, w.reg, webhooksPrefix+hook.ID, text); err != nil {
		return Webhook{}, fmt.Errorf("create webhook %s: %w", hook.ID, err)
	}
	return hook, nil
}

// checkAddress refuses what nothing can be sent to. That the address belongs to the caller is for him to know.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || len(address) > urlMax || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return fmt.Errorf("%w: url must begin with https:// or http:// and have at most %d bytes", ErrInvalid, urlMax)
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("%w: url must have no user and no fragment", ErrInvalid)
	}
	return nil
}

// List returns all subscriptions, the oldest first.
func (w *Webhooks) List(ctx context.Context) ([]Webhook, error) {
	entries, _, err := w.reg.List(ctx, webhooksPrefix)
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", err)
	}
	hooks := make([]Webhook, 0, len(entries))
	for _, e := range entries {
		hook, err := decodeWebhook(e)
		if err != nil {
			return nil, err
		}
		hooks = append(hooks, hook)
	}
	slices.SortStableFunc(hooks, func(a, b Webhook) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return hooks, nil
}

func decodeWebhook(e register.Entry) (hook Webhook, err error) {
	hook.ID = strings.TrimPrefix(e.Key, webhooksPrefix)
	if err := json.Unmarshal(e.Value, &hook); err != nil {
		return hook, fmt.Errorf("read webhook %s: %w", hook.ID, err)
	}
	return hook, nil
}

// Get returns a subscription, or ErrNotFound.
func (w *Webhooks) Get(ctx context.Context, id string) (Webhook, error) {
	e, err := w.reg.Get(ctx, webhooksPrefix+id)
	if errors.Is(err, register.ErrNotFound) || errors.Is(err, register.ErrInvalid) {
		return Webhook{}, ErrNotFound
	}
	if err != nil {
		return Webhook{}, fmt.Errorf("read webhook %s: %w", id, err)
	}
	return decodeWebhook(e)
}

// Delete ends a subscription. What is on its way may still arrive.
func (w *Webhooks) Delete(ctx context.Context, id string) error {
	if _, err := w.Get(ctx, id); err != nil {
		return err
	}
	if _, err := w.reg.Txn(ctx, register.Txn{Then: []register.Op{{Key: webhooksPrefix + id, Delete: true}}}); err != nil {
		return fmt.Errorf("delete webhook %s: %w", id, err)
	}
	return nil
}
