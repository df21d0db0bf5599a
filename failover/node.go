package failover

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// NodeConfig is how a controller reaches a node.
type NodeConfig struct {
	Name         string // as in the record; its replication account is ReplicaUser(Name)
	Address      string // host:port; the extra port, where there is one
	Domain       uint32 // of the shard's GTIDs
	Schema       string // empty: DefaultSchema
	User         string // empty: HAUser
	Password     string
	ReplPassword string           // of ReplicaUser(Name), for when the node follows another
	DialTimeout  time.Duration    // 0: dialTimeout
	Now          func() time.Time // for the node's clock and for deadlines
}

const (
	dialTimeout = time.Second // a host that is gone answers nothing at all; each step has a shorter limit of its own

	// sessionTTLSeconds is how long the server keeps an idle session, its own limit: that of a shard without failovers is idle for
	// months, and losing it must mean that something has happened.
	sessionTTLSeconds = "31536000"
)

// The ways in which a step ends without having been done. All may be tried again except ErrPromised.
var (
	// ErrPromised: the node has promised itself to a newer epoch, or to another holder of this one. Whoever gets it is not the
	// controller of the shard any more. It is a *PromisedError.
	ErrPromised = errors.New("the node has promised itself to another controller")
	// ErrNotFenced: the session of the epoch does not exist, or was lost. Nothing is known of what it did last; Fence again.
	ErrNotFenced = errors.New("there is no session with the node in this epoch")
	// ErrNotDrained: the node has not applied all it has to. Going on would throw away what only its relay log has.
	ErrNotDrained = errors.New("the node has not applied what it has received")
	// ErrUnacknowledged: the commit waits for a replica that acknowledges it. It goes on waiting; see Establish.
	ErrUnacknowledged = errors.New("no replica has acknowledged the commit yet")
	// ErrNotEstablished: the fence row is not of this epoch and this node, or the server does not wait for acknowledgements.
	ErrNotEstablished = errors.New("the node is not established as the primary of this epoch")
	// ErrWaiting: sessions wait for acknowledgements. To kill one of them would answer it as if it had been acknowledged.
	ErrWaiting = errors.New("commits of the node wait for acknowledgements")
)

// PromisedError says to whom a node has promised itself. It is an ErrPromised.
type PromisedError struct {
	Epoch  uint64
	Holder string
}

func (e *PromisedError) Error() string {
	return fmt.Sprintf("%v: epoch %d, holder %q", ErrPromised, e.Epoch, e.Holder)
}

// Unwrap makes it an ErrPromised.
func (e *PromisedError) Unwrap() error { return ErrPromised }

// Node is a database of a shard as a controller talks to it. Every method is a step that may be repeated; its ctx is its limit. An
// error means that the step may have been done in part, and that doing it again is right.
//
// Probe, Beat and Drain run on connections of their own and change nothing that others rely on; so do Allow and Refuse, which act for the
// session and are as little possible without it. All else runs on the session
// that Claim or Fence has opened, one step at a time. The server lets only one controller have that session; a controller of a newer
// epoch takes it away, and it is never opened again silently, so what was once claimed cannot act after its successor has begun.
//
// Statements are never cancelled by KILL: a commit that waits for its acknowledgement would come back as acknowledged. A ctx that
// ends closes the connection instead, and the server goes on with the statement.
type Node struct {
	cfg   NodeConfig
	pool  *sql.DB // keeps no idle connections: a connection is somebody's
	probe *line
	drain *line
	door  *line

	life context.Context // of commits that go on when their caller has gone; ends with Close
	end  context.CancelFunc
	work sync.WaitGroup // what runs under life

	beatLine  *line
	beat      waiter
	establish waiter

	turn chan struct{} // whoever has sent to it may use session
	held *session

	mu      sync.Mutex
	abandon context.CancelFunc // ends what the session is doing
	claimed *session           // is held, for those who do not wait for their turn; they use its epoch and holder alone
}

// NewNode connects to nothing yet.
func NewNode(cfg NodeConfig) (*Node, error) {
	if cfg.User == "" {
		cfg.User = HAUser
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = dialTimeout
	}
	cfg.Schema = schemaOr(cfg.Schema)
	pool, err := openPool(&cfg)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", cfg.Name, err)
	}
	n := &Node{cfg: cfg, pool: pool, turn: make(chan struct{}, 1)}
	n.probe, n.drain, n.door, n.beatLine = newLine(pool), newLine(pool), newLine(pool), newLine(pool)
	n.life, n.end = context.WithCancel(context.Background())
	n.abandon = func() {}
	return n, nil
}

func openPool(cfg *NodeConfig) (*sql.DB, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr = cfg.User, cfg.Password, "tcp", cfg.Address
	c.Timeout = cfg.DialTimeout
	c.MultiStatements = true   // a probe is one packet; only constants of this package are sent
	c.InterpolateParams = true // one round trip each
	c.ClientFoundRows = true   // a promise given twice is still a promise
	c.Logger = &mysql.NopLogger{}
	c.Params = map[string]string{
		"wait_timeout": sessionTTLSeconds,
		"time_zone":    "'+00:00'",
		// A backup that blocks DDL must not stop a failover for a day, the default.
		"lock_wait_timeout": "1",
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxIdleConns(-1)
	return pool, nil
}

// Name is the node's name in the record.
func (n *Node) Name() string { return n.cfg.Name }

// Close closes all connections. Commits that wait for acknowledgements go on waiting in the server.
func (n *Node) Close() {
	n.end()
	n.work.Wait()
	_ = n.release(context.Background()) // nothing runs that it could wait for
	for _, l := range []*line{n.probe, n.drain, n.door, n.beatLine} {
		l.close()
	}
	n.pool.Close()
}

// inSchema puts the name of the shard's schema into a statement.
func (n *Node) inSchema(statement string) string {
	return strings.ReplaceAll(statement, "{schema}", quoteName(n.cfg.Schema))
}

// failed says which step of which node an error is of.
func (n *Node) failed(step string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", step, n.cfg.Name, err)
}
