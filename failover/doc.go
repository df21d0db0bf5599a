// Package failover keeps every shard writable: it notices that a primary is gone, deprives it of its acknowledgements, elects the
// replica that has everything, promotes it, and brings the old primary back as a replica.
//
// # Parts
//
// A [Controller] leads all shards of a cluster; two others wait to take its place. For each shard it repeats
//
//	observe → Next(state) → actions → facts
//
// [Next] is a pure function from what is known (the shard's record, what the nodes answered, what this run has done) to the
// actions that may be started now. An action is idempotent, and ends in facts that the next call of Next sees; one that fails leaves
// no fact, and is due again. So there is no position in a procedure that a crash could lose: the record and the nodes say what
// was done, and a controller that takes over begins with a new epoch.
//
// A [Node] is a database as a controller talks to it: the SQL of each step, on a session that nobody else can have at the same time.
// An [Agent] is the only supervisor of its database process: it starts it in the role that the record allows and kills it
// when its epoch is over. Neither agents nor instances decide a failover.
//
// # What is authoritative
//
// The record `shards/<n>` in the register, changed by compare-and-set under the leader's guard. A node's own promise
// (statesvc_local.promise) keeps a controller of an older epoch away from it, and one of an earlier leadership in the same epoch: a shard
// that serves keeps its epoch when another controller takes over, and what the former one had begun must not happen late.
//
// # The failover, F0 to F11
//
//	F0  suspect    the agent reports the death, or two connections are refused, or three probes are missed while no replica receives
//	F1  decide     record: epoch+1, FENCING. Instances cut their connections and hold requests
//	F2  kill       the primary's agent sees FENCING and kills it; nobody waits for it
//	F3  revoke     every possible acker promises the epoch and stops receiving: from here the old primary acknowledges nothing
//	F4  elect      the one that has received most, never below the floor
//	F5  drain      it applies what it has received
//	F6  promote    record: PROMOTING, the candidate, the floor; it becomes a primary while its sibling is pointed at it
//	F7  establish  the first commit of the epoch is the fence row, acknowledged by the sibling
//	F8  lease      until every instance has let go of the old epoch, or its read leases have ended
//	F9  open       read_only off; record: SERVING
//	F10 resolve    instances settle the undecided operations
//	F11 heal       the old primary comes back as a replica, in the background
//
// # Why all of them
//
// MariaDB's semi-synchronous replication waits for one acknowledgement, of whichever replica is quicker. An acknowledged write is
// therefore in at least one possible acker, and only if all of them were asked is the best of them known to have it. The set of
// possible ackers is kept in the record (in_sync and joining) and is never smaller than it is in truth: a node enters it before it is
// let in, and leaves it after it was locked out and the others have what it may have acknowledged, or after its process has ended
// while no client was served. A start id stands beside each name, as a process that was restarted has lost what it had only received.
//
// # What is tried out
//
// The simulator plays Next with a shard of three nodes through thousands of seeds of faults on a virtual clock and asserts the
// invariants after every event; `go test ./failover -run TestSimulator -sim.rounds=100000` plays more. The scripts in testdata
// tell the failovers that people ask about.
package failover
