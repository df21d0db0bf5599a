package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/client"
	"github.com/statesvc/statesvc/internal/freshness"
	"github.com/statesvc/statesvc/internal/prober"
)

var errStale = errors.New("reads were older than their modes allow")

// probe are the flags of `check cache`.
type probe struct {
	addresses []string
	key       string
	prober.Config
}

func (p *program) checkCache() *cobra.Command {
	var c probe
	cmd := &cobra.Command{
		Use:   "cache --key KEY",
		Short: "Write documents to a running service, and look whether reads of them are ever older than promised",
		Long: "Write documents of a kind of their own through every instance in turn, and read each write back through every instance,\n" +
			"strongly, with its token, bounded and eventually, after 0.1, 1, 10 and 60 s. A violation is a strong read that misses a write\n" +
			"which was acknowledged before it began, one that is older than its token, or a bounded one that misses a write which was\n" +
			"acknowledged " + cache.Bound.String() + " before. Each is a line. Eventual reads promise nothing; how rarely they miss a write is\n" +
			"told as nines, for each delay (3 nines: one in a thousand; if none missed it, as many as the number of reads proves).\n\n" +
			"The last line counts. The exit status is 1 if there is a violation. The documents are deleted afterwards. The kind must have\n" +
			"been declared: curl -X PUT …/v1/admin/kinds/check -d '{}'. Name every instance, not what balances between them.",
		Example: "  statesvc check cache --address http://10.0.0.1:8080,http://10.0.0.2:8080 --key $KEY --duration 10m",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.probeCache(cmd, &c) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&c.addresses, "address", []string{"http://" + defaults().Listen}, "URLs of all instances, or STATESVC_ADDRESS")
	f.StringVar(&c.key, "key", "", "API key with the scopes read and state, or STATESVC_KEY")
	f.StringVar(&c.Kind, "kind", "check", "kind of the documents")
	f.DurationVar(&c.Duration, "duration", 2*time.Minute, "how long; what would be read later is left out")
	f.Float64Var(&c.Rate, "rate", 5, "writes per second; each is read back up to 16 times by instance")
	f.IntVar(&c.Documents, "documents", 100, "that are written in turn")
	return cmd
}

func (p *program) probeCache(cmd *cobra.Command, c *probe) error {
	if c.Rate <= 0 || c.Documents <= 0 || c.Duration <= 0 {
		return errors.New("--rate, --documents and --duration must be more than 0")
	}
	if value := p.variable("ADDRESS"); value != "" && !cmd.Flags().Changed("address") {
		c.addresses = strings.Split(value, ",")
	}
	for _, address := range c.addresses {
		t := target{address, c.key}
		if err := p.completeKey(&t); err != nil {
			return err
		}
		instance, err := client.New(client.Options{BaseURL: t.address, Token: t.key, Patience: askPatience})
		if err != nil {
			return err
		}
		c.Instances, c.Names = append(c.Instances, instance), append(c.Names, address)
	}
	c.Prefix, c.Now, c.Say = "check-"+strings.ToLower(rand.Text()[:8]), time.Now, p.printf
	r, err := prober.Run(cmd.Context(), c.Config)
	if r.Checked() > 0 {
		p.printReport(r)
	}
	switch {
	case errors.Is(err, client.ErrNotFound):
		return fmt.Errorf("%w; declare the kind %s once, or name another one with --kind", err, c.Kind)
	case err != nil:
		return fmt.Errorf("%w%s", err, advice(err, "state"))
	case r.Violations() > 0:
		return errStale
	case r.Checked() == 0:
		return errors.New("no read was answered, so nothing is known")
	}
	return nil
}

func (p *program) printReport(r *prober.Report) {
	p.printf("%-8s %10s %10s %10s %10s %8s\n", "after", "strong", "at_least", "bounded", "eventual", "nines")
	for i := range prober.Delays {
		tally := &r.ByDelay[i]
		if tally.Checked() == 0 {
			continue
		}
		p.printf("%-8s", prober.Delays[i])
		for _, mode := range freshness.Modes {
			count := tally.Of(mode)
			p.printf(" %10s", fmt.Sprintf("%d/%d", count.Older, count.Checked))
		}
		p.printf(" %8.1f\n", tally.Of(cache.Eventual).Nines())
	}
	p.printf("checked=%d writes=%d unanswered=%d violations_strong=%d violations_token=%d violations_bounded=%d "+
		"eventual_nines=%.1f\n", r.Checked(), r.Writes, r.Unanswered, r.Of(cache.Strong).Older,
		r.Of(cache.AtLeast).Older, r.Of(cache.Bounded).Older, r.Of(cache.Eventual).Nines())
}
