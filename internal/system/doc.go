// Package system tests the program as it is run: its own binary, in processes of their own, over HTTP and real databases, under
// load and with faults.
//
// A [cluster] is one or two `statesvc serve` on shared MariaDB shards, or one on SQLite files. Callers are spread over the
// instances; every call and every reply is kept under its key. Meanwhile processes are killed at the instants of
// shard/failpoint, databases are killed and restarted, connections are cut, disks run full. Then everything is asked again:
//
//   - every key that was acknowledged answers with the same bytes, every other key resolves to one answer;
//   - the final answers alone are replayed by a model (book_test.go), and lots, coupons, holds, versions and histories must be
//     what they make: nothing is missing and nothing was done twice;
//   - no outcome stays undecided.
//
// linear_test.go also checks the order of everything with porcupine, owner by owner: each reply must be explained by some order
// of the calls that agrees with real time. Names with a C number are cases that other systems got wrong.
//
// All files but this one are tests. They skip where MariaDB is missing, except with CI=true.
package system
