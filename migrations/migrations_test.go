package migrations_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/shard"
)

// A schema of an unreleased state is refused with what to do about it. The advice is to make it anew, so nothing else that goes
// wrong may look the same.
func TestOldSchemaIsRefused(t *testing.T) {
	db, err := shard.OpenSQLite(filepath.Join(t.TempDir(), "shard.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	up := func() error {
		_, err := migrations.Up(t.Context(), db.SQL(), db.Dialect.String())
		return err
	}
	if err := up(); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		"DROP TABLE operations", "CREATE TABLE operations (bucket INTEGER, owner TEXT, op_key TEXT, reply BLOB)",
	} {
		if _, err := db.SQL().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := up(); !errors.Is(err, migrations.ErrOldSchema) {
		t.Errorf("a schema without the last change: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := up(); err == nil || errors.Is(err, migrations.ErrOldSchema) {
		t.Errorf("a database that does not answer: %v", err)
	}
}
