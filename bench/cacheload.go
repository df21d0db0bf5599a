package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// CacheLoadTask is what one process that loads state data does, over connections that each send the next request when they have read the
// reply to the one before.
type CacheLoadTask struct {
	Address     string         `json:"address"` // host:port
	Token       string         `json:"token"`
	Documents   int            `json:"documents"` // ids are 1 to Documents, and exist
	Zipf        float64        `json:"zipf"`      // exponent, below 1; 0: all documents are asked for as often
	Writes      float64        `json:"writes"`    // share of requests that replace a document
	Rate        float64        `json:"rate"`      // requests per second, at most; 0: as many as come back
	Connections int            `json:"connections"`
	Warmup      time.Duration  `json:"warmup"`
	Length      time.Duration  `json:"length"`
	Seed        uint64         `json:"seed"` // also makes keys differ from those of other loads
	Processes   map[string]int `json:"processes"`
}

// CacheLoadResult is what it has seen. Counts and latencies are of what was measured, not of the warm-up.
type CacheLoadResult struct {
	Reads  int64                    `json:"reads"`
	Writes int64                    `json:"writes"`
	ByL1   int64                    `json:"by_l1"`    // reads that Cache-Status says memory has answered,
	ByRed  int64                    `json:"by_redis"` // … or Redis
	P50    time.Duration            `json:"p50"`      // of a read
	P99    time.Duration            `json:"p99"`
	Length time.Duration            `json:"length"`
	CPU    map[string]time.Duration `json:"cpu"`
}

func (r CacheLoadResult) perSecond() float64 { return float64(r.Reads+r.Writes) / r.Length.Seconds() }

// hitRatio is the share of reads that were answered without a primary.
func (r CacheLoadResult) hitRatio() float64 {
	return float64(r.ByL1+r.ByRed) / float64(max(r.Reads, 1))
}

func (r CacheLoadResult) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%6.0f requests/s  p50 %6.2f ms  p99 %6.2f ms  l1 %5.1f %%  redis %5.1f %% ", r.perSecond(), float64(r.P50)/1e6,
		float64(r.P99)/1e6, 100*float64(r.ByL1)/float64(max(r.Reads, 1)), 100*float64(r.ByRed)/float64(max(r.Reads, 1)))
	for _, name := range []string{cpuLoad, "server", "redis", "database"} {
		if used, ok := r.CPU[name]; ok {
			fmt.Fprintf(&text, "  %s %.0f µs", name, float64(used.Microseconds())/float64(max(r.Reads+r.Writes, 1)))
		}
	}
	return text.String()
}

// cacheSender is what the connections of a load share.
type cacheSender struct {
	task       CacheLoadTask
	transport  *http.Transport
	common     http.Header
	begin, end time.Time
	pace       *rate.Limiter // nil: none
	ranks      *zipf         // nil: all are as likely
	serial     atomic.Int64
}

// cacheConnection sends one request after the other.
type cacheConnection struct {
	*cacheSender
	dice      *rand.Rand
	latencies *hdrhistogram.Histogram
	seen      CacheLoadResult
}

// CacheLoad runs the task. The first reply that is not the expected one ends it with an error.
func CacheLoad(ctx context.Context, task CacheLoadTask) (CacheLoadResult, error) {
	s := newCacheSender(task)
	defer s.transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, task.Warmup+task.Length+requestTime)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	connections := make([]*cacheConnection, task.Connections)
	for i := range connections {
		connections[i] = &cacheConnection{
			cacheSender: s, dice: rand.New(rand.NewPCG(task.Seed, uint64(i))),
			latencies: hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3),
		}
		group.Go(func() error { return connections[i].run(ctx) })
	}
	var used map[string]time.Duration
	group.Go(func() error {
		used = cpuBetween(ctx, s.begin, s.end, task.Processes)
		return nil
	})
	if err := group.Wait(); err != nil {
		return CacheLoadResult{}, err
	}
	result, all := CacheLoadResult{Length: task.Length, CPU: used}, connections[0].latencies
	for i, c := range connections {
		if i > 0 {
			all.Merge(c.latencies)
		}
		result.Reads += c.seen.Reads
		result.Writes += c.seen.Writes
		result.ByL1 += c.seen.ByL1
		result.ByRed += c.seen.ByRed
	}
	result.P50 = time.Duration(all.ValueAtQuantile(50)) * time.Microsecond
	result.P99 = time.Duration(all.ValueAtQuantile(99)) * time.Microsecond
	return result, nil
}

