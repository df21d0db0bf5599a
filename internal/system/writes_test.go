package system_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the administrator's connection

	"github.com/statesvc/statesvc/shard"
)

// ledgerWrites are all kinds of writes that operations make, by table.
var ledgerWrites = []struct {
	table  string
	events []string
}{
	{"owners", []string{"INSERT", "UPDATE"}},
	{"coupons", []string{"INSERT", "UPDATE"}},
	{"lots", []string{"INSERT", "UPDATE"}},
	{"holds", []string{"INSERT", "DELETE"}},
	{"orders", []string{"INSERT"}},
	{"decided_holds", []string{"INSERT"}},
	{"entries", []string{"INSERT"}},
	{"operations", []string{"INSERT"}},
}

// One kind of write after the other fails on all shards, while callers work: a statement in the middle of a batch, on whichever
// table. Nothing of its batch stays, and every key gets its answer afterwards.
func TestEveryWriteOfTheLedgerFails(t *testing.T) {
	engines(t, func(t *testing.T, c *cluster) {
		dbs := c.databases(t)
		l := startLoad(c, 2*len(c.instances)) // more on SQLite would leave the administrator no turn to write
		l.goesOn(t, 50)
		for _, write := range ledgerWrites {
			for _, event := range write.events {
				drop := c.failWrites(t, dbs, write.table, event)
				newcomer := fmt.Sprintf("new-%s-%s", write.table, event)
				first := newRequest(http.MethodPost, "/v1/owners/"+newcomer+"/lots", newcomer, creditBody(newcomer, 1))
				l.add(&record{request: first, owner: newcomer, kind: credit})
				faults := l.faults()
				waitFor(t, "a failed "+event+" of "+write.table, settledPatience, func() bool {
					go func() { l.counted(c.instances[0].send(first)) }() // nobody else writes to a new owner
					time.Sleep(20 * time.Millisecond)
					return l.faults() > faults
				})
				drop()
			}
		}
		l.goesOn(t, 50)
		c.audit(t, l.stop(t))
	})
}

// faults is how many replies said that the service could not answer.
func (l *load) faults() (n int) {
	for _, code := range []string{"outcome-unknown", "overloaded", "blocked", "failover-in-progress", "internal"} {
		n += l.count(code)
	}
	return n
}

// databases are the shards, for an administrator.
func (c *cluster) databases(t *testing.T) (dbs []*sql.DB) {
	t.Helper()
	for i := range shards {
		var db *sql.DB
		if c.mariadb {
			opened, err := sql.Open("mysql", c.server.AdminDSN(c.schemas[i]))
			if err != nil {
				t.Fatal(err)
			}
			db = opened
		} else {
			opened, err := shard.OpenSQLite(filepath.Join(c.folder, fmt.Sprintf("s%d.db", i+1)), time.Now)
			if err != nil {
				t.Fatal(err)
			}
			db = opened.SQL()
		}
		t.Cleanup(func() { _ = db.Close() })
		dbs = append(dbs, db)
	}
	return dbs
}

// failWrites makes one kind of write to a table fail, until drop.
func (c *cluster) failWrites(t *testing.T, dbs []*sql.DB, table, event string) (drop func()) {
	t.Helper()
	action := "SELECT RAISE(ABORT, 'injected')"
	if c.mariadb {
		action = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT='injected'"
	}
	administer(t, dbs, fmt.Sprintf("CREATE TRIGGER fault BEFORE %s ON %s FOR EACH ROW BEGIN %s; END", event, table, action))
	return func() { administer(t, dbs, "DROP TRIGGER fault") }
}

// administer runs a statement on all shards. The only writer's place in a file may be taken for a while.
func administer(t *testing.T, dbs []*sql.DB, statement string) {
	t.Helper()
	for _, db := range dbs {
		var err error
		waitFor(t, statement, settledPatience, func() bool {
			_, err = db.ExecContext(t.Context(), statement)
			return err == nil || !strings.Contains(err.Error(), "SQLITE_BUSY")
		})
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}
