package bench

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/state"
)

const (
	visibleWatchers = 4 // that each write a document through one instance and read it from the other until it is there
	visiblePause    = 20 * time.Millisecond
	visiblePoll     = time.Millisecond
)

// visible measures how long it takes until a write through one instance is read from memory of another one, which has the document:
// first while nothing else happens, then while others write. It returns the second.
func (r *cacheRig) visible(ctx context.Context) (q Quantiles, err error) {
	say(r.out, "\nfrom sending a write to one instance until another one, which has the document in memory, shows it (and from the reply)\n")
	if _, err := r.watch(ctx, "idle", nil); err != nil {
		return q, err
	}
	task := r.task("a")
	task.Documents, task.Writes, task.Rate, task.Length = r.options.Documents, 1, visibleWrites, r.length+cacheWarmup
	return r.watch(ctx, fmt.Sprintf("%d writes/s asked for", visibleWrites), &task)
}

// watch measures for a while, during a load if there is one.
func (r *cacheRig) watch(ctx context.Context, what string, load *CacheLoadTask) (Quantiles, error) {
	var others CacheLoadResult
	group, ctx := errgroup.WithContext(ctx)
	if load != nil {
		group.Go(func() (err error) {
			others, err = r.load(ctx, *load)
			return err
		})
		sleepUntil(ctx, time.Now().Add(cacheWarmup))
	}
	var mu sync.Mutex
	var fromSent, fromReply []time.Duration
	end := time.Now().Add(r.length)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: visibleWatchers}}
	defer client.CloseIdleConnections()
	for i := range visibleWatchers {
		group.Go(func() error {
			for n := 0; time.Now().Before(end); n++ {
				sent, replied, err := r.watchOne(ctx, client, strconv.Itoa(1+i*100+n%100), fmt.Sprintf("watch-%d-%d-%d", r.seed, i, n))
				if err != nil {
					return err
				}
				mu.Lock()
				fromSent, fromReply = append(fromSent, sent), append(fromReply, replied)
				mu.Unlock()
				sleepUntil(ctx, time.Now().Add(visiblePause))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Quantiles{}, err
	}
	q := quantiles(fromSent)
	say(r.out, "  %-26s %v (%v)", what, q, quantiles(fromReply))
	if load != nil {
		say(r.out, "; others wrote %.0f/s", others.perSecond())
	}
	say(r.out, "\n")
	r.seed++
	return q, nil
}

// watchOne writes a document through one instance, and reads it from the other until it is the new one.
func (r *cacheRig) watchOne(ctx context.Context, client *http.Client, id, key string) (sent, replied time.Duration, err error) {
	if _, err := r.get(ctx, client, "b", id); err != nil {
		return 0, 0, err
	}
	sentAt := time.Now()
	written, err := r.put(ctx, client, "a", id, key)
	if err != nil {
		return 0, 0, err
	}
	repliedAt := time.Now()
	for {
		read, err := r.get(ctx, client, "b", id)
		if err != nil {
			return 0, 0, err
		}
		newer, err := noOlder(read, written)
		if err != nil {
			return 0, 0, err
		}
		if now := time.Now(); newer {
			return now.Sub(sentAt), now.Sub(repliedAt), nil
		}
		sleepUntil(ctx, time.Now().Add(visiblePoll))
	}
}

// noOlder reports whether what was read is what was written, or newer: the load writes these documents too.
func noOlder(read, written RecordedReply) (bool, error) {
	var versions [2]state.Version
	for i, reply := range []RecordedReply{read, written} {
		var ok bool
		if versions[i], ok = state.ParseVersion(strings.Trim(reply.Header.Get("Etag"), `"`)); !ok {
			return false, fmt.Errorf("%w: ETag %q", errReply, reply.Header.Get("Etag"))
		}
	}
	return versions[0].Compare(versions[1]) >= 0, nil
}

// cold has many readers ask two instances for a document that is nowhere but in the database, all at once, and returns how many rows the
// database has read for that at most.
func (r *cacheRig) cold(ctx context.Context) (most int64, err error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: coldReaders}}
	defer client.CloseIdleConnections()
	if _, err := r.rush(ctx, client, "1"); err != nil { // opens the connections
		return 0, err
	}
	for i := range coldDocuments {
		rows, err := r.rush(ctx, client, strconv.Itoa(r.options.Documents-i))
		if err != nil {
			return 0, err
		}
		most = max(most, rows)
	}
	say(r.out, "\n%d readers of two instances at once, of %d cold documents one after the other: at most %d rows were read of each\n",
		coldReaders, coldDocuments, most)
	return most, nil
}

func (r *cacheRig) rush(ctx context.Context, client *http.Client, id string) (rows int64, err error) {
	before, err := r.rowsRead(ctx)
	if err != nil {
		return 0, err
	}
	group, loading := errgroup.WithContext(ctx)
	start := make(chan struct{})
	for i := range coldReaders {
		group.Go(func() error {
			<-start
			_, err := r.get(loading, client, [...]string{"a", "b"}[i%2], id)
			return err
		})
	}
	close(start)
	if err := group.Wait(); err != nil {
		return 0, err
	}
	after, err := r.rowsRead(ctx)
	return after - before, err
}
