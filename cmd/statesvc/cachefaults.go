package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/bench"
	"github.com/statesvc/statesvc/cache"
)

func (p *program) benchCacheFaults() *cobra.Command {
	var o bench.CacheFaultsOptions
	var minutes float64
	cmd := &cobra.Command{
		Use:   "cache-faults",
		Short: "Break what state data stand on, under load, and judge every read by what was acknowledged before it",
		Long: "Start a MariaDB and a Redis and, in this process, three instances: one reaches Redis through a relay that can be cut, one\n" +
			"keeps no copies in memory. Write and read state data in all modes, break something again and again, and judge every read\n" +
			"by what was acknowledged before it began, by one monotonic clock. A strong read must have everything, one with a token at least the\n" +
			"token, a bounded one everything that was acknowledged " + cache.Bound.String() + " before. How many eventual reads miss what was\n" +
			"acknowledged a second before is counted. The exit status is 1 if a promise was not kept. The same --seed draws the same faults:\n\n" +
			"  " + strings.Join(bench.CacheFaultNames(), " "),
		Example: "  statesvc bench cache-faults --minutes 10\n  statesvc bench cache-faults --minutes 0.2 --faults cut=3s,redis-kill=1s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Duration = time.Duration(minutes * float64(time.Minute))
			p.printf("seed %d\n", o.Seed)
			r, err := bench.CacheFaults(cmd.Context(), p.out, o)
			if r.Tally == nil {
				return err
			}
			p.printf("seed %d, %d faults, %d writes were acknowledged, %d calls had no answer\n", o.Seed, r.Faults, r.Writes, r.Unanswered)
			p.printf("checked=%d violations_strong=%d violations_token=%d violations_bounded=%d eventual_nines=%.1f\n", r.Tally.Checked(),
				r.Tally.Of(cache.Strong).Older, r.Tally.Of(cache.AtLeast).Older, r.Tally.Of(cache.Bounded).Older,
				r.Tally.Of(cache.Eventual).Nines())
			return err
		},
	}
	cmd.Flags().Float64Var(&minutes, "minutes", 10, "how long")
	cmd.Flags().Uint64Var(&o.Seed, "seed", uint64(time.Now().UnixNano()), "of faults and load; the default is another one each time")
	cmd.Flags().StringSliceVar(&o.Faults, "faults", nil, "exactly these, with commas, each as name or name=duration")
	cmd.Flags().IntVar(&o.Reads, "reads", 10_000, "reads per second, at most")
	cmd.Flags().IntVar(&o.Writes, "writes", 200, "writes per second, at most")
	return cmd
}
