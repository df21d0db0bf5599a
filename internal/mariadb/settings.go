package mariadb

// settings are given to every server, before Options.Settings, of which the last one wins. "loose_" marks those that some
// release of 10.11 does not know.
var settings = []string{
	// Acknowledged is durable, and replicas get rows.
	"innodb_flush_log_at_trx_commit=1",
	"sync_binlog=1",
	"log_bin=binlog",
	"binlog_format=ROW",
	"binlog_row_image=FULL",
	"binlog_row_metadata=FULL",       // what the change feed reads
	"binlog_cache_size=8M",           // the rows of a large batch, without a file
	"binlog_annotate_row_events=OFF", // not the text of its statements as well
	"log_slave_updates=1",
	"gtid_strict_mode=1",
	"server_id=1",
	"skip_slave_start=1",

	// What the committer relies on: no gap locks, short waits, and a paused instance that loses its rows.
	"transaction_isolation=READ-COMMITTED",
	"loose_innodb_snapshot_isolation=OFF",
	"innodb_lock_wait_timeout=2",
	"idle_write_transaction_timeout=3",
	"sql_mode=STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO," +
		"NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION",
	"character_set_server=utf8mb4",
	"default_time_zone=+00:00",
	"event_scheduler=OFF",

	// Many servers on one small machine, many clients each.
	"innodb_buffer_pool_size=256M",
	"innodb_log_file_size=256M",
	"innodb_buffer_pool_dump_at_shutdown=OFF",
	"innodb_buffer_pool_load_at_startup=OFF",
	"max_connections=1200",
	"performance_schema=OFF",

	// Loopback only; hosts in grants are addresses.
	"bind_address=127.0.0.1",
	"skip_name_resolve=1",
	"local_infile=OFF",

	// Tests inject faults by triggers; with a binary log that would take SUPER.
	"log_bin_trust_function_creators=1",
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
	"innodb_log_file_size=4M",
	"innodb_buffer_pool_dump_at_shutdown=OFF",
	"skip_name_resolve=1",
}

// nothing are the grants of a template whose servers get their users when they are made.
const nothing = "FLUSH PRIVILEGES;\n"

// bootstrapSettings are for the run of a new server's first statements: no network, no binary log, small.
var bootstrapSettings = []string{
	"bootstrap", "skip_networking=1", "skip_log_bin", "innodb_log_file_size=4M", "innodb_buffer_pool_size=16M",
	"innodb_buffer_pool_dump_at_shutdown=OFF", "skip_name_resolve=1", "loose_aria_log_file_size=8M",
}
