package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/redisd"
	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/state"
)

// CacheOptions say how much is measured.
type CacheOptions struct {
	Program   string // our own executable
	Seconds   int    // length of each run
	Rounds    int    // of each comparison, in turns
	Documents int    // in the database
	Hot       int    // of them, which the comparisons ask for all the time
}

// CacheResult is what `bench cache` ends with. A ratio is the requests per second of the service over those of a baseline.
type CacheResult struct {
	L1Ratio, RedisRatio float64
	Visible             Quantiles // from the first byte of a write to its being read from another instance, under load
	ColdReads           int64     // rows read for the documents that a thousand readers asked for at once, per document, at most
}

// The shape of the measurement.
const (
	cacheConnections = 64
	cacheWarmup      = 500 * time.Millisecond
	zipfExponent     = 0.99
	zipfWrites       = 0.05
	visibleWrites    = 1000 // per second, besides the writes that are watched
	coldReaders      = 1000
	coldDocuments    = 5
)

// Cache measures reads of state data over HTTP. The servers and the load are processes of their own, started from o.Program.
func Cache(ctx context.Context, out io.Writer, o CacheOptions) (result CacheResult, err error) {
	r := &cacheRig{out: out, options: o, length: time.Duration(o.Seconds) * time.Second, children: map[string]*child{}}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.start(ctx); err != nil {
		return result, err
	}
	if result.L1Ratio, err = r.compare(ctx, "from memory, against a constant", "constant", "a"); err != nil {
		return result, err
	}
	if result.RedisRatio, err = r.compare(ctx, "from Redis, against one GET for each request", "get", "bare"); err != nil {
		return result, err
	}
	if err := r.zipf(ctx); err != nil {
		return result, err
	}
	if result.Visible, err = r.visible(ctx); err != nil {
		return result, err
	}
	result.ColdReads, err = r.cold(ctx)
	return result, err
}

// cacheRig is two instances with memory, one without, and two baselines, on one MariaDB and one Redis.
type cacheRig struct {
	out      io.Writer
	options  CacheOptions
	length   time.Duration
	folder   *scratch.Folder
	maria    *mariadb.Server
	redis    *redisd.Server
	cluster  *cluster
	token    string
	children map[string]*child
	seed     uint64 // of the next load
}

