// Package stock shows pages how much there is: for each stock, which is a quota stock:{sku}:{location}, it keeps a document of state data,
// stock/{sku}@{location}.
//
// It is a hint. Holds decide on the slices of the shards and never look here, and nobody else does who gives anything away. A document
// follows its quota by the change feeds of the shards that have slices of it: within about a second; exactly below 20 units, else
// when a number has moved by a twentieth of what is shown; and with at most one look at the quota a second.
//
// What the document says is what package ledger's read of the quota gives: the sum over all slices, with expired holds taken back. Two
// who write at once do not undo each other: the document's version is read before the quota, and the write asks for that version.
package stock
