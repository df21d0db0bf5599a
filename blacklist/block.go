package blacklist

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/statesvc/statesvc/register"
)

// attemptsMax bounds the writes of blocks. All of them meet at the head of the audit log, so a busy moment costs attempts.
const attemptsMax = 100

// unreadableReason stands for the reason of an entry whose value cannot be decoded. It blocks without an end.
const unreadableReason = "the entry cannot be read"

// Block is one holder's block of one id.
type Block struct {
	Grain        Grain
	ID           string // of a shard or bucket the decimal number without leading zeros
	Holder       string
	Reason       string    // for operators and the audit log
	PublicReason string    // for callers; may be empty
	Until        time.Time // zero: until removed
	By           string    // who did it: a key id, a program
	At           time.Time
	Local        bool // only in this process, by BlockLocal; not for Block
}

// stored is the value of a block's entry.
type stored struct {
	Reason       string    `json:"reason"`
	PublicReason string    `json:"public_reason,omitempty"`
	Until        time.Time `json:"until,omitzero"`
	By           string    `json:"by"`
	At           time.Time `json:"at"`
}

func (b Block) place() place { return place{b.Grain, b.ID} }

func (b Block) check(now time.Time) error {
	switch {
	case b.Holder == HolderUndecided:
		return fmt.Errorf("%w: holder %q is for undecided records", ErrInvalid, b.Holder)
	case b.Local:
		return fmt.Errorf("%w: a local block has no entry", ErrInvalid)
	case !b.Until.IsZero() && !b.Until.After(now):
		return fmt.Errorf("%w: it would end at %s, before it begins", ErrInvalid, b.Until.Format(time.RFC3339Nano))
	case len(b.PublicReason) > reasonLenMax:
		return fmt.Errorf("%w: the public reason has more than %d bytes", ErrInvalid, reasonLenMax)
	}
	return checkAuthor(b.By, b.Reason)
}

func checkAuthor(by, reason string) error {
	if reason == "" || len(reason) > reasonLenMax {
		return fmt.Errorf("%w: a reason of 1 to %d bytes is needed", ErrInvalid, reasonLenMax)
	}
	return checkText("by", by)
}

func (b Block) encode() ([]byte, error) {
	return json.Marshal(stored{
		Reason: b.Reason, PublicReason: b.PublicReason, Until: b.Until.UTC(), By: b.By, At: b.At.UTC(),
	})
}

// decodeBlock fails only if the key does not say what is blocked. Of a value that cannot be read nothing is believed, its
// end least of all.
func decodeBlock(e register.Entry) (Block, error) {
	p, holder, err := parseBlockKey(e.Key)
	if err != nil {
		return Block{}, err
	}
	var s stored
	if err := json.Unmarshal(e.Value, &s); err != nil {
		s = stored{Reason: unreadableReason}
	}
	return Block{
		Grain: p.grain, ID: p.id, Holder: holder,
		Reason: s.Reason, PublicReason: s.PublicReason, Until: s.Until, By: s.By, At: s.At,
	}, nil
}

// sameAs tells whether a repetition of b by the same holder would change nothing.
func (b Block) sameAs(old Block) bool {
	return b.Reason == old.Reason && b.PublicReason == old.PublicReason && b.Until.Equal(old.Until) && b.By == old.By
}

// Block puts block into the register; when it returns, every Check of this process sees it. The same holder's older block
// of the same id is replaced; if only At differs, nothing is written. A zero At is now.
func (b *Blacklist) Block(ctx context.Context, block Block) error {
	now := b.now()
	if block.At.IsZero() {
		block.At = now
	}
	key, err := block.place().key(block.Holder)
	if err == nil {
		err = block.check(now)
	}
	if err != nil {
		return err
	}
	row := AuditRow{
		At: block.At, Action: ActionBlock, Grain: block.Grain, ID: block.ID, Holder: block.Holder,
		By: block.By, Reason: block.Reason, Until: block.Until,
	}
	err = b.write(ctx, key, func(old *Block) (change, error) {
		if old != nil && block.sameAs(*old) {
			return change{}, nil
		}
		return change{put: &block, row: &row}, nil
	})
	if err != nil {
		return fmt.Errorf("block %s %s for %s: %w", block.Grain, block.ID, block.Holder, err)
	}
	return nil
}

// Unblock removes holder's block of an id; when it returns, every Check of this process sees it. Other holders' blocks of
// the same id stay. ErrNotBlocked: there is none at all. ErrBlockInForce: there is none of the admin, but others stand.
func (b *Blacklist) Unblock(ctx context.Context, grain Grain, id, holder, by, reason string) error {
	p := place{grain, id}
	key, err := p.key(holder)
	if err == nil {
		err = checkAuthor(by, reason)
	}
	if err != nil {
		return err
	}
	row := AuditRow{At: b.now(), Action: ActionUnblock, Grain: grain, ID: id, Holder: holder, By: by, Reason: reason}
	err = b.write(ctx, key, func(old *Block) (change, error) {
		if old == nil {
			return change{}, ErrNotBlocked
		}
		return change{row: &row}, nil
	})
	if errors.Is(err, ErrNotBlocked) {
		err = b.whyNot(ctx, p, key, holder)
	}
	if err != nil {
		return fmt.Errorf("unblock %s %s for %s: %w", grain, id, holder, err)
	}
	return nil
}

