// Package redis starts redis-server in the roles that the service has for it: caches, of which one is the primary and the others are its
// replicas; sentinels, which watch the caches and promote a replica; and coordination.
//
// Each process has a configuration file, because sentinels write what they find out into theirs, and have caches write who is the primary
// into those of the caches. So a file is made once, and belongs to its process from then on.
//
// Nothing has a password: everything is on the loopback interface.
package redis
