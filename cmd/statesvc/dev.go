package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard/id"
)

// The demo: an owner with money and a coupon, so that there is something to look at. Issues are keyed by their reference, so
// seeding again at every start changes nothing.
const (
	demoOwner    = "user-1"
	demoCampaign = "welcome"
	demoClaims   = "claim-me" // a campaign to claim from
	demoSKU      = "shoes-42" // what the tour buys
	demoPlace    = "main"
	demoKeyFile  = "demo-key"
)

func (p *program) dev() *cobra.Command {
	var listen, data string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in this process: SQLite shards, Redis in memory, demo data; nothing to install",
		Long: "Run everything in this process: two SQLite shards, a Redis in memory, a register in a file, demo data, and a key\n" +
			"that may do everything. The API, the rules and the committer are those of a cluster; there is no failover.\n" +
			"Data stay in --data over restarts and kills. It prints five curl commands to begin with. It reads no configuration:\n" +
			"for that, and for MariaDB, there is `statesvc serve`.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runDev(cmd.Context(), listen, data, quiet) },
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address of the HTTP listener")
	cmd.Flags().StringVar(&data, "data", filepath.Join("data", "dev"), "folder of the data; remove it to begin anew")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "log warnings only and print no tour")
	return cmd
}

func (p *program) runDev(ctx context.Context, listen, data string, quiet bool) error {
	if err := os.MkdirAll(data, 0o750); err != nil {
		return fmt.Errorf("make the folder of the data: %w", err)
	}
	memory := miniredis.NewMiniRedis()
	if err := memory.Start(); err != nil {
		return fmt.Errorf("start Redis in memory: %w", err)
	}
	defer memory.Close()
	cfg := devConfig(listen, data, memory.Addr(), quiet)
	reg, err := connectRegister(ctx, cfg.Register)
	if err != nil {
		return err
	}
	defer reg.Close()
	if err := instance.Bootstrap(ctx, reg, cfg.shards(), time.Now, func(string) {}); err != nil {
		return err
	}
	s, err := p.start(ctx, cfg, reg)
	if err != nil {
		return err
	}
	if err := p.welcome(ctx, s, data, quiet); err != nil {
		return errors.Join(err, s.close(context.WithoutCancel(ctx)))
	}
	return s.run(ctx)
}

// welcome makes the demo key and data, and prints the tour.
func (p *program) welcome(ctx context.Context, s *server, data string, quiet bool) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	key, err := demoKey(ctx, s.instance.Keys, filepath.Join(data, demoKeyFile))
	if err != nil {
		return err
	}
	if err := seed(ctx, s.instance.Ledger); err != nil || quiet {
		return err
	}
	return p.tour(ctx, s, key, data)
}

func devConfig(listen, data, redis string, quiet bool) config {
	cfg := defaults()
	cfg.Instance, cfg.Listen, cfg.Redis = "dev", listen, redis
	cfg.Register = filepath.Join(data, "register")
	cfg.DrainDelay, cfg.SweepEvery = 0, time.Second
	cfg.LogLevel = "info"
	if quiet {
		cfg.LogLevel = "warn"
	}
	for i := 1; i <= 2; i++ {
		name := fmt.Sprintf("s%d", i)
		cfg.Shards = append(cfg.Shards, shardConfig{Name: name, File: filepath.Join(data, name+".db")})
	}
	return cfg
}

// demoKey returns the token of an earlier start if it still opens, or makes a new key. The token is kept in a file that only
// its owner reads: it is for trying, and its data are on the same disk.
func demoKey(ctx context.Context, keys *access.Keys, path string) (string, error) {
	if text, err := os.ReadFile(path); err == nil {
		token := strings.TrimSpace(string(text))
		if _, err := keys.Verify(token, time.Now()); err == nil {
			return token, nil
		}
	}
	all, err := access.ParseScopes([]string{"read", "hold", "issue", "state", "admin"})
	if err != nil {
		return "", err
	}
	_, token, err := keys.Create(ctx, access.Spec{Name: "demo", Scopes: all, Rate: access.Rate{PerSecond: 100_000, Burst: 200_000}})
	if err != nil {
		return "", fmt.Errorf("make the demo key: %w", err)
	}
	return token, os.WriteFile(path, []byte(token+"\n"), 0o600)
}

