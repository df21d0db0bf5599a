package system_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/client"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/shard"
)

// outage is a way to make all shards of a cluster silent, and to end that.
type outage struct{ begin, end func() }

// outages runs a case on both databases, with shards that can fall silent.
func outages(t *testing.T, f func(t *testing.T, c *cluster, o outage)) {
	t.Run("mariadb", func(t *testing.T) {
		c := newCluster(t, settings{mariadb: true, private: true, instances: 2})
		f(t, c, outage{func() { c.server.Pause(t) }, func() { c.server.Resume(t) }})
	})
	t.Run("sqlite", func(t *testing.T) {
		c := newCluster(t, settings{})
		f(t, c, c.lockFiles(t))
	})
}

// lockFiles takes the place of the only writer that a file may have.
func (c *cluster) lockFiles(t *testing.T) outage {
	var conns []*sql.Conn
	each := func(statement string) {
		for _, conn := range conns {
			if _, err := conn.ExecContext(context.WithoutCancel(t.Context()), statement); err != nil {
				t.Error(err)
			}
		}
	}
	for i := range shards {
		db, err := shard.OpenSQLite(filepath.Join(c.folder, fmt.Sprintf("s%d.db", i+1)), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		conn, err := db.SQL().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	return outage{func() { each("BEGIN IMMEDIATE") }, func() { each("ROLLBACK") }}
}

// wantInTime checks that a call ended by its deadline, and says what may have happened.
func (p person) wantInTime(began time.Time, r request, answer reply) {
	p.t.Helper()
	if took := time.Since(began); took > r.deadline+time.Second {
		p.t.Errorf("a call with a deadline of %v took %v", r.deadline, took)
	}
	want := "none"
	if answer.code() == "outcome-unknown" {
		want = "unknown"
	}
	if d := answer.problem(); answer.status < 500 || !d.Retryable || d.Outcome != want || answer.header.Get("Retry-After") == "" {
		p.t.Errorf("%v %v", answer, answer.header)
	}
}

// What ended without an effect, or without an answer, is sent again under its key, and happens once.
func TestC21RetriedAfterAnOutage(t *testing.T) {
	t.Parallel()
	outages(t, func(t *testing.T, c *cluster, o outage) {
		p := c.person(t)
		p.credit(100)
		var requests []request
		for range 8 {
			r := newRequest(http.MethodPost, "/v1/holds", p.ref(), p.asks(time.Hour, money(10)))
			r.deadline = 300 * time.Millisecond
			requests = append(requests, r)
		}
		o.begin()
		codes := map[string]int{}
		for i, r := range requests {
			began := time.Now()
			answer := c.instances[i%len(c.instances)].send(r)
			codes[answer.code()]++
			p.wantInTime(began, r, answer)
		}
		t.Log(codes)
		o.end()
		for _, r := range requests {
			p.wantCode(p.settled(t, r), "")
			p.wantCode(p.settled(t, r), "")
		}
		p.wantMoney(20, 80)
		c.nothingUndecided(t)
	})
}

// The Go client meets refusals of the service: it hears a terminal one once, and sends a retryable one again until the cause has gone.
func TestC09ClientMeetsRefusals(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		asset := p.coupon(20)
		requests := &counter{next: c.transport}
		caller, err := client.New(client.Options{
			BaseURL: "http://" + c.instances[0].port.Addr(), Token: c.token, HTTP: &http.Client{Transport: requests},
		})
		if err != nil {
			t.Fatal(err)
		}
		greedy := client.HoldRequest{Owner: p.name, OrderID: p.ref(), Items: []client.HoldItemRequest{
			{Kind: client.MoneyItem, Amount: client.Money{Amount: 101, Currency: "CNY"}},
		}}
		if _, err := caller.Hold(t.Context(), p.ref(), greedy); !errors.Is(err, client.ErrInsufficient) || requests.n.Load() != 1 {
			t.Errorf("%v after %d requests", err, requests.n.Load())
		}
		want := client.HoldRequest{
			Owner: p.name, OrderID: p.ref(), Items: []client.HoldItemRequest{{Kind: client.CouponItem, CouponID: asset.CouponID}},
			Lines: []client.LineRequest{{LineID: "l", Amount: client.Money{Amount: 100, Currency: "CNY"}}},
		}
		other := p.hold(3*time.Second, coupon(asset.CouponID))
		short, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if _, err := caller.Hold(short, p.ref(), want); !errors.Is(err, client.ErrHeldByOther) || requests.n.Load() != 2 {
			t.Errorf("with too short a deadline: %v after %d requests", err, requests.n.Load())
		}
		if reply, err := caller.Hold(t.Context(), p.ref(), want); err != nil || reply.Hold.CreatedAt.Before(other.ExpiresAt) {
			t.Errorf("until the other hold has ended: %v, %+v", err, reply)
		}
	})
}

