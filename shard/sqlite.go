package shard

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/glebarez/go-sqlite"
)

// sqliteFile connects to a shard in a file. Its connections run every statement to its end, whatever becomes of the context:
// the driver may pass over a statement whose context has ended, even a COMMIT, and report success. Nobody has to wait for
// long, because there is no server that could be lost, and busy_timeout bounds the wait for a lock.
type sqliteFile struct{ dsn string }

// Connect opens the file.
func (f sqliteFile) Connect(context.Context) (driver.Conn, error) {
	conn, err := f.Driver().Open(f.dsn)
	if err != nil {
		return nil, fmt.Errorf("open a file of SQLite: %w", err)
	}
	return sqliteConn{conn.(sqliteDriverConn)}, nil
}

// Driver is SQLite's.
func (sqliteFile) Driver() driver.Driver { return &sqlite.Driver{} }

// sqliteDriverConn is what database/sql uses of the driver's connections.
type sqliteDriverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
}

type sqliteConn struct{ sqliteDriverConn }

// ExecContext runs the statements without the end of ctx.
func (c sqliteConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.sqliteDriverConn.ExecContext(context.WithoutCancel(ctx), query, args)
}

// QueryContext runs the query without the end of ctx.
func (c sqliteConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.sqliteDriverConn.QueryContext(context.WithoutCancel(ctx), query, args)
}
