// Package migrations holds the numbered SQL that makes a shard's schema, for both dialects, and applies it.
//
// MariaDB cannot roll DDL back, so every statement can run again after a crash half-way.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// FS holds mariadb/*.sql and sqlite/*.sql, in the format of goose.
//
//go:embed mariadb/*.sql sqlite/*.sql
var FS embed.FS

// Step is one applied or pending migration.
type Step struct {
	Version int64
	Name    string
	Applied bool
}

// Up applies what is missing and returns the steps it applied. Several processes may call it at once on MariaDB: one
// works, the others wait for it.
func Up(ctx context.Context, db *sql.DB, dialect string) ([]Step, error) {
	p, err := provider(db, dialect)
	if err != nil {
		return nil, err
	}
	results, err := p.Up(ctx)
	steps := make([]Step, 0, len(results))
	for _, r := range results {
		steps = append(steps, Step{Version: r.Source.Version, Name: r.Source.Path, Applied: r.Error == nil})
	}
	if err != nil {
		return steps, fmt.Errorf("apply migrations: %w", err)
	}
	return steps, current(ctx, db)
}

// ErrOldSchema is the error of Up for a schema that an unreleased state of the service has made.
var ErrOldSchema = errors.New("the schema is of a state before the first release, which changes in place; " +
	"make it anew: an empty --data folder for dev, an empty database for a MariaDB shard")

// current looks for what the last change in place has brought. From the first release on, changes are migrations.
func current(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT * FROM operations WHERE bucket=0 AND owner=''") //nolint:unqueryvet // they are the question
	if err != nil {
		return fmt.Errorf("look at the schema: %w", err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err == nil && !slices.Contains(columns, "quote_at") {
		err = ErrOldSchema
	}
	return errors.Join(err, rows.Err())
}

// Down takes every migration back. It destroys all data and is for tests of the migrations.
func Down(ctx context.Context, db *sql.DB, dialect string) error {
	p, err := provider(db, dialect)
	if err != nil {
		return err
	}
	if _, err := p.DownTo(ctx, 0); err != nil {
		return fmt.Errorf("take migrations back: %w", err)
	}
	return nil
}

// Status lists every migration and whether it was applied.
func Status(ctx context.Context, db *sql.DB, dialect string) ([]Step, error) {
	p, err := provider(db, dialect)
	if err != nil {
		return nil, err
	}
	all, err := p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the applied migrations: %w", err)
	}
	steps := make([]Step, 0, len(all))
	for _, s := range all {
		steps = append(steps, Step{Version: s.Source.Version, Name: s.Source.Path, Applied: s.State == goose.StateApplied})
	}
	return steps, nil
}

func provider(db *sql.DB, dialect string) (*goose.Provider, error) {
	files, err := fs.Sub(FS, dialect)
	if err != nil {
		return nil, fmt.Errorf("migrations of %q: %w", dialect, err)
	}
	kind, options := goose.DialectSQLite3, []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if dialect == "mariadb" {
		locker, err := lock.NewMySQLTableLocker()
		if err != nil {
			return nil, fmt.Errorf("lock migrations: %w", err)
		}
		kind, options = goose.DialectMySQL, append(options, goose.WithLocker(locker))
	}
	p, err := goose.NewProvider(kind, db, files, options...)
	if err != nil && !errors.Is(err, goose.ErrNoMigrations) {
		return nil, fmt.Errorf("read the migrations of %q: %w", dialect, err)
	}
	return p, err
}
