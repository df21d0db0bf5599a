package blacklist

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/statesvc/statesvc/register"
)

const (
	// auditKept is how many rows the register keeps. Whoever needs more has the log of the instances.
	auditKept = 10_000
	// AuditLimitMax is the most rows one call of Audit returns.
	AuditLimitMax = 200

	auditDigits = 18  // of a row's number in its key, so that keys sort like numbers
	auditPage   = 100 // rows whose keys differ in the last two digits only
)

// Actions of audit rows.
const (
	ActionBlock   = "block"
	ActionUnblock = "unblock"
	ActionExpire  = "expire"
)

// AuditRow is one change of the blacklist.
type AuditRow struct {
	Number int64     `json:"-"` // 1, 2, 3, … without gaps
	At     time.Time `json:"at"`
	Action string    `json:"action"`
	Grain  Grain     `json:"grain"`
	ID     string    `json:"id"`
	Holder string    `json:"holder"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"`
}

func auditKey(number int64) string {
	return fmt.Sprintf("%s%0*d", auditPrefix, auditDigits, number)
}

// withAudit begins a transaction that appends row and forgets the row that is too many. The head of the log is one of its
// conditions, so two rows never get the same number.
func (b *Blacklist) withAudit(ctx context.Context, row AuditRow) (register.Txn, error) {
	head, last, err := b.auditEnd(ctx)
	if err != nil {
		return register.Txn{}, err
	}
	row.At, row.Until = row.At.UTC(), row.Until.UTC()
	value, err := json.Marshal(row)
	if err != nil {
		return register.Txn{}, err
	}
	next := last + 1
	txn := register.Txn{
		If: []register.Cond{{Key: auditHead, Rev: head.Rev}},
		Then: []register.Op{
			{Key: auditHead, Value: strconv.AppendInt(nil, next, 10)},
			{Key: auditKey(next), Value: value},
		},
	}
	if next > auditKept {
		txn.Then = append(txn.Then, register.Op{Key: auditKey(next - auditKept), Delete: true})
	}
	return txn, nil
}

// auditEnd returns the head of the log and the number of the last row, 0 if there is none.
func (b *Blacklist) auditEnd(ctx context.Context) (register.Entry, int64, error) {
	head, err := get(ctx, b.reg, auditHead)
	if err != nil || head.Rev == 0 {
		return head, 0, err
	}
	last, err := strconv.ParseInt(string(head.Value), 10, 64)
	if err != nil {
		return head, 0, fmt.Errorf("head of the audit log: %w", err)
	}
	return head, last, nil
}

// Audit returns up to limit rows with numbers below before, the newest first; before 0 means from the end. limit is at
// most AuditLimitMax.
func (b *Blacklist) Audit(ctx context.Context, limit int, before int64) ([]AuditRow, error) {
	limit = min(limit, AuditLimitMax)
	_, last, err := b.auditEnd(ctx)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if before <= 0 || before > last {
		before = last + 1
	}
	var rows []AuditRow
	for page := (before - 1) / auditPage; page >= 0 && len(rows) < limit; page-- {
		found, err := b.auditRows(ctx, page, before)
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		if len(found) == 0 && page*auditPage < before-1 {
			break // older ones are forgotten
		}
		rows = append(rows, found...)
	}
	return rows[:min(limit, len(rows))], nil
}

// auditRows returns the rows of one page with numbers below before, the newest first.
func (b *Blacklist) auditRows(ctx context.Context, page, before int64) ([]AuditRow, error) {
	key := auditKey(page * auditPage)
	entries, _, err := b.reg.List(ctx, key[:len(key)-2])
	if err != nil {
		return nil, err
	}
	var rows []AuditRow
	for _, e := range slices.Backward(entries) {
		number, err := strconv.ParseInt(strings.TrimPrefix(e.Key, auditPrefix), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", e.Key, err)
		}
		if number >= before {
			continue
		}
		row := AuditRow{Number: number}
		if err := json.Unmarshal(e.Value, &row); err != nil {
			return nil, fmt.Errorf("row %d: %w", number, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}
