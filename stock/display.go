package stock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/feed"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

// Kind is the kind of the documents. It is declared by whoever is the first to write one.
const Kind = "stock"

// When and how often a document is written.
const (
	exact     = 20          // below it every change is shown
	part      = 20          // above it one by a twentieth
	pause     = time.Second // between two looks at one quota
	lookEvery = 100 * time.Millisecond
	atOnce    = 8 // quotas that are looked at side by side
	patience  = 5 * time.Second
	warnEvery = 10 * time.Second
	client    = "display-stock" // whose writes these are
)

// Tables are those whose changes a Display is fed with.
var Tables = []feed.Table{{Name: "slices", Version: "ver"}, {Name: "quotas", Version: "ver"}}

// Body is what a document says.
type Body struct {
	SKU       string `json:"sku"`
	Location  string `json:"location"`
	Available int64  `json:"available"`
	Held      int64  `json:"held"`
	Sold      int64  `json:"sold"`
	Hint      bool   `json:"hint"` // always true: nothing is promised to whoever reads this
}

// Config is what a Display needs.
type Config struct {
	Ledger *ledger.Ledger
	State  *cache.Cache
	Kinds  *state.Kinds
	// Stocks lists the quotas that a shard has a slice or the home of.
	Stocks func(ctx context.Context, shard int) ([]string, error)
	Now    func() time.Time
	Log    *slog.Logger
}

// Display keeps the documents of all stocks.
type Display struct {
	cfg Config

	mu     sync.Mutex
	moved  map[string]bool      // quotas whose documents may not show them
	looked map[string]time.Time // when a quota was looked at, of those of the last pause
	warned time.Time
}

// NewDisplay returns a display. Run does the work.
func NewDisplay(cfg Config) *Display {
	return &Display{cfg: cfg, moved: map[string]bool{}, looked: map[string]time.Time{}}
}

// Run writes documents until ctx ends.
func (d *Display) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
		var looking errgroup.Group
		looking.SetLimit(atOnce)
		for _, quota := range d.due() {
			looking.Go(func() error {
				if err := d.show(ctx, quota); err != nil && ctx.Err() == nil {
					d.mark(quota)
					d.warn(ctx, quota, err)
				}
				return nil
			})
		}
		_ = looking.Wait() // each tells its own error
	}
}

func (d *Display) mark(quotas ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, quota := range quotas {
		d.moved[quota] = true
	}
}

// due takes the quotas that are to be looked at now.
func (d *Display) due() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Now()
	maps.DeleteFunc(d.looked, func(_ string, at time.Time) bool { return now.Sub(at) >= pause })
	var list []string
	for quota := range d.moved {
		if _, lately := d.looked[quota]; !lately {
			list = append(list, quota)
			d.looked[quota] = now
			delete(d.moved, quota)
		}
	}
	slices.Sort(list)
	return list
}

func (d *Display) warn(ctx context.Context, quota string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := d.cfg.Now(); now.Sub(d.warned) >= warnEvery {
		d.warned = now
		d.cfg.Log.WarnContext(ctx, "a stock is not shown as it is; it is tried again", "quota", quota, "error", err)
	}
}

// show writes the document of a quota if it shows something else.
func (d *Display) show(ctx context.Context, quota string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, parts, _ := ledger.ParseQuotaID(quota)
	key := state.Key{Kind: Kind, ID: parts[0] + "@" + parts[1]}
	shown, err := d.cfg.State.Read(ctx, key, cache.Ask{Mode: cache.Strong}) // before the quota
	if err != nil {
		return err
	}
	now, err := d.cfg.Ledger.Quota(ctx, quota)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	body := Body{SKU: parts[0], Location: parts[1], Available: now.Available, Held: now.Held, Sold: now.Used, Hint: true}
	if !body.differs(&shown.Document) {
		return nil
	}
	return d.write(ctx, &shown.Document, body)
}

// differs says whether a document is too far from what it should show.
func (b Body) differs(d *state.Document) bool {
	var old Body
	if !d.Exists() || json.Unmarshal(d.Body, &old) != nil || !old.Hint {
		return true
	}
	return moved(old.Available, b.Available) || moved(old.Held, b.Held) || moved(old.Sold, b.Sold)
}

// moved says whether a number has moved so far that it is shown.
func moved(from, to int64) bool {
	if from < exact || to < exact {
		return from != to
	}
	return max(from-to, to-from)*part >= from
}

// write replaces the document that was read. Its key is that of the version: of two who replace one version, one does.
func (d *Display) write(ctx context.Context, old *state.Document, body Body) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if _, err := d.cfg.Kinds.Get(Kind); errors.Is(err, state.ErrNoKind) {
		if _, err := d.cfg.Kinds.Declare(ctx, Kind, state.Spec{}); err != nil {
			return err
		}
	}
	r := state.Request{Key: old.Key, When: state.Precondition{Absent: true}, Client: client}
	if old.Exists() {
		r.When = state.Precondition{Version: old.Version}
	}
	r.Idempotency = "display-" + old.Version.String()
	_, err = d.cfg.State.Put(ctx, r, text)
	return err
}

// Follower returns the consumer of a shard's feed. It keeps its position in memory, with the list of what is to be shown: a new process
// looks at every stock once.
func (d *Display) Follower(number int) feed.Consumer { return &follower{display: d, shard: number} }

type follower struct {
	display  *Display
	shard    int
	position feed.Position
}

// Position implements feed.Consumer.
func (f *follower) Position(context.Context) (feed.Position, error) { return f.position, nil }

// Take implements feed.Consumer.
func (f *follower) Take(_ context.Context, r feed.Release) error {
	for _, t := range r.Transactions {
		for _, c := range t.Changes {
			row, quota := c.After, ""
			if !row.Exists() {
				row = c.Before
			}
			if err := row.Scan(feed.Into{"quota": &quota}); err != nil {
				return err
			}
			if isStock(quota) {
				f.display.mark(quota)
			}
		}
	}
	f.position = r.Position
	return nil
}

// Reset implements feed.Consumer.
func (f *follower) Reset(ctx context.Context, g feed.Gap) error {
	quotas, err := f.display.cfg.Stocks(ctx, f.shard)
	if err != nil {
		return fmt.Errorf("list the stocks of shard %d: %w", f.shard, err)
	}
	f.display.mark(slices.DeleteFunc(quotas, func(quota string) bool { return !isStock(quota) })...)
	f.position = g.Position
	return nil
}

func isStock(quota string) bool {
	kind, parts, ok := ledger.ParseQuotaID(quota)
	return ok && kind == ledger.StockQuota && !strings.Contains(parts[0]+parts[1], "@") // which would make names ambiguous
}

// StocksOf lists the stocks that a shard has a slice or the home of.
func StocksOf(ctx context.Context, db *shard.DB) (list []string, err error) {
	const all = "SELECT quota FROM slices WHERE quota LIKE 'stock:%' UNION SELECT quota FROM quotas WHERE quota LIKE 'stock:%'"
	rows, err := db.SQL().QueryContext(ctx, all)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var quota string
		if err := rows.Scan(&quota); err != nil {
			return nil, err
		}
		list = append(list, quota)
	}
	return list, rows.Err()
}
