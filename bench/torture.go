package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/statesvc/statesvc/ledger"
)

const (
	tortureInstances = 2
	tortureCallers   = 10
	tortureSettle    = 2 * time.Minute // for everything that is under way to arrive, once nothing is broken any more
	tortureReplays   = 10_000          // keys that are sent again at the end, beside those without an answer
)

// TortureOptions say how long, and which random choices are made. The same seed makes the same calls and faults; which of them meet is up
// to the machine.
type TortureOptions struct {
	Program  string // our own executable
	Duration time.Duration
	Seed     uint64
}

// TortureResult is what `bench torture` ends with.
type TortureResult struct {
	Operations int64 // keys that were given an answer
	Unknown    int64 // of them, those that got it only after everything was whole again
	Faults     int
	Audits     int // that saw everything
	Drift      int64
}

var errTorture = errors.New("a promise was not kept")

// Torture makes random operations of all kinds on two processes of the service and two MariaDB servers, while connections are cut and
// servers and processes are killed and paused. It audits in between, and at the end, when everything has settled: then every key must
// have the one answer that its caller was told, and the books must be what the answers make.
func Torture(ctx context.Context, out io.Writer, o TortureOptions) (TortureResult, error) {
	return torture(ctx, out, o, &tortureServers{program: o.Program})
}

func torture(ctx context.Context, out io.Writer, o TortureOptions, stage tortureStage) (result TortureResult, err error) {
	r := &tortureRig{
		out: out, options: o, dice: rand.New(rand.NewPCG(o.Seed, 0)), stage: stage, load: newTortureLoad(o.Seed),
	}
	defer func() { err = errors.Join(err, stage.close()) }()
	if err := r.start(ctx); err != nil {
		return result, err
	}
	if err := r.run(ctx); err != nil {
		return r.result(), err
	}
	say(out, "the load has ended; everything settles\n")
	err = errors.Join(r.settle(ctx), r.load.resolve(ctx, r.dice))
	if err == nil {
		err = errors.Join(r.settle(ctx), r.verify(ctx))
	}
	say(out, "%s", r.load.answers())
	return r.result(), errors.Join(err, r.confess())
}

// tortureStage is the service that is tortured, and what of it breaks.
type tortureStage interface {
	start(ctx context.Context, load *tortureLoad) error
	faults() []tortureFault
	// whole waits until nothing is broken any more.
	whole(ctx context.Context) error
	// books calls f with the schema of each shard, and a connection to its primary.
	books(ctx context.Context, f func(db *sql.DB, schema string) error) error
	audit(ctx context.Context, each func(ledger.Drift)) (ledger.AuditPass, error)
	logs() ([]string, error)
	close() error
}

// tortureFault breaks something and makes it whole again.
type tortureFault struct {
	name string
	play func(ctx context.Context, dice *rand.Rand) error
}

// tortureRig is the service and the load.
type tortureRig struct {
	out     io.Writer
	options TortureOptions
	dice    *rand.Rand
	stage   tortureStage
	load    *tortureLoad
	before  map[string]int64 // the books when the load began

	broken, audits int
	drift          int64
}

func (r *tortureRig) result() TortureResult {
	return TortureResult{
		Operations: r.load.answered.Load(), Unknown: r.load.unknown.Load(), Faults: r.broken, Audits: r.audits, Drift: r.drift,
	}
}

func (r *tortureRig) start(ctx context.Context) (err error) {
	if err := r.stage.start(ctx, r.load); err != nil {
		return err
	}
	if err := r.load.prepare(ctx); err != nil {
		return err
	}
	r.before, err = r.books(ctx)
	return err
}

// run loads the service for the whole time; meanwhile one thing breaks after the other.
func (r *tortureRig) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := time.Now().Add(r.options.Duration)
	r.load.start(ctx)
	faults := r.stage.faults()
	var err error
	for err == nil && time.Now().Before(end) && ctx.Err() == nil {
		fault := faults[r.dice.IntN(len(faults))]
		passed := r.options.Duration - time.Until(end)
		say(r.out, "%6.0f s  %8d operations  %s\n", passed.Seconds(), r.load.answered.Load(), fault.name)
		if err = errors.Join(fault.play(ctx, r.dice), r.stage.whole(ctx)); err != nil {
			err = fmt.Errorf("%s: %w", fault.name, err)
			break
		}
		r.broken++
		sleepUntil(ctx, time.Now().Add(time.Second))
		err = r.audit(ctx, false)
	}
	return errors.Join(err, r.load.stop(), ctx.Err())
}

