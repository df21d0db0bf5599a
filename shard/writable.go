package shard

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Condition is whether a shard takes writes, as an instance sees it.
type Condition struct {
	Shard int
	Name  string
	Err   error // nil: it does
}

// Writable returns nil if the primary of a shard would take a batch now, as far as can be seen without writing one.
func (s *Store) Writable(ctx context.Context, shard int) error {
	db, epoch, err := s.Primary(shard)
	if err != nil {
		return err
	}
	return db.writable(ctx, epoch)
}

// writable asks over the connections that batches use.
func (db *DB) writable(ctx context.Context, epoch uint64) error {
	query, readOnly := "SELECT epoch, 0 FROM fence WHERE id=1", ""
	if db.Dialect.multi {
		query = "SELECT epoch, @@global.read_only FROM fence WHERE id=1"
	}
	var held uint64
	if err := db.writes.QueryRowContext(ctx, query).Scan(&held, &readOnly); err != nil {
		return fmt.Errorf("read the fence: %w", err)
	}
	switch {
	case readOnly != "0" && readOnly != "OFF": // releases differ in whether it is a number or a word
		return errors.New("the server is read-only")
	case held != epoch:
		return fmt.Errorf("the shard is at epoch %d, the route at %d: %w", held, epoch, ErrStaleRoute)
	case db.folder != "":
		return takesFiles(db.folder)
	}
	return nil
}

// takesFiles makes a file and removes it: where that fails, SQLite cannot write its journal either. The files of the database
// must not be touched: closing them here would drop the locks that SQLite has on them.
func takesFiles(folder string) error {
	file, err := os.CreateTemp(folder, ".writable-*")
	if err != nil {
		return fmt.Errorf("write to the folder of the shard: %w", err)
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}
