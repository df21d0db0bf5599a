package instance

import (
	"context"
	"errors"
	"fmt"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/events"
	"github.com/statesvc/statesvc/feed"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/stock"
)

// follower is somebody who lives by the change feed of each shard.
type follower struct {
	work     string                                     // unique among them
	logs     bool                                       // only of shards with a binary log
	lead     func(ctx context.Context, number int) bool // nil: as the configuration says of feeds
	tables   []feed.Table
	consumer func(number int) feed.Consumer
}

// followers are those of this instance.
func (in *Instance) followers() (list []follower) {
	if in.cfg.Redis != "" {
		list = append(list, follower{
			work: "cache", tables: cache.Tables, consumer: func(number int) feed.Consumer { return in.State.Follower(number) },
		})
	}
	if in.Display != nil {
		list = append(list, follower{work: "stock", tables: stock.Tables, consumer: in.Display.Follower})
	}
	// Whoever gives the numbers must be the one who is woken. A file is looked at so cheaply that a log of it would only be a detour.
	return append(list, follower{work: "events", logs: true, lead: in.cfg.LeadEvents, tables: events.Tables, consumer: in.Feed.Follower})
}

// stocks are those of a shard.
func (in *Instance) stocks(ctx context.Context, number int) ([]string, error) {
	db, err := in.primary(number)
	if err != nil {
		return nil, err
	}
	return stock.StocksOf(ctx, db)
}

// runFeeds feeds the followers with the changes of every shard whose log can be read.
func (in *Instance) runFeeds(ctx context.Context) error {
	m, ok := in.Routes.Map()
	if !ok {
		return errors.New("there is no shard map")
	}
	for _, mapped := range m.Shards {
		for _, configured := range in.cfg.Shards {
			if configured.Name != mapped.Name {
				continue
			}
			for _, f := range in.followers() {
				if err := in.runTailer(ctx, mapped.Number, configured, f); err != nil {
					return fmt.Errorf("feed %s of shard %s: %w", f.work, mapped.Name, err)
				}
			}
		}
	}
	return nil
}

func (in *Instance) runTailer(ctx context.Context, number int, s Shard, f follower) error {
	switch {
	case s.File != "" && f.logs:
		return nil
	case s.File != "":
		return in.runEmbedded(ctx, number, s, f)
	case s.Feed == "":
		return nil
	}
	cfg := feed.TailerConfig{
		Shard: number, Routes: in.Routes, DSN: s.Feed, Tables: f.tables, Consumer: f.consumer(number), Work: f.work,
		Name: in.cfg.Name + "/" + f.work, ServerID: feed.NewServerID(), Now: in.cfg.Now, Log: in.cfg.Log, Metrics: in.cfg.FeedMetrics,
		Address: func(route shard.Route) string {
			if record, ok := in.Routes.Record(number); ok && isOnly(record, s.Name) {
				return "" // the configuration knows better
			}
			return route.Address
		},
	}
	if f.lead != nil {
		cfg.Lead = func(ctx context.Context) bool { return f.lead(ctx, number) }
	} else if in.cfg.LeadFeed != nil {
		cfg.Lead = func(ctx context.Context) bool { return in.cfg.LeadFeed(ctx, f.work, number) }
	}
	tailer, err := feed.NewTailer(cfg)
	if err != nil {
		return err
	}
	if in.cfg.FeedMetrics != nil {
		shown, err := in.cfg.FeedMetrics.Observe(tailer, in.cfg.Now)
		if err != nil {
			return err
		}
		in.shown = append(in.shown, shown)
	}
	in.feeding.Go(func() error {
		tailer.Run(ctx)
		return nil
	})
	return nil
}

// runEmbedded feeds a follower from a shard in a file, of which there is one instance.
func (in *Instance) runEmbedded(ctx context.Context, number int, s Shard, f follower) error {
	route, err := in.Routes.Shard(number)
	if err != nil {
		return err
	}
	db, err := s.Open(in.cfg.Now)
	if err != nil {
		return err
	}
	tailer := feed.NewEmbeddedTailer(feed.EmbeddedConfig{
		Shard: number, Epoch: route.Epoch, DB: db.SQL(), Tables: f.tables, Consumer: f.consumer(number), Now: in.cfg.Now, Log: in.cfg.Log,
		Metrics: in.cfg.FeedMetrics,
	})
	in.feeding.Go(func() error {
		defer db.Close()
		tailer.Run(ctx)
		return nil
	})
	return nil
}
