package system_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/netfault"
	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/internal/testdb"
)

const (
	shards  = 2
	logTail = 8000 // bytes of a log that a failed test shows
)

// settings of a cluster. The zero value is one `serve` on SQLite without a sweeper.
type settings struct {
	mariadb   bool
	private   bool // the MariaDB server is for this test alone and may be killed
	instances int
	proxied   int  // so many instances reach each shard through a proxy of their own
	plain     bool // without the race detector: a start takes less, and the test starts often
	dev       bool // `statesvc dev`, which is always SQLite and alone
	sweep     time.Duration
	redis     string // host:port
	folder    string // of the data; empty: one of the test's own
}

// cluster is the service with its data.
type cluster struct {
	settings
	server    *testdb.Server
	schemas   []string
	token     string
	transport http.RoundTripper // of callers
	instances []*instance
}

// instance is one process of the service. It keeps name and address over restarts.
type instance struct {
	*program
	cluster *cluster
	name    string
	port    *scratch.Port
	args    []string
	proxies []*netfault.Proxy // to the shards
}

// engines runs a test on both databases: with two instances where the database allows it.
func engines(t *testing.T, f func(t *testing.T, c *cluster)) {
	t.Run("mariadb", func(t *testing.T) { f(t, newCluster(t, settings{mariadb: true, instances: 2})) })
	t.Run("sqlite", func(t *testing.T) { f(t, newCluster(t, settings{})) })
}

// newCluster makes a cluster and starts it.
func newCluster(t *testing.T, s settings) *cluster {
	t.Helper()
	s.instances = max(s.instances, 1)
	if s.folder == "" {
		s.folder = t.TempDir()
	}
	c := &cluster{settings: s, transport: watch(t)}
	if s.mariadb {
		c.takeServer(t)
	}
	for i := range s.instances {
		c.instances = append(c.instances, c.newInstance(t, i))
	}
	if !s.dev {
		config := c.writeConfig(t, "bootstrap", c.dsns(nil))
		run(t, "migrate", "up", "--config", config)
		output := run(t, "keys", "create", "--register", c.register(), "--name", "test", "--scopes", "read,hold,issue,admin",
			"--rate", "1000000", "--burst", "1000000")
		c.token = lastLine(output)
	}
	for _, in := range c.instances {
		in.start(t)
	}
	for _, in := range c.instances {
		in.ready(t)
	}
	if s.dev {
		text, err := os.ReadFile(filepath.Join(s.folder, "demo-key"))
		if err != nil {
			t.Fatal(err)
		}
		c.token = lastLine(string(text))
	}
	return c
}

func (c *cluster) takeServer(t *testing.T) {
	t.Helper()
	c.server = testdb.MariaDB(t)
	if c.private {
		c.server = testdb.Start(t, mariadb.Options{})
	}
	for range shards {
		c.schemas = append(c.schemas, c.server.Schema(t))
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func (c *cluster) register() string { return filepath.Join(c.folder, "register") }

func (c *cluster) newInstance(t *testing.T, i int) *instance {
	t.Helper()
	port, err := scratch.NewPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = port.Close() })
	in := &instance{cluster: c, name: fmt.Sprint("i", i+1), port: port}
	if i < c.proxied {
		for range shards {
			in.proxies = append(in.proxies, netfault.New(t, c.server.Addr()))
		}
	}
	if c.dev {
		in.args = []string{"dev", "--data", c.folder, "--listen", port.Addr(), "--quiet"}
		return in
	}
	config := c.writeConfig(t, in.name, c.dsns(in.proxies))
	in.args = []string{"serve", "--config", config, "--instance", in.name, "--listen", port.Addr()}
	return in
}

// dsns says where the shards are, through the proxies if there are any.
func (c *cluster) dsns(proxies []*netfault.Proxy) (lines []string) {
	for i := range shards {
		place := "file: " + filepath.Join(c.folder, fmt.Sprintf("s%d.db", i+1))
		switch {
		case proxies != nil:
			place = "dsn: app@tcp(" + proxies[i].Addr() + ")/" + c.schemas[i]
		case c.mariadb:
			place = "dsn: " + c.server.DSN(c.schemas[i])
		}
		lines = append(lines, fmt.Sprintf("  - {name: s%d, %s}", i+1, place))
	}
	return lines
}

func (c *cluster) writeConfig(t *testing.T, name string, shards []string) string {
	t.Helper()
	path := filepath.Join(c.folder, name+".yaml")
	text := fmt.Sprintf("register: %s\nsweep_every: %s\nredis: %q\ndrain_delay: 0s\nlog_level: warn\nshards:\n%s\n",
		c.register(), c.sweep, c.redis, strings.Join(shards, "\n"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// start starts the instance; env may arm a fail point.
func (in *instance) start(t *testing.T, env ...string) {
	t.Helper()
	binary := plain
	if in.cluster.mariadb && !in.cluster.plain {
		binary = racing
	}
	in.program = launch(t, binary, env, in.args...)
	p := in.program
	t.Cleanup(func() {
		_ = p.Kill()
		p.confess(t)
		if t.Failed() && testing.Verbose() {
			text := p.log.String()
			t.Logf("end of the log of %s:\n%s", in.name, text[max(0, len(text)-logTail):])
		}
	})
}

// ready waits until the instance can serve.
func (in *instance) ready(t *testing.T) {
	t.Helper()
	if !in.readyOrEnded(t) {
		t.Fatalf("%s ended while starting: %v\n%s", in.name, in.Err(), in.log)
	}
}

// readyOrEnded waits until the instance can serve, and reports whether it lives to.
func (in *instance) readyOrEnded(t *testing.T) (ready bool) {
	t.Helper()
	waitFor(t, in.name+" to get ready", readyPatience, func() bool {
		if !in.Alive() {
			return true
		}
		response, err := http.Get("http://" + in.port.Addr() + "/readyz")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		ready = response.StatusCode == http.StatusOK
		return ready
	})
	return ready
}

// restart kills what is left of the instance and starts it again.
func (in *instance) restart(t *testing.T) {
	t.Helper()
	if err := in.Kill(); err != nil {
		t.Fatal(err)
	}
	in.start(t)
	in.ready(t)
}

// arm is restart with a fail point: the n-th batch that passes it is the last. It reports whether the instance got ready before that,
// because work that waited for it comes at once.
func (in *instance) arm(t *testing.T, point string, n int) (ready bool) {
	t.Helper()
	if err := in.Kill(); err != nil {
		t.Fatal(err)
	}
	in.start(t, fmt.Sprintf("FAILPOINT=%s:%d", point, n))
	return in.readyOrEnded(t)
}
