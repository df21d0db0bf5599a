package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// httpOwners is over how many owners the load over HTTP is spread.
const httpOwners = 5_000

// requestDeadline is what the load lets the service wait. It is longer than the default, because the machine may be busy
// with something else for a moment, and a measurement that ends for it measures nothing.
const requestDeadline = "10000"

// Money that each pair holds and spends.
const pairMoney = 1

// LoadTask is what one load process does: pairs of a hold and its confirm, over connections that each send the next request
// when they have read the reply to the one before.
type LoadTask struct {
	Address     string         `json:"address"` // host:port
	Token       string         `json:"token"`
	Coupons     string         `json:"coupons"` // file of coupon ids, a line each; coupon n is that of owner n modulo httpOwners
	From        int64          `json:"from"`    // the first pair's coupon; the next ones take the next ones
	Repeat      bool           `json:"repeat"`  // begin again after the last coupon; only the baseline does not mind
	Connections int            `json:"connections"`
	Warmup      time.Duration  `json:"warmup"`
	Length      time.Duration  `json:"length"`
	Processes   map[string]int `json:"processes"` // whose CPU time is of interest, by name
}

// LoadResult is what it has seen.
type LoadResult struct {
	Acknowledged int64         `json:"acknowledged"` // pairs, those of the warm-up too
	Requests     int64         `json:"requests"`     // measured
	Pairs        int64         `json:"pairs"`        // measured
	Length       time.Duration `json:"length"`
	P50          time.Duration `json:"p50"` // of a request
	P99          time.Duration `json:"p99"`

	CPU map[string]time.Duration `json:"cpu"` // used while measuring, by process, and by the whole "machine"
}

func (r LoadResult) perSecond() float64      { return float64(r.Requests) / r.Length.Seconds() }
func (r LoadResult) pairsPerSecond() float64 { return float64(r.Pairs) / r.Length.Seconds() }

// sender is what the connections of a load share.
type sender struct {
	task       LoadTask
	transport  *http.Transport
	common     http.Header // of every request
	coupons    []byte
	next       atomic.Int64
	begin, end time.Time // of what is measured
	pairs      atomic.Int64
	done       atomic.Int64
}

// Load runs the task. The first reply that is not the expected one ends it with an error.
func Load(ctx context.Context, task LoadTask) (LoadResult, error) {
	s, err := newSender(task)
	if err != nil {
		return LoadResult{}, err
	}
	defer s.transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, task.Warmup+task.Length+requestTime)
	defer cancel()
	s.begin = time.Now().Add(task.Warmup)
	s.end = s.begin.Add(task.Length)
	group, ctx := errgroup.WithContext(ctx)
	connections := make([]*connection, task.Connections)
	for i := range connections {
		connections[i] = &connection{sender: s, latencies: hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)}
		group.Go(func() error { return connections[i].run(ctx) })
	}
	var used map[string]time.Duration
	group.Go(func() error {
		used = cpuBetween(ctx, s.begin, s.end, task.Processes)
		return nil
	})
	if err := group.Wait(); err != nil {
		return LoadResult{}, err
	}
	return s.result(connections, used), nil
}

func newSender(task LoadTask) (*sender, error) {
	coupons, err := os.ReadFile(task.Coupons)
	if err != nil {
		return nil, fmt.Errorf("read the coupons: %w", err)
	}
	s := &sender{task: task, coupons: coupons, transport: &http.Transport{
		MaxConnsPerHost: task.Connections, MaxIdleConnsPerHost: task.Connections, DisableCompression: true,
	}}
	s.common = http.Header{
		"Authorization": {"Bearer " + task.Token}, "Content-Type": {"application/json"}, "Deadline-Ms": {requestDeadline},
	}
	s.next.Store(task.From)
	return s, nil
}

func (s *sender) result(connections []*connection, used map[string]time.Duration) LoadResult {
	all := connections[0].latencies
	for _, c := range connections[1:] {
		all.Merge(c.latencies)
	}
	quantile := func(q float64) time.Duration { return time.Duration(all.ValueAtQuantile(q)) * time.Microsecond }
	return LoadResult{
		Acknowledged: s.done.Load(), Requests: all.TotalCount(), Pairs: s.pairs.Load(), Length: s.task.Length,
		P50: quantile(50), P99: quantile(99), CPU: used,
	}
}

// couponLength is that of a coupon's id as text. All are as long, so the n-th is found without an index.
const couponLength = len("coupon_") + 26

// coupon returns the id of the n-th coupon.
func (s *sender) coupon(n int64) ([]byte, error) {
	count := int64(len(s.coupons) / (couponLength + 1))
	if n >= count && !s.task.Repeat {
		return nil, errUsedUp
	}
	at := (n % count) * int64(couponLength+1)
	return s.coupons[at : at+int64(couponLength)], nil
}

