// Package shard knows where an owner lives and how to write there safely.
//
// # What is authoritative
//
// The database of a shard decides. The shard map and the epochs that an instance holds in memory are hints: every write
// transaction reads the fence row (the shard's epoch) and the bucket_owner rows of its buckets first, and an operation that
// came by a stale route ends with [ErrStaleRoute] and changes nothing.
//
// # The committer
//
// A [Committer] turns many concurrent operations into few durable transactions. It is a state machine over loaded rows, as
// an FSM behind a replicated log, with MariaDB (or SQLite when embedded) as its durable store:
//
//	Submit → queue of a lane → batch → round trip 1: BEGIN, fence, bucket_owner, rows → apply, in memory
//	                                 → round trip 2: multi-row writes, row counts checked, COMMIT → answers
//
// The long lists of a large batch take round trips of their own, as prepared statements (send.go).
//
// A lane is one goroutine with one connection. It takes everything that waits as soon as it is free: the next batch forms
// while the last one commits, so an idle service adds no delay and a busy one amortises its fsyncs. An owner's bucket always
// maps to the same lane, so an instance never races with itself; other instances are held off by row locks that each batch
// takes in one fixed order: bucket_owner and fence (shared), then the rows that the domain locks.
//
// What a batch loads, decides and writes is the domain's ([Machine]); the committer owns the tables fence, bucket_owner and
// operations. The domain's Apply has no IO, no clock and no randomness: the same rows, operation and time give the same
// answer, on MariaDB, on SQLite and in a test.
//
// # How an operation ends
//
//   - done or refused by a rule: recorded under its key in the transaction of its effect; a repeat gets the same answer.
//   - not recorded (a retryable refusal, a stale route, overload, a dead database): nothing has changed; the key is unused.
//   - undecided: COMMIT was sent and no answer came. The lane closes until package pending has decided each operation with a
//     tombstone in operations ([DB.Settle]); nobody guesses.
//
// # Trouble inside a batch
//
// Deadlocks, lock waits and duplicate keys are races with another instance: the whole batch is loaded and applied again. A
// violated constraint or a row count that apply did not intend is a bug of ours: the batch is split until the guilty
// operation fails alone. See the table in errors.go.
//
// # Traps
//
//   - Transactions run at READ COMMITTED. It takes no gap locks: a row that may not exist yet is protected by the owner's row
//     and by unique keys, and a lost race shows as a duplicate key.
//   - Nothing here retries after COMMIT was sent. database/sql retries by itself only on a pool, so lanes hold a connection.
//   - Reads outside a batch ([DB.Read]) check epoch and ownership in the same statement as the rows, but are not fenced
//     against an isolated old primary; that needs the failover machinery.
package shard
