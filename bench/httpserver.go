package bench

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/register"
)

const (
	readyPatience = 30 * time.Second
	stopPatience  = 45 * time.Second // the service's own limit
	logTail       = 2 << 10
)

// child is a server that was started from our own executable.
type child struct {
	name    string
	port    *scratch.Port
	process *scratch.Process
	log     string // file
}

// startChild runs the program with these arguments, to which it adds nothing, and waits until it takes connections at
// address. input is its standard input.
func startChild(ctx context.Context, program, folder, name string, args func(address string) []string, input any) (c *child, err error) {
	c = &child{name: name, log: filepath.Join(folder, name+".log")}
	if c.port, err = scratch.NewPort(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start %s: %w\n%s", name, err, c.tail()), c.stop())
			c = nil
		}
	}()
	log, err := os.Create(c.log)
	if err != nil {
		return c, err
	}
	defer log.Close()
	command := exec.Command(program, args(c.address())...) //nolint:noctx // it outlives the context of its start
	command.Stdout, command.Stderr = log, log
	if input != nil {
		text, err := json.Marshal(input)
		if err != nil {
			return c, err
		}
		command.Stdin = strings.NewReader(string(text))
	}
	if c.process, err = scratch.StartProcess(command); err != nil {
		return c, err
	}
	return c, c.awaitListening(ctx)
}

func (c *child) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port.Number)) }

// awaitListening waits until the server takes connections. The service listens last of all, so it is ready then.
func (c *child) awaitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	for {
		if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address()); err == nil {
			return conn.Close()
		}
		select {
		case <-c.process.Done():
			return fmt.Errorf("it has ended: %w", c.process.Err())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of the server's log, for the message that says why it failed.
func (c *child) tail() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTail):])
}

// stop ends the server and gives its port back.
func (c *child) stop() error {
	if c == nil {
		return nil
	}
	var err error
	if c.process != nil {
		err = c.process.Stop(stopPatience)
		if ended := c.process.Err(); err == nil && ended != nil {
			err = fmt.Errorf("%s ended with: %w\n%s", c.name, ended, c.tail())
		}
	}
	return errors.Join(err, c.port.Close())
}

// cluster is two shards and a register, without an instance.
type cluster struct {
	folder string
	shards []instance.Shard
}

// newMariaCluster makes the shards as two schemas of one server.
func newMariaCluster(ctx context.Context, folder string, server *mariadb.Server) (*cluster, error) {
	c := &cluster{folder: folder}
	for _, name := range []string{"s1", "s2"} {
		if _, err := server.Admin().ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
			return nil, fmt.Errorf("make the schema of %s: %w", name, err)
		}
		c.shards = append(c.shards, instance.Shard{Name: name, DSN: server.DSN(name), Feed: server.AdminDSN(name)})
	}
	return c, c.bootstrap(ctx)
}

// newEmbeddedCluster makes what `dev --data folder` will find.
func newEmbeddedCluster(ctx context.Context, folder string) (*cluster, error) {
	c := &cluster{folder: folder}
	for _, name := range []string{"s1", "s2"} {
		c.shards = append(c.shards, instance.Shard{Name: name, File: filepath.Join(folder, name+".db")})
	}
	return c, c.bootstrap(ctx)
}

func (c *cluster) registerPath() string { return filepath.Join(c.folder, "register") }

func (c *cluster) bootstrap(ctx context.Context) error {
	if err := os.MkdirAll(c.folder, 0o700); err != nil {
		return err
	}
	return c.withRegister(func(reg register.Register) error {
		return instance.Bootstrap(ctx, reg, c.shards, time.Now, func(string) {})
	})
}

func (c *cluster) withRegister(f func(register.Register) error) error {
	reg, err := register.OpenFile(c.registerPath())
	if err != nil {
		return err
	}
	return errors.Join(f(reg), reg.Close())
}

// benchRate is far more than one machine can ask: limits of the rate are not what is measured.
const benchRate = 1_000_000

// createKey makes a key that may do everything but administer.
func createKey(ctx context.Context, keys *access.Keys) (token string, err error) {
	_, token, err = keys.Create(ctx, access.Spec{
		Name: "bench", Scopes: access.ScopeRead | access.ScopeHold | access.ScopeIssue | access.ScopeState,
		Rate: access.Rate{PerSecond: benchRate, Burst: benchRate},
	})
	return token, err
}

// firstKey makes a key while no instance runs.
func (c *cluster) firstKey(ctx context.Context) (token string, err error) {
	err = c.withRegister(func(reg register.Register) error {
		keys, err := access.Open(ctx, reg, time.Now, rand.Reader)
		if err != nil {
			return err
		}
		defer keys.Close()
		token, err = createKey(ctx, keys)
		return err
	})
	return token, err
}

// writeConfig writes the file that `statesvc serve --config` reads.
func (c *cluster) writeConfig() (path string, err error) { return c.writeConfigOf("bench", "") }

// writeConfigOf writes that of the instance with a name. more are further lines of it.
func (c *cluster) writeConfigOf(name, more string) (path string, err error) {
	var text strings.Builder
	fmt.Fprintf(&text, "instance: %s\nregister: %q\ndrain_delay: 0s\nlog_level: warn\n%sshards:\n", name, c.registerPath(), more)
	for _, s := range c.shards {
		fmt.Fprintf(&text, "  - {name: %q, dsn: %q, feed: %q}\n", s.Name, s.DSN, s.Feed)
	}
	path = filepath.Join(c.folder, name+".yaml")
	return path, os.WriteFile(path, []byte(text.String()), 0o600)
}

// get reads a document that needs no key.
func get(ctx context.Context, address string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d: %s", address, reply.StatusCode, text)
	}
	return string(text), err
}
