package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/statesvc/statesvc/shard"
)

// Precondition is what must be true of a document for it to be written. Exactly one of its fields is set.
type Precondition struct {
	Version Version // it exists in this version
	Exists  bool    // it exists
	Absent  bool    // it does not exist
}

func (p Precondition) holds(d *Document) bool {
	switch {
	case p.Absent:
		return !d.Exists()
	case p.Exists:
		return d.Exists()
	}
	return d.Exists() && d.Version == p.Version
}

// verb is what an operation does to a document.
type verb byte

const (
	put    verb = 'P'
	patch  verb = 'M'
	remove verb = 'D'
)

// change is an operation on a document.
type change struct {
	verb verb
	key  Key
	when Precondition
	body []byte // put: the document; patch: the merge patch
	kind *Kind

	wrote Document // by the attempt that was decided last
}

// Written is the reply of a write, as it is recorded and as callers see it.
type Written struct {
	Kind      string    `json:"kind"`
	ID        string    `json:"id"`
	Version   string    `json:"version"`
	UpdatedAt time.Time `json:"updated_at"`
	Created   bool      `json:"created,omitempty"`
	Deleted   bool      `json:"deleted,omitempty"`
}

// refused is a Conflict as it is recorded.
type refused struct {
	Version string `json:"version,omitempty"`
}

// apply decides a change of a document at now, in an era of its bucket. It changes the row only if the change is done.
func apply(r *row, c *change, era int64, now time.Time) shard.Reply {
	old := r.document
	if era <= 0 || era < old.Version.Era {
		return shard.Reply{Err: fmt.Errorf("%w: %s was written in era %d and its bucket is in era %d",
			shard.ErrInternal, c.key, old.Version.Era, era)}
	}
	if !c.when.holds(&old) {
		return refuse(&old)
	}
	body, err := c.result(old.Body)
	if err != nil {
		return shard.Reply{Err: err}
	}
	r.document.Version = Version{era, nextNumber(old.Version.Number, now)}
	r.document.Body, r.document.UpdatedAt, r.changed = body, now, true
	c.wrote = r.document
	return encode(shard.Done, Written{
		Kind: c.key.Kind, ID: c.key.ID, Version: r.document.Version.String(), UpdatedAt: now, Created: !old.Exists(), Deleted: body == nil,
	})
}

// nextNumber goes on from what the row says. A document without a row begins at the time in milliseconds: if it had one before, its
// number rose more slowly than that.
func nextNumber(number int64, now time.Time) int64 {
	if number == 0 {
		return max(now.UnixMilli(), 1)
	}
	return number + 1
}

// result is what the change makes of the document's body.
func (c *change) result(old []byte) ([]byte, error) {
	switch c.verb {
	case remove:
		return nil, nil
	case patch:
		merged, err := Merge(old, c.body)
		if err != nil {
			return nil, errors.Join(err, shard.ErrInternal)
		}
		return merged, c.kind.check(merged)
	case put:
	}
	return c.body, nil
}

func refuse(d *Document) shard.Reply {
	if !d.Exists() {
		return encode(shard.Refused, refused{})
	}
	return encode(shard.Refused, refused{d.Version.String()})
}

func encode(verdict shard.Verdict, body any) shard.Reply {
	text, err := json.Marshal(body)
	if err != nil {
		return shard.Reply{Err: errors.Join(err, shard.ErrInternal)}
	}
	return shard.Reply{Verdict: verdict, Body: text}
}
