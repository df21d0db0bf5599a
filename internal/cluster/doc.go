// Package cluster runs a whole cluster on one machine, for trying and for tests: three members of etcd, for each shard three agents
// with their databases, controllers, and instances; all on the loopback interface, and all of them this program again. Besides,
// redis-server in its roles: three caches with three sentinels, and one for coordination.
//
// Everything is in one folder: cluster.json, which says what there is and what runs, a configuration and a log for each process, and
// the data. The processes are not children of whoever started them: they go on until Down, or until the machine stops.
//
// A process is known by its id and by the time of its start, because ids are given again: nothing is ever signalled that was not
// started from this folder. That is read from /proc, so this package needs Linux.
//
// It is no model for production: what fails together should not be on one machine, and all databases here share one disk.
package cluster
