package redisd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Package is what brings redis-server, which is a sentinel too if it is told so.
const Package = "redis-server"

// Name is the one under which sentinels know the caches.
const Name = "cache"

// quorum is how many sentinels of three must find the primary dead.
const quorum = 2

// Process is a redis-server with a configuration file, because sentinels write what they find out into theirs, and have caches write who is
// the primary into those of the caches. So a file is made once, and belongs to its process from then on.
type Process struct {
	Address string // host:port
	Folder  string // of its data and its configuration; it exists
}

// ConfigFile is the configuration of the process, which it may have changed itself.
func (p Process) ConfigFile() string { return filepath.Join(p.Folder, "redis.conf") }

// Cache configures a cache, if that was not done before. The primary is empty for the one that is the primary at first.
func (p Process) Cache(primary string) error {
	lines := []string{
		"maxmemory 64mb", "maxmemory-policy allkeys-lfu", `save ""`, "appendonly no",
		"repl-diskless-sync-delay 0", // default: a replica waits for others for 5 s
	}
	if primary != "" {
		lines = append(lines, "replicaof "+spaced(primary))
	}
	return p.configure(lines)
}

// Coordination configures a Redis of the coordination role.
func (p Process) Coordination() error {
	return p.configure([]string{
		"maxmemory 64mb", "maxmemory-policy noeviction", `save ""`, "appendonly yes", "appendfsync everysec",
	})
}

// Sentinel configures a sentinel. It is told of everybody at once: to find each other, sentinels would need seconds.
func (p Process) Sentinel(primary string, replicas, sentinels []string) error {
	lines := []string{
		"sentinel myid " + idOf(p.Address),
		fmt.Sprintf("sentinel monitor %s %s %d", Name, spaced(primary), quorum),
		"sentinel down-after-milliseconds " + Name + " 1000",
		"sentinel failover-timeout " + Name + " 3000", // after a vote without a winner they wait for twice as long
		"sentinel parallel-syncs " + Name + " 1",
	}
	for _, replica := range replicas {
		lines = append(lines, "sentinel known-replica "+Name+" "+spaced(replica))
	}
	for _, other := range sentinels {
		if other != p.Address {
			lines = append(lines, "sentinel known-sentinel "+Name+" "+spaced(other)+" "+idOf(other))
		}
	}
	return p.configure(lines)
}

// idOf is what sentinels tell each other apart by: 40 hexadecimal digits.
func idOf(address string) string {
	sum := sha256.Sum256([]byte(address))
	return hex.EncodeToString(sum[:20])
}

// spaced is an address as configurations have it.
func spaced(address string) string {
	host, port, _ := net.SplitHostPort(address)
	return host + " " + port
}

func (p Process) configure(lines []string) error {
	host, port, err := net.SplitHostPort(p.Address)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(p.ConfigFile(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("configure Redis: %w", err)
	}
	all := append([]string{"bind " + host, "port " + port, "dir " + p.Folder, "daemonize no"}, lines...)
	_, err = file.WriteString(strings.Join(all, "\n") + "\n")
	return errors.Join(err, file.Close())
}

// Arguments are those of redis-server for the process.
func (p Process) Arguments() []string { return []string{p.ConfigFile(), "--shutdown-timeout", "0"} } // default: 10 s for slow replicas

// SentinelArguments are Arguments of a sentinel.
func (p Process) SentinelArguments() []string { return []string{p.ConfigFile(), "--sentinel"} }

// open makes a client for a few questions.
func open(address string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: address, ContextTimeoutEnabled: true, DialerRetries: 1, MaxRetries: -1, DialTimeout: time.Second,
	})
}

// IsPrimary asks a cache whether it takes itself for the primary. A cache that was cut off does.
func IsPrimary(ctx context.Context, address string) (bool, error) {
	c := open(address)
	defer c.Close() //nolint:errcheck // nothing is lost
	role, err := c.Do(ctx, "role").Slice()
	if err != nil {
		return false, fmt.Errorf("ask %s for its role: %w", address, err)
	}
	return len(role) > 0 && role[0] == "master", nil // Sentinel's word
}

// Primary asks a sentinel who is the primary.
func Primary(ctx context.Context, sentinel string) (string, error) {
	c := open(sentinel)
	defer c.Close() //nolint:errcheck // nothing is lost
	at, err := c.Do(ctx, "sentinel", "get-master-addr-by-name", Name).StringSlice()
	if err != nil || len(at) != 2 { // host and port
		return "", fmt.Errorf("ask sentinel %s for the primary: %w", sentinel, err)
	}
	return net.JoinHostPort(at[0], at[1]), nil
}

// FailOver has a sentinel promote a replica although the primary is well.
func FailOver(ctx context.Context, sentinel string) error {
	c := open(sentinel)
	defer c.Close() //nolint:errcheck // nothing is lost
	if err := c.Do(ctx, "sentinel", "failover", Name).Err(); err != nil {
		return fmt.Errorf("have sentinel %s fail over: %w", sentinel, err)
	}
	return nil
}
