package cache

import (
	"cmp"
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

// MaxKeys is how many documents one ReadMany takes.
const MaxKeys = 200

// ReadMany reads documents side by side, in the order of keys. What memory does not have is looked for in Redis in one round trip, and what
// may not answer there shares statements. The documents are of different instants. The first error ends all of it.
func (c *Cache) ReadMany(ctx context.Context, keys []state.Key, ask Ask) ([]Result, error) {
	results := make([]Result, len(keys))
	var asked []state.Key // of Redis
	var at []int          // where they belong in results
	for i, k := range keys {
		if err := k.Check(); err != nil {
			return nil, err
		}
		var ok bool
		if results[i], ok = c.fromMemory(k, &ask); !ok {
			asked, at = append(asked, k), append(at, i)
		}
	}
	found := c.look(ctx, asked, &ask)
	group, ctx := errgroup.WithContext(ctx)
	for n, i := range at {
		group.Go(func() (err error) {
			results[i], err = c.beyond(ctx, keys[i], &ask, found[n])
			return err
		})
	}
	return results, group.Wait()
}

// List returns the documents of a kind that exist, after a position, from the primaries of all shards. next is where the next page
// begins; it is zero after the last one. Each shard is read at its own instant.
func (c *Cache) List(ctx context.Context, kind string, after state.Position, limit int) (
	page []state.Document, next state.Position, err error,
) {
	buckets := c.representatives()
	parts := make([][]state.Document, len(buckets))
	group, ctx := errgroup.WithContext(ctx)
	for i, bucket := range buckets {
		group.Go(func() (err error) {
			parts[i], err = c.cfg.Documents.List(ctx, bucket, kind, after, limit+1)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, next, err
	}
	page = slices.Concat(parts...)
	slices.SortFunc(page, func(a, b state.Document) int {
		return cmp.Or(cmp.Compare(a.Key.Bucket(), b.Key.Bucket()), cmp.Compare(a.Key.ID, b.Key.ID))
	})
	if len(page) > limit {
		page = page[:limit]
		last := page[limit-1].Key
		next = state.Position{Bucket: last.Bucket(), ID: last.ID}
	}
	return page, next, nil
}

// representatives are a bucket of each shard that has any, by which it is found.
func (c *Cache) representatives() []shard.Bucket {
	found := map[int]bool{}
	var buckets []shard.Bucket
	for b := range shard.Bucket(shard.Buckets) {
		if number := c.cfg.Locate(b).Shard; !found[number] {
			found[number] = true
			buckets = append(buckets, b)
		}
	}
	return buckets
}
