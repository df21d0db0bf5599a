// Package pending looks after what is not decided yet: outcomes that nobody heard, and holds whose time is over.
//
// # Undecided outcomes
//
// A batch whose COMMIT got no answer may have happened. The [Resolver] blocks the owners of its operations on this
// instance, writes a record of each to the register (the record is the block on every other instance), and asks the shard
// with tombstones ([shard.DB.Settle]) until it is told. Then it removes the records, and with them the blocks.
//
// A record outlives the instance that wrote it: every instance settles records that have been there for longer than a
// moment. Two resolvers on the same record find the same answer. What an instance could not record before it died is
// decided by the client's retry, which finds the key used or not.
//
// # Expired holds
//
// Expiry itself is decided by the ledger, lazily and to the tick. The [Sweeper] only makes it happen soon for owners who do
// not come back, so that pending tables stay small. Nothing is wrong when it is dead.
//
// # Transfers
//
// Units of quotas travel between shards in steps, each safe to repeat ([ledger.Ledger.TendQuotas] has them). Whoever wants units
// finishes what is under way first. The Sweeper finishes what nobody wants any more, such as the transfer of a process that died.
package pending
