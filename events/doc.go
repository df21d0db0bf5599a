// Package events brings what was decided to those who follow: as pages, as streams, and as signed webhooks.
//
// An event is an entry of an owner's history with a place in the order of its shard. Package ledger keeps that order (ledger/outbox.go
// says why nothing is ever skipped); this package gives the numbers in time ([Feed]), and carries events out.
//
// # What is promised
//
// Every entry becomes one event. Whoever goes on from the last position he has seen misses none and meets no gap: the sequences of a
// shard are 1, 2, 3 … The events of one owner come in the order of his history; between shards there is no order. Delivery is at least
// once: an event that comes again has the same event_id.
//
// # Webhooks
//
// A subscription is an entry of the register. How far it has come is a row on each shard, beside the events it is about, so that both
// survive the same failover. The row also says which instance sends: one at a time, under a lease that ends by itself. The lease keeps
// two from sending the same; what keeps events from being lost is that the position moves on only after the receiver has taken them, by
// a compare-and-set. Who is slow to notice that he lost the lease may send again what another has sent already.
//
// A receiver that fails is asked again after 1 s, 2 s, 4 s … up to an hour. After 72 hours without success the delivery of the shard is
// parked: nothing is sent and nothing is lost, until somebody asks for a replay. Events are kept for 30 days.
//
// # Traps
//
//   - A webhook is called from inside the network of the service. Whoever may make webhooks may send requests to what it can reach.
//   - Secrets of webhooks are in the register in clear, because they sign.
package events
