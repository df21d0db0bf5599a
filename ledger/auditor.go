package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// The clocks and limits of an auditor.
const (
	auditPage     = 256              // owners that are listed at a time
	auditFindings = 100              // that a report keeps; their number is always exact
	auditSave     = 5 * time.Second  // between writes of the progress to the register
	auditPatience = 30 * time.Second // for one owner; a history of millions takes that long
	auditPause    = 10 * time.Second // between passes, and after a shard that could not be read
	auditPrefix   = "audits/"
)

// AuditorConfig is what an auditor needs.
type AuditorConfig struct {
	Ledger   *Ledger
	Register register.Register // keeps progress and reports, so that any instance can show them and go on after a restart
	Shards   func() []int
	// Primary is where the owners of a shard are listed. What is checked is read from a fenced snapshot.
	Primary func(shard int) (*shard.DB, error)
	// Rate is the most rows that are read per second; 0: as many as the shard gives.
	Rate int
	// Lead reports whether this instance is the one to audit a shard now. It saves work and decides nothing. Nil: always.
	Lead func(ctx context.Context, shard int) bool
	Now  func() time.Time
	Log  *slog.Logger
}

// Auditor compares the tables of a shard with each other, owner by owner, while the service runs (R30). It reads snapshots, takes no
// locks, and writes nothing but its report.
//
// It does not promise to see a drift that was there for less than a pass takes.
type Auditor struct{ cfg AuditorConfig }

// NewAuditor returns an auditor; Run starts it.
func NewAuditor(cfg AuditorConfig) *Auditor { return &Auditor{cfg} }

// AuditPass is one walk through all owners of a shard.
type AuditPass struct {
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"` // zero: under way
	Owners    int64     `json:"owners"`
	Rows      int64     `json:"rows"`
	Drift     int64     `json:"drift"`    // contradictions found; must be 0
	Findings  []Drift   `json:"findings"` // the first hundred of them
	At        place     `json:"at,omitzero"`
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

func (p *AuditPass) add(number int, found Audit) {
	p.Owners++
	p.Rows += int64(found.Rows)
	p.Drift += int64(len(found.Drift))
	for _, d := range found.Drift {
		if d.Shard = number; len(p.Findings) < auditFindings {
			p.Findings = append(p.Findings, d)
		}
	}
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
		total.Owners, total.Rows, total.Drift = total.Owners+pass.Owners, total.Rows+pass.Rows, total.Drift+pass.Drift
		if err != nil {
			return total, fmt.Errorf("audit shard %d: %w", number, err)
		}
	}
	total.EndedAt = a.cfg.Now().UTC()
	return total, nil
}

// pass walks on from where p has come to. after is called after each owner. The assets of owners are all there is on a shard so far; what
// belongs to no owner will be a second walk here.
func (a *Auditor) pass(ctx context.Context, number int, p *AuditPass, after func() error) error {
	for {
		db, err := a.cfg.Primary(number)
		if err != nil {
			return err
		}
		owners, err := ownersAfter(ctx, db, p.At, auditPage)
		if err != nil {
			return err
		}
		for _, owner := range owners {
			if err := a.owner(ctx, number, owner, p); err != nil {
				return err
			}
			p.At = owner
			if err := after(); err != nil {
				return err
			}
		}
		if len(owners) < auditPage {
			return nil
		}
	}
}

// owner audits one owner, and then rests for as long as the rate says of what it has read.
func (a *Auditor) owner(ctx context.Context, number int, owner place, p *AuditPass) error {
	limited, cancel := context.WithTimeout(ctx, auditPatience)
	defer cancel()
	found, err := a.cfg.Ledger.AuditOwner(limited, shard.Bucket(owner.Bucket), owner.Owner)
	if err != nil {
		return err
	}
	p.add(number, found)
	for _, d := range found.Drift {
		a.cfg.Log.ErrorContext(ctx, "the ledger contradicts itself; nothing was repaired",
			"check", d.Check, "shard", number, "bucket", d.Bucket, "subject", d.Subject, "want", d.Want, "have", d.Have)
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
