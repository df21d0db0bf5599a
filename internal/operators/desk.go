package operators

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/statesvc/statesvc/api"
	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// The patience of a request with what it has to ask.
const (
	registerPatience = time.Second
	serverPatience   = 3 * time.Second // of one statement on an announced primary
)

// Config is what a Desk needs.
type Config struct {
	Register register.Register
	// DSN is how an instance logs in to the servers of a shard; "" if there is nothing to log in to. Its address is replaced.
	DSN func(shard int) string
	Now func() time.Time
}

// Desk is the operators' side of failovers.
type Desk struct{ cfg Config }

var _ api.Failovers = (*Desk)(nil)

// New returns a desk.
func New(cfg Config) *Desk { return &Desk{cfg} }

// Order leaves an order for the leading controller. The same order that stands already is answered as it was given.
func (d *Desk) Order(ctx context.Context, number int, kind, node, by, reason string) (gen.ShardOrder, error) {
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	r, _, err := failover.ReadRecord(ctx, d.cfg.Register, number)
	if err != nil {
		return gen.ShardOrder{}, translate(err)
	}
	order := failover.Order{Kind: failover.OrderKind(kind), Node: node, Reason: reason, By: by, At: d.cfg.Now().UTC()}
	if err := obeyable(&r, &order); err != nil {
		return gen.ShardOrder{}, fmt.Errorf("shard %d: %w", number, err)
	}
	if err := failover.Give(ctx, d.cfg.Register, number, order); errors.Is(err, failover.ErrOrderStands) {
		stands, reading := failover.Standing(ctx, d.cfg.Register, number)
		if reading != nil || stands.Kind != order.Kind || stands.Node != order.Node || stands.By != order.By || stands.Reason != order.Reason {
			return gen.ShardOrder{}, translate(err)
		}
		order = stands
	} else if err != nil {
		return gen.ShardOrder{}, translate(err)
	}
	return orderBody(order), nil
}

// obeyable says why an order would wait for ever. A shard whose replicas are all away may be suspended all the same: they come back.
func obeyable(r *failover.Record, o *failover.Order) error {
	_, known := r.Nodes[o.Node]
	_, member := r.InSync[o.Node]
	others := len(r.InSync)
	if member {
		others--
	}
	rebuild := o.Kind == failover.OrderRebuild
	switch {
	case r.External:
		return fmt.Errorf("%w: another tool fails it over (failover: external)", api.ErrNoFailover)
	case len(r.Nodes) < 2:
		return fmt.Errorf("%w: it has a single node (failover: none)", api.ErrNoFailover)
	case o.Kind == failover.OrderSwitchover && len(r.InSync) == 0:
		return fmt.Errorf("%w: no node is in sync with the primary (failover: none)", api.ErrNoFailover)
	case rebuild && !known:
		return fmt.Errorf("%w: there is no node %q", api.ErrNoShard, o.Node)
	case rebuild && o.Node == r.Primary:
		return fmt.Errorf("%w: %s is the primary; switch over first", api.ErrNoFailover, o.Node)
	case rebuild && others == 0:
		return fmt.Errorf("%w: besides the primary nobody else is in sync, so %s may be the last copy", api.ErrNoFailover, o.Node)
	}
	return nil
}

// Fence begins a new epoch of a shard that another tool fails over.
func (d *Desk) Fence(ctx context.Context, number int, by, reason string) (gen.ShardFence, error) {
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	fencing := failover.Fencing{By: by, Reason: reason, At: d.cfg.Now().UTC()}
	r, err := failover.BeginExternal(ctx, d.cfg.Register, number, fencing)
	return fenceBody(number, &r), translate(err)
}

// Announce lets the writes of a shard go on at an address.
func (d *Desk) Announce(ctx context.Context, number int, epoch uint64, address string) (gen.ShardFence, error) {
	raise := func(ctx context.Context) error {
		db, err := d.connect(number, address)
		if err != nil {
			return err
		}
		defer db.Close()
		return failover.RaiseFence(ctx, db, epoch)
	}
	a := failover.Announcement{Shard: number, Epoch: epoch, Address: address}
	r, err := failover.AnnounceExternal(ctx, d.cfg.Register, a, d.cfg.Now, raise)
	return fenceBody(number, &r), translate(err)
}

// connect logs in at an address as instances do at the shard's.
func (d *Desk) connect(number int, address string) (*sql.DB, error) {
	dsn := d.cfg.DSN(number)
	if dsn == "" {
		return nil, fmt.Errorf("%w: this instance knows no way to log in to shard %d", failover.ErrNotExternal, number)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("%w: %w", failover.ErrNotWritable, err)
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, errors.New("the DSN of the shard cannot be read") // it has a password, so it is not shown
	}
	cfg.Net, cfg.Addr = "tcp", address
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = registerPatience, serverPatience, registerPatience
	cfg.InterpolateParams = true
	cfg.Logger = &mysql.NopLogger{} // errors are returned
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// Failovers lists journals, newest first, and says where the next page begins; 0: there is none.
func (d *Desk) Failovers(ctx context.Context, number, limit int, before int64) ([]gen.Failover, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	found, err := failover.Journals(ctx, d.cfg.Register, number, limit+1, before)
	if err != nil {
		return nil, 0, translate(err)
	}
	next := int64(0)
	if len(found) > limit {
		found = found[:limit]
		next = found[limit-1].Position()
	}
	body := make([]gen.Failover, len(found))
	for i := range found {
		body[i] = journalBody(&found[i])
	}
	return body, next, nil
}

// Shards describes all shards by their numbers, without their names.
func (d *Desk) Shards(ctx context.Context) (map[int]gen.Shard, error) {
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	seen, err := failover.Look(ctx, d.cfg.Register)
	if err != nil {
		return nil, err
	}
	found := make(map[int]gen.Shard, len(seen.Records))
	for number, r := range seen.Records {
		body := shardBody(&r, seen.Hosts, d.cfg.Now())
		if order, stands := seen.Orders[number]; stands {
			body.Order = orderBody(order)
		}
		found[number] = body
	}
	return found, nil
}

// translate turns what package failover and the register say into what package api has codes for.
func translate(err error) error {
	for _, known := range []struct{ from, to error }{
		{failover.ErrOrderStands, api.ErrOrderStands},
		{failover.ErrNotExternal, api.ErrNoFailover},
		{failover.ErrStaleEpoch, api.ErrStaleEpoch},
		{failover.ErrNotWritable, shard.ErrFailover},
		{register.ErrNotFound, api.ErrNoShard},
		{register.ErrConflict, shard.ErrFailover},
		{context.DeadlineExceeded, shard.ErrFailover},
	} {
		if errors.Is(err, known.from) {
			return fmt.Errorf("%w: %w", known.to, err)
		}
	}
	return err
}
