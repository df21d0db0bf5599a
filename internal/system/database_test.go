package system_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/netfault"
)

// goesOn waits until callers hear that more calls were done.
func (l *load) goesOn(t *testing.T, more int) {
	t.Helper()
	before := l.count("")
	waitFor(t, "calls to be done", settledPatience, func() bool { return l.count("") >= before+more })
}

// The database is killed and started again while callers work through two instances.
func TestDatabaseKilledUnderLoad(t *testing.T) {
	c := newCluster(t, settings{mariadb: true, private: true, instances: 2})
	l := startLoad(c, 8)
	for range 3 {
		l.goesOn(t, 50)
		c.server.Kill(t)
		failed := l.count("failover-in-progress") + l.count("outcome-unknown")
		waitFor(t, "callers to notice", settledPatience, func() bool {
			return l.count("failover-in-progress")+l.count("outcome-unknown") > failed
		})
		c.server.Restart(t)
	}
	l.goesOn(t, 50)
	c.audit(t, l.stop(t))
}

// The network between one of two instances and the database is cut at instants that only chance knows: connections end after
// some bytes, in either direction, or fall silent. Outcomes become undecided; meanwhile their owners are blocked, on both
// instances; then every one of them is decided.
func TestConnectionsCutUnderLoad(t *testing.T) {
	c := newCluster(t, settings{mariadb: true, instances: 2, proxied: 1})
	dice := rand.New(rand.NewPCG(1, 2))
	l := startLoad(c, 8)
	l.goesOn(t, 50)
	for range 60 {
		cut(dice, c.instances[0].proxies[dice.IntN(shards)], 30*time.Millisecond)
	}
	c.silence(t, l)
	l.goesOn(t, 50)
	c.audit(t, l.stop(t))
	for _, code := range []string{"blocked", "outcome-unknown"} {
		if l.count(code) == 0 {
			t.Errorf("no caller heard %s", code)
		}
	}
}

// cut makes one fault of random kind and length.
func cut(dice *rand.Rand, p *netfault.Proxy, longest time.Duration) {
	direction := []netfault.Direction{netfault.ToServer, netfault.ToClient}[dice.IntN(2)]
	switch dice.IntN(5) {
	case 0:
		p.Reset(direction)
	case 1:
		p.Swallow(direction)
	default: // a batch has about 3000 bytes either way; its end is where outcomes become undecided
		p.CutAfter(direction, dice.IntN(4000))
	}
	time.Sleep(time.Duration(dice.Int64N(int64(longest))))
	p.Heal()
	time.Sleep(time.Duration(dice.Int64N(int64(longest))))
}

// silence lets nothing through to the shards, until there are undecided outcomes and callers of the other instance have met the
// blocks of their owners. Only a batch that has just sent its COMMIT is undecided, and whether one has is chance: so it is done
// again and again.
func (c *cluster) silence(t *testing.T, l *load) {
	t.Helper()
	const attempts = 20
	for range attempts {
		if c.silenced(t, l) {
			t.Logf("%v undecided operations", c.instances[0].metric(t, "statesvc_undecided_operations_total"))
			return
		}
		l.goesOn(t, 20)
	}
	t.Fatalf("%d silences and no undecided outcome with a blocked owner", attempts)
}

// silenced is one silence, longer than the driver waits for an answer.
func (c *cluster) silenced(t *testing.T, l *load) bool {
	t.Helper()
	const longest = 6 * time.Second
	undecided, blocked := c.instances[0].metric(t, "statesvc_undecided_operations_total"), l.count("blocked")
	for _, p := range c.instances[0].proxies {
		p.Swallow(netfault.ToServer)
	}
	met := func() bool {
		return c.instances[0].metric(t, "statesvc_undecided_operations_total") > undecided && l.count("blocked") > blocked
	}
	for deadline := time.Now().Add(longest); !met() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	for _, p := range c.instances[0].proxies {
		p.Heal()
	}
	return met()
}

// metric sums up what /metrics shows under a name.
func (in *instance) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	r := in.send(newRequest(http.MethodGet, "/metrics", "", nil))
	if r.err != nil || r.status != http.StatusOK {
		t.Fatalf("metrics: %v", r)
	}
	for lines := bufio.NewScanner(strings.NewReader(string(r.body))); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			t.Fatal(fmt.Errorf("metric %s: %w", name, err))
		}
		sum += value
	}
	return sum
}
