package shard

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/glebarez/go-sqlite"
	"github.com/go-sql-driver/mysql"
)

// The ways in which a submitted operation ends without a verdict of the domain. All but ErrOutcomeUnknown mean that
// nothing has changed and that the same key may be sent again.
var (
	// ErrOverloaded: the queue is full, or the operation's deadline passed before a batch took it.
	ErrOverloaded = errors.New("the shard has more work waiting than it can do in time")
	// ErrStaleRoute: the operation came under an old epoch, or its bucket is not served by this shard (any more).
	ErrStaleRoute = errors.New("the route to the shard is out of date")
	// ErrFailover: the shard cannot be written to just now, or no current route was found in time.
	ErrFailover = errors.New("the shard has no primary that takes writes at the moment")
	// ErrOutcomeUnknown: the operation was in a batch whose outcome was not known by the caller's deadline. It may
	// have happened. Only a repeat under the same key, or the operations endpoint, tells.
	ErrOutcomeUnknown = errors.New("the outcome of the operation is not known yet")
	// ErrInternal: the operation violates a constraint that the rules should have kept. It was rolled back alone; this
	// is a bug and is logged as one.
	ErrInternal = errors.New("the operation violates an invariant and was rolled back")
	// ErrLookUp is a domain's reply to an operation that it cannot decide without what it has not looked up, because its
	// batch has not collided (see Machine.NewBatch). The lane runs such operations again, by themselves; no caller sees it.
	ErrLookUp = errors.New("the operation needs rows that were not loaded")
	// ErrClosed: the committer is shutting down and takes no new operations.
	ErrClosed = fmt.Errorf("shutting down: %w", ErrOverloaded)
)

// KeyReusedError says that an idempotency key came back with another request than the first time, or was sealed.
type KeyReusedError struct {
	Stored []byte // fingerprint of the first request
	Sent   []byte // fingerprint of this one
	Sealed bool   // the key was burned by a seal; no request may use it any more
}

func (e *KeyReusedError) Error() string {
	if e.Sealed {
		return "the idempotency key was sealed"
	}
	return "the idempotency key belongs to another request"
}

// fault says what a database error means for the batch that met it.
type fault int

const (
	faultNone      fault = iota
	faultRetry           // a race with another instance: the transaction is gone, run the batch again
	faultStale           // the server does not take our writes: read-only, or our epoch is old
	faultBug             // a constraint that apply should have kept; split the batch
	faultLost            // the connection or the server is gone
	faultDuplicate       // a unique key: a race at first, a bug if it comes again
	faultLarge           // too many bytes for one packet; split the batch
	faultGivenUp         // of reads, and in metrics only: the caller did not wait
)

// mysqlFaults maps the server's error numbers that prove that a transaction did not commit. Every other number counts as
// faultLost, which after a sent COMMIT means undecided.
var mysqlFaults = map[uint16]fault{
	1020: faultRetry,     // record has changed since last read
	1205: faultRetry,     // lock wait timeout
	1213: faultRetry,     // deadlock
	1062: faultDuplicate, // duplicate key
	1290: faultStale,     // read-only server
	1792: faultStale,     // read-only transaction
	1836: faultStale,     // read-only mode
	1048: faultBug,       // column cannot be null
	1064: faultBug,       // syntax
	1146: faultBug,       // no such table
	1054: faultBug,       // no such column
	1242: faultBug,       // the row count guard: see Packet.commit
	1264: faultBug,       // out of range
	1292: faultBug,       // wrong value
	1364: faultBug,       // no default
	1366: faultBug,       // wrong string value
	1406: faultBug,       // data too long
	1690: faultBug,       // BIGINT out of range
	4025: faultBug,       // CHECK violated
}

// classify translates a driver's error once, for both dialects.
func classify(err error) fault {
	if err == nil {
		return faultNone
	}
	if my, ok := errors.AsType[*mysql.MySQLError](err); ok {
		if f, ok := mysqlFaults[my.Number]; ok {
			return f
		}
		return faultLost
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return classifySQLite(lite.Code())
	}
	switch {
	case errors.Is(err, errRowCount):
		return faultBug
	case errors.Is(err, errStaleEpoch):
		return faultStale
	case errors.Is(err, errTooLarge):
		return faultLarge
	}
	return faultLost
}

// errTooLarge: the writes of a batch do not fit into one packet. The server would drop the connection and tell nobody why.
var errTooLarge = errors.New("too many bytes for one packet")

// errAbandoned: the register has taken the shard from its primary. Nothing of the operation was committed, nor can be.
var errAbandoned = fmt.Errorf("the primary was given up: %w", ErrStaleRoute)

// errUnreachable: the primary was not reached, and the register does not know it yet, or will not. Nothing has happened.
var errUnreachable = fmt.Errorf("the primary cannot be reached: %w", ErrFailover)

// suspicion names what a broken connection says about the server, for those who judge whether it is dead.
func suspicion(err error) string {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused"
	}
	if network, ok := errors.AsType[net.Error](err); ok && network.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	return "lost"
}

// errStaleEpoch: the fence row holds another epoch than the route.
var errStaleEpoch = errors.New("stale epoch")

// notInTransaction reports SQLite's answer to a ROLLBACK after it has rolled back by itself.
func notInTransaction(err error) bool {
	_, ok := errors.AsType[*sqlite.Error](err)
	return ok
}

// classifySQLite reads SQLite's (extended) result codes. Unlike a server, SQLite runs in our process: an error from it is
// always an answer. Only an IO error during COMMIT leaves the outcome to the next reader of the file.
func classifySQLite(code int) fault {
	const (
		busy, locked, ioerr, full = 5, 6, 10, 13
		primaryKey, unique, rowID = 1555, 2067, 2579
		trigger                   = 1811
	)
	switch {
	case code == primaryKey || code == unique || code == rowID:
		return faultDuplicate
	case code == trigger: // somebody forbids the write, as with SIGNAL on a server
		return faultLost
	case code&0xff == busy || code&0xff == locked:
		return faultRetry
	case code&0xff == full || code&0xff == ioerr:
		return faultLost
	}
	return faultBug
}

// connectionGone reports errors after which a connection must not be used again.
func connectionGone(err error) bool { return brokenConnection(err) || classify(err) == faultLost }

// brokenConnection reports errors of the way to the server, not of the server.
func brokenConnection(err error) bool {
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, mysql.ErrPktSync) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	_, network := errors.AsType[net.Error](err)
	return network
}
