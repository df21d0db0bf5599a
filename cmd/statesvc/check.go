package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

var (
	errDrift  = errors.New("the ledger contradicts itself; nothing was repaired")
	errUnread = errors.New("not everything could be compared")
)

func (p *program) check() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare what is stored with itself, or what is read with what was written; repairs nothing",
	}
	var rate int
	books := &cobra.Command{
		Use:   "ledger --config FILE",
		Short: "Audit everything on every shard once, while the service runs",
		Long: "Audit everything on every shard once, while the service runs: that each lot sums up, that held counters are what live\n" +
			"holds have, that coupons, holds, orders and owners agree, and that the history is whole and ends in what is there; that\n" +
			"quotas, slices and what is on its way between them sum up, that as much was sold as the histories say, that the shares\n" +
			"of packets sum up and have arrived. Snapshots are read, without locks. Nothing is written, and nothing is repaired.\n\n" +
			"Every contradiction is a line; the last line counts. The exit status is 1 if there is any, or if something could not be\n" +
			"compared (unread).",
		Example: "  statesvc check ledger --config statesvc.yaml\n  statesvc check ledger --config statesvc.yaml --rate 5000",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.checkLedger(cmd, rate) },
	}
	configFlag(books.Flags())
	registerFlag(books.Flags())
	books.Flags().IntVar(&rate, "rate", 20_000, "rows per second that are read at most; 0: as many as the shards give")
	cmd.AddCommand(books, p.checkCache())
	return cmd
}

func (p *program) checkLedger(cmd *cobra.Command, rate int) error {
	if rate < 0 {
		return fmt.Errorf("--rate: %d is less than 0", rate)
	}
	cfg, err := loadConfig(cmd.Flags(), p.env)
	if err != nil {
		return err
	}
	log, err := newLogger(config{LogLevel: "error"}, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	reg, err := openRegister(cmd.Context(), cfg.Register)
	if err != nil {
		return err
	}
	defer reg.Close()
	of := instance.Config{Name: "check", Register: reg, Shards: cfg.shards(), Now: time.Now, Log: log}
	if sessions(reg, func(s *register.Session) instance.Session { return s }) != nil {
		of.ReadLease = shard.ReadLease
	}
	pass, err := instance.Audit(cmd.Context(), of, rate, func(d ledger.Drift) {
		p.printf("drift check=%s shard=%d bucket=%d owner=%s subject=%q want=%q have=%q\n",
			d.Check, d.Shard, d.Bucket, d.Owner, d.Subject, d.Want, d.Have)
	})
	if err != nil {
		return err
	}
	took := pass.EndedAt.Sub(pass.StartedAt).Seconds()
	p.printf("audited owners=%d quotas=%d packets=%d campaigns=%d rows=%d unread=%d seconds=%.1f drift=%d\n",
		pass.Owners, pass.Quotas, pass.Packets, pass.Campaigns, pass.Rows, pass.Unread, took, pass.Drift)
	switch {
	case pass.Drift > 0:
		return errDrift
	case pass.Unread > 0:
		return errUnread
	}
	return nil
}
