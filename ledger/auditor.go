package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// The clocks and limits of an auditor.
const (
	auditPage     = 256              // places that are listed at a time
	auditFindings = 100              // that a report keeps; their number is always exact
	auditSave     = 5 * time.Second  // between writes of the progress to the register
	auditPatience = 30 * time.Second // for one place; a history of millions takes that long
	auditPause    = 10 * time.Second // between passes, and after a shard that could not be read
	auditPrefix   = "audits/"
)

// AuditorConfig is what an auditor needs.
type AuditorConfig struct {
	Ledger   *Ledger
	Register register.Register // keeps progress and reports, so that any instance can show them and go on after a restart
	Shards   func() []int
	// Primary is where the owners, quotas and packets of a shard are listed. What is checked is read from a fenced snapshot.
	Primary func(shard int) (*shard.DB, error)
	// Rate is the most rows that are read per second; 0: as many as the shard gives.
	Rate int
	// Lead reports whether this instance is the one to audit a shard now. It saves work and decides nothing. Nil: always.
	Lead func(ctx context.Context, shard int) bool
	Now  func() time.Time
	Log  *slog.Logger
}

// Auditor compares the tables of the shards with each other while the service runs (R30): owner by owner, slice by slice, quota by
// quota, packet by packet. It reads snapshots, takes no locks, and writes nothing but its report. What is on two shards is compared in an
// order in which what is under way cannot look like a drift.
//
// It does not promise to see a drift that was there for less than a pass takes.
type Auditor struct {
	cfg AuditorConfig

	mu   sync.Mutex
	sold map[int]string // by shard: the quota after which the next pass compares what was sold
}

// NewAuditor returns an auditor; Run starts it.
func NewAuditor(cfg AuditorConfig) *Auditor { return &Auditor{cfg: cfg, sold: map[int]string{}} }

// AuditPass is one walk through everything on a shard.
type AuditPass struct {
	StartedAt time.Time        `json:"started_at"`
	EndedAt   time.Time        `json:"ended_at,omitzero"` // zero: under way
	Owners    int64            `json:"owners"`
	Quotas    int64            `json:"quotas"` // whose home the shard is
	Packets   int64            `json:"packets"`
	Campaigns int64            `json:"campaigns"` // that the shard knows of
	Rows      int64            `json:"rows"`
	Unread    int64            `json:"unread"`   // comparisons that could not be made; the next pass tries again
	Drift     int64            `json:"drift"`    // contradictions found; must be 0
	Checks    map[string]int64 `json:"checks"`   // the same by check; none without any
	Findings  []Drift          `json:"findings"` // the first hundred of them
	At        place            `json:"at,omitzero"`
}

// AuditReport is what is known of a shard: the last whole pass, and the one under way.
type AuditReport struct {
	Shard int       `json:"shard"`
	Last  AuditPass `json:"last"` // zero EndedAt: no pass has ended yet
	Now   AuditPass `json:"now"`
}

// DriftKnown is the larger number of contradictions of both passes: one that was found counts at once, and until a whole pass has not
// found it again.
func (r *AuditReport) DriftKnown() int64 { return max(r.Last.Drift, r.Now.Drift) }

// KnownBy is DriftKnown of each check that has found something.
func (r *AuditReport) KnownBy() map[string]int64 {
	known := maps.Clone(r.Last.Checks)
	if known == nil {
		known = map[string]int64{}
	}
	for check, n := range r.Now.Checks {
		known[check] = max(known[check], n)
	}
	return known
}

func (p *AuditPass) add(number int, found Audit) {
	p.Rows += int64(found.Rows)
	p.Unread += int64(found.Unread)
	p.Drift += int64(len(found.Drift))
	for _, d := range found.Drift {
		if p.Checks == nil {
			p.Checks = map[string]int64{}
		}
		p.Checks[d.Check]++
		if d.Shard = number; len(p.Findings) < auditFindings {
			p.Findings = append(p.Findings, d)
		}
	}
}

// join adds the numbers of a shard.
func (p *AuditPass) join(of *AuditPass) {
	p.Owners += of.Owners
	p.Quotas += of.Quotas
	p.Packets += of.Packets
	p.Campaigns += of.Campaigns
	p.Rows += of.Rows
	p.Unread += of.Unread
	p.Drift += of.Drift
}

