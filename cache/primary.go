package cache

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

// The bulkhead in front of a shard's primary: whatever happens to Redis, a shard has no more reads of documents than this.
const (
	primaryReads   = 2    // statements under way; each has up to state.MaxRead documents
	primaryWaiting = 4096 // documents that wait for one
)

// primaries read documents from their primaries, many in one statement: while one is under way, the next gathers.
type primaries struct {
	read func(ctx context.Context, keys []state.Key) ([]state.Snapshot, error)

	ctx  context.Context // of the reads: they outlive the callers who wait for them
	work *sync.WaitGroup

	mu      sync.Mutex
	shards  map[int]*gathering
	closing bool
}

// gathering is what waits for one shard.
type gathering struct {
	waiting []*want
	running int
}

type want struct {
	key   state.Key
	reply chan wanted // has room for the reply
}

type wanted struct {
	snapshot state.Snapshot
	err      error
}

// one reads a document. The read begins after the call.
func (p *primaries) one(ctx context.Context, number int, k state.Key) (state.Snapshot, error) {
	w := &want{k, make(chan wanted, 1)}
	if err := p.queue(number, w); err != nil {
		return state.Snapshot{}, err
	}
	select {
	case r := <-w.reply:
		return r.snapshot, r.err
	case <-ctx.Done():
		return state.Snapshot{}, fmt.Errorf("%w: wait for the primary: %w", shard.ErrOverloaded, ctx.Err())
	}
}

func (p *primaries) queue(number int, w *want) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return shard.ErrClosed
	}
	g := p.shards[number]
	if g == nil {
		g = &gathering{}
		p.shards[number] = g
	}
	if len(g.waiting) >= primaryWaiting {
		return fmt.Errorf("%w: %d reads of documents wait", shard.ErrOverloaded, primaryWaiting)
	}
	g.waiting = append(g.waiting, w)
	if g.running < primaryReads {
		g.running++
		p.work.Go(func() { p.run(g) })
	}
	return nil
}

// run reads what waits, until nothing does.
func (p *primaries) run(g *gathering) {
	for {
		runtime.Gosched() // whoever is about to ask comes along
		batch := p.take(g)
		if batch == nil {
			return
		}
		keys := make([]state.Key, len(batch))
		for i, w := range batch {
			keys[i] = w.key
		}
		snapshots, err := p.read(p.ctx, keys)
		for i, w := range batch {
			if err != nil {
				w.reply <- wanted{err: err}
				continue
			}
			w.reply <- wanted{snapshot: snapshots[i]}
		}
	}
}

func (p *primaries) take(g *gathering) []*want {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(g.waiting), state.MaxRead)
	if n == 0 {
		g.running--
		return nil
	}
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	return batch
}

// close refuses new reads. Those under way end with ctx.
func (p *primaries) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
}
