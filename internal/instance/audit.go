package instance

import (
	"context"
	"errors"

	"github.com/statesvc/statesvc/ledger"
)

// Audit makes one whole pass of the auditor over all shards, without an instance: it holds no lease, decides nothing, and writes
// nothing. rate is in rows per second; 0: as fast as the shards are. each hears of every contradiction.
func Audit(ctx context.Context, cfg Config, rate int, each func(ledger.Drift)) (pass ledger.AuditPass, err error) {
	in := &Instance{Register: cfg.Register, cfg: cfg}
	defer func() { err = errors.Join(err, in.Close(context.WithoutCancel(ctx))) }()
	if err := in.readSecrets(ctx); err != nil {
		return pass, err
	}
	if err := in.openRoutes(ctx); err != nil {
		return pass, err
	}
	in.openStore()
	in.Ledger = ledger.New(ledger.Config{Store: in.Store, Codec: in.Codec, Now: cfg.Now})
	in.cfg.AuditRate = rate
	return in.auditor().Once(ctx, each)
}
