package mariadb

// settings are given to every server, before Options.Settings, of which the last one wins. "loose-" marks those that some
// release of 10.11 does not know.
var settings = []string{
	// Acknowledged is durable, and replicas get rows.
	"innodb-flush-log-at-trx-commit=1",
	"sync-binlog=1",
	"log-bin=binlog",
	"binlog-format=ROW",
	"binlog-row-image=FULL",
	"log-slave-updates=1",
	"gtid-strict-mode=1",
	"server-id=1",
	"skip-slave-start=1",

	// What the committer relies on: no gap locks, short waits, and a paused instance that loses its rows.
	"transaction-isolation=READ-COMMITTED",
	"loose-innodb-snapshot-isolation=OFF",
	"innodb-lock-wait-timeout=2",
	"idle-write-transaction-timeout=3",
	"sql-mode=STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO," +
		"NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION",
	"character-set-server=utf8mb4",
	"default-time-zone=+00:00",
	"event-scheduler=OFF",

	// Many servers on one small machine, many clients each.
	"innodb-buffer-pool-size=256M",
	"innodb-log-file-size=256M",
	"innodb-buffer-pool-dump-at-shutdown=OFF",
	"innodb-buffer-pool-load-at-startup=OFF",
	"max-connections=1200",
	"performance-schema=OFF",

	// Loopback only; hosts in grants are addresses.
	"bind-address=127.0.0.1",
	"skip-name-resolve=1",
	"local-infile=OFF",

	// Tests inject faults by triggers; with a binary log that would take SUPER.
	"log-bin-trust-function-creators=1",
}

// grants makes the two users. It runs while the template is initialised, so it never shows up in a binary log. The server
// does not know the grant tables it has just made until FLUSH.
const grants = `
FLUSH PRIVILEGES;
CREATE OR REPLACE USER root@'127.0.0.1';
GRANT ALL PRIVILEGES ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
CREATE OR REPLACE USER app@'127.0.0.1';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, TRIGGER, CREATE VIEW, SHOW VIEW, EXECUTE,
  CREATE ROUTINE, ALTER ROUTINE, CREATE TEMPORARY TABLES, LOCK TABLES, PROCESS, RELOAD, REPLICATION SLAVE, BINLOG MONITOR,
  REPLICA MONITOR ON *.* TO app@'127.0.0.1';
`

// templateSettings keep the template small; a server that starts on a copy grows the log to its own size.
var templateSettings = []string{
	"innodb-log-file-size=4M",
	"innodb-buffer-pool-dump-at-shutdown=OFF",
	"skip-name-resolve=1",
}