// Run audits every shard in turn until ctx ends.
func (a *Auditor) Run(ctx context.Context) error {
	for {
		for _, number := range a.cfg.Shards() {
			if a.cfg.Lead != nil && !a.cfg.Lead(ctx, number) {
				continue
			}
			if err := a.resume(ctx, number); err != nil && ctx.Err() == nil {
				a.cfg.Log.WarnContext(ctx, "could not audit a shard; it is tried again", "shard", number, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(auditPause):
		}
	}
}

// resume goes on with the pass that the register knows, or begins one, and ends it.
func (a *Auditor) resume(ctx context.Context, number int) error {
	report, err := a.Report(ctx, number)
	if err != nil {
		return err
	}
	if report.Now.StartedAt.IsZero() {
		report.Now = AuditPass{StartedAt: a.cfg.Now().UTC()}
	}
	saved := a.cfg.Now()
	err = a.pass(ctx, number, &report.Now, func() error {
		if now := a.cfg.Now(); now.Sub(saved) >= auditSave {
			saved = now
			return a.save(ctx, &report)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, a.save(context.WithoutCancel(ctx), &report))
	}
	report.Now.EndedAt, report.Now.At = a.cfg.Now().UTC(), place{}
	report.Last, report.Now = report.Now, AuditPass{}
	return a.save(ctx, &report)
}

// Once makes one whole pass over every shard, without a trace in the register. each hears of every contradiction.
func (a *Auditor) Once(ctx context.Context, each func(Drift)) (total AuditPass, err error) {
	total.StartedAt = a.cfg.Now().UTC()
	for _, number := range a.cfg.Shards() {
		pass := AuditPass{}
		told := 0
		err := a.pass(ctx, number, &pass, func() error {
			for _, d := range pass.Findings {
				told++
				each(d)
			}
			pass.Findings = pass.Findings[:0]
			return nil
		})
		total.join(&pass)
		if err != nil {
			return total, fmt.Errorf("audit shard %d: %w", number, err)
		}
	}
	total.EndedAt = a.cfg.Now().UTC()
	return total, nil
}

// pass walks on from where p has come to. after is called after each place.
func (a *Auditor) pass(ctx context.Context, number int, p *AuditPass, after func() error) error {
	w := &walked{shard: number}
	if p.At == (place{}) {
		var err error
		if w.sold, err = a.tally(ctx, number); err != nil {
			return err
		}
	}
	for p.At.Walk < len(walks) {
		db, err := a.cfg.Primary(number)
		if err != nil {
			return err
		}
		next, err := walks[p.At.Walk].next(ctx, db, p.At, auditPage)
		if err != nil {
			return err
		}
		for _, at := range next {
			if err := a.place(ctx, at, p, w); err != nil {
				return err
			}
			at.Walk = p.At.Walk
			p.At = at
			if err := after(); err != nil {
				return err
			}
		}
		if len(next) < auditPage {
			p.At = place{Walk: p.At.Walk + 1}
		}
	}
	return nil
}

// tally begins to compare what slices have sold.
func (a *Auditor) tally(ctx context.Context, number int) (t *soldTally, err error) {
	db, err := a.cfg.Primary(number)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	t, a.sold[number], err = newSoldTally(ctx, db, a.sold[number])
	return t, err
}

// place audits one place, and then rests for as long as the rate says of what it has read.
func (a *Auditor) place(ctx context.Context, at place, p *AuditPass, w *walked) error {
	limited, cancel := context.WithTimeout(ctx, auditPatience)
	defer cancel()
	walk := walks[p.At.Walk]
	found, err := walk.audit(limited, a.cfg.Ledger, at, w)
	if err != nil {
		return err
	}
	p.add(w.shard, found)
	if walk.count != nil {
		*walk.count(p)++
	}
	for _, d := range found.Drift {
		a.cfg.Log.ErrorContext(ctx, "the ledger contradicts itself; nothing was repaired",
			"check", d.Check, "shard", w.shard, "bucket", d.Bucket, "subject", d.Subject, "want", d.Want, "have", d.Have)
	}
	if a.cfg.Rate == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(found.Rows) * time.Second / time.Duration(a.cfg.Rate)):
		return nil
	}
}

// Report reads what is known of a shard; it is empty before the first pass.
func (a *Auditor) Report(ctx context.Context, number int) (AuditReport, error) {
	report := AuditReport{Shard: number}
	entry, err := a.cfg.Register.Get(ctx, auditPrefix+strconv.Itoa(number))
	if errors.Is(err, register.ErrNotFound) {
		return report, nil
	}
	if err != nil {
		return report, fmt.Errorf("read the report of shard %d: %w", number, err)
	}
	if err := json.Unmarshal(entry.Value, &report); err != nil {
		return report, fmt.Errorf("read the report of shard %d: %w", number, err)
	}
	return report, nil
}

// Reports reads what is known of all shards.
func (a *Auditor) Reports(ctx context.Context) ([]AuditReport, error) {
	var reports []AuditReport
	for _, number := range a.cfg.Shards() {
		report, err := a.Report(ctx, number)
		if err != nil {
			return nil, err
		}
		reports = append(reports, report)
	}
	return reports, nil
}

func (a *Auditor) save(ctx context.Context, report *AuditReport) error {
	text, err := json.Marshal(report)
	if err != nil {
		return err
	}
	if _, err := register.Put(ctx, a.cfg.Register, auditPrefix+strconv.Itoa(report.Shard), text); err != nil {
		return fmt.Errorf("write the report of shard %d: %w", report.Shard, err)
	}
	return nil
}
