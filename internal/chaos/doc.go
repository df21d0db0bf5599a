// Package chaos breaks a whole cluster again and again while clients use it, and then looks whether every promise was kept.
//
// A run is a series of rounds. In each, callers credit, hold, confirm and cancel for owners of their own over HTTP, one fault of the
// list happens (its name, its shard and its instants come from the seed), whatever does not come back by itself is started or woken, and
// the cluster must be whole again in time. Then the load stops, and everything is asked:
//
//   - every key that had an answer answers with the same bytes, and says that it is a repetition; every other key gets an answer;
//   - owner by owner there is an order of all calls that explains all replies ([linear.Model]), ending with one more write, so nobody
//     is blocked and nothing was lost or done twice;
//   - the primary has every operation that was acknowledged and none that nobody sent; lots add up; histories are intact;
//   - all three nodes of each shard have the same rows, the epoch of the record and the right side of read_only;
//   - epochs have only risen, no outcome is undecided, no shard is suspended or stuck.
//
// Only Linux has what it needs; the databases share one disk, so nothing is said about the loss of a machine.
package chaos
