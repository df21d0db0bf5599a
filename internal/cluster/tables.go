package cluster

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// tablesSQL names the tables that every node of a shard must have the same rows in: all but the clock, which is written all the time.
const tablesSQL = `SELECT table_name FROM information_schema.tables
  WHERE table_schema=DATABASE() AND table_type='BASE TABLE' AND table_name<>'clock'`

// Checksums are of the tables of the schema as a database has them. Two nodes with the same ones have the same rows.
func Checksums(ctx context.Context, db *sql.DB) (map[string]string, error) {
	tables, err := names(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	sums := map[string]string{}
	for _, table := range tables {
		var name string
		var sum sql.NullString
		if err := db.QueryRowContext(ctx, "CHECKSUM TABLE `"+table+"`").Scan(&name, &sum); err != nil {
			return nil, fmt.Errorf("checksum of %s: %w", table, err)
		}
		sums[table] = sum.String
	}
	return sums, nil
}

// Differing names the tables in which a node has other rows than the primary. While the primary is written to, the node may only be a
// little behind: ask again. Numbers of events come a moment after what they are of.
func Differing(ctx context.Context, primary, node string) ([]string, error) {
	want, err := checksumsAt(ctx, primary)
	if err != nil {
		return nil, fmt.Errorf("primary: %w", err)
	}
	have, err := checksumsAt(ctx, node)
	if err != nil {
		return nil, err
	}
	var tables []string
	for table, sum := range want {
		if have[table] != sum {
			tables = append(tables, table)
		}
	}
	slices.Sort(tables)
	return tables, nil
}

func checksumsAt(ctx context.Context, dsn string) (sums map[string]string, err error) {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return Checksums(ctx, db)
}

func names(ctx context.Context, db *sql.DB) ([]string, error) {
	rows, err := db.QueryContext(ctx, tablesSQL)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		all = append(all, name)
	}
	return all, rows.Err()
}
