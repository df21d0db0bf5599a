package shard

import (
	"crypto/sha256"
	"encoding/binary"
)

// Buckets is how many buckets there are, for ever. They are the unit of moving: many more than shards, so that a shard
// gives away a small part of itself, and few enough for a table in memory.
const Buckets = 16_384

// Bucket is one of the 16,384 parts that owners fall into, 0 to 16,383. The bucket of an owner never changes; the shard
// of a bucket does. Bucket is the first column of every primary key.
type Bucket uint16

// BucketOf returns the bucket of owner: the first 14 bits of its SHA-256. A state document is its own owner, as
// "{kind}/{id}". BucketOf hashes any text; ValidOwner says which texts are owners. MariaDB computes the same by
//
//	CONV(LEFT(SHA2(owner, 256), 4), 16, 10) >> 2
//
// and SQLite, which has no SHA-256, only keeps what Go computes.
//
// docs/vectors/buckets.tsv is the test of every implementation. It must never change, since rows are stored by it.
func BucketOf(owner string) Bucket {
	var buf [maxOwnerLen]byte // keeps the bytes of every valid owner off the heap
	hash := sha256.Sum256(append(buf[:0], owner...))
	return Bucket(binary.BigEndian.Uint16(hash[:2]) >> 2)
}
