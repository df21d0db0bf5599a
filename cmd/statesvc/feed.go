package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/feed"
	"github.com/statesvc/statesvc/shard"
)

// routesEvery is how often the routes are compared with the register.
const routesEvery = 200 * time.Millisecond

// feedOptions say what is shown.
type feedOptions struct {
	shard  string
	tables []string
	from   string
}

func (p *program) feed() *cobra.Command {
	o := &feedOptions{}
	cmd := &cobra.Command{
		Use:   "feed SHARD --config FILE --tables NAME,…",
		Short: "Show the committed changes of a shard as they happen, a line of JSON for each row",
		Long: "Show the committed changes of a shard as they happen, a line of JSON for each row, until it is interrupted.\n\n" +
			"It reads the binary log of the shard's primary as the account in `feed` of the shard's configuration. What it shows will\n" +
			"survive every failover. Values that are no text are shown as {\"base64\": …}.",
		Example: "  statesvc feed s1 --config statesvc.yaml --tables entries,coupons",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.shard = args[0]
			cfg, err := readConfig(cmd.Flags(), p.env)
			if err != nil {
				return err
			}
			return p.showFeed(cmd.Context(), cfg, o)
		},
	}
	configFlag(cmd.Flags())
	registerFlag(cmd.Flags())
	cmd.Flags().StringSliceVar(&o.tables, "tables", nil, "tables whose changes are shown")
	cmd.Flags().StringVar(&o.from, "from", "", "position behind which to begin, as shown with each change; empty: now")
	_ = cmd.MarkFlagRequired("tables")
	return cmd
}

func (p *program) showFeed(ctx context.Context, cfg config, o *feedOptions) error {
	log, err := newLogger(cfg, os.Stderr)
	if err != nil {
		return err
	}
	reg, err := openRegister(ctx, cfg.Register)
	if err != nil {
		return err
	}
	defer reg.Close()
	routes, err := shard.OpenRoutes(ctx, reg, shard.RoutesOptions{Now: time.Now, RenewEvery: routesEvery, Log: log})
	if err != nil {
		return err
	}
	defer routes.Close()
	number, configured, err := cfg.feedOf(routes, o.shard)
	if err != nil {
		return err
	}
	var tables []feed.Table
	for _, name := range o.tables {
		tables = append(tables, feed.Table{Name: name})
	}
	shown := &printer{out: p.out, position: feed.Position(o.from)}
	if configured.File != "" {
		return showFile(ctx, configured.File, feed.EmbeddedConfig{
			Shard: number, Epoch: 1, Tables: tables, Consumer: shown, Now: time.Now, Log: log,
		})
	}
	tailer, err := feed.NewTailer(feed.TailerConfig{
		Shard: number, Routes: routes, DSN: configured.Feed, Tables: tables, Consumer: shown, Name: "statesvc feed",
		ServerID: feed.NewServerID(),
		Now:      time.Now, Log: log,
	})
	if err != nil {
		return err
	}
	tailer.Run(ctx)
	return nil
}

func showFile(ctx context.Context, path string, cfg feed.EmbeddedConfig) error {
	db, err := shard.OpenSQLite(path, time.Now)
	if err != nil {
		return err
	}
	defer db.Close()
	cfg.DB = db.SQL()
	feed.NewEmbeddedTailer(cfg).Run(ctx)
	return nil
}

// feedOf finds a shard by its name.
func (c *config) feedOf(routes *shard.Routes, name string) (number int, configured shardConfig, err error) {
	m, ok := routes.Map()
	if !ok {
		return 0, configured, errors.New("the register holds no cluster; " + registerAdvice)
	}
	for _, s := range m.Shards {
		if s.Name == name {
			number = s.Number
		}
	}
	for _, s := range c.Shards {
		if s.Name == name {
			configured = s
		}
	}
	switch {
	case number == 0:
		return 0, configured, fmt.Errorf("the cluster has no shard %q", name)
	case configured.Feed == "" && configured.File == "":
		return 0, configured, fmt.Errorf("the configuration has no feed of shard %q: the DSN of an account that may read its binary log", name)
	}
	return number, configured, nil
}

// printer is a consumer that shows what it gets, and forgets it.
type printer struct {
	out      io.Writer
	position feed.Position
}

// Position implements feed.Consumer.
func (c *printer) Position(context.Context) (feed.Position, error) { return c.position, nil }

// Reset implements feed.Consumer.
func (c *printer) Reset(_ context.Context, g feed.Gap) error {
	c.position = g.Position
	return json.NewEncoder(c.out).Encode(map[string]any{"gap": g.Reason, "after": g.After, "position": g.Position})
}

// shownChange is a line.
type shownChange struct {
	Position    string         `json:"position"` // behind its transaction
	CommittedAt time.Time      `json:"committed_at"`
	Index       int            `json:"index"` // in its transaction
	Table       string         `json:"table"`
	Bucket      shard.Bucket   `json:"bucket"`
	Before      map[string]any `json:"before,omitempty"`
	After       map[string]any `json:"after,omitempty"`
}

// Take implements feed.Consumer.
func (c *printer) Take(_ context.Context, r feed.Release) error {
	lines := json.NewEncoder(c.out)
	for _, t := range r.Transactions {
		for i, change := range t.Changes {
			if err := lines.Encode(shownChange{
				Position: t.GTID.String(), CommittedAt: t.CommittedAt, Index: t.First + i, Table: change.Table, Bucket: change.Bucket,
				Before: shown(change.Before), After: shown(change.After),
			}); err != nil {
				return err
			}
		}
	}
	c.position = r.Position
	return nil
}

func shown(row feed.Row) map[string]any {
	if !row.Exists() {
		return nil
	}
	values := map[string]any{}
	for _, column := range row.Columns() {
		value, _ := row.Value(column)
		switch v := value.(type) {
		case []byte:
			value = shownText(string(v))
		case string:
			value = shownText(v)
		}
		values[column] = value
	}
	return values
}

func shownText(text string) any {
	if utf8.ValidString(text) {
		return text
	}
	return map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(text))}
}