// seed gives three owners money and a coupon, and puts shoes on stock.
func seed(ctx context.Context, l *ledger.Ledger) error {
	for i, owner := range []string{demoOwner, "user-2", "user-3"} {
		_, err := l.CreditLot(ctx, ledger.Caller{Key: "demo-lot"}, ledger.CreditLot{
			Owner: owner, IssueRef: "demo-lot", Source: demoCampaign, ExpiresAt: demoEnd(),
			Amount: ledger.Money{Amount: 100_000 * int64(i+1), Currency: "CNY"},
		})
		if err != nil && !errors.Is(err, ledger.ErrKeyReused) { // reused: by an earlier start, with an earlier end
			return fmt.Errorf("credit %s: %w", owner, err)
		}
		if _, err := demoCoupon(ctx, l, owner, "demo-coupon"); err != nil && !errors.Is(err, ledger.ErrKeyReused) {
			return err
		}
	}
	if err := demoCampaignOf(ctx, l); err != nil {
		return err
	}
	_, err := l.SetQuota(ctx, ledger.Caller{Key: "demo-stock"}, ledger.SetQuota{
		Quota: ledger.StockID(demoSKU, demoPlace), Total: 10_000, Reason: "for trying",
	})
	if err != nil && !errors.Is(err, ledger.ErrKeyReused) {
		return fmt.Errorf("set the stock of %s: %w", demoSKU, err)
	}
	return nil
}

// demoCampaignOf makes a campaign that everybody may claim from three times, once a day.
func demoCampaignOf(ctx context.Context, l *ledger.Ledger) error {
	year := demoEnd().Year()
	_, err := l.CreateCampaign(ctx, ledger.Caller{Key: "demo-campaign"}, ledger.Campaign{
		CampaignID: demoClaims, TimeZone: "Asia/Shanghai",
		Discount: ledger.DiscountBody{Kind: ledger.Fixed, Currency: "CNY", Amount: &ledger.Money{Amount: 500, Currency: "CNY"}},
		StartsAt: time.Date(year-2, 1, 1, 0, 0, 0, 0, time.UTC), EndsAt: time.Date(year+1, 1, 1, 0, 0, 0, 0, time.UTC),
		Validity: ledger.Validity{Kind: ledger.ToEndOfDay, Days: 7}, TotalLimit: 10_000, OwnerLimit: 3, OwnerDayLimit: 1,
	})
	if err != nil && !errors.Is(err, ledger.ErrKeyReused) {
		return fmt.Errorf("make the campaign %s: %w", demoClaims, err)
	}
	return nil
}

// demoEnd is when demo money and coupons end: far away, and the same all day.
func demoEnd() time.Time { return time.Now().UTC().AddDate(1, 0, 0).Truncate(24 * time.Hour) }

// demoCoupon issues a coupon of ten per cent and returns its id.
func demoCoupon(ctx context.Context, l *ledger.Ledger, owner, ref string) (string, error) {
	answer, err := l.IssueCoupon(ctx, ledger.Caller{Key: ref}, ledger.IssueCoupon{
		Owner: owner, CampaignID: demoCampaign, IssueRef: ref, ExpiresAt: demoEnd(),
		Discount: ledger.Discount{Kind: ledger.Percent, Currency: "CNY", BasisPoints: 1000, Cap: 2000, MinSpend: 5000},
	})
	if err != nil {
		return "", fmt.Errorf("issue a coupon to %s: %w", owner, err)
	}
	var reply ledger.CouponReply
	if err := json.Unmarshal(answer.Body, &reply); err != nil {
		return "", fmt.Errorf("read the reply of an issue: %w", err)
	}
	return reply.Coupon.CouponID, nil
}