// audit compares everything that is stored with itself. While units travel, a quota may not hold still long enough; at the end all must.
func (r *tortureRig) audit(ctx context.Context, all bool) error {
	pass, err := r.stage.audit(ctx, func(d ledger.Drift) {
		say(r.out, "drift check=%s shard=%d bucket=%d owner=%s subject=%q want=%q have=%q\n",
			d.Check, d.Shard, d.Bucket, d.Owner, d.Subject, d.Want, d.Have)
	})
	r.drift += pass.Drift
	switch {
	case err != nil && !all:
		say(r.out, "         no audit: %v\n", err)
		return nil
	case err != nil:
		return fmt.Errorf("audit: %w", err)
	case pass.Drift > 0:
		return fmt.Errorf("%w: the audit has found %d contradictions", errTorture, pass.Drift)
	case all && pass.Unread > 0:
		return fmt.Errorf("%w: %d comparisons could not be made", errTorture, pass.Unread)
	}
	if pass.Unread == 0 {
		r.audits++
	}
	return nil
}

// pendingSQL counts what is under way on a shard.
const pendingSQL = "SELECT (SELECT COUNT(*) FROM holds) + (SELECT COUNT(*) FROM hold_items) + (SELECT COUNT(*) FROM transfers) + " +
	"(SELECT COUNT(*) FROM packet_shares WHERE sent_at IS NOT NULL)"

// settle waits until nothing is under way: every hold of the load ends by itself.
func (r *tortureRig) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tortureSettle)
	defer cancel()
	for {
		pending, err := r.sum(ctx, pendingSQL)
		if err != nil {
			return err
		}
		if pending == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %d rows are under way for ever", errTorture, pending)
		}
		sleepUntil(ctx, time.Now().Add(100*time.Millisecond))
	}
}

// sum adds up a number over the shards.
func (r *tortureRig) sum(ctx context.Context, query string) (sum int64, err error) {
	err = r.stage.books(ctx, func(db *sql.DB, schema string) error {
		query := strings.ReplaceAll(query, "FROM ", "FROM "+schema+".")
		var n int64
		if err := db.QueryRowContext(context.WithoutCancel(ctx), query).Scan(&n); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
		sum += n
		return nil
	})
	return sum, err
}

// tortureBooks are what the shards have of what callers are told, by name.
var tortureBooks = map[string]string{
	bookMoney:   "SELECT COALESCE(SUM(issued), 0) FROM lots WHERE issue_ref NOT LIKE '%#%'",
	bookCoupons: "SELECT COUNT(*) FROM coupons",
	bookPackets: "SELECT COALESCE(SUM(total), 0) FROM packets",
	bookUnits:   "SELECT COALESCE(SUM(total), 0) FROM quotas",
	bookRefunds: "SELECT COUNT(*) FROM refunds",
	// Not those of documents that show stock.
	bookDone: "SELECT COUNT(*) FROM operations WHERE verdict = 'DONE' AND op_key NOT LIKE 'display-%'",
}

func (r *tortureRig) books(ctx context.Context) (map[string]int64, error) {
	books := map[string]int64{}
	for name, query := range tortureBooks {
		have, err := r.sum(ctx, query)
		if err != nil {
			return nil, err
		}
		books[name] = have
	}
	return books, nil
}

// verify audits what has settled, and compares it with the answers.
func (r *tortureRig) verify(ctx context.Context) error {
	errs := []error{r.audit(ctx, true)}
	have, err := r.books(ctx)
	told := r.load.books()
	for name := range tortureBooks {
		if made := have[name] - r.before[name]; err == nil && made != told[name] {
			errs = append(errs, fmt.Errorf("%w: %s: the shards have %d, the answers make %d", errTorture, name, made, told[name]))
		}
	}
	return errors.Join(append(errs, err)...)
}

// tortureBlunders are lines of logs that no fault from outside excuses.
var tortureBlunders = []string{"DATA RACE", "panic:", "fatal error:", "this is a bug", "a handler panicked", "I1:", "I2:", "I3:"}

// confess looks for blunders in the logs of all processes.
func (r *tortureRig) confess() error {
	logs, err := r.stage.logs()
	for _, path := range logs {
		text, failed := os.ReadFile(path)
		err = errors.Join(err, failed)
		for _, blunder := range tortureBlunders {
			if at := strings.Index(string(text), blunder); at >= 0 {
				err = errors.Join(err, fmt.Errorf("%w: a log says %q:\n%.2000s", errTorture, blunder, text[max(0, at-200):]))
			}
		}
	}
	return err
}
