package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/client"
)

// shardsOptions say whom the commands about shards ask, and how they print.
type shardsOptions struct {
	target

	json   bool
	reason string // of an order
	limit  int    // of failovers
	node   string // to rebuild
}

// shards are the commands of an operator. Unlike `keys` they ask a running service, so they work from any machine.
func (p *program) shards() *cobra.Command {
	o := &shardsOptions{}
	cmd := &cobra.Command{
		Use:   "shards",
		Short: "Show shards and failovers, and give shards orders",
		Long: "Show shards and failovers, and give shards orders: a planned switchover, automatic failover off and on, or the rebuild of a\n" +
			"node.\n\n" +
			"They call /v1/admin with an API key that has the scope admin. Without --address and --key, STATESVC_ADDRESS and\n" +
			"STATESVC_KEY count. A key in the environment is not shown in the list of processes.",
		Example: "  export STATESVC_KEY=ss_…\n  statesvc shards\n  statesvc shards failovers 2\n" +
			"  statesvc shards switchover 2 --reason 'the host of db-1 is replaced'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.listShards(cmd, o) },
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&o.address, "address", "http://"+defaults().Listen, "URL of the service, or STATESVC_ADDRESS")
	flags.StringVar(&o.key, "key", "", "API key with the scope admin, or STATESVC_KEY")
	flags.BoolVar(&o.json, "json", false, "print what the service answers, as JSON")
	list := &cobra.Command{
		Use: "list", Short: "List the shards and their nodes, as `statesvc shards` does", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.listShards(cmd, o) },
	}
	failovers := &cobra.Command{
		Use: "failovers [SHARD]", Short: "Show the failovers that have ended, newest first, step by step", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.listFailovers(cmd, o, args) },
	}
	failovers.Flags().IntVar(&o.limit, "limit", 5, "how many")
	cmd.AddCommand(list, failovers,
		p.orderCommand(o, "switchover", "Make another node of the shard its primary, without an error for anybody", (*client.Client).Switchover),
		p.rebuildCommand(o),
		p.orderCommand(o, "suspend", "Switch off automatic failover of the shard", (*client.Client).Suspend),
		p.orderCommand(o, "resume", "Switch on automatic failover of the shard again", (*client.Client).Resume),
	)
	return cmd
}

// orderCommand is a command that leaves an order for the leading controller.
func (p *program) orderCommand(
	o *shardsOptions, name, short string, give func(*client.Client, context.Context, int, string) (client.ShardOrder, error),
) *cobra.Command {
	cmd := &cobra.Command{
		Use: name + " SHARD --reason TEXT", Short: short, Args: cobra.ExactArgs(1),
		Long: short + ".\n\nThe order waits for the leading controller; `statesvc shards` shows it until it is carried out.",
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := shardNumber(args[0])
			if err != nil {
				return err
			}
			c, err := p.connect(cmd, &o.target)
			if err != nil {
				return err
			}
			order, err := give(c, cmd.Context(), number, o.reason)
			if err != nil {
				return fmt.Errorf("%s shard %d at %s: %w%s", name, number, o.address, err, advice(err, "admin"))
			}
			if o.json {
				return p.printJSON(order)
			}
			p.printf("ordered for shard %d: %s, because %s\n", number, orderWords(&order), order.Reason)
			return nil
		},
	}
	cmd.Flags().StringVar(&o.reason, "reason", "", "why; for the history")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

// rebuildCommand is the order that names a node.
func (p *program) rebuildCommand(o *shardsOptions) *cobra.Command {
	give := func(c *client.Client, ctx context.Context, number int, reason string) (client.ShardOrder, error) {
		return c.Rebuild(ctx, number, o.node, reason)
	}
	cmd := p.orderCommand(o, "rebuild", "Replace the data of a node by a copy of another one's", give)
	cmd.Use = "rebuild SHARD --node NODE --reason TEXT"
	cmd.Flags().StringVar(&o.node, "node", "", "name of the node; not the primary")
	_ = cmd.MarkFlagRequired("node")
	return cmd
}

func shardNumber(text string) (int, error) {
	number, err := strconv.Atoi(text)
	if err != nil || number < 1 {
		return 0, fmt.Errorf("%q is no number of a shard; `statesvc shards` lists them", text)
	}
	return number, nil
}

func (p *program) listShards(cmd *cobra.Command, o *shardsOptions) error {
	c, err := p.connect(cmd, &o.target)
	if err != nil {
		return err
	}
	found, err := c.Shards(cmd.Context())
	if err != nil {
		return fmt.Errorf("list the shards at %s: %w%s", o.address, err, advice(err, "admin"))
	}
	if o.json {
		return p.printJSON(found)
	}
	return p.printShards(found)
}

