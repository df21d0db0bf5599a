package cache

import (
	"sync"
	"time"
)

// After so many failures in a row Redis is left alone for a while; then one attempt tells whether it is back. Without that a Redis that
// hangs would cost every read a timeout.
const (
	breakerFailures = 5
	breakerPause    = 500 * time.Millisecond
)

type breaker struct {
	mu       sync.Mutex
	failures int
	openTill time.Time
	probing  bool
}

// allow reports whether an attempt may be made. Whoever is allowed must say how it went.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < breakerFailures {
		return true
	}
	if b.probing || now.Before(b.openTill) {
		return false
	}
	b.probing = true
	return true
}

func (b *breaker) done(now time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	if err == nil {
		b.failures = 0
		return
	}
	if b.failures++; b.failures >= breakerFailures {
		b.openTill = now.Add(breakerPause)
	}
}
