package pending_test

import (
	"context"
	"log/slog"
	"testing"
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
