package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/bench"
)

func (p *program) bench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure on this machine what docs/performance.md states; MariaDB must be installed",
	}
	var seconds int
	committer := &cobra.Command{
		Use:   "committer",
		Short: "Compare the committer with the same holds written one by one, on one MariaDB shard",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ratios, err := bench.Committer(cmd.Context(), p.out, seconds)
			if err != nil {
				return err
			}
			p.printf("\ncommitter_ratio=%.2f hot_ratio=%.2f idle_ratio=%.2f\n", ratios.Committer, ratios.Hot, ratios.Idle)
			return nil
		},
	}
	committer.Flags().IntVar(&seconds, "seconds", 10, "length of each run")
	cmd.AddCommand(committer, p.benchHTTP(), p.benchFlash(), p.benchLedger(), p.benchCache(), p.benchSoak())
	cmd.AddCommand(p.benchDrill(), p.benchMachinery(), p.benchCalm(), p.benchChaos(), p.benchTorture(), p.benchCacheFaults())
	cmd.AddCommand(benchCacheBaseline(), p.benchCacheLoad(), benchBaseline(), p.benchLoad()) // of their own processes
	return cmd
}

func (p *program) benchFlash() *cobra.Command {
	var o bench.FlashOptions
	cmd := &cobra.Command{
		Use:   "flash",
		Short: "Sell one SKU to 512 callers over four MariaDB shards, against the same load on many SKUs; count commits",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Flash(cmd.Context(), p.out, o)
			if err != nil {
				return err
			}
			p.printf("\ngranted=%d flash_ratio=%.2f others_p99_ratio=%.2f commits_per_hold=%.2f\n",
				r.Granted, r.Ratio, r.OthersP99Ratio, r.CommitsPerHold)
			return nil
		},
	}
	cmd.Flags().Int64Var(&o.Units, "units", 100_000, "how many units of the SKU there are")
	cmd.Flags().IntVar(&o.Seconds, "seconds", 10, "length of each run besides the sale")
	return cmd
}

func (p *program) benchLedger() *cobra.Command {
	var o bench.LedgerOptions
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Measure claims, grabs and refunds, and single holds where there is much beside what they need, over four MariaDB shards",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bench.Ledger(cmd.Context(), p.out, o)
			if err != nil {
				return err
			}
			p.printf("\nclaims_per_s=%.0f grabs_per_s=%.0f refunds_per_s=%.0f large_owner_ratio=%.2f live_holds_ratio=%.2f listings_ratio=%.2f\n",
				r.Claims, r.Grabs, r.Refunds, r.LargeOwnerRatio, r.LiveHoldsRatio, r.ListingsRatio)
			return nil
		},
	}
	cmd.Flags().IntVar(&o.Seconds, "seconds", 10, "length of each load")
	cmd.Flags().IntVar(&o.Coupons, "coupons", 10_000, "coupons of the large owner")
	cmd.Flags().IntVar(&o.Lots, "lots", 1_000, "lots of the large owner")
	cmd.Flags().Int64Var(&o.LiveHolds, "live-holds", 200_000, "live holds of one SKU")
	return cmd
}

func (p *program) benchHTTP() *cobra.Command {
	var seconds int
	cmd := &cobra.Command{
		Use:   "http",
		Short: "Compare the service over HTTP, on MariaDB and embedded, with a server that only decodes and answers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			executable, err := os.Executable()
			if err != nil {
				return err
			}
			r, err := bench.HTTP(cmd.Context(), p.out, executable, seconds)
			if err != nil {
				return err
			}
			p.printf("\nhttp_ratio_mariadb=%.2f http_ratio_embedded=%.2f pairs_per_s_mariadb=%.0f pairs_per_s_embedded=%.0f "+
				"p99_ms_mariadb=%.1f\n", r.RatioMariaDB, r.RatioEmbedded, r.PairsMariaDB, r.PairsEmbedded, float64(r.P99MariaDB)/1e6)
			return nil
		},
	}
	cmd.Flags().IntVar(&seconds, "seconds", 10, "length of each run")
	return cmd
}

func (p *program) benchSoak() *cobra.Command {
	var o bench.SoakOptions
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Run the service on MariaDB under a mixed load; fail if it grows, or if its books do not balance",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Program, err = os.Executable(); err != nil {
				return err
			}
			r, err := bench.Soak(cmd.Context(), p.out, o)
			if err != nil {
				return err
			}
			const mb = 1 << 20
			p.printf("soak=ok rss_mb_early=%.1f rss_mb_late=%.1f goroutines_early=%d goroutines_late=%d requests=%d\n",
				float64(r.Early.RSS)/mb, float64(r.Late.RSS)/mb, r.Early.Goroutines, r.Late.Goroutines, r.Requests)
			return nil
		},
	}
	cmd.Flags().DurationVar(&o.Duration, "duration", 10*time.Minute, "length of the load")
	cmd.Flags().IntVar(&o.Rate, "rate", 400, "requests per second")
	return cmd
}

// benchBaseline and benchLoad are processes of `bench http`. Their tasks come in as JSON, from a program and not from people.
func benchBaseline() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:    "http-baseline",
		Short:  "Serve recorded replies",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var task bench.BaselineTask
			if err := json.NewDecoder(cmd.InOrStdin()).Decode(&task); err != nil {
				return fmt.Errorf("read the task: %w", err)
			}
			return bench.Baseline(cmd.Context(), listen, task)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address of the HTTP listener")
	return cmd
}

func (p *program) benchLoad() *cobra.Command {
	return &cobra.Command{
		Use:    "http-load",
		Short:  "Send pairs of a hold and its confirm",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var task bench.LoadTask
			if err := json.NewDecoder(cmd.InOrStdin()).Decode(&task); err != nil {
				return fmt.Errorf("read the task: %w", err)
			}
			result, err := bench.Load(cmd.Context(), task)
			if err != nil {
				return err
			}
			return json.NewEncoder(p.out).Encode(result)
		},
	}
}