func (p *program) printShards(found []client.Shard) error {
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SHARD\tNAME\tPHASE\tEPOCH\tFAILOVER\tNODE\tROLE\tADDRESS\tDATABASE\tFREE\tREPORTED")
	for _, s := range found {
		line := fmt.Sprintf("%d\t%s\t%s\t%d\t%s", s.Number, s.Name, phase(&s), s.Epoch, orDash(s.Failover))
		for _, n := range s.Nodes {
			database, free, reported := hostCells(&n)
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", line, n.Name, orDash(n.Role), n.Address, database, free, reported)
			line = "\t\t\t\t" // of the shard only once
		}
		if len(s.Nodes) == 0 {
			fmt.Fprintln(table, line)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, s := range found {
		for _, remark := range remarks(&s) {
			p.printf("shard %d %s\n", s.Number, remark)
		}
	}
	return nil
}

// remarks are what does not fit into a table.
func remarks(s *client.Shard) (all []string) {
	if s.Stuck != "" {
		all = append(all, "waits: "+s.Stuck)
	}
	if s.Suspended != "" {
		all = append(all, "is not failed over: "+s.Suspended)
	}
	if s.FloorGtid != "" {
		all = append(all, "waits for a primary that has "+s.FloorGtid)
	}
	if s.Order.Kind != "" {
		all = append(all, fmt.Sprintf("has an order: %s, by %s at %s: %s", orderWords(&s.Order), s.Order.By, instant(s.Order.At), s.Order.Reason))
	}
	for _, n := range s.Nodes {
		if n.Rebuild.State != "" {
			all = append(all, rebuildWords(&n))
		}
		if n.Host.Unfit != "" {
			all = append(all, fmt.Sprintf("cannot use the data of %s: %s", n.Name, n.Host.Unfit))
		}
	}
	return all
}

func orderWords(o *client.ShardOrder) string {
	if o.Node != "" {
		return o.Kind + " of " + o.Node
	}
	return o.Kind
}

func rebuildWords(n *client.Node) string {
	r := &n.Rebuild
	text := fmt.Sprintf("rebuilds %s from %s since %s, attempt %d", n.Name, r.Donor, instant(r.BeganAt), r.Attempts)
	switch r.State {
	case "done":
		text = fmt.Sprintf("rebuilt %s from %s at %s in %s", n.Name, r.Donor, instant(r.EndedAt), r.EndedAt.Sub(r.BeganAt).Round(time.Second))
	case "failed":
		text = fmt.Sprintf("failed to rebuild %s from %s at %s, attempt %d: %s", n.Name, r.Donor, instant(r.EndedAt), r.Attempts, r.Error)
	}
	return text + "; why: " + r.Why
}

func phase(s *client.Shard) string {
	if s.Planned {
		return s.Phase + " (planned)"
	}
	return s.Phase
}

func hostCells(n *client.Node) (database, free, reported string) {
	h := &n.Host
	if h.ReportedAt.IsZero() {
		return "-", "-", "-"
	}
	database = "down"
	if h.Running {
		database = "running"
	}
	return database, fmt.Sprintf("%.1f GiB", float64(h.FreeBytes)/(1<<30)), fmt.Sprintf("%.1f s ago", float64(h.ReportAgeMs)/1000)
}

func (p *program) listFailovers(cmd *cobra.Command, o *shardsOptions, args []string) error {
	number := 0
	if len(args) > 0 {
		var err error
		if number, err = shardNumber(args[0]); err != nil {
			return err
		}
	}
	if o.limit < 1 {
		return fmt.Errorf("--limit: %d is less than 1", o.limit)
	}
	c, err := p.connect(cmd, &o.target)
	if err != nil {
		return err
	}
	found := []client.Failover{}
	for f, err := range c.Failovers(cmd.Context(), number) {
		if err != nil {
			return fmt.Errorf("list the failovers at %s: %w%s", o.address, err, advice(err, "admin"))
		}
		if found = append(found, f); len(found) == o.limit {
			break
		}
	}
	if o.json {
		return p.printJSON(found)
	}
	return p.printFailovers(found)
}

func (p *program) printFailovers(found []client.Failover) error {
	if len(found) == 0 {
		p.printf("no failovers\n")
	}
	for _, f := range found {
		p.printf("%s  shard %d epoch %d  %s → %s  %.0f ms  %s\n", instant(f.DecidedAt), f.Shard, f.Epoch, f.From, f.To, f.DurationMs, f.Why)
		table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		for _, s := range f.Steps {
			fmt.Fprintf(table, "  +%.1f ms\t%s\t%s\t%.1f ms\t%s\n", s.FromMs, s.Step, orDash(s.Node), s.TookMs, s.Error)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) printJSON(value any) error {
	encoder := json.NewEncoder(p.out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