// whyNot says why holder's block of p cannot be removed, given that the register has no entry of it under key.
func (b *Blacklist) whyNot(ctx context.Context, p place, key, holder string) error {
	if err := errors.Join(b.blocks.Renew(ctx), b.undecided.Renew(ctx)); err != nil {
		return err
	}
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, cause := range b.causes[p] {
		ended := name == key || (!cause.Until.IsZero() && !now.Before(cause.Until))
		if !ended && (holder == HolderAdmin || cause.Holder == holder) {
			return fmt.Errorf("%w: held by %s", ErrBlockInForce, cause.Holder)
		}
	}
	return ErrNotBlocked
}

// change is what to do with an entry: put it, or with a row only, delete it; without a row there is nothing to do.
type change struct {
	put *Block
	row *AuditRow
}

// write changes one entry and the audit log together. decide sees the entry as the register has it, nil if it is absent,
// and is asked again if somebody else was quicker. If nothing is to be done, then perhaps because another process has just
// done it: the view catches up first, so that the caller always sees what he has asked for.
func (b *Blacklist) write(ctx context.Context, key string, decide func(old *Block) (change, error)) error {
	for range attemptsMax {
		old, block, err := b.current(ctx, key)
		if err != nil {
			return err
		}
		c, err := decide(block)
		if err != nil {
			return err
		}
		if c.row == nil {
			return b.blocks.Renew(ctx)
		}
		err = b.commit(ctx, old, key, c)
		if !errors.Is(err, register.ErrConflict) {
			return err
		}
	}
	return register.ErrConflict
}

func (b *Blacklist) current(ctx context.Context, key string) (register.Entry, *Block, error) {
	entry, err := get(ctx, b.reg, key)
	if err != nil || entry.Rev == 0 {
		return entry, nil, err
	}
	block, err := decodeBlock(entry)
	return entry, &block, err
}

func (b *Blacklist) commit(ctx context.Context, old register.Entry, key string, c change) error {
	op := register.Op{Key: key, Delete: c.put == nil}
	if c.put != nil {
		value, err := c.put.encode()
		if err != nil {
			return err
		}
		op.Value = value
	}
	txn, err := b.withAudit(ctx, *c.row)
	if err != nil {
		return err
	}
	txn.If = append(txn.If, register.Cond{Key: key, Rev: old.Rev})
	txn.Then = append(txn.Then, op)
	rev, err := b.reg.Txn(ctx, txn)
	if err != nil {
		return err
	}
	b.blocks.Wrote(rev, txn.Then)
	return nil
}

// get is Get with a zero entry for an absent key.
func get(ctx context.Context, reg register.Register, key string) (register.Entry, error) {
	entry, err := reg.Get(ctx, key)
	if errors.Is(err, register.ErrNotFound) {
		return register.Entry{}, nil
	}
	return entry, err
}

// BlockLocal blocks owner in this process at once, without the register: for an owner whose COMMIT got no answer, until
// PutUndecided has told everybody, or until it is decided. reason is shown to callers. release ends it and may be called
// more than once. If the process ends, so does the block.
func (b *Blacklist) BlockLocal(owner, holder, reason string) (release func()) {
	block := Block{Grain: GrainOwner, ID: owner, Holder: holder, Reason: reason, PublicReason: reason, At: b.now(), Local: true}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.locals++
	name := "local/" + strconv.FormatInt(b.locals, 10) // no key of the register begins so
	b.set(name, block)
	b.publish(map[place]bool{block.place(): true})
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.drop(name, block.place())
		b.publish(map[place]bool{block.place(): true})
	})
}

// Filter selects blocks; an empty field selects all.
type Filter struct {
	Grain  Grain
	ID     string
	Holder string
}

func (f Filter) takes(b Block) bool {
	return (f.Grain == "" || f.Grain == b.Grain) && (f.ID == "" || f.ID == b.ID) && (f.Holder == "" || f.Holder == b.Holder)
}

// List returns the blocks of this process's view in order of grain, id and holder. An owner with several undecided records
// is listed once, with the oldest. A block that has just ended may still be among them.
func (b *Blacklist) List(filter Filter) []Block {
	found := b.matching(filter)
	slices.SortFunc(found, compareBlocks)
	return slices.CompactFunc(found, func(a, b Block) bool {
		return a.place() == b.place() && a.Holder == b.Holder && a.Local == b.Local
	})
}

func (b *Blacklist) matching(filter Filter) []Block {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []Block
	for _, causes := range b.causes {
		for _, block := range causes {
			if filter.takes(block) {
				found = append(found, block)
			}
		}
	}
	return found
}

// UndecidedOwners counts the owners of this process's view who are blocked because an outcome is undecided.
func (b *Blacklist) UndecidedOwners() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, causes := range b.causes {
		if p.grain == GrainOwner && blockedBy(causes, HolderUndecided) {
			n++
		}
	}
	return n
}

func blockedBy(causes map[string]Block, holder string) bool {
	for _, cause := range causes {
		if cause.Holder == holder {
			return true
		}
	}
	return false
}

func compareBlocks(a, b Block) int {
	return cmp.Or(
		cmp.Compare(a.Grain, b.Grain), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Holder, b.Holder),
		cmp.Compare(strconv.FormatBool(a.Local), strconv.FormatBool(b.Local)), a.At.Compare(b.At),
	)
}
