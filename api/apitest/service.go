package apitest

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/operators"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
)

// Service is a whole instance over two SQLite shards, wired as in production, but for the handler: api.New(Config) makes it.
type Service struct {
	*instance.Instance
	Config api.Config
	Tokens map[access.Scopes]string // a key for each scope; no rate stops them

	reg *register.File
}

// careful is the policy of the instance: what is more than 1000 minor units of CNY, or in another currency, needs a second key.
var careful = ledger.Approval{Needed: true, Above: map[string]int64{"CNY": 1000}}

// Open makes a cluster in an empty folder and starts an instance of it.
func Open(folder string) (*Service, error) {
	ctx := context.Background()
	reg, err := register.OpenFile(filepath.Join(folder, "register"))
	if err != nil {
		return nil, err
	}
	s := &Service{Tokens: map[access.Scopes]string{}, reg: reg}
	shards := []instance.Shard{
		{Name: "s1", File: filepath.Join(folder, "s1.db")}, {Name: "s2", File: filepath.Join(folder, "s2.db")},
	}
	if err := instance.Bootstrap(ctx, reg, shards, time.Now, func(string) {}); err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	s.Instance, err = instance.Open(ctx, instance.Config{
		Name: "test", Register: reg, Shards: shards, Approval: careful, Now: time.Now, Log: log,
	})
	if err != nil {
		return nil, err
	}
	s.Config = api.Config{
		Ledger: s.Ledger, State: s.State, Kinds: s.Kinds,
		Blacklist: s.Blacklist, Keys: s.Keys, Routes: s.Routes, Resolver: s.Resolver, Codec: s.Codec,
		Auditor: s.Auditor, Feed: s.Feed, Webhooks: s.Webhooks,
		CursorKey: s.CursorKey, Now: time.Now, Log: log, Meter: noop.Meter{}, Depth: s.Store.Depth, Ready: s.Ready,
		Failovers: operators.New(operators.Config{Register: reg, DSN: func(int) string { return "" }, Now: time.Now}),
	}
	for _, scopes := range []access.Scopes{
		access.ScopeRead, access.ScopeHold, access.ScopeIssue, access.ScopeState, access.ScopeAdmin, access.ScopeEvents, All,
	} {
		spec := access.Spec{Name: "test", Scopes: scopes, Rate: access.Rate{PerSecond: 1_000_000, Burst: 1_000_000}}
		if _, s.Tokens[scopes], err = s.Keys.Create(ctx, spec); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// All are the scopes of a key that may do everything.
const All = access.ScopeRead | access.ScopeHold | access.ScopeIssue | access.ScopeState | access.ScopeAdmin | access.ScopeEvents

// Close stops the instance and closes its register.
func (s *Service) Close(ctx context.Context) error {
	err := s.Instance.Close(ctx)
	if closing := s.reg.Close(); err == nil {
		err = closing
	}
	return err
}
