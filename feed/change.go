package feed

import (
	"context"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// Table is a table whose changes are wanted. One that is neither Versioned nor AppendOnly may change in any way.
type Table struct {
	Name       string
	Version    string // the column that every update raises; an update that does not is an alarm. Empty: there is none
	AppendOnly bool   // every update and delete is an alarm
}

// Change is what a transaction did to one row. Before and After are whole rows.
type Change struct {
	Table  string
	Bucket shard.Bucket // of the row; 0 in a table without buckets
	Before Row          // not there for an insert
	After  Row          // not there for a delete
	// Unversioned says that the change broke the rule of its table, so it was not made by this service. It was committed all the
	// same: whoever keeps versions must not compare this one, and does best to forget the row.
	Unversioned bool
}

// Transaction is what one commit did to the wanted tables, in the order in which it did so.
type Transaction struct {
	GTID        GTID
	CommittedAt time.Time // by the primary's clock, to the second
	Changes     []Change
	First       int  // the index of Changes[0] in the whole transaction
	Complete    bool // false: too large for the memory of the feed, more of it follows in the next release
}

// Release is what a consumer is handed: everything in it will survive any failover.
type Release struct {
	Shard        int
	Epoch        uint64 // of the primary that has acknowledged it
	Transactions []Transaction
	// Position is where the consumer stands when it has taken the release. It is not moved by the parts of a transaction that
	// is not complete.
	Position Position
	// CompleteAt is an instant by the clock of this process: whatever anybody was acknowledged before it is in this release or an
	// earlier one. It never falls while the tailer runs, unless the consumer's Position is not where it was left: it is zero then, until
	// it is known again.
	CompleteAt time.Time
}

// Reason is why a consumer has to start anew.
type Reason string

// The reasons.
const (
	ReasonNew        Reason = "new"        // the consumer has no position
	ReasonPurged     Reason = "purged"     // the primary has no logs any more from where the consumer stands
	ReasonUnreadable Reason = "unreadable" // something changed a wanted table without showing the rows
)

// Gap says that changes may be missing between two positions.
type Gap struct {
	Shard    int
	Epoch    uint64
	Reason   Reason
	After    Position // where the consumer stood
	Position Position // where the feed goes on; a read of the primary that begins now sees everything up to here
}

// Consumer does something with the changes of a shard. Only one of its methods is called at a time, but another tailer may call those
// of another Consumer with the same effect: on another instance, or for a moment after this one has lost its lease.
//
// An error ends the connection; the feed begins again from Position after a pause, which grows while errors last.
type Consumer interface {
	// Position returns where the effects of the consumer end. It must not be ahead of them. Empty: there are none, or they are lost.
	Position(ctx context.Context) (Position, error)
	// Take carries out a release and keeps r.Position, if that is not the same as before, together with the effects or after them.
	// It may get again what it has taken, also from further back than it stands, and must then leave its effects as they are.
	// A release without transactions comes about five times a second.
	Take(ctx context.Context, r Release) error
	// Reset makes the effects good from the tables themselves, and then keeps g.Position. If it fails, or the process ends on the way,
	// Position must still return what it did before.
	Reset(ctx context.Context, g Gap) error
}

// AlarmKind is what an alarm is about.
type AlarmKind string

// The kinds.
const (
	AlarmUnversioned AlarmKind = "unversioned" // a row was changed against the rule of its table
	AlarmUnreadable  AlarmKind = "unreadable"  // rows were changed and not shown; the consumer starts anew
	AlarmPurged      AlarmKind = "purged"      // logs were removed before they were read; the consumer starts anew
	AlarmVanished    AlarmKind = "vanished"    // the primary does not know the consumer's position; the feed stands still
)

// Alarm tells of what must not happen while only this service writes, and wants a person.
type Alarm struct {
	Shard int
	Kind  AlarmKind
	GTID  GTID   // zero if it is not about a transaction
	Table string // empty if it is not about a row
	What  string // for people
}