// httpOwner is the owner of the n-th coupon.
func httpOwner(n int64) string { return "u-" + strconv.FormatInt(n%httpOwners, 10) }

// connection sends one request after the other.
type connection struct {
	*sender
	body      []byte       // of the request, made anew in the same memory
	reply     bytes.Buffer // body of the newest reply …
	status    int          // … its status
	header    http.Header  // … and its header
	latencies *hdrhistogram.Histogram
}

func (c *connection) run(ctx context.Context) error {
	for time.Now().Before(c.end) {
		if err := c.pair(ctx, c.next.Add(1)-1); err != nil {
			return err
		}
	}
	return nil
}

// pair holds and confirms the n-th coupon with a little money. Every number of a pair has an order and keys of its own.
func (c *connection) pair(ctx context.Context, n int64) error {
	hold, err := c.hold(ctx, n)
	if err != nil {
		return err
	}
	at, err := c.confirm(ctx, n, hold)
	if err != nil {
		return err
	}
	c.done.Add(1)
	if c.measured(at) {
		c.pairs.Add(1)
	}
	return nil
}

func (c *connection) hold(ctx context.Context, n int64) (id string, err error) {
	coupon, err := c.coupon(n)
	if err != nil {
		return "", err
	}
	number := strconv.FormatInt(n, 10)
	c.body = appendHold(c.body[:0], httpOwner(n), number, coupon)
	if _, err := c.post(ctx, "/v1/holds", "h-"+number, http.StatusCreated); err != nil {
		return "", err
	}
	return member(c.reply.Bytes(), "hold_id")
}

// confirm returns when the reply was there.
func (c *connection) confirm(ctx context.Context, n int64, hold string) (time.Time, error) {
	c.body = append(append(append(c.body[:0], `{"owner":"`...), httpOwner(n)...), `"}`...)
	return c.post(ctx, "/v1/holds/"+hold+"/confirm", "c-"+strconv.FormatInt(n, 10), http.StatusOK)
}

// appendHold writes the request of a hold of one coupon and some money.
func appendHold(b []byte, owner, number string, coupon []byte) []byte {
	b = append(append(b, `{"owner":"`...), owner...)
	b = append(append(b, `","order_id":"o-`...), number...)
	b = append(b, `","attempt":1,"lines":[{"line_id":"line-1","amount":{"amount":10000,"currency":"CNY"}}],`...)
	b = append(append(b, `"items":[{"kind":"coupon","coupon_id":"`...), coupon...)
	b = append(b, `"},{"kind":"money","amount":{"amount":`...)
	b = strconv.AppendInt(b, pairMoney, 10)
	return append(b, `,"currency":"CNY"}}]}`...)
}

// measured says whether what has ended at this time is measured, or is warm-up or leftover.
func (s *sender) measured(at time.Time) bool { return at.After(s.begin) && at.Before(s.end) }

// post sends the body, reads the reply, and returns when it was there.
func (c *connection) post(ctx context.Context, path, key string, status int) (time.Time, error) {
	start := time.Now()
	reply, err := c.transport.RoundTrip(c.request(ctx, path, key))
	if err != nil {
		return start, fmt.Errorf("POST %s: %w", path, err)
	}
	if err := c.read(reply); err != nil {
		return start, fmt.Errorf("POST %s: %w", path, err)
	}
	end := time.Now()
	if c.status != status {
		return end, fmt.Errorf("POST %s %s: status %d: %s", path, c.body, c.status, c.reply.Bytes())
	}
	if c.measured(end) {
		_ = c.latencies.RecordValue(end.Sub(start).Microseconds())
	}
	return end, nil
}

// request is made by hand: http.NewRequest would parse an address that is known.
func (c *connection) request(ctx context.Context, path, key string) *http.Request {
	header := make(http.Header, len(c.common)+1)
	maps.Copy(header, c.common)
	header["Idempotency-Key"] = []string{key}
	request := http.Request{
		Method: http.MethodPost, Host: c.task.Address, URL: &url.URL{Scheme: "http", Host: c.task.Address, Path: path},
		Header: header, Body: io.NopCloser(bytes.NewReader(c.body)), ContentLength: int64(len(c.body)),
	}
	return request.WithContext(ctx)
}

func (c *connection) read(reply *http.Response) error {
	defer reply.Body.Close()
	c.status, c.header = reply.StatusCode, reply.Header
	c.reply.Reset()
	_, err := c.reply.ReadFrom(reply.Body)
	return err
}

// member finds the first string with this name in JSON as the service writes it. Reading the whole document would cost the
// load more than sending the request.
func member(text []byte, name string) (string, error) {
	_, rest, found := bytes.Cut(text, []byte(`"`+name+`":"`))
	value, _, ended := bytes.Cut(rest, []byte(`"`))
	if !found || !ended {
		return "", fmt.Errorf("%w: there is no %s in %s", errReply, name, text)
	}
	return string(value), nil
}

var errReply = errors.New("not the expected reply")
