package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/bench"
)

func (p *program) benchTorture() *cobra.Command {
	var o bench.TortureOptions
	var minutes float64
	cmd := &cobra.Command{
		Use:   "torture",
		Short: "Make random operations of all kinds while databases and processes die; audit in between, and compare at the end",
		Long: "Start two processes of the service and two MariaDB servers, and make random operations of all kinds: coupons, money, stock,\n" +
			"budgets, holds and all that may become of them, refunds, packets, campaigns. Meanwhile connections are cut, and databases and\n" +
			"processes killed and paused; after each fault everything is audited. At the end, when everything has settled, every key must\n" +
			"have the answer that its callers were told, and the books must be what the answers make. The same --seed makes the same\n" +
			"calls and faults.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o.Duration = time.Duration(minutes * float64(time.Minute))
			if o.Program, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			p.printf("seed %d\n", o.Seed)
			r, err := bench.Torture(cmd.Context(), p.out, o)
			p.printf("operations=%d faults=%d audits=%d drift=%d\n", r.Operations, r.Faults, r.Audits, r.Drift)
			if err != nil {
				return errors.Join(fmt.Errorf("seed %d", o.Seed), err)
			}
			return nil
		},
	}
	cmd.Flags().Float64Var(&minutes, "minutes", 10, "how long things break")
	cmd.Flags().Uint64Var(&o.Seed, "seed", uint64(time.Now().UnixNano()), "of calls and faults; the default is another one each time")
	return cmd
}
