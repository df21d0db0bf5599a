package failover

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The accounts of a node. They are made on each node by itself and never replicated: which replicas may connect differs
// from node to node.
const (
	AppUser = "app" // of instances; read_only stops it
	HAUser  = "ha"  // of controllers and agents; read_only does not
	// FeedUser is the account of change feeds: it reads the binary log and commits markers into clock. Nothing that logs in with it may
	// acknowledge (rpl_semi_sync_slave_enabled), for nobody counts it as a replica.
	FeedUser = "feed"

	replicaUserPrefix = "repl_"
)

// DefaultSchema is where a shard's tables are unless configured otherwise.
const DefaultSchema = "statesvc"

// ReplicaUser is the account under which a node receives from others. Each node has its own, so that one of them can be locked out.
func ReplicaUser(node string) string { return replicaUserPrefix + node }

// Accounts are what InitialSQL makes.
type Accounts struct {
	Schema       string // empty: DefaultSchema
	AppPassword  string
	HAPassword   string
	FeedPassword string            // empty: there is no FeedUser
	Replicas     map[string]string // node → password of its ReplicaUser; all nodes of the shard
}

// localSQL makes what a node knows for itself. The promise is keyed by the server's id, so that a copy of the data directory
// does not inherit it.
const localSQL = `CREATE DATABASE IF NOT EXISTS statesvc_local;
CREATE TABLE IF NOT EXISTS statesvc_local.promise (server_id INT UNSIGNED NOT NULL PRIMARY KEY, epoch BIGINT UNSIGNED NOT NULL, ` +
	`holder VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL) ENGINE=InnoDB;
`

// haGlobals are what a controller does to a server. READ ONLY ADMIN is what lets it write the fence and its promise on a server
// that is read-only; SUPER is for settings of InnoDB only.
const haGlobals = "READ ONLY ADMIN, REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN, REPLICA MONITOR, BINLOG MONITOR, BINLOG ADMIN, " +
	"CONNECTION ADMIN, PROCESS, RELOAD, CREATE USER, SUPER"

// InitialSQL makes a fresh data directory a node's: it is for mariadbd's --bootstrap or --init-file (one statement a line, no comments)
// or an administrator's connection. It can run again; passwords are then set anew and replicas are locked out.
func InitialSQL(a Accounts) string {
	return "SET SESSION sql_log_bin=0;\nFLUSH PRIVILEGES;\n" + localSQL + AccountsSQL(a)
}

// AccountsSQL makes the accounts. Replicas begin locked out: whoever may receive may acknowledge, and the record must know
// of it first.
func AccountsSQL(a Accounts) string {
	schema := quoteName(schemaOr(a.Schema))
	var b strings.Builder
	user := func(name, password string) string {
		account := account(name)
		fmt.Fprintf(&b, "CREATE OR REPLACE USER %s IDENTIFIED BY %s;\n", account, quoteText(password))
		return account
	}
	app := user(AppUser, a.AppPassword)
	fmt.Fprintf(&b, "GRANT SELECT, INSERT, UPDATE, DELETE ON %s.* TO %s;\n", schema, app)

	ha := user(HAUser, a.HAPassword)
	fmt.Fprintf(&b, "GRANT %s ON *.* TO %s;\n", haGlobals, ha)
	fmt.Fprintf(&b, "GRANT SELECT ON %s.* TO %s;\n", schema, ha)
	for _, table := range []string{"fence", "clock"} { // CREATE: what does not exist yet can only be granted together with it
		fmt.Fprintf(&b, "GRANT SELECT, INSERT, UPDATE, CREATE ON %s.%s TO %s;\n", schema, table, ha)
	}
	fmt.Fprintf(&b, "GRANT SELECT, INSERT, UPDATE, DELETE ON statesvc_local.* TO %s;\n", ha)

	if a.FeedPassword != "" { // BINLOG MONITOR is for who looks at what the feed reads
		feed := user(FeedUser, a.FeedPassword)
		fmt.Fprintf(&b, "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO %s;\n", feed)
		fmt.Fprintf(&b, "GRANT SELECT ON %s.* TO %s;\nGRANT SELECT, INSERT, UPDATE, CREATE ON %s.clock TO %s;\n", schema, feed, schema, feed)
	}

	for _, node := range slices.Sorted(maps.Keys(a.Replicas)) {
		replica := user(ReplicaUser(node), a.Replicas[node])
		fmt.Fprintf(&b, "GRANT REPLICATION SLAVE ON *.* TO %s;\nALTER USER %s ACCOUNT LOCK;\n", replica, replica)
	}
	return b.String()
}

func schemaOr(name string) string {
	if name == "" {
		return DefaultSchema
	}
	return name
}

// account names an account as ALTER USER wants it.
func account(user string) string { return quoteText(user) + "@'%'" }

// quoteName and quoteText are for statements that take no placeholders.
func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func quoteText(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`).Replace(text) + "'"
}
