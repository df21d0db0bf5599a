// Package cache reads state data from copies that are never older than promised, and is the way to Redis.
//
// Redis never decides anything about coupons or money: package shard does not import this package, and nothing that is
// read here enters a batch. Redis may be slow, empty or away, and writes go on.
//
// # The way of a read
//
// A [Cache] looks into its own memory (l1.go), then it peeks at what Redis has (peek.go), then it asks Redis for the lease to fill it
// (remote.go, scripts/), and the primary (primary.go). Which copies may answer is decided by what the caller asks for ([Ask]):
//
//   - Strong: none. The primary answers, and it is certain that it was one.
//   - AtLeast: one whose version is not below the version that is asked for.
//   - Bounded: one that is known to have been the newest content at some instant of the last [Bound].
//   - Eventual: one that is at hand.
//
// # What a copy knows of itself
//
// An entry carries the version under which it was seen: the era of the bucket when the primary was asked, and the document's number. The
// row's own era, which is in the ETag, may be older. It also carries an instant at which it was the newest content: in Redis as a stamp of
// Redis' clock with the run_id of the server whose clock it is, in memory as an instant of the process's monotonic clock. Both are lower
// bounds: a read may take an entry for older than it is, never for newer.
//
//	fill   the instant at which the lease was given: the primary was asked later
//	write  an instant before the operation was submitted: it was committed later
//	feed   none of its own; see below
//
// # The lease
//
// A HASH per document: v body (empty: there is none) · e, n version as it was seen · g, m era and time of the row · s, u stamp and run ·
// fe, fn floor · t, x token of a lease and its end · w announced writes · d cost of the last fill. All scripts touch one key.
//
//   - A peek changes nothing: an HMGET, in one round trip with those of all who read at the same time, behind the server's TIME. Most reads
//     end here. Its rules are those of get, and it is not believed where get would not: what it does not answer is left to get.
//   - get gives the lease of a document that it does not have, or that is due to be renewed, to one reader; the others wait for him, and
//     after the lease is over ask the primary without filling. So a thousand readers of a cold document make one read of the primary.
//   - fill stores only if its lease lived without interruption and nothing newer is known (CI1).
//   - put, of a write or of the feed, stores only what is newer, raises the floor and ends the lease. The version never falls while the
//     key exists (CI2).
//
// # The feed
//
// Package feed reads the changes of a shard and hands them to a [Follower], in their order, whoever has made them; a crash between a commit
// and its put is so mended, and so is what somebody has written by SQL. Once everything is told that was acknowledged before an instant,
// the follower leaves a beat: then Redis has, for that shard, nothing older than that instant, and entries need no stamps. Without a feed
// entries are believed by their stamps alone, so that each is read from the primary about every second and a half while it is asked for.
//
// The beat is also the follower's position. It lies among the entries, is written after them over the same connection, and so is lost,
// restored and failed over with them.
//
// # The coordination role
//
// [Leases] keep instances from doing the same background work twice. A lease of redsync has no fencing token, so it is for efficiency
// only; whoever holds none simply does not start.
//
// # Traps
//
//   - go-redis by default ignores contexts, waits 5 s and retries 3 times. [Connect] sets all of them.
//   - A clock of Redis that is set back would make entries look young. Its clock is compared with ours; see clock.go.
//   - Lua numbers are doubles. Era and number are two fields, each below 2^53.
//   - No decision may be made by what is read here, not even whether a write would succeed: send it with If-Match.
package cache