// counter counts the requests of a caller.
type counter struct {
	next http.RoundTripper
	n    atomic.Int64
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.next.RoundTrip(r)
}

// The Go client sends a long series, and the service is overloaded in the middle of it. Everything is done, once.
func TestC49SeriesThroughAnOutage(t *testing.T) {
	t.Parallel()
	outages(t, func(t *testing.T, c *cluster, o outage) {
		const series = 60
		p := c.person(t)
		caller, err := client.New(client.Options{
			BaseURL: "http://" + c.instances[0].port.Addr(), Token: c.token, Attempt: 300 * time.Millisecond,
			HTTP: &http.Client{Transport: c.transport},
		})
		if err != nil {
			t.Fatal(err)
		}
		end, err := time.Parse(time.RFC3339, lifetime)
		if err != nil {
			t.Fatal(err)
		}
		for i := range series {
			if i == series/2 {
				o.begin()
				time.AfterFunc(1200*time.Millisecond, o.end)
			}
			_, err := caller.CreditLot(t.Context(), fmt.Sprint("series-", i), p.name, client.CreditRequest{
				IssueRef: fmt.Sprint("series-", i), Source: "spring", Amount: client.Money{Amount: 1, Currency: "CNY"}, ExpiresAt: end,
			})
			if err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
		}
		p.wantMoney(series, 0)
		p.wantEntries("CREDITED", series)
	})
}

// A shard does not answer. The caller hears in time; later the operations endpoint says what happened, and a sealed key never
// runs.
func TestC50SilentShard(t *testing.T) {
	t.Parallel()
	outages(t, func(t *testing.T, c *cluster, o outage) {
		p := c.person(t)
		p.credit(100)
		r := newRequest(http.MethodPost, "/v1/holds", p.ref(), p.asks(time.Hour, money(10)))
		r.deadline = 500 * time.Millisecond
		o.begin()
		began := time.Now()
		p.wantInTime(began, r, c.instances[0].send(r))
		o.end()

		var operation struct{ Status string }
		sealed := p.settled(t, newRequest(http.MethodPost, "/v1/owners/"+p.name+"/operations/"+r.key+"/seal", "", nil))
		sealed.decode(t, &operation)
		t.Logf("sealed as %s", operation.Status)
		switch operation.Status {
		case "SEALED":
			p.wantCode(p.settled(t, r), "key-reused")
			p.wantMoney(100, 0)
		case "DONE":
			p.wantCode(p.settled(t, r), "")
			p.wantMoney(90, 10)
		default:
			t.Errorf("%v", sealed)
		}
		var again struct{ Status string }
		if c.get(t, &again, "/v1/owners/%s/operations/%s", p.name, r.key); again != operation {
			t.Errorf("sealed as %s, read as %s", operation.Status, again.Status)
		}
		c.nothingUndecided(t)
	})
}

