// Package etcd runs real etcd members, for tests and for the one-machine cluster: Run is one member in this process, and a
// Cluster is several, each in a process of its own, so that they can be killed and paused.
//
// A member is as durable as a production one, and has the timing that the controllers count on: a lost leader is replaced
// within a second. Folders and ports of a Cluster are scratch: nothing outlives the program that started it.
//
// A test binary becomes a member by calling Main first thing in its TestMain. A program starts members by a command of its
// own, see Options.Arguments.
package etcd
