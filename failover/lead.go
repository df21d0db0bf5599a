package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/statesvc/statesvc/register"
)

const (
	sessionTTL     = 2 * time.Second       // of a controller; a leader that is killed is found out sooner, see shadow
	shadowEvery    = 50 * time.Millisecond // how often a waiting controller looks whether the leading one is there
	lookEvery      = time.Second           // how often it asks the register who that is
	shadowPatience = 200 * time.Millisecond
	deposeEvery    = 5 * time.Second // a leader that comes and goes is not deposed more often
	rejoinPause    = 100 * time.Millisecond
)

// Candidate is a controller of a cluster: it waits until it leads, leads for as long as it may, and waits again.
type Candidate struct {
	Etcd    *register.Etcd
	Config  ControllerConfig // its Register is filled in, guarded by the leadership
	Address string           // host:port that others connect to, to see that this one is alive

	leads atomic.Bool
}

// Leads says whether it leads now, for people.
func (c *Candidate) Leads() bool { return c.leads.Load() }

// Run ends with ctx, or when the register was closed.
func (c *Candidate) Run(ctx context.Context) error {
	for {
		err := c.term(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // stopped
		}
		if errors.Is(err, register.ErrClosed) {
			return err
		}
		c.Config.Log.WarnContext(ctx, "the leadership has ended", "error", err)
		select {
		case <-time.After(rejoinPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// term is one leadership, from waiting for it to its end.
func (c *Candidate) term(ctx context.Context) error {
	session, err := c.Etcd.NewSession(ctx, sessionTTL)
	if err != nil {
		return err
	}
	defer c.leave(ctx, session)
	lead, err := c.await(ctx, session)
	if err != nil {
		return err
	}
	c.Config.Log.InfoContext(ctx, "leads the shards", "controller", c.Config.Name)
	leading, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	go func() {
		select {
		case <-lead.Done():
			stop()
		case <-leading.Done():
		}
	}()
	cfg := c.Config
	cfg.Register, cfg.Term = lead.Guarded(), uint64(lead.Rev())
	c.leads.Store(true)
	defer c.leads.Store(false)
	return NewController(cfg).Lead(leading)
}

func (c *Candidate) leave(ctx context.Context, session *register.Session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := session.Close(ctx); err != nil {
		c.Config.Log.WarnContext(ctx, "the session ends by itself", "error", err)
	}
}

// await campaigns, and meanwhile watches over whoever leads.
func (c *Candidate) await(ctx context.Context, session *register.Session) (*register.Leadership, error) {
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.shadow(watching)
	}()
	defer func() {
		stop()
		<-watched
	}()
	return session.Campaign(ctx, leaderName, c.Address)
}

// shadow deposes a leader whose port refuses connections twice: its process is gone, and its session would last for seconds.
// A mistake costs a change of leaders and nothing else, for the one who was deposed cannot write any more.
func (c *Candidate) shadow(ctx context.Context) {
	for sleep(ctx, c.shadowOnce(ctx)) == nil {
	}
}

// shadowOnce watches over one leader for a while, and returns how long to wait before looking who leads.
func (c *Candidate) shadowOnce(ctx context.Context) time.Duration {
	leader, err := c.Etcd.Leader(ctx, leaderName)
	if err != nil || string(leader.Value) == c.Address {
		return lookEvery
	}
	refused := 0
	for range lookEvery / shadowEvery {
		if !refusesConnections(ctx, string(leader.Value)) {
			refused = 0
		} else if refused++; refused >= refusedMin {
			err := register.Delete(ctx, c.Etcd, leader.Key, leader.Rev)
			c.Config.Log.WarnContext(ctx, "the leading controller refuses connections and was deposed", "address", string(leader.Value),
				"error", err)
			return deposeEvery
		}
		if sleep(ctx, shadowEvery) != nil {
			break
		}
	}
	return 0
}

func refusesConnections(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, shadowPatience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// Databases says how controllers log in to the databases.
type Databases struct {
	User            string `koanf:"user"`
	Password        string `koanf:"password"`
	ReplicaPassword string `koanf:"repl_password"` // of the accounts of the replicas
	Schema          string `koanf:"schema"`
}

// check says what is missing.
func (d Databases) Check() error {
	if d.User == "" || d.Password == "" || d.ReplicaPassword == "" || d.Schema == "" {
		return fmt.Errorf("database: user, password, repl_password and schema are needed")
	}
	return nil
}
