// Package operators answers what operators ask over HTTP about failovers: it joins package api, which may not know how a shard is failed
// over, with package failover, which knows nothing of HTTP. It decides nothing; orders are left in the register for the controllers, and
// shards that another tool fails over are fenced and opened by the functions of failover.
package operators
