package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/scratch"
)

// sweep lists the numbers of connections that are tried; the fastest counts.
var sweep = []int{64, 256, 512}

// pairsMax is for how many pairs per second coupons are seeded. A machine that does more ends the run with errUsedUp.
const pairsMax = 5_000

// HTTPResult is what `bench http` ends with. A ratio is the requests per second of the service over those of the baseline.
type HTTPResult struct {
	RatioMariaDB, RatioEmbedded float64
	PairsMariaDB, PairsEmbedded float64
	P99MariaDB                  time.Duration
}

// HTTP measures pairs of a hold and its confirm over HTTP: against a baseline that only decodes and answers, against the
// service on MariaDB with full durability, and against the embedded service. The servers and the load are processes of their
// own, started from program. seconds is how long each run takes.
func HTTP(ctx context.Context, out io.Writer, program string, seconds int) (HTTPResult, error) {
	r, err := newHTTPRig(ctx, out, program, time.Duration(seconds)*time.Second)
	if err == nil {
		err = r.measure(ctx)
	}
	if err == nil {
		r.compareCosts()
		err = r.verify(ctx)
	}
	if err = errors.Join(err, r.close()); err != nil {
		return HTTPResult{}, err
	}
	return r.result(), nil
}

// httpRig is the three servers and what they run on.
type httpRig struct {
	out     io.Writer
	program string
	length  time.Duration // of a run
	warmup  time.Duration
	folder  *scratch.Folder
	maria   *mariadb.Server
	servers []*target // baseline, MariaDB, embedded
}

// target is a server under load.
type target struct {
	name    string
	cluster *cluster // nil for the baseline
	token   string
	coupons string // file
	child   *child

	used         int64 // coupons
	acknowledged int64 // pairs
	best         LoadResult
}

func newHTTPRig(ctx context.Context, out io.Writer, program string, length time.Duration) (r *httpRig, err error) {
	r = &httpRig{out: out, program: program, length: length, warmup: min(warmupSeconds*time.Second, length/3)}
	if r.folder, err = scratch.NewFolder("bench"); err != nil {
		return r, err
	}
	embedded, err := r.startEmbedded(ctx)
	if err != nil {
		return r, err
	}
	service, err := r.startService(ctx)
	if err != nil {
		return r, err
	}
	return r, r.startBaseline(ctx, service, embedded)
}

func (r *httpRig) path(name string) string { return filepath.Join(r.folder.Path, name) }

func (r *httpRig) startService(ctx context.Context) (t *target, err error) {
	r.maria, err = startMaria(ctx)
	if err != nil {
		return nil, err
	}
	cluster, err := newMariaCluster(ctx, r.path("service"), r.maria)
	if err != nil {
		return nil, err
	}
	if t, err = r.seeded(ctx, "MariaDB", cluster); err != nil {
		return nil, err
	}
	config, err := cluster.writeConfig()
	if err != nil {
		return nil, err
	}
	t.child, err = startChild(ctx, r.program, r.folder.Path, "serve", func(address string) []string {
		return []string{"serve", "--config", config, "--listen", address}
	}, nil)
	return t, err
}

// startMaria starts a server that has memory for all rows of a run. Its durability is that of all our servers: both logs are
// synced at every commit.
func startMaria(ctx context.Context) (*mariadb.Server, error) {
	return mariadb.Start(ctx, mariadb.Options{Settings: []string{"innodb_buffer_pool_size=1G", "innodb_log_file_size=1G"}})
}

func (r *httpRig) startEmbedded(ctx context.Context) (*target, error) {
	data := r.path("embedded")
	cluster, err := newEmbeddedCluster(ctx, data)
	if err != nil {
		return nil, err
	}
	t, err := r.seeded(ctx, "embedded", cluster)
	if err != nil {
		return nil, err
	}
	t.child, err = startChild(ctx, r.program, r.folder.Path, "dev", func(address string) []string {
		return []string{"dev", "--quiet", "--listen", address, "--data", data}
	}, nil)
	return t, err
}

