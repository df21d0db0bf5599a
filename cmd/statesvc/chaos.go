package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/internal/chaos"
)

func (p *program) benchChaos() *cobra.Command {
	o := chaos.Options{}
	var minutes float64
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Break a whole cluster of its own, again and again, under load, and look whether every promise was kept",
		Long: "Start a cluster of its own, and play rounds: callers credit, hold, confirm and cancel, one fault happens, the cluster must get\n" +
			"whole again, and everything is compared with what callers were told. The same --seed draws the same faults. The folder, with\n" +
			"logs and histories, is left if a promise was not kept. The faults:\n\n" + wrapped(chaos.Names()),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o.Duration = time.Duration(minutes * float64(time.Minute))
			o.Env = slices.DeleteFunc(slices.Clone(p.env), func(v string) bool { return strings.HasPrefix(v, envPrefix) })
			if o.Program, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			return p.chaos(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Folder, "data", filepath.Join("data", "chaos"), "folder of the cluster")
	cmd.Flags().Float64Var(&minutes, "minutes", 10, "how long rounds begin")
	cmd.Flags().Uint64Var(&o.Seed, "seed", uint64(time.Now().UnixNano()), "of faults and instants; the default is another one each time")
	cmd.Flags().StringSliceVar(&o.Faults, "faults", nil, "exactly these, with commas, instead of random ones")
	cmd.Flags().IntVar(&o.Owners, "owners", 16, "owners in each round, with two callers each")
	cmd.Flags().IntVar(&o.Shards, "shards", 2, "shards of the cluster")
	cmd.Flags().IntVar(&o.Instances, "instances", 2, "instances of the cluster")
	cmd.Flags().BoolVar(&o.Relays, "relays", false, "put a relay before the databases, and cut nodes off as well")
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "keep the folder in any case")
	return cmd
}

// wrapped breaks a list into lines.
func wrapped(words []string) string {
	const width = 110
	text, line := "", "  "
	for _, word := range words {
		if len(line)+len(word) > width {
			text, line = text+line+"\n", "  "
		}
		line += word + " "
	}
	return text + line
}

func (p *program) chaos(ctx context.Context, o chaos.Options) error {
	p.printf("seed %d\n", o.Seed)
	o.Print = func(format string, args ...any) {
		p.printf("%s", time.Now().UTC().Format("15:04:05 ")+fmt.Sprintf(format, args...))
	}
	r, err := chaos.Run(ctx, o)
	verdict := "ok"
	if err != nil {
		verdict = "broken"
	}
	p.printf("seed %d, %d calls had no answer while something was broken; whole again after (median) %.1f s, at most %.1f s\n",
		o.Seed, r.Unknown, r.Median().Seconds(), r.Longest().Seconds())
	p.printf("chaos=%s faults=%d failovers=%d writes=%d lost=%d duplicated=%d contradicted=%d dirty=%d max_gap_ms=%d\n",
		verdict, r.Faults, r.Failovers, r.Writes, r.Lost, r.Duplicated, r.Contradicted, r.Dirty, r.MaxGap.Milliseconds())
	return err
}