// tour prints where everything is and five commands that work as printed, in this order: each start makes a coupon, ids
// and keys for them.
func (p *program) tour(ctx context.Context, s *server, key, data string) error {
	run := rand.Text()[:8]
	holds, err := s.instance.Ledger.MintIDs(ctx, demoOwner, id.Hold, 2)
	if err != nil {
		return fmt.Errorf("mint the ids of the tour: %w", err)
	}
	coupon, err := demoCoupon(ctx, s.instance.Ledger, demoOwner, "tour-"+run)
	if err != nil {
		return err
	}
	base := s.address()
	p.printf("statesvc %s is serving on %s\n\n", version, base)
	p.printf("  data       %s (two SQLite shards and the register; remove the folder to begin anew)\n", data)
	p.printf("  key        %s\n", key)
	p.printf("  look       %s/docs   %s/metrics   %s/readyz?verbose\n\n", base, base, base)
	p.printf("Five commands for another shell, in this order:\n\n")
	for i, c := range tourCommands(base, key, run, coupon, holds) {
		p.printf("# %d. %s\n%s\n\n", i+1, c.title, c.command)
	}
	p.printf("Stop with Ctrl-C. What was acknowledged survives that, and kill -9 too.\n\n")
	return nil
}

type tourCommand struct{ title, command string }

func tourCommands(base, key, run, coupon string, holds []string) []tourCommand {
	post := func(path, name, body string, args ...any) string {
		return curl(base, key, "POST", path, name+"-"+run, fmt.Sprintf(body, args...))
	}
	return []tourCommand{
		{"issue a coupon: 20.00 off orders from 100.00", post("/v1/campaigns/tour/issues", "issue", issueBody,
			demoOwner, "order-"+run, demoEnd().Format(time.RFC3339))},
		{"hold shoes, a coupon of ten per cent and 5.00 of red-packet money for an order, all or nothing", post("/v1/holds", "hold", holdBody,
			holds[0], demoOwner, "order-"+run, coupon, demoSKU, demoPlace)},
		{
			"confirm it: all of it is spent (send it again: the same answer)",
			post("/v1/holds/"+holds[0]+"/confirm", "confirm", ownerBody, demoOwner),
		},
		{
			"cancel a hold that has not arrived yet: it leaves a tombstone, and the late hold will be refused",
			post("/v1/holds/"+holds[1]+"/cancel", "cancel", ownerBody, demoOwner),
		},
		{"the owner's history: decided once, chained by hash", curl(base, key, "GET", "/v1/owners/"+demoOwner+"/entries", "", "")},
	}
}

// The bodies of the tour, as one would write them by hand.
const (
	issueBody = `{
    "owner": %q, "issue_ref": %q,
    "discount": {
      "kind": "FIXED",
      "amount": {"amount": 2000, "currency": "CNY"}, "min_spend": {"amount": 10000, "currency": "CNY"}
    },
    "expires_at": %q
  }`
	holdBody = `{
    "hold_id": %q, "owner": %q, "order_id": %q, "attempt": 1,
    "lines": [
      {"line_id": "shoes", "amount": {"amount": 12000, "currency": "CNY"}},
      {"line_id": "socks", "amount": {"amount": 999, "currency": "CNY"}}
    ],
    "items": [
      {"kind": "coupon", "coupon_id": %q},
      {"kind": "money", "amount": {"amount": 500, "currency": "CNY"}},
      {"kind": "stock", "sku": %q, "location": %q, "quantity": 1}
    ]
  }`
	ownerBody = `{"owner": %q}`
)

// curl writes a request as a command for a shell. Its output ends in a newline, which replies do not.
func curl(base, key, method, path, idempotencyKey, body string) string {
	lines := []string{`curl -sS -w '\n' -X ` + method + " " + base + path, "  -H 'Authorization: Bearer " + key + "'"}
	if idempotencyKey != "" {
		lines = append(lines, "  -H 'Idempotency-Key: "+idempotencyKey+"'")
	}
	if body != "" {
		lines = append(lines, "  -H 'Content-Type: application/json'", "  -d '"+body+"'")
	}
	return strings.Join(lines, " \\\n")
}
