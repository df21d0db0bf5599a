package cache

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// hearing says whether this instance hears of the writes of all others. Messages that are sent while a subscription is being made again are
// lost, and nobody says which.
type hearing struct {
	since atomic.Pointer[time.Time] // all messages have come since then; nil: there is no subscription
	at    atomic.Pointer[time.Time] // Redis has answered to what was asked then
}

// covers reports whether a newer content of a copy that was new at an instant would have been heard of by now. A subscription that fails
// silently while Redis answers otherwise is noticed after two checks of it; until then this is not true.
func (h *hearing) covers(freshAt, now time.Time) bool {
	since, at := h.since.Load(), h.at.Load()
	return since != nil && at != nil && !freshAt.Before(*since) && now.Sub(*at) <= deafAge
}

// checkEvery is how long a subscription may be silent before Redis is asked whether it still is one.
const checkEvery = 500 * time.Millisecond

// subscribe hears of the writes of all instances. What is missed while there is no subscription grows old.
func (c *Cache) subscribe(ctx context.Context) {
	for ctx.Err() == nil {
		c.hearAll(ctx, c.remote.pool())
	}
}

// hearAll hears what a server says as long as it is in use.
func (c *Cache) hearAll(ctx context.Context, p *pool) {
	defer c.hearing.since.Store(nil)
	subscription := p.client.Subscribe(ctx, channel)
	defer func() { _ = subscription.Close() }()
	messages := subscription.ChannelWithSubscriptions(redis.WithChannelHealthCheckInterval(checkEvery))
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return
			}
			c.heard(m)
		case <-p.replaced:
			return
		case <-ctx.Done():
			return
		}
	}
}

// heard takes a message, or that the subscription was made, for the first time or again.
func (c *Cache) heard(m any) {
	switch m := m.(type) {
	case *redis.Subscription:
		now := c.cfg.Now()
		c.hearing.since.Store(&now)
	case *redis.Message:
		c.hear(m.Payload)
	}
}
