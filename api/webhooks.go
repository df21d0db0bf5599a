package api

import (
	"context"
	"net/http"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/events"
)

// ListWebhooks answers GET /v1/webhooks.
func (s *server) ListWebhooks(ctx context.Context, _ gen.ListWebhooksRequestObject) (gen.ListWebhooksResponseObject, error) {
	hooks, err := s.cfg.Webhooks.List(ctx)
	if err != nil {
		return nil, err
	}
	body := gen.WebhookList{Webhooks: make([]gen.Webhook, len(hooks))}
	for i := range hooks {
		body.Webhooks[i] = s.webhookBody(ctx, &hooks[i])
	}
	return shown(http.StatusOK, body, nil)
}

func (s *server) webhookBody(ctx context.Context, hook *events.Webhook) gen.Webhook {
	body := gen.Webhook{WebhookID: hook.ID, URL: hook.URL, CreatedAt: hook.CreatedAt, CreatedBy: hook.CreatedBy, Deliveries: []gen.Delivery{}}
	for _, d := range s.cfg.Feed.Deliveries(ctx, *hook) {
		body.Deliveries = append(body.Deliveries, gen.Delivery{
			Shard: d.Shard, Position: d.Position, Waiting: d.Waiting, Failures: d.Failures, FailingSince: d.FailingSince, NextAt: d.NextAt,
			ParkedAt: d.ParkedAt, LastError: d.LastError, Instance: d.Holder,
		})
	}
	return body
}

// CreateWebhook answers POST /v1/webhooks.
func (s *server) CreateWebhook(ctx context.Context, r gen.CreateWebhookRequestObject) (gen.CreateWebhookResponseObject, error) {
	text := r.Body.After
	if text == "" {
		text = afterEnd
	}
	start, err := s.position(ctx, "/after", text)
	if err != nil {
		return nil, err
	}
	hook, err := s.cfg.Webhooks.Create(ctx, r.Body.URL, callOf(ctx).key.ID, start)
	if err != nil {
		return nil, err
	}
	return shown(http.StatusCreated, gen.NewWebhook{Webhook: s.webhookBody(ctx, &hook), Secret: hook.Secret}, nil)
}

// GetWebhook answers GET /v1/webhooks/{webhook_id}.
func (s *server) GetWebhook(ctx context.Context, r gen.GetWebhookRequestObject) (gen.GetWebhookResponseObject, error) {
	hook, err := s.cfg.Webhooks.Get(ctx, r.WebhookID)
	if err != nil {
		return nil, err
	}
	return shown(http.StatusOK, s.webhookBody(ctx, &hook), nil)
}

// DeleteWebhook answers DELETE /v1/webhooks/{webhook_id}.
func (s *server) DeleteWebhook(ctx context.Context, r gen.DeleteWebhookRequestObject) (gen.DeleteWebhookResponseObject, error) {
	if err := s.cfg.Webhooks.Delete(ctx, r.WebhookID); err != nil {
		return nil, err
	}
	if err := s.cfg.Feed.Forget(ctx, r.WebhookID); err != nil {
		s.cfg.Log.WarnContext(ctx, "a shard keeps what it knows of a deleted webhook; it is harmless", "webhook", r.WebhookID, "error", err)
	}
	return reply{status: http.StatusNoContent}, nil
}

// ReplayWebhook answers POST /v1/webhooks/{webhook_id}/replay.
func (s *server) ReplayWebhook(ctx context.Context, r gen.ReplayWebhookRequestObject) (gen.ReplayWebhookResponseObject, error) {
	from, err := s.position(ctx, "/after", r.Body.After)
	if err != nil {
		return nil, err
	}
	hook, err := s.cfg.Webhooks.Get(ctx, r.WebhookID)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Feed.Replay(ctx, hook, from); err != nil {
		return nil, err
	}
	return shown(http.StatusOK, s.webhookBody(ctx, &hook), nil)
}
