package testdb

import (
	"context"
	"testing"

	"github.com/statesvc/statesvc/internal/redisd"
)

// Sentinels are two caches, of which one is the primary and the other its replica, and three sentinels that watch them.
type Sentinels struct {
	Caches    []*RedisServer // the first is the primary at first
	Sentinels []*RedisServer

	all *redisd.Watched
}

// WatchedRedis starts caches with sentinels for this test alone.
func WatchedRedis(t testing.TB) *Sentinels {
	t.Helper()
	if err := redisd.Installed(); err != nil {
		require(t, err)
	}
	all, err := redisd.StartWatched(context.Background())
	check(t, "start redis with sentinels", err)
	t.Cleanup(func() { check(t, "stop redis with sentinels", all.Stop()) })
	s := &Sentinels{all: all}
	for _, server := range all.Caches {
		s.Caches = append(s.Caches, &RedisServer{server})
	}
	for _, server := range all.Sentinels {
		s.Sentinels = append(s.Sentinels, &RedisServer{server})
	}
	return s
}

// Setting is what an instance has as the address of this Redis.
func (s *Sentinels) Setting() string { return s.all.Setting() }

// Primary is the address of the cache that the sentinels say is the primary.
func (s *Sentinels) Primary(t testing.TB) string {
	t.Helper()
	primary, err := s.all.Primary(context.Background())
	check(t, "find the primary", err)
	return primary.Addr()
}

// FailOver has the sentinels promote the replica.
func (s *Sentinels) FailOver(t testing.TB) {
	t.Helper()
	check(t, "fail over", s.all.FailOver(context.Background()))
}
