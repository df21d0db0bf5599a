// Package id makes and checks the 128-bit ids of documents: holds, coupons, lots, transfers and all the others that
// have no natural name. The id itself says when the document was born, in which bucket and where it was placed, so a
// request that carries only an id finds its shard without asking a database.
//
// # Layout
//
// An ID is a UUIDv8 (RFC 9562), sixteen bytes in SQL, most significant bit first:
//
//	48 ms | 4 version = 8 | 4 format | 8 site | 2 variant = 10 | 14 bucket | 12 placement | 10 node | 14 seq | 12 mac
//
// As text it is the word of its Kind, an underscore and 26 characters of lower-case Crockford base32. The text is
// canonical: one id has one spelling, and upper case, the letters i, l, o, u and a first character above 7 are refused
// instead of being corrected. The vectors in docs/vectors/ids.tsv are a promise to every client and never change.
//
// # What is authoritative
//
// Uniqueness comes from the triple (ms, node, seq). A node number belongs to one Minter at a time, and time itself is
// fenced: the record of the node in the register holds a high-water mark, written ahead, and a Minter makes only ids
// before the mark. Whoever takes the node over starts at the mark. So two holders of one node can never make the same
// id, however wrong their clocks are and however long one of them was paused. The clocks decide only how politely
// nodes are shared.
//
// # The MAC is a filter
//
// The last 12 bits are a MAC over the kind and the rest of the id. It stops typing errors, ids of another kind and
// guessing before any cache or database is asked, and 1 wrong id of 4,096 slips through. It is never an
// authorisation: who holds an id has proved nothing.
//
// # Failure handling
//
// ErrMalformed and ErrForged both mean that no such document exists; callers tell their clients "not found" or
// "invalid" and keep the difference in the log. ErrClockBackwards and ErrLeaseLost stop minting and nothing else;
// documents that exist go on being served. A Minter recovers by itself once the clock has caught up, or once its Lease
// has been extended or taken anew.
//
// # Traps
//
// Ids sort by time within a bucket and a placement; between buckets of the same millisecond the bucket decides the
// order. The time in an id may run ahead of the clock by a few milliseconds after a burst, and stands still while the
// clock is up to five seconds behind: it orders, it does not measure. The bytes of an ID do not contain its kind, so an
// ID is neither printed nor stored in JSON without it; Codec.Text writes the public form. A register that is restored from
// an old copy has old marks: stop every instance first, and start none before the clock has passed the last mark given out.
package id
