package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	soakOwners  = 500
	soakWorkers = 16
	soakMoney   = 1_000_000_000 // of each owner; far more than a run spends
)

// soakLoad plays scenes of checkouts, as fast as its rate allows and not faster. Every reply must be the expected one.
type soakLoad struct {
	address   string // with scheme
	token     string
	transport *http.Transport
	pace      *rate.Limiter
	serial    atomic.Int64 // makes orders, references and keys unique
	requests  atomic.Int64
	told      struct{ issued, held, confirmed, cancelled, replayed atomic.Int64 } // what the service has acknowledged
}

func newSoakLoad(address, token string, perSecond int) *soakLoad {
	return &soakLoad{
		address: "http://" + address, token: token, pace: rate.NewLimiter(rate.Limit(perSecond), soakWorkers),
		transport: &http.Transport{MaxConnsPerHost: soakWorkers, MaxIdleConnsPerHost: soakWorkers},
	}
}

func soakOwner(n int) string { return "soak-" + strconv.Itoa(n) }

// credit gives every owner money.
func (l *soakLoad) credit(ctx context.Context) error {
	body := fmt.Sprintf(`{"issue_ref":"soak","source":"soak","expires_at":%q,"amount":{"amount":%d,"currency":%q}}`,
		nextYear().Format(time.RFC3339), soakMoney, currency)
	for n := range soakOwners {
		write := soakWrite{"/v1/owners/" + soakOwner(n) + "/lots", "credit", body}
		if _, err := l.write(ctx, write, http.StatusCreated); err != nil {
			return err
		}
	}
	return nil
}

// run plays scenes until the time is over. Scenes that have begun are played to their end.
func (l *soakLoad) run(ctx context.Context, end time.Time) error {
	group, ctx := errgroup.WithContext(ctx)
	for range soakWorkers {
		group.Go(func() error {
			for time.Now().Before(end) {
				if err := l.scene(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// scene is one checkout: a coupon is issued and held together with money, and the hold is confirmed, cancelled, or left to
// expire. In between come repetitions of what was sent, reads, and requests that must be refused.
func (l *soakLoad) scene(ctx context.Context) error {
	s := &soakScene{soakLoad: l, owner: soakOwner(rand.IntN(soakOwners)), number: strconv.FormatInt(l.serial.Add(1), 10)}
	if err := s.issue(ctx); err != nil {
		return err
	}
	ending := rand.IntN(10)
	ttl := time.Minute
	if ending >= 7 {
		ttl = time.Second + time.Duration(rand.IntN(2000))*time.Millisecond
	}
	if err := s.hold(ctx, ttl); err != nil {
		return err
	}
	switch {
	case ending < 5:
		return s.confirm(ctx)
	case ending < 7:
		return s.cancel(ctx)
	default:
		return s.read(ctx)
	}
}

type soakScene struct {
	*soakLoad
	owner        string
	number       string
	coupon, held string // ids
}

// soakWrite is a request that can be sent again.
type soakWrite struct{ path, key, body string }

func (s *soakScene) issue(ctx context.Context) error {
	body := fmt.Sprintf(`{"owner":%q,"issue_ref":%q,"expires_at":%q,"discount":{"kind":"FIXED","amount":{"amount":500,"currency":%q}}}`,
		s.owner, s.number, nextYear().Format(time.RFC3339), currency)
	reply, err := s.writeTwice(ctx, soakWrite{"/v1/campaigns/soak/issues", "i-" + s.number, body}, http.StatusCreated)
	if err != nil {
		return err
	}
	s.told.issued.Add(1)
	s.coupon, err = member(reply, "coupon_id")
	return err
}

func (s *soakScene) holdBody(order string, ttl time.Duration) string {
	return fmt.Sprintf(`{"owner":%q,"order_id":%q,"ttl_ms":%d,"lines":[{"line_id":"line-1","amount":{"amount":10000,"currency":%q}}],`+
		`"items":[{"kind":"coupon","coupon_id":%q},{"kind":"money","amount":{"amount":%d,"currency":%q}}]}`,
		s.owner, order, ttl.Milliseconds(), currency, s.coupon, pairMoney, currency)
}

// hold also tries, now and then, to hold the same coupon for a second order.
func (s *soakScene) hold(ctx context.Context, ttl time.Duration) error {
	write := soakWrite{"/v1/holds", "h-" + s.number, s.holdBody("order-"+s.number, ttl)}
	reply, err := s.writeTwice(ctx, write, http.StatusCreated)
	if err != nil {
		return err
	}
	s.told.held.Add(1)
	if s.held, err = member(reply, "hold_id"); err != nil || ttl < time.Minute || rand.IntN(10) > 0 {
		return err
	}
	_, err = s.write(ctx, soakWrite{"/v1/holds", "r-" + s.number, s.holdBody("rival-"+s.number, ttl)}, http.StatusConflict)
	return err
}

func (s *soakScene) confirm(ctx context.Context) error {
	_, err := s.writeTwice(ctx, s.decision("confirm"), http.StatusOK)
	if err == nil {
		s.told.confirmed.Add(1)
	}
	return err
}

// cancel also tries to confirm what is cancelled.
func (s *soakScene) cancel(ctx context.Context) error {
	if _, err := s.writeTwice(ctx, s.decision("cancel"), http.StatusOK); err != nil {
		return err
	}
	s.told.cancelled.Add(1)
	_, err := s.writeTwice(ctx, s.decision("confirm"), http.StatusConflict)
	return err
}

func (s *soakScene) decision(verb string) soakWrite {
	return soakWrite{"/v1/holds/" + s.held + "/" + verb, verb + "-" + s.number, fmt.Sprintf(`{"owner":%q}`, s.owner)}
}

func (s *soakScene) read(ctx context.Context) error {
	paths := []string{
		"/v1/holds/" + s.held, "/v1/coupons/" + s.coupon, "/v1/owners/" + s.owner, "/v1/holds?owner=" + s.owner,
		"/v1/owners/" + s.owner + "/operations/h-" + s.number, "/v1/owners/" + s.owner + "/entries?limit=20",
	}
	for _, path := range paths {
		if err := s.get(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

// writeTwice sends now and then the same again, which must be answered with the same bytes.
func (s *soakScene) writeTwice(ctx context.Context, w soakWrite, status int) ([]byte, error) {
	first, err := s.write(ctx, w, status)
	if err != nil || rand.IntN(10) > 0 {
		return first, err
	}
	again, err := s.write(ctx, w, status)
	if err != nil {
		return nil, err
	}
	if status < http.StatusBadRequest && !bytes.Equal(first, again) { // a refusal names its request
		return nil, fmt.Errorf("%w: %s %s was answered with %s, and then with %s", errReply, w.path, w.key, first, again)
	}
	s.told.replayed.Add(1)
	return first, nil
}

func (l *soakLoad) write(ctx context.Context, w soakWrite, status int) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.address+w.path, strings.NewReader(w.body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", w.key)
	return l.send(request, status)
}

func (l *soakLoad) get(ctx context.Context, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.address+path, nil)
	if err != nil {
		return err
	}
	_, err = l.send(request, http.StatusOK)
	return err
}

func (l *soakLoad) send(request *http.Request, status int) ([]byte, error) {
	if err := l.pace.Wait(request.Context()); err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+l.token)
	request.Header.Set("Deadline-Ms", requestDeadline)
	reply, err := l.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		return nil, err
	}
	l.requests.Add(1)
	if reply.StatusCode != status {
		return nil, fmt.Errorf("%w: %s %s: status %d, want %d: %s", errReply, request.Method, request.URL.Path, reply.StatusCode, status, text)
	}
	return text, nil
}
