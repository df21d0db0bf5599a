package bench

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
)

const (
	tortureShards    = 2
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
func Torture(ctx context.Context, out io.Writer, o TortureOptions) (result TortureResult, err error) {
	r := &tortureRig{out: out, options: o, dice: rand.New(rand.NewPCG(o.Seed, 0))}
	defer func() { err = errors.Join(err, r.close()) }()
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

// tortureRig is the service with its databases, and the load.
type tortureRig struct {
	out       io.Writer
	options   TortureOptions
	dice      *rand.Rand
	folder    *scratch.Folder
	servers   []*mariadb.Server
	wires     [][]*wire // by instance and shard
	cluster   *cluster  // reaches the shards without the wires
	configs   []string  // by instance
	instances []*child
	starts    int
	load      *tortureLoad
	before    map[string]int64 // the books when the load began

	faults, audits int
	drift          int64
}

func (r *tortureRig) result() TortureResult {
	result := TortureResult{Faults: r.faults, Audits: r.audits, Drift: r.drift}
	if r.load != nil {
		result.Operations, result.Unknown = r.load.answered.Load(), r.load.unknown.Load()
	}
	return result
}

func (r *tortureRig) start(ctx context.Context) (err error) {
	if r.folder, err = scratch.NewFolder("torture"); err != nil {
		return err
	}
	r.cluster = &cluster{folder: filepath.Join(r.folder.Path, "service")}
	for i := range tortureShards {
		server, err := mariadb.Start(ctx, mariadb.Options{})
		if err != nil {
			return err
		}
		r.servers = append(r.servers, server)
		name := fmt.Sprint("s", i+1)
		if _, err := server.Admin().ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
			return fmt.Errorf("make the schema of %s: %w", name, err)
		}
		r.cluster.shards = append(r.cluster.shards, instance.Shard{Name: name, DSN: server.DSN(name)})
	}
	if err := r.cluster.bootstrap(ctx); err != nil {
		return err
	}
	token, err := r.newToken(ctx)
	if err != nil {
		return err
	}
	r.load = newTortureLoad(r.options.Seed, token)
	r.instances = make([]*child, tortureInstances)
	for i := range r.instances {
		if err := r.wireUp(i); err != nil {
			return err
		}
		if err := r.startInstance(ctx, i); err != nil {
			return err
		}
	}
	if err := r.load.prepare(ctx); err != nil {
		return err
	}
	r.before, err = r.books(ctx)
	return err
}

func (r *tortureRig) newToken(ctx context.Context) (token string, err error) {
	err = r.cluster.withRegister(func(reg register.Register) error {
		keys, err := access.Open(ctx, reg, time.Now, crand.Reader)
		if err != nil {
			return err
		}
		defer keys.Close()
		_, token, err = keys.Create(ctx, access.Spec{
			Name: "torture", Scopes: access.ScopeRead | access.ScopeHold | access.ScopeIssue | access.ScopeAdmin,
			Rate: access.Rate{PerSecond: benchRate, Burst: benchRate},
		})
		return err
	})
	return token, err
}

// wireUp puts a wire between an instance and each shard, and writes the configuration of the instance.
func (r *tortureRig) wireUp(i int) error {
	var text strings.Builder
	fmt.Fprintf(&text, "instance: i%d\nregister: %q\nsweep_every: 500ms\ndrain_delay: 0s\nlog_level: warn\nshards:\n",
		i+1, r.cluster.registerPath())
	var wires []*wire
	for n, server := range r.servers {
		w, err := newWire(server.Addr())
		if err != nil {
			return err
		}
		wires = append(wires, w)
		fmt.Fprintf(&text, "  - {name: s%[1]d, dsn: \"app@tcp(%[2]s)/s%[1]d\"}\n", n+1, w.address())
	}
	r.wires = append(r.wires, wires)
	path := filepath.Join(r.cluster.folder, fmt.Sprintf("i%d.yaml", i+1))
	r.configs = append(r.configs, path)
	return os.WriteFile(path, []byte(text.String()), 0o600)
}

func (r *tortureRig) startInstance(ctx context.Context, i int) (err error) {
	r.starts++
	c, err := startChild(ctx, r.options.Program, r.folder.Path, fmt.Sprintf("i%d-%d", i+1, r.starts), func(address string) []string {
		return []string{"serve", "--config", r.configs[i], "--listen", address}
	}, nil)
	if err != nil {
		return err
	}
	r.instances[i] = c
	r.load.address[i].Store("http://" + c.address())
	return nil
}

// run loads the service for the whole time; meanwhile one thing breaks after the other.
func (r *tortureRig) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := time.Now().Add(r.options.Duration)
	r.load.start(ctx)
	var err error
	for err == nil && time.Now().Before(end) && ctx.Err() == nil {
		fault := tortureFaults[r.dice.IntN(len(tortureFaults))]
		passed := r.options.Duration - time.Until(end)
		say(r.out, "%6.0f s  %8d operations  %s\n", passed.Seconds(), r.load.answered.Load(), fault.name)
		if err = fault.play(ctx, r); err != nil {
			err = fmt.Errorf("%s: %w", fault.name, err)
			break
		}
		r.faults++
		sleepUntil(ctx, time.Now().Add(time.Second))
		err = r.audit(ctx, false)
	}
	return errors.Join(err, r.load.stop(), ctx.Err())
}

// audit compares everything that is stored with itself. While units travel, a quota may not hold still long enough; at the end all must.
func (r *tortureRig) audit(ctx context.Context, all bool) error {
	var pass ledger.AuditPass
	err := r.cluster.withRegister(func(reg register.Register) (err error) {
		pass, err = instance.Audit(ctx, instance.Config{
			Name: "audit", Register: reg, Shards: r.cluster.shards, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		}, 0, func(d ledger.Drift) {
			say(r.out, "drift check=%s shard=%d bucket=%d owner=%s subject=%q want=%q have=%q\n",
				d.Check, d.Shard, d.Bucket, d.Owner, d.Subject, d.Want, d.Have)
		})
		return err
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
	for i, server := range r.servers {
		query := strings.ReplaceAll(query, "FROM ", fmt.Sprintf("FROM s%d.", i+1))
		var n int64
		if err := server.Admin().QueryRowContext(context.WithoutCancel(ctx), query).Scan(&n); err != nil {
			return 0, fmt.Errorf("%s: %w", query, err)
		}
		sum += n
	}
	return sum, nil
}

// tortureBooks are what the shards have of what callers are told, by name.
var tortureBooks = map[string]string{
	bookMoney:   "SELECT COALESCE(SUM(issued), 0) FROM lots WHERE issue_ref NOT LIKE '%#%'",
	bookCoupons: "SELECT COUNT(*) FROM coupons",
	bookPackets: "SELECT COALESCE(SUM(total), 0) FROM packets",
	bookUnits:   "SELECT COALESCE(SUM(total), 0) FROM quotas",
	bookRefunds: "SELECT COUNT(*) FROM refunds",
	bookDone:    "SELECT COUNT(*) FROM operations WHERE verdict = 'DONE'",
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
	logs, err := filepath.Glob(filepath.Join(r.folder.Path, "i*-*.log"))
	slices.Sort(logs)
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

func (r *tortureRig) close() error {
	var errs []error
	for _, c := range r.instances {
		errs = append(errs, c.stop())
	}
	for _, wires := range r.wires {
		for _, w := range wires {
			errs = append(errs, w.close())
		}
	}
	for _, server := range r.servers {
		errs = append(errs, server.Stop())
	}
	if r.folder != nil {
		errs = append(errs, r.folder.Remove())
	}
	return errors.Join(errs...)
}
