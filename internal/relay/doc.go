// Package relay stands between the nodes of a one-machine cluster, so that one of them can be cut off from all others.
//
// It forwards TCP connections. Each belongs to one node or to two: to the node whose database it reaches, to the node whose agent
// reaches the register over it, and, if a replica logs in over it, to that replica's node as well; it is known by the account in
// the login, which therefore must not be encrypted. As long as one of its nodes is cut, nothing passes in either direction, neither
// data nor the end of the connection, and a new connection is not even accepted: it is tried in vain, as with a host
// that is gone. Only a replica that is cut is found out a step later: its new connection to another node hangs after the login.
//
// What was sent meanwhile is kept and passes when the nodes are healed, as TCP does after a partition.
//
// A server that refuses connections is seen as one that resets them, because the relay has accepted by then.
package relay
