// Package state keeps state data: JSON objects that are read all the time and written seldom, such as products and profiles. Each is
// named by a kind and an id, and lives on the shard of its bucket like everything else.
//
// # What is authoritative
//
// The table state on the primary of the shard. Package cache, which stands above this one, serves copies of it.
//
// # A write
//
// A write is an operation in a lane of its shard ([Machine]), next to those of the ledger: the epoch, the bucket's ownership, the
// idempotency key, the precondition and the row are one commit. What it may do is decided by apply, which has no IO, no clock and
// no randomness. The scope of an idempotency key is the document.
//
// # Versions
//
// A [Version] is (era, number), compared era first. The number rises by one with every write. The era is that of the document's bucket:
// it rises with every failover and every move of the bucket, and never falls. A deleted document leaves a tombstone, from which the
// number goes on; a document without one begins at the time in milliseconds, so that not even a purge makes a version come twice.
//
// # Kinds
//
// Documents can only be written to a kind that was declared ([Kinds]): what may be in one, and how large it may be. Declarations are in
// the register and reach all instances within milliseconds. A write is judged by what its instance knows when the request arrives.
//
// # Traps
//
//   - A changed schema judges later writes. Nothing looks at the documents that are there already.
//   - The result of a merge patch is judged inside the batch, because only there the document is known. A refusal for what is in it
//     leaves the key unused.
package state