func (r *cacheRig) start(ctx context.Context) (err error) {
	if r.folder, err = scratch.NewFolder("benchcache"); err != nil {
		return err
	}
	if r.maria, err = mariadb.Start(ctx, mariadb.Options{
		Settings: []string{"innodb_buffer_pool_size=1G", "innodb_log_file_size=1G", "userstat=1"},
	}); err != nil {
		return err
	}
	if r.redis, err = redisd.Start(ctx, "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lfu"); err != nil {
		return err
	}
	if r.cluster, err = newMariaCluster(ctx, filepath.Join(r.folder.Path, "service"), r.maria); err != nil {
		return err
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	for name, more := range map[string]string{"a": "", "b": "", "bare": "copy_memory: -1\n"} {
		if err := r.startService(ctx, name, more); err != nil {
			return err
		}
	}
	return r.startBaselines(ctx)
}

// prepare makes a key, the kind, and the documents.
func (r *cacheRig) prepare(ctx context.Context) error {
	err := r.cluster.withRegister(func(reg register.Register) error {
		in, err := instance.Open(ctx, r.cluster.seeding(reg))
		if err != nil {
			return err
		}
		if _, err = in.Kinds.Declare(ctx, cacheKind, state.Spec{}); err == nil {
			r.token, err = createKey(ctx, in.Keys)
		}
		return errors.Join(err, in.Close(context.WithoutCancel(ctx)))
	})
	if err != nil {
		return err
	}
	start := time.Now()
	say(r.out, "%d documents of %d bytes on two shards …", r.options.Documents, len(cacheBody(0)))
	for _, s := range r.cluster.shards {
		if err := r.fill(ctx, s.Name); err != nil {
			return fmt.Errorf("fill %s: %w", s.Name, err)
		}
	}
	say(r.out, " %.1f s\n", time.Since(start).Seconds())
	return nil
}

// fillSQL writes the documents whose buckets a shard serves, in the order of the primary key. A bucket is the first 14 bits of SHA-256.
const fillSQL = `INSERT INTO state (bucket, kind, id, era, ver, deleted, updated_at, doc)
SELECT b.bucket, ?, d.id, b.era_base+1, 1, 0, 1, ?
FROM (SELECT seq AS id, CONV(LEFT(SHA2(CONCAT(?, '/', seq), 256), 4), 16, 10) DIV 4 AS bucket FROM seq_1_to_%d) d
JOIN bucket_owner b ON b.bucket=d.bucket AND b.state='SERVING' ORDER BY 1, 2, 3`

// fill leaves the rows out of the binary log: one transaction of a million rows is no load of ours.
func (r *cacheRig) fill(ctx context.Context, schema string) error {
	conn, err := r.maria.Admin().Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, prepare := range []string{"SET SESSION sql_log_bin=0", "USE " + schema} {
		if _, err := conn.ExecContext(ctx, prepare); err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(ctx, fmt.Sprintf(fillSQL, r.options.Documents), cacheKind, cacheBody(0), cacheKind)
	return err
}

func (r *cacheRig) startService(ctx context.Context, name, more string) (err error) {
	config, err := r.cluster.writeConfigOf(name, fmt.Sprintf("redis_cache: %q\naudit_rate: 0\n%s", r.redis.Addr(), more))
	if err != nil {
		return err
	}
	r.children[name], err = startChild(ctx, r.options.Program, r.folder.Path, name, func(address string) []string {
		return []string{"serve", "--config", config, "--listen", address}
	}, nil)
	return err
}

// startBaselines records a reply of the service, and starts servers that repeat it.
func (r *cacheRig) startBaselines(ctx context.Context) error {
	client := redis.NewClient(&redis.Options{Addr: r.redis.Addr()})
	defer client.Close() //nolint:errcheck // it is not needed any more
	pipe := client.Pipeline()
	for id := 1; id <= r.options.Hot; id++ {
		pipe.Set(ctx, baselineKey(strconv.Itoa(id)), cacheBody(0), 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	reply, err := r.get(ctx, http.DefaultClient, "a", "1")
	if err != nil {
		return err
	}
	reply.Header.Del("Date")
	for name, address := range map[string]string{"constant": "", "get": r.redis.Addr()} {
		task := CacheBaselineTask{Reply: reply, Redis: address}
		if r.children[name], err = startChild(ctx, r.options.Program, r.folder.Path, name, func(address string) []string {
			return []string{"bench", "cache-baseline", "--listen", address}
		}, task); err != nil {
			return err
		}
	}
	return nil
}

// get reads a document from an instance.
func (r *cacheRig) get(ctx context.Context, client *http.Client, instance, id string) (RecordedReply, error) {
	return r.send(ctx, client, http.MethodGet, instance, id, "", nil)
}

// put replaces a document through an instance.
func (r *cacheRig) put(ctx context.Context, client *http.Client, instance, id, key string) (RecordedReply, error) {
	return r.send(ctx, client, http.MethodPut, instance, id, cacheBody(time.Now().UnixNano()), http.Header{
		"If-Match": {"*"}, "Idempotency-Key": {key}, "Content-Type": {"application/json"},
	})
}

func (r *cacheRig) send(
	ctx context.Context, client *http.Client, method, instance, id, body string, header http.Header,
) (reply RecordedReply, err error) {
	address := "http://" + r.children[instance].address() + cachePath + id
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return reply, err
	}
	if header != nil {
		request.Header = header
	}
	request.Header.Set("Authorization", "Bearer "+r.token)
	request.Header.Set("Deadline-Ms", requestDeadline)
	answer, err := client.Do(request)
	if err != nil {
		return reply, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%w: %s %s: status %d: %s", errReply, method, address, answer.StatusCode, text)
	}
	return RecordedReply{answer.StatusCode, answer.Header, string(text)}, err
}

// task is a load of the hot documents.
func (r *cacheRig) task(server string) CacheLoadTask {
	r.seed++
	return CacheLoadTask{
		Address: r.children[server].address(), Token: r.token, Documents: min(r.options.Hot, r.options.Documents), Connections: cacheConnections,
		Warmup: cacheWarmup, Length: r.length, Seed: r.seed,
		Processes: map[string]int{"server": r.children[server].process.PID(), "redis": r.redis.PID(), "database": r.maria.PID()},
	}
}

// compare takes the baseline and the service in turns, so that both see the same noise.
func (r *cacheRig) compare(ctx context.Context, what, baseline, service string) (ratio float64, err error) {
	say(r.out, "\n%d documents %s; µs are CPU time per request\n", r.options.Hot, what)
	var sums [2]float64
	for range r.options.Rounds {
		for i, server := range []string{baseline, service} {
			result, err := r.load(ctx, r.task(server))
			if err != nil {
				return 0, fmt.Errorf("%s: %w", server, err)
			}
			sums[i] += result.perSecond()
			say(r.out, "  %-9s %v\n", [...]string{"baseline", "service"}[i], result)
		}
	}
	return sums[1] / sums[0], nil
}

// load has a process of its own do the task.
func (r *cacheRig) load(ctx context.Context, task CacheLoadTask) (result CacheLoadResult, err error) {
	input, err := json.Marshal(task)
	if err != nil {
		return result, err
	}
	var output, trouble bytes.Buffer
	command := exec.CommandContext(ctx, r.options.Program, "bench", "cache-load")
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), &output, &trouble
	if err := command.Run(); err != nil {
		return result, fmt.Errorf("load: %w: %s", err, trouble.String())
	}
	return result, json.Unmarshal(output.Bytes(), &result)
}

// rowsRead is how many rows of documents the database has read, as it says itself.
func (r *cacheRig) rowsRead(ctx context.Context) (rows int64, err error) {
	err = r.maria.Admin().QueryRowContext(ctx,
		"SELECT CAST(COALESCE(SUM(ROWS_READ), 0) AS SIGNED) FROM information_schema.TABLE_STATISTICS WHERE TABLE_NAME='state'").Scan(&rows)
	return rows, err
}

// zipf reads and writes documents of which some are asked for much more often than others.
func (r *cacheRig) zipf(ctx context.Context) error {
	task := r.task("a")
	task.Documents, task.Zipf, task.Writes, task.Length = r.options.Documents, zipfExponent, zipfWrites, 2*r.length
	before, err := r.rowsRead(ctx)
	if err != nil {
		return err
	}
	result, err := r.load(ctx, task)
	if err != nil {
		return err
	}
	after, err := r.rowsRead(ctx)
	if err != nil {
		return err
	}
	whole := (task.Warmup + task.Length).Seconds()
	writes := float64(result.Writes) / result.Length.Seconds()
	say(r.out, "\nZipf %.2f over %d documents, %.0f %% writes\n  %v\n", zipfExponent, r.options.Documents, 100*zipfWrites, result)
	say(r.out, "  hit ratio %.3f, %.0f writes/s, %.0f rows of documents read per second in the database besides those of writes\n",
		result.hitRatio(), writes, float64(after-before)/whole-writes)
	return nil
}

func (r *cacheRig) close() error {
	var errs []error
	for _, c := range r.children {
		errs = append(errs, c.stop())
	}
	if r.redis != nil {
		errs = append(errs, r.redis.Stop())
	}
	if r.maria != nil {
		errs = append(errs, r.maria.Stop())
	}
	if r.folder != nil {
		errs = append(errs, r.folder.Remove())
	}
	return errors.Join(errs...)
}