func newCacheSender(task CacheLoadTask) *cacheSender {
	s := &cacheSender{task: task, transport: &http.Transport{
		MaxConnsPerHost: task.Connections, MaxIdleConnsPerHost: task.Connections, DisableCompression: true,
	}}
	s.common = http.Header{"Authorization": {"Bearer " + task.Token}, "Deadline-Ms": {requestDeadline}}
	if task.Zipf > 0 {
		s.ranks = newZipf(task.Documents, task.Zipf)
	}
	if task.Rate > 0 {
		s.pace = rate.NewLimiter(rate.Limit(task.Rate), task.Connections)
	}
	s.begin = time.Now().Add(task.Warmup)
	s.end = s.begin.Add(task.Length)
	return s
}

func (c *cacheConnection) run(ctx context.Context) error {
	for time.Now().Before(c.end) {
		if c.pace != nil {
			if err := c.pace.Wait(ctx); err != nil {
				return err
			}
		}
		if err := c.one(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *cacheConnection) document() string {
	if c.ranks != nil {
		return strconv.Itoa(c.ranks.rank(c.dice.Float64()))
	}
	return strconv.Itoa(1 + c.dice.IntN(c.task.Documents))
}

// one reads or writes a document.
func (c *cacheConnection) one(ctx context.Context) error {
	header := make(http.Header, len(c.common)+3)
	maps.Copy(header, c.common)
	request := &http.Request{
		Method: http.MethodGet, Host: c.task.Address, Header: header,
		URL: &url.URL{Scheme: "http", Host: c.task.Address, Path: cachePath + c.document()},
	}
	write := c.task.Writes > 0 && c.dice.Float64() < c.task.Writes
	if write {
		body := cacheBody(c.serial.Add(1))
		request.Method, request.Body, request.ContentLength = http.MethodPut, io.NopCloser(strings.NewReader(body)), int64(len(body))
		header["Content-Type"], header["If-Match"] = []string{"application/json"}, []string{"*"}
		header["Idempotency-Key"] = []string{fmt.Sprintf("%d-%d", c.task.Seed, c.serial.Add(1))}
	}
	start := time.Now()
	reply, err := c.transport.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("%s %s: %w", request.Method, request.URL, err)
	}
	_, err = io.Copy(io.Discard, reply.Body)
	err = errors.Join(err, reply.Body.Close())
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("%w: status %d", errReply, reply.StatusCode)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", request.Method, request.URL, err)
	}
	c.count(write, time.Since(start), reply.Header)
	return nil
}

func (c *cacheConnection) count(write bool, took time.Duration, header http.Header) {
	now := time.Now()
	if now.Before(c.begin) || now.After(c.end) {
		return
	}
	if write {
		c.seen.Writes++
		return
	}
	c.seen.Reads++
	_ = c.latencies.RecordValue(took.Microseconds())
	if status := header["Cache-Status"]; len(status) == 1 && strings.Contains(status[0], "; hit") {
		if strings.HasSuffix(status[0], "detail=l1") {
			c.seen.ByL1++
		} else {
			c.seen.ByRed++
		}
	}
}

// The documents of the load.
const (
	cacheKind = "product"
	cachePath = "/v1/state/" + cacheKind + "/"
	cachePad  = 400 // bytes of text in each
)

// cacheBody is a document as the service stores it.
func cacheBody(serial int64) string {
	return `{"price":` + strconv.FormatInt(serial, 10) + `,"text":"` + strings.Repeat("x", cachePad) + `"}`
}

// zipf draws ranks from 1 to n, rank k with a probability like 1/k^theta, theta below 1 (Gray et al., SIGMOD 1994; as YCSB has it).
// math/rand can only do with exponents above 1.
type zipf struct {
	n                        float64
	theta, alpha, zetan, eta float64
}

func newZipf(n int, theta float64) *zipf {
	zetan := 0.0
	for k := 1; k <= n; k++ {
		zetan += 1 / math.Pow(float64(k), theta)
	}
	zeta2 := 1 + math.Pow(0.5, theta)
	return &zipf{
		n: float64(n), theta: theta, alpha: 1 / (1 - theta), zetan: zetan,
		eta: (1 - math.Pow(2/float64(n), 1-theta)) / (1 - zeta2/zetan),
	}
}

// rank is that of a number from 0 to 1.
func (z *zipf) rank(u float64) int {
	switch uz := u * z.zetan; {
	case uz < 1:
		return 1
	case uz < 1+math.Pow(0.5, z.theta):
		return 2
	}
	return 1 + int(math.Min(z.n*math.Pow(z.eta*u-z.eta+1, z.alpha), z.n-1))
}
