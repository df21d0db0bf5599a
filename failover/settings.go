package failover

import "fmt"

// NodeSettings are what distinguishes one database of a shard from the others.
type NodeSettings struct {
	ServerID  uint32 // unique within the shard
	Domain    uint32 // the shard's number, the same on all its nodes
	Port      int    // 0: the server's default, or given otherwise
	ExtraPort int    // for controllers when clients have taken all connections of the other one; 0: none
	StartID   string // of this start: the server repeats it to whoever asks, and so tells two starts apart
	Boot      Boot   // the role that the record has ordered; BootNone: the server's default
}

// settings are the same on every node, as options of mariadbd. Its defaults break nearly every promise of a shard, so an agent starts
// nothing without them.
var settings = []string{
	// Nobody writes and nothing is received until a controller says so.
	"read_only=1",
	"skip_slave_start=1",
	"event_scheduler=OFF",

	// One history, on disk, of rows, and the same on every node.
	"log_bin=binlog",
	"relay_log=relay",
	"log_slave_updates=1",
	"binlog_format=ROW",
	"binlog_row_image=FULL",
	"binlog_row_metadata=FULL",       // names and signs of columns: what the change feed reads stays readable when a table changes
	"binlog_annotate_row_events=OFF", // else the text of every batch is logged beside its rows
	"binlog_cache_size=8388608",      // the rows of a large batch, without a file
	"sync_binlog=1",
	"innodb_flush_log_at_trx_commit=1",
	"gtid_strict_mode=1",

	// Semi-synchronous replication never gives up waiting: a shard without a replica that acknowledges takes no writes. It is
	// switched on by Promote and Follow only, because a replica that has it on as a primary waits for itself.
	"rpl_semi_sync_master_enabled=0",
	"rpl_semi_sync_slave_enabled=0",
	"rpl_semi_sync_master_wait_point=AFTER_SYNC",
	"rpl_semi_sync_master_wait_no_slave=1",
	"rpl_semi_sync_master_timeout=31536000000",
	"rpl_semi_sync_slave_kill_conn_timeout=1", // a replica that stops receiving calls on a primary that may hang
	"slave_net_timeout=2",

	// Replicas keep up: how far they are behind is how long a failover takes.
	"sync_relay_log=10000",
	"slave_parallel_threads=8",
	"slave_parallel_mode=optimistic",

	// What the committer relies on.
	"transaction_isolation=READ-COMMITTED",
	"loose_innodb_snapshot_isolation=OFF",
	"innodb_lock_wait_timeout=2",
	"idle_write_transaction_timeout=3",
	"max_statement_time=0", // a statement that waits for its acknowledgement must not be cut short
	"default_time_zone=+00:00",
}

// extraConnectionsMax is for two controllers, each with a probe, two heartbeats, a session, a drain and whoever is at the door.
const extraConnectionsMax = 12

// Settings are the options with which mariadbd is started as a node, as "name=value" and without dashes.
func Settings(node NodeSettings) []string {
	list := append([]string(nil), settings...)
	list = append(list,
		fmt.Sprintf("server_id=%d", node.ServerID),
		fmt.Sprintf("gtid_domain_id=%d", node.Domain))
	if node.Port != 0 {
		list = append(list, fmt.Sprintf("port=%d", node.Port))
	}
	if node.ExtraPort != 0 {
		list = append(list, fmt.Sprintf("extra_port=%d", node.ExtraPort),
			fmt.Sprintf("extra_max_connections=%d", extraConnectionsMax))
	}
	return append(list, StartSettings(node.StartID, node.Boot)...)
}

// StartSettings are those of Settings that change from one start of a node to the next.
func StartSettings(startID string, boot Boot) []string {
	list := []string{"report_user=" + startID}
	if boot != BootNone {
		list = append(list, "init_rpl_role="+string(boot))
	}
	return list
}
