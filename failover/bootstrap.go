package failover

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

const bootstrapRetryEvery = 50 * time.Millisecond

// BootstrapNode is a database that is to become a node of a new shard. Its agent has started it, and it follows nobody.
type BootstrapNode struct {
	Name, Address string
	Password      string // of HAUser
	ReplPassword  string // of its ReplicaUser
}

// Bootstrap makes a shard of databases that have nothing but their accounts: the first node becomes the primary, the others follow
// it from the beginning of its history and acknowledge, prepare makes schema and buckets through the open primary, and the record
// is written last, when all have everything. So there is nothing to fence before, and a crash half-way is finished by the next
// call; a shard that has a record is left alone. ctx is the limit.
//
// Nobody else may be doing the same: two at once would disturb each other until one of them gives up.
func Bootstrap(ctx context.Context, reg register.Register, number int, nodes []BootstrapNode, prepare func(context.Context) error) error {
	_, err := reg.Get(ctx, shard.RecordKey(number))
	if !errors.Is(err, register.ErrNotFound) {
		return err
	}
	b := &bootstrap{number: number, nodes: nodes}
	defer b.close()
	record, err := b.make(ctx, prepare)
	if err != nil {
		return fmt.Errorf("make shard %d: %w", number, err)
	}
	value, err := record.Encode()
	if err != nil {
		return err
	}
	if _, err := register.Create(ctx, reg, shard.RecordKey(number), value); err != nil {
		return fmt.Errorf("write the record of shard %d: %w", number, err)
	}
	return nil
}

type bootstrap struct {
	number int
	nodes  []BootstrapNode
	conns  []*sql.Conn // in the order of nodes; sql_log_bin is 0 on them
	pools  []*sql.DB
	starts []string
}

func (b *bootstrap) make(ctx context.Context, prepare func(context.Context) error) (*Record, error) {
	for _, node := range b.nodes {
		if err := b.connect(ctx, node); err != nil {
			return nil, fmt.Errorf("%s: %w", node.Name, err)
		}
	}
	if err := b.primary(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", b.nodes[0].Name, err)
	}
	for i := range b.nodes[1:] {
		if err := b.replica(ctx, i+1); err != nil {
			return nil, fmt.Errorf("%s: %w", b.nodes[i+1].Name, err)
		}
	}
	if err := b.open(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", b.nodes[0].Name, err)
	}
	if err := prepare(ctx); err != nil {
		return nil, err
	}
	if err := b.catchUp(ctx); err != nil {
		return nil, err
	}
	return b.record(ctx)
}

// connect waits for a node and reads under which start id it runs.
func (b *bootstrap) connect(ctx context.Context, node BootstrapNode) error {
	pool, err := openOwn(HAUser + ":" + node.Password + "@tcp(" + node.Address + ")/")
	if err != nil {
		return err
	}
	b.pools = append(b.pools, pool)
	for {
		conn, err := pool.Conn(ctx)
		if err == nil {
			var start string
			if err = conn.QueryRowContext(ctx, "SELECT @@global.report_user").Scan(&start); err != nil {
				return errors.Join(err, conn.Close())
			}
			b.conns, b.starts = append(b.conns, conn), append(b.starts, start)
			return b.exec(ctx, len(b.conns)-1, "SET SESSION sql_log_bin=0")
		}
		if slept := sleep(ctx, bootstrapRetryEvery); slept != nil {
			return errors.Join(slept, err)
		}
	}
}

func (b *bootstrap) exec(ctx context.Context, i int, statements ...string) error {
	for _, statement := range statements {
		if _, err := b.conns[i].ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// primary lets the replicas in, and makes every commit wait for one of them from the first one on.
func (b *bootstrap) primary(ctx context.Context) error {
	for _, node := range b.nodes[1:] {
		if err := b.exec(ctx, 0, "ALTER USER "+account(ReplicaUser(node.Name))+" ACCOUNT UNLOCK"); err != nil {
			return err
		}
	}
	return b.exec(ctx, 0, "SET GLOBAL rpl_semi_sync_slave_enabled=0", "SET GLOBAL rpl_semi_sync_master_enabled=1")
}

// replica follows the primary. It is relaxed at once, as every replica is: what it acknowledges is in the memory of its host.
func (b *bootstrap) replica(ctx context.Context, i int) error {
	host, port, err := net.SplitHostPort(b.nodes[0].Address)
	if err != nil {
		return err
	}
	return b.exec(ctx, i, "STOP SLAVE", fmt.Sprintf(`CHANGE MASTER TO MASTER_HOST=%s, MASTER_PORT=%s, MASTER_USER=%s, MASTER_PASSWORD=%s,
		MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=0.1`,
		quoteText(host), port, quoteText(ReplicaUser(b.nodes[i].Name)), quoteText(b.nodes[i].ReplPassword)),
		"SET GLOBAL rpl_semi_sync_slave_enabled=1", "START SLAVE",
		"SET GLOBAL sync_binlog=0", "SET GLOBAL innodb_flush_log_at_trx_commit=2")
}

// open waits until all replicas acknowledge, and lets writes in. No route leads here yet.
func (b *bootstrap) open(ctx context.Context) error {
	for {
		var clients int
		err := b.conns[0].QueryRowContext(ctx, `SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS
			WHERE VARIABLE_NAME='RPL_SEMI_SYNC_MASTER_CLIENTS'`).Scan(&clients)
		if err != nil {
			return err
		}
		if clients == len(b.nodes)-1 {
			return b.exec(ctx, 0, "SET GLOBAL read_only=0")
		}
		if err := sleep(ctx, bootstrapRetryEvery); err != nil {
			return fmt.Errorf("%d of %d replicas acknowledge: %w", clients, len(b.nodes)-1, err)
		}
	}
}

// catchUp waits until every replica has applied what the primary has.
func (b *bootstrap) catchUp(ctx context.Context) error {
	var position string
	if err := b.conns[0].QueryRowContext(ctx, "SELECT @@global.gtid_binlog_pos").Scan(&position); err != nil {
		return err
	}
	for i, conn := range b.conns[1:] {
		for {
			var applied string
			if err := conn.QueryRowContext(ctx, "SELECT @@global.gtid_slave_pos").Scan(&applied); err != nil {
				return fmt.Errorf("%s: %w", b.nodes[i+1].Name, err)
			}
			if applied == position {
				break
			}
			if err := sleep(ctx, bootstrapRetryEvery); err != nil {
				return fmt.Errorf("%s has %q and not %q: %w", b.nodes[i+1].Name, applied, position, err)
			}
		}
	}
	return nil
}

// record describes what was made. A node that was started anew meanwhile is none of it: its connection is gone.
func (b *bootstrap) record(ctx context.Context) (*Record, error) {
	record := &Record{
		Record:       shard.Record{Epoch: 1, Phase: shard.PhaseServing, Primary: b.nodes[0].Name, Nodes: map[string]shard.Node{}},
		PrimaryStart: b.starts[0], InSync: map[string]string{},
	}
	for i, node := range b.nodes {
		if err := b.conns[i].PingContext(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", node.Name, err)
		}
		record.Nodes[node.Name] = shard.Node{Address: node.Address}
		if i > 0 {
			record.InSync[node.Name] = b.starts[i]
		}
	}
	return record, nil
}

func (b *bootstrap) close() {
	for _, conn := range b.conns {
		_ = conn.Close()
	}
	for _, pool := range b.pools {
		pool.Close()
	}
}