func (r *httpRig) seeded(ctx context.Context, name string, c *cluster) (*target, error) {
	runs := time.Duration(len(sweep)) * (r.length + r.warmup)
	coupons := max(httpOwners, int64(pairsMax*runs.Seconds()))
	start := time.Now()
	say(r.out, "%s: %d coupons for %d owners on two shards …", name, coupons, httpOwners)
	t := &target{name: name, cluster: c, coupons: filepath.Join(c.folder, "coupons")}
	var err error
	if t.token, err = c.seed(ctx, coupons, t.coupons); err != nil {
		return nil, fmt.Errorf("seed %s: %w", name, err)
	}
	say(r.out, " %.1f s\n", time.Since(start).Seconds())
	r.servers = append(r.servers, t)
	return t, nil
}

// startBaseline records a pair of the service, and starts the server that repeats it.
func (r *httpRig) startBaseline(ctx context.Context, service, embedded *target) error {
	task := BaselineTask{}
	var err error
	if task.Hold, task.Confirm, err = record(ctx, r.task(service, 1)); err != nil {
		return fmt.Errorf("record a pair: %w", err)
	}
	service.used, service.acknowledged = 1, 1
	say(r.out, "the service answers a hold with %d bytes and a confirm with %d; so will the baseline\n",
		len(task.Hold.Body), len(task.Confirm.Body))
	baseline := &target{name: "baseline", token: service.token, coupons: service.coupons}
	r.servers = []*target{baseline, service, embedded}
	baseline.child, err = startChild(ctx, r.program, r.folder.Path, "baseline", func(address string) []string {
		return []string{"bench", "http-baseline", "--listen", address}
	}, task)
	return err
}

// record sends one pair and returns the replies.
func record(ctx context.Context, task LoadTask) (hold, confirm RecordedReply, err error) {
	s, err := newSender(task)
	if err != nil {
		return hold, confirm, err
	}
	defer s.transport.CloseIdleConnections()
	c := &connection{sender: s}
	id, err := c.hold(ctx, task.From)
	if err != nil {
		return hold, confirm, err
	}
	hold = c.recorded()
	_, err = c.confirm(ctx, task.From, id)
	return hold, c.recorded(), err
}

// recorded is the newest reply. net/http adds the date by itself.
func (c *connection) recorded() RecordedReply {
	header := c.header.Clone()
	header.Del("Date")
	return RecordedReply{c.status, header, c.reply.String()}
}

func (r *httpRig) task(t *target, connections int) LoadTask {
	task := LoadTask{
		Address: t.child.address(), Token: t.token, Coupons: t.coupons, From: t.used, Repeat: t.cluster == nil,
		Connections: connections, Warmup: r.warmup, Length: r.length,
		Processes: map[string]int{"service": t.child.process.PID()},
	}
	if t.name == "MariaDB" {
		task.Processes["database"] = r.maria.PID()
	}
	return task
}

// measure takes the servers in turns, so that all of them see the same noise.
func (r *httpRig) measure(ctx context.Context) error {
	say(r.out, "\npairs of a hold (one coupon, some money) and its confirm; µs are CPU time per request\n")
	for _, n := range sweep {
		for _, t := range r.servers {
			result, err := r.run(ctx, r.task(t, n))
			if err != nil {
				return fmt.Errorf("%s, %d connections: %w", t.name, n, err)
			}
			t.used += result.Acknowledged
			t.acknowledged += result.Acknowledged
			say(r.out, "  %-9s %4d connections %v\n", t.name, n, result)
			if t.best.Requests == 0 || result.perSecond() > t.best.perSecond() {
				t.best = result
			}
		}
	}
	return nil
}

