// Package ledger is the domain: coupons, lots of money, and the holds over them.
//
// # Shape
//
// A public method of [Ledger] (Hold, Confirm, Issue …) checks what can be checked without data, mints the ids that the
// operation may need, and submits it to the owner's shard. There a lane puts it in a batch, and machine.go does the rest in
// three steps that package shard calls in order:
//
//	load    which rows the operations need (load.go): the owners' rows with locks, then holds, coupons, lots
//	apply   the rules, on rows in memory (apply_*.go): no IO, no clock, no randomness
//	write   the rows that apply changed (write.go)
//
// # The owner's row is the lock
//
// Every write of an owner locks the row in owners first, so an owner's writes are serial on all instances, and the plain
// reads after it see all that was decided before. A first write has no row to lock: two instances that race for it both
// insert the row, one gets a duplicate key, and its batch runs again.
//
// # What is final and what is not
//
// holds is the pending ledger: live holds only. A hold that is confirmed, cancelled or expired moves to decided_holds and
// leaves an entry in entries, which is append-only and chained by hash per owner (history.go has the formula). orders remembers
// for ever which hold an order's attempt has made, with the document that says what is in it. The counters of lots and the states
// of coupons are kept in step in the same transaction; CHECKs in the schema refuse what would break conservation.
//
// # Time
//
// now is the shard's, read once per batch. A hold with expires_at ≤ now is expired whether or not a sweeper ever ran: apply
// settles the expired holds of an owner before it looks at the operation, and reads show what is true at their instant. due_at
// in the owner's row says when that is worth a look.
//
// # Quotas
//
// A quota is a number of equal units that must not be oversold: the stock of a SKU at a location, the budget of a campaign in minor
// units, a count of coupons. It has one home, the bucket of its id, with the total and what is free; and one slice on each shard
// that sells it. A hold takes from the slice on its owner's shard, in its own commit, and asks nobody else:
//
//	home   total = free + granted to each shard       quotas, grants: locked by the row in owners of the quota's id
//	slice  granted = available + held + used          slices: locked after all owners, in the order of quotas
//
// Units travel between home and slice by transfers, a GRANT out and a RETURN back, each in three steps that are safe to repeat:
// out at the source (a row of transfers appears, the units are gone), in at the destination, closed at the source (the row goes).
// Between two ends there is one transfer of a kind at a time, and the destination takes number n+1 after n and no other: it is
// exactly once without a memory of old ones. Whoever wants to send finds the one under way and finishes it first; a sweeper finishes
// what nobody wants any more. So at every instant, over all shards: free + slices + transfers that are out and not in = total.
//
// Who moves units is quota_broker.go; which, how many and when is decided by the pure rules in apply_quota.go. A hold that finds
// too little ends without a verdict, waits for a borrow outside the lane, and is submitted again. sold-out is said only if home and
// every slice were found dry, with nothing under way, in a round that began after the hold had come.
//
// # Campaigns
//
// A campaign is a definition, which never changes, and a state. Its home is the bucket of campaign:{campaign_id}; each shard has a mark
// with the state that it was told last, and a change is answered when all shards have been told. A claim looks at the definition that
// its instance keeps, at the mark, at the owner's usage, and takes from the slices of the campaign's quotas, all in the owner's
// transaction (campaign_apply.go). campaign_desk.go spreads the states.
//
// # Codes
//
// A code lives where its text says, under the lock of code:{code}. A redemption reserves it there for an owner and one of his keys, is
// decided as a claim under that key on his shard, and is closed there: redeemed, or free again. Each step is safe to repeat, and
// whoever meets a reservation finishes it (code_desk.go).
//
// # Packets
//
// A packet lives with its sender, whose money it took when it was made, split into shares. A grab marks the next share as its owner's
// and as sent; then it is landed as a lot of his, whose reference is the packet and the number of the share, and then closed. Each
// step is safe to repeat, and a sweeper finishes what somebody has left (packet_desk.go). The rest returns when a packet's time is over:
//
//	total = shares grabbed + what is left or returned        packets
//	shares grabbed = lots they have become + shares sent     packet_shares, lots
//
// # Failure handling
//
// A rule that refuses gives a [Refusal], which is recorded under the key and replayed, unless it is held-by-other. A reference
// that belongs to another request gives a [KeyReused]; a row that contradicts another stops the operation with
// shard.ErrInternal and changes nothing. DESIGN.md has the reasons.
//
// # Traps
//
//   - Replies are stored and replayed byte for byte. The structs in reply.go are the wire format of openapi.yaml; a change
//     there must stay readable for clients that get a reply of last year.
//   - apply must not change a row before it knows that the operation succeeds: all or nothing. Only what has expired is
//     written down first, because it is true in any case.
//   - What an operation writes must not depend on what else is in its batch. It may therefore look only at what it would have
//     loaded alone; TestBatchesChangeNothing compares.
//   - The order of a new hold is looked up only if something is wrong with the hold (see [Machine.NewBatch]).
//   - Texts go into JSON without escapes. A new field with a wider alphabet than references have needs an encoder that escapes.
package ledger