// Filters and cursors with SQL, control characters and a megabyte in them are refused or are plain data.
func TestC51HostileParameters(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, c *cluster) {
		p := c.person(t)
		p.credit(100)
		h := p.hold(time.Hour, money(10))
		parameters := map[string][]string{
			"/v1/owners/" + p.name + "/coupons": {"state", "campaign_id", "limit", "cursor"},
			"/v1/owners/" + p.name + "/lots":    {"state", "currency", "limit", "cursor"},
			"/v1/owners/" + p.name + "/entries": {"from", "to", "hold_id", "limit", "cursor"},
			"/v1/holds":                         {"owner", "order_id"},
			"/v1/admin/blocks":                  {"grain", "id", "holder"},
			"/v1/admin/blocks/audit":            {"limit", "cursor"},
		}
		hostile := []string{
			"' OR 1=1 --", `"; DROP TABLE lots; --`, `\`, "\x00", "a\r\nX: y", "%", "_", "\u202e", strings.Repeat("x", 1<<20), "-1", "1e9", "[]",
		}
		for path, names := range parameters {
			for _, name := range names {
				for _, value := range hostile {
					r := newRequest(http.MethodGet, path+"?"+name+"="+url.QueryEscape(value), "", nil)
					r.malformed = true
					answer := c.instances[0].send(r)
					switch answer.status {
					case http.StatusOK, http.StatusRequestHeaderFieldsTooLarge:
					case http.StatusBadRequest:
						p.wantCode(answer, "invalid-request")
					case http.StatusNotFound: // of an id: what cannot be an id names nothing
						p.wantCode(answer, "not-found")
					default:
						t.Errorf("%s?%s=%.40q: %v", path, name, value, answer)
					}
				}
			}
		}
		for _, value := range hostile[:8] {
			r := newRequest(http.MethodGet, "/v1/owners/"+url.PathEscape(value), "", nil)
			r.malformed = true
			answer := c.instances[0].send(r)
			if answer.status >= http.StatusInternalServerError || answer.err != nil {
				t.Errorf("owner %q: %v", value, answer)
			}
		}
		p.wantMoney(90, 10)
		if state := p.state(h.HoldID); state != "HELD" {
			t.Errorf("the hold is %s", state)
		}
	})
}

// missing is what /readyz says is missing.
func (in *instance) missing(t *testing.T) string {
	t.Helper()
	r := in.send(newRequest(http.MethodGet, "/readyz?verbose", "", nil))
	if r.err != nil || r.status == http.StatusOK {
		return ""
	}
	return string(r.body)
}

// The database is away when the service starts: it lives, is not ready and says why, and gets ready by itself.
func TestC52DatabaseMissing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mariadb: true, private: true})
	p := c.person(t)
	p.credit(100)
	in := c.instances[0]
	if err := in.Kill(); err != nil {
		t.Fatal(err)
	}
	c.server.Kill(t)
	in.start(t)
	waitFor(t, "the service to live", readyPatience, func() bool {
		return in.send(newRequest(http.MethodGet, "/livez", "", nil)).status == http.StatusOK
	})
	if missing := in.missing(t); !strings.Contains(missing, "shard 1") || !strings.Contains(missing, "shard 2") {
		t.Errorf("not ready because of %q; it should name both shards", missing)
	}
	p.wantCode(in.send(newRequest(http.MethodPost, "/v1/holds", p.ref(), p.asks(time.Hour, money(10)))), "failover-in-progress")
	c.server.Restart(t)
	in.ready(t)
	p.hold(time.Hour, money(10))
}

// Without a register, or with one that holds no cluster, the service does not start, and says so.
func TestC52RegisterMissing(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	config := filepath.Join(folder, "config.yaml")
	blocked := filepath.Join(folder, "file")
	for _, path := range []string{config, blocked} {
		if err := os.WriteFile(path, []byte("shards: [{name: s1, file: "+filepath.Join(folder, "s1.db")+"}]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for register, want := range map[string]string{
		filepath.Join(blocked, "register"): "register",
		filepath.Join(folder, "empty"):     "migrate up",
	} {
		p := launch(t, plain, nil, "serve", "--config", config, "--register", register, "--listen", "127.0.0.1:0")
		p.ended(t)
		if text := p.log.String(); p.Err() == nil || !strings.Contains(text, want) {
			t.Errorf("with register %s it ended with %v and said %q, not %q", register, p.Err(), text, want)
		}
	}
}

// Redis is away at first, comes, and is lost again. It holds nothing that counts: holds and confirms go on, and holds expire.
func TestC52RedisLost(t *testing.T) {
	t.Parallel()
	redis := testdb.Redis(t)
	redis.Kill(t)
	c := newCluster(t, settings{mariadb: true, instances: 2, sweep: 100 * time.Millisecond, redis: redis.Addr()})
	p := c.person(t)
	p.credit(100)
	checkout := func() {
		t.Helper()
		h := p.hold(time.Hour, money(10))
		p.wantCode(p.decide(confirm, h.HoldID), "")
	}
	checkout()
	redis.Restart(t)
	checkout()
	abandoned := p.hold(time.Second, money(10))
	redis.Kill(t)
	checkout()
	waitFor(t, "the hold to expire", settledPatience, func() bool { return p.state(abandoned.HoldID) == "EXPIRED" })
	p.wantMoney(70, 0)
}
