// Package blacklist is the routing blacklist: which nodes, shards, buckets and owners get no writes and no
// background work for the time being, and why. A blocked request has no effect and may be repeated. Freezing an owner is
// something else: a rule of the ledger, with an answer of its own.
//
// # What is authoritative
//
// The register. An entry blocks/<grain>/<id>/<holder> blocks its id; a record undecided/<shard>/<key> blocks its owner: the
// record is the block, so the two can never disagree. One entry per holder: an id is free when the last holder's entry is
// gone, so a bucket move and an admin who block the same bucket do not free each other's.
//
// Check reads an immutable view in memory that follows the register: changes of this process are in it when Block,
// Unblock, PutUndecided and DeleteUndecided return, those of other processes within milliseconds. That makes the view a
// hint with an age, and the blacklist a matter of order, not of safety: that a stale instance writes nothing wrong is the
// business of the epoch check and of the blocks row in the shard's own database.
//
// # Holders
//
// HolderAdmin is for people. HolderUndecided is reserved for undecided records and cannot be given to Block or Unblock. All
// other holders are programs: "controller", "move:<id>". Unblock does not ask who calls it; whoever serves admins passes
// HolderAdmin for them and nothing else, and then they get ErrBlockInForce for what is not theirs.
//
// # Failure handling
//
//   - Register unreachable at the start: Open fails; without a first view an instance is not ready.
//   - Register unreachable later: the view stays. Nothing becomes free: not by memory, and not by the clock, because the
//     entry may have been prolonged where we cannot see it. An expired block counts as expired only while the view has been
//     compared with the register within the last viewTTL. Err reports a view older than staleAfter.
//   - COMMIT without an answer: BlockLocal blocks the owner in this process at once and without the register; PutUndecided
//     then makes it known to all. Until it succeeds, the local block is the only one.
//   - An entry that cannot be read blocks as far as its key can be read. If not even that, Open fails, or Err reports it.
//   - An instance dies: its local blocks die with it, its entries and records stay until somebody removes them.
//
// # Expiry and audit
//
// A block with a time ends at that instant, to the nanosecond of the clock given to Check. Every process looks for ended
// entries at intervals and removes them; the register lets one of them win. Every block, unblock and expiry is a row
// audit/<number>, written in the transaction of the change itself, and the row auditKept numbers before goes in the same
// transaction. Undecided records are not audited: a failover would push everything else out of the log.
//
// # Traps
//
//   - Check looks at all of Target. For a node alone or a shard alone there are CheckNode and CheckShard, since bucket 0 and
//     "no bucket" look the same.
//   - The now of Check must come from the clock that Open was given: a distant one makes the view look stale, and expired
//     blocks last until they are removed.
//   - A clock that runs ahead removes entries early, for everybody. Times are for conveniences; causes are for holders.
//   - After an error that is none of ours, Block may or may not have happened; see register. Calling it again is harmless.
package blacklist