// run has a process of its own do the task.
func (r *httpRig) run(ctx context.Context, task LoadTask) (result LoadResult, err error) {
	input, err := json.Marshal(task)
	if err != nil {
		return result, err
	}
	var output, trouble bytes.Buffer
	command := exec.CommandContext(ctx, r.program, "bench", "http-load")
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), &output, &trouble
	if err := command.Run(); err != nil {
		return result, fmt.Errorf("load: %w: %s", err, trouble.String())
	}
	return result, json.Unmarshal(output.Bytes(), &result)
}

// costs are whose CPU time a request costs, in the order of its way.
var costs = []string{cpuLoad, "service", "database"}

func (r LoadResult) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%6.0f requests/s %6.0f pairs/s  p50 %6.2f ms  p99 %6.2f ms  ", r.perSecond(), r.pairsPerSecond(),
		float64(r.P50)/1e6, float64(r.P99)/1e6)
	others := r.CPU[cpuMachine]
	for _, name := range costs {
		others -= r.CPU[name]
		if used, ok := r.CPU[name]; ok {
			fmt.Fprintf(&text, " %s %.0f µs", name, r.perRequest(used))
		}
	}
	if others > 0 {
		fmt.Fprintf(&text, " (kernel and strangers %.0f µs)", r.perRequest(others))
	}
	return text.String()
}

// cost is the CPU time of a request, wherever it was used.
func (r LoadResult) cost() (sum float64) {
	for _, name := range costs {
		sum += r.perRequest(r.CPU[name])
	}
	return sum
}

func (r LoadResult) perRequest(used time.Duration) float64 {
	return float64(used.Microseconds()) / float64(max(r.Requests, 1))
}

// compareCosts says what the ratios would be if nothing else ran on the machine and no core ever waited. Strangers distort it
// less than they distort requests per second: a server that waits for a disk has to fight for its cores again and again.
func (r *httpRig) compareCosts() {
	base := r.servers[0].best.cost()
	say(r.out, "\nby CPU time alone: baseline %.0f µs per request", base)
	for _, t := range r.servers[1:] {
		say(r.out, ", %s %.0f µs (ratio %.2f)", t.name, t.best.cost(), base/t.best.cost())
	}
	say(r.out, "\n")
}

// verify stops the servers, and compares their databases with what they have acknowledged.
func (r *httpRig) verify(ctx context.Context) error {
	for _, t := range r.servers {
		if err := t.child.stop(); err != nil {
			return err
		}
		t.child = nil
		if t.cluster == nil {
			continue
		}
		s, err := t.cluster.sum(ctx)
		if err != nil {
			return err
		}
		n := t.acknowledged
		err = s.check(
			expectation{"confirmed holds", s.confirmed, n}, expectation{"used coupons", s.used, n},
			expectation{"money spent", s.spent, n * pairMoney},
			expectation{"other holds", s.live + s.cancelled + s.expired, 0},
			expectation{"held coupons", s.held, 0}, expectation{"money held", s.moneyHeld, 0},
		)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		say(r.out, "%s: %d pairs were acknowledged, and %d holds are CONFIRMED; nothing failed\n", t.name, n, s.confirmed)
	}
	return nil
}

func (r *httpRig) result() HTTPResult {
	baseline, service, embedded := r.servers[0].best, r.servers[1].best, r.servers[2].best
	return HTTPResult{
		RatioMariaDB: service.perSecond() / baseline.perSecond(), RatioEmbedded: embedded.perSecond() / baseline.perSecond(),
		PairsMariaDB: service.pairsPerSecond(), PairsEmbedded: embedded.pairsPerSecond(), P99MariaDB: service.P99,
	}
}

func (r *httpRig) close() error {
	var errs []error
	for _, t := range r.servers {
		errs = append(errs, t.child.stop())
	}
	if r.maria != nil {
		errs = append(errs, r.maria.Stop())
	}
	if r.folder != nil {
		errs = append(errs, r.folder.Remove())
	}
	return errors.Join(errs...)
}

// say prints progress. Whoever closes the output does without.
func say(out io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
