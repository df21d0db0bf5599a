package testdb

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/redis"
)

// Sentinels are two caches, of which one is the primary and the other its replica, and three sentinels that watch them.
type Sentinels struct {
	Caches    []*RedisServer
	Sentinels []*RedisServer
}

// The sizes.
const (
	watchedCaches = 2
	watchers      = 3
)

// WatchedRedis starts caches with sentinels for this test alone. They are ready to fail over when it returns.
func WatchedRedis(t testing.TB) *Sentinels {
	t.Helper()
	s := &Sentinels{}
	for range watchedCaches {
		s.Caches = append(s.Caches, newRedis(t))
	}
	for range watchers {
		s.Sentinels = append(s.Sentinels, newRedis(t))
	}
	primary := s.Caches[0].Addr()
	for i, server := range s.Caches {
		of := ""
		if i > 0 {
			of = primary
		}
		check(t, "configure a cache", server.process().Cache(of))
		server.args = server.process().Arguments()
		server.Restart(t)
	}
	for _, server := range s.Sentinels {
		check(t, "configure a sentinel", server.process().Sentinel(primary, addresses(s.Caches[1:]), addresses(s.Sentinels)))
		server.args = server.process().SentinelArguments()
		server.Restart(t)
	}
	return s
}

func addresses(servers []*RedisServer) (list []string) {
	for _, server := range servers {
		list = append(list, server.Addr())
	}
	return list
}

// process is what the configuration of a server is about.
func (s *RedisServer) process() redis.Process {
	return redis.Process{Address: s.Addr(), Folder: s.folder}
}

// Setting is what an instance has as the address of this Redis.
func (s *Sentinels) Setting() string {
	return "sentinel://" + strings.Join(addresses(s.Sentinels), ",") + "/" + redis.Name
}

// Primary is the cache that the sentinels say is the primary.
func (s *Sentinels) Primary(t testing.TB) *RedisServer {
	t.Helper()
	address, err := redis.Primary(context.Background(), s.Sentinels[0].Addr())
	check(t, "find the primary", err)
	for _, server := range s.Caches {
		if server.Addr() == address {
			return server
		}
	}
	t.Fatalf("the sentinels know a primary at %s", address)
	return nil
}

// FailOver has the sentinels promote the replica, as soon as they think it fit for that.
func (s *Sentinels) FailOver(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(redisStartTimeout)
	err := redis.FailOver(context.Background(), s.Sentinels[0].Addr())
	for ; err != nil && time.Now().Before(deadline); time.Sleep(redisPollInterval) {
		err = redis.FailOver(context.Background(), s.Sentinels[0].Addr())
	}
	check(t, "fail over", err)
}
