package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/bench"
)

func (p *program) benchCache() *cobra.Command {
	var o bench.CacheOptions
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Measure reads of state data over HTTP: from memory, from Redis, and how soon another instance shows a write",
		Long: "Start a MariaDB, a Redis, three instances and two baselines, and measure reads of state data over HTTP: a hot set in memory\n" +
			"against a gin handler that answers a constant; a hot set in Redis against a gin handler that asks Redis once per request; Zipf\n" +
			"0.99 over all documents with 5 % writes; the time from a write to its being shown by another instance; and how often the\n" +
			"database is read if a thousand readers ask for a cold document at once. Compare numbers of one run.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Program, err = os.Executable(); err != nil {
				return err
			}
			r, err := bench.Cache(cmd.Context(), p.out, o)
			if err != nil {
				return err
			}
			p.printf("\nl1_ratio=%.2f redis_ratio=%.2f visible_p50_ms=%.1f visible_p99_ms=%.1f cold_key_db_reads=%d\n", r.L1Ratio, r.RedisRatio,
				float64(r.Visible.P50)/1e6, float64(r.Visible.P99)/1e6, r.ColdReads)
			return nil
		},
	}
	cmd.Flags().IntVar(&o.Seconds, "seconds", 4, "length of each run")
	cmd.Flags().IntVar(&o.Rounds, "rounds", 3, "of each comparison with a baseline")
	cmd.Flags().IntVar(&o.Documents, "documents", 1_000_000, "in the database")
	cmd.Flags().IntVar(&o.Hot, "hot", 100, "documents that are asked for all the time in the comparisons with a baseline")
	return cmd
}

// benchCacheBaseline and benchCacheLoad are processes of `bench cache`, as benchBaseline and benchLoad are of `bench http`.
func benchCacheBaseline() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:    "cache-baseline",
		Short:  "Serve documents without keeping promises",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var task bench.CacheBaselineTask
			if err := json.NewDecoder(cmd.InOrStdin()).Decode(&task); err != nil {
				return fmt.Errorf("read the task: %w", err)
			}
			return bench.CacheBaseline(cmd.Context(), listen, task)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address of the HTTP listener")
	return cmd
}

func (p *program) benchCacheLoad() *cobra.Command {
	return &cobra.Command{
		Use:    "cache-load",
		Short:  "Read and write documents",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var task bench.CacheLoadTask
			if err := json.NewDecoder(cmd.InOrStdin()).Decode(&task); err != nil {
				return fmt.Errorf("read the task: %w", err)
			}
			result, err := bench.CacheLoad(cmd.Context(), task)
			if err != nil {
				return err
			}
			return json.NewEncoder(p.out).Encode(result)
		},
	}
}
