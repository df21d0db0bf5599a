package pending_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/statesvc/statesvc/pending"
)

func TestSweeper(t *testing.T) {
	due := map[int][]string{1: {"a", "b"}, 2: {"c"}}
	expired := make(chan string, 16)
	s := pending.NewSweeper(pending.SweeperConfig{
		Shards: func() []int { return []int{1, 2} }, Every: time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Lead: func(_ context.Context, shard int) bool { return shard == 1 },
		Due: func(_ context.Context, shard, _ int) ([]string, error) {
			owners := due[shard]
			due[shard] = nil
			return owners, nil
		},
		Expire: func(_ context.Context, owner string) error {
			expired <- owner
			return nil
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	got := map[string]bool{<-expired: true, <-expired: true}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !got["a"] || !got["b"] || len(expired) != 0 {
		t.Errorf("expired %v and %d more; shard 2 is another instance's", got, len(expired))
	}
}

// sweep runs a sweeper of shards 1 and 2 for a while of a clock that stands still while there is something to do.
func sweep(t *testing.T, length time.Duration, cfg pending.SweeperConfig) {
	t.Helper()
	cfg.Shards, cfg.Log = func() []int { return []int{1, 2} }, slog.New(slog.DiscardHandler)
	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	if err := pending.NewSweeper(cfg).Run(ctx); err != nil {
		t.Error(err)
	}
}

// A shard whose clock is behind ours does not expire what we take for overdue. More than a batch of it is no reason to ask again
// at once, for as long as the difference lasts.
func TestSweeperWaitsWhereNothingChanges(t *testing.T) {
	owners := make([]string, 600)
	for i := range owners {
		owners[i] = fmt.Sprint("owner-", i)
	}
	synctest.Test(t, func(t *testing.T) {
		var asked int
		sweep(t, 10*time.Second+time.Millisecond, pending.SweeperConfig{
			Every: time.Second,
			Due: func(ctx context.Context, _, limit int) ([]string, error) {
				time.Sleep(time.Millisecond)
				asked++
				return owners[:limit], ctx.Err()
			},
			Expire: func(context.Context, string) error { return nil },
		})
		if asked > 50 {
			t.Errorf("asked %d times in ten seconds", asked)
		}
	})
}

// A blocked owner stays overdue, and stands in the way of nobody else.
func TestSweeperFinishesWhatIsMoreThanABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		due := []string{"blocked"}
		for i := range 2000 {
			due = append(due, fmt.Sprint("owner-", i))
		}
		sweep(t, 1500*time.Millisecond, pending.SweeperConfig{
			Every: time.Second,
			Due: func(_ context.Context, number, limit int) ([]string, error) {
				if number == 2 {
					return nil, nil
				}
				return slices.Clone(due[:min(limit, len(due))]), nil
			},
			Expire: func(_ context.Context, owner string) error {
				if owner == "blocked" {
					return errors.New("the owner is blocked")
				}
				mu.Lock()
				defer mu.Unlock()
				due = slices.DeleteFunc(due, func(other string) bool { return other == owner })
				return nil
			},
		})
		if len(due) != 1 {
			t.Errorf("%d owners are left after a sweep", len(due))
		}
	})
}

// A lane that does not know what became of a COMMIT takes no work, and its callers wait.
func TestSilentShardDoesNotKeepTheOthersFromBeingSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var swept atomic.Int64
		sweep(t, time.Minute, pending.SweeperConfig{
			Every: time.Second,
			Due:   func(_ context.Context, number, _ int) ([]string, error) { return []string{fmt.Sprint(number)}, nil },
			Expire: func(ctx context.Context, owner string) error {
				if owner == "1" {
					<-ctx.Done()
					return ctx.Err()
				}
				swept.Add(1)
				return nil
			},
		})
		if swept.Load() < 5 {
			t.Errorf("the other shard was swept %d times in a minute", swept.Load())
		}
	})
}
