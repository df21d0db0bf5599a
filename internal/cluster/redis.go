package cluster

import (
	"context"
	"os"

	"github.com/statesvc/statesvc/internal/redisd"
)

// redis is a process of the Redis kinds.
func (s *State) redis(p *Process) redisd.Process {
	return redisd.Process{Address: p.Address, Folder: s.path(p.Name)}
}

func (s *State) configureRedis(p *Process) error {
	if err := os.MkdirAll(s.path(p.Name), 0o700); err != nil {
		return err
	}
	all := s.addressesOf(KindCache)
	switch {
	case p.Kind == KindCoordination:
		return s.redis(p).Coordination()
	case p.Kind == KindSentinel:
		return s.redis(p).Sentinel(all[0], all[1:], s.addressesOf(KindSentinel))
	case p.Address == all[0]:
		return s.redis(p).Cache("")
	}
	return s.redis(p).Cache(all[0])
}

// addRedis tells an instance where Redis is. A cluster that was made before there was any goes on without.
func (s *State) addRedis(config map[string]any) {
	for _, address := range s.addressesOf(KindCoordination) {
		config["redis"] = address
	}
	if list := s.addressesOf(KindSentinel); len(list) > 0 {
		config["redis_cache"] = redisd.Setting(list)
	}
}

// primaryCache is the address of the cache that the first sentinel which answers names; "" if none does.
func (s *State) primaryCache(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	for _, address := range s.addressesOf(KindSentinel) {
		if primary, err := redisd.Primary(ctx, address); err == nil {
			return primary
		}
	}
	return ""
}

// roleOf is what a cache is. named is the one that the sentinels have for the primary.
func roleOf(ctx context.Context, p *Process, named string) string {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	switch primary, err := redisd.IsPrimary(ctx, p.Address); {
	case err != nil:
		return "does not answer"
	case !primary:
		return "replica"
	case named != "" && named != p.Address: // sentinels tell it after some seconds
		return "running, to become a replica"
	}
	return "primary"
}
