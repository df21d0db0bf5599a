// Package register is the small consistent store of a cluster: the shard map, epochs, blocks, undecided records, leases of
// id nodes and API keys. It holds kilobytes to megabytes that change seldom and that everybody must agree on; data of
// owners never goes here.
//
// # Shape
//
// A Register maps keys to values. Every effective transaction gets the next revision, and an Entry carries the revision that
// wrote it (Rev), so "nobody changed it since I looked" is one comparison. Txn is the only way to write: all conditions hold
// and all operations happen, or nothing happens. Get and List see every transaction that was acknowledged to anybody
// before they were called. Watch pushes every change of a prefix in order. Put, Create, Delete and Update are what most
// callers need; Mirror keeps a prefix in memory for those who read it all the time.
//
// # What is authoritative
//
// The register decides who is primary, where a bucket lives and who is blocked. What a Mirror holds is a hint with an age:
// a reader that must not act on old news looks at FreshAt.
//
// # The file register
//
// OpenFile serves the embedded mode and all processes of one machine. The file begins with a snapshot and continues as a log
// of one checksummed line per transaction:
//
//	9ad1f3c4 {"register":1,"rev":41,"entries":2}
//	0b7e11aa {"rev":7,"ops":[{"k":"map","v":"e30="}]}
//	…
//	52e08d19 {"rev":42,"ops":[{"k":"blocks/node/n1/admin","v":"e30="},{"k":"keys/a","d":true}]}
//
// A transaction is acknowledged after its line is synced. A writer holds an flock on "<path>.lock" from reading the tail of
// the log to the sync, so several handles and several processes never lose an update. The others notice the new size of the
// file within the poll interval, or at their next Get, List or Txn. When the log has outgrown the snapshot, a writer writes
// a new file beside the old one, syncs it and renames it over the old one.
//
// # The etcd register
//
// OpenEtcd serves a cluster of machines. All keys have a common prefix that callers do not see, and an Entry's Rev is etcd's
// ModRevision: revisions rise with every change of the cluster, also with those of others. Get and List ask until they are
// answered or their context ends, first one member, then all. A Txn is sent once, by us and by the library below us.
//
// A Session is a lease: what is put with it goes away when it is closed, or some time after its holder died. A Leadership
// belongs to a session: the oldest of the keys leaders/<name>/<lease> leads, and the next one in age follows. Guarded is the
// register as the leader may use it: each of its transactions also requires that his key is still there, so a leader who
// has slept through his end writes nothing and hears ErrDeposed. Depose ends the term of a leader who was seen dead before
// his session is over; if he is alive after all, nothing is broken.
//
// # Failure handling
//
//   - Killed while appending: the last line is incomplete, was never acknowledged, and the next handle cuts it off.
//   - Killed while compacting: the temporary file is ignored and later overwritten; after the rename the new file is whole.
//   - A damaged line that is not the last one, a gap in the revisions, an older file put in place of a newer one:
//     ErrCorrupt, for every call, until somebody repairs it. Nothing is skipped silently.
//   - A failed write is cut off again. A failed sync makes the handle refuse everything: what the disk holds is then
//     unknown, and only opening the file anew tells.
//   - The disk or the lock holder hangs: calls wait until their context ends. Serving goes on from what Mirrors hold.
//   - An etcd member dies: reads, sessions and watches go on with another one; a transaction that was on its way is unknown.
//   - An etcd member hangs: a read asks the others after a quarter of a second, and sessions go on; a transaction sent to it
//     waits for its context, and a watch is silent, until the connection is given up some ten seconds later.
//   - The cluster has no majority: everything waits until its context ends, sessions are over after their time, watches end.
//
// # Traps
//
//   - After an error of Txn other than those that say "nothing has happened" the transaction may or may not have happened.
//     Read again; never repeat blindly, because the repetition may meet its own first attempt as a conflict.
//   - Values are shared between the register and its readers: they are read-only.
//   - Damage inside the very last line cannot be told from a torn write, and is cut off like one.
//   - flock is not reliable on network file systems, and deleting "<path>.lock" while processes run breaks the exclusion.
//   - A missing file is created empty. Whoever loses the file of a cluster loses its epochs; restore it before starting.
//   - The file register has no leases that end by themselves and no leadership: it is for one machine without failover.
//   - Of etcd's own: a transaction without any operation is answered from the member's own state, which may be old, so ours
//     always reads something; a full cluster may apply what it refuses, so "no space" is an unknown outcome, not ErrFull; a
//     member without leader lets watches go stale unless asked not to (WithRequireLeader), and notices of progress prove
//     nothing; the client repeats requests that a server has answered with Canceled, unless told not to.
//   - A session lasts whole seconds, and no less than 1.5 times the election timeout of the members.
//   - A candidate key is never rewritten: its ModRevision is its birth. Who writes below leaders/ by hand deposes somebody.
//   - An etcd cluster restored from a backup must be given higher revisions than it had (etcdutl's bump-revision), or Mirrors
//     take what is new for old.
package register
