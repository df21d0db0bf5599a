package id

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/statesvc/statesvc/register"
)

// leasePrefix is where the register keeps the records of the nodes: ids/0 to ids/1023.
const leasePrefix = "ids/"

// acquireAttempts bounds the races with other instances that start at the same moment.
const acquireAttempts = 10

// RegisterStore is the LeaseStore of the service. It has no state of its own, so any number of them share one register.
type RegisterStore struct{ reg register.Register }

// NewRegisterStore returns a store that keeps its records in reg.
func NewRegisterStore(reg register.Register) *RegisterStore { return &RegisterStore{reg: reg} }

// node is the record of a node in the register. It outlives its holders, because the mark must never be forgotten.
type node struct {
	Holder string `json:"holder"` // for people; empty: given back
	Term   int64  `json:"term"`
	MarkMS int64  `json:"mark_ms"` // no id of this node has this millisecond or a later one

	number uint16
	rev    int64
}

func (n node) key() string { return leasePrefix + strconv.Itoa(int(n.number)) }

// Acquire implements LeaseStore. It prefers nodes that nobody holds, then the one whose mark passed longest ago: its
// holder is most likely dead.
func (s *RegisterStore) Acquire(ctx context.Context, holder string, now, mark time.Time) (Grant, error) {
	for range acquireAttempts {
		nodes, err := s.list(ctx)
		if err != nil {
			return Grant{}, err
		}
		free, ok := choose(nodes, holder, now)
		if !ok {
			return Grant{}, fmt.Errorf("all %d nodes are in use at %s", len(nodes), now)
		}
		grant, err := s.take(ctx, free, holder, mark)
		if !errors.Is(err, register.ErrConflict) {
			return grant, err
		}
	}
	return Grant{}, fmt.Errorf("other instances were quicker %d times: %w", acquireAttempts, register.ErrConflict)
}

// list reads the records of all nodes, the unused ones included.
func (s *RegisterStore) list(ctx context.Context) ([]node, error) {
	entries, _, err := s.reg.List(ctx, leasePrefix)
	if err != nil {
		return nil, err
	}
	nodes := make([]node, MaxNode+1)
	for i := range nodes {
		nodes[i].number = uint16(i)
	}
	for _, e := range entries {
		n, err := strconv.Atoi(strings.TrimPrefix(e.Key, leasePrefix))
		if err != nil || n < 0 || n > MaxNode || nodes[n].key() != e.Key {
			continue // not the record of a node
		}
		nodes[n].rev = e.Rev
		if json.Unmarshal(e.Value, &nodes[n]) != nil {
			nodes[n].MarkMS = math.MaxInt64 // its mark is not known, so nobody may take it; the others suffice
		}
	}
	return nodes, nil
}

// choose picks the node to take, if any mark has passed. Holders begin their search at different nodes, so that instances
// that start together seldom meet.
func choose(nodes []node, holder string, now time.Time) (best node, ok bool) {
	hash := fnv.New32a()
	hash.Write([]byte(holder))
	start := int(hash.Sum32() % (MaxNode + 1))
	for i := range nodes {
		n := nodes[(start+i)%len(nodes)]
		switch {
		case n.MarkMS > now.UnixMilli():
		case n.Holder == "":
			return n, true
		case !ok || n.MarkMS < best.MarkMS:
			best, ok = n, true
		}
	}
	return best, ok
}

// take begins a new term of the node that was read as old. It fails with register.ErrConflict if somebody was quicker.
func (s *RegisterStore) take(ctx context.Context, old node, holder string, mark time.Time) (Grant, error) {
	next := node{Holder: holder, Term: old.Term + 1, MarkMS: max(old.MarkMS, mark.UnixMilli())}
	value, err := json.Marshal(next)
	if err != nil {
		return Grant{}, err
	}
	_, err = s.reg.Txn(ctx, register.Txn{
		If:   []register.Cond{{Key: old.key(), Rev: old.rev}},
		Then: []register.Op{{Key: old.key(), Value: value}},
	})
	if err != nil {
		return Grant{}, err
	}
	return Grant{
		Node: old.number, Term: next.Term, Floor: time.UnixMilli(old.MarkMS), Mark: time.UnixMilli(next.MarkMS),
	}, nil
}

// Extend implements LeaseStore.
func (s *RegisterStore) Extend(ctx context.Context, grant Grant, mark time.Time) error {
	return s.change(ctx, grant, func(n *node) { n.MarkMS = max(n.MarkMS, mark.UnixMilli()) })
}

// Release implements LeaseStore. The record stays, because its mark is needed for ever; a new term begins, so that nobody
// can extend the old one.
func (s *RegisterStore) Release(ctx context.Context, grant Grant, unused time.Time) error {
	return s.change(ctx, grant, func(n *node) {
		n.Holder = ""
		n.Term++
		n.MarkMS = min(n.MarkMS, unused.UnixMilli())
	})
}

// change edits the record of a node whose term has not ended. An attempt whose answer was lost may arrive late and does no
// harm then: every write names the revision that it replaces.
func (s *RegisterStore) change(ctx context.Context, grant Grant, edit func(*node)) error {
	key := node{number: grant.Node}.key()
	_, err := register.Update(ctx, s.reg, key, func(old register.Entry) ([]byte, error) {
		var n node
		if old.Rev == 0 {
			return nil, ErrLeaseLost
		}
		if err := json.Unmarshal(old.Value, &n); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if n.Term != grant.Term {
			return nil, fmt.Errorf("%w: held by %q", ErrLeaseLost, n.Holder)
		}
		edit(&n)
		return json.Marshal(n)
	})
	return err
}
