// Package instance puts the parts of the service together: the one place where production, the embedded mode, tests and
// benchmarks build the same thing.
//
//	register → routes, blacklist, keys, id lease → store of shards → ledger → resolver, sweeper
//
// [Bootstrap] makes a cluster: schemas, bucket ownership, secrets, records and map, in this order, so that the map is
// published last and points only at what is there. [Open] starts an instance of it. [Instance.Close] stops in reverse.
package instance
