package failover

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// ReadRecord reads the record of a shard, and the revision by which it may be replaced.
func ReadRecord(ctx context.Context, reg register.Register, number int) (Record, int64, error) {
	entry, err := reg.Get(ctx, shard.RecordKey(number))
	if err != nil {
		return Record{}, 0, fmt.Errorf("read the record of shard %d: %w", number, err)
	}
	r, err := DecodeRecord(entry.Value)
	return r, entry.Rev, err
}

// Overview is what there is to see of the shards, read one after the other: the parts need not be of the same instant.
type Overview struct {
	Records map[int]Record
	Orders  map[int]Order // that stand
	Hosts   map[string]Host
}

// Look reads what people want to know of all shards. What cannot be decoded is left out: people look when something is wrong.
func Look(ctx context.Context, reg register.Register) (o Overview, err error) {
	o = Overview{Records: map[int]Record{}, Orders: map[int]Order{}, Hosts: map[string]Host{}}
	read := func(prefix string, keep func(name string, value []byte)) {
		entries, _, listing := reg.List(ctx, prefix)
		err = errors.Join(err, listing)
		for _, e := range entries {
			keep(strings.TrimPrefix(e.Key, prefix), e.Value)
		}
	}
	read(shard.RecordPrefix, func(name string, value []byte) {
		number, wrong := strconv.Atoi(name)
		if r, undecodable := DecodeRecord(value); wrong == nil && undecodable == nil {
			o.Records[number] = r
		}
	})
	read(ordersPrefix, func(name string, value []byte) { keepNumbered(o.Orders, name, value) })
	read(hostsPrefix, func(name string, value []byte) {
		var h Host
		if json.Unmarshal(value, &h) == nil {
			o.Hosts[name] = h
		}
	})
	return o, err
}

func keepNumbered(orders map[int]Order, name string, value []byte) {
	var o Order
	if number, err := strconv.Atoi(name); err == nil && json.Unmarshal(value, &o) == nil {
		orders[number] = o
	}
}

// Standing returns the order that a shard has, or register.ErrNotFound.
func Standing(ctx context.Context, reg register.Register, number int) (o Order, err error) {
	entry, err := reg.Get(ctx, orderKey(number))
	if err != nil {
		return o, fmt.Errorf("read the order for shard %d: %w", number, err)
	}
	return o, json.Unmarshal(entry.Value, &o)
}

// Position orders journals in time, and is different for each: no shard fails over twice in a millisecond.
func (j *Journal) Position() int64 { return j.DecidedAt.UnixMilli()<<shardBits | int64(j.Shard) }

const shardBits = 12 // of a shard's number

// Journals reads the journals of a shard, or with 0 of all, that come before a position, newest first and at most limit. before 0 means
// the newest. Each shard keeps a bounded number of them, so all are read each time.
func Journals(ctx context.Context, reg register.Register, number, limit int, before int64) ([]Journal, error) {
	prefix := journalPrefix
	if number != 0 {
		prefix += strconv.Itoa(number) + "/"
	}
	entries, _, err := reg.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("read the journals of failovers: %w", err)
	}
	var found []Journal
	for _, e := range entries {
		var j Journal
		if json.Unmarshal(e.Value, &j) == nil && (before == 0 || j.Position() < before) {
			found = append(found, j)
		}
	}
	slices.SortFunc(found, func(a, b Journal) int { return cmp.Compare(b.Position(), a.Position()) })
	return found[:min(limit, len(found))], nil
}

// Mode is who replaces a lost primary.
type Mode string

// The modes.
const (
	ModeAutomatic Mode = "automatic"
	ModeSuspended Mode = "suspended"
	ModeExternal  Mode = "external"
	ModeNone      Mode = "none" // there is no replica that could take over
)

// Mode says who replaces the shard's primary if it is lost.
func (r *Record) Mode() Mode {
	switch {
	case r.External:
		return ModeExternal
	case len(r.InSync) == 0:
		return ModeNone
	case r.Suspended != "":
		return ModeSuspended
	}
	return ModeAutomatic
}

// Role is the part of a node in its shard.
type Role string

// The roles.
const (
	RolePrimary Role = "primary"
	RoleInSync  Role = "in-sync"
	RoleJoining Role = "joining"
	RoleOut     Role = "out"
)

// RoleOf returns the role of a node, and the start id under which it has it.
func (r *Record) RoleOf(node string) (Role, string) {
	if node == r.Primary {
		return RolePrimary, r.PrimaryStart
	}
	if startID, ok := r.InSync[node]; ok {
		return RoleInSync, startID
	}
	if startID, ok := r.Joining[node]; ok {
		return RoleJoining, startID
	}
	return RoleOut, ""
}

// NodeNames lists the nodes of the shard in order.
func (r *Record) NodeNames() []string { return r.names() }
