package blacklist

import (
	"context"
	"time"
)

// ByExpiry is who removed a block that ended by itself.
const ByExpiry = "expiry"

// expireLoop removes what has ended. Errors are left to the next round: an ended entry blocks nobody, it only lies around.
func (b *Blacklist) expireLoop(ctx context.Context) {
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			b.expire(ctx, b.now())
		case <-ctx.Done():
			return
		}
	}
}

// expire removes the entries that have ended at now. Other processes do the same at the same time; the register lets one
// win, and the others find nothing left to do.
func (b *Blacklist) expire(ctx context.Context, now time.Time) {
	for _, key := range b.ended(now) {
		_ = b.write(ctx, key, func(old *Block) (change, error) {
			if old == nil || old.Until.IsZero() || now.Before(old.Until) {
				return change{}, nil // gone, or prolonged: the register knows better than our view
			}
			return change{row: &AuditRow{
				At: now, Action: ActionExpire, Grain: old.Grain, ID: old.ID, Holder: old.Holder,
				By: ByExpiry, Reason: old.Reason, Until: old.Until,
			}}, nil
		})
	}
}

func (b *Blacklist) ended(now time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for key, end := range b.ends {
		if !now.Before(end) {
			keys = append(keys, key)
		}
	}
	return keys
}
