// Package cache is the way to Redis.
//
// Redis never decides anything about coupons or money: package shard does not import this package, and nothing that is
// read here enters a batch. Redis may be slow, empty or away, and writes go on.
//
// So far there is the coordination role: leases that keep instances from doing the same background work twice. A lease of
// redsync has no fencing token, so it is for efficiency only; whoever holds none simply does not start.
//
// # Traps
//
//   - go-redis by default ignores contexts, waits 5 s and retries 3 times. [Connect] sets all of them.
package cache
