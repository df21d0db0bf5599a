package shard_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/statesvc/statesvc/shard"
)

// bucketInMariaDB computes the bucket of a text in SQL, as an auditor does who does not trust Go. SQLite has nothing to hash with.
const bucketInMariaDB = "CONV(LEFT(SHA2(%s,256),4),16,10) >> 2"

// TestBucketsInDatabases: the published buckets, the first and the last one, and those of other owners stay what Go has computed
// when a batch has written them; and MariaDB computes the same from the stored owner.
func TestBucketsInDatabases(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		want := shard.PublishedBuckets(t)
		want[ownerIn(0)], want[ownerIn(shard.Buckets-1)] = 0, shard.Buckets-1
		for i := range 200 {
			owner := fmt.Sprint("owner-", i)
			want[owner] = shard.BucketOf(owner)
		}
		submitAll(t, start(t, shard.Config{DB: db}), want)
		if got := writtenBuckets(t, db); !maps.Equal(got, want) {
			t.Errorf("stored are %v, want %v", got, want)
		}
		var first, last, count int
		query(t, db, "SELECT MIN(bucket), MAX(bucket), COUNT(*) FROM bucket_owner", &first, &last, &count)
		if first != 0 || last != shard.Buckets-1 || count != shard.Buckets {
			t.Errorf("the shard serves %d buckets from %d to %d", count, first, last)
		}
		if db.Dialect == shard.SQLite {
			return
		}
		for text, bucket := range want {
			var got shard.Bucket
			if query(t, db, "SELECT "+fmt.Sprintf(bucketInMariaDB, "'"+text+"'"), &got); got != bucket {
				t.Errorf("in MariaDB %q has bucket %d, want %d", text, got, bucket)
			}
		}
		var strangers int
		query(t, db, "SELECT COUNT(*) FROM operations WHERE bucket <> "+fmt.Sprintf(bucketInMariaDB, "owner"), &strangers)
		if strangers > 0 {
			t.Errorf("MariaDB computes another bucket for %d owners than is stored", strangers)
		}
	})
}

// ownerIn finds an owner of a bucket.
func ownerIn(b shard.Bucket) string {
	for i := 0; ; i++ {
		if owner := fmt.Sprint("seeker-", i); shard.BucketOf(owner) == b {
			return owner
		}
	}
}

// submitAll has the committer write an operation of each owner, many in a batch.
func submitAll(t *testing.T, c *shard.Committer, owners map[string]shard.Bucket) {
	t.Helper()
	var all sync.WaitGroup
	for owner, bucket := range owners {
		all.Go(func() {
			o := op(owner, "k", 1)
			o.Bucket = bucket
			if r := c.Submit(t.Context(), o); r.Err != nil {
				t.Errorf("%s: %v", owner, r.Err)
			}
		})
	}
	all.Wait()
}

func writtenBuckets(t *testing.T, db *shard.DB) map[string]shard.Bucket {
	t.Helper()
	rows, err := db.SQL().QueryContext(t.Context(), "SELECT owner, bucket FROM operations")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	found := map[string]shard.Bucket{}
	for rows.Next() {
		var owner string
		var bucket shard.Bucket
		if err := rows.Scan(&owner, &bucket); err != nil {
			t.Fatal(err)
		}
		found[owner] = bucket
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

func query(t *testing.T, db *shard.DB, text string, into ...any) {
	t.Helper()
	if err := db.SQL().QueryRowContext(t.Context(), text).Scan(into...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}
