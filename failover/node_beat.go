package failover

import (
	"context"
	"database/sql"
	"time"
)

// beatSQL locks one row of clock. The row never goes back, even if the server's clock does. A server that is read-only writes nothing:
// a heartbeat may arrive when its primary has become a replica, and controllers are not stopped by read_only.
const beatSQL = `INSERT INTO {schema}.clock (source, at) SELECT ?, CAST(UNIX_TIMESTAMP(SYSDATE(6))*1000000 AS SIGNED) FROM DUAL
  WHERE @@global.read_only=0 ON DUPLICATE KEY UPDATE at=GREATEST(at+1, VALUES(at))`

// beatPatience is when a heartbeat that nobody acknowledges is left to the server: its connection may have died without a word. The one
// after it fails on the row's lock until the first is acknowledged, so at most two sessions wait.
const beatPatience = 10 * time.Second

// Beat commits a heartbeat on the primary, which is a sign of life of everything that a commit needs. If ctx ends first the answer is
// ErrUnacknowledged; the commit goes on waiting, and the next Beat waits for the same one.
func (n *Node) Beat(ctx context.Context, source string) error {
	err := n.beat.run(ctx, &n.work, 0, func() error {
		long, cancel := context.WithTimeout(n.life, beatPatience)
		defer cancel()
		return n.beatLine.use(long, func(conn *sql.Conn) error {
			_, err := conn.ExecContext(long, n.inSchema(beatSQL), source)
			return err
		})
	})
	return n.failed("heartbeat of", err)
}
