// Package feed hands the committed changes of a shard's tables to a consumer: whole transactions, in the order of their commits,
// each at least once and none left out.
//
// A [Tailer] reads the binary log of the shard's primary as a replica that never acknowledges. A [Consumer] keeps its own
// [Position] together with its effect, so there is no checkpoint beside them that could be ahead of one or behind the other: whoever
// loses its effect loses its position with it, and is started anew by [Consumer.Reset].
//
//	binary log → groups → window → Release → Consumer
//	                        ↑
//	          markers: acknowledged commits of the feed's own
//
// # What is released
//
// The binary log of a semi-synchronous primary shows a transaction before a replica has acknowledged it, and a failover may take it
// away again. So the feed commits markers of its own: rows of `clock`, under the check of the epoch. Acknowledgements are cumulative,
// so when a marker's commit is answered, everything in front of it in the binary log will survive any failover. Only that is
// released. A primary that was cut off or deposed answers no marker, and what was read from it is forgotten.
//
// A marker says a second thing: everything that was acknowledged to anybody before the marker was begun is in front of it. When the
// feed has handed over all of that, [Release.CompleteAt] says so, by the clock of this process. It is what a cache needs to know how
// old it may be.
//
// # Two tailers at once
//
// are correct, because consumers take repeats. A lease (TailerConfig.Lead) saves the work, and protects nothing.
//
// # When something is missing
//
// The consumer is told to start anew ([Gap]) when it has no position, when the logs behind its position were removed, and when a
// change was written in a way that shows no rows: a statement, TRUNCATE, a row image that is not full. It then reads the tables
// themselves; the feed goes on from a place in front of which everything is visible to such a read.
//
// A position that the primary does not know is something else: a transaction that was released has vanished, which no failover does.
// The feed raises an alarm and stands still until somebody has looked.
//
// # Without a server
//
// An [EmbeddedTailer] feeds the same consumers from a shard in a SQLite file.
//
// # Memory
//
// What is read and not yet released is bounded; beyond the bound the feed stops reading, and the primary waits for it as for any slow
// replica. A transaction that is larger than the bound comes in parts.
//
// # Traps
//
//   - Two replicas with one server id throw each other out, so each tailer needs one of its own, which no node has.
//   - go-mysql kills the connection that it leaves by way of a new one, which hangs if the primary does. Ours refuses new connections
//     once it is closed.
//   - Its read timeout would also measure the consumer. Ours is set before every single read.
//   - Names and signs of columns are in the log only with binlog_row_metadata=FULL; nothing else tells what a row meant when it was
//     written. So it is demanded.
//   - The wait of a marker for its acknowledgement is never killed: the server would answer as if there had been one.
package feed
