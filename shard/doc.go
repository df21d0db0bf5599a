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
// # When a shard fails over
//
// The register's record of the shard says who is primary, under which epoch, and whether it serves. Somebody else writes it; a
// [Store] obeys, at once and not at the next request:
//
//   - The record names another epoch or node, or the shard does not serve: the primary in use is given up (failover.go). Its sockets
//     are closed under the hands of whoever uses them (wires.go); nothing is begun there any more. What waits in a queue, or is in a
//     batch whose COMMIT was not sent, is handed back; what waits for the answer to COMMIT is undecided at once.
//   - Then [StoreConfig].Closed is told: nothing of an earlier epoch can be sent from here. A server may still carry out what it
//     had received before; that its answers mean nothing is the register's and the replicas' care.
//   - Operations that were handed back, and all that come while the shard does not serve, are held for at most 800 ms and their
//     deadlines, and run on the next primary. Nothing is held whose COMMIT was sent.
//   - PROMOTING names the next primary: connections are made beforehand.
//   - SERVING: what is undecided is decided there, and everybody else goes on at once. An owner's operations that were handed back
//     do not wait for an undecided one of the same owner; their callers had sent them side by side.
//
// Reads are released only under a lease (lease.go): after their answer has come, the register must have said within [ReadLease] that
// this primary serves. A COMMIT needs none; a refusal that leaves no trace does.
//
// Not guaranteed: that a caller notices nothing. A failover of more than 800 ms, a lost COMMIT beyond the deadline, or a register that
// is silent for longer than the lease is heard of as 503 or 504.
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
//   - Reads outside a batch ([Store.Read]) check epoch and ownership in the same snapshot as the rows. Against an old primary that was
//     cut off and does not know it, only the lease helps, where [StoreConfig].ReadLease is set.
package shard
