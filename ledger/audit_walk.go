package ledger

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/statesvc/statesvc/shard"
)

// place is where a walk through a shard has come to: after the row with this key. Name is an owner, or what a walk has in its place.
type place struct {
	Walk   int    `json:"walk,omitempty"` // in walks
	Bucket int    `json:"bucket"`
	Name   string `json:"owner"`
}

// auditWalk goes through the rows of a kind on one shard, in the order of their keys.
type auditWalk struct {
	// next lists the places after one, so many at most. It takes no locks.
	next func(ctx context.Context, db *shard.DB, after place, limit int) ([]place, error)
	// audit compares what is at a place. It has an error only if the shard itself cannot be read.
	audit func(ctx context.Context, l *Ledger, at place, w *walked) (Audit, error)
	count func(p *AuditPass) *int64 // of the places; nil: they are not counted
}

// walked is what a pass carries from one place to the next.
type walked struct {
	shard int
	sold  *soldTally // nil: this pass was begun by another process, which alone knew it
}

// walks are one pass, in this order: what slices have sold is compared after all owners were read.
var walks = []auditWalk{
	{next: ownersAfter, audit: auditOwnerAt, count: func(p *AuditPass) *int64 { return &p.Owners }},
	{next: namesAfter("slices", "quota"), audit: auditSliceAt},
	{next: keysAfter("quotas", "quota", "quota"), audit: auditHomeAt, count: func(p *AuditPass) *int64 { return &p.Quotas }},
	{
		next: keysAfter("packets", "packet_id", "LOWER(HEX(packet_id))"), audit: auditPacketAt,
		count: func(p *AuditPass) *int64 { return &p.Packets },
	},
	{next: namesAfter("campaign_marks", "campaign_id"), audit: auditMarkAt, count: func(p *AuditPass) *int64 { return &p.Campaigns }},
	{next: once, audit: auditLateAt},
}

func auditOwnerAt(ctx context.Context, l *Ledger, at place, w *walked) (Audit, error) {
	found, sold, err := l.AuditOwner(ctx, shard.Bucket(at.Bucket), at.Name)
	w.sold.add(sold)
	return found, err
}

// ownersAfterSQL lists whoever has a row in one of the tables, in the order of their keys, so that also the assets of an owner
// without a row in owners are found. It takes no locks and reads ranges of indexes that begin with bucket and owner.
const (
	ownersAfterSQL = `SELECT bucket, owner FROM (` + ownersIn + `owners` + ownersWhere + ` UNION ` + ownersIn + `coupons` + ownersWhere +
		` UNION ` + ownersIn + `lots` + ownersWhere + ` UNION ` + ownersIn + `holds` + ownersWhere + `) o ORDER BY bucket, owner LIMIT ?`
	ownersIn    = `SELECT bucket, owner FROM (SELECT DISTINCT bucket, owner FROM `
	ownersWhere = ` WHERE bucket >= ? AND (bucket > ? OR owner > ?) ORDER BY bucket, owner LIMIT ?) t`
	ownersFrom  = 4 // tables in ownersAfterSQL
)

func ownersAfter(ctx context.Context, db *shard.DB, after place, limit int) ([]place, error) {
	var args []any
	for range ownersFrom {
		args = append(args, after.Bucket, after.Bucket, after.Name, limit)
	}
	return places(ctx, db, ownersAfterSQL, append(args, limit)...)
}

// keysAfter lists the rows of a table whose primary key begins with the bucket and a column. shown is the column as a text.
func keysAfter(table, column, shown string) func(context.Context, *shard.DB, place, int) ([]place, error) {
	query := fmt.Sprintf("SELECT bucket, %[3]s FROM %[1]s WHERE bucket >= ? AND (bucket > ? OR %[2]s > ?) ORDER BY bucket, %[2]s LIMIT ?",
		table, column, shown)
	return func(ctx context.Context, db *shard.DB, after place, limit int) ([]place, error) {
		return places(ctx, db, query, after.Bucket, after.Bucket, after.key(shown != column), limit)
	}
}

// namesAfter lists the rows of a table that belong to the shard and to no bucket.
func namesAfter(table, column string) func(context.Context, *shard.DB, place, int) ([]place, error) {
	query := fmt.Sprintf("SELECT 0, %[2]s FROM %[1]s WHERE %[2]s > ? ORDER BY %[2]s LIMIT ?", table, column)
	return func(ctx context.Context, db *shard.DB, after place, limit int) ([]place, error) {
		return places(ctx, db, query, after.Name, limit)
	}
}

// once is a walk with one place, which is the whole shard.
func once(_ context.Context, _ *shard.DB, after place, _ int) ([]place, error) {
	if after.Name != "" {
		return nil, nil
	}
	return []place{{Name: "shard"}}, nil
}

// key is a Name as the database compares it: the bytes that it shows in hexadecimal, or the text.
func (p place) key(binary bool) any {
	if !binary {
		return p.Name
	}
	bytes, _ := hex.DecodeString(p.Name) // it was shown by us; if not, the walk begins anew
	return bytes
}

func places(ctx context.Context, db *shard.DB, query string, args ...any) (all []place, err error) {
	rows, err := db.SQL().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list what is audited: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var one place
		if err := rows.Scan(&one.Bucket, &one.Name); err != nil {
			return nil, fmt.Errorf("list what is audited: %w", err)
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
