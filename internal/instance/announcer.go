package instance

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// The clocks of announcing.
const (
	sayPatience  = time.Second            // of one put, and of making or ending a session
	sayAgain     = 50 * time.Millisecond  // after an error; a controller waits for what is said, but not for much longer than this
	suspectEvery = 200 * time.Millisecond // between reports of one shard in one epoch: they are evidence, not a log
)

// Session is a lease on a part of the register: what is put through it goes when the instance does. An etcd cluster has such
// sessions; a register in a file has none, and no failover.
type Session interface {
	// Put writes value under key until the session ends. After an error it may have happened.
	Put(ctx context.Context, key string, value []byte) (rev int64, err error)
	// Done is closed when the session is lost, and with it all that was put.
	Done() <-chan struct{}
	// Close ends the session and removes what was put.
	Close(ctx context.Context) error
}

// announcer says in the register what controllers need to hear from an instance: that it is there, which epochs it is closed to,
// and what it has seen of primaries. It repeats in each new session what is still true.
type announcer struct {
	name string
	open func(ctx context.Context) (Session, error)
	now  func() time.Time
	log  *slog.Logger
	wake chan struct{} // something is due

	mu       sync.Mutex
	lasting  map[string][]byte // true for as long as the instance lives
	due      map[string][]byte // not said in this session
	closed   map[int]string    // the key of the newest epoch of each shard; older ones need not be said any more
	suspects map[int]suspect   // the last report of each shard
}

type suspect struct {
	epoch uint64
	at    time.Time
}

func newAnnouncer(cfg *Config) *announcer {
	a := &announcer{
		name: cfg.Name, open: cfg.NewSession, now: cfg.Now, log: cfg.Log, wake: make(chan struct{}, 1),
		lasting: map[string][]byte{}, due: map[string][]byte{}, closed: map[int]string{}, suspects: map[int]suspect{},
	}
	a.say("instances/"+a.name, a.value(map[string]any{"address": cfg.Address, "started_at": cfg.Now().UTC()}), true)
	return a
}

func (a *announcer) value(of map[string]any) []byte {
	text, _ := json.Marshal(of) // maps of strings and times have no errors
	return text
}

// isClosed is told by the store that nothing of an epoch before this one can be sent any more.
func (a *announcer) isClosed(shard int, epoch uint64) {
	key := fmt.Sprintf("closed/%d/%d/%s", shard, epoch, a.name)
	a.mu.Lock()
	delete(a.lasting, a.closed[shard])
	delete(a.due, a.closed[shard])
	a.closed[shard] = key
	a.mu.Unlock()
	a.say(key, a.value(map[string]any{"at": a.now().UTC()}), true)
}

// suspect is told by lanes and readers what their connections to a primary met.
func (a *announcer) suspect(shard int, epoch uint64, what string) {
	now := a.now()
	a.mu.Lock()
	last := a.suspects[shard]
	tooSoon := last.epoch == epoch && now.Sub(last.at).Abs() < suspectEvery
	if !tooSoon {
		a.suspects[shard] = suspect{epoch, now}
	}
	a.mu.Unlock()
	if !tooSoon {
		a.say(fmt.Sprintf("suspects/%d/%d/%s", shard, epoch, a.name), a.value(map[string]any{"what": what, "at": now.UTC()}), false)
	}
}

func (a *announcer) say(key string, value []byte, lasting bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due[key] = value
	if lasting {
		a.lasting[key] = value
	}
	a.wakeUp()
}

// run keeps a session, and makes another when it is lost, until ctx ends.
func (a *announcer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := a.session(ctx); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "the instance cannot announce itself in the register", "error", err)
			pause(ctx, sayAgain)
		}
	}
	return nil
}

// session lives through one session. In a new one everything that is still true is due again.
func (a *announcer) session(ctx context.Context) error {
	opening, cancel := context.WithTimeout(ctx, sayPatience)
	defer cancel()
	s, err := a.open(opening)
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	defer a.end(ctx, s)
	a.mu.Lock()
	maps.Copy(a.due, a.lasting)
	a.mu.Unlock()
	for {
		if err := a.sayDue(ctx, s); err != nil {
			a.log.WarnContext(ctx, "could not put a key of the instance; it is tried again", "error", err)
			pause(ctx, sayAgain)
			a.wakeUp()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.Done():
			return nil
		case <-a.wake:
		}
	}
}

func (a *announcer) wakeUp() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// end removes at once what would otherwise stay until the lease is over.
func (a *announcer) end(ctx context.Context, s Session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sayPatience)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		a.log.WarnContext(ctx, "could not end the session; its keys go by themselves", "error", err)
	}
}

// sayDue puts what is due, in the order of the keys: closed/ before suspects/, because controllers wait for it.
func (a *announcer) sayDue(ctx context.Context, s Session) error {
	a.mu.Lock()
	due := maps.Clone(a.due)
	a.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(due)) {
		if err := a.put(ctx, s, key, due[key]); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
	}
	return nil
}

// put says one thing, which is then due no more, unless it has changed meanwhile.
func (a *announcer) put(ctx context.Context, s Session, key string, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sayPatience)
	defer cancel()
	if _, err := s.Put(ctx, key, value); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if string(a.due[key]) == string(value) {
		delete(a.due, key)
	}
	return nil
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
